//! What watches the service sees: figures, and while a model loads.

use crate::support::events::Events;
use crate::support::{Folder, Json, Weir, clip, http, process, request, roboflow, udp, wait_for};
use std::time::Duration;

/// The value of the sample whose line begins with `name`, all label sets added up.
fn sample(page: &str, name: &str) -> f64 {
    let values =
        page.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
    values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// An `init` of the toy model on a clip; `extra` holds further members, each with a comma before it.
fn init(weir: &Weir, video: &str, sink: (&str, u16), extra: &str) -> Json {
    request::init_to(&weir.toy(), &request::quoted(video), sink, extra)
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
    assert!(page.contains(&format!(
        "weir_source_inference_seconds_bucket{{pipeline=\"{id}\",source=\"0\",le=\"+Inf\"}} 60"
    )));
    let (latency, inference) = (
        sample(page, "weir_source_frame_latency_seconds_sum"),
        sample(page, "weir_source_inference_seconds_sum"),
    );
    assert!(0.0 < inference && inference <= latency && latency < 60.0 * 60.0, "{inference} {latency}");
    assert_eq!(weir.report(&id).get("losses"), &Json::Null, "nothing was lost");
    let open = http::request(
        weir.http,
        "GET",
        "/metrics",
        &[("accept", "application/openmetrics-text; version=1.0.0")],
        b"",
    );
    assert!(
        open.header("content-type").is_some_and(|value| value.starts_with("application/openmetrics-text")),
        "{open:?}"
    );
    assert!(
        open.body.contains("# TYPE weir_source_frames counter\n") && open.body.ends_with("\n# EOF\n"),
        "{}",
        open.body
    );
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
    let early = sample(&page, "weir_source_frames_early_total")
        + sample(&page, "weir_source_frames_superseded_total");
    assert!(early >= 5.0, "at 30 frames a second and 5 of them wanted: {page}");
    let (frames, sent) =
        (sample(&page, "weir_source_frames_total"), sample(&page, "weir_pipeline_datagrams_total"));
    // One may wait and one be under way.
    assert!((0.0..=2.0).contains(&(frames - sent - early)), "{frames} = {sent} + {early}: {page}");
    assert!(frames >= last.at("inference_metadata/frame_id").number().unwrap() - 1.0, "{page}");
    weir.order("terminate", &id);
    assert_eq!(sample(&weir.get("/metrics").body, "weir_source_frames_total"), 0.0, "gone with its pipeline");
}

#[test]
fn listeners_get_what_status_and_datagrams_say() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let id = weir.init(&init(&weir, &format!("file://{}", clip("long.mp4")), ("127.0.0.1", sink.port()), ""));
    let (mut one, mut other) =
        (Events::listen(weir.http, &id).unwrap(), Events::listen(weir.http, &id).unwrap());
    // The same bytes as the datagram of the same frame, for each who listens.
    let heard = one.named("detections").data;
    let frame = Json::parse(&heard).at("inference_metadata/frame_id").number();
    assert_eq!(wait_for("the datagram", || Some(sink.text()).filter(|text| *text == heard)), heard);
    while other.named("detections").json().at("inference_metadata/frame_id").number() < frame {}
    weir.order("mute", &id);
    let update = one.named("update").json();
    assert_eq!(update.at("payload/new_state").text(), Some("MUTED"), "{update}");
    let report = weir.report(&id);
    assert!(
        report.get("video_source_status_updates").items().contains(&update),
        "{update} is not in {report}"
    );
    weir.order("terminate", &id);
    for events in [&mut one, &mut other] {
        assert_eq!(events.named("end").data, r#"{"reason": "terminated"}"#);
        assert!(events.next().is_none(), "nothing after the end");
    }
    assert_eq!(Events::listen(weir.http, &id).err().map(|refusal| refusal.status), Some(404));
    assert_eq!(Events::listen(weir.http, "no-id").err().map(|refusal| refusal.status), Some(404));
}

#[test]
fn a_stop_of_the_service_ends_the_events_at_once() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let id = weir.init(&init(&weir, &format!("file://{}", clip("long.mp4")), ("127.0.0.1", sink.port()), ""));
    let mut events = Events::listen(weir.http, &id).unwrap();
    let _silent = Events::ask(weir.http, &id);
    events.named("detections");
    let (status, took) = weir.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(4), "the drain took {took:?}");
    assert_eq!(events.named("end").data, r#"{"reason": "terminated"}"#);
}

