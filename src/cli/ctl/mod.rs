//! `weir ctl`: a client over the TCP protocol, for boards without curl.

mod connect;
mod sinks;

use super::{present, usage};
use crate::command::init::fields::{self, FIELDS, MODEL_FIELDS};
use crate::error::{Error, Kind, Result, system};
use crate::json::{Charset, Object, Style, Value, Writer, write_string};
use crate::schema::{Field, Kind as Holds, Presence};
use connect::Connection;
use lexopt::{Arg, Parser, ValueExt};
use miniserde::{Deserialize, json};
use std::ffi::OsString;
use std::io::Write;
use std::net::UdpSocket;
use std::process::ExitCode;

/// Largest payload a datagram can have.
const MAX_DATAGRAM_BYTES: usize = 65_536;

/// Runs one command of `weir ctl`.
pub(super) fn run(arguments: Vec<OsString>) -> Result<ExitCode> {
    let request = Request::parse(arguments).map_err(|error| usage(error.to_string()))?;
    let words: Vec<&str> = request.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["help"] => Ok(super::told("ctl")),
        ["list"] => send(&request, r#"{"type": "list_pipelines"}"#),
        ["init"] => send(&request, &request.init()?),
        [command @ ("status" | "resume" | "terminate"), id] => send(&request, &about(command, id)),
        ["pause", id] => send(&request, &about("mute", id)),
        ["listen", port] => listen(port.parse().map_err(|_| usage("the port is not a number below 65536"))?),
        _ => Err(usage(
            "weir ctl list | init | status ID | pause ID | resume ID | terminate ID | listen PORT; weir help ctl",
        )),
    }
}

/// The command line, taken apart.
#[derive(Default)]
struct Request {
    words: Vec<String>,
    connection: Connection,
    /// Flags of `init`, in the order in which they came.
    given: Vec<(&'static Field, Value)>,
}

/// The fields of `init` that have a flag: its own, those of the model, then those of sinks.
fn flagged() -> impl Iterator<Item = (&'static str, &'static Field)> {
    FIELDS.iter().chain(MODEL_FIELDS).filter_map(|field| Some((field.flag?, field))).chain(sinks::flagged())
}

impl Request {
    fn parse(arguments: Vec<OsString>) -> Result<Request, lexopt::Error> {
        let mut parser = Parser::from_args(arguments);
        let mut request = Request::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("addr") => request.connection.address = Some(parser.value()?.string()?),
                Arg::Long("token-file") => request.connection.token_file = Some(parser.value()?.into()),
                Arg::Long("tls") => request.connection.tls = true,
                Arg::Long("cacert") => request.connection.cacert = Some(parser.value()?.into()),
                Arg::Long("cert") => request.connection.cert = Some(parser.value()?.into()),
                Arg::Long("key") => request.connection.key = Some(parser.value()?.into()),
                Arg::Short('h') | Arg::Long("help") => request.words = vec!["help".to_owned()],
                Arg::Long(name) => {
                    let Some((_, field)) = flagged().find(|(flag, _)| *flag == name) else {
                        return Err(argument.unexpected());
                    };
                    request.given.push((field, parser.value()?.parse_with(|text| value_of(field, text))?));
                }
                Arg::Value(word) => request.words.push(word.string()?),
                Arg::Short(_) => return Err(argument.unexpected()),
            }
        }
        request.connection.fill();
        Ok(request)
    }

    /// The message. Every value of a field that may come often is one of a list.
    fn init(&self) -> Result<String> {
        let mut message = Object::default();
        message.push("type", Value::from(fields::INIT));
        let mut model = Object::default();
        model.extend(MODEL_FIELDS.iter().filter_map(|field| match field.kind {
            Holds::Constant(text) => Some((field.name, Value::from(text))),
            _ => None,
        }));
        model.extend(MODEL_FIELDS.iter().filter_map(|field| Some((field.name, self.value(field)?))));
        for field in FIELDS {
            let value = match field.kind {
                Holds::Object { .. } => Some(Value::Object(std::mem::take(&mut model))),
                Holds::Sink => sinks::configuration(&self.given, |name| std::env::var(name).ok())?,
                Holds::Secret => std::env::var("ROBOFLOW_API_KEY").ok().map(Value::String),
                _ => self.value(field),
            };
            match (value, field.flag) {
                (Some(value), _) => message.push(field.name, value),
                (None, Some(flag)) if field.presence == Presence::Required => {
                    return Err(usage(format!("weir ctl init needs --{flag}")));
                }
                (None, _) => {}
            }
        }
        let mut text = Writer::new(Style::Python);
        text.value(&Value::Object(message));
        Ok(String::from_utf8_lossy(&text.finish()).into_owned())
    }

    /// What was given for a field: the last of several, or all of them where it takes a list.
    fn value(&self, field: &Field) -> Option<Value> {
        let mut given: Vec<Value> = self
            .given
            .iter()
            .filter(|(of, _)| of.name == field.name)
            .map(|(_, value)| value.clone())
            .collect();
        match field.kind {
            Holds::References { .. } if given.len() > 1 => Some(Value::Array(given)),
            _ => given.pop(),
        }
    }
}

