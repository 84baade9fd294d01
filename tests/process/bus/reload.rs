//! `[mqtt]` while the service runs: SIGHUP takes another broker, none, and one again.

use super::init;
use crate::support::mosquitto::{Broker, Subscriber};
use crate::support::weir::signal;
use crate::support::{Folder, PATIENCE, Weir, wait_for};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Two sinks: a topic of its own, and one below the base topic.
const SINKS: &str = r#"[{"type": "mqtt_sink", "topic": "hall", "format": "compact"}, {"type": "mqtt_sink", "format": "compact"}]"#;

/// Reads messages until `is` agrees with topic and payload; frames of `hall` are put into `frames`.
fn until(subscriber: &Subscriber, frames: &mut BTreeSet<u64>, is: impl Fn(&str, &str, u64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (_, topic, payload) = subscriber.within(left).expect("a message in time");
        if topic == "hall" {
            let number =
                payload.split("\"frame\":").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
            frames.insert(number.expect("a frame"));
        }
        if is(&topic, &payload, frames.last().copied().unwrap_or(0)) {
            return;
        }
    }
}

#[test]
fn sighup_takes_another_broker_none_and_one_again_and_no_message_is_lost() {
    let (first, second) = (Broker::start(), Broker::start());
    let (old, new) = (first.subscribe(&["#"], &[]), second.subscribe(&["#"], &[]));
    let folder = Folder::new();
    let file = folder.path().join("weir.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let broker = |broker: &Broker, base: &str| {
        format!("[mqtt]\nhost = \"localhost\"\nport = {}\nbase_topic = \"{base}\"\n", broker.port)
    };
    write("");
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(&file);
    });
    let reread = |text: &str| {
        write(text);
        signal(weir.pid(), rustix::process::Signal::HUP);
    };
    // One where there was none.
    reread(&broker(&first, "a"));
    old.wait("a/status", |payload| payload == "online");
    let id = weir.init(&init(&weir, "long.mp4", SINKS, r#", "max_fps": 30"#));
    let mut frames = BTreeSet::new();
    let state = format!("a/pipelines/{id}/state");
    until(&old, &mut frames, |topic, payload, _| topic == state && payload.contains("running"));
    // Another one, and another place for what the service says of itself.
    reread(&broker(&second, "b"));
    until(&old, &mut frames, |topic, payload, _| topic == "a/status" && payload == "offline");
    let kept: Vec<_> = {
        let late = first.subscribe(&["#"], &[]);
        std::iter::from_fn(|| late.within(Duration::from_millis(300))).map(|(_, topic, _)| topic).collect()
    };
    assert_eq!(kept, ["a/status"], "what is told elsewhere is not kept here");
    let moved = format!("b/pipelines/{id}/detections");
    until(&new, &mut frames, |topic, _, _| topic == moved);
    // The same: nothing happens. What cannot be used: nothing either, but a word.
    reread(&broker(&second, "b"));
    wait_for("a word about it", || weir.log().contains("event=mqtt_unchanged").then_some(()));
    reread("[mqtt]\nhost = 5\n");
    wait_for("a word about it", || weir.log().contains("event=reload_failed").then_some(()));
    let before = frames.last().copied().unwrap_or(0);
    until(&new, &mut frames, |_, _, last| last > before + 10);
    assert!(!weir.log().contains("mqtt_down"), "{}", weir.log());
    assert_eq!(weir.log().matches("event=mqtt_up").count(), 2, "{}", weir.log());
    // None any more. Another section is not taken, and that is said.
    reread("[capture]\nbuffer_size = 5\n");
    until(&new, &mut frames, |topic, payload, _| topic == "b/status" && payload == "offline");
    assert!(weir.log().contains("event=restart_needed sections=capture "), "{}", weir.log());
    wait_for("messages to wait", || {
        let report = weir.report(&id);
        let says = |text: &str| report.at("sinks/0/error").text().is_some_and(|error| error.contains(text));
        let waiting = report.at("sinks/0/messages_waiting").number().unwrap_or(0.0);
        (says("mqtt.host") && waiting > 20.0).then_some(())
    });
    let refused = weir.ask(&init(&weir, "long.mp4", SINKS, ""));
    assert!(refused.to_string().contains("mqtt.host"), "{refused}");
    // And there it is again, with all that has waited.
    let before = frames.last().copied().unwrap_or(0);
    reread(&broker(&second, "b"));
    until(&new, &mut frames, |_, _, last| last > before + 40);
    let last = frames.last().copied().unwrap();
    assert_eq!(frames, (1..=last).collect::<BTreeSet<_>>(), "every frame, of either broker");
}
