//! Checks the body of `/initialise` as the reference's framework does (pydantic in its lax mode) and turns it into the
//! message the TCP door would have received.
//!
//! All faults are listed, in the order of the fields; a field that may be of several types lists one fault for each.

mod convert;
mod fault;

use convert::{Refusal, boolean, integer, number, text};
pub(super) use fault::reply;
use fault::{Fault, Input, Loc};

use crate::json::{Object, Value};

/// Faults listed in one reply; who makes more has read the first hundred before.
const MAX_FAULTS: usize = 100;

/// How the framework calls the types of `video_reference`'s and `video_source_properties`' lists.
const REFERENCE_LIST: &str = "list[union[str,int]]";
const PROPERTIES_DICT: &str = "dict[str,float]";
const PROPERTIES_LIST: &str = "list[nullable[dict[str,float]]]";

/// The message to carry out, or why not. `None` is a request without a body.
pub(super) fn initialise(document: Option<&Value>) -> Result<Object, Vec<Fault<'_>>> {
    const NO_BODY: &Value = &Value::Null;
    let mut check = Check { faults: Vec::new(), loc: vec![Loc::Key("body")] };
    let mut message = Object::default();
    match document {
        None => check.refuse(NO_BODY, convert::MISSING),
        Some(Value::Object(fields)) => check.fields(fields, &mut message),
        Some(other) => check.refuse(other, convert::MODEL),
    }
    if check.faults.is_empty() { Ok(message) } else { Err(check.faults) }
}

struct Check<'a> {
    faults: Vec<Fault<'a>>,
    /// Where in the body the field under test is.
    loc: Vec<Loc<'a>>,
}

