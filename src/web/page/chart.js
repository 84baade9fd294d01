// The last ten minutes of a figure, as a small drawing and as words.

import { say, svg } from "./dom.js";
import { t } from "./text.js";

// What is kept and shown, milliseconds and samples: one each two seconds.
export const SPAN_MS = 600_000;
const MOST_SAMPLES = 700;
// Samples closer together than this say nothing new, milliseconds.
const LEAST_MS = 900;
const WIDTH = 300;
const HEIGHT = 48;

export class Chart {
  constructor(what, write) {
    this.what = what;
    this.write = write;
    this.samples = [];
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    this.title = svg("title", {});
    this.element = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, this.title, this.area, this.line);
    this.draw();
  }

  // What was before the first one here: values in steps, the newest last.
  past(values, step_ms, now = Date.now()) {
    const first = this.samples[0]?.[0] ?? now;
    const before = values.map((value, index) => [now - (values.length - index) * step_ms, value]);
    this.samples.unshift(...before.filter(([time]) => time < first && time >= now - SPAN_MS));
    this.draw(now);
  }

  // One more; NaN is a gap.
  add(value, now = Date.now()) {
    if (now - (this.samples.at(-1)?.[0] ?? 0) < LEAST_MS) return;
    this.samples.push([now, value]);
    while (this.samples.length > MOST_SAMPLES || this.samples[0]?.[0] < now - SPAN_MS) this.samples.shift();
    this.draw(now);
  }

  draw(now = Date.now()) {
    const values = this.samples.map(([, value]) => value).filter((value) => !Number.isNaN(value));
    const most = Math.max(...values, 0);
    say(
      this.title,
      values.length
        ? t("chart", { what: this.what, now: this.write(this.samples.at(-1)[1]), least: this.write(Math.min(...values)), most: this.write(most) })
        : t("chart_empty", { what: this.what }),
    );
    const x = (time) => WIDTH - ((now - time) / SPAN_MS) * WIDTH;
    const y = (value) => HEIGHT - 2 - (most > 0 ? value / most : 0) * (HEIGHT - 6);
    let line = "";
    let area = "";
    let begin;
    let end;
    const close = () => {
      if (begin !== undefined) area += ` L${end} ${HEIGHT} L${begin} ${HEIGHT} Z`;
      begin = undefined;
    };
    for (const [time, value] of this.samples) {
      if (Number.isNaN(value)) {
        close();
        continue;
      }
      end = x(time).toFixed(1);
      const step = `${begin === undefined ? "M" : "L"}${end} ${y(value).toFixed(1)}`;
      begin ??= end;
      line += step;
      area += step;
    }
    close();
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
  }
}
