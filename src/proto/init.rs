//! A decoded `init` message → [`Init`]. Both doors come through here: HTTP after its own validation.
//!
//! Looks at the fields in the reference's order and fails as it does, except where the reference accepts what can never
//! work (`max_fps` of 0, a port of text, an unknown capture property …): those are `invalid_payload` here.

use std::time::Duration;

use super::{properties, python};
use crate::command::{
    Consumption, Filling, Init, MAX_SOURCES, ModelParameters, Property, Secret, Sink, SinkAddress, Source, SourceReference,
};
use crate::error::{Error, Kind, Result};
use crate::json::{self, Object, Value};

/// Bytes of one text field. Paths end at 4 096 (PATH_MAX), URLs that cameras take well before 8 KiB.
const MAX_TEXT_BYTES: usize = 8 << 10;

/// Capture properties of one source: more than OpenCV knows would be repetition.
const MAX_PROPERTIES: usize = 128;

/// Longest host name in bytes (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

/// Longest `batch_collection_timeout` in seconds; whoever means "for ever" leaves it out.
const MAX_BATCH_TIMEOUT_S: f64 = 86_400.0;

/// Reads an `init` message that stands in a file: the fields of the TCP door, `type` being optional.
pub fn from_file(bytes: &[u8]) -> Result<Init> {
    let invalid_document = |fault: json::Fault| {
        let text = format!("no JSON: {} (character {})", fault.reason.as_str(), fault.offset);
        Error::new(Kind::MalformedPayload, text)
    };
    match json::parse(bytes).map_err(invalid_document)? {
        Value::Object(message) => match message.get("type").map(Value::as_str) {
            None | Some(Some("init")) => read(&message),
            Some(_) => Err(invalid("its type is not \"init\"")),
        },
        other => Err(wrong_type(python::not_a_dictionary(&other))),
    }
}

/// Reads the fields of an `init` message.
pub(super) fn read(message: &Object) -> Result<Init> {
    let sink = sink(required(message, "sink_configuration")?)?;
    read_with(message, Sink::Udp(sink))
}

/// The same, but for the sink.
pub(super) fn read_with(message: &Object, sink: Sink) -> Result<Init> {
    let filling = strategy(message, "source_buffer_filling_strategy", "BufferFillingStrategy", &Filling::ALL, Filling::as_str)?;
    let consumption = strategy(
        message,
        "source_buffer_consumption_strategy",
        "BufferConsumptionStrategy",
        &Consumption::ALL,
        Consumption::as_str,
    )?;
    let parameters = parameters(required(message, "model_configuration")?)?;
    let model_id = match required(message, "model_id")? {
        Value::String(id) => checked(id, "model_id")?.to_owned(),
        other => return Err(wrong_type(format!("argument of type '{}' is not iterable", other.python_type()))),
    };
    let references = references(required(message, "video_reference")?)?;
    let properties = properties_of(present(message, "video_source_properties"), references.len())?;
    let sources = references.into_iter().zip(properties);
    Ok(Init {
        model_id,
        sources: sources.map(|(reference, properties)| Source { reference, properties }).collect(),
        sink,
        parameters,
        api_key: match present(message, "api_key") {
            None => None,
            Some(Value::String(key)) => Some(Secret::new(checked(key, "api_key")?)),
            Some(_) => return Err(invalid("api_key must be a string")),
        },
        max_fps: match present(message, "max_fps") {
            None => None,
            Some(value) => match value.as_f64() {
                Some(fps) if fps > 0.0 => Some(fps),
                _ => return Err(invalid(format!("max_fps must be a number above 0, not {}", python::repr(value)))),
            },
        },
        filling,
        consumption,
        batch_collection_timeout: match present(message, "batch_collection_timeout") {
            None => None,
            Some(value) => match value.as_f64() {
                Some(seconds) if (0.0..=MAX_BATCH_TIMEOUT_S).contains(&seconds) => Some(Duration::from_secs_f64(seconds)),
                _ => {
                    let text = format!(
                        "batch_collection_timeout must be 0 to {MAX_BATCH_TIMEOUT_S} seconds, not {}",
                        python::repr(value)
                    );
                    return Err(invalid(text));
                }
            },
        },
    })
}

