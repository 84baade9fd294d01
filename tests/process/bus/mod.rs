//! Detections on the bus: several sinks, and Debian's Mosquitto at the other end of the MQTT sink.

mod reload;
mod rogue;
mod soak;
mod store;
mod trust;
mod web;

use crate::support::mosquitto::Broker;
use crate::support::{Folder, Json, Weir, clip, request, udp};
use std::process::Command;

/// An `init` of the toy model on a clip, with these sinks (JSON).
fn init(weir: &Weir, video: &str, sinks: &str, extra: &str) -> Json {
    let video = request::quoted(&clip(video));
    Json::parse(&format!(
        r#"{{"type": "init", "model_id": "{}", "video_reference": {video}, "sink_configuration": {sinks},
            "model_configuration": {{"type": "object-detection"}}{extra}}}"#,
        weir.toy()
    ))
}

/// A service with this broker; `more` are further lines of `[mqtt]`.
fn serve(broker: &Broker, more: &str) -> Weir {
    serve_with(broker, more, |_| {})
}

/// The same, with changes to the command.
fn serve_with(broker: &Broker, more: &str, change: impl FnOnce(&mut Command)) -> Weir {
    let folder = Folder::new();
    let file = folder.path().join("weir.toml");
    // The certificates of the tests are for this name.
    let text = format!("[mqtt]\nhost = \"localhost\"\nport = {}\nbase_topic = \"t\"\n{more}", broker.port);
    std::fs::write(&file, text).unwrap();
    Weir::start_with(|command| {
        command.arg("--config").arg(&file);
        change(command);
    })
}

