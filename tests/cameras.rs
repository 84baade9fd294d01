//! RTSP servers, real and hostile, against capture workers: each hostile one ends its own worker in time and with a
//! cause, and costs nobody else anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use futures_lite::FutureExt;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::rtsp::Camera;
use weir::capture::{Event, Request, Settings, Spawner, Worker};
use weir::command::SourceReference;
use weir::error::{Error, Kind};
use weir::geometry::{Fit, InputRule};

/// Longest that any of these tests waits for one event.
const PATIENCE: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings {
        worker_memory_bytes: 192 << 20,
        open_timeout: Duration::from_secs(4),
        stall_timeout: Duration::from_secs(2),
        stop_grace: Duration::from_millis(500),
        rtsp_udp: false,
        user_agent: "weir-test".into(),
    }
}

async fn start(url: &str) -> Worker {
    let spawner = Spawner::with_executable(PathBuf::from(env!("CARGO_BIN_EXE_weir"))).unwrap();
    let rule = InputRule { width: 64, height: 64, fit: Fit::Letterbox { fill: 0 }, crop: None, grayscale: false, contrast: None };
    let request = Request {
        reference: SourceReference::Text(url.to_owned()),
        properties: Vec::new(),
        rule,
        slots: 4,
        first_frame_id: 1,
        filling: None,
        file_max_fps: None,
        muted: false,
    };
    Worker::start(&spawner, &settings(), request).await.unwrap()
}

async fn next(worker: &Worker) -> Event {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        panic!("no event in time")
    };
    worker.next().or(late).await
}

/// The error that the worker ends with, and the most memory that it was seen to use, bytes.
async fn failure(worker: &Worker) -> Error {
    loop {
        match next(worker).await {
            Event::Failed(error) => return error,
            Event::Frame(frame) => worker.release(frame.slot),
            Event::Ended => panic!("ended well"),
            Event::Opened(_) | Event::Alive(_) => {}
        }
    }
}

async fn frames(worker: &Worker, mut count: usize) {
    while count > 0 {
        match next(worker).await {
            Event::Frame(frame) => {
                worker.release(frame.slot);
                count -= 1;
            }
            Event::Failed(error) => panic!("{error}"),
            Event::Ended => panic!("ended"),
            Event::Opened(_) | Event::Alive(_) => {}
        }
    }
}

#[test]
fn h264_over_tcp_and_udp_with_what_the_camera_declares() {
    let camera = Camera::start("long.mp4", &[]);
    smol::block_on(async {
        for url in [camera.url(), format!("{}?rtsp_transport=udp", camera.url())] {
            let worker = start(&url).await;
            let Event::Opened(properties) = next(&worker).await else { panic!("not opened") };
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
        let worker = start(&camera.url()).await;
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
        let worker = start(&camera.url()).await;
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
fn a_wrong_password_is_told_apart_from_a_dead_camera() {
    let camera = Camera::start("long.mp4", &["--user", "joe:hunter2"]);
    smol::block_on(async {
        let worker = start(&camera.url_with("joe:hunter2")).await;
        frames(&worker, 1).await;
        let error = failure(&start(&camera.url_with("joe:hunter3")).await).await;
        assert_eq!(error.kind(), Kind::SourceUnauthorised);
        assert!(!error.to_string().contains("hunter"), "{error}");
    });
}

/// A server that answers as `serve` does, each connection on a thread of its own.
struct Hostile {
    port: u16,
    over: Arc<AtomicBool>,
}

impl Hostile {
    fn start(serve: impl Fn(&mut TcpStream, u16) -> std::io::Result<()> + Send + Sync + 'static) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let (ended, serve) = (Arc::clone(&over), Arc::new(serve));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (mut connection, serve) = (connection.unwrap(), Arc::clone(&serve));
                std::thread::spawn(move || {
                    let _ = serve(&mut connection, port);
                    // Silent, but open, until the client leaves.
                    let _ = std::io::copy(&mut connection, &mut std::io::sink());
                });
            }
        });
        Hostile { port, over }
    }

    fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Reads one request: its method and CSeq.
fn request(connection: &mut TcpStream) -> std::io::Result<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if connection.read(&mut byte)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let cseq = head.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0").to_owned();
    Ok((head.split(' ').next().unwrap_or_default().to_owned(), cseq))
}

const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\na=control:track1\r\n";

/// Answers everything properly up to and with PLAY.
fn handshake(connection: &mut TcpStream) -> std::io::Result<()> {
    loop {
        let (method, cseq) = request(connection)?;
        let rest = match method.as_str() {
            "DESCRIBE" => format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len()),
            "SETUP" => "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000001\r\n\r\n".to_owned(),
            "PLAY" => "Session: 1\r\nRTP-Info: url=track1;seq=0;rtptime=0\r\n\r\n".to_owned(),
            _ => "Session: 1\r\n\r\n".to_owned(),
        };
        write!(connection, "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{rest}")?;
        if method == "PLAY" {
            return Ok(());
        }
    }
}

/// One RTP packet in an interleaved frame.
fn rtp(sequence: u16, marker: bool, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![b'$', 0, length[0], length[1], 0x80, 96 | (u8::from(marker) << 7)];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend_from_slice(payload);
    packet
}