/// A key that must be there, whatever its value.
pub(super) fn required<'a>(object: &'a Object, key: &str) -> Result<&'a Value> {
    object.get(key).ok_or_else(|| Error::new(Kind::MissingKey, format!("'{key}'")))
}

/// A value that is there and not `null`.
fn present<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| **value != Value::Null)
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidValue, text.into())
}

fn wrong_type(text: String) -> Error {
    Error::new(Kind::WrongType, text)
}

/// A text short enough and free of NUL, which no path and no URL can hold.
fn checked<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::new(Kind::TooLarge, format!("{field} is longer than {MAX_TEXT_BYTES} bytes")));
    }
    if text.contains('\0') {
        return Err(invalid(format!("{field} holds a NUL character")));
    }
    Ok(text)
}

fn object(value: &Value) -> Result<&Object> {
    value.as_object().ok_or_else(|| wrong_type(python::not_a_dictionary(value)))
}

fn sink(value: &Value) -> Result<SinkAddress> {
    let sink = object(value)?;
    if required(sink, "type")?.as_str() != Some("udp_sink") {
        return Err(Error::new(Kind::Unsupported, "Only `udp_socket` sink type is supported"));
    }
    let host = required(sink, "host")?;
    let port = required(sink, "port")?;
    let Value::String(host) = host else {
        return Err(invalid(format!("sink host must be a string, not {}", python::repr(host))));
    };
    if !is_host(host) {
        return Err(invalid(format!("{} is not a host name or IPv4 address", python::repr(&Value::from(host.as_str())))));
    }
    let number = if let Value::Integer(number) = port { u16::try_from(*number).ok() } else { None };
    match number {
        None | Some(0) => Err(invalid(format!("sink port must be an integer from 1 to 65535, not {}", python::repr(port)))),
        Some(port) => Ok(SinkAddress { host: host.clone(), port }),
    }
}

/// A name the resolver could know, or an IPv4 address. Underscores are no host names by the book, but names in
/// container networks have them.
fn is_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let good_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let all_digits = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let good_address = !all_digits || name.parse::<std::net::Ipv4Addr>().is_ok();
    host.len() <= MAX_HOST_BYTES && good_address && name.split('.').all(good_label)
}

fn strategy<T: Copy>(message: &Object, key: &str, class: &str, all: &[T], word: fn(T) -> &'static str) -> Result<Option<T>> {
    let Some(value) = message.get(key) else { return Ok(None) };
    let Value::String(given) = value else {
        let text = format!("'{}' object has no attribute 'upper'", value.python_type());
        return Err(Error::new(Kind::StrategyNotText, text));
    };
    match all.iter().find(|&&one| word(one).eq_ignore_ascii_case(given)) {
        Some(&one) => Ok(Some(one)),
        None => {
            let upper = python::repr(&Value::String(given.to_uppercase()));
            Err(Error::new(Kind::UnknownStrategy, format!("{upper} is not a valid {class}")))
        }
    }
}

fn parameters(value: &Value) -> Result<ModelParameters> {
    let model = object(value)?;
    if required(model, "type")?.as_str() != Some("object-detection") {
        return Err(Error::new(Kind::Unsupported, "Only object-detection models are supported"));
    }
    Ok(ModelParameters {
        class_agnostic_nms: match present(model, "class_agnostic_nms") {
            None => None,
            Some(Value::Bool(value)) => Some(*value),
            Some(other) => return Err(invalid(format!("class_agnostic_nms must be a boolean, not {}", python::repr(other)))),
        },
        confidence: threshold(model, "confidence")?,
        iou_threshold: threshold(model, "iou_threshold")?,
        max_candidates: count(model, "max_candidates")?,
        max_detections: count(model, "max_detections")?,
    })
}

/// Any number: the reference checks no range, and a threshold of 2 or -1 has a clear meaning (none, all).
fn threshold(model: &Object, key: &str) -> Result<Option<f32>> {
    let Some(value) = present(model, key) else { return Ok(None) };
    match value.as_f64() {
        Some(number) => Ok(Some(number as f32)),
        None => Err(invalid(format!("{key} must be a number, not {}", python::repr(value)))),
    }
}

