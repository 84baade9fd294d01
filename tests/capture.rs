//! Capture workers as processes: what their parent sees when all goes well, and when a worker dies, hangs or is dropped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::worker::{RULE, exists, failure, frame, gone, next, opened, request, settings, spawner, start};
use support::{clip, weir::signal};
use weir::capture::{Event, Frame, Request, Worker};
use weir::command::{Filling, SourceReference};
use weir::error::Kind;

#[test]
fn a_file_gives_every_frame_in_order_and_then_ends() {
    smol::block_on(async {
        let worker = start(request(clip("short.mp4"))).await;
        let properties = opened(&worker).await;
        assert_eq!((properties.width, properties.height, properties.total_frames), (640, 480, 60));
        assert!(properties.is_file && (properties.fps - 30.0).abs() < 0.01 && properties.timestamp_created.is_some());
        let mut pixels = vec![0; RULE.slot_bytes()];
        for id in 1..=60 {
            let frame = frame(&worker).await;
            assert_eq!((frame.frame_id, frame.width, frame.height), (id, 640, 480));
            worker.ring().copy_slot(frame.slot, &mut pixels);
            // 640x480 in 64x64: eight rows of edge above and below, and a picture between.
            assert!(pixels[..64 * 8].iter().all(|pixel| *pixel == 114));
            assert!(pixels[64 * 8..64 * 56].iter().any(|pixel| *pixel != 114));
            worker.release(frame.slot);
        }
        assert!(matches!(next(&worker).await, Event::Ended));
        let pid = worker.pid();
        worker.stop().await;
        assert!(!exists(pid));
    });
}

#[test]
fn a_full_ring_makes_a_file_wait_and_a_release_lets_it_go_on() {
    smol::block_on(async {
        let worker = start(request(clip("short.mp4"))).await;
        opened(&worker).await;
        let held: Vec<Frame> = [frame(&worker).await, frame(&worker).await, frame(&worker).await, frame(&worker).await].into();
        // Nothing but a sign of life while all slots are held.
        assert!(matches!(next(&worker).await, Event::Alive(progress) if progress.dropped == 0));
        worker.release(held[2].slot);
        let fifth = frame(&worker).await;
        assert_eq!((fifth.frame_id, fifth.slot), (5, held[2].slot));
    });
}

