// One device on the page: asks what runs there, keeps a card for each pipeline, listens to their events, and says what is wrong.

import { clean, list, object } from "./clean.js";
import { Card } from "./card.js";
import { el, field, fresh, say, show } from "./dom.js";
import { wait } from "./picture.js";
import { events } from "./stream.js";
import { t } from "./text.js";

// Between two looks at the pipelines, milliseconds: while somebody looks, and while the page is in the background.
const LOOK_MS = 2000;
const HIDDEN_MS = 5000;
// Between two sentences about what is on the pictures.
const SEE_MS = 1000;
// Between two looks at least, however often a device says that something has happened.
const LEAST_MS = 500;
// The longest pause after answers that did not come.
const LONGEST_MS = 10_000;
// The longest that browsers wait: until somebody does something.
const NEVER_MS = 2 ** 31 - 1;
// Between two looks at the models that pipelines asked for.
const OUTLINE_MS = 10_000;
// Pipelines of one device that are shown.
const MOST_CARDS = 64;
// Pipelines that one stream of events takes: the service's limit.
const MOST_HEARD = 32;

export class House {
  constructor(device, { announce, several, changed }) {
    this.device = device;
    this.announce = announce;
    this.changed = changed;
    this.cards = new Map();
    this.outlines = new Map();
    this.outlined_at = -Infinity;
    this.failures = 0;
    this.is_gone = false;
    this.heading = el("h2", { id: fresh("device") });
    this.trouble = el("div", { class: "trouble", hidden: true });
    this.log_in = this.login();
    this.empty = el("p", { class: "empty", hidden: true }, `${t("no_pipelines")} `, el("a", { href: "#add" }, t("no_pipelines_add")));
    this.more = el("p", { class: "help", hidden: true });
    this.loading = el("p", { class: "help" }, t("loading"));
    this.grid = el("div", { class: "grid" });
    this.element = el("section", { "aria-labelledby": this.heading.id }, this.heading, this.trouble, this.log_in, this.loading, this.empty, this.grid, this.more);
    this.several(several);
    this.seeing = setInterval(() => this.see(), SEE_MS);
    this.run();
  }

  // The name of the device stands there only where there is another.
  several(are) {
    say(this.heading, this.device.is_self ? `${this.device.name} (${t("this_device")})` : this.device.name);
    this.heading.classList.toggle("unseen", !are);
  }

  login() {
    const input = el("input", { type: "password", autocomplete: "off", spellcheck: "false", maxlength: 500 });
    const form = el("form", { class: "login panel", hidden: true }, field(t("token"), t("token_help"), input), el("button", { type: "submit", class: "main" }, t("log_in")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.device.token = input.value.trim();
      input.value = "";
      this.changed();
      this.again();
    });
    return form;
  }

  // Looks now, not when the pause is over.
  again() {
    this.failures = 0;
    this.hurry?.abort();
  }

  async run() {
    while (!this.is_gone) {
      try {
        await this.look();
        this.failures = 0;
        this.tell();
      } catch (error) {
        this.failures += 1;
        this.tell(error);
      }
      this.counted?.();
      this.hurry = new AbortController();
      await wait(this.pause(), this.hurry.signal);
      if (!this.is_gone) await wait(LEAST_MS);
    }
  }

  // Until the next look. Who has no token, or a wrong one, asks no more until the person has given another: the device counts guesses.
  pause() {
    if (this.is_locked) return NEVER_MS;
    return Math.min(LONGEST_MS, (document.hidden ? HIDDEN_MS : LOOK_MS) * Math.max(1, this.failures));
  }

