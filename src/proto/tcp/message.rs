//! TCP messages: a decoded JSON document → a [`Command`], and the reply back into the envelope.

use uuid::Uuid;

use crate::command::init::{document, fields};
use crate::command::{Command, PipelineId, Reply};
use crate::error::{Error, Kind, Result};
use crate::json::{Style, Value, Writer};
use crate::proto::access::Scope;
use crate::proto::pipeline_id::{no_such_pipeline, parse_pipeline_id};
use crate::proto::{audit, report_json};
use crate::schema::{Field, Kind as Holds, python};

/// Bytes of the length that goes before each message: big-endian, unsigned.
pub(super) const HEADER_BYTES: usize = 4;

const TYPE: Field = Field::required("type", Holds::Text, "What is asked for.");
const PIPELINE_ID: Field = Field::required("pipeline_id", Holds::Text, "Of which pipeline.");

/// What a message asks for, and the `pipeline_id` its reply names.
#[derive(Debug)]
pub(super) struct Message {
    /// Echoed as it came, whatever its type; an id of our own for `init`, null where none was read.
    pub pipeline_id: Value,
    /// The command, or what is wrong with it.
    pub command: Result<Command>,
}

impl Message {
    /// A message that failed before its `pipeline_id` was read.
    pub(super) fn failed(error: Error) -> Self {
        Message { pipeline_id: Value::Null, command: Err(error) }
    }
}

/// The token a message shows.
pub(super) fn token(document: &Value) -> Option<&str> {
    document.as_object()?.get("auth_token")?.as_str()
}

/// What a client must be allowed to send this message, whether or not it can be read.
pub(super) fn scope(document: &Value) -> Scope {
    let kind = document.as_object().and_then(|message| message.get("type"));
    match kind.and_then(Value::as_str) {
        Some("init" | "mute" | "resume" | "terminate") => Scope::Control,
        _ => Scope::Read,
    }
}

/// The changing command that a message names, whether or not it can be read.
pub(super) fn changing(document: &Value) -> Option<&'static str> {
    document.as_object()?.get("type")?.as_str().and_then(audit::named)
}

/// What a JSON document asks for, or how it is refused.
pub(super) fn read(document: &Value) -> Message {
    let Value::Object(message) = document else {
        return Message::failed(Error::new(Kind::WrongType, python::not_a_dictionary(document)));
    };
    let kind = match TYPE.value(message) {
        Ok(kind) => kind,
        Err(error) => return Message::failed(error),
    };
    let of_pipeline: fn(PipelineId) -> Command = match kind.as_str() {
        Some("list_pipelines") => return Message { pipeline_id: Value::Null, command: Ok(Command::List) },
        Some(fields::INIT) => {
            // The reference names a new id even when `init` fails. Nothing is ever listed under such an id
            // here.
            let pipeline_id = Value::String(Uuid::new_v4().to_string());
            return Message {
                pipeline_id,
                command: document::read(message).map(|init| Command::Init(Box::new(init))),
            };
        }
        Some("status") => Command::Status,
        Some("mute") => Command::Mute,
        Some("resume") => Command::Resume,
        Some("terminate") => Command::Terminate,
        _ => {
            let text = format!("{} is not a valid CommandType", python::repr(kind));
            return Message::failed(Error::new(Kind::InvalidValue, text));
        }
    };
    match PIPELINE_ID.value(message) {
        Ok(id) => Message { pipeline_id: id.clone(), command: pipeline_id(id).map(of_pipeline) },
        Err(error) => Message::failed(error),
    }
}

fn pipeline_id(value: &Value) -> Result<PipelineId> {
    match value {
        Value::Array(_) | Value::Object(_) => {
            Err(Error::new(Kind::WrongType, format!("unhashable type: '{}'", value.python_type())))
        }
        Value::String(text) => parse_pipeline_id(text),
        _ => Err(no_such_pipeline()),
    }
}

/// The reply as it goes out: header and envelope.
pub(super) fn reply(pipeline_id: &Value, outcome: &Result<Reply>) -> Vec<u8> {
    let mut json = Writer::after(vec![0; HEADER_BYTES], Style::Python);
    json.begin_object();
    json.key("request_id").plain(Uuid::new_v4());
    json.key("response").begin_object();
    match outcome {
        Ok(reply) => success(&mut json, reply),
        Err(error) => failure(&mut json, error),
    }
    json.end_object();
    json.key("pipeline_id");
    match outcome {
        Ok(Reply::Initialised(id)) => json.plain(id),
        _ => json.value(pipeline_id),
    }
    json.end_object();
    let mut bytes = json.finish();
    let length = u32::try_from(bytes.len() - HEADER_BYTES);
    debug_assert!(length.is_ok(), "reports are bounded far below 4 GiB");
    bytes.splice(..HEADER_BYTES, length.unwrap_or(u32::MAX).to_be_bytes());
    bytes
}

fn success(json: &mut Writer, reply: &Reply) {
    if let Reply::Pipelines(ids) = reply {
        json.key("pipelines").begin_array();
        for id in ids {
            json.plain(id);
        }
        json.end_array();
    }
    json.key("status").plain("success");
    if let Reply::Report(found) = reply {
        report_json::write(json.key("report"), found);
    }
}

fn failure(json: &mut Writer, error: &Error) {
    let (error_type, class) = error.kind().wire();
    json.key("status").plain("failure");
    json.key("error_type").plain(error_type.as_str());
    if let Some(class) = class {
        json.key("error_class").plain(class);
        json.key("error_message").string(error.message());
    }
}
