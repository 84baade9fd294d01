// A pipeline's live picture with what was found on it: the picture as it is, the boxes drawn here on the very frame they belong to.

import { clean, list, number, object } from "./clean.js";
import { bytes } from "./device.js";
import { el, say, show } from "./dom.js";
import { parts } from "./stream.js";
import { t } from "./text.js";

// Frames whose detections are kept until their picture comes: four seconds at 30 a second.
const MOST_FRAMES = 120;
// Boxes of one frame that are drawn at most.
const MOST_BOXES = 300;
// Pictures a second that are asked for, and how wide at most: what a card shows.
const LIVE_FPS = 15;
const WIDEST = 1280;
// Between two still pictures, between two attempts after a refusal, and after a device that has no pictures; milliseconds.
const STILL_MS = 1000;
const AGAIN_MS = 2000;
const NEVER_MS = 30_000;
const MOST_BYTES = 8 << 20;
// A camera may take seconds to its next picture, and the device waits for it.
const PATIENCE_MS = 20_000;
// For how long what was last seen counts as seen now, milliseconds.
const SEEN_MS = 2000;

// The colour of a class: the same everywhere, bright enough for black letters.
export function colour(name) {
  let hash = 2166136261;
  for (const letter of name) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619) >>> 0;
  return `hsl(${hash % 360} 95% 62%)`;
}

export class Picture {
  constructor(device, id) {
    this.device = device;
    this.id = id;
    this.source = 0;
    this.canvas = el("canvas", { role: "img", width: 640, height: 360 });
    this.note = el("p", { class: "note" });
    this.mode = el("p", { class: "mode", hidden: true });
    this.element = el("div", { class: "picture" }, this.canvas, this.note, this.mode);
    this.frames = new Map();
    this.bitmap = undefined;
    this.frame = undefined;
    this.seen_at = -Infinity;
    this.seen = [];
    this.is_wanted = false;
    this.is_visible = false;
    this.running = undefined;
    new IntersectionObserver((entries) => {
      this.is_visible = entries.at(-1).isIntersecting;
      this.turn();
    }, { rootMargin: "100px" }).observe(this.element);
    say(this.note, t("picture_waiting"));
  }

  // Whether there should be pictures, and if not, why.
  want(is_wanted, why) {
    this.is_wanted = is_wanted;
    if (!is_wanted) this.tell(why);
    this.turn();
  }

  choose(source) {
    if (source === this.source) return;
    this.source = source;
    this.frames.clear();
    this.stop();
    this.turn();
  }

  // Starts or stops, as things are.
  turn() {
    const is_on = this.is_wanted && this.is_visible && !document.hidden;
    if (is_on && !this.running) {
      this.running = new AbortController();
      this.run(this.running.signal);
    } else if (!is_on) this.stop();
  }

  stop() {
    this.running?.abort();
    this.running = undefined;
  }

  gone() {
    this.is_wanted = false;
    this.stop();
    this.bitmap?.close();
    this.bitmap = undefined;
  }

  // Pictures until the signal: live while there is a place among the connections, one a second otherwise.
  async run(signal) {
    while (!signal.aborted) {
      let pause = 0;
      const is_live = this.device.take_place();
      try {
        if (is_live) {
          await this.live(signal);
          pause = AGAIN_MS;
        } else {
          await this.still(signal);
          pause = STILL_MS;
        }
      } catch (error) {
        if (signal.aborted) break;
        this.tell(error.status === 404 ? t("picture_off") : error.message);
        pause = [403, 404].includes(error.status) ? NEVER_MS : AGAIN_MS;
      } finally {
        if (is_live) this.device.give_place();
      }
      await wait(pause, signal);
    }
  }

  path(kind) {
    const width = Math.min(WIDEST, Math.max(160, Math.ceil((this.element.clientWidth * devicePixelRatio) / 160) * 160));
    return `pipelines/${encodeURIComponent(this.id)}/${kind}?source=${this.source}&width=${width}&boxes=0`;
  }

  async live(signal) {
    const response = await this.device.fetch(`${this.path("live.mjpeg")}&fps=${LIVE_FPS}`, { signal, patience: PATIENCE_MS });
    show(this.mode, false);
    let newest;
    let is_busy = false;
    const work = async () => {
      is_busy = true;
      while (newest && !signal.aborted) {
        const part = newest;
        newest = undefined;
        await this.decode(part.body, part.head["x-frame-id"], signal);
      }
      is_busy = false;
    };
    await parts(response, (head, body) => {
      // Of those that come while one is decoded only the newest counts.
      newest = { head, body };
      if (!is_busy) work();
    });
  }

