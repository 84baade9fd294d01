//! [`Report`] → JSON: docs/roboflow.md §3, the same through both listeners.

use crate::command::init::masks;
use crate::command::{
    Event, Figures, LatencyReport, PacketLoss, PacketLosses, Report, SourceMetadata, SourceProperties,
    SourceReference, Update,
};
use crate::json::Writer;
use crate::sink::Queue;
use crate::sink::outbox::Link;

/// Writes the report object.
pub(super) fn write(json: &mut Writer, report: &Report) {
    json.begin_object();
    json.key("video_source_status_updates").begin_array();
    for entry in &report.updates {
        update(json, entry);
    }
    json.end_array();
    json.key("latency_reports").begin_array();
    for (source_id, entry) in (0u32..).zip(&report.latencies) {
        latency(json, source_id, entry);
    }
    json.end_array();
    json.key("inference_throughput").float(report.inference_throughput);
    json.key("sources_metadata").begin_array();
    for (source_id, entry) in (0u32..).zip(&report.sources) {
        metadata(json, source_id, entry);
    }
    json.end_array();
    losses(json, &report.figures);
    sinks(json, &report.figures.queues);
    json.end_object();
}

/// Beyond the reference, and only for sinks whose receiver may be away: UDP has none that could be asked.
fn sinks(json: &mut Writer, queues: &[Queue]) {
    if queues.is_empty() {
        return;
    }
    json.key("sinks").begin_array();
    for Queue { kind, link, figures } in queues {
        json.begin_object();
        json.key("type").plain(kind);
        json.key("state").plain(match link {
            Link::Idle => "idle",
            Link::Up => "up",
            Link::Down(_) => "down",
        });
        if let Link::Down(why) = link {
            json.key("error").string(why);
        }
        for (key, count) in [
            ("messages_delivered", figures.delivered),
            ("messages_waiting", figures.waiting),
            ("messages_dropped", figures.dropped),
            ("memory_bytes", figures.memory_bytes),
            ("disk_bytes", figures.disk_bytes),
        ] {
            json.key(key).integer(count);
        }
        json.end_object();
    }
    json.end_array();
}

/// Beyond the reference, and only when something was lost: a report without losses has the reference's keys
/// alone.
fn losses(json: &mut Writer, figures: &Figures) {
    let undecodable = figures.sources.iter().map(|source| source.frames_undecodable).sum();
    let losses = [
        ("detections_omitted", figures.omitted_detections),
        ("datagrams_failed", figures.datagrams_failed),
        ("frames_undecodable", undecodable),
    ];
    let mut packets = PacketLosses::default();
    figures.sources.iter().for_each(|source| packets.merge(&source.packets));
    let packets = PacketLoss::ALL.map(|cause| (cause.key(), packets.get(cause)));
    if losses.iter().chain(&packets).all(|(_, count)| *count == 0) {
        return;
    }
    json.key("losses").begin_object();
    for (key, count) in losses {
        json.key(key).integer(count);
    }
    // Only RTSP cameras have packets, and most causes are rare.
    for (key, count) in packets.into_iter().filter(|(_, count)| *count > 0) {
        json.key(key).integer(count);
    }
    json.end_object();
}

/// One entry of `video_source_status_updates`.
pub(super) fn update(json: &mut Writer, update: &Update) {
    json.begin_object();
    json.key("timestamp").plain(update.timestamp.iso_local());
    json.key("severity").integer(update.severity.number());
    json.key("event_type").plain(event_type(&update.event));
    json.key("payload").begin_object();
    payload(json, &update.event);
    if update.count > 1 {
        json.key("count").integer(update.count);
    }
    json.end_object();
    json.key("context").plain(update.context.as_str());
    json.end_object();
}

fn event_type(event: &Event) -> &'static str {
    match event {
        Event::ModelLoading { .. } => "MODEL_LOADING",
        Event::ModelEngine { .. } => "MODEL_ENGINE",
        Event::InferenceStarted => "INFERENCE_THREAD_STARTED",
        Event::InferenceFinished => "INFERENCE_THREAD_FINISHED",
        Event::ConsumptionStarted { .. } => "VIDEO_CONSUMPTION_STARTED",
        Event::ConsumptionFinished { .. } => "VIDEO_CONSUMPTION_FINISHED",
        Event::StateChanged { .. } => "SOURCE_STATE_UPDATE",
        Event::InferenceError { .. } => "INFERENCE_ERROR",
        Event::DispatchError { .. } => "INFERENCE_RESULTS_DISPATCHING_ERROR",
        Event::SourceNotice { .. } => "SOURCE_NOTICE",
        Event::SourceError { .. } => "SOURCE_ERROR",
    }
}

