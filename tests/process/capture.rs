//! Capture workers as processes: what their parent sees when all goes well, and when a worker dies, hangs or
//! is dropped.
use crate::support::worker::{
    RULE, asks_for_memory, exists, failure, frame, frames, gone, next, opened, request, settings, spawner,
    start, start_with,
};
use crate::support::{Folder, clip, weir::signal};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use weir::capture::{
    CaptureSettings, DecoderChoice, DecoderSettings, Event, Frame, MIN_WORKER_BYTES, Rate, Request, Worker,
};
use weir::command::{Filling, SourceReference};
use weir::error::Kind;

#[test]
fn a_file_gives_every_frame_in_order_and_then_ends() {
    smol::block_on(async {
        let worker = start(request(clip("short.mp4"))).await;
        let properties = opened(&worker).await;
        assert_eq!((properties.width, properties.height, properties.total_frames), (640, 480, 60));
        assert!(
            properties.is_file
                && (properties.fps - 30.0).abs() < 0.01
                && properties.timestamp_created.is_some()
        );
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
        let held: Vec<Frame> =
            [frame(&worker).await, frame(&worker).await, frame(&worker).await, frame(&worker).await].into();
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
        let worker =
            start(Request { filling: Some(Filling::DropLatest), ..request(clip("short.mp4")) }).await;
        opened(&worker).await;
        let ids = [frame(&worker).await, frame(&worker).await, frame(&worker).await, frame(&worker).await]
            .map(|f| f.frame_id);
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
        let worker =
            start(Request { first_frame_id: 100, ..request(format!("file://{}", clip("short.mp4"))) }).await;
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
fn a_stream_gives_as_many_frames_as_are_wanted_and_counts_all() {
    smol::block_on(async {
        let worker = start(request(format!("file://{}", clip("long.mp4")))).await;
        assert!((opened(&worker).await.fps - 30.0).abs() < 0.1);
        worker.want(Some(Rate { fps: 5.0, is_aligned: false }));
        let (mut ids, mut last) = (Vec::new(), 0);
        while ids.len() < 14 {
            let frame = frame(&worker).await;
            assert_eq!(frame.left_out + 1, frame.frame_id - last, "every frame has a number");
            last = frame.frame_id;
            worker.release(frame.slot);
            // Before the worker has heard of it, and knows at what rate frames come, they come as before.
            if frame.left_out > 2 {
                ids.push(frame.frame_id);
            }
        }
        // 30 frames a second on a busy machine; never two wanted ones for one interval.
        let strides: Vec<u64> = ids.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(strides.iter().all(|stride| (2..=9).contains(stride)), "{ids:?}");
        let mean = (last - ids[0]) as f64 / strides.len() as f64;
        assert!((4.0..=7.0).contains(&mean), "{ids:?}");
        worker.want(None);
        let mut in_a_row = 0;
        while in_a_row < 10 {
            let frame = frame(&worker).await;
            in_a_row = if frame.left_out == 0 { in_a_row + 1 } else { 0 };
            worker.release(frame.slot);
        }
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
            ("rtsps://joe:hunter2@127.0.0.1:1/cam".to_owned(), Kind::SourceConnection),
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
        // As long as it is not reaped, /proc tells about it; a worker that has already ended has nothing to
        // tell.
        let process = PathBuf::from(format!("/proc/{}", worker.pid()));
        let read = |file| std::fs::read(process.join(file)).unwrap_or_default();
        let told = [read("environ"), read("cmdline")].concat();
        assert!(!String::from_utf8_lossy(&told).contains("hunter2"), "{}", String::from_utf8_lossy(&told));
        let environment = read("environ");
        for variable in environment.split(|byte| *byte == 0).filter(|variable| !variable.is_empty()) {
            let variable = String::from_utf8_lossy(variable);
            let (name, _) = variable.split_once('=').unwrap();
            let known = ["LOG_LEVEL", "MALLOC_ARENA_MAX", "RUST_BACKTRACE", "LD_LIBRARY_PATH"];
            assert!(known.contains(&name), "{variable}");
        }
        // Where pictures are made, what they need comes on top.
        let settings = CaptureSettings { picture_width: 0, decoders: builtin(), ..settings() };
        let worker = start_with(&settings, request(clip("long.mp4"))).await;
        opened(&worker).await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid())).unwrap();
        let limit = |name: &str| {
            limits
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .split_whitespace()
                .rev()
                .nth(2)
                .unwrap()
                .to_owned()
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

/// The limit of address space of a process, bytes.
fn address_space_limit(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// A worker's limit was read off its address space in a race with the arena of its other thread, 64 to 128
/// MiB of it.
#[test]
fn the_limit_of_every_worker_is_the_same_whenever_its_threads_first_allocate() {
    smol::block_on(async {
        let mut limits = Vec::new();
        for _ in 0..4 {
            // Several at once, so that their threads meet in other orders.
            let mut workers = Vec::new();
            for _ in 0..4 {
                workers.push(start(request(format!("file://{}", clip("short.mp4")))).await);
            }
            for worker in &workers {
                opened(worker).await;
                frames(worker, 2).await;
                let pid = worker.pid();
                limits.push(address_space_limit(pid));
                let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
                let set_aside = maps
                    .lines()
                    .filter(|line| line.contains("---p 00000000 00:00 0"))
                    .map(mapped_bytes)
                    .max();
                assert!(set_aside.unwrap_or(0) < 32 << 20, "an arena of a thread:\n{maps}");
            }
        }
        let (least, most) = (limits.iter().min().unwrap(), limits.iter().max().unwrap());
        assert!(most - least < 2 << 20, "{limits:?}");
    });
}

/// Of a line of `/proc/PID/maps`.
fn mapped_bytes(line: &str) -> u64 {
    let (start, rest) = line.split_once('-').unwrap();
    let end = rest.split(' ').next().unwrap();
    u64::from_str_radix(end, 16).unwrap() - u64::from_str_radix(start, 16).unwrap()
}

#[test]
fn the_smallest_memory_that_is_allowed_serves_every_decoder() {
    let smallest = CaptureSettings { worker_memory_bytes: MIN_WORKER_BYTES, picture_width: 0, ..settings() };
    let clips = [
        "baseline.mp4",
        "high-pyramid.mp4",
        "high10.mp4",
        "interlaced.mp4",
        "h265.mp4",
        "h265-10.mp4",
        "h264.mkv",
        "mjpeg.avi",
    ];
    smol::block_on(async {
        for name in clips {
            let worker = start_with(&smallest, request(clip(&format!("clips/{name}")))).await;
            let properties = opened(&worker).await;
            // Until the end, which is one too.
            assert_eq!(
                frames(&worker, properties.total_frames as usize).await,
                properties.total_frames as u64,
                "{name}"
            );
        }
    });
}

/// The limit of data of a process and what it may be raised to, bytes.
fn data_limits(pid: u32) -> [u64; 2] {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    [words[3], words[4]].map(|word| word.parse().unwrap())
}

/// No library adds to the limits.
fn builtin() -> DecoderSettings {
    DecoderSettings { choice: DecoderChoice::Builtin, ..DecoderSettings::default() }
}

#[test]
fn memory_beyond_the_smallest_is_asked_for_and_comes_from_the_service_alone() {
    let most = 64 << 20;
    // Pictures for people come on top of both.
    let smallest = CaptureSettings {
        worker_memory_bytes: MIN_WORKER_BYTES,
        worker_memory_max_bytes: most,
        picture_width: 0,
        decoders: builtin(),
        ..settings()
    };
    smol::block_on(async {
        let worker = start_with(&smallest, request(clip("short.mp4"))).await;
        opened(&worker).await;
        let bytes = asks_for_memory(&worker).await;
        assert!(bytes > MIN_WORKER_BYTES && bytes < most, "{bytes}");
        assert_eq!(data_limits(worker.pid()), [MIN_WORKER_BYTES, most]);
        let before = address_space_limit(worker.pid());
        worker.allow_memory(bytes).unwrap();
        assert_eq!(data_limits(worker.pid()), [bytes, most]);
        assert_eq!(address_space_limit(worker.pid()) - before, bytes - MIN_WORKER_BYTES);
        assert_eq!(worker.memory_bytes(), bytes);
        assert_eq!(frames(&worker, 60).await, 60);
        // What the worker itself could not be raised to, nobody can promise it.
        let worker = start_with(&smallest, request(clip("short.mp4"))).await;
        opened(&worker).await;
        asks_for_memory(&worker).await;
        let refused = worker.allow_memory(most + 1).unwrap_err();
        assert!(refused.message().contains("capture.worker_memory_bytes"), "{refused}");
        worker.stop().await;
    });
}

#[test]
fn a_picture_that_lies_on_its_side_is_shown_upright() {
    const ONE: u32 = 0x1_0000;
    // Written by nobody's telephone: the matrix of the track header of an upright clip.
    let mut bytes = std::fs::read(clip("clips/baseline.mp4")).unwrap();
    let matrix = bytes.windows(4).position(|kind| kind == b"tkhd").unwrap() + 4 + 40;
    for (place, value) in [(0, 0), (1, ONE), (3, ONE.wrapping_neg()), (4, 0)] {
        bytes[matrix + place * 4..][..4].copy_from_slice(&value.to_be_bytes());
    }
    let folder = Folder::new();
    let turned = folder.path().join("turned.mp4");
    std::fs::write(&turned, bytes).unwrap();
    smol::block_on(async {
        let first = async |reference: String| {
            let worker = start(request(reference)).await;
            let properties = opened(&worker).await;
            let frame = frame(&worker).await;
            let mut pixels = vec![0; RULE.slot_bytes()];
            worker.ring().copy_slot(frame.slot, &mut pixels);
            assert_eq!((frame.width, frame.height), (properties.width, properties.height));
            ((frame.width, frame.height), pixels)
        };
        let (lying_size, lying) = first(clip("clips/baseline.mp4")).await;
        let (size, upright) = first(turned.display().to_string()).await;
        assert_eq!((lying_size, size), ((192, 144), (144, 192)));
        // Of the red plane: the letterbox is that of the turned picture, and what lay at the bottom stands at
        // the left.
        for row in 0..64 {
            for column in 0..64 {
                let difference = upright[row * 64 + column].abs_diff(lying[(63 - column) * 64 + row]);
                assert!(difference <= 3, "row {row} column {column}: {difference}");
            }
        }
    });
}

#[test]
fn a_file_without_a_frame_says_why_and_is_not_played_for_ever() {
    let folder = Folder::new();
    let cut = folder.path().join("cut.mkv");
    let bytes = std::fs::read(clip("clips/h264.mkv")).unwrap();
    let cluster = bytes.windows(4).position(|id| id == [0x1f, 0x43, 0xb6, 0x75]).unwrap();
    std::fs::write(&cut, &bytes[..cluster + 30]).unwrap();
    smol::block_on(async {
        for reference in [cut.display().to_string(), format!("file://{}", cut.display())] {
            let worker = start(request(reference)).await;
            opened(&worker).await;
            let error = failure(&worker).await;
            assert_eq!(error.kind(), Kind::SourceLost);
            assert!(error.message().contains("holds no pictures"), "{error}");
        }
    });
}