  async still(signal) {
    const response = await this.device.fetch(this.path("snapshot.jpg"), { signal, patience: PATIENCE_MS });
    say(this.mode, t("picture_still"));
    show(this.mode, true);
    await this.decode(await bytes(response, MOST_BYTES), response.headers.get("x-frame-id"), signal);
  }

  async decode(body, frame, signal) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(new Blob([body], { type: "image/jpeg" }));
    } catch {
      // A damaged picture is one that is not shown.
      return;
    }
    if (signal.aborted) return bitmap.close();
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.frame = Number(frame);
    show(this.note, false);
    this.draw();
  }

  // What was found on a frame: the data of a datagram.
  detected(datagram) {
    const about = object(datagram.inference_metadata);
    if (number(about.source_id, 0) !== this.source) return;
    const image = object(datagram.image);
    const boxes = list(datagram.predictions, MOST_BOXES).map((one) => ({
      x: number(one?.x),
      y: number(one?.y),
      width: number(one?.width),
      height: number(one?.height),
      score: number(one?.confidence),
      name: clean(one?.class, 40),
    }));
    const frame = number(about.frame_id);
    this.frames.set(frame, { width: number(image.width), height: number(image.height), boxes });
    if (this.frames.size > MOST_FRAMES) this.frames.delete(this.frames.keys().next().value);
    this.seen = boxes;
    this.seen_at = performance.now();
    if (frame === this.frame) this.draw();
  }

  draw() {
    const { canvas, bitmap } = this;
    if (!bitmap) return;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    const paper = canvas.getContext("2d", { alpha: false });
    paper.drawImage(bitmap, 0, 0);
    const found = this.frames.get(this.frame);
    canvas.dataset.frame = this.frame;
    canvas.dataset.boxes = found ? found.boxes.length : "";
    if (!found || !(found.width > 0 && found.height > 0)) return;
    const across = canvas.width / found.width;
    const down = canvas.height / found.height;
    // As thick and as large on the screen, whatever the picture's size.
    const unit = Math.max(1, canvas.width / Math.max(1, canvas.clientWidth));
    paper.textBaseline = "top";
    paper.font = `600 ${13 * unit}px system-ui, sans-serif`;
    for (const box of found.boxes) {
      const left = (box.x - box.width / 2) * across;
      const top = (box.y - box.height / 2) * down;
      if (!Number.isFinite(left + top + box.width + box.height)) continue;
      paper.lineWidth = 4 * unit;
      paper.strokeStyle = "rgb(0 0 0 / 0.55)";
      paper.strokeRect(left, top, box.width * across, box.height * down);
      paper.lineWidth = 2 * unit;
      paper.strokeStyle = colour(box.name);
      paper.strokeRect(left, top, box.width * across, box.height * down);
      const words = `${box.name} ${Math.round(box.score * 100)} %`;
      const wide = paper.measureText(words).width + 8 * unit;
      const label_top = Math.max(0, top - 18 * unit);
      const label_left = Math.max(0, Math.min(left - unit, canvas.width - wide));
      paper.fillStyle = colour(box.name);
      paper.fillRect(label_left, label_top, wide, 18 * unit);
      paper.fillStyle = "#000";
      paper.fillText(words, label_left + 4 * unit, label_top + 3 * unit);
    }
  }

  // Why there is no picture; the last one is taken away, since it is no longer true.
  tell(words) {
    say(this.note, words);
    show(this.note, true);
    show(this.mode, false);
    this.bitmap?.close();
    this.bitmap = undefined;
    this.frame = undefined;
    delete this.canvas.dataset.frame;
    const paper = this.canvas.getContext("2d", { alpha: false });
    paper.fillStyle = "#111";
    paper.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  // Names and counts of what is seen now.
  counts() {
    if (performance.now() - this.seen_at > SEEN_MS) return [];
    const counts = new Map();
    for (const { name } of this.seen) counts.set(name, (counts.get(name) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  }
}

// Until the time is over or the signal comes.
export function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const over = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(over);
      resolve();
    }, { once: true });
  });
}
