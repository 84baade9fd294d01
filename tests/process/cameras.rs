//! RTSP servers, real, scripted and rogue, against capture workers: each rogue ends its own worker in time and with a
//! cause. (`tests/process/beside.rs` runs them all at once against the service.)
use crate::support::rogue::{Mode, Server, described, request as asked};
use crate::support::rtsp::Camera;
use crate::support::script::{Camera as Scripted, Script};
use crate::support::worker::{failure, frame, frames, next, opened, request, settings, start, start_with};
use std::io::Write;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir::capture::{Event, Settings};
use weir::error::{Error, Kind};

#[test]
fn h264_over_tcp_and_udp_with_what_the_camera_declares() {
    let camera = Camera::start("long.mp4", &[]);
    smol::block_on(async {
        for url in [camera.url(), format!("{}?rtsp_transport=udp", camera.url())] {
            let worker = start(request(url)).await;
            let properties = opened(&worker).await;
            assert_eq!((properties.width, properties.height, properties.is_file), (640, 480, false));
            assert!((properties.fps - 30.0).abs() < 0.1, "{}", properties.fps);
            frames(&worker, 40).await;
            let asked = Instant::now();
            worker.stop().await;
            // TEARDOWN was answered: nothing had to be killed.
            assert!(asked.elapsed() < Duration::from_millis(480), "{:?}", asked.elapsed());
        }
    });
}

#[test]
fn a_filter_is_in_force_while_frames_flow() {
    let camera = Camera::start("long.mp4", &[]);
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        frames(&worker, 5).await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("NoNewPrivs:"), "1");
    });
}

#[test]
fn a_muted_camera_goes_on_counting_and_resumes_with_a_key_frame() {
    let camera = Camera::start("long.mp4", &[]);
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        frames(&worker, 3).await;
        worker.set_muted(true);
        let counted = loop {
            match next(&worker).await {
                Event::Alive(progress) => break progress.frame_id,
                Event::Frame(frame) => worker.release(frame.slot),
                other => panic!("{other:?}"),
            }
        };
        assert!(counted > 3);
        worker.set_muted(false);
        frames(&worker, 1).await;
    });
}

#[test]
fn h265_and_jpeg_over_rtsp() {
    for codec in ["h265", "jpeg"] {
        let camera = Camera::start("long.mp4", &["--codec", codec]);
        smol::block_on(async {
            let worker = start(request(camera.url())).await;
            let properties = opened(&worker).await;
            assert_eq!((properties.width, properties.height), (640, 480), "{codec}");
            assert!((5.0..=31.0).contains(&properties.fps), "{codec}: {}", properties.fps);
            frames(&worker, 15).await;
        });
    }
}

#[test]
fn a_lost_packet_costs_what_comes_until_the_next_key_frame() {
    // A key frame every 12; the whole of the sixth picture is lost.
    let camera = Scripted::start(Script { lost: |unit, _| unit == 5, ..Script::of("clips/baseline.mp4") });
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        let mut ids = Vec::new();
        opened(&worker).await;
        while ids.len() < 8 {
            let frame = frame(&worker).await;
            worker.release(frame.slot);
            ids.push(frame.frame_id);
        }
        // The lost picture itself cannot be counted; the six after it are, undecoded.
        assert_eq!(ids, [1, 2, 3, 4, 5, 12, 13, 14]);
    });
}

#[test]
fn a_stream_without_key_frames_says_so_and_goes_on_when_one_comes() {
    let clip = Script::of("clips/baseline.mp4").units;
    let mute = Scripted::start(Script::units(clip[1..12].to_vec()));
    let late = Scripted::start(Script::units([&clip[1..12], &clip[1..12], &clip[1..12], &clip[1..12], &clip[12..]].concat()));
    let impatient = Settings { key_frame_timeout: Duration::from_millis(500), ..settings() };
    smol::block_on(async {
        let worker = start_with(&impatient, request(mute.url())).await;
        opened(&worker).await;
        let mut told = 0;
        while told < 2 {
            match next(&worker).await {
                Event::Alive(progress) => told += u32::from(progress.waiting_for_key_frame),
                other => panic!("{other:?}"),
            }
        }
        let worker = start_with(&impatient, request(late.url())).await;
        opened(&worker).await;
        let first = frame(&worker).await;
        assert_eq!(first.frame_id, 45, "the pictures before were counted");
        worker.release(first.slot);
        frames(&worker, 5).await;
    });
}

