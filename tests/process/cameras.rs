//! RTSP servers, real, scripted and rogue, against capture workers: each rogue ends its own worker in time
//! and with a cause. (`tests/process/beside.rs` runs them all at once against the service.)
use crate::support::quirks::{self, PLAIN, Player, Quirk};
use crate::support::rogue::{Mode, Server, described, request as asked, rtp};
use crate::support::rtsp::Camera;
use crate::support::script::{Camera as Scripted, Script};
use crate::support::worker::{failure, frame, frames, next, opened, request, settings, start, start_with};
use std::io::Write;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir::capture::{CaptureSettings, Event, Request};
use weir::command::{Filling, PacketLoss};
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
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("NoNewPrivs:"), "1");
    });
}

#[test]
fn a_muted_camera_goes_on_counting_and_resumes() {
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
fn a_lost_packet_costs_itself() {
    // A key frame every 12; the whole of the sixth picture is lost.
    let camera = Scripted::start(Script { lost: |unit, _| unit == 5, ..Script::of("clips/baseline.mp4") });
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        opened(&worker).await;
        let mut frames = 0;
        let progress = loop {
            match next(&worker).await {
                Event::Frame(frame) => {
                    worker.release(frame.slot);
                    frames += 1;
                    assert_eq!(frame.frame_id, frames, "the lost picture itself cannot be counted");
                }
                Event::Alive(progress) => break progress,
                other => panic!("{other:?}"),
            }
        };
        assert!(progress.packets.get(PacketLoss::Missing) > 0);
        assert_eq!(progress.undecodable, 0, "what follows is shown, as far as it is known");
        assert!(frames > 11, "{frames}");
    });
}

