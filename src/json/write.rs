//! Writing JSON straight into its final text, without a tree in between.

use std::fmt;
use std::io::Write;

use super::{Charset, Value, write_f64, write_string};

/// How the text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Python's `json.dumps`: `", "` and `": "`, everything beyond ASCII as `\uXXXX`. TCP and UDP.
    Python,
    /// No spaces, UTF-8 as it is. HTTP.
    Compact,
}

/// Appends values to a text; puts the commas itself.
///
/// ```
/// use weir::json::{Style, Writer};
/// let mut json = Writer::new(Style::Python);
/// json.begin_object();
/// json.key("ids").begin_array();
/// json.integer(1);
/// json.integer(2);
/// json.end_array();
/// json.key("name").null();
/// json.end_object();
/// assert_eq!(json.finish(), br#"{"ids": [1, 2], "name": null}"#);
/// ```
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    style: Style,
    /// A value stands before the next one: a comma must come between them.
    after_value: bool,
}

impl Writer {
    /// A writer whose text is empty.
    pub fn new(style: Style) -> Self {
        Writer { out: Vec::with_capacity(256), style, after_value: false }
    }

    /// Goes on behind what `out` holds already (a header, say).
    pub fn after(out: Vec<u8>, style: Style) -> Self {
        Writer { out, style, after_value: false }
    }

    /// The text that was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    fn separate(&mut self) {
        if self.after_value {
            self.out.extend_from_slice(match self.style {
                Style::Python => &b", "[..],
                Style::Compact => b",",
            });
        }
        self.after_value = true;
    }

    /// Opens an object: `{`.
    pub fn begin_object(&mut self) {
        self.separate();
        self.out.push(b'{');
        self.after_value = false;
    }

    /// Closes an object: `}`.
    pub fn end_object(&mut self) {
        self.out.push(b'}');
        self.after_value = true;
    }

    /// Opens an array: `[`.
    pub fn begin_array(&mut self) {
        self.separate();
        self.out.push(b'[');
        self.after_value = false;
    }

    /// Closes an array: `]`.
    pub fn end_array(&mut self) {
        self.out.push(b']');
        self.after_value = true;
    }

    /// A key of the open object; its value must follow.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.out.extend_from_slice(match self.style {
            Style::Python => &b": "[..],
            Style::Compact => b":",
        });
        self.after_value = false;
        self
    }

    /// Writes `null` as the next value.
    pub fn null(&mut self) {
        self.separate();
        self.out.extend_from_slice(b"null");
    }

    /// Writes `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        self.separate();
        self.out.extend_from_slice(if value { &b"true"[..] } else { b"false" });
    }

    /// Writes an integer as the next value.
    pub fn integer(&mut self, value: impl Into<i128>) {
        self.separate();
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "{}", value.into());
    }

    /// A float as Python's `repr` writes it; `null` if not finite.
    pub fn float(&mut self, value: f64) {
        self.separate();
        write_f64(&mut self.out, value);
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &[u8]) {
        self.separate();
        self.out.extend_from_slice(json);
    }

    /// Writes a string, quoted and escaped.
    pub fn string(&mut self, text: &str) {
        self.separate();
        let charset = match self.style {
            Style::Python => Charset::Ascii,
            Style::Compact => Charset::Utf8,
        };
        write_string(&mut self.out, text, charset);
    }

    /// A string that is known to need no escape (ids, time stamps).
    pub fn plain(&mut self, text: impl fmt::Display) {
        self.separate();
        let _ = write!(self.out, "\"{text}\"");
    }

    /// Any value. Recurses as deep as the value is, which the parser bounds.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(value) => self.boolean(*value),
            Value::Integer(value) => self.integer(*value),
            Value::Float(value) => self.float(*value),
            Value::String(text) => self.string(text),
            Value::Array(values) => {
                self.begin_array();
                for value in values {
                    self.value(value);
                }
                self.end_array();
            }
            Value::Object(members) => {
                self.begin_object();
                for (key, value) in members.iter() {
                    self.key(key).value(value);
                }
                self.end_object();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::parse_str;

    fn rewrite(text: &str, style: Style) -> String {
        let mut json = Writer::new(style);
        json.value(&parse_str(text).unwrap());
        String::from_utf8(json.finish()).unwrap()
    }

    #[test]
    fn python_style_separates_with_spaces_and_escapes_beyond_ascii() {
        let text = r#"{"a":[1,-2,0.5,true,null,{}],"ä\u0001\n\"\\/":"𝄞\u007f","e":[]}"#;
        let expected =
            r#"{"a": [1, -2, 0.5, true, null, {}], "\u00e4\u0001\n\"\\/": "\ud834\udd1e\u007f", "e": []}"#;
        assert_eq!(rewrite(text, Style::Python), expected);
    }

    #[test]
    fn compact_style_has_no_spaces_and_keeps_utf8() {
        let text = "{\"ä\": [ 1 , \"𝄞\\t\\b\\f\" ] , \"b\" : {\"c\": 1e5}}";
        assert_eq!(rewrite(text, Style::Compact), r#"{"ä":[1,"𝄞\t\b\f"],"b":{"c":100000.0}}"#);
    }
}
