//! Judges the body of `/initialise` as the reference's framework does (pydantic in its lax mode) and turns it
//! into the message the TCP listener would have received. What there is to judge stands in
//! `command/init/fields.rs`.
//!
//! All faults are listed, in the order of the fields; a field that may be of several types lists one fault
//! for each.

mod convert;
mod fault;
pub(super) mod query;

use convert::{Refusal, boolean, integer, list, number, text};
pub(super) use fault::reply;
use fault::{Fault, Input, Loc};

use crate::command::init::fields::{FIELDS, SOURCE_FIELDS};
use crate::command::init::properties;
use crate::json::{Object, Value};
use crate::schema::{Field, Kind, Presence};
use crate::sink;

/// Faults listed in one reply; who makes more has read the first hundred before.
const MAX_FAULTS: usize = 100;

/// How the framework calls the types of `video_reference`'s and `video_source_properties`' lists.
const REFERENCE_LIST: &str = "list[union[str,int]]";
const PROPERTIES_DICT: &str = "dict[str,float]";
const PROPERTIES_LIST: &str = "list[nullable[dict[str,float]]]";

/// The source that a body of `POST /video_sources/snapshot` names, or why there is none.
pub(super) fn source(document: Option<&Value>) -> Result<Object, Vec<Fault<'_>>> {
    judged(document, SOURCE_FIELDS)
}

/// The message to carry out, or why not. `None` is a request without a body.
pub(super) fn initialise(document: Option<&Value>) -> Result<Object, Vec<Fault<'_>>> {
    judged(document, FIELDS)
}

