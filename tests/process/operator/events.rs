//! The log tells what a pipeline goes through.

use crate::support::{Weir, clip, request, rtsp, udp, wait_for};

/// The lines about a pipeline.
fn lines(weir: &Weir, pipeline: &str) -> Vec<String> {
    let log = weir.log();
    let is_about = |line: &&str| line.contains(&format!("pipeline={pipeline} ")) && !line.contains(" audit ");
    log.lines().filter(is_about).map(str::to_owned).collect()
}

/// Waits until the events of a pipeline are in the log, in this order (others may stand between).
#[track_caller]
fn wait_events(weir: &Weir, pipeline: &str, events: &[&str]) {
    wait_for(&format!("{events:?}"), || {
        let lines = lines(weir, pipeline);
        let mut left = lines.iter();
        events.iter().all(|event| left.any(|line| line.split(' ').any(|word| word == *event))).then_some(())
    });
}

#[test]
fn a_pipeline_s_life_is_told_with_pipeline_and_source() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let video = request::quoted(&format!("file://{}", clip("long.mp4")));
    let id = weir.init(&request::init(&weir.toy(), &video, sink.port(), ""));
    sink.next();
    weir.order("mute", &id);
    weir.order("resume", &id);
    weir.order("terminate", &id);
    let story = [
        "event=started",
        "event=source_opened",
        "event=frames_started",
        "event=first_detections_sent",
        "event=muted",
        "event=resumed",
        "event=terminating",
        "event=ended",
    ];
    wait_events(&weir, &id, &story);
    for line in lines(&weir, &id) {
        let of_source = ["source_opened", "frames_started", "first_detections", "muted", "resumed"];
        let expected = of_source.iter().any(|event| line.contains(event));
        assert_eq!(line.contains(" source=0 "), expected, "{line}");
        assert!(line.contains(" info "), "{line}");
    }
}

#[test]
fn a_camera_that_goes_and_comes_back_is_told_of_and_never_floods_the_log() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let mut camera = rtsp::Camera::start("short.mp4", &[]);
    let video = request::quoted(&camera.url_with("viewer:hunter2"));
    let id = weir.init(&request::init(&weir.toy(), &video, sink.port(), ""));
    sink.next();
    camera.kill();
    wait_events(&weir, &id, &["event=frames_started", "event=source_lost", "event=source_unreachable"]);
    camera.restart();
    wait_events(&weir, &id, &["event=source_lost", "event=source_returned", "event=frames_started"]);
    let log = weir.log();
    assert!(!log.contains("hunter2"), "{log}");
    // A burst, and what a minute lets through.
    assert!(lines(&weir, &id).len() <= 16 + 8, "{log}");
}

#[test]
fn a_sink_that_cannot_be_found_or_does_not_listen_is_told_of_once() {
    let weir = Weir::start();
    let video = request::quoted(&clip("short.mp4"));
    let lost = weir.init(&request::init_to(&weir.toy(), &video, ("no-such-host.invalid", 9), ""));
    weir.wait_state(&lost, "ENDED");
    wait_events(&weir, &lost, &["event=sink_failed"]);
    let port = udp::Receiver::new().port();
    let refused = weir.init(&request::init(&weir.toy(), &video, port, ""));
    weir.wait_state(&refused, "ENDED");
    wait_events(&weir, &refused, &["event=first_detections_sent", "event=sink_refused"]);
    for (id, event) in [(&lost, "sink_failed"), (&refused, "sink_refused")] {
        assert_eq!(lines(&weir, id).iter().filter(|line| line.contains(event)).count(), 1, "{}", weir.log());
    }
    let page = weir.get("/metrics").body;
    let line = page.lines().find(|line| {
        line.starts_with(&format!("weir_pipeline_datagrams_refused_total{{pipeline=\"{refused}\""))
    });
    let count: f64 = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap();
    assert!(count >= 1.0, "{page}");
}