/// What the worker says in the end, which must come in time and name one of these kinds.
#[track_caller]
fn ends(server: &Hostile, kinds: &[Kind]) -> Error {
    smol::block_on(async {
        let worker = start(&server.url()).await;
        let started = Instant::now();
        let error = failure(&worker).await;
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(started.elapsed() < Duration::from_secs(12), "{:?}: {error}", started.elapsed());
        error
    })
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let error = ends(&Hostile::start(|_, _| Ok(())), &[Kind::SourceConnection]);
    assert!(error.message().starts_with("Cannot connect to video source under reference: rtsp://127.0.0.1"), "{error}");
}

#[test]
fn a_server_that_is_silent_after_play_is_given_up_in_time() {
    ends(&Hostile::start(|connection, _| handshake(connection)), &[Kind::SourceConnection, Kind::SourceStalled]);
}

#[test]
fn a_server_that_drips_its_answer_is_given_up_in_time() {
    let server = Hostile::start(|connection, _| {
        request(connection)?;
        for byte in b"RTSP/1.0 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            connection.write_all(&[*byte])?;
            // The drip itself.
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    ends(&server, &[Kind::SourceConnection]);
}

#[test]
fn headers_without_end_cost_one_worker_its_memory_limit_and_nobody_else() {
    for line in ["X: y\r\n", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
        let server = Hostile::start(move |connection, _| {
            request(connection)?;
            connection.write_all(b"RTSP/1.0 200 OK\r\n")?;
            let block = line.repeat(2048);
            loop {
                connection.write_all(block.as_bytes())?;
            }
        });
        ends(&server, &[Kind::SourceConnection, Kind::Worker]);
    }
}

#[test]
fn a_body_of_four_gigabytes_is_not_waited_for_nor_kept() {
    let server = Hostile::start(|connection, _| {
        let (_, cseq) = request(connection)?;
        write!(
            connection,
            "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\nContent-Length: 4000000000\r\n\r\n"
        )?;
        let block = vec![b'x'; 1 << 16];
        loop {
            connection.write_all(&block)?;
        }
    });
    ends(&server, &[Kind::SourceConnection, Kind::Worker]);
}

#[test]
fn fragments_and_units_without_end_are_bounded() {
    for payload in [vec![0x7c, 0x05], vec![0x01]] {
        let server = Hostile::start(move |connection, _| {
            handshake(connection)?;
            let mut first = payload.clone();
            if let [_, fragment] = first.as_mut_slice() {
                *fragment |= 0x80;
            }
            first.resize(1400, 7);
            connection.write_all(&rtp(0, false, &first))?;
            let mut more = payload.clone();
            more.resize(1400, 7);
            for sequence in (1..=u16::MAX).cycle() {
                connection.write_all(&rtp(sequence, false, &more))?;
            }
            Ok(())
        });
        ends(&server, &[Kind::SourceConnection, Kind::SourceStalled, Kind::SourceLost, Kind::Worker]);
    }
}

#[test]
fn a_server_that_redirects_for_ever_is_followed_three_times() {
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let server = Hostile::start(move |connection, port| {
        *count.lock().unwrap() += 1;
        let (_, cseq) = request(connection)?;
        write!(connection, "RTSP/1.0 302 Moved\r\nCSeq: {cseq}\r\nLocation: rtsp://127.0.0.1:{port}/again\r\n\r\n")
    });
    let error = ends(&server, &[Kind::SourceConnection]);
    assert!(error.message().contains("redirected"), "{error}");
    assert!(*asked.lock().unwrap() <= 8);
}

#[test]
fn a_redirect_is_followed_to_a_real_camera() {
    let camera = Camera::start("long.mp4", &[]);
    let target = camera.url();
    let server = Hostile::start(move |connection, _| {
        let (_, cseq) = request(connection)?;
        write!(connection, "RTSP/1.0 302 Moved\r\nCSeq: {cseq}\r\nLocation: {target}\r\n\r\n")
    });
    smol::block_on(async { frames(&start(&server.url()).await, 3).await });
}

#[test]
fn a_connection_cut_anywhere_in_the_handshake_is_one_clear_error() {
    let whole =
        format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
    for cut in [0, 1, 9, 40, 90, whole.len() - 1] {
        let part = whole[..cut].to_owned();
        let server = Hostile::start(move |connection, _| {
            request(connection)?;
            connection.write_all(part.as_bytes())?;
            connection.shutdown(std::net::Shutdown::Both)
        });
        ends(&server, &[Kind::SourceConnection]);
    }
}

#[test]
fn no_answer_at_all_but_noise_is_one_clear_error() {
    let server = Hostile::start(|connection, _| {
        request(connection)?;
        connection.write_all(&(0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>())
    });
    ends(&server, &[Kind::SourceConnection]);
}

/// Behind the filter, a snapshot camera still makes a connection per picture and resolves its name.
#[test]
fn snapshots_over_http_flow_behind_the_filter() {
    let picture = std::fs::read(support::clip("clips/colour.jpg")).unwrap();
    let server = Hostile::start(move |connection, _| {
        request(connection)?;
        let length = picture.len();
        write!(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        connection.write_all(&picture)?;
        connection.shutdown(std::net::Shutdown::Both)
    });
    smol::block_on(async { frames(&start(&format!("http://localhost:{}/snapshot.jpg", server.port)).await, 3).await });
}