#[test]
fn a_picture_that_changes_its_size_goes_on() {
    let [small, smaller] = ["clips/baseline.mp4", "clips/cropped.mp4"].map(|clip| Script::of(clip).units);
    let camera = Scripted::start(Script { fps: 100.0, ..Script::units([small, smaller].concat()) });
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        opened(&worker).await;
        for size in [(192, 144), (190, 138), (192, 144)] {
            loop {
                let frame = frame(&worker).await;
                worker.release(frame.slot);
                if (frame.width, frame.height) == size {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_camera_with_one_session_is_told_farewell_and_serves_the_next_at_once() {
    let camera =
        Scripted::start(Script { sessions: 1, session_timeout: Duration::from_secs(60), ..Script::of("clips/baseline.mp4") });
    smol::block_on(async {
        for _ in 0..3 {
            let worker = start(request(camera.url())).await;
            frames(&worker, 2).await;
            worker.stop().await;
        }
        assert_eq!(camera.asked("TEARDOWN"), 3);
        let worker = start(request(camera.url())).await;
        frames(&worker, 2).await;
        // Killed: no farewell, and the camera is busy for a minute.
        drop(worker);
        let error = failure(&start(request(camera.url())).await).await;
        assert_eq!(error.kind(), Kind::SourceConnection);
        assert!(error.message().contains("453"), "{error}");
    });
}

#[test]
fn a_redirect_takes_no_credentials_to_another_host() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let stranger = Server::start(move |connection, _| {
        loop {
            let asked = asked(connection)?;
            let cseq = asked.cseq().to_owned();
            seen.lock().unwrap().push(asked.head);
            write!(connection, "RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\nWWW-Authenticate: Basic realm=\"give\"\r\n\r\n")?;
        }
    });
    // The same machine under another name.
    let target = format!("rtsp://localhost:{}/cam", stranger.port);
    let camera = Server::start(move |connection, _| {
        let asked = asked(connection)?;
        write!(connection, "RTSP/1.0 302 Moved\r\nCSeq: {}\r\nLocation: {target}\r\n\r\n", asked.cseq())
    });
    let url = camera.rtsp().replace("rtsp://", "rtsp://joe:hunter2@");
    let error = smol::block_on(async { failure(&start(request(url)).await).await });
    assert_eq!(error.kind(), Kind::SourceUnauthorised, "{error}");
    let heads = heads.lock().unwrap();
    assert!(!heads.is_empty() && heads.iter().all(|head| !head.contains("Authorization")), "{heads:?}");
}

#[test]
fn a_wrong_password_is_told_apart_from_a_dead_camera_with_basic_and_digest() {
    for options in [&["--user", "joe:hunter2"][..], &["--user", "joe:hunter2", "--digest"]] {
        let camera = Camera::start("long.mp4", options);
        smol::block_on(async {
            let worker = start(request(camera.url_with("joe:hunter2"))).await;
            frames(&worker, 1).await;
            let error = failure(&start(request(camera.url_with("joe:hunter3"))).await).await;
            assert_eq!(error.kind(), Kind::SourceUnauthorised);
            assert!(!error.to_string().contains("hunter"), "{error}");
        });
    }
}

/// What the worker says in the end, which must come in time and name one of these kinds.
#[track_caller]
fn ends(server: &Server, kinds: &[Kind]) -> Error {
    smol::block_on(async {
        let impatient = Settings { open_timeout: Duration::from_secs(3), ..settings() };
        let worker = start_with(&impatient, request(server.rtsp())).await;
        let started = Instant::now();
        let error = failure(&worker).await;
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(started.elapsed() < Duration::from_secs(12), "{:?}: {error}", started.elapsed());
        error
    })
}

#[track_caller]
fn rogue(mode: Mode, kinds: &[Kind]) -> Error {
    ends(&Server::start(move |connection, port| mode.rtsp(connection, port)), kinds)
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let error = rogue(Mode::Silent, &[Kind::SourceConnection]);
    assert!(error.message().starts_with("Cannot connect to video source under reference: rtsp://127.0.0.1"), "{error}");
}

#[test]
fn a_server_that_is_silent_after_play_is_given_up_in_time() {
    rogue(Mode::SilentAfterPlay, &[Kind::SourceConnection, Kind::SourceStalled]);
}

#[test]
fn a_server_that_drips_its_answer_is_given_up_in_time() {
    rogue(Mode::Drips, &[Kind::SourceConnection]);
}

#[test]
fn headers_without_end_cost_one_worker_its_memory_limit_and_nobody_else() {
    for mode in [Mode::EndlessHeaders, Mode::EndlessLine] {
        rogue(mode, &[Kind::SourceConnection, Kind::Worker]);
    }
}

#[test]
fn a_body_of_four_gigabytes_is_not_waited_for_nor_kept() {
    rogue(Mode::HugeBody, &[Kind::SourceConnection, Kind::Worker]);
}

#[test]
fn fragments_and_units_without_end_are_bounded() {
    for mode in [Mode::EndlessFragments, Mode::EndlessUnits] {
        rogue(mode, &[Kind::SourceConnection, Kind::SourceStalled, Kind::SourceLost, Kind::Worker]);
    }
}

#[test]
fn a_server_that_redirects_for_ever_is_followed_three_times() {
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let server = Server::start(move |connection, port| {
        *counted.lock().unwrap() += 1;
        Mode::Redirects.rtsp(connection, port)
    });
    let error = ends(&server, &[Kind::SourceConnection]);
    assert!(error.message().contains("redirected"), "{error}");
    assert!(*count.lock().unwrap() <= 8);
}

#[test]
fn a_redirect_is_followed_to_a_real_camera() {
    let camera = Camera::start("long.mp4", &[]);
    let target = camera.url();
    let server = Server::start(move |connection, _| {
        let asked = asked(connection)?;
        write!(connection, "RTSP/1.0 302 Moved\r\nCSeq: {}\r\nLocation: {target}\r\n\r\n", asked.cseq())
    });
    smol::block_on(async { frames(&start(request(server.rtsp())).await, 3).await });
}

#[test]
fn a_connection_cut_anywhere_in_the_handshake_is_one_clear_error() {
    let whole = described("1");
    for cut in [0, 1, 9, 40, 90, whole.len() - 1] {
        let part = whole[..cut].to_owned();
        let server = Server::start(move |connection, _| {
            asked(connection)?;
            connection.write_all(part.as_bytes())?;
            connection.shutdown(Shutdown::Both)
        });
        ends(&server, &[Kind::SourceConnection]);
    }
}

#[test]
fn no_answer_at_all_but_noise_is_one_clear_error() {
    rogue(Mode::Noise, &[Kind::SourceConnection]);
}

/// Behind the filter, a snapshot camera still makes a connection per picture and resolves its name.
#[test]
fn snapshots_over_http_flow_behind_the_filter() {
    let picture = std::fs::read(crate::support::clip("clips/colour.jpg")).unwrap();
    let server = Server::start(move |connection, _| {
        asked(connection)?;
        let length = picture.len();
        write!(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        connection.write_all(&picture)?;
        connection.shutdown(Shutdown::Both)
    });
    smol::block_on(async { frames(&start(request(format!("http://localhost:{}/snapshot.jpg", server.port))).await, 3).await });
}