/// The value that a flag's text stands for.
fn value_of(field: &Field, text: &str) -> Result<Value, String> {
    let whole = || text.parse().map(Value::Integer);
    let number = || {
        whole().ok().or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float))
    };
    let value = match field.kind {
        Holds::Boolean => text.parse().map(Value::Bool).ok(),
        Holds::Integer { .. } => whole().ok(),
        Holds::Number | Holds::Rate | Holds::Seconds { .. } => number(),
        // A number is a device index, as in the protocol; anything else is a path or URL.
        Holds::References { .. } => Some(
            text.parse::<u32>().map_or_else(|_| Value::from(text), |index| Value::from(i128::from(index))),
        ),
        Holds::Sink => Some(sinks::sink(text)?),
        Holds::Masks { .. } => crate::json::parse_str(text).ok(),
        _ => Some(Value::from(text)),
    };
    value.ok_or_else(|| format!("expected {}", field.kind.words()))
}

fn about(command: &str, id: &str) -> String {
    format!("{{\"type\": \"{command}\", \"pipeline_id\": {}}}", quoted(id))
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    write_string(&mut out, text, Charset::Ascii);
    String::from_utf8_lossy(&out).into_owned()
}

/// The part of a reply that decides the exit code.
#[derive(Deserialize)]
struct Reply {
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    status: String,
}

