//! HTTP replies: bodies and status codes as the reference's API gives them.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use uuid::Uuid;

use super::events;
use super::inventory;
use super::live::Live;
use crate::command::{PipelineId, Reply};
use crate::error::{Error, ErrorType, Kind};
use crate::feed::Feed;
use crate::json::{Style, Writer};
use crate::proto::connections::ConnectionSlot;
use crate::proto::report_json;
use crate::sink::Outcome;
use std::rc::Rc;

/// Tells nginx, and others that understand it, to pass on each event as it comes.
const UNBUFFERED: header::HeaderName = header::HeaderName::from_static("x-accel-buffering");

/// A reply over HTTP, with one of the bodies there are.
pub(super) type HttpReply = Response<events::Reply>;

/// A reply with a body that is already there.
pub(super) fn body(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> HttpReply {
    let mut reply = Response::new(events::Reply::Whole(Full::new(bytes.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    trusting(reply)
}

/// The content is of the type that is said, whatever a browser may think it looks like.
fn trusting(mut reply: HttpReply) -> HttpReply {
    reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// A reply whose body is JSON.
pub(super) fn json(status: StatusCode, bytes: impl Into<Bytes>) -> HttpReply {
    body(status, "application/json", bytes)
}

/// A reply that goes on for as long as its feeds; `is_named`: each event says of which pipeline it is.
pub(super) fn events(feeds: Vec<(PipelineId, Feed)>, is_named: bool, slot: Rc<ConnectionSlot>) -> HttpReply {
    let mut reply =
        Response::new(events::Reply::Events(Box::new(events::Events::new(feeds, is_named, slot))));
    for (name, value) in
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store"), (UNBUFFERED, "no")]
    {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    trusting(reply)
}

/// Pictures for as long as somebody takes them.
pub(super) fn live(live: Live) -> HttpReply {
    let content_type = HeaderValue::try_from(live.content_type());
    let mut reply = Response::new(events::Reply::Live(Box::new(live)));
    if let Ok(content_type) = content_type {
        reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    reply.headers_mut().insert(UNBUFFERED, HeaderValue::from_static("no"));
    trusting(reply)
}

/// `{"detail":"…"}`: what the framework of the reference says before a route is reached.
pub(super) fn detail(status: StatusCode, text: &str) -> HttpReply {
    let mut out = Writer::new(Style::Compact);
    out.begin_object();
    out.key("detail").string(text);
    out.end_object();
    json(status, out.finish())
}

/// What a command answered. `pipeline` is the id in the request's path.
pub(super) fn success(pipeline: Option<PipelineId>, reply: &Reply) -> HttpReply {
    let mut out = Writer::new(Style::Compact);
    out.begin_object();
    out.key("status").plain("success");
    out.key("context").begin_object();
    out.key("request_id").plain(Uuid::new_v4());
    out.key("pipeline_id");
    let named = if let Reply::Initialised(id) = reply { Some(*id) } else { pipeline };
    match named {
        Some(id) => out.plain(id),
        None => out.null(),
    }
    out.end_object();
    match reply {
        Reply::Pipelines(ids) => {
            out.key("pipelines").begin_array();
            for id in ids {
                out.plain(id);
            }
            out.end_array();
        }
        Reply::Report(found) => report_json::write(out.key("report"), found),
        Reply::Results { outputs, turn } => results(&mut out, outputs, turn),
        Reply::History(history) => inventory::history(&mut out, history),
        Reply::Models(models) => inventory::models(&mut out, models),
        Reply::Device(device) => inventory::device(&mut out, device),
        // A picture is a reply of its own.
        Reply::Initialised(_) | Reply::Picture(_) | Reply::Done => {}
    }
    out.end_object();
    json(StatusCode::OK, out.finish())
}

/// `outputs` and `frames_metadata` of the newer API: one entry for each frame of the turn.
fn results(out: &mut Writer, names: &[String], turn: &[Outcome]) {
    out.key("outputs").begin_array();
    for outcome in turn {
        let json = outcome.json();
        out.begin_object();
        for name in names {
            out.key(name).raw(&json);
        }
        out.end_object();
    }
    out.end_array();
    out.key("frames_metadata").begin_array();
    for outcome in turn {
        out.begin_object();
        out.key("frame_timestamp").plain(outcome.frame.decoded.iso_local());
        out.key("frame_id").integer(outcome.frame.frame_id);
        out.key("source_id").integer(outcome.frame.source_id);
        out.end_object();
    }
    out.end_array();
}

/// Why a command failed.
pub(super) fn failure(error: &Error) -> HttpReply {
    let (error_type, _) = error.kind().wire();
    let details = match error.message() {
        "" => "N/A",
        // The reference sends no message with this one.
        _ if error.kind() == Kind::NoSuchPipeline => "N/A",
        text => text,
    };
    let text =
        format!("Error in ProcessesManagerClient. Error type: {}. Details: {details}", error_type.as_str());
    let mut out = Writer::new(Style::Compact);
    out.begin_object();
    out.key("status").plain("failure");
    out.key("message").string(&text);
    out.end_object();
    let mut reply = json(status(error.kind()), out.finish());
    if error.kind() == Kind::Unauthorised {
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(pause) = error.retries_after() {
        // Whole seconds, and never too early.
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs() + 1));
    }
    reply
}

fn status(kind: Kind) -> StatusCode {
    match (kind, kind.wire().0) {
        (Kind::Forbidden, _) => StatusCode::FORBIDDEN,
        (Kind::LockedOut, _) => StatusCode::TOO_MANY_REQUESTS,
        // The reference's "no answer from the manager"; and what may be asked again later.
        (Kind::TimedOut | Kind::ShuttingDown | Kind::Crowded | Kind::NoPicture, _) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        // Somebody behind us: only who tries a source is told so.
        (
            Kind::SourceConnection
            | Kind::SourceUnauthorised
            | Kind::SourceLost
            | Kind::SourceStalled
            | Kind::SourceUnsupported
            | Kind::NoKeyFrame
            | Kind::Undecodable
            | Kind::Worker,
            _,
        ) => StatusCode::BAD_GATEWAY,
        (_, ErrorType::InvalidPayload) => StatusCode::BAD_REQUEST,
        (_, ErrorType::Authorisation) => StatusCode::UNAUTHORIZED,
        (_, ErrorType::NotFound) => StatusCode::NOT_FOUND,
        (_, ErrorType::Operation | ErrorType::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
