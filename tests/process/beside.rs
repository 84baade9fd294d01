//! One service with four healthy cameras and, beside them, every rogue server there is: the healthy ones do
//! not notice, the service does not grow, no worker passes its limit, and each rogue's pipeline says what is
//! wrong.

use crate::support::rogue::{Mode, Server};
use crate::support::script::{Camera, Script};
use crate::support::{Json, SetOnDrop, Weir, process, request, udp, wait_for};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Of the healthy cameras: slow, so that not the CPU time of a busy machine decides.
const FPS: f64 = 10.0;

/// How long frames are counted for, before and beside the rogues.
const COUNTED: Duration = Duration::from_secs(6);

/// Frames beside the rogues are counted so often until the cameras were undisturbed once.
const COUNTS: usize = 4;

/// `capture.worker_memory_bytes` of this service.
const WORKER_BYTES: u64 = 96 << 20;

/// What servers can make grow without sending a picture, whatever a worker may use for pictures.
const WITHOUT_PICTURE_BYTES: u64 = 48 << 20;

/// What a pipeline costs the service itself: its table entry, updates, sockets and the pages that allocators
/// round up to.
const PIPELINE_BYTES: u64 = 256 << 10;

fn init(weir: &Weir, url: &str, port: u16) -> Json {
    request::init(&weir.toy(), &request::quoted(url), port, "")
}

/// Memory that is the process's own; 0 for one that is gone.
fn anonymous_bytes(pid: u32) -> u64 {
    process::bytes(pid, "status", "RssAnon:").unwrap_or(0)
}

/// The newest update of a source or pipeline that failed: its class and words.
fn complaint(weir: &Weir, pipeline: &str) -> Option<(String, String)> {
    let report = weir.report(pipeline);
    let updates = report.get("video_source_status_updates").items();
    updates.iter().rev().find_map(|update| {
        let payload = update.get("payload");
        Some((payload.get("error_type").text()?.to_owned(), payload.to_string()))
    })
}

/// Classes that may come of a mode. `CaptureWorkerError`: the worker hit its limit of memory.
fn classes(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::SilentAfterPlay => &["SourceConnectionError", "SourceStalledError"],
        Mode::HugeBody
        | Mode::EndlessHeaders
        | Mode::EndlessLine
        | Mode::EndlessFragments
        | Mode::EndlessUnits => {
            &["SourceConnectionError", "SourceLostError", "SourceStalledError", "CaptureWorkerError"]
        }
        _ => &["SourceConnectionError"],
    }
}

/// Frames of each sink in [`COUNTED`].
fn count(sinks: &[udp::Receiver]) -> Vec<usize> {
    sinks.iter().for_each(udp::Receiver::drain);
    std::thread::scope(|scope| {
        let counts: Vec<_> = sinks.iter().map(|sink| scope.spawn(|| sink.count_for(COUNTED))).collect();
        counts.into_iter().map(|count| count.join().unwrap()).collect()
    })
}

/// Looks at all workers of the service until told to stop: the most that any of them had written to.
fn watch_workers(weir: &Weir, over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !over.load(Ordering::SeqCst) {
        most = weir.workers().into_iter().map(anonymous_bytes).fold(most, u64::max);
        // /proc cannot be waited for.
        std::thread::sleep(Duration::from_millis(20));
    }
    most
}

/// Every mode of rogue at once beside four healthy cameras.
fn beside(rogues: &[(Mode, Server)], url: impl Fn(&Server) -> String) {
    let camera = Camera::start(Script { fps: FPS, ..Script::of("clips/baseline.mp4") });
    let limits =
        format!("worker_memory_bytes = {WORKER_BYTES}\nopen_timeout_s = 4.0\nstall_timeout_s = 3.0\n");
    // one thread: the second takes its arena whenever two frames first meet, which would look like growth
    let weir = Weir::configured(&format!("[service]\nthreads = 1\n[capture]\n{limits}"));
    let sinks: Vec<udp::Receiver> = (0..4).map(|_| udp::Receiver::new()).collect();
    for sink in &sinks {
        weir.init(&init(&weir, &camera.url(), sink.port()));
        sink.next();
    }
    let alone = count(&sinks);
    let expected = (FPS * COUNTED.as_secs_f64() * 0.8) as usize;
    assert!(alone.iter().all(|alone| *alone >= expected), "already alone: {alone:?}");

    let nowhere = udp::Receiver::new();
    let before = anonymous_bytes(weir.pid());
    let pipelines: Vec<String> =
        rogues.iter().map(|(_, server)| weir.init(&init(&weir, &url(server), nowhere.port()))).collect();
    let over = AtomicBool::new(false);
    // One frame may fall on either side of the ends of the count.
    let undisturbed =
        |beside: &[usize]| alone.iter().zip(beside).all(|(alone, beside)| beside + 1 >= alone * 95 / 100);
    let (beside, most) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch_workers(&weir, &over));
        let ends = SetOnDrop(&over);
        // A machine with other work takes frames, too, and more of them now than before: whom rogues disturb,
        // they disturb every time.
        let mut counts = (0..COUNTS).map(|_| count(&sinks));
        let beside = counts.find(|beside| undisturbed(beside)).unwrap_or_else(|| count(&sinks));
        for ((mode, _), pipeline) in rogues.iter().zip(&pipelines) {
            let (class, words) =
                wait_for(&format!("the complaint about {mode:?}"), || complaint(&weir, pipeline));
            assert!(classes(*mode).contains(&class.as_str()), "{mode:?}: {words}");
            assert!(words.len() > 40, "{mode:?} says next to nothing: {words}");
        }
        drop(ends);
        (beside, watch.join().unwrap())
    });
    assert!(undisturbed(&beside), "{alone:?} frames alone, {beside:?} beside rogues");
    assert!(most <= WITHOUT_PICTURE_BYTES, "a worker took {most} bytes");
    assert!(most > 0, "no worker was seen");
    let grown = anonymous_bytes(weir.pid()).saturating_sub(before);
    assert!(grown <= PIPELINE_BYTES * rogues.len() as u64, "the service grew by {grown} bytes");
    assert_eq!(nowhere.count_for(Duration::from_millis(1)), 0, "a rogue gave frames");

    let asked = Instant::now();
    for pipeline in &pipelines {
        assert_eq!(weir.order("terminate", pipeline).get("status").text(), Some("success"));
    }
    // Each within a second, whatever its worker is at.
    assert!(asked.elapsed() < Duration::from_secs(rogues.len() as u64), "{:?}", asked.elapsed());
    assert_eq!(weir.list().len(), 4);
    wait_for("the workers of the rogues to be gone", || (weir.workers().len() == 4).then_some(()));
}

#[test]
fn rogue_rtsp_servers_beside_four_healthy_cameras() {
    let rogues =
        Mode::RTSP.map(|mode| (mode, Server::start(move |connection, port| mode.rtsp(connection, port))));
    beside(&rogues, Server::rtsp);
}

#[test]
fn rogue_http_servers_beside_four_healthy_cameras() {
    let rogues =
        Mode::HTTP.map(|mode| (mode, Server::start(move |connection, port| mode.http(connection, port))));
    beside(&rogues, Server::http);
}
