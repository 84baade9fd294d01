//! Writing JSON straight into its final text, without a tree in between.

use std::fmt::Write;

use super::{Value, write_float};

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
/// assert_eq!(json.finish(), r#"{"ids": [1, 2], "name": null}"#);
/// ```
#[derive(Debug)]
pub struct Writer {
    out: String,
    style: Style,
    /// A value stands before the next one: a comma must come between them.
    after_value: bool,
}

impl Writer {
    /// An empty text.
    pub fn new(style: Style) -> Self {
        Writer { out: String::with_capacity(256), style, after_value: false }
    }

    /// The text.
    pub fn finish(self) -> String {
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
            self.out.push_str(match self.style {
                Style::Python => ", ",
                Style::Compact => ",",
            });
        }
        self.after_value = true;
    }

    /// `{`
    pub fn begin_object(&mut self) {
        self.separate();
        self.out.push('{');
        self.after_value = false;
    }

    /// `}`
    pub fn end_object(&mut self) {
        self.out.push('}');
        self.after_value = true;
    }

    /// `[`
    pub fn begin_array(&mut self) {
        self.separate();
        self.out.push('[');
        self.after_value = false;
    }

    /// `]`
    pub fn end_array(&mut self) {
        self.out.push(']');
        self.after_value = true;
    }

    /// A key of the open object; its value must follow.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.out.push_str(match self.style {
            Style::Python => ": ",
            Style::Compact => ":",
        });
        self.after_value = false;
        self
    }

    /// `null`
    pub fn null(&mut self) {
        self.separate();
        self.out.push_str("null");
    }

    /// `true` or `false`
    pub fn boolean(&mut self, value: bool) {
        self.separate();
        self.out.push_str(if value { "true" } else { "false" });
    }

    /// An integer.
    pub fn integer(&mut self, value: impl Into<i128>) {
        self.separate();
        // Writing to a String cannot fail.
        let _ = write!(self.out, "{}", value.into());
    }

    /// A float as Python's `repr` writes it; `null` if not finite.
    pub fn float(&mut self, value: f64) {
        self.separate();
        write_float(&mut self.out, value);
    }

    /// A string, escaped.
    pub fn string(&mut self, text: &str) {
        self.separate();
        self.out.push('"');
        self.escaped(text);
        self.out.push('"');
    }

    /// A string made of plain ASCII only (ids, stamps), without looking for what to escape.
    pub fn plain(&mut self, text: std::fmt::Arguments<'_>) {
        self.separate();
        self.out.push('"');
        let _ = self.out.write_fmt(text);
        self.out.push('"');
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

    fn escaped(&mut self, text: &str) {
        let ascii_only = self.style == Style::Python;
        let mut rest = text;
        // Runs that need no escape are copied whole: they are all of almost every string.
        while let Some(at) = rest.bytes().position(|byte| is_special(byte, ascii_only)) {
            // A special byte is ASCII or, in Python style, begins a character: `at` is a boundary.
            let (run, tail) = rest.split_at(at);
            self.out.push_str(run);
            let mut chars = tail.chars();
            if let Some(character) = chars.next() {
                self.escape(character);
            }
            rest = chars.as_str();
        }
        self.out.push_str(rest);
    }

    fn escape(&mut self, character: char) {
        let short = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(self.out, "\\u{unit:04x}");
                }
                return;
            }
        };
        self.out.push_str(short);
    }
}

fn is_special(byte: u8, ascii_only: bool) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\' || (ascii_only && byte >= 0x7F)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::parse_str;

    fn rewrite(text: &str, style: Style) -> String {
        let mut json = Writer::new(style);
        json.value(&parse_str(text).unwrap());
        json.finish()
    }

    #[test]
    fn python_style_separates_with_spaces_and_escapes_beyond_ascii() {
        let text = r#"{"a":[1,-2,0.5,true,null,{}],"ä\u0001\n\"\\/":"𝄞\u007f","e":[]}"#;
        let expected = r#"{"a": [1, -2, 0.5, true, null, {}], "\u00e4\u0001\n\"\\/": "\ud834\udd1e\u007f", "e": []}"#;
        assert_eq!(rewrite(text, Style::Python), expected);
    }

    #[test]
    fn compact_style_has_no_spaces_and_keeps_utf8() {
        let text = "{\"ä\": [ 1 , \"𝄞\\t\\b\\f\" ] , \"b\" : {\"c\": 1e5}}";
        assert_eq!(rewrite(text, Style::Compact), r#"{"ä":[1,"𝄞\t\b\f"],"b":{"c":100000.0}}"#);
    }
}
