#![allow(clippy::unwrap_used)]

use super::*;
use crate::capture::worker::clips::asset;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// A server on a port of its own: `answer` is told the head of each request, and writes what it likes.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            answer(&head.join("\n"), &mut stream);
        }
    });
    address.to_string()
}

fn jpeg() -> Vec<u8> {
    std::fs::read(asset("clips/colour.jpg")).unwrap()
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    let _ = stream.write_all(body);
}

fn fps(value: f64) -> Vec<Property> {
    vec![Property { name: "fps".into(), value }]
}

fn frames(source: &mut dyn Source, wanted: usize) -> Result<usize> {
    let mut seen = 0;
    while seen < wanted {
        match source.grab()? {
            Grab::Packet(Codec::Jpeg, unit) => {
                assert_eq!(unit.data, jpeg());
                seen += 1;
            }
            Grab::Idle => {}
            other => panic!("{other:?}"),
        }
    }
    Ok(seen)
}

fn failure(url: &str) -> (Kind, String) {
    let error = open(url, "weir", &[]).err().unwrap();
    (error.kind(), error.message().to_owned())
}

#[test]
fn motion_jpeg_until_the_server_ends_it() {
    let server = serve(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=--pic\r\n\r\n");
        for _ in 0..3 {
            let _ = write!(stream, "--pic\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg().len());
            let _ = stream.write_all(&jpeg());
            let _ = write!(stream, "\r\n");
        }
    });
    let mut source = open(&format!("http://{server}/video"), "weir", &[]).unwrap();
    assert_eq!((source.properties().width, source.properties().height, source.properties().is_file), (64, 48, false));
    assert_eq!(frames(source.as_mut(), 3).unwrap(), 3);
    let lost = loop {
        match source.grab() {
            Ok(Grab::Idle) => {}
            other => break other.map(|_| ()).unwrap_err(),
        }
    };
    assert_eq!(lost.kind(), Kind::SourceLost);
}

#[test]
fn stills_are_asked_for_again() {
    let server = serve(|_, stream| respond(stream, "200 OK", "Content-Type: image/jpeg\r\n", &jpeg()));
    let mut source = open(&format!("http://{server}/snapshot.jpg"), "weir", &fps(100.0)).unwrap();
    assert_eq!(source.properties().fps, 100.0);
    assert_eq!(frames(source.as_mut(), 4).unwrap(), 4);
}

#[test]
fn basic_and_digest_credentials() {
    let basic = "WWW-Authenticate: Basic realm=\"cam\"\r\n";
    let digest = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"abc\", qop=\"auth\", algorithm=MD5\r\n";
    for (challenge, wanted) in [(basic, "Basic dTpwQHNz"), (digest, "Digest username=\"u\"")] {
        let server = serve(move |head, stream| match head.contains(wanted) {
            true => respond(stream, "200 OK", "Content-Type: image/jpeg\r\n", &jpeg()),
            false => respond(stream, "401 Unauthorized", challenge, b""),
        });
        let mut source = open(&format!("http://u:p%40ss@{server}/a.jpg?x=1"), "weir", &fps(100.0)).unwrap();
        assert_eq!(frames(source.as_mut(), 2).unwrap(), 2);
        let (kind, message) = failure(&format!("http://{server}/a.jpg"));
        assert_eq!(kind, Kind::SourceUnauthorised, "{message}");
    }
}

#[test]
fn what_cannot_be_shown_is_named() {
    let server = serve(|head, stream| match head.split(' ').nth(1) {
        Some("/video.mp4") => respond(stream, "200 OK", "Content-Type: video/mp4\r\n", b"x"),
        Some("/page") => respond(stream, "200 OK", "Content-Type: text/html\r\n", b"<p>"),
        Some("/lie.jpg") => respond(stream, "200 OK", "Content-Type: image/jpeg\r\n", b"no picture"),
        Some("/loop") => respond(stream, "302 Found", "Location: /loop\r\n", b""),
        _ => respond(stream, "404 Not Found", "", b""),
    });
    let failed = |path: &str| failure(&format!("http://{server}{path}"));
    assert_eq!(failed("/video.mp4").0, Kind::SourceUnsupported);
    assert!(failed("/page").1.contains("text/html"));
    assert_eq!(failed("/lie.jpg").0, Kind::SourceUnsupported);
    assert_eq!(failed("/loop").0, Kind::SourceConnection);
    assert!(failed("/none").1.contains("404"));
}