fn count(model: &Object, key: &str) -> Result<Option<u32>> {
    match present(model, key) {
        None => Ok(None),
        Some(Value::Integer(number)) if *number >= 0 => Ok(Some(u32::try_from(*number).unwrap_or(u32::MAX))),
        Some(other) => Err(invalid(format!("{key} must be an integer of 0 or more, not {}", python::repr(other)))),
    }
}

fn references(value: &Value) -> Result<Vec<SourceReference>> {
    match value {
        Value::Array(values) if values.is_empty() => Err(Error::new(Kind::NoSources, "video_reference names no source")),
        Value::Array(values) if values.len() > MAX_SOURCES => {
            Err(Error::new(Kind::TooLarge, format!("video_reference names more than {MAX_SOURCES} sources")))
        }
        Value::Array(values) => values.iter().map(reference).collect(),
        one => Ok(vec![reference(one)?]),
    }
}

fn reference(value: &Value) -> Result<SourceReference> {
    let device = if let Value::Integer(index) = value { u32::try_from(*index).ok() } else { None };
    match (value, device) {
        (Value::String(text), _) => Ok(SourceReference::Text(checked(text, "video_reference")?.to_owned())),
        (_, Some(index)) => Ok(SourceReference::Device(index)),
        _ => Err(invalid(format!("video_reference must be a string or a device index, not {}", python::repr(value)))),
    }
}

/// One list of properties per source, from one object for all or a list with one entry for all or for each.
fn properties_of(value: Option<&Value>, sources: usize) -> Result<Vec<Vec<Property>>> {
    match value {
        None => Ok(vec![Vec::new(); sources]),
        Some(Value::Array(values)) => match values.as_slice() {
            [one] => Ok(vec![property_list(one)?; sources]),
            each if each.len() == sources => each.iter().map(property_list).collect(),
            other => {
                let text = format!("video_source_properties has {} entries for {sources} sources", other.len());
                Err(invalid(text))
            }
        },
        Some(one) => Ok(vec![property_list(one)?; sources]),
    }
}

