// One pipeline: its picture, its state in words, its figures, what happened, and what can be done.

import { Chart } from "./chart.js";
import { clean, list, number, object } from "./clean.js";
import { bdi, el, fresh, say, show } from "./dom.js";
import { Picture } from "./picture.js";
import { judge, read, sentence, source_name } from "./state.js";
import { knows, t } from "./text.js";

// Events that are shown, newest first.
const MOST_EVENTS = 50;
// Steps of a history at most: ten minutes in steps of two seconds.
const MOST_STEPS = 300;
// From the word that a pipeline shall end until it is told so, seconds: for who pressed the wrong button.
const UNDO_S = 5;

const rate = (value) => (Number.isNaN(value) ? "–" : value.toFixed(1));
const delay = (value) => (Number.isNaN(value) ? "–" : t("latency_unit", { value: value < 0.01 ? (value * 1000).toFixed(1) : Math.round(value * 1000) }));

export class Card {
  constructor(device, id, announce) {
    this.device = device;
    this.id = id;
    this.announce = announce;
    this.silent = 0;
    this.report = undefined;
    this.outline = undefined;
    this.level = undefined;
    this.ending = undefined;
    this.picture = new Picture(device, id);
    this.fps = new Chart(t("fps"), rate);
    this.latency = new Chart(t("latency"), delay);
    this.build();
  }

  // What a person calls it.
  get name() {
    return source_name(this.report?.sources[0]) || clean(this.id, 8);
  }

