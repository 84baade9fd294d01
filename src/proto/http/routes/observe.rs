//! What machines that watch this one ask for: is it alive, and is it ready.

use hyper::StatusCode;

use crate::command::{Command, Execute};
use crate::proto::access_control::AccessControl;
use crate::proto::http::respond::{self, HttpReply};

/// `GET /healthz`: the event loop turns.
pub(super) fn health() -> HttpReply {
    respond::body(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

/// `GET /readyz`: commands are carried out, and sources can be opened.
pub(super) async fn readiness<E: Execute>(commands: &E, access_control: &AccessControl) -> HttpReply {
    if let Some(why) = commands.fault() {
        // Of this machine alone: no secrets.
        return respond::body(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            format!("not ready: {why}\n"),
        );
    }
    match access_control.execute(commands, Command::List).await {
        Ok(_) => respond::body(StatusCode::OK, "text/plain; charset=utf-8", "ready\n"),
        Err(_) => respond::body(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "not ready\n"),
    }
}