  async look() {
    const all = list((await this.device.json("list_pipelines")).pipelines, 1000).map((id) => clean(id, 64));
    const ids = all.slice(0, MOST_CARDS);
    for (const [id, card] of this.cards) {
      if (!ids.includes(id)) {
        card.gone();
        this.cards.delete(id);
      }
    }
    for (const id of ids) if (!this.cards.has(id)) this.make(id);
    show(this.loading, false);
    show(this.empty, ids.length === 0);
    show(this.more, all.length > ids.length);
    say(this.more, t("too_many", { count: ids.length }));
    this.listen(ids.slice(0, MOST_HEARD));
    if (ids.some((id) => !this.outlines.has(id)) && performance.now() - this.outlined_at > OUTLINE_MS) this.outline();
    for (const id of ids) {
      let report;
      try {
        report = (await this.device.json(`status/${encodeURIComponent(id)}`)).report;
      } catch (error) {
        // It ended between the two questions, or the device is gone: the next look tells.
        if (error.kind !== "answer") throw error;
        if (error.status === 404) continue;
      }
      this.cards.get(id)?.update(report, this.outlines.get(id));
    }
  }

  make(id) {
    const card = new Card(this.device, id, this.announce);
    card.changed = () => this.again();
    this.cards.set(id, card);
    this.grid.append(card.element);
  }

  // Which model each pipeline asked for: not in a report, and may take the device a while.
  async outline() {
    this.outlined_at = performance.now();
    try {
      const device = object((await this.device.json("device", { patience: 30_000 })).device);
      this.outlines = new Map(list(device.pipelines, 1000).map((one) => [clean(object(one).pipeline_id, 64), object(one)]));
    } catch {
      // An older weir has no such route.
    }
  }

  // What is on the pictures now, in words: they change faster than states do.
  see() {
    if (document.hidden) return;
    for (const card of this.cards.values()) card.look();
  }

  // One stream for the events of all pipelines.
  listen(ids) {
    const key = document.hidden ? "" : ids.join();
    if (key === this.heard) return;
    this.heard = key;
    this.ear?.abort();
    if (key) {
      this.ear = new AbortController();
      this.hear(ids, this.ear.signal);
    }
  }

  async hear(ids, signal) {
    const query = ids.map((id) => `pipeline=${encodeURIComponent(id)}`).join("&");
    while (!signal.aborted) {
      try {
        const response = await this.device.fetch(`events?${query}`, { signal });
        await events(response, (name, data) => {
          const card = this.cards.get(data.pipeline_id);
          if (!card) return;
          if (name === "detections") card.picture.detected(object(data.detections));
          else if (name === "update") this.again();
        });
      } catch (error) {
        // What is wrong, the next look finds out. A token that is not known shall not be shown twice.
        if (error.status === 401) this.again();
        if (error.status >= 400 && error.status < 500) return;
      }
      await wait(LOOK_MS, signal);
    }
  }

  // What is wrong with the device, and what to do; nothing when all is well.
  tell(error) {
    const wants_token = ["token", "wrong_token"].includes(error?.kind);
    this.is_locked = wants_token;
    show(this.log_in, wants_token);
    show(this.trouble, Boolean(error));
    if (!error) {
      this.told = undefined;
      return;
    }
    show(this.loading, false);
    if (this.told === error.message) return;
    this.told = error.message;
    const values = { origin: location.origin };
    const advice = { unreachable: "device_unreachable_advice", refuses: "device_refuses_advice", mixed: "device_mixed_advice" }[error.kind];
    this.trouble.replaceChildren(
      el("p", {}, el("strong", {}, error.message)),
      ...(advice ? [el("p", {}, t(advice, values))] : []),
      ...(wants_token ? [] : [el("button", { type: "button", onclick: () => this.again() }, t("retry"))]));
    this.announce(error.message);
    for (const card of this.cards.values()) card.update(undefined);
    if (wants_token) {
      for (const card of this.cards.values()) card.gone();
      this.cards.clear();
    }
    this.listen([]);
  }

  // Pipelines with pictures, with trouble, and in all.
  counts() {
    const levels = [...this.cards.values()].map((card) => card.level);
    return { all: levels.length, running: levels.filter((level) => level === "good").length, troubled: levels.filter((level) => level === "bad").length };
  }

  // The page came to the front, or went to the back.
  turn() {
    for (const card of this.cards.values()) card.picture.turn();
    if (document.hidden) this.listen([]);
    else this.again();
  }

  gone() {
    this.is_gone = true;
    clearInterval(this.seeing);
    this.hurry?.abort();
    this.ear?.abort();
    for (const card of this.cards.values()) card.gone();
    this.element.remove();
  }
}