fn send(request: &Request, message: &str) -> Result<ExitCode> {
    let token = request.connection.token()?;
    let message = token.map_or_else(|| message.to_owned(), |token| shown(&token, message));
    let reply = request.connection.exchange(&message)?;
    // A closed pipe (`| head`) is nobody's error.
    let _ = writeln!(std::io::stdout(), "{}", visible(&reply));
    let success = json::from_str::<Reply>(&reply).is_ok_and(|reply| reply.response.status == "success");
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Control characters, and those that turn the direction of writing, as JSON writes them: what a camera or a
/// server calls itself shall not steer the terminal.
fn visible(reply: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut text = String::with_capacity(reply.len());
    for c in reply.chars() {
        if steers(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// A message that shows its token.
fn shown(token: &str, message: &str) -> String {
    message.replacen('{', &format!("{{\"auth_token\": {}, ", quoted(token)), 1)
}

fn listen(port: u16) -> Result<ExitCode> {
    let socket = UdpSocket::bind(("0.0.0.0", port))
        .map_err(|cause| Error::told(Kind::Address, format_args!("cannot listen on UDP {port}"), cause))?;
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).map_err(system("receive a datagram"))?;
        let line = present::line(buffer.get(..length).unwrap_or_default());
        // A closed pipe (`| head`) ends it.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::init::document;
    use crate::sink::mqtt::Format;
    use crate::sink::{MqttSink, Sink, UdpSink};

    #[test]
    fn init_builds_the_documented_message() {
        let words = [
            "init",
            "--model",
            "toy/1",
            "--video",
            "0",
            "--video",
            "a\"b.mp4",
            "--sink",
            "host:99",
            "--max-fps",
            "5",
        ];
        let request = Request::parse(words.iter().map(OsString::from).collect()).unwrap();
        let message = request.init().unwrap();
        assert!(message.contains(r#""video_reference": [0, "a\"b.mp4"]"#), "{message}");
        assert!(
            message.contains(r#""sink_configuration": {"type": "udp_sink", "host": "host", "port": 99}"#),
            "{message}"
        );
        assert!(message.contains(r#""max_fps": 5"#), "{message}");
    }

    #[test]
    fn every_flag_is_told_and_makes_a_field_that_is_read() {
        let flags = [
            "--model",
            "m/1",
            "--video",
            "a",
            "--sink",
            "h:1",
            "--max-fps",
            "2.5",
            "--filling",
            "WAIT",
            "--consumption",
            "eager",
            "--batch-collection-timeout",
            "1",
            "--class-agnostic-nms",
            "true",
            "--confidence",
            "0.5",
            "--iou-threshold",
            "0.25",
            "--max-detections",
            "7",
            "--privacy-masks",
            "[[[0,0],[1,0],[1,0.5]]]",
            "--sink",
            "mqtt",
            "--topic",
            "hall/gate",
            "--qos",
            "0",
            "--format",
            "compact",
        ];
        let request = Request::parse(flags.iter().map(OsString::from).collect()).unwrap();
        let init = document::from_file(request.init().unwrap().as_bytes()).unwrap();
        assert_eq!(
            (init.model_id.as_str(), init.max_fps, init.parameters.max_detections),
            ("m/1", Some(2.5), Some(7))
        );
        assert_eq!(
            (init.parameters.class_agnostic_nms, init.parameters.iou_threshold),
            (Some(true), Some(0.25))
        );
        let mqtt = MqttSink { topic: Some("hall/gate".to_owned()), qos: 0, format: Format::Compact };
        let udp = UdpSink { host: "h".to_owned(), port: 1 };
        assert_eq!(init.sinks, [Sink::Udp(udp), Sink::Mqtt(mqtt)]);
        for (flag, _) in flagged() {
            assert!(flags.contains(&format!("--{flag}").as_str()), "{flag}");
            let told = super::super::manual::find("ctl")
                .unwrap()
                .kinds
                .iter()
                .find(|kind| kind.name == "init")
                .unwrap();
            assert!(told.options().any(|option| option.name == flag), "{flag}");
        }
    }

    #[test]
    fn what_would_steer_a_terminal_is_made_visible() {
        assert_eq!(
            visible("{\"a\": \"\u{1b}[2J\u{9b}x\u{202e}ä\"}"),
            "{\"a\": \"\\u001b[2J\\u009bx\\u202eä\"}"
        );
    }

    #[test]
    fn a_token_is_shown_in_the_message() {
        let message = shown("ab\"cd", &about("status", "x"));
        assert_eq!(message, r#"{"auth_token": "ab\"cd", "type": "status", "pipeline_id": "x"}"#);
    }

    #[test]
    fn what_is_missing_is_named() {
        let request = Request::parse(vec!["init".into(), "--model".into(), "m".into()]).unwrap();
        assert!(request.init().unwrap_err().message().contains("--video"));
        let bad = Request::parse(vec!["init".into(), "--max-fps".into(), "many".into()]).err().unwrap();
        assert!(bad.to_string().contains("a number above 0"), "{bad}");
        assert!(run(vec!["nonsense".into()]).is_err());
    }
}
