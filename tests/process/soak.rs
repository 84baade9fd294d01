//! The bars that take long: `make soak` runs them in full, on a release build and a machine that is otherwise
//! quiet. Without `WEIR_SOAK` they run small, to prove that they run at all, and no bar of speed is asserted.

use crate::support::process::{self, descriptors};
use crate::support::script::{Camera, Script, units};
use crate::support::worker::{frame, opened, request, start};
use crate::support::{Folder, Json, Weir, request, udp, wait_for};
use std::process::Command;
use std::time::{Duration, Instant};
use weir::clock::Wall;

/// Whether the bars count.
fn in_full() -> bool {
    std::env::var_os("WEIR_SOAK").is_some()
}

fn init(weir: &Weir, url: &str, port: u16) -> Json {
    request::init(&weir.toy(), &request::quoted(url), port, "")
}

/// Ten seconds of 720p at 15 fps, 2 Mbit/s, a key frame every second and no B-frames, as a camera sends it;
/// the small clip instead where the bars do not count.
fn camera() -> Camera {
    if !in_full() {
        return Camera::start(Script { fps: 15.0, ..Script::of("clips/baseline.mp4") });
    }
    let folder = Folder::new();
    let file = folder.path().join("720p15.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=15:duration=10"])
        .args([
            "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-bf", "0", "-g", "15", "-b:v",
            "2M",
        ])
        .arg(&file);
    assert!(process::output(&mut ffmpeg).status.success(), "ffmpeg (scripts/setup.sh test installs it)");
    Camera::start(Script { fps: 15.0, ..Script::units(units(&file)) })
}

/// A field of `/proc/PID/FILE`; 0 for a process that is gone.
fn proc_bytes(pid: u32, file: &str, field: &str) -> u64 {
    process::bytes(pid, file, field).unwrap_or(0)
}

fn highest(report: &Json) -> bool {
    report.at("sources_metadata/0/state").text() == Some("RUNNING")
}

/// Bars: no stream below 14 fps, no worker above 25 MiB (PSS).
#[test]
fn sixteen_cameras_on_one_small_machine() {
    let (cameras, seconds) = if in_full() { (16, 20) } else { (4, 2) };
    let camera = camera();
    let weir = Weir::start();
    let sinks: Vec<udp::Receiver> = (0..cameras).map(|_| udp::Receiver::new()).collect();
    for sink in &sinks {
        weir.init(&init(&weir, &camera.url(), sink.port()));
        sink.next();
    }
    sinks.iter().for_each(udp::Receiver::drain);
    let counted = Duration::from_secs(seconds);
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let counts: Vec<_> = sinks.iter().map(|sink| scope.spawn(move || sink.count_for(counted))).collect();
        counts.into_iter().map(|count| count.join().unwrap()).collect()
    });
    let rates: Vec<f64> = counts.iter().map(|count| *count as f64 / seconds as f64).collect();
    let pss: Vec<u64> =
        weir.workers().into_iter().map(|pid| proc_bytes(pid, "smaps_rollup", "Pss:")).collect();
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = pss.iter().max().copied().unwrap_or(0);
    println!(
        "{cameras} cameras: slowest {slowest:.2} fps, largest worker {:.1} MiB PSS",
        largest as f64 / f64::from(1 << 20)
    );
    assert_eq!(pss.len(), cameras);
    assert!(rates.iter().all(|rate| *rate > 0.0), "{rates:?}");
    if in_full() {
        assert!(slowest >= 14.0, "{rates:?}");
        assert!(largest <= 25 << 20, "{pss:?}");
    }
}

/// Bar: 12 ms at 720p, half of all frames. From the arrival of a frame's last packet to its slot being
/// announced.
#[test]
fn from_arrival_to_slot() {
    let camera = camera();
    let count = if in_full() { 150 } else { 20 };
    let mut times: Vec<f64> = smol::block_on(async {
        let worker = start(request(camera.url())).await;
        opened(&worker).await;
        let mut times = Vec::new();
        for _ in 0..count {
            let frame = frame(&worker).await;
            times.push((Wall::now().micros() - frame.timestamp.micros()) as f64 / 1000.0);
            worker.release(frame.slot);
        }
        times
    });
    times.sort_by(f64::total_cmp);
    let (median, late) = (times[count / 2], times[count * 95 / 100]);
    println!("arrival to slot: p50 {median:.2} ms, p95 {late:.2} ms");
    assert!(!in_full() || median <= 12.0, "{median}");
}

/// Bars: memory and descriptors after 1 000 as after 100.
#[test]
fn init_and_terminate_again_and_again() {
    let rounds = if in_full() { 1000 } else { 20 };
    let camera = Camera::start(Script::of("clips/baseline.mp4"));
    // Large blocks go back to the system as soon as they are free, as under musl. Else glibc keeps what each
    // inference thread once took for a model: steps of 8 MB at any round, one per thread, that would hide
    // what grows.
    let weir = Weir::start_with(|command| {
        command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    });
    let sink = udp::Receiver::new();
    let mut before = (0, 0);
    let started = Instant::now();
    for round in 0..rounds {
        let id = weir.init(&init(&weir, &camera.url(), sink.port()));
        // Every third while it is still being opened.
        if round % 3 != 0 {
            wait_for("the camera", || highest(&weir.report(&id)).then_some(()));
        }
        assert_eq!(weir.order("terminate", &id).get("status").text(), Some("success"));
        if round == rounds / 10 {
            before = (proc_bytes(weir.pid(), "status", "VmRSS:"), descriptors(weir.pid()));
        }
    }
    wait_for("the last worker to be gone", || weir.workers().is_empty().then_some(()));
    let after = (proc_bytes(weir.pid(), "status", "VmRSS:"), descriptors(weir.pid()));
    println!(
        "{rounds} rounds in {:.1} s: RSS and descriptors {before:?} → {after:?}",
        started.elapsed().as_secs_f64()
    );
    assert!(after.1 <= before.1 + 2, "descriptors: {before:?} → {after:?}");
    assert!(!in_full() || after.0 <= before.0 + (1 << 20), "bytes: {before:?} → {after:?}");
}

/// Bars: noticed within 6 s; seen again 1.5 s after it is back. A real server, frozen and then killed.
#[test]
fn frozen_and_killed_cameras() {
    if !in_full() {
        return; // tests/process/rtsp.rs has both, without the clock.
    }
    let mut camera = crate::support::rtsp::Camera::start("long.mp4", &[]);
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let id = weir.init(&init(&weir, &camera.url(), sink.port()));
    sink.next();
    let frozen = Instant::now();
    camera.freeze();
    wait_for("the stall in the status", || (!highest(&weir.report(&id))).then_some(()));
    let noticed = frozen.elapsed();
    camera.thaw();
    wait_for("the picture", || highest(&weir.report(&id)).then_some(()));
    let mut returned = Vec::new();
    for away in [1, 8, 20] {
        camera.kill();
        wait_for("the loss", || (!highest(&weir.report(&id))).then_some(()));
        // The time that it is away is what this measures.
        std::thread::sleep(Duration::from_secs(away));
        sink.drain();
        camera.restart();
        let back = Instant::now();
        sink.next();
        returned.push(back.elapsed());
    }
    println!("frozen: noticed after {noticed:?}; killed for 1, 8, 20 s: first datagram after {returned:?}");
    assert!(noticed <= Duration::from_secs(6), "{noticed:?}");
    assert!(returned.iter().all(|back| *back <= Duration::from_millis(1500)), "{returned:?}");
}
