// A machine that runs weir: its address, its token, and what is asked of it.

import { clean } from "./clean.js";
import { t } from "./text.js";

// Longest reply that is read, bytes: a report has a few KiB.
const MOST_BYTES = 4 << 20;
// Longest wait for an answer, milliseconds. `initialise` loads a model, perhaps over a slow line.
const PATIENCE_MS = 10_000;
const LONG_PATIENCE_MS = 600_000;
// Browsers open six connections to a server at most, for all their windows. One is for events, these are for live pictures, and two
// stay free for questions.
const PICTURE_PLACES = 3;

export class Failure extends Error {
  // `kind`: `unreachable`, `refuses`, `mixed`, `token`, `wrong_token`, `busy`, `odd`, or `answer` (the device said no).
  constructor(kind, message, status = 0) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

export class Device {
  constructor(address, token) {
    // With a slash at its end: the service may lie below a path of a reverse proxy.
    this.address = address;
    this.is_self = address === home();
    this.token = token;
    this.places = PICTURE_PLACES;
    // Who hears that a place is free again.
    this.waiting = new Set();
  }

  // As a person calls it.
  get name() {
    return clean(new URL(this.address).host, 80);
  }

  head(more) {
    return this.token ? { ...more, Authorization: `Bearer ${this.token}` } : { ...more };
  }

  // The response, or a `Failure` that says in words why there is none.
  async fetch(path, { method = "GET", body, signal, patience = PATIENCE_MS } = {}) {
    const limit = new AbortController();
    const over = setTimeout(() => limit.abort(), patience);
    const give_up = () => limit.abort();
    signal?.addEventListener("abort", give_up);
    let response;
    try {
      response = await fetch(this.address + path, {
        method,
        headers: this.head(body === undefined ? {} : { "Content-Type": "application/json" }),
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: limit.signal,
        // What a proxy before this device wants to know of its own visitors; other devices get nothing but the token.
        credentials: this.is_self ? "same-origin" : "omit",
        redirect: "error",
        cache: "no-store",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw await this.unanswered(limit.signal.aborted);
    } finally {
      clearTimeout(over);
      // A stream goes on, and ends with the caller's signal.
      if (!response?.ok) signal?.removeEventListener("abort", give_up);
    }
    if (response.ok) return response;
    throw await this.refusal(response);
  }

  // JSON of a bounded length.
  async json(path, options) {
    const response = await this.fetch(path, options);
    const text = new TextDecoder().decode(await bytes(response, MOST_BYTES));
    try {
      return JSON.parse(text);
    } catch {
      throw new Failure("odd", t("device_odd", { address: this.name, reason: clean(text, 80) }));
    }
  }

  change(path, body) {
    return this.json(path, { method: "POST", body, patience: LONG_PATIENCE_MS });
  }

  // Why a request got no answer that this page may read.
  async unanswered(was_too_slow) {
    const values = { address: this.name, origin: location.origin };
    if (location.protocol === "https:" && this.address.startsWith("http:")) return new Failure("mixed", t("device_mixed", values));
    if (!this.is_self && !was_too_slow) {
      try {
        // Nothing of the answer can be read, but that there is one.
        await fetch(this.address + "healthz", { mode: "no-cors", credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
        return new Failure("refuses", t("device_refuses", values));
      } catch {
        // Nobody there.
      }
    }
    return new Failure("unreachable", t("device_unreachable", values));
  }

  // What the device says that is wrong.
  async refusal(response) {
    const values = { address: this.name };
    let said = "";
    try {
      const json = JSON.parse(new TextDecoder().decode(await bytes(response, 64 << 10)));
      if (typeof json.message === "string") said = json.message.replace(/^Error in ProcessesManagerClient\. Error type: (\w+)\. Details: /, (_, kind) => (json.message.endsWith("Details: N/A") ? `${kind}: ` : ""));
      else if (typeof json.detail === "string") said = json.detail;
      else if (Array.isArray(json.detail)) said = json.detail.slice(0, 3).map((one) => `${one?.loc?.join?.(".")}: ${one?.msg}`).join("; ");
    } catch {
      // No JSON: the status alone must do.
    }
    const { status } = response;
    if (status === 401) return new Failure(this.token ? "wrong_token" : "token", t(this.token ? "device_wrong_token" : "device_wants_token", values), status);
    if (status === 429) {
      const seconds = Number(response.headers.get("retry-after")) || 1;
      return new Failure("busy", t("device_busy", { ...values, seconds }), status);
    }
    if (status === 403 && /reading only/.test(said)) return new Failure("answer", t("refused_read_only"), status);
    return new Failure("answer", clean(said) || `HTTP ${status}`, status);
  }

  // A place for a live picture, if one is free.
  take_place() {
    if (this.places === 0) return false;
    this.places -= 1;
    return true;
  }

  give_place() {
    this.places += 1;
    for (const wake of this.waiting) wake();
  }
}

// The whole body, unless it is longer than `most` bytes.
export async function bytes(response, most) {
  const reader = response.body.getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > most) {
      reader.cancel().catch(() => {});
      throw new Failure("odd", t("device_odd", { address: clean(new URL(response.url).host), reason: `> ${most} B` }));
    }
    parts.push(value);
  }
  const whole = new Uint8Array(length);
  let end = 0;
  for (const part of parts) {
    whole.set(part, end);
    end += part.length;
  }
  return whole;
}

// The address of the device that this page came from.
export function home() {
  return new URL(".", location.href).href;
}

// A person's words as the address of a device; `undefined` when they are none.
export function address_of(text) {
  try {
    const words = text.trim();
    const url = new URL(/^https?:\/\//i.test(words) ? words : `http://${words}`);
    const is_host = /^([\p{L}\p{N}._-]+|\[[\da-f:.]+\])(:\d+)?$/iu.test(url.host);
    if (!/^https?:$/.test(url.protocol) || !is_host || url.username || url.password || url.search || url.hash) return undefined;
    return `${url.protocol}//${url.host}${url.pathname.replace(/\/*$/, "/")}`;
  } catch {
    return undefined;
  }
}