impl<'a> Check<'a> {
    fn refuse(&mut self, input: &'a Value, refusal: Refusal) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { refusal, loc: self.loc.clone(), input: Input::Value(input) });
        }
    }

    /// Runs `test` one step further down.
    fn at<T>(&mut self, step: Loc<'a>, test: impl FnOnce(&mut Self) -> T) -> T {
        self.loc.push(step);
        let result = test(self);
        self.loc.pop();
        result
    }

    fn fields(&mut self, body: &'a Object, message: &mut Object) {
        self.required(body, "model_id", message, text);
        self.at(Loc::Key("video_reference"), |check| check.reference(body, message));
        self.at(Loc::Key("sink_configuration"), |check| check.sink(body, message));
        self.optional(body, "api_key", message, text);
        self.at(Loc::Key("max_fps"), |check| check.max_fps(body, message));
        self.optional(body, "source_buffer_filling_strategy", message, text);
        self.optional(body, "source_buffer_consumption_strategy", message, text);
        self.at(Loc::Key("model_configuration"), |check| check.model(body, message));
        // Checked and not used: there is no active learning here.
        self.optional(body, "active_learning_enabled", &mut Object::default(), boolean);
        self.at(Loc::Key("video_source_properties"), |check| check.properties(body, message));
        self.optional(body, "active_learning_target_dataset", &mut Object::default(), text);
        self.optional(body, "batch_collection_timeout", message, number);
    }

    /// The value of a field that must be there; refused with the whole object as input when it is not.
    fn present(&mut self, object: &'a Object, key: &str) -> Option<&'a Value> {
        let value = object.get(key);
        if value.is_none() {
            self.missing(object);
        }
        value
    }

    fn missing(&mut self, object: &'a Object) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault::missing(self.loc.clone(), object));
        }
    }

    fn required(&mut self, object: &'a Object, key: &'static str, message: &mut Object, convert: Convert) {
        self.at(Loc::Key(key), |check| {
            if let Some(value) = check.present(object, key) {
                check.take(key, value, message, convert);
            }
        });
    }

    /// `null` is as good as absent.
    fn optional(&mut self, object: &'a Object, key: &'static str, message: &mut Object, convert: Convert) {
        if let Some(value) = object.get(key).filter(|value| **value != Value::Null) {
            self.at(Loc::Key(key), |check| check.take(key, value, message, convert));
        }
    }

    fn take(&mut self, key: &'static str, value: &'a Value, message: &mut Object, convert: Convert) {
        match convert(value) {
            Ok(value) => message.push(key, value),
            Err(refusal) => self.refuse(value, refusal),
        }
    }

    fn reference(&mut self, body: &'a Object, message: &mut Object) {
        let Some(value) = self.present(body, "video_reference") else { return };
        if let Some(one) = one_reference(value) {
            message.push("video_reference", one);
            return;
        }
        // Nothing but a list can still pass; what each type says is told only if that fails too.
        let before = self.faults.len();
        self.reference_faults(value);
        let list_starts = self.faults.len();
        let list = self.at(Loc::Key(REFERENCE_LIST), |check| check.reference_list(value));
        if self.faults.len() == list_starts
            && let Some(list) = list
        {
            self.faults.truncate(before);
            message.push("video_reference", Value::Array(list));
        }
    }

    fn reference_faults(&mut self, value: &'a Value) {
        for (branch, convert) in [("str", text as Convert), ("int", integer)] {
            if let Err(refusal) = convert(value) {
                self.at(Loc::Key(branch), |check| check.refuse(value, refusal));
            }
        }
    }

    fn reference_list(&mut self, value: &'a Value) -> Option<Vec<Value>> {
        let Value::Array(values) = value else {
            self.refuse(value, convert::LIST);
            return None;
        };
        let mut list = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match one_reference(value) {
                Some(one) => list.push(one),
                None => self.at(Loc::Index(index), |check| check.reference_faults(value)),
            }
        }
        Some(list)
    }

    fn sink(&mut self, body: &'a Object, message: &mut Object) {
        let Some(value) = self.present(body, "sink_configuration") else { return };
        let Value::Object(given) = value else {
            self.refuse(value, convert::MODEL);
            return;
        };
        let mut sink = Object::default();
        self.defaulted(given, "type", "udp_sink", &mut sink);
        self.required(given, "host", &mut sink, text);
        self.required(given, "port", &mut sink, integer);
        message.push("sink_configuration", Value::Object(sink));
    }

    fn model(&mut self, body: &'a Object, message: &mut Object) {
        let mut model = Object::default();
        match body.get("model_configuration") {
            None => model.push("type", Value::from("object-detection")),
            Some(Value::Object(given)) => {
                self.defaulted(given, "type", "object-detection", &mut model);
                self.optional(given, "class_agnostic_nms", &mut model, boolean);
                self.optional(given, "confidence", &mut model, number);
                self.optional(given, "iou_threshold", &mut model, number);
                self.optional(given, "max_candidates", &mut model, integer);
                self.optional(given, "max_detections", &mut model, integer);
            }
            Some(other) => self.refuse(other, convert::MODEL),
        }
        message.push("model_configuration", Value::Object(model));
    }

    /// A text with a default; `null` is not its absence.
    fn defaulted(&mut self, object: &'a Object, key: &'static str, default: &str, message: &mut Object) {
        match object.get(key) {
            None => message.push(key, Value::from(default)),
            Some(value) => self.at(Loc::Key(key), |check| check.take(key, value, message, text)),
        }
    }

    fn max_fps(&mut self, body: &'a Object, message: &mut Object) {
        let Some(value) = body.get("max_fps").filter(|value| **value != Value::Null) else { return };
        match number(value) {
            Ok(fps) => message.push("max_fps", fps),
            Err(refusal) => {
                self.at(Loc::Key("float"), |check| check.refuse(value, refusal));
                if let Err(refusal) = integer(value) {
                    self.at(Loc::Key("int"), |check| check.refuse(value, refusal));
                }
            }
        }
    }

    fn properties(&mut self, body: &'a Object, message: &mut Object) {
        let Some(value) = body.get("video_source_properties").filter(|value| **value != Value::Null) else { return };
        let before = self.faults.len();
        if let Some(dict) = self.at(Loc::Key(PROPERTIES_DICT), |check| check.property_dict(value)) {
            message.push("video_source_properties", dict);
            return;
        }
        if let Some(list) = self.at(Loc::Key(PROPERTIES_LIST), |check| check.property_list(value)) {
            self.faults.truncate(before);
            message.push("video_source_properties", list);
        }
    }

    fn property_dict(&mut self, value: &'a Value) -> Option<Value> {
        let Value::Object(given) = value else {
            self.refuse(value, convert::DICT);
            return None;
        };
        let before = self.faults.len();
        let mut dict = Object::default();
        for (key, value) in given.iter() {
            match number(value) {
                Ok(value) => dict.push(key, value),
                Err(refusal) => self.at(Loc::Key(key), |check| check.refuse(value, refusal)),
            }
        }
        (self.faults.len() == before).then_some(Value::Object(dict))
    }

    fn property_list(&mut self, value: &'a Value) -> Option<Value> {
        let Value::Array(values) = value else {
            self.refuse(value, convert::LIST);
            return None;
        };
        let before = self.faults.len();
        let mut list = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match value {
                Value::Null => list.push(Value::Null),
                value => list.extend(self.at(Loc::Index(index), |check| check.property_dict(value))),
            }
        }
        (self.faults.len() == before).then_some(Value::Array(list))
    }
}

