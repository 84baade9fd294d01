//! The real binary as a process: several pipelines, the end of things, and everything that goes wrong around
//! it.

use crate::support::request::{self, quoted};
use crate::support::weir::{children, command, follow, signal};
use crate::support::{Folder, Json, PATIENCE, Weir, clip, http, process, roboflow, tcp, udp, wait_for};
use std::io::Write as _;
use std::net::{Shutdown, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// An `init` of the toy model; `extra` holds further members, each with a comma before it.
fn init(weir: &Weir, video: &str, port: u16, extra: &str) -> Json {
    request::init(&weir.toy(), video, port, extra)
}

/// A clip as a stream: `file://` plays for ever at its own speed, and is reconnected like a camera.
fn stream(name: &str) -> String {
    quoted(&format!("file://{}", clip(name)))
}

fn frame_id(datagram: &Json) -> f64 {
    datagram.at("inference_metadata/frame_id").number().expect("a frame id")
}

#[test]
fn four_pipelines_at_once_each_send_every_frame_of_their_file() {
    let weir = Weir::start();
    let sinks: Vec<udp::Receiver> = (0..4).map(|_| udp::Receiver::new()).collect();
    let ids: Vec<String> = sinks
        .iter()
        .map(|sink| weir.init(&init(&weir, &quoted(&clip("short.mp4")), sink.port(), "")))
        .collect();
    assert_eq!(weir.list(), ids, "in the order of creation");
    for sink in &sinks {
        let frames: Vec<f64> = (0..60).map(|_| frame_id(&sink.next())).collect();
        assert_eq!(frames, (1..=60).map(f64::from).collect::<Vec<_>>());
    }
    for id in &ids {
        let report = weir.wait_state(id, "ENDED");
        assert_eq!(report.at("sources_metadata/0/source_properties/total_frames").number(), Some(60.0));
        assert_eq!(weir.order("terminate", id).get("status").text(), Some("success"));
    }
    assert_eq!(weir.list(), Vec::<String>::new());
    wait_for("the workers to be gone", || children(weir.pid()).is_empty().then_some(()));
}

#[test]
fn several_sources_in_one_pipeline_are_told_apart_by_source_id() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let video = format!("[{0}, {0}]", quoted(&clip("short.mp4")));
    let id = weir.init(&init(&weir, &video, sink.port(), ""));
    let mut seen = [0; 2];
    for _ in 0..120 {
        let source = sink.next().at("inference_metadata/source_id").number().expect("a source id") as usize;
        seen[source] += 1;
    }
    assert_eq!(seen, [60, 60]);
    let report = weir.wait_state(&id, "ENDED");
    assert_eq!(report.get("sources_metadata").items().len(), 2);
    assert_eq!(report.get("latency_reports").items().len(), 2);
}

#[test]
fn a_muted_pipeline_sends_nothing_and_goes_on_after_resume() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let id = weir.init(&init(&weir, &stream("short.mp4"), sink.port(), ""));
    sink.next();
    assert_eq!(weir.order("mute", &id).get("status").text(), Some("success"));
    // What was under way when the reply came may still arrive.
    while sink.text_within(Duration::from_millis(500)).is_some() {}
    assert_eq!(sink.count_for(Duration::from_millis(500)), 0);
    assert_eq!(weir.report(&id).at("sources_metadata/0/state").text(), Some("MUTED"));
    assert_eq!(weir.order("resume", &id).get("status").text(), Some("success"));
    sink.next();
    weir.wait_state(&id, "RUNNING");
}

