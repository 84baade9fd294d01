//! Tokens: who has none, who guesses, and from how many addresses.

use super::watch::{LIST, Watch};
use crate::support::{Json, Weir, http, process, tcp, weir};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Guesses of one address before it has to wait (src/proto/access.rs).
const MAX_FAILURES: usize = 10;

fn guarded() -> Weir {
    Weir::start_with(|command| {
        command.env("WEIR_TOKEN", TOKEN);
    })
}

fn shown(token: &str) -> Vec<u8> {
    tcp::frame(format!("{{\"type\": \"list_pipelines\", \"auth_token\": \"{token}\"}}").as_bytes())
}

fn get(token: &str) -> Vec<u8> {
    format!("GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

fn all_of(mut stream: TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    reply
}

/// What a client at `source` is told over TCP, without the id that differs each time.
fn over_tcp(weir: &Weir, source: Ipv4Addr, request: &[u8]) -> String {
    let reply = all_of(tcp::connect_from(source, weir.tcp), request);
    Json::parse(std::str::from_utf8(&reply[4..]).unwrap()).get("response").to_string()
}

/// Status line and body that a client at `source` gets over HTTP.
fn over_http(weir: &Weir, source: Ipv4Addr, request: &[u8]) -> (u16, String) {
    let reply = http::parse(&all_of(tcp::connect_from(source, weir.http), request));
    (reply.status, reply.body)
}

/// Good requests of clients that have the token.
fn watch(weir: &Weir) -> Watch<'_> {
    Watch::with(weir, move || {
        assert!(tcp::exchange(weir.tcp, &shown(TOKEN)).contains("success"));
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(
            http::request(weir.http, "GET", "/list_pipelines", &[("authorization", &bearer)], b"").status,
            200
        );
    })
}

#[test]
fn a_port_for_others_needs_a_token_and_the_token_opens_both_listeners() {
    let mut refused = weir::command(std::path::Path::new("/nonexistent"));
    let refused = process::output(refused.args(["serve", "--tcp", "0.0.0.0:0", "--http", "127.0.0.1:0"]));
    assert_eq!(refused.status.code(), Some(78), "{}", String::from_utf8_lossy(&refused.stderr));
    let weir = guarded();
    let watch = watch(&weir);
    assert!(tcp::exchange(weir.tcp, &tcp::frame(LIST)).contains("authorisation_error"));
    assert_eq!(weir.get("/list_pipelines").status, 401);
    assert_eq!(weir.get("/healthz").status, 200);
    watch.is_at_rest("requests without a token");
    assert!(!weir.log().contains(TOKEN));
}

#[test]
fn who_guesses_is_locked_out_at_both_listeners_and_nobody_else_is() {
    let weir = guarded();
    let watch = watch(&weir);
    let (guesser, neighbour) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    // Close or far, short or long: the same answer.
    let long = "f".repeat(5000);
    let guesses = [
        &TOKEN[..31],
        "0123456789abcdef0123456789abcdee",
        "x",
        "",
        &long,
        "1123456789abcdef0123456789abcdef",
    ];
    let answers: Vec<String> = guesses.iter().map(|guess| over_tcp(&weir, guesser, &shown(guess))).collect();
    assert!(answers[0].contains("authorisation_error"), "{}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // The two listeners count together.
    for guess in ["Aa", "Bb", "Cc", "Dd"] {
        assert_eq!(over_http(&weir, guesser, &get(guess)).0, 401);
    }
    const { assert!(MAX_FAILURES == 6 + 4) };
    let locked = over_tcp(&weir, guesser, &shown("Ee"));
    assert_ne!(locked, answers[0]);
    assert_eq!(over_tcp(&weir, guesser, &shown("Ff")), locked);
    assert_eq!(over_http(&weir, guesser, &get("Gg")).0, 429);
    // Who has the token shares the address with the guesser, perhaps, and is let in.
    assert!(over_tcp(&weir, guesser, &shown(TOKEN)).contains("success"));
    assert_eq!(over_http(&weir, guesser, &get(TOKEN)).0, 200);
    assert_eq!(over_http(&weir, neighbour, &get(TOKEN)).0, 200);
    watch.is_at_rest("guesses of one address");
    assert!(!weir.log().contains("abcdef"), "a guess or the token is in the log");
}

#[test]
fn guesses_from_five_thousand_addresses_are_forgotten_in_time() {
    let weir = guarded();
    let watch = watch(&weir);
    for number in 0..5000u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let stream = tcp::connect_from(Ipv4Addr::new(127, 9, high, low), weir.tcp);
        let reply = all_of(stream, &shown("0123456789abcdef"));
        assert!(String::from_utf8_lossy(&reply).contains("authorisation_error"));
    }
    watch.is_at_rest("guesses of 5 000 addresses");
}

#[test]
fn one_address_cannot_take_all_seats() {
    let weir = guarded();
    let watch = watch(&weir);
    let greedy = Ipv4Addr::new(127, 0, 0, 4);
    let addresses: [SocketAddr; 2] = [weir.tcp, weir.http];
    let held: Vec<TcpStream> =
        (0..200).map(|number| tcp::connect_from(greedy, addresses[number % 2])).collect();
    watch.answers("200 connections of one address");
    drop(held);
    watch.is_at_rest("200 connections of one address");
}
