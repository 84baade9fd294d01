//! `GET /models`, `GET /device` and a pipeline's history as JSON.

use crate::clock::{Wall, build_date};
use crate::command::{Device, History, LocalModel};
use crate::json::Writer;

/// Writes the member `history`.
pub(super) fn history(out: &mut Writer, history: &History) {
    out.key("history").begin_object();
    out.key("interval_s").integer(history.interval_s);
    out.key("frames_per_second").begin_array();
    history.frames_per_second.iter().for_each(|value| out.float(*value));
    out.end_array();
    out.key("latency_s").begin_array();
    for latency in &history.latency_s {
        out.float(latency.map_or(f64::NAN, |seconds| (seconds * 1e6).round() / 1e6));
    }
    out.end_array();
    out.end_object();
}

/// Writes the member `models`.
pub(super) fn models(out: &mut Writer, models: &[LocalModel]) {
    out.key("models").begin_array();
    for model in models {
        out.begin_object();
        out.key("model_id").string(&model.id);
        out.key("bytes").integer(model.bytes);
        out.end_object();
    }
    out.end_array();
}

/// Writes the member `device`.
pub(super) fn device(out: &mut Writer, device: &Device) {
    out.key("device").begin_object();
    out.key("version").string(env!("CARGO_PKG_VERSION"));
    out.key("arch").string(std::env::consts::ARCH);
    out.key("built").string(&build_date());
    out.key("time").plain(Wall::now().iso_local());
    out.key("inference_threads").integer(count(device.threads));
    out.key("memory_limit_bytes").integer(device.memory_limit_bytes);
    out.key("memory_reserved_bytes").integer(device.memory_reserved_bytes);
    out.key("resident_bytes");
    match resident_bytes() {
        Some(bytes) => out.integer(bytes as u64),
        None => out.null(),
    }
    out.key("max_pipelines").integer(count(device.max_pipelines));
    out.key("models").begin_array();
    for model in &device.models {
        out.begin_object();
        out.key("model_id").string(&model.id);
        out.key("family").string(model.family);
        out.key("engine").string(model.engine);
        out.key("input_width").integer(model.width);
        out.key("input_height").integer(model.height);
        out.key("classes").integer(count(model.classes));
        out.key("weights_bytes").integer(count(model.weights_bytes));
        out.key("arena_bytes").integer(count(model.arena_bytes));
        out.end_object();
    }
    out.end_array();
    out.key("pipelines").begin_array();
    for outline in &device.pipelines {
        out.begin_object();
        out.key("pipeline_id").plain(outline.id);
        out.key("model_id").string(&outline.model_id);
        out.key("is_declared").boolean(outline.is_declared);
        out.end_object();
    }
    out.end_array();
    out.key("check").begin_array();
    for (name, text) in &device.about {
        out.begin_object();
        out.key("name").string(name);
        out.key("text").string(text);
        out.end_object();
    }
    out.end_array();
    out.end_object();
}

fn count(number: usize) -> i128 {
    number as i128
}

/// Second field of `/proc/self/statm`, in pages.
pub(super) fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}
