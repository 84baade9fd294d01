//! Clients that are slow, stop in the middle, take nothing, or vanish.

use super::watch::Watch;
use crate::support::{Folder, Weir, http, tcp, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

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

fn half_body() -> Vec<u8> {
    [
        &b"POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"[..],
        &[b'['; 200_000],
    ]
    .concat()
}

fn half_message() -> Vec<u8> {
    [&(1u32 << 20).to_be_bytes()[..], &[b'['; 900_000]].concat()
}

/// 2 000 requests for a large page, of which nothing is read.
fn greedy() -> Vec<u8> {
    b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2000)
}

#[test]
fn five_hundred_slow_clients_keep_nobody_out() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    for (attack, address, count, bytes) in [
        ("silence on http", weir.http, 500, &b""[..]),
        ("silence on tcp", weir.tcp, 500, b""),
        ("half a head", weir.http, 500, b"GET /list_pipelines HTTP/1.1\r\nho"),
        ("half a header", weir.tcp, 500, b"\0\0"),
        ("half a body", weir.http, 500, &half_body()),
        ("half a message", weir.tcp, 500, &half_message()),
        ("replies not read", weir.http, 500, &greedy()),
        ("idle keep-alive", weir.http, 500, b"GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        let clients = dawdlers(address, count, bytes);
        watch.answers(attack);
        drop(clients);
    }
    watch.is_at_rest("500 slow clients");
}

/// A service whose clients have a second for everything.
fn impatient() -> Weir {
    let folder = Folder::new();
    let file = folder.path().join("weir.toml");
    let text = "[tcp]\nsocket_timeout_s = 1.0\n[limits]\nmessage_timeout_s = 1.0\nhead_timeout_s = 1.0\nwrite_timeout_s = 1.0\n";
    std::fs::write(&file, text).unwrap();
    Weir::start_with(|command| {
        command.arg("--config").arg(&file);
    })
}

#[test]
fn clients_that_stop_in_the_middle_are_cut_in_time() {
    let weir = impatient();
    let watch = Watch::new(&weir);
    let (half_body, half_message, greedy) = (half_body(), half_message(), greedy());
    let held: Vec<Vec<TcpStream>> = [
        (weir.http, &b""[..]),
        (weir.http, b"GET /list_pipelines HTTP/1.1\r\nho"),
        (weir.http, b"GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        (weir.http, &half_body),
        (weir.http, &greedy),
        (weir.tcp, b""),
        (weir.tcp, b"\0\0"),
        (weir.tcp, &half_message),
    ]
    .into_iter()
    .map(|(address, bytes)| dawdlers(address, 8, bytes))
    .collect();
    // The clients still hold their ends: as far as the service can see, their machines are gone without a
    // word.
    watch.is_at_rest("half-open connections");
    drop(held);
}

/// Every byte comes well within the time for a step, and the whole never does.
#[test]
fn clients_that_dribble_are_cut_in_time() {
    let weir = impatient();
    let watch = Watch::new(&weir);
    let message = tcp::frame(&[b' '; 1000]);
    let head = [&b"GET /list_pipelines HTTP/1.1\r\nx: "[..], &[b'x'; 1000]].concat();
    let body =
        [&b"POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"[..], &[b' '; 1000]]
            .concat();
    std::thread::scope(|scope| {
        for (address, bytes) in [(weir.tcp, message), (weir.http, head), (weir.http, body)] {
            scope.spawn(move || {
                let start = Instant::now();
                let mut stream = http::connect(address);
                let cut = wait_for("the dribbling client to be cut", || {
                    let sent =
                        usize::try_from(start.elapsed().as_millis() / 10).unwrap().min(bytes.len() - 1);
                    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
                    let failed = stream.write_all(&bytes[sent..=sent]).is_err();
                    let ended = match stream.read(&mut [0; 4096]) {
                        Ok(count) => count == 0,
                        Err(error) => !matches!(
                            error.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                        ),
                    };
                    (failed || ended).then(|| start.elapsed())
                });
                // A second, another for throwing away what still comes, and the machine's own slowness.
                assert!(cut < Duration::from_secs(6), "cut after {cut:?}");
            });
        }
        watch.answers("dribbling clients");
    });
    watch.is_at_rest("dribbling clients");
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    let list = tcp::frame(super::watch::LIST);
    let page = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for round in 0..500 {
        let (address, bytes) = if round % 2 == 0 { (weir.tcp, &list[..]) } else { (weir.http, &page[..]) };
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&bytes[..round % bytes.len()]);
        match round % 3 {
            // Closed on top of what was not read: a reset, where there was an answer.
            0 => {}
            1 => stream.shutdown(Shutdown::Write).unwrap(),
            _ => rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
        }
    }
    watch.is_at_rest("clients that vanish");
}
