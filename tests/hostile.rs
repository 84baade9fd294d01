//! Both doors under clients that mean no good, over the real binary. After each kind: the next good request is answered,
//! memory stays below its bound, and no descriptor is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use support::{Weir, http, tcp, wait_for};

/// Most that both doors may hold: 2 × 64 connections with a message of 1 MiB each, on top of the service itself.
const MAX_RESIDENT_BYTES: u64 = 192 << 20;

/// A good request.
const LIST: &[u8] = b"{\"type\": \"list_pipelines\"}";

struct Rest {
    descriptors: usize,
}

fn descriptors(weir: &Weir) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", weir.pid())).unwrap().count()
}

fn resident_bytes(weir: &Weir) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", weir.pid())).unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * rustix::param::page_size() as u64
}

/// Both doors answer a good request.
fn answers(weir: &Weir) {
    assert!(tcp::exchange(weir.tcp, &tcp::frame(LIST)).contains("success"));
    assert_eq!(weir.get("/list_pipelines").status, 200);
    assert!(resident_bytes(weir) < MAX_RESIDENT_BYTES, "{} bytes resident", resident_bytes(weir));
}

fn rest(weir: &Weir) -> Rest {
    answers(weir);
    wait_for("the first connections to be closed", || {
        let descriptors = descriptors(weir);
        (0..3).all(|_| descriptors == self::descriptors(weir)).then_some(Rest { descriptors })
    })
}

fn is_at_rest(weir: &Weir, before: &Rest) {
    answers(weir);
    // A connection of the check itself may still be closing.
    wait_for("all descriptors to be given back", || (descriptors(weir) <= before.descriptors + 2).then_some(()));
}

/// Opens connections that send `bytes` and then neither send nor read.
fn dawdlers(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        // The service may stop taking, or close the connection for somebody else: both are its right.
        let _ = stream.write_all(bytes);
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn five_hundred_slow_clients_keep_nobody_out() {
    let weir = Weir::start();
    let before = rest(&weir);
    let half_body = [&b"POST /initialise HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n"[..], &[b'['; 200_000]].concat();
    let greedy = b"GET /openapi.json HTTP/1.1\r\nhost: h\r\n\r\n".repeat(2000);
    let half_message = [&(1u32 << 20).to_be_bytes()[..], &[b'['; 900_000]].concat();
    for (address, count, bytes) in [
        (weir.http, 500, &b"GET /list_pipelines HTTP/1.1\r\nho"[..]),
        (weir.tcp, 500, &b"\0\0"[..]),
        (weir.http, 100, &half_body[..]),
        (weir.http, 70, &greedy[..]),
        (weir.tcp, 100, &half_message[..]),
    ] {
        let clients = dawdlers(address, count, bytes);
        answers(&weir);
        drop(clients);
    }
    is_at_rest(&weir, &before);
}

/// xorshift64*: the same frames in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % end
    }
}

#[test]
fn ten_thousand_random_frames_are_answered_in_the_protocol() {
    let weir = Weir::start();
    let before = rest(&weir);
    let mut random = Random(0x5EED);
    let alphabet = br#"{}[]",:0123456789.eE+-truefalsnul\u "#;
    let init = br#"{"type": "init", "model_id": "no/1", "video_reference": [0, "x"], "max_fps": 5, "model_configuration": {"type": "object-detection"}}"#;
    for round in 0..10_000 {
        let message: Vec<u8> = match round % 4 {
            // Bytes of any kind, header included.
            0 => (0..=random.below(60)).map(|_| u8::try_from(random.below(256)).unwrap()).collect(),
            1 => tcp::frame(&(0..=random.below(60)).map(|_| alphabet[random.below(alphabet.len())]).collect::<Vec<_>>()),
            2 => {
                let mut broken = init.to_vec();
                for _ in 0..=random.below(3) {
                    let at = random.below(broken.len());
                    broken[at] = u8::try_from(random.below(256)).unwrap();
                }
                tcp::frame(&broken)
            }
            // Cut short.
            _ => tcp::frame(init)[..random.below(init.len())].to_vec(),
        };
        let mut stream = TcpStream::connect(weir.tcp).unwrap();
        stream.write_all(&message).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        match stream.read_to_end(&mut reply) {
            Ok(_) => {
                let (header, body) = reply.split_first_chunk::<4>().unwrap_or_else(|| panic!("no reply to {message:?}"));
                assert_eq!(u32::from_be_bytes(*header) as usize, body.len());
                support::Json::parse(std::str::from_utf8(body).unwrap()).get("request_id");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{message:?}"),
        }
    }
    is_at_rest(&weir, &before);
}

#[test]
fn requests_that_two_servers_could_read_differently_end_the_connection() {
    let weir = Weir::start();
    let hidden = "GET /list_pipelines HTTP/1.1\r\nhost: h\r\n\r\n";
    for head in [
        "POST /pause/x HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "POST /initialise HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: h\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n",
        "POST /initialise HTTP/1.1\r\nhost: h\r\ncontent-length: +2\r\n\r\n{}",
        "POST /initialise HTTP/1.1\r\nhost: h\r\ncontent-length : 2\r\n\r\n{}",
        "GET /nope HTTP/1.1\r\nhost: h\r\nx: a\r\n b: folded\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: h\r\n\r\n",
    ] {
        let reply = http::exchange(weir.http, format!("{head}{hidden}").as_bytes());
        let reply = String::from_utf8_lossy(&reply);
        assert!(!reply.contains("\"pipelines\""), "{head:?} let a second request through: {reply}");
    }
    answers(&weir);
}

#[test]
fn a_port_for_others_needs_a_token_and_the_token_opens_both_doors() {
    let token = "0123456789abcdef0123456789abcdef";
    let mut refused = support::weir::command(std::path::Path::new("/nonexistent"));
    let refused = refused.args(["serve", "--tcp", "0.0.0.0:0", "--http", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(78), "{}", String::from_utf8_lossy(&refused.stderr));
    let weir = Weir::start_with(|command| {
        command.env("WEIR_TOKEN", token);
    });
    assert!(tcp::exchange(weir.tcp, &tcp::frame(LIST)).contains("authorisation_error"));
    let shown = format!("{{\"type\": \"list_pipelines\", \"auth_token\": \"{token}\"}}");
    assert!(tcp::exchange(weir.tcp, &tcp::frame(shown.as_bytes())).contains("success"));
    assert_eq!(weir.get("/list_pipelines").status, 401);
    assert_eq!(weir.get("/healthz").status, 200);
    let bearer = format!("Bearer {token}");
    let reply = http::request(weir.http, "GET", "/list_pipelines", &[("authorization", &bearer)], b"");
    assert_eq!(reply.status, 200);
    assert!(!weir.log().contains(token));
}
