//! Faults of a body, and the 422 that lists them.

use hyper::StatusCode;

use super::convert::{self, Refusal};
use crate::json::{Object, Style, Value, Writer};
use crate::proto::http::respond::{self, HttpReply};

/// Keys whose values are not echoed.
const SECRETS: [&str; 2] = ["api_key", "auth_token"];

/// What stands for a secret.
const HIDDEN: &str = "**********";

/// A step into the body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loc<'a> {
    Key(&'a str),
    Index(usize),
}

/// One value that was refused.
#[derive(Debug)]
pub(in crate::proto::http::routes) struct Fault<'a> {
    pub(super) refusal: Refusal,
    pub(super) loc: Vec<Loc<'a>>,
    pub(super) input: Input<'a>,
}

/// What is echoed: the value refused, or the object that lacks a field.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Value(&'a Value),
    Object(&'a Object),
}

impl<'a> Fault<'a> {
    /// A field that is not there.
    pub(super) fn missing(loc: Vec<Loc<'a>>, object: &'a Object) -> Self {
        Fault { refusal: convert::MISSING, loc, input: Input::Object(object) }
    }
}

/// `{"detail":[…]}` with status 422.
pub(in crate::proto::http::routes) fn reply(faults: &[Fault<'_>]) -> HttpReply {
    let mut out = Writer::new(Style::Compact);
    write(&mut out, faults);
    respond::json(StatusCode::UNPROCESSABLE_ENTITY, out.finish())
}

/// The body of the reply.
pub(super) fn write(out: &mut Writer, faults: &[Fault<'_>]) {
    out.begin_object();
    out.key("detail").begin_array();
    for fault in faults {
        out.begin_object();
        out.key("type").plain(fault.refusal.kind);
        out.key("loc").begin_array();
        for step in &fault.loc {
            match step {
                Loc::Key(key) => out.string(key),
                // A position in a list that the parser bounds.
                Loc::Index(index) => out.integer(i128::try_from(*index).unwrap_or(i128::MAX)),
            }
        }
        out.end_array();
        out.key("msg").string(fault.refusal.text);
        out.key("input");
        match fault.input {
            Input::Value(value) => echo(out, value),
            Input::Object(object) => echo_object(out, object),
        }
        out.end_object();
    }
    out.end_array();
    out.end_object();
}

fn echo(out: &mut Writer, value: &Value) {
    match value {
        Value::Object(object) => echo_object(out, object),
        other => out.value(other),
    }
}

fn echo_object(out: &mut Writer, object: &Object) {
    out.begin_object();
    for (key, value) in object.iter() {
        match value {
            Value::String(_) if SECRETS.contains(&key) => out.key(key).plain(HIDDEN),
            other => out.key(key).value(other),
        }
    }
    out.end_object();
}
