//! `init` documents ⇄ [`Init`]. Both listeners come through here (HTTP after its own judgement), and files,
//! and the state directory.
//!
//! Looks at the fields in the reference's order and fails as it does, except where the reference accepts what
//! can never work (`max_fps` of 0, a port of text, an unknown capture property …): those are
//! `invalid_payload` here.

use super::fields::{self, *};
use super::{
    Consumption, Filling, Init, ModelParameters, Property, Secret, SourceReference, SourceRequest, masks,
    properties,
};
use crate::command::MAX_SOURCES;
use crate::error::{Error, Kind, Result};
use crate::json::{self, Object, Value};
use crate::schema::{self, Field, invalid, python, wrong_type};
use crate::sink::Sink;
use std::time::Duration;

/// Capture properties of one source: more than OpenCV knows would be repetition.
const MAX_PROPERTIES: usize = 128;

/// Reads an `init` message that stands in a file: the fields of the TCP listener, `type` being optional.
pub fn from_file(bytes: &[u8]) -> Result<Init> {
    let invalid_document = |fault: json::Fault| {
        let text = format!("no JSON: {} (character {})", fault.reason.as_str(), fault.offset);
        Error::new(Kind::MalformedPayload, text)
    };
    match json::parse(bytes).map_err(invalid_document)? {
        Value::Object(message) => match message.get("type").map(Value::as_str) {
            None | Some(Some(fields::INIT)) => read(&message),
            Some(_) => Err(invalid("its type is not \"init\"")),
        },
        other => Err(wrong_type(python::not_a_dictionary(&other))),
    }
}

/// Reads the fields of an `init` message.
pub fn read(message: &Object) -> Result<Init> {
    read_with(message, Sink::read(SINK_CONFIGURATION.value(message)?)?)
}

/// Reads one source: the fields of [`SOURCE_FIELDS`].
pub fn read_source(message: &Object) -> Result<SourceRequest> {
    let several = || invalid("video_reference must name one source");
    let [reference]: [_; 1] =
        references(VIDEO_REFERENCE.value(message)?)?.try_into().map_err(|_| several())?;
    let properties = properties_of(VIDEO_SOURCE_PROPERTIES.given(message), 1)?.pop().unwrap_or_default();
    let masks = masks::read(PRIVACY_MASKS.given(message), 1)?.pop().unwrap_or_default();
    Ok(SourceRequest { reference, properties, masks })
}

/// Reads what [`write()`] wrote.
pub fn read_kept(document: &Object) -> Result<Init> {
    read_with(document, Sink::read_kept(SINK_CONFIGURATION.value(document)?)?)
}

/// Reads all fields but the sinks.
pub fn read_with(message: &Object, sinks: Vec<Sink>) -> Result<Init> {
    let filling = FILLING.word(message)?.and_then(Filling::from_word);
    let consumption = CONSUMPTION.word(message)?.and_then(Consumption::from_word);
    let parameters = parameters(MODEL_CONFIGURATION.value(message)?)?;
    let model_id = match MODEL_ID.value(message)? {
        Value::String(id) => MODEL_ID.check(id)?.to_owned(),
        other => {
            return Err(wrong_type(format!("argument of type '{}' is not iterable", other.python_type())));
        }
    };
    let references = references(VIDEO_REFERENCE.value(message)?)?;
    let properties = properties_of(VIDEO_SOURCE_PROPERTIES.given(message), references.len())?;
    let masks = masks::read(PRIVACY_MASKS.given(message), references.len())?;
    let sources = references.into_iter().zip(properties).zip(masks);
    Ok(Init {
        model_id,
        sources: sources
            .map(|((reference, properties), masks)| SourceRequest { reference, properties, masks })
            .collect(),
        sinks,
        parameters,
        api_key: API_KEY.secret(message)?.map(Secret::new),
        max_fps: MAX_FPS.number(message)?,
        filling,
        consumption,
        batch_collection_timeout: BATCH_COLLECTION_TIMEOUT.number(message)?.map(Duration::from_secs_f64),
    })
}

