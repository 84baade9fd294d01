//! `POST /initialise`: the body's way to a command, refused where and as the reference's framework refuses
//! it.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::{HeaderMap, StatusCode, header};

use super::validate;
use crate::clock::within;
use crate::command::Command;
use crate::command::init::document;
use crate::error::{Error, Kind, Result};
use crate::json::{self, Fault, Reason, Style, Value, Writer};
use crate::proto::http::respond::{self, HttpReply};
use crate::proto::http::settings::HttpSettings;
use crate::proto::http::workflow;

/// What was read, or the reply that says why not.
pub(super) type Refused<T> = std::result::Result<T, Box<HttpReply>>;

/// Reads, decodes and validates; the reply to send if that fails, the command or what the manager would
/// refuse otherwise.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Incoming,
    settings: &HttpSettings,
) -> Refused<Result<Command>> {
    let document = document_of(headers, body, settings).await?;
    let message =
        validate::initialise(document.as_ref()).map_err(|faults| Box::new(validate::reply(&faults)))?;
    Ok(document::read(&message).map(|init| Command::Init(Box::new(init))))
}

/// The same for a source that is only tried.
pub(super) async fn read_source(
    headers: &HeaderMap,
    body: Incoming,
    settings: &HttpSettings,
) -> Refused<Result<Command>> {
    let document = document_of(headers, body, settings).await?;
    let message = validate::source(document.as_ref()).map_err(|faults| Box::new(validate::reply(&faults)))?;
    Ok(document::read_source(&message).map(|source| Command::Peek(Box::new(source))))
}

/// The same for the newer API: a workflow, and no framework that checks its form.
pub(super) async fn read_workflow(
    headers: &HeaderMap,
    body: Incoming,
    settings: &HttpSettings,
) -> Refused<Result<Command>> {
    let document = document_of(headers, body, settings).await?;
    let missing = || Error::new(Kind::InvalidValue, "the body must be a JSON object");
    let init = document.as_ref().and_then(Value::as_object).ok_or_else(missing).and_then(workflow::read);
    Ok(init.map(|init| Command::Init(Box::new(init))))
}

/// `excluded_fields` of a `consume`, whose body may be missing.
pub(super) async fn read_excluded(
    headers: &HeaderMap,
    body: Incoming,
    settings: &HttpSettings,
) -> Refused<Vec<String>> {
    let document = document_of(headers, body, settings).await?;
    let fields = document.as_ref().and_then(Value::as_object).and_then(|body| body.get("excluded_fields"));
    let Some(Value::Array(fields)) = fields else { return Ok(Vec::new()) };
    Ok(fields.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// What a body says; `None`: it is empty, or `null`.
async fn document_of(headers: &HeaderMap, body: Incoming, settings: &HttpSettings) -> Refused<Option<Value>> {
    let bytes = collect(body, settings).await?;
    decode(headers, &bytes)
}

async fn collect(body: Incoming, settings: &HttpSettings) -> Refused<Bytes> {
    let limit = settings.rules.max_message_bytes;
    let too_large = || {
        Box::new(respond::detail(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("Request body is larger than {limit} bytes"),
        ))
    };
    // What says that it is too large need not be waited for.
    if usize::try_from(body.size_hint().lower()).map_or(true, |bytes| bytes > limit) {
        return Err(too_large());
    }
    match within(settings.rules.message_timeout, Limited::new(body, limit).collect()).await {
        Some(Ok(collected)) => Ok(collected.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Some(Err(_)) => {
            Err(Box::new(respond::detail(StatusCode::BAD_REQUEST, "There was an error parsing the body")))
        }
        None => {
            Err(Box::new(respond::detail(StatusCode::REQUEST_TIMEOUT, "Request body did not arrive in time")))
        }
    }
}

/// The document in the body; `None` when there is no body. What is not declared as JSON is taken as text.
fn decode(headers: &HeaderMap, bytes: &Bytes) -> Refused<Option<Value>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if !is_json(headers) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        return Ok(Some(Value::String(text)));
    }
    match json::parse(bytes) {
        Ok(Value::Null) => Ok(None),
        Ok(document) => Ok(Some(document)),
        Err(Fault { reason: Reason::Encoding | Reason::Depth | Reason::Values, .. }) => {
            Err(Box::new(respond::detail(StatusCode::BAD_REQUEST, "There was an error parsing the body")))
        }
        Err(fault) => Err(Box::new(malformed(fault))),
    }
}

/// No declared type counts as JSON, as do `application/json` and `application/…+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(declared) = headers.get(header::CONTENT_TYPE) else { return true };
    let Ok(declared) = declared.to_str() else { return false };
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

fn malformed(fault: Fault) -> HttpReply {
    let mut out = Writer::new(Style::Compact);
    out.begin_object();
    out.key("detail").begin_array();
    out.begin_object();
    out.key("type").plain("json_invalid");
    out.key("loc").begin_array();
    out.plain("body");
    // At most the largest body.
    out.integer(i128::try_from(fault.offset).unwrap_or(i128::MAX));
    out.end_array();
    out.key("msg").plain("JSON decode error");
    out.key("input").begin_object();
    out.end_object();
    out.key("ctx").begin_object();
    out.key("error").string(fault.reason.as_str());
    out.end_object();
    out.end_object();
    out.end_array();
    out.end_object();
    respond::json(StatusCode::UNPROCESSABLE_ENTITY, out.finish())
}
