//! JSON for the tests: keeps the order of keys and the text of numbers, so that a reply can be compared byte
//! by byte. Deliberately not the product's own parser: a fault there must not hide itself.

use std::fmt;

/// A JSON value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// The digits as they stood in the text.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    /// In the order of the text.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses one document; panics with the offset when it is none (tests only).
    #[track_caller]
    pub fn parse(text: &str) -> Json {
        let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
        let value = reader.value();
        reader.space();
        assert_eq!(reader.at, text.len(), "bytes after the JSON document: {text}");
        value
    }

    /// The member `key` of an object, `Null` where there is none.
    pub fn get(&self, key: &str) -> &Json {
        match self {
            Json::Object(members) => {
                members.iter().find(|(name, _)| name == key).map_or(&Json::Null, |(_, value)| value)
            }
            _ => &Json::Null,
        }
    }

    /// Follows keys and indices: `at("report/sources_metadata/0/state")`.
    pub fn at(&self, path: &str) -> &Json {
        path.split('/').fold(self, |value, step| match (value, step.parse::<usize>()) {
            (Json::Array(items), Ok(index)) => items.get(index).unwrap_or(&Json::Null),
            _ => value.get(step),
        })
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Json::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Json] {
        match self {
            Json::Array(items) => items,
            _ => &[],
        }
    }

    pub fn members(&self) -> &[(String, Json)] {
        match self {
            Json::Object(members) => members,
            _ => &[],
        }
    }

    /// The keys of an object, in order.
    pub fn keys(&self) -> Vec<&str> {
        self.members().iter().map(|(key, _)| key.as_str()).collect()
    }

    /// Every text in the value, passed through `change`.
    pub fn map_texts(&self, change: &impl Fn(&str) -> String) -> Json {
        match self {
            Json::Text(text) => Json::Text(change(text)),
            Json::Array(items) => Json::Array(items.iter().map(|item| item.map_texts(change)).collect()),
            Json::Object(members) => Json::Object(
                members.iter().map(|(key, value)| (key.clone(), value.map_texts(change))).collect(),
            ),
            other => other.clone(),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

/// Python's default style, which is the one of the TCP listener and of the datagrams: `", "` and `": "`,
/// ASCII only. With `{:#}` the style of the HTTP listener: no blanks, UTF-8 as it is.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (comma, colon) = if f.alternate() { (",", ":") } else { (", ", ": ") };
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(digits) => f.write_str(digits),
            Json::Text(text) => quote(f, text),
            Json::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index > 0 { comma } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    f.write_str(if index > 0 { comma } else { "" })?;
                    quote(f, key)?;
                    f.write_str(colon)?;
                    value.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            ' '..='~' => write!(f, "{c}")?,
            '\u{80}'.. if f.alternate() => write!(f, "{c}")?,
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(f, "\\u{unit:04x}")?;
                }
            }
        }
    }
    f.write_str("\"")
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what} at byte {} of {}", self.at, self.text)
    }

    fn expect(&mut self, literal: &str) {
        if !self.bytes[self.at..].starts_with(literal.as_bytes()) {
            self.fail(&format!("expected {literal}"));
        }
        self.at += literal.len();
    }

    fn peek(&mut self) -> u8 {
        self.space();
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn value(&mut self) -> Json {
        match self.peek() {
            b'n' => {
                self.expect("null");
                Json::Null
            }
            b't' => {
                self.expect("true");
                Json::Bool(true)
            }
            b'f' => {
                self.expect("false");
                Json::Bool(false)
            }
            b'"' => Json::Text(self.string()),
            b'[' => Json::Array(self.list(b']', Self::value)),
            b'{' => Json::Object(self.list(b'}', |reader| {
                reader.space();
                let key = reader.string();
                reader.space();
                reader.expect(":");
                (key, reader.value())
            })),
            b'-' | b'0'..=b'9' => {
                let start = self.at;
                while self.bytes.get(self.at).is_some_and(|b| b"+-.eE0123456789".contains(b)) {
                    self.at += 1;
                }
                Json::Number(self.text[start..self.at].to_owned())
            }
            _ => self.fail("no JSON value"),
        }
    }

    fn list<T>(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        self.at += 1;
        let mut items = Vec::new();
        if self.peek() == end {
            self.at += 1;
            return items;
        }
        loop {
            items.push(item(self));
            match self.peek() {
                b',' => self.at += 1,
                b if b == end => {
                    self.at += 1;
                    return items;
                }
                _ => self.fail("expected , or the end of a list"),
            }
        }
    }

    fn string(&mut self) -> String {
        self.expect("\"");
        let mut units: Vec<u16> = Vec::new();
        loop {
            let Some(c) = self.text[self.at..].chars().next() else { self.fail("string without end") };
            self.at += c.len_utf8();
            match c {
                '"' => return String::from_utf16_lossy(&units),
                '\\' => {
                    let escape = self.bytes.get(self.at).copied().unwrap_or(0);
                    self.at += 1;
                    units.push(match escape {
                        b'u' => {
                            let digits = self.text.get(self.at..self.at + 4).unwrap_or("");
                            self.at += 4;
                            u16::from_str_radix(digits, 16).unwrap_or_else(|_| self.fail("bad \\u escape"))
                        }
                        b'n' => 10,
                        b'r' => 13,
                        b't' => 9,
                        b'b' => 8,
                        b'f' => 12,
                        other => u16::from(other),
                    });
                }
                c => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
            }
        }
    }
}
