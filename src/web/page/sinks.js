// Where a pipeline's detections go: one receiver or several, each of its kind.

import { el, field, say, show } from "./dom.js";
import { t } from "./text.js";

// As many as a device takes (`sink::MAX_SINKS`).
const MOST = 8;

const line = (most, more) => el("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: most, ...more });
const choice = (...options) => el("select", {}, options.map(([value, words]) => el("option", { value }, words)));
const formats = () => choice(["datagram", t("sink_datagram")], ["compact", t("sink_compact")]);

// Each kind's fields, and the members of its object. `read` complains of the first field that cannot be, and then gives nothing.
const KINDS = {
  udp_sink: () => {
    const host = line(255, { value: "127.0.0.1" });
    const port = line(5, { inputmode: "numeric", value: "12000" });
    return {
      shown: el("div", { class: "pair" }, field(t("sink_host"), undefined, host), field(t("sink_port"), undefined, port)),
      help: t("sink_udp_help"),
      read(complain) {
        if (!host.value.trim()) return complain(host, t("sink_need_host"));
        const number = Number(port.value);
        if (!(Number.isInteger(number) && number > 0 && number < 65536)) return complain(port, t("sink_need_port"));
        return { host: host.value.trim(), port: number };
      },
    };
  },
  mqtt_sink: () => {
    const topic = line(1000);
    const qos = choice(["1", t("sink_qos_1")], ["0", t("sink_qos_0")]);
    const format = formats();
    return {
      shown: [field(t("sink_topic"), t("sink_topic_help"), topic), field(t("sink_qos"), undefined, qos), field(t("sink_format"), undefined, format)],
      help: t("sink_mqtt_help"),
      read(complain) {
        const name = topic.value.trim();
        if (/[+#]|^\$/.test(name)) return complain(topic, t("sink_need_topic"));
        return { ...(name ? { topic: name } : {}), qos: Number(qos.value), format: format.value };
      },
    };
  },
  http_sink: () => {
    const url = line(2000, { inputmode: "url" });
    const authorization = el("input", { type: "password", autocomplete: "off", maxlength: 2000 });
    const format = formats();
    return {
      shown: [field(t("sink_url"), t("sink_url_help"), url), field(t("sink_authorization"), t("sink_authorization_help"), authorization),
        field(t("sink_format"), undefined, format)],
      help: t("sink_http_help"),
      read(complain) {
        if (!/^https?:\/\/[^\s/]/i.test(url.value.trim())) return complain(url, t("sink_need_url"));
        const secret = authorization.value.trim();
        return { url: url.value.trim(), ...(secret ? { authorization: secret } : {}), format: format.value };
      },
      forget: () => { authorization.value = ""; },
    };
  },
};

class Sink {
  constructor(remove) {
    this.kind = choice(["udp_sink", t("sink_udp")], ["mqtt_sink", t("sink_mqtt")], ["http_sink", t("sink_http")]);
    this.kind.addEventListener("change", () => this.choose());
    this.legend = el("legend", {});
    this.help = el("p", { class: "help" });
    this.members = el("div", { class: "members" });
    this.away = el("button", { type: "button", onclick: () => remove(this) }, t("sink_remove"));
    this.element = el("fieldset", { class: "sink" }, this.legend, field(t("sink_kind"), undefined, this.kind), this.help, this.members,
      el("div", { class: "buttons" }, this.away));
    this.choose();
  }

  // What was written for another kind stays written for it.
  choose() {
    this.made ??= {};
    this.one = this.made[this.kind.value] ??= KINDS[this.kind.value]();
    say(this.help, this.one.help);
    this.members.replaceChildren(...[this.one.shown].flat());
  }

  // Which of how many it is.
  number(place, all) {
    say(this.legend, t("sink_place", { place }));
    this.away.setAttribute("aria-label", t("sink_remove_place", { place }));
    show(this.away, all > 1);
    show(this.legend, all > 1);
  }

  read(complain) {
    const members = this.one.read(complain);
    return members && { type: this.kind.value, ...members };
  }
}

export class Sinks {
  constructor(announce) {
    this.announce = announce;
    this.sinks = [];
    this.list = el("div", { class: "sinks" });
    this.more = el("button", { type: "button", onclick: () => this.append().kind.focus() }, t("sink_add"));
    this.element = el("fieldset", {}, el("legend", {}, t("add_sink")), this.list, el("div", { class: "buttons" }, this.more));
    this.append();
  }

  append() {
    const sink = new Sink((one) => this.remove(one));
    this.sinks.push(sink);
    this.list.append(sink.element);
    this.number();
    return sink;
  }

  remove(sink) {
    const place = this.sinks.indexOf(sink);
    this.sinks.splice(place, 1);
    sink.element.remove();
    this.number();
    // The button that had the focus is gone.
    this.more.focus();
    this.announce(t("sink_removed", { place: place + 1 }));
  }

  number() {
    this.sinks.forEach((sink, index) => sink.number(index + 1, this.sinks.length));
    show(this.more, this.sinks.length < MOST);
  }

  // What `sink_configuration` is to be: one object, or a list of several. Nothing after a complaint.
  read(complain) {
    const all = [];
    for (const sink of this.sinks) {
      const one = sink.read(complain);
      if (!one) return undefined;
      all.push(one);
    }
    return all.length === 1 ? all[0] : all;
  }

  // Secrets go once they were sent.
  forget() {
    for (const sink of this.sinks) for (const one of Object.values(sink.made)) one.forget?.();
  }
}
