//! What Python would say. Error texts of the protocol quote values the way `repr` and `bytes` print them.

use crate::json::{Object, Value, write_f64};

/// Longest quoted text in bytes: a reply must not carry a megabyte of the request back.
const MAX_REPR_BYTES: usize = 256;

/// `repr` of a decoded JSON value, cut at [`MAX_REPR_BYTES`].
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    if out.len() > MAX_REPR_BYTES {
        out.truncate(out.floor_char_boundary(MAX_REPR_BYTES));
        out.push('…');
    }
    out
}

fn write_repr(out: &mut String, value: &Value) {
    // What is cut off anyway need not be written; this also ends the recursion early.
    if out.len() > MAX_REPR_BYTES {
        return;
    }
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Integer(number) => out.push_str(&number.to_string()),
        Value::Float(number) => {
            let mut digits = Vec::new();
            write_f64(&mut digits, *number);
            out.push_str(&String::from_utf8_lossy(&digits));
        }
        Value::String(text) => write_text(out, text),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, value);
            }
            out.push(']');
        }
        Value::Object(object) => write_dict(out, object),
    }
}

fn write_dict(out: &mut String, object: &Object) {
    out.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_text(out, key);
        out.push_str(": ");
        write_repr(out, value);
    }
    out.push('}');
}

fn write_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        if out.len() > MAX_REPR_BYTES {
            break;
        }
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if character == quote => out.extend(['\\', quote]),
            '\0'..' ' | '\u{7f}'..'\u{a1}' => out.push_str(&format!("\\x{:02x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push(quote);
}

/// `repr` of a few bytes: `b'\x00\x00'`.
pub fn repr_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("b'");
    for &byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' | b'\'' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('\'');
    out
}

/// What indexing a value that is no dictionary says.
pub fn not_a_dictionary(value: &Value) -> String {
    match value {
        Value::Array(_) => String::from("list indices must be integers or slices, not str"),
        Value::String(_) => String::from("string indices must be integers, not 'str'"),
        other => format!("'{}' object is not subscriptable", other.python_type()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::parse_str;

    #[test]
    fn values_are_quoted_as_python_quotes_them() {
        for (json, expected) in [
            ("null", "None"),
            ("true", "True"),
            ("1", "1"),
            ("1.0", "1.0"),
            ("\"explode\"", "'explode'"),
            ("\"it's\"", "\"it's\""),
            ("\"a'b\\\"c\"", "'a\\'b\"c'"),
            ("\"\\n\\u0001ä\"", "'\\n\\x01ä'"),
            ("[\"init\", 2]", "['init', 2]"),
            ("{\"a\": {}}", "{'a': {}}"),
        ] {
            assert_eq!(repr(&parse_str(json).unwrap()), expected);
        }
    }

    #[test]
    fn long_values_are_cut() {
        let text = repr(&Value::String("ä".repeat(100_000)));
        assert!(text.len() <= MAX_REPR_BYTES + '…'.len_utf8(), "{}", text.len());
        assert!(repr(&Value::Array(vec![Value::Null; 10_000])).len() < 300);
    }

    #[test]
    fn bytes_are_quoted_as_python_quotes_them() {
        assert_eq!(repr_bytes(b"\0\x01a'"), "b'\\x00\\x01a\\''");
    }
}
