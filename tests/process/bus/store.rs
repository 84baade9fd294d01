//! Store and forward: a broker that is killed and restarted in the middle, and a service that is.

use super::{init, serve_with};
use crate::support::mosquitto::{Broker, Subscriber};
use crate::support::weir::signal;
use crate::support::{Folder, Json, Weir, wait_for};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A broker that remembers who has subscribed when it is killed.
const DURABLE: &str = "allow_anonymous true\nuser root\npersistence_location {folder}/\nautosave_interval 1\nautosave_on_changes true\n";

/// `qos` 1, on a topic that outlives the pipeline.
const SINK: &str = r#"{"type": "mqtt_sink", "topic": "hall/gate", "format": "compact"}"#;

/// Frames of short.mp4.
const FRAMES: u64 = 60;

/// A broker that can be killed, and a subscriber that misses nothing then.
pub(super) fn durable(topic: &str) -> (Broker, Subscriber) {
    let broker = Broker::persistent(DURABLE);
    let subscriber = broker.subscribe(&[topic], &["-c", "-i", "listener"]);
    // Its subscription is on the disk before anybody is killed.
    let database = broker.folder.path().join("mosquitto.db");
    let is_known = || {
        let bytes = std::fs::read(&database).unwrap_or_default();
        bytes.windows(topic.len()).any(|part| part == topic.as_bytes()).then_some(())
    };
    wait_for("the broker to write down its subscribers", is_known);
    (broker, subscriber)
}

/// Reads frames until `last` has come: their numbers in the order in which each came first, and how many came
/// twice.
fn frames_until(subscriber: &Subscriber, last: u64) -> (Vec<u64>, usize) {
    let (mut seen, mut order, mut twice) = (BTreeSet::new(), Vec::new(), 0);
    while !seen.contains(&last) {
        let (_, payload) = subscriber.next();
        let frame = Json::parse(&payload).get("frame").number().expect("a frame") as u64;
        if seen.insert(frame) {
            order.push(frame);
        } else {
            twice += 1;
        }
    }
    (order, twice)
}

fn sink(weir: &Weir, id: &str, key: &str) -> f64 {
    weir.report(id).at(&format!("sinks/0/{key}")).number().unwrap_or(-1.0)
}

#[test]
fn a_broker_that_is_killed_in_the_middle_loses_nothing() {
    let (mut broker, subscriber) = durable("hall/gate");
    let weir = serve_with(&broker, "", |_| {});
    let id = weir.init(&init(&weir, "short.mp4", SINK, r#", "max_fps": 30"#));
    let (mut order, mut twice) = frames_until(&subscriber, 10);
    broker.kill();
    weir.wait_state(&id, "ENDED");
    wait_for("the broker to be missed", || {
        let report = weir.report(&id);
        (report.at("sinks/0/state").text() == Some("down")).then_some(())
    });
    assert!(sink(&weir, &id, "messages_waiting") > 10.0, "{}", weir.report(&id));
    broker.restart();
    let start = Instant::now();
    let (rest, again) = frames_until(&subscriber, FRAMES);
    order.extend(rest.iter().filter(|frame| !order.contains(frame)).copied().collect::<Vec<_>>());
    twice += again;
    assert_eq!(order, (1..=FRAMES).collect::<Vec<_>>(), "all, and in order");
    // What was under way when the broker died may come twice: QoS 1.
    assert!(twice <= 64, "{twice}");
    // Attempts come every 4 s, subscribers of their own every second.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    wait_for("every message to be confirmed", || {
        (sink(&weir, &id, "messages_waiting") == 0.0
            && sink(&weir, &id, "messages_delivered") == FRAMES as f64)
            .then_some(())
    });
    assert_eq!(sink(&weir, &id, "messages_dropped"), 0.0);
    let page = weir.get("/metrics").body;
    let delivered = format!(
        "weir_sink_messages_delivered_total{{pipeline=\"{id}\",sink=\"0\",type=\"mqtt_sink\"}} {FRAMES}"
    );
    assert!(page.contains(&delivered), "{page}");
}

#[test]
fn what_waits_survives_the_service_whether_it_is_stopped_or_killed() {
    for by_force in [false, true] {
        // A broker of its own: Mosquitto 2.0.11 forgets some of what it has for a subscriber when it is
        // killed a second time.
        let (mut broker, subscriber) = durable("hall/gate");
        broker.kill();
        let state = Folder::new();
        let serve = || {
            serve_with(&broker, "", |command| {
                command.env("STATE_DIRECTORY", state.path());
            })
        };
        let weir = serve();
        let id = weir.init(&init(&weir, "short.mp4", SINK, r#", "max_fps": 60"#));
        weir.wait_state(&id, "ENDED");
        // The source has ended; its last frames are in inference yet.
        wait_for("the last detections", || {
            (sink(&weir, &id, "messages_waiting") == FRAMES as f64).then_some(())
        });
        if by_force {
            // Only what no batch has written yet may be lost: here that is nothing.
            let last = format!("\"frame\":{FRAMES},");
            let is_written = |file: std::io::Result<std::fs::DirEntry>| {
                let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
                bytes.windows(last.len()).any(|part| part == last.as_bytes())
            };
            let outbox = state.path().join("outbox/mqtt");
            wait_for("the last message on the disk", || {
                std::fs::read_dir(&outbox).unwrap().any(is_written).then_some(())
            });
        }
        weir.order("terminate", &id);
        if by_force {
            signal(weir.pid(), rustix::process::Signal::KILL);
            drop(weir);
        } else {
            weir.stop();
        }
        let weir = serve();
        broker.restart();
        let (order, _) = frames_until(&subscriber, FRAMES);
        assert_eq!(order, (1..=FRAMES).collect::<Vec<_>>(), "by force: {by_force}");
        drop(weir);
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_the_service_starts() {
    let broker = Broker::start();
    let state = Folder::new();
    let outbox = state.path().join("outbox/mqtt");
    std::fs::create_dir_all(&outbox).unwrap();
    std::fs::write(
        outbox.join("0000000000000001.segment"),
        "weirbox1 and then nothing of sense, for quite some bytes",
    )
    .unwrap();
    std::fs::write(outbox.join("position"), "no number").unwrap();
    let subscriber = broker.subscribe(&["hall/gate"], &[]);
    let weir = serve_with(&broker, "", |command| {
        command.env("STATE_DIRECTORY", state.path());
    });
    weir.init(&init(&weir, "short.mp4", SINK, ""));
    let (order, _) = frames_until(&subscriber, FRAMES);
    assert_eq!(order.len() as u64, FRAMES);
    wait_for("the damaged file to be set aside", || outbox.join("damaged").exists().then_some(()));
}
