//! Looking into JSON documents of the API and the cache.

use miniserde::json::{Number, Object, Value};

/// Largest JSON document from the API or the cache, bytes. Real ones have a few KiB; class lists of thousands
/// of names fit.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// Parses a document; `None` for what is no JSON. Does not recurse.
pub(super) fn parse(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    miniserde::json::from_str(text.trim_start_matches('\u{feff}')).ok()
}

/// Reading a value as what it should be.
pub(super) trait Look {
    /// The member of that name.
    fn member(&self, name: &str) -> Option<&Value>;
    /// The text, if it is one.
    fn text(&self) -> Option<&str>;
    /// The object, if it is one.
    fn object(&self) -> Option<&Object>;
    /// The number; texts of numbers count.
    fn number(&self) -> Option<f64>;
    /// True for `true` alone.
    fn is_true(&self) -> bool;
}

impl Look for Value {
    fn member(&self, name: &str) -> Option<&Value> {
        self.object()?.get(name)
    }
    fn text(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
    fn object(&self) -> Option<&Object> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }
    fn number(&self) -> Option<f64> {
        match self {
            Value::Number(Number::U64(number)) => Some(*number as f64),
            Value::Number(Number::I64(number)) => Some(*number as f64),
            Value::Number(Number::F64(number)) => Some(*number),
            Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }
    fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }
}
