//! Random messages: noise, JSON-like noise, good messages with a few bytes changed, and good messages cut
//! short.

use super::watch::Watch;
use crate::support::{Json, Weir, http, tcp};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

/// Messages of one run for each listener, unless `WEIR_FUZZ_FRAMES` says more (`make fuzz`).
const MESSAGES: usize = 10_000;

fn messages() -> usize {
    std::env::var("WEIR_FUZZ_FRAMES")
        .map_or(MESSAGES, |count| count.parse().expect("WEIR_FUZZ_FRAMES is a number"))
}

/// xorshift64*: the same messages in every run; a longer run goes on where the short one ends.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..=self.below(60)).map(|_| self.byte()).collect()
    }

    fn of(&mut self, alphabet: &[u8]) -> Vec<u8> {
        (0..=self.below(60)).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }

    /// `whole` with up to three bytes changed, taken out or put in.
    fn broken(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut broken = whole.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(broken.len());
            match self.below(3) {
                0 => broken[at] = self.byte(),
                1 => drop(broken.remove(at)),
                _ => broken.insert(at, self.byte()),
            }
        }
        broken
    }
}

#[test]
fn random_frames_on_tcp_are_answered_in_the_protocol() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    let mut random = Random(0x5EED);
    let alphabet = br#"{}[]",:0123456789.eE+-truefalsnul\u "#;
    let init = br#"{"type": "init", "model_id": "no/1", "video_reference": [0, "x"], "max_fps": 5, "model_configuration": {"type": "object-detection"}}"#;
    for round in 0..messages() {
        let message: Vec<u8> = match round % 4 {
            // Bytes of any kind, header included.
            0 => random.bytes(),
            1 => tcp::frame(&random.of(alphabet)),
            2 => tcp::frame(&random.broken(init)),
            // Cut short.
            _ => tcp::frame(init)[..random.below(init.len())].to_vec(),
        };
        let mut stream = TcpStream::connect(weir.tcp).unwrap();
        stream.write_all(&message).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        match stream.read_to_end(&mut reply) {
            Ok(_) => {
                let (header, body) =
                    reply.split_first_chunk::<4>().unwrap_or_else(|| panic!("no reply to {message:?}"));
                assert_eq!(u32::from_be_bytes(*header) as usize, body.len());
                Json::parse(std::str::from_utf8(body).unwrap()).get("request_id");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{message:?}"),
        }
    }
    watch.is_at_rest("random frames");
}

#[test]
fn random_requests_on_http_are_answered_or_cut_and_never_a_server_error() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    let mut random = Random(0x0DD5);
    let alphabet = b"GETPOS /:-\r\n\thosconent-legth0123456789;,\"\\%?#";
    // Without `model_id`, which no few bytes add: refused whatever else happens to it.
    let body =
        r#"{"video_reference":"rtsp://h/1","sink_configuration":{"type":"udp_sink","host":"h","port":1}}"#;
    let good = [
        "GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(),
        format!(
            "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ),
        format!(
            "POST /initialise HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
    ];
    // A quarter: a request costs about four frames.
    for round in 0..messages() / 4 {
        let whole = good[random.below(good.len())].as_bytes();
        let message = match round % 4 {
            0 => random.bytes(),
            1 => [&random.of(alphabet), &b"\r\n\r\n"[..]].concat(),
            2 => random.broken(whole),
            _ => whole[..random.below(whole.len())].to_vec(),
        };
        let mut stream = http::connect(weir.http);
        let _ = stream.write_all(&message);
        let _ = stream.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let line = String::from_utf8_lossy(reply.split(|byte| *byte == b'\r').next().unwrap_or_default())
            .into_owned();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
        let is_ours = reply.is_empty() || status.is_some_and(|status| (200..500).contains(&status));
        assert!(is_ours, "{:?} → {line}", String::from_utf8_lossy(&message));
    }
    watch.is_at_rest("random requests");
}
