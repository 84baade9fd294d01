//! The check before parsing: grammar, depth and size, without recursion, and where the first fault is.
//!
//! The parser proper (miniserde) says only that something is wrong. HTTP clients are told where and why, in
//! the words of Python's decoder, because the reference's 422 body carries them.

/// Containers inside each other. The reference gives up near 1 000; no command needs more than 4. Values are
/// dropped and written by recursion, so this also bounds the stack.
pub const MAX_DEPTH: usize = 512;

/// Values in one document. Each takes up to 80 bytes once parsed, so a 1 MiB message of `[],[],…` would take
/// 27 MiB; an `init` with 64 sources and all their properties has under 2 000.
pub const MAX_VALUES: usize = 16_384;

/// Where a document is wrong, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Characters (not bytes) before the fault.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not valid in any Unicode encoding.
    Encoding,
    /// Nested deeper than [`MAX_DEPTH`] allows.
    Depth,
    /// More values in all than [`MAX_VALUES`].
    Values,
    /// No value where one must be.
    Value,
    /// No key in quotes where one must be.
    Key,
    /// No `:` after a key.
    Colon,
    /// Neither `,` nor the end of the container after a value.
    Comma,
    /// Something after the document.
    Extra,
    /// A string without its closing quote.
    Unterminated,
    /// A raw control character in a string.
    Control,
    /// `\` before a character that it does not escape.
    Escape,
    /// `\u` without four hexadecimal digits, or half of a surrogate pair.
    Unicode,
    /// A number no `f64` can hold.
    NumberRange,
}

impl Reason {
    /// In the words of Python's decoder, where it has them.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Encoding => "Invalid encoding",
            Reason::Depth => "Nesting too deep",
            Reason::Values => "Too many values",
            Reason::Value => "Expecting value",
            Reason::Key => "Expecting property name enclosed in double quotes",
            Reason::Colon => "Expecting ':' delimiter",
            Reason::Comma => "Expecting ',' delimiter",
            Reason::Extra => "Extra data",
            Reason::Unterminated => "Unterminated string starting at",
            Reason::Control => "Invalid control character at",
            Reason::Escape => "Invalid \\escape",
            Reason::Unicode => "Invalid \\uXXXX escape",
            Reason::NumberRange => "Number out of range",
        }
    }
}

/// A fault with its position in bytes; turned into characters once, at the end.
type Found = (usize, Reason);