/// The document that [`read_kept`] makes the same of. It holds the API key and the passwords of cameras.
pub fn write(init: &Init) -> Object {
    let mut document = Object::default();
    let mut put = |field: Field, value: Option<Value>| {
        if let Some(value) = value {
            document.push(field.name, value);
        }
    };
    let text = |text: &str| Some(Value::from(text));
    put(MODEL_ID, text(&init.model_id));
    put(
        VIDEO_REFERENCE,
        Some(Value::Array(init.sources.iter().map(|source| written(&source.reference)).collect())),
    );
    let mut sinks: Vec<Value> = init.sinks.iter().map(|sink| Value::Object(sink.write())).collect();
    put(SINK_CONFIGURATION, if sinks.len() == 1 { sinks.pop() } else { Some(Value::Array(sinks)) });
    put(API_KEY, init.api_key.as_ref().and_then(|key| text(key.reveal())));
    put(MAX_FPS, init.max_fps.map(Value::Float));
    put(FILLING, init.filling.and_then(|filling| text(filling.as_str())));
    put(CONSUMPTION, init.consumption.and_then(|consumption| text(consumption.as_str())));
    put(MODEL_CONFIGURATION, Some(Value::Object(written_parameters(&init.parameters))));
    if init.sources.iter().any(|source| !source.properties.is_empty()) {
        let of_source = |source: &SourceRequest| {
            let mut given = Object::default();
            source
                .properties
                .iter()
                .for_each(|property| given.push(&*property.name, Value::Float(property.value)));
            Value::Object(given)
        };
        put(VIDEO_SOURCE_PROPERTIES, Some(Value::Array(init.sources.iter().map(of_source).collect())));
    }
    if init.sources.iter().any(|source| !source.masks.is_empty()) {
        put(
            PRIVACY_MASKS,
            Some(Value::Array(init.sources.iter().map(|source| masks::write(&source.masks)).collect())),
        );
    }
    put(
        BATCH_COLLECTION_TIMEOUT,
        init.batch_collection_timeout.map(|timeout| Value::Float(timeout.as_secs_f64())),
    );
    document
}

fn written(reference: &SourceReference) -> Value {
    match reference {
        SourceReference::Device(index) => Value::Integer(i128::from(*index)),
        SourceReference::Text(text) => Value::from(text.as_str()),
    }
}

fn written_parameters(parameters: &ModelParameters) -> Object {
    let mut model = Object::default();
    let ModelParameters { class_agnostic_nms, confidence, iou_threshold, max_candidates, max_detections } =
        *parameters;
    let number = |number: Option<f32>| number.map(|number| Value::Float(f64::from(number)));
    let count = |count: Option<u32>| count.map(|count| Value::Integer(i128::from(count)));
    for (field, value) in [
        (TYPE, Some(Value::from(ModelParameters::TASK))),
        (CLASS_AGNOSTIC_NMS, class_agnostic_nms.map(Value::Bool)),
        (CONFIDENCE, number(confidence)),
        (IOU_THRESHOLD, number(iou_threshold)),
        (MAX_CANDIDATES, count(max_candidates)),
        (MAX_DETECTIONS, count(max_detections)),
    ] {
        if let Some(value) = value {
            model.push(field.name, value);
        }
    }
    model
}

