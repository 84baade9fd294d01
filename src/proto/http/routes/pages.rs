//! What the binary carries to be read: the page, and the OpenAPI document with a page that shows it, without
//! any network.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::openapi;
use crate::proto::http::respond::{self, HttpReply};
use crate::web::{self, File};

/// Shows the document; loads nothing from elsewhere.
const DOCS: &str = include_str!("../docs.html");

/// Whether a person's browser asks to see something: it names HTML, which clients of an API do not.
pub(super) fn is_browser(head: &Parts) -> bool {
    let accepted = head.headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    matches!(head.method, Method::GET | Method::HEAD)
        && accepted.is_some_and(|types| types.contains("text/html"))
}

/// `GET /` of a browser.
pub(super) fn home(headers: &HeaderMap) -> HttpReply {
    let mut reply = file(web::INDEX, headers);
    // Others find nothing there.
    reply.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    reply
}

/// `GET /page/{name}`: a file of the page.
pub(super) fn file(name: &str, headers: &HeaderMap) -> HttpReply {
    let Some(file) = File::find(name) else { return respond::detail(StatusCode::NOT_FOUND, "Not Found") };
    let text =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let is_known =
        text(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim().trim_start_matches("W/") == file.tag);
    let unpacks = text(header::ACCEPT_ENCODING).split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        named && parts.all(|part| !matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    });
    let mut reply = match (is_known, unpacks) {
        (true, _) => respond::body(StatusCode::NOT_MODIFIED, file.kind, ""),
        (false, true) => respond::body(StatusCode::OK, file.kind, file.packed),
        (false, false) => respond::body(StatusCode::OK, file.kind, file.unpacked()),
    };
    let coded = (!is_known && unpacks).then_some((header::CONTENT_ENCODING, "gzip"));
    let same_site = header::HeaderName::from_static("cross-origin-opener-policy");
    for (name, value) in [
        (header::ETAG, file.tag),
        // Asked again each time, which costs a 304: after an update of the service no browser mixes old files
        // with new ones.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, web::POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (same_site, "same-origin"),
        (header::VARY, "Accept-Encoding"),
    ]
    .into_iter()
    .chain(coded)
    {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// `GET /openapi.json`: the description of this API.
pub(super) fn openapi() -> HttpReply {
    respond::json(StatusCode::OK, openapi::text())
}

/// `GET /docs` and `GET /redoc`
pub(super) fn docs() -> HttpReply {
    let mut reply = respond::body(StatusCode::OK, "text/html; charset=utf-8", DOCS);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";
    for (name, value) in
        [(hyper::header::CONTENT_SECURITY_POLICY, policy), (hyper::header::REFERRER_POLICY, "no-referrer")]
    {
        reply.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
    }
    reply
}
