//! Four cameras over a broker that is killed and restarted in the middle. `WEIR_BUS_SOAK_S` says for how long
//! (`make bus`: ten minutes); a few seconds without it.

use super::{serve_with, store};
use crate::support::script::{Camera, Script};
use crate::support::{Json, process, request, wait_for};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CAMERAS: usize = 4;

#[test]
fn four_cameras_lose_nothing_and_keep_their_order() {
    let seconds = std::env::var("WEIR_BUS_SOAK_S").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let camera = Camera::start(Script { fps: 15.0, ..Script::of("clips/baseline.mp4") });
    let (mut broker, subscriber) = store::durable("hall/#");
    let weir = serve_with(&broker, "", |_| {});
    let ids: Vec<String> = (0..CAMERAS)
        .map(|index| {
            weir.init(&Json::parse(&format!(
                r#"{{"type": "init", "model_id": "{}", "video_reference": {}, "model_configuration": {{"type": "object-detection"}},
                    "sink_configuration": {{"type": "mqtt_sink", "topic": "hall/{index}", "format": "compact"}}}}"#,
                weir.toy(),
                request::quoted(&camera.url())
            )))
        })
        .collect();
    ids.iter().for_each(|id| drop(weir.wait_state(id, "RUNNING")));
    let half = Duration::from_secs(seconds) / 2;
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut read_for = |time: Duration| {
        let end = Instant::now() + time;
        while let Some((_, topic, payload)) = subscriber.within(end.saturating_duration_since(Instant::now()))
        {
            seen.entry(topic).or_default().push(Json::parse(&payload).get("frame").number().unwrap() as u64);
        }
    };
    read_for(half);
    broker.kill();
    // A tenth of the time without it, a minute at most.
    std::thread::sleep((half / 5).min(Duration::from_secs(60)));
    broker.restart();
    let back = Instant::now();
    read_for(half);
    // No frame comes any more: what was sent and what came can be compared.
    ids.iter().for_each(|id| drop(weir.order("mute", id)));
    let waiting = |key: &str| weir.report(&ids[0]).at(&format!("sinks/0/{key}")).number().unwrap_or(-1.0);
    wait_for("everything to be delivered", || (waiting("messages_waiting") == 0.0).then_some(()));
    // Frames that were in inference when they were told to pause come yet.
    read_for(Duration::from_secs(2));
    let delivered = waiting("messages_delivered") as usize;
    assert_eq!(waiting("messages_dropped"), 0.0);
    let (mut first, mut again) = (0, 0);
    for (topic, frames) in &seen {
        let mut last = 0;
        for frame in frames {
            if *frame > last {
                (first, last) = (first + 1, *frame);
            } else {
                // After the restart, of what was not confirmed before.
                again += 1;
            }
        }
        assert!(frames.len() > 5, "{topic}: {frames:?}");
    }
    assert_eq!((seen.len(), first), (CAMERAS, delivered), "what was sent came");
    assert!(again <= 64, "{again} came twice");
    let memory = process::bytes(weir.pid(), "smaps_rollup", "Pss:").unwrap_or(0) >> 20;
    println!(
        "{seconds} s: {first} messages, {again} twice, PSS {memory} MiB, back since {:?}",
        back.elapsed()
    );
}
