//! A JSON value that keeps the order of keys, filled by miniserde.

use std::collections::HashMap;

use miniserde::Result;
use miniserde::de::{Deserialize, Map, Seq, Visitor};

/// Any JSON value; objects keep the order of their members.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent that fits 64 bits, signed or not.
    Integer(i128),
    /// Any other number; finite.
    Float(f64),
    /// A text, escapes resolved.
    String(String),
    /// An array, `[…]`.
    Array(Vec<Value>),
    /// An object, `{…}`, its members in their order.
    Object(Object),
}

/// Members of an object, in the order in which their keys first came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// Adds a member. The key must be new: callers write literals.
    pub fn push(&mut self, key: impl Into<String>, value: Value) {
        self.0.push((key.into(), value));
    }

    /// Adds members, as [`Object::push`] does.
    pub fn extend(&mut self, members: impl IntoIterator<Item = (&'static str, Value)>) {
        self.0.extend(members.into_iter().map(|(key, value)| (key.to_owned(), value)));
    }

    /// Key and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Any number, as `f64`; a boolean is none.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// What Python calls the type of this value once decoded.
    pub fn python_type(&self) -> &'static str {
        match self {
            Value::Null => "NoneType",
            Value::Bool(_) => "bool",
            Value::Integer(_) => "int",
            Value::Float(_) => "float",
            Value::String(_) => "str",
            Value::Array(_) => "list",
            Value::Object(_) => "dict",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl FromIterator<(&'static str, Value)> for Object {
    fn from_iter<T: IntoIterator<Item = (&'static str, Value)>>(members: T) -> Self {
        let mut object = Object::default();
        object.extend(members);
        object
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i128> for Value {
    fn from(number: i128) -> Self {
        Value::Integer(number)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Value::Array(values)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Value::Object(object)
    }
}

impl Deserialize for Value {
    fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
        Place::new(out)
    }
}

miniserde::make_place!(Place);

impl Visitor for Place<Value> {
    fn null(&mut self) -> Result<()> {
        self.out = Some(Value::Null);
        Ok(())
    }

    fn boolean(&mut self, value: bool) -> Result<()> {
        self.out = Some(Value::Bool(value));
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<()> {
        self.out = Some(Value::String(text.to_owned()));
        Ok(())
    }

    fn negative(&mut self, number: i64) -> Result<()> {
        self.out = Some(Value::Integer(i128::from(number)));
        Ok(())
    }

    fn nonnegative(&mut self, number: u64) -> Result<()> {
        self.out = Some(Value::Integer(i128::from(number)));
        Ok(())
    }

    fn float(&mut self, number: f64) -> Result<()> {
        self.out = Some(Value::Float(number));
        Ok(())
    }

    fn seq(&mut self) -> Result<Box<dyn Seq + '_>> {
        Ok(Box::new(ArrayBuilder { out: &mut self.out, done: Vec::new(), element: None }))
    }

    fn map(&mut self) -> Result<Box<dyn Map + '_>> {
        Ok(Box::new(ObjectBuilder { out: &mut self.out, done: Vec::new(), key: None, value: None }))
    }
}

struct ArrayBuilder<'a> {
    out: &'a mut Option<Value>,
    done: Vec<Value>,
    element: Option<Value>,
}

impl Seq for ArrayBuilder<'_> {
    fn element(&mut self) -> Result<&mut dyn Visitor> {
        self.done.extend(self.element.take());
        Ok(Deserialize::begin(&mut self.element))
    }

    fn finish(&mut self) -> Result<()> {
        self.done.extend(self.element.take());
        *self.out = Some(Value::Array(std::mem::take(&mut self.done)));
        Ok(())
    }
}

struct ObjectBuilder<'a> {
    out: &'a mut Option<Value>,
    done: Vec<(String, Value)>,
    key: Option<String>,
    value: Option<Value>,
}

impl ObjectBuilder<'_> {
    fn shift(&mut self) {
        if let (Some(key), Some(value)) = (self.key.take(), self.value.take()) {
            self.done.push((key, value));
        }
    }
}

impl Map for ObjectBuilder<'_> {
    fn key(&mut self, key: &str) -> Result<&mut dyn Visitor> {
        self.shift();
        self.key = Some(key.to_owned());
        Ok(Deserialize::begin(&mut self.value))
    }

    fn finish(&mut self) -> Result<()> {
        self.shift();
        *self.out = Some(Value::Object(Object(last_wins(std::mem::take(&mut self.done)))));
        Ok(())
    }
}

/// Duplicate keys: the place of the first, the value of the last. Hashed, so that an object of many keys
/// stays linear.
fn last_wins(members: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(members.len());
    let mut kept: Vec<(String, Value)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        match places.get(&key).and_then(|&place| kept.get_mut(place)) {
            Some(member) => member.1 = value,
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::parse_str;

    #[test]
    fn keys_keep_their_order_and_the_last_duplicate_wins() {
        let value = parse_str(r#"{"z": 1, "a": [true, null, -5, 1.5], "z": "last", "": {}}"#).unwrap();
        let mut expected = Object::default();
        expected.push("z", Value::from("last"));
        let list = vec![Value::Bool(true), Value::Null, Value::Integer(-5), Value::Float(1.5)];
        expected.push("a", Value::Array(list));
        expected.push("", Value::Object(Object::default()));
        assert_eq!(value, Value::Object(expected));
    }

    #[test]
    fn numbers_beyond_64_bits_become_floats_and_beyond_f64_are_refused() {
        assert_eq!(parse_str("18446744073709551615").unwrap(), Value::Integer(u64::MAX.into()));
        assert_eq!(parse_str("-9223372036854775808").unwrap(), Value::Integer(i64::MIN.into()));
        assert_eq!(parse_str("18446744073709551616").unwrap(), Value::Float(18_446_744_073_709_551_616.0));
        assert!(parse_str("1e999").is_err());
    }

    #[test]
    fn the_deepest_document_is_parsed_and_dropped_on_a_small_stack() {
        let text = format!("{}{}", "[".repeat(crate::json::MAX_DEPTH), "]".repeat(crate::json::MAX_DEPTH));
        let thread =
            std::thread::Builder::new().stack_size(128 << 10).spawn(move || parse_str(&text).is_ok());
        assert!(thread.unwrap().join().unwrap());
    }
}
