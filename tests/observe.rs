//! What watches the service sees: figures, and while a model loads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod support;

use support::{Json, Weir, clip, http, udp, wait_for};

/// The value of the sample whose line begins with `name`, all label sets added up.
fn sample(page: &str, name: &str) -> f64 {
    let values = page.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
    values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// An `init` of the toy model on a clip; `extra` holds further members, each with a comma before it.
fn init(weir: &Weir, video: &str, sink: (&str, u16), extra: &str) -> Json {
    let (host, port) = sink;
    Json::parse(&format!(
        r#"{{"type": "init", "model_id": "{}", "video_reference": {},
            "sink_configuration": {{"type": "udp_sink", "host": "{host}", "port": {port}}},
            "model_configuration": {{"type": "object-detection"}}{extra}}}"#,
        weir.toy(),
        Json::from(video)
    ))
}

#[test]
fn every_frame_is_in_the_histograms_and_counters() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let id = weir.init(&init(&weir, &clip("short.mp4"), ("127.0.0.1", sink.port()), ""));
    (0..60).for_each(|_| drop(sink.next()));
    weir.wait_state(&id, "ENDED");
    let response = weir.get("/metrics");
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = &response.body;
    for name in [
        "weir_source_frames_total",
        "weir_pipeline_datagrams_total",
        "weir_source_frame_latency_seconds_count",
        "weir_source_inference_seconds_count",
    ] {
        assert_eq!(sample(page, name), 60.0, "{name}\n{page}");
    }
    assert_eq!(sample(page, "weir_source_workers_started_total"), 1.0, "{page}");
    assert_eq!(sample(page, "weir_pipeline_datagrams_failed_total"), 0.0, "{page}");
    assert!(page.contains(&format!("weir_source_inference_seconds_bucket{{pipeline=\"{id}\",source=\"0\",le=\"+Inf\"}} 60")));
    let (latency, inference) =
        (sample(page, "weir_source_frame_latency_seconds_sum"), sample(page, "weir_source_inference_seconds_sum"));
    assert!(0.0 < inference && inference <= latency && latency < 60.0 * 60.0, "{inference} {latency}");
    assert_eq!(weir.report(&id).get("losses"), &Json::Null, "nothing was lost");
    let open = http::request(weir.http, "GET", "/metrics", &[("accept", "application/openmetrics-text; version=1.0.0")], b"");
    assert!(open.header("content-type").is_some_and(|value| value.starts_with("application/openmetrics-text")), "{open:?}");
    assert!(open.body.contains("# TYPE weir_source_frames counter\n") && open.body.ends_with("\n# EOF\n"), "{}", open.body);
    assert!(open.body.contains("le=\"1.0\""), "{}", open.body);
}

#[test]
fn what_is_lost_is_in_status_and_metrics() {
    let weir = Weir::start();
    // A name nobody has: each datagram fails.
    let id = weir.init(&init(&weir, &clip("short.mp4"), ("no-such-host.invalid", 9), ""));
    weir.wait_state(&id, "ENDED");
    let losses = wait_for("60 lost datagrams", || {
        let report = weir.report(&id);
        (report.at("losses/datagrams_failed").number() == Some(60.0)).then(|| report.get("losses").clone())
    });
    assert_eq!(losses.keys(), ["detections_omitted", "datagrams_failed", "frames_undecodable"]);
    let page = weir.get("/metrics").body;
    assert_eq!(sample(&page, "weir_pipeline_datagrams_failed_total"), 60.0, "{page}");
    assert_eq!(sample(&page, "weir_source_frame_latency_seconds_count"), 0.0, "{page}");
    assert_eq!(sample(&page, "weir_source_inference_seconds_count"), 60.0, "{page}");
}

/// Streams take the newest frame; what they passed over is counted somewhere, and nothing twice.
#[test]
fn frames_of_a_stream_are_processed_or_counted_as_lost() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let video = format!("file://{}", clip("long.mp4"));
    let id = weir.init(&init(&weir, &video, ("127.0.0.1", sink.port()), r#", "max_fps": 5"#));
    (0..5).for_each(|_| drop(sink.next()));
    let last = sink.next();
    let page = weir.get("/metrics").body;
    let early = sample(&page, "weir_source_frames_early_total") + sample(&page, "weir_source_frames_superseded_total");
    assert!(early >= 5.0, "at 30 frames a second and 5 of them wanted: {page}");
    let (frames, sent) = (sample(&page, "weir_source_frames_total"), sample(&page, "weir_pipeline_datagrams_total"));
    // One may wait and one be under way.
    assert!((0.0..=2.0).contains(&(frames - sent - early)), "{frames} = {sent} + {early}: {page}");
    assert!(frames >= last.at("inference_metadata/frame_id").number().unwrap() - 1.0, "{page}");
    weir.order("terminate", &id);
    assert_eq!(sample(&weir.get("/metrics").body, "weir_source_frames_total"), 0.0, "gone with its pipeline");
}
