#![allow(clippy::unwrap_used)]

use super::*;
use crate::capture::Trust;
use crate::capture::worker::clips::asset;
use crate::capture::worker::record::Recorder;
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

fn open(url: &str, properties: &[Property]) -> Result<Box<dyn Source>> {
    open_with(
        Client::new(url, "weir", &Trust::Machine, &Recorder::default())?,
        properties,
        Duration::from_secs(20),
        || false,
    )
}

fn jpeg() -> Vec<u8> {
    std::fs::read(asset("clips/colour.jpg")).unwrap()
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
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
    let error = open(url, &[]).err().unwrap();
    (error.kind(), error.message().to_owned())
}

#[test]
fn motion_jpeg_until_the_server_ends_it() {
    let server = serve(|_, stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=--pic\r\n\r\n"
        );
        for _ in 0..3 {
            let _ = write!(
                stream,
                "--pic\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                jpeg().len()
            );
            let _ = stream.write_all(&jpeg());
            let _ = write!(stream, "\r\n");
        }
    });
    let mut source = open(&format!("http://{server}/video"), &[]).unwrap();
    assert_eq!(
        (source.properties().width, source.properties().height, source.properties().is_file),
        (64, 48, false)
    );
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
    let mut source = open(&format!("http://{server}/snapshot.jpg"), &fps(100.0)).unwrap();
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
        let mut source = open(&format!("http://u:p%40ss@{server}/a.jpg?x=1"), &fps(100.0)).unwrap();
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

#[test]
fn motion_jpeg_whatever_is_said_about_it() {
    let multipart = "Content-Type: multipart/x-mixed-replace; boundary=frame\r\n";
    let part = "Content-Type: image/jpeg\r\n\r\n";
    for (headers, before, after) in [
        // The boundary after each part, none before the first.
        (multipart, format!("Content-Length: {}\r\n\r\n", jpeg().len()), "\r\n--frame\r\n"),
        (multipart, format!("--other\r\n{part}"), "\r\n"),
        (multipart, format!("--frame{part}"), ""),
        (multipart, "--frame\r\nno field\r\nContent-Length: 0\r\n\r\n".to_owned(), "\r\n"),
        (multipart, "--frame\r\nContent-Length: 9999999 bytes\r\n\r\n".to_owned(), "--frame--"),
        ("Content-Type: multipart/x-mixed-replace\r\nno field\r\n", format!("--frame\r\n{part}"), "\r\n"),
        ("Content-Type: image/jpeg\r\nContent-Length: 0\r\n", format!("--frame\r\n{part}"), "\r\n"),
        ("", String::new(), ""),
    ] {
        let server = serve(move |_, stream| {
            let _ = write!(stream, "HTTP/1.1 200\r\n{headers}\r\n");
            for _ in 0..4 {
                let _ = stream.write_all(&[before.as_bytes(), &jpeg(), after.as_bytes()].concat());
            }
        });
        let mut source = open(&format!("http://{server}/video"), &[]).unwrap();
        assert_eq!(frames(source.as_mut(), 4).unwrap(), 4, "{headers}");
    }
}

#[test]
fn stills_whatever_is_said_about_them() {
    for (status, headers) in [
        ("HTTP/1.1 200 OK", ""),
        ("HTTP/1.0 200 OK", "Content-Type: text/plain\r\n"),
        ("ICY 200 OK", "Content-Type: application/octet-stream\r\nno field\r\n"),
        ("HTTP/1.1 200 OK", "Content-Type: image/jpeg\r\nContent-Length: 0\r\n"),
    ] {
        let server = serve(move |_, stream| {
            let _ = write!(stream, "{status}\r\n{headers}\r\n");
            let _ = stream.write_all(&jpeg());
        });
        let mut source = open(&format!("http://{server}/snapshot"), &fps(100.0)).unwrap();
        assert_eq!(source.properties().fps, 100.0, "{headers}");
        assert_eq!(frames(source.as_mut(), 3).unwrap(), 3, "{headers}");
    }
}

#[test]
fn chunks_and_connections_that_are_kept() {
    let chunked = serve(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            for chunk in jpeg().chunks(100) {
                let _ = stream
                    .write_all(&[format!("{:x};x=y\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
        }
        let _ = write!(stream, "0\r\n\r\n");
    });
    let mut source = open(&format!("http://{chunked}/video"), &[]).unwrap();
    assert_eq!(frames(source.as_mut(), 3).unwrap(), 3);
    // One connection for all stills, until the server closes it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, connections) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = sender.send(());
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for _ in 0..3 {
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", jpeg().len());
                let _ = stream.write_all(&jpeg());
            }
        }
    });
    let mut source = open(&format!("http://{address}/a.jpg"), &fps(100.0)).unwrap();
    assert_eq!(frames(source.as_mut(), 6).unwrap(), 6);
    assert_eq!(connections.try_iter().count(), 2);
}

#[test]
fn digests_with_two_qualities_and_nonces_that_run_out() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let server = serve(move |head, stream| {
        // Every nonce is good for two requests.
        let nonce = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) / 3;
        match head.contains(&format!("nonce=\"{nonce}\"")) && head.contains("qop=auth,") {
            true => respond(stream, "200 OK", "Content-Type: image/jpeg\r\n", &jpeg()),
            false => {
                let stale = head.contains("nonce=");
                let challenge = format!(
                    "WWW-Authenticate: Digest realm=\"cam\", nonce=\"{nonce}\", qop=\"auth-int,auth\", stale={stale}\r\n"
                );
                respond(stream, "401 Unauthorized", &challenge, b"no");
            }
        }
    });
    let mut source = open(&format!("http://u:p@{server}/a.jpg"), &fps(100.0)).unwrap();
    assert_eq!(frames(source.as_mut(), 5).unwrap(), 5);
}