/// Resident memory of a process that runs, KiB.
fn resident_kib(pid: u32) -> u64 {
    process::bytes(pid, "status", "VmRSS:").expect("the service runs") >> 10
}

/// 500 clients that ask for events and read nothing: the places go to as many as there are, nobody else is
/// kept from the service, and nothing piles up.
#[test]
fn a_crowd_that_does_not_read_costs_little_and_loses_its_places() {
    let folder = Folder::new();
    let configuration = folder.path().join("weir.toml");
    std::fs::write(&configuration, "[limits]\nconnections = 600\n").unwrap();
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(&configuration);
    });
    let sink = udp::Receiver::new();
    // All boxes of all scores: the datagrams are as large as they get.
    let video = format!("file://{}", clip("long.mp4"));
    let mut request = init(&weir, &video, ("127.0.0.1", sink.port()), "").to_string();
    request = request
        .replace(r#""object-detection""#, r#""object-detection", "confidence": 0, "iou_threshold": 1"#);
    let id = weir.init(&Json::parse(&request));
    sink.next();
    let before = resident_kib(weir.pid());
    // A login shell has 1024 descriptors, which all tests of this process share.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let crowd: Vec<Events> = (0..500).map(|_| Events::ask(weir.http, &id)).collect();
    let refusal = wait_for("a full house", || Events::listen(weir.http, &id).err());
    assert_eq!(refusal.status, 503);
    assert_eq!(weir.list(), std::slice::from_ref(&id));
    // Those who got a place lose it, and somebody who reads gets one.
    let mut reader = wait_for("a free place", || Events::listen(weir.http, &id).ok());
    (0..3).for_each(|_| drop(reader.named("detections")));
    let grown = resident_kib(weir.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "grew by {grown} KiB");
    let slow = crowd.into_iter().find_map(|events| {
        let mut events = events.begin().ok()?;
        let mut last = None;
        while let Some(event) = events.next() {
            last = Some(event);
        }
        last.filter(|event| event.name == "end")
    });
    assert_eq!(slow.map(|event| event.data).as_deref(), Some(r#"{"reason": "too_slow"}"#));
    assert_eq!(weir.list(), [id]);
}

#[test]
fn one_stream_has_the_events_of_several_pipelines_until_the_last_has_ended() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let start =
        || weir.init(&init(&weir, &format!("file://{}", clip("long.mp4")), ("127.0.0.1", sink.port()), ""));
    let (one, other) = (start(), start());
    let mut events = Events::listen_to(weir.http, &[&one, &other]);
    // What one pipeline's own stream carries stands under the event's name.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let event = events.named("detections").json();
        assert_eq!(event.keys(), ["pipeline_id", "detections"]);
        assert_eq!(event.get("detections").keys(), ["image", "predictions", "inference_metadata"]);
        seen.insert(event.get("pipeline_id").text().unwrap().to_owned());
    }
    assert!(seen.contains(&one) && seen.contains(&other), "{seen:?}");
    assert_eq!(weir.post(&format!("/pause/{one}"), "").status, 200);
    let update = events.named("update").json();
    assert_eq!(update.get("pipeline_id").text(), Some(one.as_str()));
    assert_eq!(update.at("update/event_type").text(), Some("SOURCE_STATE_UPDATE"));
    for id in [&one, &other] {
        assert_eq!(weir.post(&format!("/terminate/{id}"), "").status, 200);
        let end = events.named("end").data;
        assert_eq!(end, format!(r#"{{"pipeline_id": "{id}", "reason": "terminated"}}"#));
    }
    assert!(events.next().is_none());
}

#[test]
fn the_machine_and_its_models_are_told() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let models = Json::parse(&weir.get("/models").body);
    let named: Vec<_> = models
        .get("models")
        .items()
        .iter()
        .map(|model| model.get("model_id").text().unwrap().to_owned())
        .collect();
    assert_eq!(named, [weir.toy()]);
    let idle = Json::parse(&weir.get("/device").body);
    assert_eq!(idle.at("device/memory_reserved_bytes").number(), Some(0.0));
    assert!(
        idle.at("device/check").items().iter().any(|fact| fact.get("name").text() == Some("machine")),
        "{idle}"
    );
    // What is listed can be named.
    let toy = &named[0];
    let request = request::init_to(
        toy,
        &request::quoted(&format!("file://{}", clip("long.mp4"))),
        ("127.0.0.1", sink.port()),
        "",
    );
    let id = weir.init(&request);
    sink.next();
    let busy = Json::parse(&weir.get("/device").body);
    let (reserved, limit) =
        (busy.at("device/memory_reserved_bytes").number(), busy.at("device/memory_limit_bytes").number());
    assert!(reserved > Some(0.0) && reserved < limit, "{busy}");
    assert_eq!(busy.at("device/models/0/classes").number(), Some(3.0), "{busy}");
    let outline = busy.at("device/pipelines/0").clone();
    assert_eq!(
        (outline.get("pipeline_id").text(), outline.get("model_id").text()),
        (Some(id.as_str()), Some(toy.as_str()))
    );
}

#[test]
fn status_of_a_loading_pipeline_says_how_far_it_is() {
    let registry = roboflow::Server::start();
    let weir = Weir::with_registry(&registry);
    let sink = udp::Receiver::new();
    let request = init(
        &weir,
        &clip("long.mp4"),
        ("127.0.0.1", sink.port()),
        &format!(r#", "api_key": "{}""#, roboflow::GOOD_KEY),
    );
    let request = Json::parse(&request.to_string().replace(&weir.toy(), "slow/1"));
    std::thread::scope(|scope| {
        let init = scope.spawn(|| weir.init(&request));
        let id = wait_for("the id in the list", || weir.list().pop());
        let mut events = Events::listen(weir.http, &id).unwrap();
        let total = std::fs::metadata(crate::support::media().join("toy.onnx")).unwrap().len() as f64;
        let update = wait_for("half the weights", || {
            let report = weir.report(&id);
            let update = report.get("video_source_status_updates").items().last()?.clone();
            (update.at("payload/bytes").number() == Some((total / 2.0).floor())).then_some(update)
        });
        assert_eq!(update.get("event_type").text(), Some("MODEL_LOADING"));
        assert_eq!(update.at("payload/stage").text(), Some("downloading"));
        assert_eq!(update.at("payload/total_bytes").number(), Some(total));
        assert_eq!(weir.report(&id).at("sources_metadata/0/state").text(), Some("NOT_STARTED"));
        registry.go_on();
        assert_eq!(init.join().unwrap(), id, "the id that was listed all along");
        let mut stages = Vec::new();
        while let Some(event) = events.next() {
            match event.json().get("event_type").text() {
                Some("MODEL_LOADING") => {
                    stages.push(event.json().at("payload/stage").text().unwrap().to_owned())
                }
                _ => break,
            }
        }
        // A stage that was over before the loop looked again is passed over; the last one never is.
        assert_eq!(stages.last().map(String::as_str), Some("validating"), "{stages:?}");
        assert!(!weir.report(&id).to_string().contains("MODEL_LOADING"), "what is over is not in the report");
    });
}