fn payload(json: &mut Writer, event: &Event) {
    let mut error = |error_type: &str, message: &str, context: &str| {
        json.key("error_type").string(error_type);
        json.key("error_message").string(message);
        json.key("error_context").plain(context);
    };
    match event {
        Event::ModelLoading { stage, bytes, total_bytes } => {
            json.key("stage").plain(stage);
            json.key("bytes").integer(*bytes);
            json.key("total_bytes");
            match total_bytes {
                Some(total) => json.integer(*total),
                None => json.null(),
            }
        }
        Event::ModelEngine { engine, gpu, percent, message } => {
            json.key("engine").plain(engine);
            json.key("gpu").plain(gpu);
            json.key("percent");
            match percent {
                Some(percent) => json.integer(u64::from(*percent)),
                None => json.null(),
            }
            json.key("message");
            match message {
                Some(message) => json.string(message),
                None => json.null(),
            }
        }
        Event::InferenceStarted | Event::InferenceFinished => {}
        Event::ConsumptionStarted { source_id } | Event::ConsumptionFinished { source_id } => {
            json.key("source_id").integer(*source_id);
        }
        Event::StateChanged { previous, new, source_id } => {
            json.key("previous_state").plain(previous.as_str());
            json.key("new_state").plain(new.as_str());
            json.key("source_id").integer(*source_id);
        }
        Event::InferenceError { error_type, message } => error(error_type, message, "inference_thread"),
        Event::DispatchError { error_type, message } => {
            error(error_type, message, "inference_results_dispatching")
        }
        Event::SourceNotice { source_id, message } => {
            json.key("source_id").integer(*source_id);
            json.key("message").string(message);
        }
        Event::SourceError { source_id, error_type, message } => {
            json.key("source_id").integer(*source_id);
            json.key("error_type").string(error_type);
            json.key("error_message").string(message);
            json.key("error_context").plain("stream_consumer_thread");
        }
    }
}

fn latency(json: &mut Writer, source_id: u32, latency: &LatencyReport) {
    json.begin_object();
    json.key("source_id").integer(source_id);
    for (key, seconds) in [
        ("frame_decoding_latency", latency.frame_decoding),
        ("inference_latency", latency.inference),
        ("e2e_latency", latency.end_to_end),
    ] {
        // NaN is written as null, which is what "not yet measured" looks like.
        json.key(key).float(seconds.unwrap_or(f64::NAN));
    }
    json.end_object();
}

fn metadata(json: &mut Writer, source_id: u32, source: &SourceMetadata) {
    json.begin_object();
    json.key("source_properties");
    match &source.properties {
        Some(found) => properties(json, found),
        None => json.null(),
    }
    json.key("source_reference");
    match &source.reference {
        SourceReference::Device(index) => json.integer(*index),
        text @ SourceReference::Text(_) => json.string(&text.redacted()),
    }
    json.key("buffer_size").integer(source.buffer_size);
    json.key("state").plain(source.state.as_str());
    for (key, word) in [
        ("buffer_filling_strategy", source.filling.map(|strategy| strategy.as_str())),
        ("buffer_consumption_strategy", source.consumption.map(|strategy| strategy.as_str())),
    ] {
        json.key(key);
        match word {
            Some(word) => json.plain(word),
            None => json.null(),
        }
    }
    json.key("source_id").integer(source_id);
    // Beyond the reference, and only where there are any.
    if !source.masks.is_empty() {
        json.key("privacy_masks").value(&masks::write(&source.masks));
    }
    json.end_object();
}

fn properties(json: &mut Writer, found: &SourceProperties) {
    json.begin_object();
    json.key("width").integer(found.width);
    json.key("height").integer(found.height);
    json.key("total_frames").integer(found.total_frames);
    json.key("is_file").boolean(found.is_file);
    json.key("fps").float(found.fps);
    json.key("is_reconnectable").null();
    json.key("timestamp_created");
    match found.timestamp_created {
        Some(stamp) => json.plain(stamp.iso_local()),
        None => json.null(),
    }
    json.end_object();
}