fn property_list(value: &Value) -> Result<Vec<Property>> {
    let given = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(given) => given,
        other => return Err(invalid(format!("video_source_properties must be an object, not {}", python::repr(other)))),
    };
    if given.iter().count() > MAX_PROPERTIES {
        return Err(Error::new(Kind::TooLarge, format!("video_source_properties has more than {MAX_PROPERTIES} entries")));
    }
    let property = |(name, value): (&str, &Value)| {
        let shown = python::repr(&Value::from(name));
        let name = properties::canonical(name).ok_or_else(|| invalid(format!("{shown} is not a known video source property")))?;
        let value = value.as_f64().ok_or_else(|| invalid(format!("{shown} must be a number, not {}", python::repr(value))))?;
        Ok(Property { name: name.to_owned(), value })
    };
    given.iter().map(property).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::error::ErrorType::{self, Internal, InvalidPayload};
    use crate::json::parse_str;

    const GOOD: &str = r#"{"type": "init", "model_id": "some/1", "video_reference": "rtsp://192.168.0.1:554",
        "sink_configuration": {"type": "udp_sink", "host": "192.168.0.3", "port": 9999}, "api_key": "KEY", "max_fps": 16,
        "model_configuration": {"type": "object-detection", "class_agnostic_nms": true, "confidence": 0.5,
            "iou_threshold": 0.4, "max_candidates": 300, "max_detections": 3000},
        "video_source_properties": {"frame_width": 1920, "FPS": 30}}"#;

    /// [`GOOD`] with one field replaced, or removed when `value` is empty. `field` may be `outer.inner`.
    fn with(field: &str, value: &str) -> Result<Init> {
        let Value::Object(good) = parse_str(GOOD).unwrap() else { panic!("not an object") };
        let (outer, inner) = field.split_once('.').map_or((field, None), |(outer, inner)| (outer, Some(inner)));
        let replace = |object: &Object, key: &str, value: Option<Value>| {
            let mut changed = Object::default();
            for (name, old) in object.iter().filter(|(name, _)| *name != key) {
                changed.push(name, old.clone());
            }
            if let Some(value) = value {
                changed.push(key, value);
            }
            changed
        };
        let value = (!value.is_empty()).then(|| parse_str(value).unwrap());
        let changed = match inner {
            None => replace(&good, outer, value),
            Some(inner) => {
                let object = replace(good.get(outer).unwrap().as_object().unwrap(), inner, value);
                replace(&good, outer, Some(Value::Object(object)))
            }
        };
        read(&changed)
    }

    #[test]
    fn the_documented_example_is_read() {
        let init = with("unknown", "[]").unwrap();
        assert_eq!(init.model_id, "some/1");
        assert_eq!(init.sink, Sink::Udp(SinkAddress { host: "192.168.0.3".into(), port: 9999 }));
        assert_eq!(init.parameters.confidence, Some(0.5));
        assert_eq!(init.parameters.max_detections, Some(3000));
        assert_eq!(init.max_fps, Some(16.0));
        let properties: Vec<_> = init.sources[0].properties.iter().map(|p| (p.name.as_str(), p.value)).collect();
        assert_eq!(properties, [("frame_width", 1920.0), ("fps", 30.0)]);
        assert!(!format!("{init:?}").contains("KEY"));
    }

    #[test]
    fn failures_carry_the_type_and_class_of_the_reference() {
        #[rustfmt::skip]
        let table: &[(&str, &str, ErrorType, &str, &str)] = &[
            ("sink_configuration", "", InvalidPayload, "KeyError", "'sink_configuration'"),
            ("sink_configuration", "null", Internal, "TypeError", "'NoneType' object is not subscriptable"),
            ("sink_configuration", "\"x\"", Internal, "TypeError", "string indices must be integers, not 'str'"),
            ("sink_configuration.type", "", InvalidPayload, "KeyError", "'type'"),
            ("sink_configuration.type", "\"mqtt\"", InvalidPayload, "NotImplementedError", "Only `udp_socket` sink type is supported"),
            ("sink_configuration.host", "", InvalidPayload, "KeyError", "'host'"),
            ("sink_configuration.port", "", InvalidPayload, "KeyError", "'port'"),
            ("sink_configuration.port", "\"9999\"", InvalidPayload, "ValueError", "sink port must be an integer from 1 to 65535, not '9999'"),
            ("sink_configuration.port", "0", InvalidPayload, "ValueError", "sink port must be an integer from 1 to 65535, not 0"),
            ("sink_configuration.port", "65536", InvalidPayload, "ValueError", "sink port must be an integer from 1 to 65535, not 65536"),
            ("sink_configuration.port", "true", InvalidPayload, "ValueError", "sink port must be an integer from 1 to 65535, not True"),
            ("sink_configuration.host", "\"a b\"", InvalidPayload, "ValueError", "'a b' is not a host name or IPv4 address"),
            ("sink_configuration.host", "\"\"", InvalidPayload, "ValueError", "'' is not a host name or IPv4 address"),
            ("sink_configuration.host", "\"1.2.3.400\"", InvalidPayload, "ValueError", "'1.2.3.400' is not a host name or IPv4 address"),
            ("sink_configuration.host", "\"::1\"", InvalidPayload, "ValueError", "'::1' is not a host name or IPv4 address"),
            ("model_configuration", "", InvalidPayload, "KeyError", "'model_configuration'"),
            ("model_configuration", "null", Internal, "TypeError", "'NoneType' object is not subscriptable"),
            ("model_configuration.type", "", InvalidPayload, "KeyError", "'type'"),
            ("model_configuration.type", "\"segmentation\"", InvalidPayload, "NotImplementedError", "Only object-detection models are supported"),
            ("model_configuration.confidence", "\"0.5\"", InvalidPayload, "ValueError", "confidence must be a number, not '0.5'"),
            ("model_configuration.max_detections", "-1", InvalidPayload, "ValueError", "max_detections must be an integer of 0 or more, not -1"),
            ("source_buffer_filling_strategy", "\"bogus\"", Internal, "ValueError", "'BOGUS' is not a valid BufferFillingStrategy"),
            ("source_buffer_consumption_strategy", "\"bogus\"", Internal, "ValueError", "'BOGUS' is not a valid BufferConsumptionStrategy"),
            ("source_buffer_filling_strategy", "null", Internal, "AttributeError", "'NoneType' object has no attribute 'upper'"),
            ("source_buffer_consumption_strategy", "3", Internal, "AttributeError", "'int' object has no attribute 'upper'"),
            ("model_id", "", InvalidPayload, "KeyError", "'model_id'"),
            ("model_id", "5", Internal, "TypeError", "argument of type 'int' is not iterable"),
            ("video_reference", "", InvalidPayload, "KeyError", "'video_reference'"),
            ("video_reference", "[]", Internal, "ValueError", "video_reference names no source"),
            ("video_reference", "1.5", InvalidPayload, "ValueError", "video_reference must be a string or a device index, not 1.5"),
            ("video_reference", "-1", InvalidPayload, "ValueError", "video_reference must be a string or a device index, not -1"),
            ("video_reference", "[\"a\", null]", InvalidPayload, "ValueError", "video_reference must be a string or a device index, not None"),
            ("video_reference", "\"a\\u0000b\"", InvalidPayload, "ValueError", "video_reference holds a NUL character"),
            ("max_fps", "0", InvalidPayload, "ValueError", "max_fps must be a number above 0, not 0"),
            ("max_fps", "-1.5", InvalidPayload, "ValueError", "max_fps must be a number above 0, not -1.5"),
            ("max_fps", "\"12\"", InvalidPayload, "ValueError", "max_fps must be a number above 0, not '12'"),
            ("video_source_properties", "{\"frame_widht\": 1}", InvalidPayload, "ValueError", "'frame_widht' is not a known video source property"),
            ("video_source_properties", "{\"fps\": \"30\"}", InvalidPayload, "ValueError", "'fps' must be a number, not '30'"),
            ("video_source_properties", "[{}, {}]", InvalidPayload, "ValueError", "video_source_properties has 2 entries for 1 sources"),
            ("video_source_properties", "[]", InvalidPayload, "ValueError", "video_source_properties has 0 entries for 1 sources"),
            ("video_source_properties", "5", InvalidPayload, "ValueError", "video_source_properties must be an object, not 5"),
            ("batch_collection_timeout", "-1", InvalidPayload, "ValueError", "batch_collection_timeout must be 0 to 86400 seconds, not -1"),
            ("api_key", "5", InvalidPayload, "ValueError", "api_key must be a string"),
        ];
        for &(field, value, error_type, class, message) in table {
            let error = with(field, value).expect_err(field);
            assert_eq!((error.kind().wire(), error.message()), ((error_type, Some(class)), message), "{field} = {value}");
        }
    }

    #[test]
    fn several_sources_share_or_have_their_own_properties() {
        let init = with("video_reference", r#"["a", 0, "c"]"#).unwrap();
        assert_eq!(init.sources.len(), 3);
        assert_eq!(init.sources[1].reference, SourceReference::Device(0));
        assert_eq!(init.sources[2].properties.len(), 2);
        let Value::Object(mut two) = parse_str(&GOOD.replace("\"rtsp://192.168.0.1:554\"", "[1, 2]")).unwrap() else { panic!() };
        assert!(read(&two).is_ok());
        two = parse_str(
            &GOOD
                .replace("\"rtsp://192.168.0.1:554\"", "[1, 2]")
                .replace("{\"frame_width\": 1920, \"FPS\": 30}", "[null, {\"fps\": 5}]"),
        )
        .unwrap()
        .as_object()
        .unwrap()
        .clone();
        let init = read(&two).unwrap();
        assert_eq!((init.sources[0].properties.len(), init.sources[1].properties.len()), (0, 1));
    }

    #[test]
    fn what_the_reference_takes_is_taken() {
        for (field, value) in [
            ("model_configuration.confidence", "2"),
            ("model_configuration.confidence", "-1"),
            ("model_configuration.iou_threshold", "null"),
            ("source_buffer_filling_strategy", "\"Adaptive_drop_OLDEST\""),
            ("api_key", "null"),
            ("api_key", ""),
            ("max_fps", "null"),
            ("max_fps", "0.5"),
            ("video_reference", "0"),
            ("video_source_properties", "null"),
            ("sink_configuration.host", "\"camera_hub.local.\""),
            ("batch_collection_timeout", "0.1"),
            ("active_learning_enabled", "\"perhaps\""),
        ] {
            let result = with(field, value);
            assert!(result.is_ok(), "{field} = {value}: {result:?}");
        }
    }
}