  build() {
    const heading = fresh("pipeline");
    this.title = el("h3", { id: heading });
    this.model = el("p", { class: "model" });
    this.badge = el("span", { class: "badge" });
    this.words = el("p", { class: "words" });
    this.reason = el("p", { class: "reason", hidden: true });
    this.advice = el("p", { class: "advice", hidden: true });
    this.seen = el("p", { class: "seen" });
    this.fps_now = el("output", { class: "figure" });
    this.latency_now = el("output", { class: "figure" });
    this.choice = el("select", { hidden: true, onchange: () => this.picture.choose(Number(this.choice.value)) });
    this.choice.setAttribute("aria-label", t("choose_source"));
    this.pause = el("button", { type: "button", onclick: () => this.toggle() });
    this.end = el("button", { type: "button", class: "danger", onclick: () => this.ask() }, t("terminate"));
    this.undo = el("div", { class: "undo", hidden: true });
    this.cameras = el("tbody", {});
    this.events = el("tbody", {});
    this.losses = el("tbody", {});
    const table = (caption, columns, body) =>
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
        el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, columns.map((column) => el("th", { scope: "col" }, column)))), body));
    this.details = el("details", { ontoggle: () => this.detail() },
      el("summary", {}, t("details")),
      table(t("cameras"), [t("column_source"), t("column_state"), t("column_size")], this.cameras),
      table(t("events"), [t("column_time"), t("column_event")], this.events),
      table(t("losses"), [t("column_what"), t("column_count")], this.losses));
    const figure = (what, chart, now) =>
      el("div", { class: "chart-box" }, el("div", { class: "chart-head" }, el("span", {}, what), now), chart.element);
    this.element = el("article", { class: "card", "aria-labelledby": heading, "data-pipeline": this.id },
      this.picture.element,
      el("div", { class: "body" },
        el("header", {}, this.title, this.badge),
        this.model,
        this.words, this.reason, this.advice,
        this.choice,
        this.seen,
        el("div", { class: "charts" }, figure(t("fps"), this.fps, this.fps_now), figure(t("latency"), this.latency, this.latency_now)),
        el("div", { class: "buttons" }, this.pause, this.end),
        this.undo,
        this.details));
    this.confirm = this.confirmation();
    this.element.append(this.confirm);
    this.name_all();
    say(this.words, t("loading"));
    this.remember();
  }

  // What happened before somebody looked.
  async remember() {
    try {
      const history = object((await this.device.json(`pipelines/${encodeURIComponent(this.id)}/history`)).history);
      const step_ms = 1000 * number(history.interval_s, 5);
      const values = (key) => list(history[key], MOST_STEPS).map((value) => number(value));
      this.fps.past(values("frames_per_second"), step_ms);
      this.latency.past(values("latency_s"), step_ms);
    } catch {
      // An older weir has no such route: the charts begin now.
    }
  }

  confirmation() {
    const title = fresh("title");
    this.what = el("p", {});
    this.declared = el("p", { hidden: true }, t("terminate_declared"));
    const no = el("button", { type: "button", autofocus: true, onclick: () => this.confirm.close() }, t("terminate_no"));
    const yes = el("button", { type: "button", class: "danger", onclick: () => { this.confirm.close(); this.count_down(); } }, t("terminate_yes"));
    return el("dialog", { "aria-labelledby": title }, el("h2", { id: title }, t("terminate_title")), this.what, this.declared, el("div", { class: "buttons" }, no, yes));
  }

  // Everything in which the pipeline's name stands.
  name_all() {
    const { name } = this;
    if (this.named === name && this.outlined === this.outline) return;
    this.named = name;
    this.outlined = this.outline;
    this.title.replaceChildren(bdi(name));
    if (this.report?.sources.length > 1) this.title.append(` ${t("more_sources", { count: this.report.sources.length - 1 })}`);
    this.model.replaceChildren(this.outline ? bdi(clean(this.outline.model_id, 200).split("/").slice(-2).join("/")) : "\u00a0");
    this.end.setAttribute("aria-label", t("action_on", { action: t("terminate"), source: name }));
    show(this.declared, this.outline?.is_declared === true);
  }

  // What the device said of it; `undefined`: it said nothing.
  update(json, outline) {
    if (outline) this.outline = outline;
    if (json === undefined) {
      this.tell({ level: "bad", title: t("state_unknown"), words: t("state_unknown_words") });
      this.fps.add(NaN);
      this.latency.add(NaN);
      return;
    }
    const report = read(json);
    this.report = report;
    this.silent = report.fps > 0 ? 0 : this.silent + 1;
    const judged = judge(report, this.silent);
    this.tell(judged);
    this.fps.add(report.fps);
    this.latency.add(report.fps > 0 ? report.latency : NaN);
    say(this.fps_now, rate(report.fps));
    say(this.latency_now, delay(report.fps > 0 ? report.latency : NaN));
    const is_paused = report.sources.some((source) => source.state === "MUTED" || source.state === "PAUSED");
    this.is_paused = is_paused;
    const action = t(is_paused ? "resume" : "pause");
    say(this.pause, action);
    this.pause.setAttribute("aria-label", t("action_on", { action, source: this.name }));
    show(this.pause, is_paused || report.sources.some((source) => source.state === "RUNNING"));
    this.picture.want(judged.level === "good" || judged.level === "busy", judged.title);
    this.sources();
    this.name_all();
    this.look();
    if (this.details.open) this.detail();
  }

  tell({ level, title, words, reason, advice }) {
    this.element.dataset.level = level;
    say(this.badge, title);
    say(this.words, words);
    const put = (element, label, text) => {
      show(element, Boolean(text));
      if (text && element.dataset.text !== text) {
        element.dataset.text = text;
        element.replaceChildren(el("strong", {}, `${label}: `), bdi(text));
      }
    };
    put(this.reason, t("reason"), reason);
    put(this.advice, t("advice"), advice);
    if (this.level !== undefined && this.level !== level && (level === "bad" || this.level === "bad")) this.announce(`${this.name}: ${title}. ${reason ?? ""}`);
    this.level = level;
  }

  sources() {
    const { sources } = this.report;
    if (this.choice.children.length !== sources.length) {
      this.choice.replaceChildren(...sources.map((source) => el("option", { value: source.index }, `${source.index}: ${source_name(source)}`)));
      show(this.choice, sources.length > 1);
    }
  }

  // What is on the picture now, in words.
  look() {
    const counts = this.picture.counts();
    const words = counts.map(([name, count]) => `${name}\u00a0×\u00a0${count}`).join(", ") || t("seen_nothing");
    if (this.seen.dataset.words !== words) {
      this.seen.dataset.words = words;
      this.seen.replaceChildren(el("strong", {}, `${t("seen")}: `), bdi(words));
    }
    this.picture.canvas.setAttribute("aria-label", t("picture_label", { source: this.name, seen: words }));
  }

  detail() {
    if (!this.report || !this.details.open) return;
    const { sources, updates, losses } = this.report;
    const row = (...cells) => el("tr", {}, cells.map((cell) => el("td", {}, bdi(cell))));
    const none = (words, wide) => el("tr", {}, el("td", { colspan: wide }, words));
    const word = (state) => (knows(`source_${state}`) ? t(`source_${state}`) : state);
    const size = (source) => (source.width ? `${source.width} × ${source.height}, ${rate(source.fps)}/s` : "–");
    this.cameras.replaceChildren(...sources.map((source) => row(source.is_local ? source_name(source) : source.name, word(source.state), size(source))));
    const shown = updates.slice(-MOST_EVENTS).reverse();
    this.events.replaceChildren(...(shown.length
      ? shown.map((update) => row(update.time.slice(0, 19).replace("T", " "), update.count > 1 ? t("times", { text: sentence(update), count: update.count }) : sentence(update)))
      : [none(t("no_events"), 2)]));
    this.losses.replaceChildren(...(losses.length
      ? losses.map(([name, count]) => row(knows(`loss_${name}`) ? t(`loss_${name}`) : name, String(count)))
      : [none(t("no_losses"), 2)]));
  }

  async toggle() {
    const [verb, done] = this.is_paused ? ["resume", "done_resumed"] : ["pause", "done_paused"];
    this.pause.disabled = true;
    try {
      await this.device.change(`${verb}/${encodeURIComponent(this.id)}`);
      this.announce(t(done, { source: this.name }));
      this.changed?.();
    } catch (error) {
      this.announce(t("failed", { reason: error.message }), true);
    } finally {
      this.pause.disabled = false;
      this.pause.focus();
    }
  }

  ask() {
    this.what.replaceChildren(bdi(t("terminate_what", { source: this.name, model: clean(this.outline?.model_id, 200) || t("model") })));
    this.confirm.showModal();
  }

  // The last seconds in which it can be taken back. Whoever leaves the page meanwhile has kept the pipeline.
  count_down() {
    let left = UNDO_S;
    const words = el("span", { role: "status" });
    const back = el("button", { type: "button", onclick: () => this.keep() }, t("undo"));
    this.undo.replaceChildren(words, back);
    show(this.undo, true);
    this.end.disabled = true;
    back.focus();
    const step = () => {
      say(words, t("terminate_wait", { source: this.name, seconds: left }));
      if (left-- === 0) {
        clearInterval(this.ending);
        this.ending = undefined;
        this.terminate();
      }
    };
    this.ending = setInterval(step, 1000);
    step();
  }

  keep() {
    clearInterval(this.ending);
    this.ending = undefined;
    show(this.undo, false);
    this.end.disabled = false;
    this.end.focus();
    this.announce(t("done_kept", { source: this.name }));
  }

  async terminate() {
    show(this.undo, false);
    try {
      await this.device.change(`terminate/${encodeURIComponent(this.id)}`);
      this.announce(t("done_terminated", { source: this.name }));
    } catch (error) {
      this.announce(t("failed", { reason: error.message }), true);
    }
    this.end.disabled = false;
    this.changed?.();
  }

  gone() {
    clearInterval(this.ending);
    if (this.confirm.open) this.confirm.close();
    this.picture.gone();
    this.element.remove();
  }
}
