//! Judges the query of a request as the body is judged: every fault is listed, in the framework's words.

use hyper::StatusCode;

use super::convert::{self, Refusal, boolean, integer, number};
use crate::json::{Style, Value, Writer};
use crate::proto::http::respond::{self, HttpReply};

/// Parameters of one request that are looked at.
const MAX_PARAMETERS: usize = 32;

/// Longest value that is echoed, bytes.
const MAX_ECHO_BYTES: usize = 200;

/// The parameters, and what was wrong with those that were asked for.
pub(in crate::proto::http::routes) struct Query {
    given: Vec<(String, String)>,
    faults: Vec<(&'static str, Refusal, String)>,
}

impl Query {
    /// Of several parameters of one name the last counts.
    pub(in crate::proto::http::routes) fn new(query: Option<&str>) -> Query {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).take(MAX_PARAMETERS);
        Query {
            given: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            faults: Vec::new(),
        }
    }

    fn judge<T>(
        &mut self,
        name: &'static str,
        usual: T,
        judge: impl FnOnce(&Value) -> Result<T, Refusal>,
    ) -> T {
        let Some((_, text)) = self.given.iter().rev().find(|(given, _)| given == name) else { return usual };
        match judge(&Value::from(text.as_str())) {
            Ok(value) => value,
            Err(refusal) => {
                self.faults.push((name, refusal, text.clone()));
                usual
            }
        }
    }

    /// An integer from `least` to `most`.
    pub(in crate::proto::http::routes) fn integer(
        &mut self,
        name: &'static str,
        usual: i128,
        least: i128,
        most: i128,
    ) -> i128 {
        self.judge(name, usual, |value| match integer(value)? {
            Value::Integer(number) if number < least => Err(convert::TOO_SMALL),
            Value::Integer(number) if number > most => Err(convert::TOO_LARGE),
            Value::Integer(number) => Ok(number),
            _ => Ok(usual),
        })
    }

    /// A number of `least` or more.
    pub(in crate::proto::http::routes) fn number(
        &mut self,
        name: &'static str,
        usual: f64,
        least: f64,
    ) -> f64 {
        self.judge(name, usual, |value| match number(value)?.as_f64() {
            Some(number) if number >= least => Ok(number),
            _ => Err(convert::TOO_SMALL),
        })
    }

    /// A parameter that is true or false; `usual` where it is absent.
    pub(in crate::proto::http::routes) fn boolean(&mut self, name: &'static str, usual: bool) -> bool {
        self.judge(name, usual, |value| Ok(matches!(boolean(value)?, Value::Bool(true))))
    }

    /// The 422, if anything was wrong.
    pub(in crate::proto::http::routes) fn end(self) -> Result<(), Box<HttpReply>> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let mut out = Writer::new(Style::Compact);
        out.begin_object();
        out.key("detail").begin_array();
        for (name, refusal, text) in &self.faults {
            out.begin_object();
            out.key("type").plain(refusal.kind);
            out.key("loc").begin_array();
            out.plain("query");
            out.plain(name);
            out.end_array();
            out.key("msg").string(refusal.text);
            out.key("input").string(text.get(..text.floor_char_boundary(MAX_ECHO_BYTES)).unwrap_or_default());
            out.end_object();
        }
        out.end_array();
        out.end_object();
        Err(Box::new(respond::json(StatusCode::UNPROCESSABLE_ENTITY, out.finish())))
    }
}