/// Checks one whole document.
pub(super) fn scan(text: &str) -> Result<(), Fault> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.document().map_err(|(at, reason)| {
        let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
        // Bytes that do not continue a character begin one.
        let offset = before.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        Fault { offset, reason }
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Container {
    Array,
    Object,
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Result<(), Found> {
        let mut open: Vec<Container> = Vec::new();
        let mut values = 0;
        self.skip_space();
        loop {
            values += 1;
            if values > MAX_VALUES {
                return Err((self.at, Reason::Values));
            }
            match self.peek() {
                Some(b'[') => {
                    self.at += 1;
                    self.skip_space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        push(&mut open, Container::Array, self.at)?;
                        continue;
                    }
                }
                Some(b'{') => {
                    self.at += 1;
                    self.skip_space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        push(&mut open, Container::Object, self.at)?;
                        self.key()?;
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                _ => self.scalar()?,
            }
            // A value just ended: close what it ends, then find the next one.
            loop {
                self.skip_space();
                match (open.last(), self.peek()) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return Err((self.at, Reason::Extra)),
                    (Some(Container::Array), Some(b']')) | (Some(Container::Object), Some(b'}')) => {
                        self.at += 1;
                        open.pop();
                    }
                    (Some(&container), Some(b',')) => {
                        self.at += 1;
                        self.skip_space();
                        if container == Container::Object {
                            self.key()?;
                        }
                        break;
                    }
                    (Some(_), _) => return Err((self.at, Reason::Comma)),
                }
            }
        }
    }

    /// `"key" :` and the space after it.
    fn key(&mut self) -> Result<(), Found> {
        if self.peek() != Some(b'"') {
            return Err((self.at, Reason::Key));
        }
        self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err((self.at, Reason::Colon));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Found> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err((start, Reason::Unterminated)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(start)?,
                Some(0..0x20) => return Err((self.at, Reason::Control)),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self, start: usize) -> Result<(), Found> {
        let backslash = self.at;
        match self.bytes.get(backslash + 1) {
            None => Err((start, Reason::Unterminated)),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.hex_unit() {
                Some(0xD800..0xDC00) => match (self.bytes.get(self.at..self.at + 2), self.hex_unit()) {
                    (Some(b"\\u"), Some(0xDC00..0xE000)) => Ok(()),
                    _ => Err((backslash, Reason::Unicode)),
                },
                None | Some(0xDC00..0xE000) => Err((backslash, Reason::Unicode)),
                Some(_) => Ok(()),
            },
            Some(_) => Err((backslash, Reason::Escape)),
        }
    }

    /// The unit of the `\uXXXX` that begins here; goes past it.
    fn hex_unit(&mut self) -> Option<u16> {
        let digits = self.bytes.get(self.at + 2..self.at + 6)?;
        let mut unit = 0;
        for &digit in digits {
            unit = unit << 4 | u16::try_from(char::from(digit).to_digit(16)?).ok()?;
        }
        self.at += 6;
        Some(unit)
    }

    /// `true`, `false`, `null` or a number. Python's `NaN` and `Infinity` are no JSON and are refused.
    fn scalar(&mut self) -> Result<(), Found> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for word in [&b"true"[..], b"false", b"null"] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(());
            }
        }
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err((start, Reason::Value)),
        }
        if self.peek() == Some(b'.') && self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            let sign = usize::from(matches!(self.bytes.get(self.at + 1), Some(b'+' | b'-')));
            if self.bytes.get(self.at + 1 + sign).is_some_and(u8::is_ascii_digit) {
                self.at += 1 + sign;
                self.digits();
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

fn push(open: &mut Vec<Container>, container: Container, at: usize) -> Result<(), Found> {
    if open.len() == MAX_DEPTH {
        return Err((at, Reason::Depth));
    }
    open.push(container);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets and reasons as CPython 3.11's decoder gives them, except where marked.
    #[test]
    fn faults_are_found_where_python_finds_them() {
        for (text, offset, reason) in [
            ("", 0, Reason::Value),
            ("  ", 2, Reason::Value),
            ("{\"type\": ", 9, Reason::Value),
            ("{", 1, Reason::Key),
            ("{'a': 1}", 1, Reason::Key),
            ("{\"a\": 1,}", 8, Reason::Key),
            ("{\"a\" 1}", 5, Reason::Colon),
            ("{\"a\"", 4, Reason::Colon),
            ("{\"a\": 1", 7, Reason::Comma),
            ("[1 2]", 3, Reason::Comma),
            ("[1,]", 3, Reason::Value),
            ("[", 1, Reason::Value),
            ("[}", 1, Reason::Value),
            ("[1}", 2, Reason::Comma),
            ("{} x", 3, Reason::Extra),
            ("01", 1, Reason::Extra),
            ("1.", 1, Reason::Extra),
            ("-", 0, Reason::Value),
            ("+1", 0, Reason::Value),
            (".5", 0, Reason::Value),
            ("1e", 1, Reason::Extra),
            ("NaN", 0, Reason::Value), // Python takes it
            ("\"ab", 0, Reason::Unterminated),
            ("\"a\nb\"", 2, Reason::Control),
            ("\"a\\x\"", 2, Reason::Escape),
            ("\"\\u12g4\"", 1, Reason::Unicode),
            ("\"\\ud800\"", 1, Reason::Unicode), // Python takes it
            ("\"\\ud800\\u0041\"", 1, Reason::Unicode),
            ("\"\\udc00\"", 1, Reason::Unicode),
            ("\"ä𝄞\" x", 5, Reason::Extra),
            ("\u{feff}{}", 0, Reason::Value),
        ] {
            assert_eq!(scan(text), Err(Fault { offset, reason }), "{text:?}");
        }
    }

    #[test]
    fn good_documents_pass() {
        for text in [
            "null",
            " true ",
            "-0",
            "-0.5e+10",
            "1E5",
            "\"\\u0000\\ud834\\udd1e\\/\"",
            "[[],{},[{}],{\"a\":[1,2.5,\"x\"]}]",
            "{\"\":0,\"\":1}",
            "\t[\r\n1 , 2 ]\n",
        ] {
            assert_eq!(scan(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // The innermost, empty pair is not held open.
        assert_eq!(scan(&nested(MAX_DEPTH + 1)), Ok(()));
        assert_eq!(scan(&nested(MAX_DEPTH + 2)).map_err(|fault| fault.reason), Err(Reason::Depth));
        assert_eq!(scan(&"[".repeat(100_000)).map_err(|fault| fault.reason), Err(Reason::Depth));
        let wide = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert_eq!(scan(&wide(MAX_VALUES)), Ok(()));
        assert_eq!(scan(&wide(MAX_VALUES + 1)).map_err(|fault| fault.reason), Err(Reason::Values));
    }
}
