// How a pipeline is doing: its report in words, with the reason and what to do.

import { clean, list, number, object } from "./clean.js";
import { knows, t } from "./text.js";

// Updates and sources of a report that are looked at, at most.
const MOST_UPDATES = 200;
const MOST_SOURCES = 16;
// Looks at a pipeline without a frame after which that is worth a word: ten seconds of the page's questions.
const SILENT_LOOKS = 5;

// The report without what is not as it should be.
export function read(report) {
  const found = object(report);
  const sources = list(found.sources_metadata, MOST_SOURCES).map((one, index) => {
    const source = object(one);
    const properties = object(source.source_properties);
    return {
      name: clean(source.source_reference, 120),
      is_local: typeof source.source_reference === "number",
      index,
      state: clean(source.state, 40),
      width: number(properties.width, 0),
      height: number(properties.height, 0),
      fps: number(properties.fps, 0),
    };
  });
  const updates = list(found.video_source_status_updates, MOST_UPDATES).map((one) => {
    const update = object(one);
    const payload = object(update.payload);
    return {
      time: clean(update.timestamp, 40),
      severity: number(update.severity, 0),
      type: clean(update.event_type, 60),
      source: number(payload.source_id, null),
      error: clean(payload.error_type, 60),
      message: clean(payload.error_message ?? payload.message),
      count: number(payload.count, 1),
      payload,
    };
  });
  const latencies = list(found.latency_reports, MOST_SOURCES).map(object);
  const mean = (key) => {
    const values = latencies.map((one) => number(one[key])).filter((value) => !Number.isNaN(value));
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
  };
  const losses = Object.entries(object(found.losses)).slice(0, 40).map(([name, count]) => [clean(name, 60), number(count, 0)]).filter(([, count]) => count > 0);
  return { sources, updates, losses, fps: number(found.inference_throughput, 0), latency: mean("e2e_latency"), inference: mean("inference_latency") };
}

// What a person calls a source.
export function source_name(source) {
  if (!source) return "";
  if (source.is_local) return t("source_local", { index: source.name });
  // Of a file its name; the table of cameras has the whole path.
  return /^(file:\/\/)?\//.test(source.name) ? source.name.split("/").at(-1) : source.name;
}

// One update as a sentence.
export function sentence(update) {
  const { type, source, message, payload, error } = update;
  const name = is_of_source(update) ? "event_camera" : knows(`event_${type}`) ? `event_${type}` : "event_other";
  const state = (value) => {
    const word = clean(value, 40);
    return knows(`source_${word}`) ? t(`source_${word}`) : word;
  };
  const said = t(name, {
    name: type,
    camera: source ?? "",
    message: message || error,
    previous: state(payload.previous_state),
    new: state(payload.new_state),
    stage: stage(payload.stage),
    engine: clean(payload.engine, 20),
    gpu: payload.percent == null ? clean(payload.gpu, 20) : `${clean(payload.gpu, 20)} (${number(payload.percent, 0)} %)`,
  });
  return said;
}

const stage = (value) => {
  const word = clean(value, 40);
  return knows(`stage_${word}`) ? t(`stage_${word}`) : word;
};

// A source that could not be opened, which the reference calls an error of inference.
const is_of_source = (update) => update.type === "INFERENCE_ERROR" && /^(Source|NoKeyFrame|CaptureWorker|DamagedFile|FrameDecoding)\w*Error$/.test(update.error);

const PLAYS = ["RUNNING", "MUTED", "PAUSED"];

// `level` is `good`, `idle`, `busy` or `bad`; `silent` counts looks without a frame.
export function judge(report, silent) {
  const { sources, updates, fps } = report;
  const made = (level, name, more) => ({ level, title: t(`state_${name}`), words: t(`state_${name}_words`), ...more });
  const errors = updates.filter((update) => update.type === "SOURCE_ERROR" || is_of_source(update));
  const last = (of) => of.at(-1);
  // What could not be opened is told without a number, and with the address.
  const concerns = (source) => (update) => update.source === source.index || (update.source === null && (sources.length === 1 || update.message.includes(source.name)));
  const why = (update) => {
    if (!update) return {};
    const reason = update.count > 1 ? `${update.message} (${t("tried", { count: update.count })})` : update.message;
    return { reason, advice: knows(`advice_${update.error}`) ? t(`advice_${update.error}`) : undefined };
  };

  const loading = updates.at(-1)?.type === "MODEL_LOADING" ? updates.at(-1) : undefined;
  if (loading) {
    const { bytes, total_bytes } = loading.payload;
    const mib = (value) => `${(number(value, 0) / 1048576).toFixed(1)} MiB`;
    const progress = number(bytes, 0) > 0 ? (number(total_bytes, 0) > 0 ? t("progress", { done: mib(bytes), total: mib(total_bytes) }) : mib(bytes)) : "";
    return made("busy", "model", { words: t("state_model_words", { stage: stage(loading.payload.stage), progress }) });
  }
  const bad = sources.filter((source) => !PLAYS.includes(source.state) && source.state !== "ENDED");
  const lost = bad.find((source) => errors.some(concerns(source))) ?? bad[0];
  const part = sources.length > 1 && bad.length > 0 ? t("state_part", { bad: bad.length, all: sources.length }) : undefined;
  if (lost) {
    const error = last(errors.filter(concerns(lost)));
    if (!error) return made("busy", "connecting", part ? { words: part } : {});
    return made("bad", "lost", { ...why(error), ...(part ? { words: part } : {}) });
  }
  if (sources.length > 0 && sources.every((source) => source.state === "ENDED")) {
    return made("idle", "ended", { ...why(last(errors)), advice: t("state_ended_advice") });
  }
  if (sources.some((source) => source.state === "MUTED" || source.state === "PAUSED")) return made("idle", "paused", { advice: t("state_paused_advice") });
  if (fps > 0) return made("good", "running");
  const failure = last(updates.filter((update) => update.type === "INFERENCE_ERROR" && !is_of_source(update)));
  if (failure) return made("bad", "failing", why(failure));
  if (silent >= SILENT_LOOKS) return made("bad", "silent", why(last(errors)));
  return made("busy", "waiting");
}