#[test]
fn with_drop_latest_a_full_ring_costs_frames_and_no_time() {
    smol::block_on(async {
        let worker = start(Request { filling: Some(Filling::DropLatest), ..request(clip("short.mp4")) }).await;
        opened(&worker).await;
        let ids = [frame(&worker).await, frame(&worker).await, frame(&worker).await, frame(&worker).await].map(|f| f.frame_id);
        assert_eq!(ids, [1, 2, 3, 4]);
        // The other 56 are gone; nobody waited, and the worker says so before its last word.
        let mut dropped = 0;
        loop {
            match next(&worker).await {
                Event::Alive(progress) => dropped = progress.dropped,
                Event::Ended => break,
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(dropped, 56);
    });
}

#[test]
fn file_max_fps_strides_evenly() {
    smol::block_on(async {
        let worker = start(Request { file_max_fps: Some(10.0), ..request(clip("short.mp4")) }).await;
        opened(&worker).await;
        let mut ids = Vec::new();
        loop {
            match next(&worker).await {
                Event::Frame(frame) => {
                    worker.release(frame.slot);
                    ids.push(frame.frame_id);
                }
                Event::Alive(_) => {}
                Event::Ended => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ids.len(), 20);
        assert!(ids.windows(2).all(|pair| pair[1] - pair[0] == 3), "{ids:?}");
    });
}

#[test]
fn a_file_url_is_a_stream_at_its_own_pace_that_starts_again() {
    smol::block_on(async {
        let worker = start(Request { first_frame_id: 100, ..request(format!("file://{}", clip("short.mp4"))) }).await;
        let properties = opened(&worker).await;
        assert!(!properties.is_file && properties.timestamp_created.is_none());
        let started = Instant::now();
        let mut last = 99;
        // 2 s of video, and on into the second round.
        while last < 100 + 75 {
            let frame = frame(&worker).await;
            assert!(frame.frame_id > last);
            last = frame.frame_id;
            worker.release(frame.slot);
        }
        let took = started.elapsed();
        assert!(took > Duration::from_millis(2200) && took < Duration::from_secs(8), "{took:?}");
    });
}

#[test]
fn a_muted_file_moves_on_at_its_own_rate_and_resumes_where_it_then_is() {
    smol::block_on(async {
        let worker = start(Request { muted: true, ..request(clip("long.mp4")) }).await;
        opened(&worker).await;
        let Event::Alive(progress) = next(&worker).await else { panic!("a muted worker is alive") };
        // One second at 30 fps, give or take a busy machine; not the whole file.
        assert!((5..=60).contains(&progress.frame_id), "{progress:?}");
        worker.set_muted(false);
        let first = frame(&worker).await;
        assert!(first.frame_id > progress.frame_id && first.frame_id < 1000, "{first:?}");
    });
}

#[test]
fn what_cannot_be_opened_says_so_in_the_words_of_the_reference_without_secrets() {
    smol::block_on(async {
        for (reference, kind) in [
            ("/no/such/file.mp4".to_owned(), Kind::SourceConnection),
            (clip("toy.onnx"), Kind::SourceUnsupported),
            ("rtsp://joe:hunter2@127.0.0.1:1/cam?token=hunter2".to_owned(), Kind::SourceConnection),
            ("rtsps://joe:hunter2@127.0.0.1:1/cam".to_owned(), Kind::SourceUnsupported),
            ("gopher://x/".to_owned(), Kind::SourceUnsupported),
        ] {
            let worker = start(request(reference.clone())).await;
            let error = failure(&worker).await;
            let shown = SourceReference::Text(reference).redacted();
            let expected = format!("Cannot connect to video source under reference: {shown}");
            assert!(error.message().starts_with(&expected), "{error}");
            assert_eq!(error.kind(), kind, "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            let pid = worker.pid();
            drop(worker);
            gone(pid).await;
        }
    });
}

#[test]
fn a_killed_worker_is_one_error_and_leaves_nothing() {
    smol::block_on(async {
        let worker = start(request(clip("long.mp4"))).await;
        opened(&worker).await;
        signal(worker.pid(), rustix::process::Signal::KILL);
        let error = failure(&worker).await;
        assert_eq!(error.kind(), Kind::Worker);
        assert!(error.message().contains("killed"), "{error}");
        assert!(!exists(worker.pid()));
    });
}

#[test]
fn a_dropped_worker_is_killed_and_reaped() {
    smol::block_on(async {
        let spawner = spawner();
        let worker = Worker::start(&spawner, &settings(), request(clip("long.mp4"))).await.unwrap();
        let pid = worker.pid();
        drop(worker);
        gone(pid).await;
    });
}

#[test]
fn a_frozen_worker_is_noticed_and_killed_within_the_grace() {
    smol::block_on(async {
        let worker = start(request(clip("long.mp4"))).await;
        opened(&worker).await;
        signal(worker.pid(), rustix::process::Signal::STOP);
        let error = failure(&worker).await;
        assert_eq!(error.kind(), Kind::SourceStalled, "{error}");
        gone(worker.pid()).await;

        let worker = start(request(clip("long.mp4"))).await;
        opened(&worker).await;
        signal(worker.pid(), rustix::process::Signal::STOP);
        let (pid, asked) = (worker.pid(), Instant::now());
        worker.stop().await;
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert!(!exists(pid));
    });
}

#[test]
fn a_worker_that_is_asked_stops_at_once_even_with_a_full_ring() {
    smol::block_on(async {
        let worker = start(request(clip("long.mp4"))).await;
        opened(&worker).await;
        for _ in 0..4 {
            frame(&worker).await;
        }
        let (pid, asked) = (worker.pid(), Instant::now());
        worker.stop().await;
        // Not the grace: nothing had to be killed.
        assert!(asked.elapsed() < Duration::from_millis(450), "{:?}", asked.elapsed());
        assert!(!exists(pid));
    });
}

#[test]
fn a_worker_has_no_secrets_of_the_service_and_limits_of_its_own() {
    smol::block_on(async {
        let worker = start(request("rtsp://joe:hunter2@127.0.0.1:1/cam".to_owned())).await;
        // As long as it is not reaped, /proc tells about it; a worker that has already ended has nothing to tell.
        let process = PathBuf::from(format!("/proc/{}", worker.pid()));
        for file in ["environ", "cmdline"] {
            let text = std::fs::read(process.join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains("hunter2") && !text.contains("CARGO") && !text.contains("PATH"), "{file}: {text}");
        }
        let worker = start(request(clip("long.mp4"))).await;
        opened(&worker).await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid())).unwrap();
        let limit = |name: &str| {
            limits.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().rev().nth(1).unwrap().to_owned()
        };
        assert_eq!(limit("Max data size"), (192 << 20).to_string());
        assert_ne!(limit("Max address space"), "unlimited");
        assert_eq!(limit("Max core file size"), "0");
    });
}

#[test]
fn a_hundred_workers_leave_no_descriptor_and_no_process() {
    smol::block_on(async {
        let spawner = spawner();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut before = 0;
        for round in 0..100 {
            let worker = Worker::start(&spawner, &settings(), request(clip("short.mp4"))).await.unwrap();
            opened(&worker).await;
            let pid = worker.pid();
            match round % 2 {
                0 => worker.stop().await,
                _ => drop(worker),
            }
            gone(pid).await;
            if round == 9 {
                before = descriptors();
            }
        }
        // Other tests of this process run beside: a few descriptors come and go, a hundred would be a leak.
        assert!(descriptors() < before + 60, "{before} → {}", descriptors());
    });
}
