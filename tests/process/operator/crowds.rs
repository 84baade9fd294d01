//! Many clients at once: bursts wait for a place, and strangers take nobody's.

use crate::support::events::Events;
use crate::support::{Folder, Json, Weir, clip, http, request, roboflow, tcp, udp, wait_for};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_burst_of_two_hundred_clients_is_queued_and_all_are_answered() {
    let weir = Weir::start();
    let (list, page) = (
        tcp::frame(b"{\"type\": \"list_pipelines\"}"),
        &b"GET /list_pipelines HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"[..],
    );
    for (address, message) in [(weir.tcp, &list[..]), (weir.http, page)] {
        let mut clients: Vec<TcpStream> = (0..200).map(|_| tcp::connect(address)).collect();
        for client in &mut clients {
            client.write_all(message).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut reply = Vec::new();
            client.read_to_end(&mut reply).unwrap_or_else(|error| panic!("client {number} of 200: {error}"));
            let reply = String::from_utf8_lossy(&reply);
            assert!(reply.contains("success"), "client {number} of 200: {reply}");
        }
    }
}

#[test]
fn strangers_take_the_place_of_neither_a_listener_nor_a_waiting_init() {
    let registry = roboflow::Server::start();
    let folder = Folder::new();
    let configuration = folder.path().join("weir.toml");
    std::fs::write(&configuration, "[limits]\nconnections = 8\n").unwrap();
    let weir = Weir::start_with(|command| {
        command
            .arg("--config")
            .arg(&configuration)
            .env("WEIR_TOKEN", TOKEN)
            .env("API_BASE_URL", registry.url());
    });
    let sink = udp::Receiver::new();
    let token = format!(r#", "auth_token": "{TOKEN}""#);
    let video = request::quoted(&format!("file://{}", clip("long.mp4")));
    let id = weir.init(&request::init(&weir.toy(), &video, sink.port(), &token));
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let mut listener = Events::ask_with(weir.http, &id, &bearer).begin().unwrap();
    listener.named("detections");
    // An init at each listener that waits for its model.
    let slow = request::init(
        "slow/1",
        &video,
        sink.port(),
        &format!(r#"{token}, "api_key": "{}""#, roboflow::GOOD_KEY),
    );
    let mut waiting = [tcp::connect(weir.tcp), http::connect(weir.http)];
    waiting[0].write_all(&tcp::frame(slow.to_string().as_bytes())).unwrap();
    let body = slow.to_string();
    let head = format!(
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{bearer}content-type: application/json\r\n"
    );
    write!(waiting[1], "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let listed = || {
        let reply = weir.ask(&Json::parse(&format!(r#"{{"type": "list_pipelines"{token}}}"#)));
        reply.at("response/pipelines").items().len()
    };
    wait_for("all three to be listed", || (listed() == 3).then_some(()));

    let silent: Vec<TcpStream> =
        (0..200).map(|number| tcp::connect([weir.tcp, weir.http][number % 2])).collect();
    for _ in 0..30 {
        assert!(
            tcp::exchange(weir.tcp, &tcp::frame(b"{\"type\": \"list_pipelines\"}"))
                .contains("A token is needed")
        );
        assert_eq!(weir.get("/list_pipelines").status, 401);
    }
    (0..30).for_each(|_| drop(listener.named("detections")));
    registry.go_on();
    for mut client in waiting {
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).unwrap();
        assert!(String::from_utf8_lossy(&reply).contains("success"), "{}", String::from_utf8_lossy(&reply));
    }
    drop(silent);
}

#[test]
fn listeners_leave_places_to_others_and_tell_proxies_not_to_wait() {
    let weir = Weir::configured("[limits]\nconnections = 8\n");
    let sink = udp::Receiver::new();
    let video = request::quoted(&format!("file://{}", clip("long.mp4")));
    let id = weir.init(&request::init(&weir.toy(), &video, sink.port(), ""));
    let mut listeners: Vec<Events> = (0..6).map(|_| Events::listen(weir.http, &id).unwrap()).collect();
    let refusal = Events::listen(weir.http, &id).err().expect("a seventh of eight places");
    assert_eq!(refusal.status, 503);
    assert_eq!(weir.get("/list_pipelines").status, 200);
    listeners.iter_mut().for_each(|listener| drop(listener.named("detections")));
    drop(listeners);
    let head = wait_for("a place", || {
        let mut stream = http::connect(weir.http);
        write!(stream, "GET /pipelines/{id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut head = [0; 400];
        let count = stream.read(&mut head).unwrap();
        Some(String::from_utf8_lossy(&head[..count]).to_ascii_lowercase())
            .filter(|head| head.starts_with("http/1.1 200"))
    });
    assert!(head.contains("\r\nx-accel-buffering: no\r\n"), "{head}");
}