#[test]
fn max_fps_holds_for_a_file_without_losing_a_frame() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    weir.init(&init(&weir, &quoted(&clip("short.mp4")), sink.port(), r#", "max_fps": 30"#));
    let first = sink.next();
    let start = Instant::now();
    let last = (0..59).map(|_| sink.next()).fold(None, |_, datagram| Some(datagram)).unwrap();
    let took = start.elapsed();
    assert_eq!((frame_id(&first), frame_id(&last)), (1.0, 60.0));
    // 59 intervals of 1/30 s; late is allowed on a busy machine, early is not.
    assert!(took >= Duration::from_millis(1_850), "60 frames came in {took:?}");
}

#[test]
fn sigterm_drains_and_the_next_start_gets_the_same_ports() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    weir.init(&init(&weir, &stream("long.mp4"), sink.port(), ""));
    weir.init(&init(&weir, &quoted(&clip("long.mp4")), sink.port(), r#", "max_fps": 5"#));
    sink.next();
    let (tcp, http) = (weir.tcp, weir.http);
    let workers = weir.workers();
    assert_eq!(workers.len(), 2, "one process per source");
    let (status, took) = weir.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "the drain took {took:?}");
    for worker in workers {
        assert!(
            !std::path::Path::new(&format!("/proc/{worker}")).exists(),
            "worker {worker} outlived the service"
        );
    }
    let again = Weir::start_with(|command| {
        command.env("STREAM_MANAGER_PORT", tcp.port().to_string());
        command.env("STREAM_MANAGEMENT_API_PORT", http.port().to_string());
    });
    assert_eq!((again.tcp, again.http), (tcp, http));
}

#[test]
fn workers_do_not_outlive_a_killed_service() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    weir.init(&init(&weir, &stream("long.mp4"), sink.port(), ""));
    sink.next();
    let workers = weir.workers();
    assert_eq!(workers.len(), 1);
    drop(weir); // SIGKILL
    for worker in workers {
        wait_for("the worker to end with its parent", || {
            // Gone, or a zombie of whoever adopted it.
            let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }
}

#[test]
fn a_killed_worker_is_replaced_and_the_others_do_not_notice() {
    let weir = Weir::start();
    let (struck, spared) = (udp::Receiver::new(), udp::Receiver::new());
    let id = weir.init(&init(&weir, &stream("long.mp4"), struck.port(), ""));
    let before = frame_id(&struck.next());
    let victim = *weir.workers().first().expect("a worker");
    let other = weir.init(&init(&weir, &stream("long.mp4"), spared.port(), ""));
    spared.next();
    signal(victim, rustix::process::Signal::KILL);
    // Every command answers while the source is away.
    assert_eq!(weir.list(), [id.clone(), other.clone()]);
    let new = wait_for("another worker", || {
        let workers = weir.workers();
        (workers.len() == 2 && !workers.contains(&victim)).then_some(workers)
    });
    assert!(!new.contains(&victim));
    struck.drain();
    let after = frame_id(&struck.next());
    assert!(after > before, "frame ids go on across workers: {before}, then {after}");
    let report = weir.wait_state(&id, "RUNNING");
    let complaint = report.get("video_source_status_updates").items().iter().any(|update| {
        update.get("severity").number() >= Some(30.0) && update.at("payload/source_id").number() == Some(0.0)
    });
    assert!(complaint, "the loss is visible: {report}");
    let untouched = weir.report(&other);
    assert_eq!(untouched.get("video_source_status_updates").items().len(), 4, "{untouched}");
    assert!(spared.text_within(PATIENCE).is_some());
}

#[test]
fn a_silent_client_delays_nobody() {
    let weir = Weir::start();
    let _silent: Vec<_> = (0..8).map(|_| tcp::connect(weir.tcp)).collect();
    let mut half = tcp::connect(weir.http);
    half.write_all(b"GET /list_pipelines HTTP/1.1\r\nhost:").unwrap();
    let start = Instant::now();
    assert_eq!(weir.list(), Vec::<String>::new());
    assert_eq!(weir.get("/list_pipelines").status, 200);
    assert!(start.elapsed() < Duration::from_secs(2), "answered after {:?}", start.elapsed());
}

#[test]
fn tcp_messages_may_come_in_any_pieces() {
    let weir = Weir::start();
    let message = tcp::frame(br#"{"type": "list_pipelines"}"#);
    let mut stream = tcp::connect(weir.tcp);
    for byte in &message {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(tcp::read_reply(&mut stream).contains("success"));
    // A second message in the same write is left unread, the first is answered.
    let twice = [message.clone(), message].concat();
    assert!(tcp::exchange(weir.tcp, &twice).contains("success"));
}

/// Bytes on the TCP listener, the error type and class that answer them.
#[test]
fn bad_bytes_on_tcp_are_answered_in_the_protocol() {
    let mut weir = Weir::start();
    let deep = "[".repeat(100_000);
    let id = "00000000-0000-4000-8000-000000000000";
    let table: &[(&[u8], &str, &str)] = &[
        (b"{", "invalid_payload", "MalformedPayloadError"),
        (b"\xff\xfe\xfd", "invalid_payload", "MalformedPayloadError"),
        (b"{'type': 'list_pipelines'}", "invalid_payload", "MalformedPayloadError"),
        (b"{}", "invalid_payload", "KeyError"),
        (br#"{"type": "LIST_PIPELINES"}"#, "invalid_payload", "ValueError"),
        (br#"{"type": null}"#, "invalid_payload", "ValueError"),
        (br#"{"type": "pause", "pipeline_id": "x"}"#, "invalid_payload", "ValueError"),
        (br#"{"type": "status", "pipeline_id": {}}"#, "internal_error", "TypeError"),
        (b"[]", "internal_error", "TypeError"),
        (b"null", "internal_error", "TypeError"),
        (deep.as_bytes(), "internal_error", "RecursionError"),
        (br#"{"type": "init"}"#, "invalid_payload", "KeyError"),
    ];
    for (bytes, error_type, class) in table {
        let text = tcp::exchange(weir.tcp, &tcp::frame(bytes));
        let response = Json::parse(&text).get("response").clone();
        assert_eq!(
            (response.get("error_type").text(), response.get("error_class").text()),
            (Some(*error_type), Some(*class)),
            "{} -> {text}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(80)])
        );
    }
    for word in ["status", "mute", "resume", "terminate"] {
        assert_eq!(weir.order(word, id).to_string(), r#"{"status": "failure", "error_type": "not_found"}"#);
    }
    // Headers that lie.
    assert!(tcp::exchange(weir.tcp, &[0, 0, 0, 0]).contains("MalformedHeaderError"));
    assert!(tcp::exchange(weir.tcp, &[0xff, 0xff, 0xff, 0xff, b'{']).contains("invalid_payload"));
    for cut in [&b"\0\0"[..], b"\0\0\0\x20{\"type\""] {
        let mut stream = tcp::connect(weir.tcp);
        stream.write_all(cut).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(tcp::read_reply(&mut stream).contains("internal_error"));
    }
    assert!(weir.is_alive());
    assert_eq!(weir.list(), Vec::<String>::new());
}

#[test]
fn bad_requests_on_http_are_refused_and_the_service_goes_on() {
    let mut weir = Weir::start();
    let json = [("content-type", "application/json")];
    for (method, path, body, status) in [
        ("GET", "/", &b""[..], 404),
        ("GET", "/status", b"", 404),
        ("GET", "/status/%2Fetc", b"", 404),
        ("POST", "/list_pipelines", b"", 405),
        ("DELETE", "/status/x", b"", 405),
        ("POST", "/initialise", b"", 422),
        ("POST", "/initialise", b"{", 422),
        ("POST", "/initialise", b"[]", 422),
        ("POST", "/initialise", b"\xff\xff", 400),
        ("POST", "/pause/x", b"any body is ignored", 404),
    ] {
        let response = http::request(weir.http, method, path, &json, body);
        assert_eq!(
            response.status,
            status,
            "{method} {path} {:?} -> {response:?}",
            String::from_utf8_lossy(body)
        );
    }
    // No HTTP at all, endless headers, a length that lies: refused or closed, soon.
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(20_000));
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8589934592\r\n\r\n{",
        b"POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = http::exchange(weir.http, bytes);
        let line =
            String::from_utf8_lossy(answer.split(|byte| *byte == b'\n').next().unwrap_or(&[])).into_owned();
        assert!(answer.is_empty() || line.contains(" 4"), "{:?} -> {line}", String::from_utf8_lossy(bytes));
    }
    for bytes in [many_headers, long_line] {
        // The server may close while we still write: both are fine, as long as it goes on.
        let mut stream = tcp::connect(weir.http);
        let _ = stream.write_all(bytes.as_bytes());
    }
    assert!(weir.is_alive());
    assert_eq!(weir.get("/list_pipelines").status, 200);
}

/// `init` with each way in which a registry can misbehave: what the client is told.
#[test]
fn a_registry_that_misbehaves_gives_a_clear_error_and_leaves_nothing() {
    let registry = roboflow::Server::start();
    let mut weir = Weir::with_registry(&registry);
    let sink = udp::Receiver::new();
    for (model, error_type, class) in [
        ("nope/7", "not_found", "RoboflowAPINotNotFoundError"),
        ("broken/1", "internal_error", "RoboflowAPIUnsuccessfulRequestError"),
        ("forbidden/1", "internal_error", "RoboflowAPIUnsuccessfulRequestError"),
        ("busy/1", "internal_error", "RoboflowAPIUnsuccessfulRequestError"),
        ("garbage/1", "internal_error", "MalformedRoboflowAPIResponseError"),
        ("unknown-type/1", "invalid_payload", "KeyError"),
        ("damaged/1", "internal_error", "ModelArtefactError"),
        ("wrong-names/1", "internal_error", "ModelArtefactError"),
        ("no-preprocessing/1", "internal_error", "ModelArtefactError"),
        // More than `models.max_bytes`, by its own account: not one byte of it is fetched.
        ("huge/1", "operation_error", "ResourcesExhaustedError"),
        ("a/b/c", "internal_error", "InvalidModelIDError"),
        ("../../etc/1", "internal_error", "InvalidModelIDError"),
    ] {
        let request = registry_init(model, sink.port());
        let reply = weir.ask(&request);
        let response = reply.get("response");
        assert_eq!(
            (response.get("error_type").text(), response.get("error_class").text()),
            (Some(error_type), Some(class)),
            "{model}: {reply}"
        );
        assert!(!reply.to_string().contains(roboflow::GOOD_KEY), "{model}: the key is in the reply");
    }
    for model in ["no-ort/1", "hang-up/1", "cut-answer/1", "truncated/1"] {
        let reply = weir.ask(&registry_init(model, sink.port()));
        assert_eq!(reply.at("response/error_type").text(), Some("internal_error"), "{model}: {reply}");
    }
    assert_eq!(weir.list(), Vec::<String>::new(), "a failed init leaves no pipeline");
    assert_eq!(children(weir.pid()), Vec::<u32>::new(), "a failed init leaves no process");
    assert!(weir.is_alive());
    assert!(!weir.log().contains(roboflow::GOOD_KEY), "the key is in the log");
    // And a good model still loads, once for two pipelines.
    weir.init(&registry_init("toy/1", sink.port()));
    weir.init(&registry_init("toy/1", sink.port()));
    sink.next();
    let weights = registry.seen().iter().filter(|target| target.starts_with("/weights/toy/1")).count();
    assert_eq!(weights, 1);
}

fn registry_init(model: &str, port: u16) -> Json {
    Json::parse(&format!(
        r#"{{"type": "init", "model_id": "{model}", "video_reference": {}, "api_key": "{}",
            "sink_configuration": {{"type": "udp_sink", "host": "127.0.0.1", "port": {port}}},
            "model_configuration": {{"type": "object-detection"}}}}"#,
        quoted(&clip("long.mp4")),
        roboflow::GOOD_KEY
    ))
}

#[test]
fn a_cached_model_needs_no_key_and_no_network() {
    let registry = roboflow::Server::start();
    let first = Weir::with_registry(&registry);
    let sink = udp::Receiver::new();
    first.init(&registry_init("toy/2", sink.port()));
    let offline = Weir::start_with(|command| {
        command.env("MODEL_CACHE_DIR", first.cache.path());
    });
    let request =
        Json::parse(&registry_init("toy/2", sink.port()).to_string().replace(roboflow::GOOD_KEY, "bad-key"));
    offline.init(&request);
}

#[test]
fn damaged_and_missing_sources_are_told_in_status_and_can_be_terminated() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let folder = Folder::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let good = std::fs::read(clip("short.mp4")).unwrap();
    std::fs::write(path("noise.mp4"), vec![0xA5; 100_000]).unwrap();
    std::fs::write(path("empty.mp4"), b"").unwrap();
    std::fs::write(path("cut.mp4"), &good[..good.len() / 3]).unwrap();
    std::fs::write(path("text.mp4"), "this is no video\n".repeat(100)).unwrap();
    let sources = [
        path("absent.mp4"),
        path("noise.mp4"),
        path("empty.mp4"),
        path("cut.mp4"),
        path("text.mp4"),
        folder.path().display().to_string(),
        "/dev/null".to_owned(),
        "/dev/video99".to_owned(),
        "rtsp://user:hunter2@127.0.0.1:9/cam?token=hunter2".to_owned(),
        "nonsense://somewhere".to_owned(),
    ];
    for source in sources {
        let reply = weir.ask(&init(&weir, &quoted(&source), sink.port(), ""));
        assert!(!reply.to_string().contains("hunter2"), "{reply}");
        if let (Some("success"), Some(id)) =
            (reply.at("response/status").text(), reply.get("pipeline_id").text())
        {
            let report = wait_for(&format!("an error in the status of {source}"), || {
                let report = weir.report(id);
                let updates = report.get("video_source_status_updates").items();
                updates
                    .iter()
                    .any(|update| update.get("severity").number() >= Some(30.0))
                    .then_some(report.clone())
            });
            assert!(!report.to_string().contains("hunter2"), "{report}");
            assert_eq!(weir.order("terminate", id).get("status").text(), Some("success"), "{source}");
        } else {
            assert!(
                reply.at("response/error_message").text().is_some_and(|text| !text.is_empty()),
                "{reply}"
            );
        }
    }
    assert_eq!(weir.list(), Vec::<String>::new());
    wait_for("the workers to be gone", || children(weir.pid()).is_empty().then_some(()));
    assert!(!weir.log().contains("hunter2"), "a password is in the log");
}

#[test]
fn a_file_whose_pictures_need_more_memory_than_is_allowed_names_the_key_and_is_read_once() {
    let weir =
        Weir::configured("[capture]\nworker_memory_bytes = 16777216\nworker_memory_max_bytes = 16777216\n");
    let sink = udp::Receiver::new();
    let id = weir.init(&init(&weir, &quoted(&clip("short.mp4")), sink.port(), ""));
    let report = wait_for("the refusal", || {
        let report = weir.report(&id);
        let updates = report.get("video_source_status_updates").items();
        let names =
            |update: &Json| update.to_string().contains("capture.worker_memory_max_bytes allows 16 MiB");
        updates.iter().any(names).then_some(report.clone())
    });
    assert!(!report.to_string().contains("CaptureWorkerError"), "{report}");
    wait_for("the end of the attempts", || {
        let page = weir.get("/metrics").body;
        page.lines()
            .any(|line| line.starts_with("weir_source_finished") && line.ends_with(" 1"))
            .then_some(())
    });
    let page = weir.get("/metrics").body;
    let workers = page.lines().find(|line| line.starts_with("weir_source_workers"));
    assert!(workers.is_some_and(|line| line.ends_with(" 1")), "{workers:?}");
}

#[test]
fn a_taken_port_a_bad_setting_and_a_bad_flag_have_their_exit_codes() {
    let cache = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let configuration = cache.path().join("weir.toml");
    std::fs::write(&configuration, "no_such_key = 1\n").unwrap();
    let configuration = configuration.display().to_string();
    /// Arguments, environment, exit code, what standard error names.
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);
    let table: &[Row<'_>] = &[
        (&["serve"], &[("STREAM_MANAGER_PORT", &port)], 69, ""),
        (&["serve"], &[("STREAM_MANAGEMENT_API_PORT", &port)], 69, ""),
        (&["serve", "--config", &configuration], &[], 78, "no_such_key"),
        (&["serve"], &[("STREAM_MANAGER_PORT", "seventy")], 78, "STREAM_MANAGER_PORT"),
        (&["serve", "--no-such-flag"], &[], 64, "no-such-flag"),
        (&["explode"], &[], 64, "explode"),
    ];
    for (arguments, environment, code, named) in table {
        let output =
            process::output(command(cache.path()).args(*arguments).envs(environment.iter().copied()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?} {environment:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn the_ports_file_appears_complete() {
    let folder = Folder::new();
    let file = folder.path().join("ports.json");
    let weir = Weir::start_with(|command| {
        command.arg("--ports-file").arg(&file);
    });
    let text = wait_for("the ports file", || std::fs::read_to_string(&file).ok());
    let ports = Json::parse(&text);
    assert_eq!(ports.get("tcp").text(), Some(weir.tcp.to_string().as_str()));
    assert_eq!(ports.get("http").text(), Some(weir.http.to_string().as_str()));
}

#[test]
fn the_demo_prints_the_person_and_the_cat() {
    let cache = Folder::new();
    let mut child = demo(cache.path());
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = follow(child.stdout.take().unwrap(), log.clone());
    let (mut person, mut cat) = (false, false);
    let deadline = Instant::now() + PATIENCE;
    while !(person && cat) {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                person |= line.contains("person");
                cat |= line.contains("cat");
            }
            Err(error) => {
                let _ = child.kill();
                panic!("{error}: person {person}, cat {cat}; it printed {:#?}", log.lock().unwrap())
            }
        }
    }
    signal(child.id(), rustix::process::Signal::INT);
    let status = wait_for("the demo to end after SIGINT", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

fn demo(cache: &std::path::Path) -> std::process::Child {
    let mut command: Command = command(cache);
    command.arg("demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

/// Each worker takes its whole grace; together they take it once.
#[test]
fn a_pipeline_whose_workers_do_not_listen_is_terminated_in_one_grace() {
    const SOURCES: usize = 6;
    let (weir, sink) = (Weir::start(), udp::Receiver::new());
    let videos = vec![stream("short.mp4"); SOURCES].join(",");
    let id = weir.init(&init(&weir, &format!("[{videos}]"), sink.port(), r#", "max_fps": 6"#));
    let workers = wait_for("all workers", || Some(weir.workers()).filter(|workers| workers.len() == SOURCES));
    sink.next();
    workers.iter().for_each(|worker| signal(*worker, rustix::process::Signal::STOP));
    let start = Instant::now();
    assert_eq!(weir.order("terminate", &id).get("status").text(), Some("success"));
    // 0.5 s of grace and the time of a busy machine; one after the other would be 3 s.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(weir.workers().is_empty());
}

#[test]
fn workers_log_at_the_level_of_the_service_however_it_was_told() {
    for (level, expected) in [("debug", true), ("info", false)] {
        let weir = Weir::start_with(|command| {
            command.env_remove("LOG_LEVEL").args(["--log-level", level]);
        });
        let sink = udp::Receiver::new();
        weir.init(&init(&weir, &stream("short.mp4"), sink.port(), ""));
        sink.next();
        if expected {
            wait_for("the worker's line", || {
                weir.log().contains("event=source_open source=file://").then_some(())
            });
        } else {
            assert!(!weir.log().contains("event=source_open source=file://"), "{}", weir.log());
        }
    }
}

/// DNS rebinding: to the browser the page's own server, to us a stranger's name.
#[test]
fn a_page_that_points_its_name_at_the_loopback_is_not_answered() {
    let ask = |weir: &Weir, request: &str| http::parse(&http::exchange(weir.http, request.as_bytes()));
    let status = |weir: &Weir, host: &str| {
        let answer =
            ask(weir, &format!("GET /list_pipelines HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        answer.status
    };
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let weir = Weir::start();
    for host in
        ["127.0.0.1", "10.1.2.3:8080", "[::1]:99", "localhost", "LocalHost:1", &name, &format!("{name}:80")]
    {
        assert_eq!(status(&weir, host), 200, "{host}");
    }
    for host in
        ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "a b"]
    {
        assert_eq!(status(&weir, host), 421, "{host}");
    }
    assert_eq!(ask(&weir, "GET /list_pipelines HTTP/1.0\r\n\r\n").status, 200, "older than the field");
    let any = Weir::configured("[http]\nhosts = [\"*\"]\n");
    assert_eq!(status(&any, "evil.example"), 200);
    let listed = Weir::configured("[http]\nhosts = [\"weir.example\"]\n");
    assert_eq!((status(&listed, "weir.example:8080"), status(&listed, "evil.example")), (200, 421));
}

#[test]
fn a_slow_download_does_not_hold_up_another_model_of_the_same_version() {
    let registry = roboflow::Server::start();
    let (weir, sink) = (Weir::with_registry(&registry), udp::Receiver::new());
    let slow = tcp::frame(registry_init("slow/1", sink.port()).to_string().as_bytes());
    let mut waiting = tcp::connect(weir.tcp);
    waiting.write_all(&slow).unwrap();
    wait_for("the download to be under way", || {
        registry.seen().iter().any(|seen| seen.starts_with("/weights/slow")).then_some(())
    });
    weir.init(&registry_init("toy/1", sink.port()));
    registry.go_on();
    assert!(tcp::read_reply(&mut waiting).contains("success"));
}

#[test]
fn models_that_are_here_do_not_wait_for_downloads() {
    // As many as load at once.
    const DOWNLOADS: usize = 4;
    let registry = roboflow::Server::start();
    let (weir, sink) = (Weir::with_registry(&registry), udp::Receiver::new());
    let mut waiting: Vec<_> = (1..=DOWNLOADS)
        .map(|version| {
            let mut connection = tcp::connect(weir.tcp);
            let request = registry_init(&format!("slow/{version}"), sink.port()).to_string();
            connection.write_all(&tcp::frame(request.as_bytes())).unwrap();
            connection
        })
        .collect();
    let under_way = || registry.seen().iter().filter(|seen| seen.starts_with("/weights/slow")).count();
    wait_for("the downloads to be under way", || (under_way() == DOWNLOADS).then_some(()));
    weir.init(&init(&weir, &stream("short.mp4"), sink.port(), ""));
    registry.go_on();
    for connection in &mut waiting {
        assert!(tcp::read_reply(connection).contains("success"));
    }
}
