//! The HTTP sink against servers that fail, redirect and come back.

use super::init;
use crate::support::{Json, Weir, wait_for};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What came: the head of each request, and its body.
type Requests = Arc<Mutex<Vec<(String, String)>>>;

/// Answers each request with what `answer` says to its number, on a thread that ends with the test's process.
fn collector(answer: fn(usize) -> &'static str) -> (u16, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, requests) = (listener.local_addr().unwrap().port(), Requests::default());
    let seen = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = seen.clone();
            std::thread::spawn(move || serve(stream, &seen, answer));
        }
    });
    (port, requests)
}

fn serve(stream: TcpStream, seen: &Requests, answer: fn(usize) -> &'static str) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push((head, String::from_utf8(body).ok()?));
            seen.len() - 1
        };
        let status = answer(number);
        if status.is_empty() {
            return None;
        }
        write!(writer, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

#[test]
fn lines_are_posted_in_order_until_they_are_taken() {
    // It breaks off, fails and is busy before it takes anything, and once in between.
    let answers = |number| match number {
        0 => "",
        1 => "500 Internal Server Error",
        2 | 4 => "503 Service Unavailable",
        _ => "204 No Content",
    };
    let (port, requests) = collector(answers);
    let weir = Weir::start();
    let sink = format!(
        r#"{{"type": "http_sink", "url": "http://127.0.0.1:{port}/in?key=hunter2", "authorization": "Bearer hunter3"}}"#
    );
    let id = weir.init(&init(&weir, "short.mp4", &sink, r#", "max_fps": 30"#));
    wait_for("60 lines to be taken", || {
        (weir.report(&id).at("sinks/0/messages_delivered").number() == Some(60.0)).then_some(())
    });
    let requests = requests.lock().unwrap();
    let taken = requests.iter().enumerate().filter(|(number, _)| answers(*number).starts_with("204"));
    let frames: Vec<u64> = taken
        .flat_map(|(_, (_, body))| body.lines())
        .map(|line| {
            let line = Json::parse(line);
            assert_eq!(line.get("pipeline_id").text(), Some(id.as_str()));
            line.at("inference_metadata/frame_id").number().unwrap() as u64
        })
        .collect();
    assert_eq!(frames, (1..=60).collect::<Vec<_>>(), "each once, and in order");
    assert!(requests.len() < 60, "{} requests are no batches", requests.len());
    let head = &requests[0].0;
    assert!(head.starts_with("POST /in?key=hunter2 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_ascii_lowercase().contains("authorization: bearer hunter3\r\n")
            && head.contains("application/x-ndjson"),
        "{head}"
    );
    let log = weir.log();
    assert!(!log.contains("hunter") && log.contains("event=post_down"), "{log}");
    assert!(!weir.report(&id).to_string().contains("hunter"));
}

#[test]
fn redirects_are_not_followed_hosts_are_listed_and_what_is_not_wanted_is_counted() {
    let (elsewhere, visitors) = collector(|_| "200 OK");
    let (port, _) = collector(|number| if number == 0 { "422 Unprocessable Content" } else { "302 Found" });
    let weir = Weir::configured("[sinks]\nhosts = [\"127.0.0.1\"]\n");
    let refused = weir.ask(&init(
        &weir,
        "short.mp4",
        &format!(r#"{{"type": "http_sink", "url": "http://localhost:{elsewhere}/"}}"#),
        "",
    ));
    assert_eq!(refused.at("response/status").text(), Some("failure"), "{refused}");
    let sink = format!(r#"{{"type": "http_sink", "url": "http://127.0.0.1:{port}/"}}"#);
    let id = weir.init(&init(&weir, "short.mp4", &sink, r#", "max_fps": 30"#));
    let why = wait_for("the redirect to be said", || {
        weir.report(&id).at("sinks/0/error").text().map(str::to_owned)
    });
    assert!(why.contains("302"), "{why}");
    assert!(weir.report(&id).at("sinks/0/messages_dropped").number() > Some(0.0));
    assert_eq!(visitors.lock().unwrap().len(), 0);
}

#[test]
fn what_may_wait_counts_in_the_memory_limit_before_anything_is_opened() {
    let weir =
        Weir::configured("[service]\nmemory_limit_bytes = 1100000000\n[sinks]\nmemory_bytes = 700000000\n");
    let reserved = || Json::parse(&weir.get("/device").body).at("device/memory_reserved_bytes").number();
    let sink = r#"{"type": "http_sink", "url": "http://127.0.0.1:9/"}"#;
    let start = |sinks: &str| weir.ask(&init(&weir, "short.mp4", sinks, "")).to_string();
    let refused = start(&format!(r#"[{sink}, {{"type": "http_sink", "url": "http://127.0.0.1:9/other"}}]"#));
    assert!(
        refused.contains("What waits for the receiver") && refused.contains("service.memory_limit_bytes"),
        "{refused}"
    );
    assert_eq!(reserved(), Some(0.0), "nothing was opened");
    // One fits, with its worker, and leaves no room for another pipeline.
    assert!(start(sink).contains("success"));
    assert!(reserved() > Some(700e6), "{:?}", reserved());
    let refused = start(r#"{"type": "udp_sink", "host": "127.0.0.1", "port": 9}"#);
    assert!(refused.contains("service.memory_limit_bytes"), "{refused}");
}
