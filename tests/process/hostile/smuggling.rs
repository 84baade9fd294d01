//! Requests that two servers in a row could read differently, and heads beyond every measure.

use super::watch::Watch;
use crate::support::{Weir, http};
use std::io::{Read as _, Write as _};
use std::time::Duration;

/// What an attacker hides behind (or in) the request that a proxy before us has checked. It ends the
/// connection.
const HIDDEN: &str = "GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Whoever has not closed by then waits for more of the request. The sending side stays open: hyper gives no
/// further answers to who closes it, so that would hide what this looks for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whatever comes back until the service closes or waits for more.
fn replies(weir: &Weir, bytes: &[u8]) -> String {
    let mut stream = http::connect(weir.http);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The service may close before it has taken everything.
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

fn count(replies: &str) -> usize {
    replies.matches("HTTP/1.1 ").count()
}

#[test]
fn requests_that_two_servers_could_read_differently_end_the_connection() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    for head in [
        // Two lengths, or none that is a number.
        "POST /pause/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "POST /pause/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5, 6\r\n\r\nhello!",
        "POST /pause/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\ncontent-length: 44\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: +2\r\n\r\n{}",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0x2\r\n\r\n{}",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2 2\r\n\r\n{}",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length:\r\n\r\n{}",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 18446744073709551617\r\n\r\n{",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length : 2\r\n\r\n{}",
        // Length and chunks.
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 44\r\n\r\n0\r\n\r\n",
        // Encodings that are not, or not last, or twice, or for an older protocol.
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        // Chunks that lie.
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n",
        // Heads that are folded, bent or hold what no head may.
        "GET /nope HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b: folded\r\n\r\n",
        "GET /nope HTTP/1.1\r\nhost: localhost\r\nx: a\r\n\tb: folded\r\n\r\n",
        "GET /nope HTTP/1.1\r\nhost: localhost\r\nx: a\rb: c\r\n\r\n",
        "GET /nope HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n",
        "GET /nope HTTP/1.1\r\nhost: localhost\r\nx y: a\r\n\r\n",
        "GET /nope HTTP/1.1\r\nhost: localhost\r\nno colon\r\n\r\n",
        "GET /nope HTTP/1.1\r\nhost: localhost\r\n: no name\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET  /nope HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /nope\tHTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /nope HTTP/1.1 \r\nhost: localhost\r\n\r\n",
        "GET /nope HTTP/2.0\r\nhost: localhost\r\n\r\n",
        "GET /nope\r\nhost: localhost\r\n\r\n",
        "G(T /nope HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let replies = replies(&weir, format!("{head}{HIDDEN}").as_bytes());
        assert!(!replies.contains("\"pipelines\""), "{head:?} let a second request through: {replies}");
        assert!(count(&replies) <= 1, "{head:?}: {replies}");
        assert!(
            replies.is_empty() || replies.starts_with("HTTP/1.1 4") || replies.starts_with("HTTP/1.0 4"),
            "{head:?}: {replies}"
        );
    }
    watch.is_at_rest("ambiguous requests");
}

/// What is odd and has one meaning only: one answer for each request, and the hidden one is a request like
/// any other.
#[test]
fn odd_requests_have_one_meaning() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    for (head, answers) in [
        // The body is the body, however much it looks like a request.
        (format!("POST /pause/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()), 2),
        (format!("GET /nope HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()), 2),
        // Chunks close the connection after their answer, whatever their extensions and trailers say.
        (format!("POST /pause/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{:x};a=\"b\"\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()), 1),
        ("POST /pause/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 44\r\n\r\n".to_owned(), 1),
        // Empty lines before a request are skipped.
        ("\r\n\r\n".to_owned(), 1),
        ("HEAD /docs HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 2),
        ("GET http://elsewhere.example/list_pipelines HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 2),
        ("OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 2),
        // No protocol is changed to.
        ("GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n".to_owned(), 2),
    ] {
        let replies = replies(&weir, format!("{head}{HIDDEN}").as_bytes());
        assert_eq!(count(&replies), answers, "{head:?}: {replies}");
        assert!(!replies.contains(" 101 "), "{head:?}: {replies}");
    }
    watch.is_at_rest("odd requests");
}

#[test]
fn heads_beyond_every_measure_are_refused() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    let mega = "a".repeat(1 << 20);
    for (name, head) in [
        ("a URL of 1 MB", format!("GET /{mega} HTTP/1.1\r\nhost: localhost\r\n\r\n")),
        ("a method of 1 MB", format!("{mega} / HTTP/1.1\r\nhost: localhost\r\n\r\n")),
        ("a header of 1 MB", format!("GET /nope HTTP/1.1\r\nhost: localhost\r\nx: {mega}\r\n\r\n")),
        ("a header name of 1 MB", format!("GET /nope HTTP/1.1\r\nhost: localhost\r\n{mega}: x\r\n\r\n")),
        ("200 headers", format!("GET /nope HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(200))),
        (
            "20 000 headers",
            format!("GET /nope HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(20_000)),
        ),
        ("1 MB without a line", mega.clone()),
        ("1 MB of empty lines", "\r\n".repeat(1 << 19)),
        (
            "a chunk extension of 1 MB",
            format!(
                "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2;{mega}\r\n{{}}\r\n0\r\n\r\n"
            ),
        ),
        (
            "trailers of 1 MB",
            format!(
                "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n{}\r\n",
                "a: b\r\n".repeat(180_000)
            ),
        ),
        (
            "a body of 2 MB",
            format!(
                "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2097152\r\n\r\n{mega}{mega}"
            ),
        ),
        (
            "chunks of 2 MB",
            format!(
                "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                format!("100000\r\n{mega}\r\n").repeat(2)
            ),
        ),
    ] {
        let replies = replies(&weir, head.as_bytes());
        assert!(replies.is_empty() || replies.starts_with("HTTP/1.1 4"), "{name}: {replies}");
        watch.answers(name);
    }
    // Ten thousand requests at once: each gets its answer, and others are not kept waiting for them.
    let mut stream = http::connect(weir.http);
    let mut reader = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        let answers = scope.spawn(move || {
            let mut replies = String::new();
            reader.read_to_string(&mut replies).unwrap();
            count(&replies)
        });
        stream
            .write_all(b"GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(9_999).as_slice())
            .unwrap();
        watch.answers("ten thousand pipelined requests");
        stream.write_all(HIDDEN.as_bytes()).unwrap();
        assert_eq!(answers.join().unwrap(), 10_000);
    });
    watch.is_at_rest("heads beyond every measure");
}
