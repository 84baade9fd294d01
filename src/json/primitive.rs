//! Strings and floats with the bytes Python's `json.dumps` gives them: clients may compare these.

use std::io::Write;

/// How characters outside ASCII are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// `\uXXXX`, with surrogate pairs: the TCP protocol and the datagrams.
    Ascii,
    /// As they are: the HTTP API.
    Utf8,
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str, charset: Charset) {
    out.push(b'"');
    let mut rest = text;
    // Runs that need no escape are copied whole: they are all of almost every string.
    while let Some(at) = rest.bytes().position(|byte| is_special(byte, charset)) {
        // A special byte is ASCII or, in ASCII output, begins a character: `at` is a boundary.
        let (run, tail) = rest.split_at(at);
        out.extend_from_slice(run.as_bytes());
        let mut characters = tail.chars();
        if let Some(character) = characters.next() {
            write_escape(out, character);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn is_special(byte: u8, charset: Charset) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\' || (charset == Charset::Ascii && byte >= 0x7F)
}

fn write_escape(out: &mut Vec<u8>, character: char) {
    let short: &[u8] = match character {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\u{8}' => b"\\b",
        '\u{c}' => b"\\f",
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
            return;
        }
    };
    out.extend_from_slice(short);
}

/// Appends a number as Python's `repr(float)`: shortest digits that read back alike, `.0` on whole numbers,
/// an exponent below 1e-4 and from 1e16. JSON has no NaN or infinity: they become `null`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    // Writing to a Vec cannot fail, hence the ignored results.
    if !value.is_finite() {
        out.extend_from_slice(b"null");
    } else if value != 0.0 && !(1e-4..1e16).contains(&value.abs()) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
    } else {
        let _ = write!(out, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str, charset: Charset) -> String {
        let mut out = Vec::new();
        write_string(&mut out, text, charset);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn strings_as_python_escapes_them() {
        assert_eq!(string("a\"b\\c\n\u{1}\u{7f}", Charset::Ascii), "\"a\\\"b\\\\c\\n\\u0001\\u007f\"");
        assert_eq!(string("a\"b\\c\n\u{1}\u{7f}", Charset::Utf8), "\"a\\\"b\\\\c\\n\\u0001\u{7f}\"");
        assert_eq!(string("Käse 🧀", Charset::Ascii), "\"K\\u00e4se \\ud83e\\uddc0\"");
        assert_eq!(string("Käse 🧀", Charset::Utf8), "\"Käse 🧀\"");
    }

    #[test]
    fn floats_as_python_reprs_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (440.5, "440.5"),
            (0.1, "0.1"),
            (f64::from(0.999973_f32), "0.9999729990959167"),
            (575.362_187_099_999_9, "575.3621870999999"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (0.000_012_5, "1.25e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (-2.5e-110, "-2.5e-110"),
            (5e-324, "5e-324"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}