fn parameters(value: &Value) -> Result<ModelParameters> {
    let model = schema::object(value)?;
    if TYPE.value(model)?.as_str() != Some(ModelParameters::TASK) {
        return Err(Error::new(Kind::Unsupported, "Only object-detection models are supported"));
    }
    // Any threshold: the reference checks no range, and 2 or -1 has a clear meaning (none, all).
    let threshold = |field: Field| field.number(model).map(|number| number.map(|number| number as f32));
    let count = |field: Field| {
        field.integer(model).map(|count| count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
    };
    Ok(ModelParameters {
        class_agnostic_nms: CLASS_AGNOSTIC_NMS.boolean(model)?,
        confidence: threshold(CONFIDENCE)?,
        iou_threshold: threshold(IOU_THRESHOLD)?,
        max_candidates: count(MAX_CANDIDATES)?,
        max_detections: count(MAX_DETECTIONS)?,
    })
}

fn references(value: &Value) -> Result<Vec<SourceReference>> {
    match value {
        Value::Array(values) if values.is_empty() => {
            Err(Error::new(Kind::NoSources, "video_reference names no source"))
        }
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
        (Value::String(text), _) => Ok(SourceReference::Text(VIDEO_REFERENCE.check(text)?.to_owned())),
        (_, Some(index)) => Ok(SourceReference::Device(index)),
        _ => Err(VIDEO_REFERENCE.refuse(value)),
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
                let text =
                    format!("video_source_properties has {} entries for {sources} sources", other.len());
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
        other => return Err(VIDEO_SOURCE_PROPERTIES.refuse(other)),
    };
    if given.iter().count() > MAX_PROPERTIES {
        return Err(Error::new(
            Kind::TooLarge,
            format!("video_source_properties has more than {MAX_PROPERTIES} entries"),
        ));
    }
    let property = |(name, value): (&str, &Value)| {
        let shown = python::repr(&Value::from(name));
        let name = properties::canonical(name)
            .ok_or_else(|| invalid(format!("{shown} is not a known video source property")))?;
        let packed = properties::fourcc(name, value).map(|letters| f64::from(u32::from_le_bytes(letters)));
        let wanted = if name == "fourcc" { "a number or four letters" } else { "a number" };
        let wrong = || invalid(format!("{shown} must be {wanted}, not {}", python::repr(value)));
        let value = value.as_f64().or(packed).ok_or_else(wrong)?;
        Ok(Property { name: name.to_owned(), value })
    };
    given.iter().map(property).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::error::ErrorType::{self, Internal, InvalidPayload};
    use crate::geometry::Polygon;
    use crate::json::parse_str;
    use crate::sink::{MemorySink, UdpSink};

    const GOOD: &str = r#"{"type": "init", "model_id": "some/1", "video_reference": "rtsp://192.168.0.1:554",
        "sink_configuration": {"type": "udp_sink", "host": "192.168.0.3", "port": 9999}, "api_key": "KEY", "max_fps": 16,
        "model_configuration": {"type": "object-detection", "class_agnostic_nms": true, "confidence": 0.5,
            "iou_threshold": 0.4, "max_candidates": 300, "max_detections": 3000},
        "video_source_properties": {"frame_width": 1920, "FPS": 30}}"#;

    /// [`GOOD`] with one field replaced, or removed when `value` is empty. `field` may be `outer.inner`.
    fn with(field: &str, value: &str) -> Result<Init> {
        let Value::Object(good) = parse_str(GOOD).unwrap() else { panic!("not an object") };
        let (outer, inner) =
            field.split_once('.').map_or((field, None), |(outer, inner)| (outer, Some(inner)));
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
        assert_eq!(init.sinks, [Sink::Udp(UdpSink { host: "192.168.0.3".into(), port: 9999 })]);
        assert_eq!(init.parameters.confidence, Some(0.5));
        assert_eq!(init.parameters.max_detections, Some(3000));
        assert_eq!(init.max_fps, Some(16.0));
        let properties: Vec<_> =
            init.sources[0].properties.iter().map(|p| (p.name.as_str(), p.value)).collect();
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
            ("sink_configuration.host", "\"a b\"", InvalidPayload, "ValueError", "'a b' is not a host name or address"),
            ("sink_configuration.host", "\"\"", InvalidPayload, "ValueError", "'' is not a host name or address"),
            ("sink_configuration.host", "\"1.2.3.400\"", InvalidPayload, "ValueError", "'1.2.3.400' is not a host name or address"),
            ("sink_configuration.host", "\"::g\"", InvalidPayload, "ValueError", "'::g' is not a host name or address"),
            ("sink_configuration", "[]", InvalidPayload, "ValueError", "sink_configuration names no sink"),
            ("sink_configuration", "[[]]", Internal, "TypeError", "list indices must be integers or slices, not str"),
            ("sink_configuration", "[{\"type\": \"x\"}]", InvalidPayload, "NotImplementedError", "Only `udp_socket` sink type is supported"),
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
            ("video_source_properties", "{\"fourcc\": \"JPG\"}", InvalidPayload, "ValueError", "'fourcc' must be a number or four letters, not 'JPG'"),
            ("video_source_properties", "{\"fourcc\": \"zéa\"}", InvalidPayload, "ValueError", "'fourcc' must be a number or four letters, not 'zéa'"),
            ("video_source_properties", "[{}, {}]", InvalidPayload, "ValueError", "video_source_properties has 2 entries for 1 sources"),
            ("video_source_properties", "[]", InvalidPayload, "ValueError", "video_source_properties has 0 entries for 1 sources"),
            ("video_source_properties", "5", InvalidPayload, "ValueError", "video_source_properties must be an object, not 5"),
            ("privacy_masks", "5", InvalidPayload, "ValueError", "privacy_masks must be a list of polygons, not 5"),
            ("privacy_masks", "[[[0,0],[1,0]]]", InvalidPayload, "ValueError", "privacy_masks: a polygon has 3 to 32 corners, not 2"),
            ("privacy_masks", "[[[0,0],[1,0],[1,1.5]]]", InvalidPayload, "ValueError", "privacy_masks: a corner is [x, y], each from 0 to 1, not [1, 1.5]"),
            ("privacy_masks", "[[[0,0],[1,0],[1,\"1\"]]]", InvalidPayload, "ValueError", "privacy_masks: a corner is [x, y], each from 0 to 1, not [1, '1']"),
            ("privacy_masks", "[[[0,0],[1,0],[1]]]", InvalidPayload, "ValueError", "privacy_masks: a corner is [x, y], each from 0 to 1, not [1]"),
            ("privacy_masks", "[[], []]", InvalidPayload, "ValueError", "privacy_masks has 2 entries for 1 sources"),
            ("batch_collection_timeout", "-1", InvalidPayload, "ValueError", "batch_collection_timeout must be 0 to 86400 seconds, not -1"),
            ("api_key", "5", InvalidPayload, "ValueError", "api_key must be a string"),
        ];
        for &(field, value, error_type, class, message) in table {
            let error = with(field, value).expect_err(field);
            assert_eq!(
                (error.kind().wire(), error.message()),
                ((error_type, Some(class)), message),
                "{field} = {value}"
            );
        }
    }

    #[test]
    fn several_sources_share_or_have_their_own_properties() {
        let init = with("video_reference", r#"["a", 0, "c"]"#).unwrap();
        assert_eq!(init.sources.len(), 3);
        assert_eq!(init.sources[1].reference, SourceReference::Device(0));
        assert_eq!(init.sources[2].properties.len(), 2);
        let Value::Object(mut two) =
            parse_str(&GOOD.replace("\"rtsp://192.168.0.1:554\"", "[1, 2]")).unwrap()
        else {
            panic!()
        };
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
            ("sink_configuration.host", "\"::1\""),
            ("sink_configuration.host", "\"[fd12::1]\""),
            ("batch_collection_timeout", "0.1"),
            ("active_learning_enabled", "\"perhaps\""),
        ] {
            let result = with(field, value);
            assert!(result.is_ok(), "{field} = {value}: {result:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let whole = read(parse_str(GOOD).unwrap().as_object().unwrap()).unwrap();
        let least =
            Init::new("a/1".into(), SourceReference::Device(3), UdpSink { host: "h".into(), port: 1 });
        let outputs = ["a".to_owned(), "b".to_owned()].into();
        let memory =
            Sink::Memory(MemorySink { turns: 7, outputs, timeout: Some(Duration::from_millis(2500)) });
        let mut several = with("video_reference", r#"["a", 0]"#).unwrap();
        several.sources[1].properties.clear();
        let (filling, consumption) = (Some(Filling::DropLatest), Some(Consumption::Eager));
        let batch_collection_timeout = Some(Duration::from_millis(250));
        several.sources[1].masks = vec![Polygon(vec![[0.1, 0.2], [0.3, 1.0], [0.0, 0.7]])];
        let all = Init {
            sinks: vec![memory, least.sinks[0].clone()],
            filling,
            consumption,
            batch_collection_timeout,
            ..several
        };
        for init in [whole, least, all] {
            let written = write(&init);
            assert_eq!(read_kept(&written).unwrap(), init);
            // Also through its text.
            let mut text = json::Writer::new(json::Style::Compact);
            text.value(&Value::Object(written));
            assert_eq!(read_kept(json::parse(&text.finish()).unwrap().as_object().unwrap()).unwrap(), init);
        }
        let list =
            r#"[{"type": "udp_sink", "host": "a", "port": 1}, {"type": "udp_sink", "host": "b", "port": 2}]"#;
        let two = with("sink_configuration", list).unwrap();
        assert_eq!(two.sinks[1], Sink::Udp(UdpSink { host: "b".into(), port: 2 }));
        assert_eq!(read_kept(&write(&two)).unwrap(), two);
        let hidden = parse_str(r#"{"type": "memory_sink", "outputs": []}"#).unwrap();
        assert_eq!(
            Sink::read(&hidden).unwrap_err().kind(),
            Kind::Unsupported,
            "clients name no sink in memory"
        );
    }
}
