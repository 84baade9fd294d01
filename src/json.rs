//! JSON text as Python's `json.dumps` writes it: the two primitives whose bytes clients may compare.

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
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\0'..='\u{1f}' => write_escape(out, character as u16),
            _ if character.is_ascii() => out.push(character as u8),
            // DEL is ASCII and Python leaves it alone; what follows here is beyond ASCII.
            _ if charset == Charset::Ascii => {
                character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write_escape(out, *unit));
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, unit: u16) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "\\u{unit:04x}");
}

/// Appends a number as Python's `repr(float)`: shortest digits that read back alike, `.0` on whole numbers, an exponent below
/// 1e-4 and from 1e16. JSON has no NaN or infinity: they become `null`.
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

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn strings_as_python_escapes_them() {
        assert_eq!(string("a\"b\\c\n\u{1}\u{7f}", Charset::Ascii), "\"a\\\"b\\\\c\\n\\u0001\u{7f}\"");
        assert_eq!(string("Käse 🧀", Charset::Ascii), "\"K\\u00e4se \\ud83e\\uddc0\"");
        assert_eq!(string("Käse 🧀", Charset::Utf8), "\"Käse 🧀\"");
    }

    #[test]
    fn floats_as_python_reprs_them() {
        for (value, text) in [
            (440.0, "440.0"),
            (0.0, "0.0"),
            (-0.5, "-0.5"),
            (f64::from(0.999973_f32), "0.9999729990959167"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
