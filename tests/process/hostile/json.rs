//! The documents of `documents.rs` through both listeners.

use super::documents::{FREE, INVALID, VALID, long_free, long_invalid, long_valid};
use super::watch::Watch;
use crate::support::{Json, Weir, http, tcp};
use std::net::TcpStream;

/// One table and what is too long to be written there.
fn all<'a>(short: &'a [&'a [u8]], long: &'a [Vec<u8>]) -> impl Iterator<Item = &'a [u8]> {
    short.iter().copied().chain(long.iter().map(Vec::as_slice))
}

fn shown(document: &[u8]) -> String {
    String::from_utf8_lossy(document.get(..80).unwrap_or(document)).into_owned()
}

/// The class of the TCP listener's error; `None` for a success.
fn tcp_class(weir: &Weir, document: &[u8]) -> Option<String> {
    let reply = Json::parse(&tcp::exchange(weir.tcp, &tcp::frame(document)));
    reply.at("response/error_class").text().map(str::to_owned)
}

/// Status and `type` of the first fault that the HTTP listener names.
fn http_fault(connection: &mut TcpStream, document: &[u8]) -> (u16, Option<String>) {
    let head = format!(
        "POST /initialise HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        document.len()
    );
    let reply = http::next(connection, &[head.as_bytes(), document].concat());
    (reply.status, reply.json().at("detail/0/type").text().map(str::to_owned))
}

#[test]
fn valid_documents_are_understood() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    let long = long_valid();
    assert!(all(VALID, &long).count() >= 90);
    let mut connection = http::connect(weir.http);
    for document in all(VALID, &long) {
        let alone = tcp_class(&weir, document);
        assert_ne!(alone.as_deref(), Some("MalformedPayloadError"), "{}", shown(document));
        let inside = [&b"{\"type\": \"list_pipelines\", \"x\": "[..], document, b"}"].concat();
        assert_eq!(tcp_class(&weir, &inside), None, "{}", shown(document));
        let (status, fault) = http_fault(&mut connection, &[&b"{\"x\":"[..], document, b"}"].concat());
        assert_eq!((status, fault.as_deref()), (422, Some("missing")), "{}", shown(document));
    }
    drop(connection);
    watch.is_at_rest("valid documents");
}

#[test]
fn invalid_documents_are_refused_as_such() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    let long = long_invalid();
    assert!(all(INVALID, &long).count() >= 180);
    let mut connection = http::connect(weir.http);
    for document in all(INVALID, &long) {
        assert_eq!(
            tcp_class(&weir, document).as_deref(),
            Some("MalformedPayloadError"),
            "{}",
            shown(document)
        );
        let (status, fault) = http_fault(&mut connection, document);
        // Bytes that are no text are refused before their grammar is looked at.
        let is_refused = (status, fault.as_deref()) == (422, Some("json_invalid"))
            || (status, fault.as_deref()) == (400, None);
        assert!(is_refused, "{}: {status} {fault:?}", shown(document));
    }
    drop(connection);
    watch.is_at_rest("invalid documents");
}

#[test]
fn documents_of_doubt_are_answered_in_the_protocol() {
    let weir = Weir::start();
    let watch = Watch::new(&weir);
    let long = long_free();
    assert!(all(FREE, &long).count() >= 30);
    let mut connection = http::connect(weir.http);
    for document in all(FREE, &long) {
        let reply = Json::parse(&tcp::exchange(weir.tcp, &tcp::frame(document)));
        assert_eq!(reply.at("response/status").text(), Some("failure"), "{}", shown(document));
        let (status, _) = http_fault(&mut connection, document);
        assert!([400, 422].contains(&status), "{}: {status}", shown(document));
    }
    drop(connection);
    watch.is_at_rest("documents of doubt");
}
