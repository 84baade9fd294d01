//! What the binary carries to be read: the OpenAPI document and a page that shows it without any network.

use hyper::StatusCode;

use super::openapi;
use crate::proto::http::respond::{self, HttpReply};

/// Shows the document; loads nothing from elsewhere.
const DOCS: &str = include_str!("../docs.html");

/// `GET /openapi.json`
pub(super) fn openapi() -> HttpReply {
    respond::json(StatusCode::OK, openapi::text())
}

/// `GET /docs` and `GET /redoc`
pub(super) fn docs() -> HttpReply {
    let mut reply = respond::body(StatusCode::OK, "text/html; charset=utf-8", DOCS);
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";
    for (name, value) in [(hyper::header::CONTENT_SECURITY_POLICY, policy), (hyper::header::REFERRER_POLICY, "no-referrer")] {
        reply.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
    }
    reply
}