#[test]
fn a_stream_without_key_frames_says_so_and_goes_on_when_one_comes() {
    let clip = Script::of("clips/baseline.mp4").units;
    let mute = Scripted::start(Script::units(clip[1..12].to_vec()));
    let late = Scripted::start(Script::units(
        [&clip[1..12], &clip[1..12], &clip[1..12], &clip[1..12], &clip[12..]].concat(),
    ));
    let impatient = CaptureSettings { key_frame_timeout: Duration::from_millis(500), ..settings() };
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
    let camera = Scripted::start(Script {
        sessions: 1,
        session_timeout: Duration::from_secs(60),
        ..Script::of("clips/baseline.mp4")
    });
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
            write!(
                connection,
                "RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\nWWW-Authenticate: Basic realm=\"give\"\r\n\r\n"
            )?;
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
        let impatient = CaptureSettings { open_timeout: Duration::from_secs(3), ..settings() };
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
    assert!(
        error.message().starts_with("Cannot connect to video source under reference: rtsp://127.0.0.1"),
        "{error}"
    );
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
fn jpeg_that_says_its_size_nowhere_is_told_and_not_waited_for() {
    let server = Server::start(|connection, _| {
        loop {
            let asked = asked(connection)?;
            let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 JPEG/90000\r\na=control:track1\r\n";
            let (fields, body) = match asked.method.as_str() {
                "DESCRIBE" => (format!("Content-Length: {}\r\n", sdp.len()), sdp),
                "SETUP" => {
                    ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n".to_owned(), "")
                }
                _ => (String::new(), ""),
            };
            write!(connection, "RTSP/1.0 200 OK\r\nCSeq: {}\r\n{fields}\r\n{body}", asked.cseq())?;
            if asked.method == "PLAY" {
                break;
            }
        }
        for number in 0..20_u16 {
            // Quality 50; width and height are 0.
            connection.write_all(&rtp(
                number,
                u32::from(number) * 3600,
                true,
                &[0, 0, 0, 0, 1, 50, 0, 0, 1],
            ))?;
        }
        Ok(())
    });
    let error = ends(&server, &[Kind::SourceUnsupported]);
    assert!(error.message().contains("RFC 2435"), "{error}");
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
    smol::block_on(async {
        frames(&start(request(format!("http://localhost:{}/snapshot.jpg", server.port))).await, 3).await
    });
}

/// Sends an odd packet after every tenth unit.
fn now_and_then(player: &mut Player, odd: fn(&mut Player) -> Vec<u8>) {
    if player.unit % 10 == 9 {
        let packet = odd(player);
        player.send(0, packet);
    }
}

/// As the cameras that people wrote about.
const QUIRKS: &[Quirk] = &[
    PLAIN,
    Quirk {
        name: "another sender at each key frame",
        after_unit: |player| player.sender += u32::from(player.unit % 12 == 11),
        ..PLAIN
    },
    Quirk {
        name: "a stranger's packets in between",
        after_unit: |player| {
            now_and_then(player, |player| {
                [&[0x80, 96, 0, player.unit as u8, 0, 0, 0, 9, 1, 2, 3, 4][..], &[0x41, 0x9a, 0]].concat()
            });
        },
        ..PLAIN
    },
    Quirk {
        name: "another payload type in between",
        after_unit: |player| {
            now_and_then(player, |player| {
                let mut packet = player.rtp(&[0, 0], false);
                packet[1] = 127;
                packet
            });
        },
        ..PLAIN
    },
    Quirk {
        name: "an empty payload",
        after_unit: |player| now_and_then(player, |player| player.rtp(&[], false)),
        ..PLAIN
    },
    Quirk {
        name: "NAL unit type 31",
        after_unit: |player| now_and_then(player, |player| player.rtp(&[0x7f, 0, 0], false)),
        ..PLAIN
    },
    Quirk {
        name: "NAL unit type 0",
        after_unit: |player| now_and_then(player, |player| player.rtp(&[0, 9, 9], true)),
        ..PLAIN
    },
    Quirk {
        name: "an end of nothing",
        after_unit: |player| now_and_then(player, |player| player.rtp(&[0x7c, 0x41, 9], true)),
        ..PLAIN
    },
    Quirk { name: "no RTP header", after_unit: |player| now_and_then(player, |_| vec![0; 40]), ..PLAIN },
    Quirk {
        name: "RTCP that is none, on both channels",
        after_unit: |player| {
            player.send(1, vec![0x80, 200, 0]);
            player.send(0, vec![0x81, 201, 0, 90, 1, 1, 1, 1]);
        },
        ..PLAIN
    },
    Quirk {
        name: "packets of a stream that nobody asked for",
        after_unit: |player| player.send(6, vec![0x80, 97, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ..PLAIN
    },
    Quirk {
        name: "garbage between packets",
        after_unit: |player| player.send(u8::MAX, b"\r\n\r\n\0\x01garbage".to_vec()),
        ..PLAIN
    },
    Quirk {
        name: "requests of the camera's own",
        after_unit: |player| {
            player.send(u8::MAX, b"OPTIONS rtsp://cam/ RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_vec())
        },
        ..PLAIN
    },
    Quirk { name: "each packet twice", packet: |_, packet| vec![(0, packet.clone()), (0, packet)], ..PLAIN },
    Quirk {
        name: "a marker on each packet",
        packet: |_, mut packet| {
            packet[1] |= 0x80;
            vec![(0, packet)]
        },
        ..PLAIN
    },
    Quirk {
        name: "no markers",
        packet: |_, mut packet| {
            packet[1] &= 0x7f;
            vec![(0, packet)]
        },
        ..PLAIN
    },
    Quirk {
        name: "time that stands still",
        after_unit: |player| player.time = player.time.wrapping_sub(1800),
        ..PLAIN
    },
    Quirk {
        name: "always the same number",
        packet: |_, mut packet| {
            packet[2..4].fill(0);
            vec![(0, packet)]
        },
        ..PLAIN
    },
    Quirk {
        name: "padding and an extension",
        packet: |_, mut packet| {
            packet[0] |= 0x30;
            packet.splice(12..12, [0xab, 0xac, 0, 1, 0, 0, 0, 0]);
            packet.extend([0, 0, 0, 4]);
            vec![(0, packet)]
        },
        ..PLAIN
    },
    Quirk {
        name: "RTP-Info of something else",
        played: "RTP-Info: url=x;seq=7;rtptime=4000000000,;;=\r\n",
        ..PLAIN
    },
    Quirk { name: "no RTP-Info and no Session", played: "", ..PLAIN },
    Quirk {
        name: "Interleaved in capitals",
        set_up: "Transport: RTP/AVP/TCP; unicast; Interleaved = 0 - 1;mode=\"PLAY\"\r\nSession:  1 ; Timeout = 60\r\n",
        ..PLAIN
    },
    Quirk { name: "no channels", set_up: "Transport: RTP/AVP/TCP;unicast\r\nSession: 12345678\r\n", ..PLAIN },
    Quirk {
        name: "other channels",
        set_up: "Transport: RTP/AVP/TCP;unicast;interleaved=4-5\r\nSession: 1\r\n",
        packet: |_, packet| vec![(4, packet)],
        ..PLAIN
    },
    Quirk { name: "channels that were not agreed on", packet: |_, packet| vec![(2, packet)], ..PLAIN },
    Quirk { name: "no Transport and no Session", set_up: "", ..PLAIN },
    Quirk {
        name: "a wrong sender announced",
        set_up: "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=0x9\r\nSession: 1;timeout=0\r\n",
        ..PLAIN
    },
    Quirk {
        name: "a description that begins at its stream",
        sdp: |sdp| sdp[sdp.find("m=").unwrap()..].to_owned(),
        ..PLAIN
    },
    Quirk {
        name: "a description without parameters",
        sdp: |sdp| {
            sdp.lines().filter(|line| !line.contains("fmtp")).map(|line| format!("{line}\n")).collect()
        },
        ..PLAIN
    },
    Quirk { name: "neither content type nor base", described: "", ..PLAIN },
    Quirk { name: "an empty base", described: "Content-Type: text/plain\r\nContent-Base: \r\n", ..PLAIN },
    Quirk {
        name: "line feeds only",
        spelling: |answer| {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            format!("{}\n\n{body}", head.replace("\r\n", "\n"))
        },
        ..PLAIN
    },
    Quirk {
        name: "spaces, and lines that are no fields",
        spelling: |answer| answer.replacen("CSeq: ", "What is this\r\nCSeq :   ", 1),
        ..PLAIN
    },
    Quirk {
        name: "answers without numbers",
        spelling: |answer| answer.replacen("CSeq", "X-CSeq", 1),
        ..PLAIN
    },
    Quirk {
        name: "a description that is shorter than it says",
        spelling: |answer| answer.replace("\r\n", "\n"),
        ..PLAIN
    },
    Quirk { name: "udp lost on its way", over_udp: true, udp_is_lost: true, ..PLAIN },
    Quirk { name: "461 to TCP", refuses: Some("461 Unsupported Transport"), ..PLAIN },
    Quirk { name: "406 to UDP", refuses: Some("406 Not Acceptable"), over_udp: true, ..PLAIN },
    Quirk {
        name: "UDP without a server port",
        set_up: "Transport: RTP/AVP;unicast\r\nSession: 1\r\n",
        over_udp: true,
        ..PLAIN
    },
    Quirk {
        name: "UDP out of order",
        over_udp: true,
        packet: |player, packet| match player.held.take() {
            Some(held) => vec![(0, packet), (0, held)],
            None if player.packets % 8 == 7 => {
                player.held = Some(packet);
                Vec::new()
            }
            None => vec![(0, packet)],
        },
        ..PLAIN
    },
    Quirk { name: "silence before the first packet", silence: Duration::from_secs(4), ..PLAIN },
    Quirk {
        name: "keep-alives refused",
        set_up: "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=1\r\n",
        kept_alive: "454 Session Not Found",
        ..PLAIN
    },
    Quirk {
        name: "keep-alives never answered",
        set_up: "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=1\r\n",
        kept_alive: "",
        ..PLAIN
    },
    Quirk {
        name: "digests of several kinds",
        challenge: "WWW-Authenticate: Digest realm=\"cam\", nonce=\"a\", algorithm=SHA-256, qop=\"auth,auth-int\"\r\nWWW-Authenticate: Digest realm=\"cam\", nonce=\"a\", algorithm=\"MD5\", qop=\"auth,auth-int\"\r\n",
        answers_with: "algorithm=MD5, qop=auth, nc=",
        ..PLAIN
    },
];

#[test]
fn a_stream_of_nothing_but_refused_packets_fails_and_says_why() {
    let clip = Script::of("clips/baseline.mp4").units;
    let units: Arc<Vec<_>> = Arc::new(clip.iter().cycle().take(1000).cloned().collect());
    let useless = Quirk {
        packet: |_, mut packet| {
            packet[1] = 127;
            vec![(0, packet)]
        },
        ..PLAIN
    };
    // The description says how large pictures are: the source is open before the first packet.
    let camera = quirks::Camera::start(useless, units, "Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==");
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        opened(&worker).await;
        let (mut refused, began) = (0, Instant::now());
        let error = loop {
            match next(&worker).await {
                Event::Alive(progress) => refused = progress.packets.get(PacketLoss::PayloadType),
                Event::Failed(error) => break error,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(error.kind(), Kind::SourceStalled);
        assert!(error.message().contains("refused") && refused > 0, "{error}, {refused}");
        assert!(began.elapsed() < Duration::from_secs(4), "as soon as a silent one: {:?}", began.elapsed());
    });
}

#[test]
fn a_muted_camera_goes_on_where_it_is_and_not_with_its_next_key_frame() {
    // A key frame every 2.4 s.
    let camera = Scripted::start(Script { fps: 5.0, ..Script::of("clips/baseline.mp4") });
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        let before = frames(&worker, 2).await;
        for _ in 0..3 {
            worker.set_muted(true);
            while !matches!(next(&worker).await, Event::Alive(_)) {}
            worker.set_muted(false);
            let after = frames(&worker, 1).await;
            assert!(after > before);
            // A picture of each group but its first is one that decoding could not begin with.
            if (after - 1) % 12 != 0 {
                return;
            }
        }
        panic!("only key frames");
    });
}

#[test]
fn frames_in_another_order_than_they_came_have_times_that_do_not_run_backwards() {
    let camera = Scripted::start(Script { fps: 50.0, ..Script::of("clips/high-pyramid.mp4") });
    smol::block_on(async {
        let worker = start(request(camera.url())).await;
        let mut latest = None;
        opened(&worker).await;
        for _ in 0..20 {
            let frame = frame(&worker).await;
            worker.release(frame.slot);
            assert!(Some(frame.timestamp) >= latest, "frame {}", frame.frame_id);
            latest = Some(frame.timestamp);
        }
    });
}

#[test]
fn cameras_with_one_quirk_each_play_as_those_without() {
    let clip = Script::of("clips/baseline.mp4").units;
    let units: Arc<Vec<_>> = Arc::new(clip.iter().cycle().take(96).cloned().collect());
    let cameras: Vec<quirks::Camera> =
        QUIRKS.iter().map(|quirk| quirks::Camera::start(*quirk, Arc::clone(&units), "")).collect();
    let played = |camera: &quirks::Camera| {
        let (url, name) = (camera.url(), camera.quirk.name);
        // What a busy machine cannot take at once waits, and is not thrown away.
        let request = Request { filling: Some(Filling::Wait), ..request(url) };
        std::thread::spawn(move || {
            smol::block_on(async {
                let worker = start_with(&settings(), request).await;
                let (mut frames, mut notice) = (0, None);
                let ended = loop {
                    match next(&worker).await {
                        Event::Frame(frame) => {
                            worker.release(frame.slot);
                            frames += 1;
                        }
                        Event::Notice(said) => notice = Some(said),
                        Event::Opened(_) | Event::Picture(_) | Event::Alive(_) | Event::Memory(_) => {}
                        Event::Ended => panic!("{name}: a camera has no end"),
                        Event::Failed(error) => break error,
                    }
                };
                (name, frames, notice, ended)
            })
        })
    };
    let played: Vec<_> = cameras.iter().map(played).collect();
    let mut short = Vec::new();
    for player in played {
        let (name, frames, notice, ended) = player.join().unwrap();
        // 95 % of what the plain camera gives, which is all.
        if frames < 92 || ended.kind() != Kind::SourceStalled {
            short.push(format!("{name}: {frames} frames, then {ended}"));
        }
        let exchanged = ["461", "406", "udp lost"].iter().any(|begin| name.starts_with(begin));
        assert_eq!(notice.is_some(), exchanged, "{name}: {notice:?}");
    }
    assert!(short.is_empty(), "{short:#?}");
}