fn judged<'a>(document: Option<&'a Value>, fields: &'static [Field]) -> Result<Object, Vec<Fault<'a>>> {
    const NO_BODY: &Value = &Value::Null;
    let mut check = Check { faults: Vec::new(), loc: vec![Loc::Key("body")] };
    let mut message = Object::default();
    match document {
        None => check.refuse(NO_BODY, convert::MISSING),
        Some(Value::Object(given)) => check.fields(fields, given, &mut message),
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

    /// The members of an object, as far as the table knows them.
    fn fields(&mut self, fields: &'static [Field], given: &'a Object, message: &mut Object) {
        for field in fields {
            let taken = self.at(Loc::Key(field.name), |check| check.field(field, given));
            message.extend(
                taken.filter(|_| field.presence != Presence::Ignored).map(|value| (field.name, value)),
            );
        }
    }

    fn field(&mut self, field: &'static Field, given: &'a Object) -> Option<Value> {
        match (given.get(field.name), field.presence) {
            (None | Some(Value::Null), Presence::Optional | Presence::Ignored) => None,
            // Refused with the whole object as input.
            (None, Presence::Required) => {
                if self.faults.len() < MAX_FAULTS {
                    self.faults.push(Fault::missing(self.loc.clone(), given));
                }
                None
            }
            (None, Presence::Implied) => implied(field.kind),
            (Some(value), _) => self.judge(field.kind, value),
        }
    }

    fn judge(&mut self, kind: Kind, value: &'a Value) -> Option<Value> {
        match kind {
            Kind::Text | Kind::Secret | Kind::Host | Kind::Word { .. } | Kind::Constant(_) => {
                self.take(value, text)
            }
            Kind::Boolean => self.take(value, boolean),
            Kind::Integer { .. } => self.take(value, integer),
            Kind::Number | Kind::Seconds { .. } => self.take(value, number),
            Kind::Rate => self.rate(value),
            Kind::Texts => self.texts(value),
            Kind::Object { fields, .. } => {
                self.object(value, |check, given, object| check.fields(fields, given, object))
            }
            Kind::References { .. } => self.references(value),
            Kind::Properties { .. } => self.properties(value),
            Kind::Masks { .. } => self.take(value, list),
            Kind::Sink => self.sinks(value),
        }
    }

    fn take(&mut self, value: &'a Value, convert: Convert) -> Option<Value> {
        convert(value).inspect_err(|refusal| self.refuse(value, *refusal)).ok()
    }

    fn object(
        &mut self,
        value: &'a Value,
        judge: impl FnOnce(&mut Self, &'a Object, &mut Object),
    ) -> Option<Value> {
        let Value::Object(given) = value else {
            self.refuse(value, convert::MODEL);
            return None;
        };
        let mut object = Object::default();
        judge(self, given, &mut object);
        Some(Value::Object(object))
    }

    /// One sink or, beyond the reference, a list of them.
    fn sinks(&mut self, value: &'a Value) -> Option<Value> {
        let Value::Array(values) = value else { return self.object(value, Self::sink) };
        let judged = values.iter().enumerate();
        let list: Vec<_> = judged
            .map(|(index, value)| self.at(Loc::Index(index), |check| check.object(value, Self::sink)))
            .collect();
        list.into_iter().collect::<Option<_>>().map(Value::Array)
    }

    /// The sink that the body names; the reference's where it names none that is known, for the manager to
    /// refuse.
    fn sink(&mut self, given: &'a Object, sink: &mut Object) {
        const KIND: &Field = &Field::required(sink::TYPE, Kind::Text, "");
        let named = given.get(sink::TYPE).and_then(Value::as_str);
        let offered = || sink::KINDS.iter().filter(|kind| kind.is_offered);
        let Some(kind) = offered().find(|kind| Some(kind.name) == named).or_else(|| offered().next()) else {
            return;
        };
        let name = match given.get(sink::TYPE) {
            None => Some(Value::from(kind.name)),
            Some(_) => self.at(Loc::Key(sink::TYPE), |check| check.field(KIND, given)),
        };
        sink.extend(name.map(|name| (sink::TYPE, name)));
        self.fields(kind.fields, given, sink);
    }

    fn references(&mut self, value: &'a Value) -> Option<Value> {
        if let Some(one) = one_reference(value) {
            return Some(one);
        }
        // Nothing but a list can still pass; what each type says is told only if that fails too.
        let before = self.faults.len();
        self.reference_faults(value);
        let list_starts = self.faults.len();
        let list = self.at(Loc::Key(REFERENCE_LIST), |check| check.reference_list(value));
        let list = list.filter(|_| self.faults.len() == list_starts)?;
        self.faults.truncate(before);
        Some(Value::Array(list))
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

    fn texts(&mut self, value: &'a Value) -> Option<Value> {
        let Value::Array(values) = value else {
            self.refuse(value, convert::LIST);
            return None;
        };
        let judged = values.iter().enumerate();
        let list: Vec<_> = judged
            .map(|(index, value)| self.at(Loc::Index(index), |check| check.take(value, text)))
            .collect();
        list.into_iter().collect::<Option<_>>().map(Value::Array)
    }

    /// The framework tries two types.
    fn rate(&mut self, value: &'a Value) -> Option<Value> {
        match number(value) {
            Ok(rate) => Some(rate),
            Err(refusal) => {
                self.at(Loc::Key("float"), |check| check.refuse(value, refusal));
                if let Err(refusal) = integer(value) {
                    self.at(Loc::Key("int"), |check| check.refuse(value, refusal));
                }
                None
            }
        }
    }

    fn properties(&mut self, value: &'a Value) -> Option<Value> {
        let before = self.faults.len();
        if let Some(dict) = self.at(Loc::Key(PROPERTIES_DICT), |check| check.property_dict(value)) {
            return Some(dict);
        }
        let list = self.at(Loc::Key(PROPERTIES_LIST), |check| check.property_list(value))?;
        self.faults.truncate(before);
        Some(list)
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
                _ if properties::fourcc(key, value).is_some() => dict.push(key, value.clone()),
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

/// What a field is that a body leaves out.
fn implied(kind: Kind) -> Option<Value> {
    match kind {
        Kind::Constant(text) => Some(Value::from(text)),
        Kind::Object { fields, .. } => {
            let mut object = Object::default();
            let constants = fields.iter().filter(|field| field.presence == Presence::Implied);
            object.extend(constants.filter_map(|field| Some((field.name, implied(field.kind)?))));
            Some(Value::Object(object))
        }
        _ => None,
    }
}

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
        let body = format!(
            r#"{{"type":"x","model_id":"a/1","video_reference":"v",{SINK},"api_key":null,"other":[]}}"#
        );
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
