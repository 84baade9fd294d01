// A new pipeline: which camera, looked at before anything is kept, which model, and where its detections go.

import { clean, list, object } from "./clean.js";
import { bytes } from "./device.js";
import { el, field, say, show } from "./dom.js";
import { Sinks } from "./sinks.js";
import { t } from "./text.js";

const MOST_BYTES = 8 << 20;
// A camera has ten seconds to be opened, and may take a while to its first key frame.
const TRY_MS = 60_000;
const MOST_MODELS = 512;
// In the list of models: one that is not in it.
const OTHER = "";

export class Add {
  constructor({ announce, added }) {
    this.announce = announce;
    this.added = added;
    this.devices = [];
    this.device_choice = el("select", { onchange: () => this.load() });
    this.source = el("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: 2000, required: true });
    this.try_button = el("button", { type: "button", onclick: () => this.attempt() }, t("add_try"));
    this.tried = el("div", { class: "tried", role: "status" });
    this.model = el("select", { onchange: () => show(this.other, this.model.value === OTHER) });
    this.model_id = el("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: 500 });
    this.key = el("input", { type: "password", autocomplete: "off", maxlength: 500 });
    this.sinks = new Sinks(announce);
    this.fps = el("input", { type: "text", inputmode: "decimal", autocomplete: "off", maxlength: 8 });
    this.other = el("div", {}, field(t("add_model_id"), t("add_model_help"), this.model_id), field(t("add_key"), t("add_key_help"), this.key));
    this.submit = el("button", { type: "submit", class: "main" }, t("add_start"));
    this.outcome = el("p", { class: "outcome", role: "status" });
    this.device_field = field(t("add_device"), undefined, this.device_choice);
    const form = el("form", { class: "panel", novalidate: true },
      this.device_field,
      field(t("add_source"), t("add_source_help"), this.source),
      el("div", { class: "buttons" }, this.try_button),
      this.tried,
      field(t("add_model"), undefined, this.model),
      this.other,
      this.sinks.element,
      el("details", {}, el("summary", {}, t("add_more")), field(t("add_fps"), undefined, this.fps)),
      el("div", { class: "buttons" }, this.submit),
      this.outcome);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    this.element = el("section", { class: "narrow", "aria-labelledby": "add-title" }, el("h2", { id: "add-title", tabindex: -1 }, t("add_title")), form);
  }

  get device() {
    return this.devices[Number(this.device_choice.value)] ?? this.devices[0];
  }

  // The page's devices; called when the form is shown.
  open(devices) {
    const before = this.device;
    this.devices = devices;
    this.device_choice.replaceChildren(...devices.map((device, index) => el("option", { value: index }, device.name)));
    const again = devices.indexOf(before);
    if (again >= 0) this.device_choice.value = String(again);
    show(this.device_field, devices.length > 1);
    this.load();
  }

  // The models that lie on the device.
  async load() {
    const { device } = this;
    let models = [];
    try {
      models = list((await device.json("models")).models, MOST_MODELS).map(object);
    } catch {
      // The id can still be written.
    }
    if (device !== this.device) return;
    const chosen = this.model.value;
    const options = models.map((model) => {
      const id = String(model.model_id);
      const size = (Number(model.bytes) / 1048576).toFixed(1);
      return el("option", { value: id }, `${clean(id.split("/").slice(-2).join("/"), 80)} (${t("size_mib", { size })})`);
    });
    this.model.replaceChildren(...options, el("option", { value: OTHER }, t("add_model_other")));
    if (options.some((option) => option.value === chosen)) this.model.value = chosen;
    show(this.other, this.model.value === OTHER);
  }

  reference() {
    const text = this.source.value.trim();
    return /^\d{1,3}$/.test(text) ? Number(text) : text;
  }

  complain(input, words) {
    say(this.outcome, words);
    this.outcome.classList.add("bad");
    input.setAttribute("aria-invalid", "true");
    input.addEventListener("input", () => input.removeAttribute("aria-invalid"), { once: true });
    input.focus();
  }

  // Asks the device for the camera's first picture. Nothing is kept of it there.
  async attempt() {
    if (this.trying) {
      this.trying.abort();
      return;
    }
    const reference = this.reference();
    if (reference === "") return this.complain(this.source, t("add_need_source"));
    say(this.outcome, "");
    this.trying = new AbortController();
    say(this.try_button, t("add_try_again"));
    this.forget();
    this.tried.replaceChildren(el("p", {}, t("add_trying")));
    try {
      const response = await this.device.fetch("video_sources/snapshot", { method: "POST", body: { video_reference: reference }, signal: this.trying.signal, patience: TRY_MS });
      const picture = new Blob([await bytes(response, MOST_BYTES)], { type: "image/jpeg" });
      this.url = URL.createObjectURL(picture);
      this.tried.replaceChildren(el("img", { src: this.url, alt: t("add_picture_alt") }), el("p", {}, t("add_picture")));
    } catch (error) {
      if (this.trying.signal.aborted) this.tried.replaceChildren();
      else {
        const words = error.status === 404 || error.status === 405 ? t("add_try_missing") : t("add_try_failed", { reason: error.message });
        this.tried.replaceChildren(el("p", { class: "bad" }, words));
      }
    } finally {
      this.trying = undefined;
      say(this.try_button, t("add_try"));
    }
  }

  forget() {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = undefined;
    this.tried.replaceChildren();
  }

  async start() {
    this.outcome.classList.remove("bad");
    const reference = this.reference();
    if (reference === "") return this.complain(this.source, t("add_need_source"));
    const model_id = this.model.value === OTHER ? this.model_id.value.trim() : this.model.value;
    if (!model_id) return this.complain(this.model_id, t("add_need_model"));
    const sink_configuration = this.sinks.read((input, words) => this.complain(input, words));
    if (!sink_configuration) return;
    const body = { model_id, video_reference: reference, sink_configuration };
    if (this.key.value.trim() && this.model.value === OTHER) body.api_key = this.key.value.trim();
    if (this.fps.value.trim()) {
      body.max_fps = Number(this.fps.value.replace(",", "."));
      if (!(body.max_fps > 0)) return this.complain(this.fps, t("add_need_fps"));
    }
    this.submit.disabled = true;
    say(this.outcome, t("add_starting"));
    try {
      const { context } = await this.device.change("initialise", body);
      this.forget();
      this.source.value = "";
      this.key.value = "";
      this.sinks.forget();
      say(this.outcome, "");
      this.added(this.device, clean(object(context).pipeline_id, 64));
    } catch (error) {
      say(this.outcome, t("failed", { reason: error.message }));
      this.outcome.classList.add("bad");
    } finally {
      this.submit.disabled = false;
    }
  }
}
