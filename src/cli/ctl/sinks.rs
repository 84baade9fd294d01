//! The sinks of `weir ctl init`: where each one is, and what is said behind it.
//!
//! `--sink` begins a sink, whose kind its value shows (`sink::KindOfSink::from_flag`); flags of members
//! (`--topic`, `--qos` …) belong to the sink before them.

use super::super::usage;
use crate::error::Result;
use crate::json::{Object, Value};
use crate::schema::{Field, Kind as Holds};
use crate::sink::{KINDS, KindOfSink, TYPE};

/// Where a member is read from that holds a secret: this and its name.
const VARIABLE: &str = "WEIR_SINK_";

fn offered() -> impl Iterator<Item = &'static KindOfSink> {
    KINDS.iter().filter(|kind| kind.is_offered)
}

/// Members of sinks that have a flag; one that several kinds have comes for each.
pub(super) fn flagged() -> impl Iterator<Item = (&'static str, &'static Field)> {
    offered().flat_map(|kind| kind.fields).filter_map(|field| Some((field.flag?, field)))
}

/// A sink, from what `--sink` says.
pub(super) fn sink(text: &str) -> Result<Value, &'static str> {
    let one = offered().find_map(|kind| Some((kind, (kind.from_flag)(text)?)));
    let (kind, members) = one.ok_or("expected HOST:PORT, mqtt, or an address with http:// or https://")?;
    let mut object = Object::default();
    object.push(TYPE, Value::from(kind.name));
    members.iter().for_each(|(name, value)| object.push(name, value.clone()));
    Ok(Value::Object(object))
}

/// `sink_configuration`, from everything that was given; `None`: no sink was. `secret` reads a variable.
pub(super) fn configuration(
    given: &[(&'static Field, Value)],
    secret: impl Fn(&str) -> Option<String>,
) -> Result<Option<Value>> {
    let mut sinks: Vec<Object> = Vec::new();
    for (field, value) in given {
        match (field.kind, value) {
            (Holds::Sink, Value::Object(sink)) => sinks.push(sink.clone()),
            _ => {
                let Some(flag) = field.flag.filter(|flag| flagged().any(|(known, _)| known == *flag)) else {
                    continue;
                };
                let sink = sinks.last_mut().filter(|sink| has(sink, field));
                let sink = sink.ok_or_else(|| {
                    usage(format!("--{flag} belongs behind the --sink that it is for: {}", takers(flag)))
                })?;
                if sink.get(field.name).is_some() {
                    return Err(usage(format!("--{flag} is given twice for one sink")));
                }
                sink.push(field.name, value.clone());
            }
        }
    }
    for sink in &mut sinks {
        let secrets = members(sink).filter(|field| matches!(field.kind, Holds::Secret));
        let read = |field: &Field| secret(&format!("{VARIABLE}{}", field.name.to_uppercase()));
        let found: Vec<_> =
            secrets.filter_map(|field| Some((field.name, Value::String(read(field)?)))).collect();
        sink.extend(found);
    }
    Ok(match sinks.len() {
        0 => None,
        1 => sinks.pop().map(Value::Object),
        _ => Some(Value::Array(sinks.into_iter().map(Value::Object).collect())),
    })
}

/// What a sink of that object's kind may have.
fn members(sink: &Object) -> impl Iterator<Item = &'static Field> {
    let name = sink.get(TYPE).and_then(Value::as_str).map(str::to_owned);
    offered().filter(move |kind| Some(kind.name) == name.as_deref()).flat_map(|kind| kind.fields)
}

fn has(sink: &Object, field: &Field) -> bool {
    members(sink).any(|member| member.flag == field.flag)
}

/// The kinds that have a member of that flag.
fn takers(flag: &str) -> String {
    let takes = |kind: &&KindOfSink| kind.fields.iter().any(|field| field.flag == Some(flag));
    offered().filter(takes).map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Request;
    use super::*;
    use crate::json::{Style, Writer};
    use std::ffi::OsString;

    fn asked(words: &[&str]) -> Result<String> {
        let request = Request::parse(words.iter().map(OsString::from).collect()).unwrap();
        let secret = |name: &str| (name == "WEIR_SINK_AUTHORIZATION").then(|| "Bearer x".to_owned());
        let mut text = Writer::new(Style::Compact);
        text.value(&configuration(&request.given, secret)?.unwrap());
        Ok(String::from_utf8(text.finish()).unwrap())
    }

    #[test]
    fn each_sink_has_what_is_said_behind_it() {
        let words = "--sink [::1]:99 --sink mqtt --topic hall/gate --qos 0 --confidence 0.5 --sink mqtt --format compact \
                     --sink https://c.example/in?key=1 --format datagram --sink udp://host:7";
        let words: Vec<&str> = words.split_whitespace().collect();
        let expected = [
            r#"{"type":"udp_sink","host":"::1","port":99}"#,
            r#"{"type":"mqtt_sink","topic":"hall/gate","qos":0}"#,
            r#"{"type":"mqtt_sink","format":"compact"}"#,
            r#"{"type":"http_sink","url":"https://c.example/in?key=1","format":"datagram","authorization":"Bearer x"}"#,
            r#"{"type":"udp_sink","host":"host","port":7}"#,
        ];
        assert_eq!(asked(&words).unwrap(), format!("[{}]", expected.join(",")));
        assert_eq!(asked(&["--sink", "mqtt"]).unwrap(), r#"{"type":"mqtt_sink"}"#);
    }

    #[test]
    fn what_has_no_place_is_refused_with_the_kinds_that_have_one() {
        for (words, told) in [
            ("--qos 1 --sink mqtt", "--qos belongs behind the --sink that it is for: mqtt_sink"),
            ("--sink h:1 --format compact", "mqtt_sink, http_sink"),
            ("--sink http://h/ --topic a", "mqtt_sink"),
            ("--sink mqtt --qos 1 --qos 0", "--qos is given twice"),
        ] {
            let words: Vec<&str> = words.split_whitespace().collect();
            let error = asked(&words).unwrap_err();
            assert!(error.message().contains(told), "{error}");
        }
        for text in ["host", "host:port", "ftp://h/", "mqtt:", "a b:1", "host:70000"] {
            assert!(sink(text).is_err(), "{text}");
        }
    }
}
