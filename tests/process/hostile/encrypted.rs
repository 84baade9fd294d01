//! The listeners with TLS: what is no TLS, what is old TLS, what is too much of it, and who has no
//! certificate.

use super::watch::{LIST, Watch};
use crate::support::tls::{Client, file};
use crate::support::{Folder, Weir, http, process, tcp};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

const GET: &[u8] = b"GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// A service that speaks TLS only; with `is_client_required`, only to clients with a certificate.
fn encrypted(is_client_required: bool) -> Weir {
    let folder = Folder::new();
    let configuration = folder.path().join("weir.toml");
    let (certificate, key) = (file("server.pem"), file("server.key"));
    let client =
        if is_client_required { format!("client_ca = {:?}\n", file("ca.pem")) } else { String::new() };
    std::fs::write(&configuration, format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{client}"))
        .unwrap();
    Weir::start_with(|command| {
        command.arg("--config").arg(&configuration);
    })
}

fn ask(client: &Client, address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = client.over(http::connect(address));
    stream.write_all(request)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}

fn watch<'a>(weir: &'a Weir, client: &'a Client) -> Watch<'a> {
    Watch::with(weir, move || {
        let reply = ask(client, weir.tcp, &tcp::frame(LIST)).expect("an encrypted reply");
        assert!(String::from_utf8_lossy(&reply).contains("success"));
        let reply = ask(client, weir.http, GET).expect("an encrypted reply");
        assert_eq!(http::parse(&reply).status, 200);
    })
}

/// A TLS record: type, version, length, payload.
fn record(kind: u8, version: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind][..], &version, &length, payload].concat()
}

/// A ClientHello that offers `version` at most: random, no session, one cipher suite of that time, no
/// extensions.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let body = [&version[..], &[7; 32], &[0], &[0, 2, 0xC0, 0x2B], &[1, 0]].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    record(22, version, &[&[1][..], &length[1..], &body].concat())
}

/// Sends `bytes` and reads to the end: at most an alert may come back.
#[track_caller]
fn is_refused(address: SocketAddr, attack: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = http::connect(address);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    assert!(reply.is_empty() || reply[0] == 21, "{attack} was answered with {reply:?}");
    reply
}

#[test]
fn what_is_no_tls_is_refused_and_the_listener_stays_open() {
    let weir = encrypted(false);
    let client = Client::anonymous();
    let watch = watch(&weir, &client);
    let good = hello([3, 3]);
    let endless = [&[1, 0xFF, 0xFF, 0xFF][..], &[0; 16_000]].concat();
    for (attack, bytes) in [
        ("plain HTTP", GET.to_vec()),
        ("a plain frame", tcp::frame(LIST)),
        ("noise", (0..5000u32).map(|number| u8::try_from(number * 7919 % 251).unwrap()).collect()),
        ("nothing", Vec::new()),
        ("half a record header", good[..3].to_vec()),
        ("half a hello", good[..good.len() / 2].to_vec()),
        ("SSL 2", [&[0x80, 0x2E, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[0; 37]].concat()),
        ("a record longer than any", [&[22, 3, 1, 0xFF, 0xFF][..], &[0; 70_000]].concat()),
        ("a hello of 16 MiB", record(22, [3, 1], &endless).repeat(64)),
        ("empty records", record(22, [3, 1], b"").repeat(10_000)),
        ("alerts", record(21, [3, 3], &[1, 0]).repeat(10_000)),
        ("a change of cipher before anything", record(20, [3, 3], &[1]).repeat(1000)),
        ("data before any key", record(23, [3, 3], &[0; 1000])),
        ("a heartbeat", record(24, [3, 2], &[1, 0x40, 0])),
        ("a hello with rubbish behind it", [&good[..], &[0xA5; 1000]].concat()),
    ] {
        for address in [weir.tcp, weir.http] {
            is_refused(address, attack, &bytes);
        }
        watch.answers(attack);
    }
    // SSL 3, TLS 1.0 and 1.1: a fatal alert that says why (40: handshake_failure, 70: protocol_version).
    for minor in [0, 1, 2] {
        let reply = is_refused(weir.http, "an old version", &hello([3, minor]));
        assert!(matches!(reply.get(5..7), Some([2, 40 | 70])), "SSL/TLS 3.{minor}: {reply:?}");
    }
    // What strangers send must not fill the log: all that it holds is the two lines of the start.
    assert!(weir.log().lines().count() <= 2, "{}", weir.log());
    watch.is_at_rest("what is no TLS");
}

#[test]
fn two_hundred_unfinished_handshakes_keep_nobody_out() {
    let weir = encrypted(false);
    let client = Client::anonymous();
    let watch = watch(&weir, &client);
    let half = &hello([3, 3])[..20];
    let held: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = http::connect(weir.http);
            let _ = stream.write_all(half);
            stream
        })
        .collect();
    watch.answers("unfinished handshakes");
    drop(held);
    watch.is_at_rest("unfinished handshakes");
}

/// rustls never renegotiates; `R` makes openssl's client ask for it on an open TLS 1.2 connection.
#[test]
fn a_client_that_renegotiates_is_not_followed() {
    let weir = encrypted(false);
    let client = Client::anonymous();
    let watch = watch(&weir, &client);
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-tls1_2", "-quiet", "-no_ign_eof", "-connect", &weir.http.to_string()]);
    let mut child =
        openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("openssl");
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..100 {
        // It ends when the service does not follow.
        if stdin.write_all(b"R\n").is_err() {
            break;
        }
    }
    drop(stdin);
    let output = process::output_of(child, "openssl");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("HTTP/1.1 200"));
    watch.is_at_rest("renegotiation");
}

#[test]
fn a_listener_for_certificates_lets_nobody_in_without_one() {
    let weir = encrypted(true);
    let (known, unknown) = (Client::with_certificate(), Client::anonymous());
    let watch = watch(&weir, &known);
    for _ in 0..20 {
        for (address, request) in [(weir.tcp, tcp::frame(LIST)), (weir.http, GET.to_vec())] {
            // With TLS 1.3 the client learns only after its request that it is not wanted.
            let reply = ask(&unknown, address, &request);
            assert!(reply.as_ref().is_err() || reply.as_ref().is_ok_and(Vec::is_empty), "{reply:?}");
        }
    }
    watch.is_at_rest("clients without a certificate");
}
