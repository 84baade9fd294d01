// The devices: the list of them, and what each says of itself.

import { clean, list, number, object } from "./clean.js";
import { Device, address_of } from "./device.js";
import { bdi, el, field, fresh, say, show } from "./dom.js";
import { t } from "./text.js";

// While this is shown, the devices are asked again so often, milliseconds.
const LOOK_MS = 5000;
const PATIENCE_MS = 30_000;

export class About {
  constructor({ houses, add, remove, changed }) {
    this.houses = houses;
    this.remove = remove;
    this.changed = changed;
    this.panels = new Map();
    this.address = el("input", { type: "text", inputmode: "url", autocomplete: "off", spellcheck: "false", maxlength: 300 });
    this.token = el("input", { type: "password", autocomplete: "off", maxlength: 500 });
    this.outcome = el("p", { class: "outcome", role: "status" });
    this.list = el("div", { class: "devices" });
    const form = el("form", { class: "panel", novalidate: true },
      el("h3", {}, t("device_add")),
      field(t("device_address"), t("device_address_help"), this.address),
      field(t("token"), t("token_help"), this.token),
      el("div", { class: "buttons" }, el("button", { type: "submit", class: "main" }, t("device_add"))),
      this.outcome);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const address = address_of(this.address.value);
      const is_known = this.houses().some((house) => house.device.address === address);
      if (!address || is_known) {
        say(this.outcome, t(address ? "device_known" : "device_address_bad"));
        this.outcome.classList.add("bad");
        this.address.focus();
        return;
      }
      this.outcome.classList.remove("bad");
      const device = new Device(address, this.token.value.trim());
      this.address.value = "";
      this.token.value = "";
      add(device);
      say(this.outcome, t("device_added", { address: device.name }));
      this.open();
    });
    this.element = el("section", { class: "narrow", "aria-labelledby": "devices-title" },
      el("h2", { id: "devices-title", tabindex: -1 }, t("devices_title")), el("p", { class: "help" }, t("devices_words")), this.list, form);
  }

  open() {
    const houses = this.houses();
    for (const [device, panel] of this.panels) {
      if (!houses.some((house) => house.device === device)) {
        panel.element.remove();
        this.panels.delete(device);
      }
    }
    for (const house of houses) {
      if (!this.panels.has(house.device)) {
        const panel = new Panel(house, { remove: () => { this.remove(house); this.open(); this.element.querySelector("h2").focus(); }, changed: this.changed });
        this.panels.set(house.device, panel);
        this.list.append(panel.element);
      }
      this.panels.get(house.device).look();
    }
    clearTimeout(this.next);
    this.next = setTimeout(() => this.element.hidden || this.open(), LOOK_MS);
  }
}

// What one device says of itself.
class Panel {
  constructor(house, { remove, changed }) {
    this.house = house;
    const { device } = house;
    const heading = fresh("about");
    this.trouble = el("p", { class: "bad", hidden: true });
    this.version = el("p", { class: "help" });
    this.meters = el("dl", {});
    this.models = el("div", {});
    this.check = el("tbody", {});
    this.log_out = el("button", { type: "button", onclick: () => { device.token = ""; changed(); house.again(); this.look(); } }, t("log_out"));
    const take_away = el("button", { type: "button", onclick: remove }, t("device_remove_short"));
    take_away.setAttribute("aria-label", t("device_remove", { address: device.name }));
    this.facts = el("div", { hidden: true }, this.version, this.meters, el("h4", {}, t("models_title")), this.models,
      el("details", {}, el("summary", {}, t("check_title")), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("check_title") }, el("table", { class: "check" }, this.check))));
    this.element = el("article", { class: "panel", "aria-labelledby": heading },
      el("h3", { id: heading }, device.is_self ? `${device.name} (${t("this_device")})` : device.name),
      this.trouble, this.facts,
      el("div", { class: "buttons" }, this.log_out, ...(device.is_self ? [] : [take_away])));
    show(this.log_out, Boolean(device.token));
  }

  async look() {
    const { device } = this.house;
    show(this.log_out, Boolean(device.token));
    if (this.is_asking) return;
    this.is_asking = true;
    try {
      this.tell(object((await device.json("device", { patience: PATIENCE_MS })).device));
      show(this.trouble, false);
      show(this.facts, true);
    } catch (error) {
      say(this.trouble, error.message);
      show(this.trouble, true);
    } finally {
      this.is_asking = false;
    }
  }

  tell(facts) {
    const mib = (bytes) => Math.round(number(bytes, 0) / 1048576);
    const threads = number(facts.inference_threads, 1);
    // Measured, not promised: what the pipelines that run now take of the threads' time.
    const reports = [...this.house.cards.values()].map((card) => card.report).filter(Boolean);
    const fps = reports.reduce((sum, report) => sum + report.fps, 0);
    const busy = reports.reduce((sum, report) => sum + report.fps * number(report.inference, 0), 0) / threads;
    say(this.version, t("version", { version: clean(facts.version, 40), arch: clean(facts.arch, 40), built: clean(facts.built, 40) }));
    const capacity = fps > 0 && busy > 0
      ? t("capacity_words", { percent: Math.min(100, Math.round(busy * 100)), threads, fps: Math.round(fps), more: Math.max(0, Math.round(fps / busy - fps)) })
      : t("capacity_unknown", { threads });
    const reserved = mib(facts.memory_reserved_bytes);
    const limit = mib(facts.memory_limit_bytes);
    const places = list(facts.pipelines, 10_000).length;
    this.meter(0, t("capacity"), capacity, busy, 1);
    this.meter(1, t("memory"), t("memory_words", { reserved, limit, resident: mib(facts.resident_bytes) }), reserved, limit);
    this.meter(2, t("places"), t("places_words", { count: places, most: number(facts.max_pipelines, 0) }), places, number(facts.max_pipelines, 0));
    const models = list(facts.models, 100).map(object);
    this.models.replaceChildren(...(models.length ? models.map((model) => el("p", {}, bdi(clean(model.model_id, 200)), el("br", {}), el("span", { class: "help" }, t("model_words", {
      family: clean(model.family, 40), engine: clean(model.engine, 40), width: number(model.input_width, 0), height: number(model.input_height, 0),
      classes: number(model.classes, 0), weights: (number(model.weights_bytes, 0) / 1048576).toFixed(1),
    })))) : [el("p", { class: "help" }, t("models_none"))]));
    const rows = list(facts.check, 200).map(object).map((fact) => el("tr", {}, el("th", { scope: "row" }, clean(fact.name, 40)), el("td", {}, bdi(clean(fact.text)))));
    const now = JSON.stringify(facts.check);
    if (this.checked !== now) {
      this.checked = now;
      this.check.replaceChildren(...rows);
    }
  }

  meter(index, label, words, value, most) {
    if (!this.meters.children[2 * index]) {
      const meter = el("meter", { min: 0, low: 0.7, high: 0.9, optimum: 0, max: 1, "aria-label": label });
      this.meters.append(el("dt", {}, label), el("dd", {}, meter, el("span", {})));
    }
    const [meter, text] = this.meters.children[2 * index + 1].children;
    meter.value = most > 0 ? Math.min(1, value / most) : 0;
    say(text, words);
  }
}