#[test]
fn every_sink_of_a_pipeline_gets_every_frame_and_the_broker_as_the_socket() {
    let broker = Broker::start();
    let weir = serve(&broker, "");
    let subscriber = broker.subscribe(&["hall/gate", "short", "t/#"], &[]);
    let sockets = [udp::Receiver::new(), udp::Receiver::new()];
    let [first, second] = sockets
        .each_ref()
        .map(|socket| format!(r#"{{"type": "udp_sink", "host": "127.0.0.1", "port": {}}}"#, socket.port()));
    let topic = r#"{"type": "mqtt_sink", "topic": "hall/gate", "qos": 1}"#;
    let sinks =
        format!(r#"[{first}, {topic}, {second}, {{"type": "mqtt_sink", "qos": 0, "format": "compact"}}]"#);
    let id = weir.init(&init(&weir, "short.mp4", &sinks, ""));
    let datagrams: Vec<String> = (0..60).map(|_| sockets[0].text()).collect();
    (0..60).for_each(|index| assert_eq!(sockets[1].text(), datagrams[index]));
    let (mut whole, mut compact) = (Vec::new(), Vec::new());
    while whole.len() < 60 || compact.len() < 60 {
        let (topic, payload) = subscriber.next();
        match topic.as_str() {
            "hall/gate" => whole.push(payload),
            topic if topic == format!("t/pipelines/{id}/detections") => compact.push(Json::parse(&payload)),
            _ => {}
        }
    }
    assert_eq!(whole, datagrams);
    for (index, frame) in compact.iter().enumerate() {
        let datagram = Json::parse(&datagrams[index]);
        assert_eq!(frame.get("frame"), datagram.at("inference_metadata/frame_id"));
        assert_eq!(frame.get("objects").items().len(), datagram.get("predictions").items().len());
    }
    weir.wait_state(&id, "ENDED");
}

#[test]
fn the_broker_knows_who_is_there_and_may_steer_only_where_that_is_allowed() {
    let broker = Broker::start();
    let everything = broker.subscribe(&["#"], &[]);
    let weir = serve(&broker, "commands = true");
    everything.wait("t/status", |payload| payload == "online");
    let socket = udp::Receiver::new();
    let sink = format!(r#"{{"type": "udp_sink", "host": "127.0.0.1", "port": {}}}"#, socket.port());
    let id = weir.init(&init(&weir, "long.mp4", &sink, r#", "max_fps": 20"#));
    let (state, set) = (format!("t/pipelines/{id}/state"), format!("t/pipelines/{id}/set"));
    let is =
        |state: &'static str| move |payload: &str| Json::parse(payload).get("state").text() == Some(state);
    everything.wait(&state, is("running"));
    // A retained command would come again with every connection, and other words are none.
    broker.publish(&set, "pause", &["-r"]);
    broker.publish(&set, "explode", &[]);
    broker.publish("t/pipelines/no-id/set", "pause", &[]);
    broker.publish(&set, "pause", &[]);
    everything.wait(&state, is("paused"));
    assert_eq!(weir.report(&id).at("sources_metadata/0/state").text(), Some("MUTED"));
    broker.publish(&set, "resume", &[]);
    everything.wait(&state, is("running"));
    weir.order("terminate", &id);
    everything.wait(&state, str::is_empty);
    // What is retained is there for who comes later.
    let late = broker.subscribe(&["t/status"], &[]);
    assert_eq!(late.next().1, "online");
    weir.stop();
    late.wait("t/status", |payload| payload == "offline");
}

#[test]
fn without_leave_nobody_steers_and_whoever_dies_is_offline() {
    let broker = Broker::start();
    let everything = broker.subscribe(&["#"], &[]);
    let weir = serve(&broker, "");
    everything.wait("t/status", |payload| payload == "online");
    assert!(!broker.log().contains("/set"), "nothing is subscribed to");
    // Killed: the broker publishes the last will.
    drop(weir);
    everything.wait("t/status", |payload| payload == "offline");
}

#[test]
fn home_assistant_is_told_of_each_pipeline_and_forgets_it_with_the_pipeline() {
    let broker = Broker::start();
    let weir =
        serve(&broker, "discovery_prefix = \"homeassistant\"\nhttp_url = \"http://192.168.0.7:8080/\"");
    let socket = udp::Receiver::new();
    let sink = format!(r#"{{"type": "udp_sink", "host": "127.0.0.1", "port": {}}}"#, socket.port());
    let id = weir.init(&init(&weir, "long.mp4", &sink, r#", "max_fps": 20"#));
    let config = format!("homeassistant/device/weir_{}/config", id.replace('-', ""));
    // It comes late, as Home Assistant does after a restart: all of it is retained.
    socket.next();
    let everything = broker.subscribe(&["homeassistant/#", "t/#"], &[]);
    let message = Json::parse(&everything.wait(&config, |payload| !payload.is_empty()));
    assert_eq!(message.get("availability_topic").text(), Some("t/status"));
    let components = message.get("components");
    let expected = ["state", "running", "fps", "class_0", "class_1", "class_2", "picture"];
    assert_eq!(components.keys(), expected);
    assert_eq!(components.at("class_1/name").text(), Some("green"));
    // Every topic that it names is there.
    let state = everything.wait(message.get("state_topic").text().unwrap(), |_| true);
    assert_eq!(Json::parse(&state).get("objects").items().len(), 3);
    let picture = everything.wait(components.at("picture/url_topic").text().unwrap(), |_| true);
    assert!(
        picture.starts_with(&format!("http://192.168.0.7:8080/pipelines/{id}/snapshot.jpg?")),
        "{picture}"
    );
    weir.order("terminate", &id);
    everything.wait(&config, str::is_empty);
}

#[test]
fn a_sink_that_cannot_work_is_refused_with_the_reason() {
    let broker = Broker::start();
    let (with, without) = (serve(&broker, ""), Weir::start());
    for (weir, sink, why) in [
        (&without, r#"{"type": "mqtt_sink"}"#, "mqtt.host"),
        (&with, r#"{"type": "mqtt_sink", "topic": "a/+"}"#, "wildcard"),
        (&with, r#"{"type": "mqtt_sink", "topic": "a\u202eb"}"#, "cannot be seen"),
        (&with, r#"{"type": "mqtt_sink", "topic": "t/pipelines/x/set"}"#, "tells of itself"),
        (&with, r#"{"type": "mqtt_sink", "topic": "t"}"#, "tells of itself"),
        (&with, r#"{"type": "mqtt_sink", "topic": "$SYS/a"}"#, "begins with $"),
        (&with, r#"{"type": "mqtt_sink", "qos": 2}"#, "sink qos must be"),
        (&with, r#"{"type": "mqtt_sink", "format": "xml"}"#, "not a valid Format"),
        (&with, "[]", "names no sink"),
    ] {
        let reply = weir.ask(&init(weir, "short.mp4", sink, ""));
        assert_eq!(reply.at("response/status").text(), Some("failure"), "{sink}: {reply}");
        assert!(reply.to_string().contains(why), "{sink}: {reply}");
        let body = init(weir, "short.mp4", sink, "").to_string();
        let reply = weir.post("/initialise", &body);
        assert!(reply.status >= 400 && reply.body.contains(why), "{sink}: {reply:?}");
    }
    assert!(with.list().is_empty());
}

#[test]
fn what_a_killed_service_left_at_the_broker_is_cleared_by_the_next_one() {
    let broker = Broker::start();
    let left = "11111111-2222-4333-8444-555555555555";
    let state = format!("t/pipelines/{left}/state");
    let config = format!("homeassistant/device/weir_{}/config", left.replace('-', ""));
    broker.publish(&state, "{}", &["-r"]);
    broker.publish(&config, "{}", &["-r"]);
    broker.publish("t/pipelines/no-id/state", "{}", &["-r"]);
    let everything = broker.subscribe(&["#"], &[]);
    let _weir = serve(&broker, "discovery_prefix = \"homeassistant\"");
    everything.wait(&state, str::is_empty);
    // They are told in the order of the alphabet: both are gone.
    let late = broker.subscribe(&["homeassistant/#", "t/#"], &[]);
    let kept: Vec<String> = std::iter::from_fn(|| late.within(std::time::Duration::from_secs(1)))
        .map(|(_, topic, _)| topic)
        .collect();
    assert!(!kept.contains(&state) && !kept.contains(&config), "{kept:?}");
}