type Convert = fn(&Value) -> Result<Value, Refusal>;

/// Text stays text, even `"99"`; numbers and booleans become a device index.
fn one_reference(value: &Value) -> Option<Value> {
    text(value).or_else(|_| integer(value)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::{Style, Writer, parse_str};

    const SINK: &str = r#""sink_configuration":{"host":"h","port":1}"#;

    fn message(body: &str) -> String {
        let document = parse_str(body).unwrap();
        let mut out = Writer::new(Style::Compact);
        match initialise(Some(&document)) {
            Ok(message) => out.value(&Value::Object(message)),
            Err(faults) => fault::write(&mut out, &faults),
        }
        String::from_utf8(out.finish()).unwrap()
    }

    #[test]
    fn defaults_are_filled_in_and_unknown_fields_left_out() {
        let body = format!(r#"{{"type":"x","model_id":"a/1","video_reference":"v",{SINK},"api_key":null,"other":[]}}"#);
        let expected = r#"{"model_id":"a/1","video_reference":"v","sink_configuration":{"type":"udp_sink","host":"h","port":1},"model_configuration":{"type":"object-detection"}}"#;
        assert_eq!(message(&body), expected);
    }

    #[test]
    fn lax_conversions() {
        let body = r#"{"model_id":"a/1","video_reference":[1.0,true,"99"],"sink_configuration":{"host":"h","port":"9999"},
            "max_fps":"12","model_configuration":{"class_agnostic_nms":"off","confidence":"0.5","max_detections":7.0},
            "video_source_properties":[null,{"fps":"30"}],"batch_collection_timeout":true,"active_learning_enabled":"yes"}"#;
        let expected = concat!(
            r#"{"model_id":"a/1","video_reference":[1,1,"99"],"sink_configuration":{"type":"udp_sink","host":"h","port":9999},"#,
            r#""max_fps":12.0,"model_configuration":{"type":"object-detection","class_agnostic_nms":false,"confidence":0.5,"max_detections":7},"#,
            r#""video_source_properties":[null,{"fps":30.0}],"batch_collection_timeout":1.0}"#
        );
        assert_eq!(message(body), expected);
    }

    #[test]
    fn faults_are_listed_in_field_order_with_their_place() {
        #[rustfmt::skip]
        let table = [
            ("{}", r#"[{"type":"missing","loc":["body","model_id"],"msg":"Field required","input":{}},{"type":"missing","loc":["body","video_reference"],"msg":"Field required","input":{}},{"type":"missing","loc":["body","sink_configuration"],"msg":"Field required","input":{}}]"#),
            (r#"{"model_id":5,"video_reference":0,"sink_configuration":{"port":"x","type":"udp_sink"}}"#,
             r#"[{"type":"string_type","loc":["body","model_id"],"msg":"Input should be a valid string","input":5},{"type":"missing","loc":["body","sink_configuration","host"],"msg":"Field required","input":{"port":"x","type":"udp_sink"}},{"type":"int_parsing","loc":["body","sink_configuration","port"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"x"}]"#),
            (r#"{"model_id":"a","video_reference":1.5,"sink_configuration":null}"#,
             r#"[{"type":"string_type","loc":["body","video_reference","str"],"msg":"Input should be a valid string","input":1.5},{"type":"int_from_float","loc":["body","video_reference","int"],"msg":"Input should be a valid integer, got a number with a fractional part","input":1.5},{"type":"list_type","loc":["body","video_reference","list[union[str,int]]"],"msg":"Input should be a valid list","input":1.5},{"type":"model_attributes_type","loc":["body","sink_configuration"],"msg":"Input should be a valid dictionary or object to extract fields from","input":null}]"#),
            (r#"{"model_id":"a","video_reference":["x",null],"sink_configuration":{"host":"h","port":1},"max_fps":"x"}"#,
             r#"[{"type":"string_type","loc":["body","video_reference","str"],"msg":"Input should be a valid string","input":["x",null]},{"type":"int_type","loc":["body","video_reference","int"],"msg":"Input should be a valid integer","input":["x",null]},{"type":"string_type","loc":["body","video_reference","list[union[str,int]]",1,"str"],"msg":"Input should be a valid string","input":null},{"type":"int_type","loc":["body","video_reference","list[union[str,int]]",1,"int"],"msg":"Input should be a valid integer","input":null},{"type":"float_parsing","loc":["body","max_fps","float"],"msg":"Input should be a valid number, unable to parse string as a number","input":"x"},{"type":"int_parsing","loc":["body","max_fps","int"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"x"}]"#),
            (r#"{"model_id":"a","video_reference":"v","sink_configuration":{"host":"h","port":1},"video_source_properties":{"fps":"x"},"active_learning_enabled":2}"#,
             r#"[{"type":"bool_parsing","loc":["body","active_learning_enabled"],"msg":"Input should be a valid boolean, unable to interpret input","input":2},{"type":"float_parsing","loc":["body","video_source_properties","dict[str,float]","fps"],"msg":"Input should be a valid number, unable to parse string as a number","input":"x"},{"type":"list_type","loc":["body","video_source_properties","list[nullable[dict[str,float]]]"],"msg":"Input should be a valid list","input":{"fps":"x"}}]"#),
            ("[1]", r#"[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":[1]}]"#),
            (r#"{"model_id":"a","video_reference":"v","api_key":"secret"}"#,
             r#"[{"type":"missing","loc":["body","sink_configuration"],"msg":"Field required","input":{"model_id":"a","video_reference":"v","api_key":"**********"}}]"#),
        ];
        for (body, detail) in table {
            assert_eq!(message(body), format!(r#"{{"detail":{detail}}}"#), "{body}");
        }
    }

    #[test]
    fn no_body_is_a_missing_field() {
        let faults = initialise(None).unwrap_err();
        let mut out = Writer::new(Style::Compact);
        fault::write(&mut out, &faults);
        let text = r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#;
        assert_eq!(String::from_utf8(out.finish()).unwrap(), text);
    }

    #[test]
    fn the_list_of_faults_is_bounded() {
        let nulls = vec!["null"; 10_000].join(",");
        let body = format!(r#"{{"model_id":"a","video_reference":[{nulls}],{SINK}}}"#);
        assert_eq!(initialise(Some(&parse_str(&body).unwrap())).unwrap_err().len(), MAX_FAULTS);
    }
}
