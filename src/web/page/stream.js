// What comes for as long as somebody listens: a device's events, and pictures one after the other.

import { Failure } from "./device.js";

// Longest event, and longest head of a part, bytes: a datagram has 64 KiB.
const MOST_EVENT_BYTES = 256 << 10;
const MOST_HEAD_BYTES = 4 << 10;
// Largest picture, bytes.
const MOST_PICTURE_BYTES = 8 << 20;

// Server-sent events. `hear(name, data)` gets each; returns when the stream ends.
export async function events(response, hear) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      let name = "";
      let data = "";
      for (const line of lines) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data = line.slice(6);
      }
      if (!name) continue;
      let parsed;
      try {
        parsed = JSON.parse(data);
      } catch {
        continue;
      }
      hear(name, parsed);
    }
    if (text.length > MOST_EVENT_BYTES) {
      reader.cancel().catch(() => {});
      throw new Failure("odd", "event");
    }
  }
}

// The parts of multipart/x-mixed-replace by their lengths. `hear(head, bytes)` gets each with its head's fields in lower case.
export async function parts(response, hear) {
  const reader = response.body.getReader();
  const buffer = new Buffer();
  try {
    for (;;) {
      const head = await buffer.head(reader);
      if (head === undefined) return;
      const length = Number(head["content-length"]);
      if (!(length > 0 && length <= MOST_PICTURE_BYTES)) throw new Failure("odd", "part");
      const body = await buffer.take(reader, length);
      if (body === undefined) return;
      hear(head, body);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Bytes that came and were not used yet: chunks as the browser hands them over, so that nothing is copied twice.
class Buffer {
  constructor() {
    this.chunks = [];
    this.length = 0;
  }

  async more(reader) {
    const { done, value } = await reader.read();
    if (done) return false;
    this.chunks.push(value);
    this.length += value.length;
    return true;
  }

  // The first `length` bytes; `undefined` at the stream's end.
  async take(reader, length) {
    while (this.length < length) if (!(await this.more(reader))) return undefined;
    const out = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const chunk = this.chunks[0];
      const part = chunk.subarray(0, length - filled);
      out.set(part, filled);
      filled += part.length;
      if (part.length === chunk.length) this.chunks.shift();
      else this.chunks[0] = chunk.subarray(part.length);
    }
    this.length -= length;
    return out;
  }

  // The next part's head, past its boundary: `undefined` at the stream's end.
  async head(reader) {
    let line = "";
    let size = 0;
    const fields = {};
    for (;;) {
      const byte = await this.take(reader, 1);
      if (byte === undefined) return undefined;
      if (++size > MOST_HEAD_BYTES) throw new Failure("odd", "head");
      if (byte[0] !== 10) {
        line += String.fromCharCode(byte[0]);
        continue;
      }
      line = line.replace(/\r$/, "");
      const colon = line.indexOf(":");
      if (colon > 0 && !line.startsWith("--")) fields[line.slice(0, colon).trim().toLowerCase()] = line.slice(colon + 1).trim();
      // An empty line ends the head; those before the boundary end the part before.
      else if (line === "" && Object.keys(fields).length > 0) return fields;
      line = "";
    }
  }
}
