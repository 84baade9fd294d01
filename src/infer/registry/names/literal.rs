//! Reads lists, tuples and dictionaries as Python and JSON write them, and with bare words as YAML does.

use super::MAX_CLASSES;

/// Deepest nesting; names need two.
const MAX_DEPTH: usize = 8;

/// One value of Python's literals, which exporters leave in metadata.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    /// In quotes, which are gone; escapes resolved.
    Text(String),
    /// Bare: a number, `None`, a word of YAML.
    Bare(String),
    /// A list or tuple: `[…]`, `(…)`.
    List(Vec<Literal>),
    /// `{…}` in its order.
    Dictionary(Vec<(Literal, Literal)>),
}

impl Literal {
    /// A class id: a number, a text of one, or a tuple that begins with one.
    pub(super) fn id(&self) -> Option<usize> {
        match self {
            Literal::Text(text) | Literal::Bare(text) => {
                let text = text.trim();
                text.parse().ok().or_else(|| text.strip_suffix(".0").and_then(|whole| whole.parse().ok()))
            }
            Literal::List(items) => match items.as_slice() {
                [Literal::List(_), ..] | [] => None,
                [first, ..] => first.id(),
            },
            Literal::Dictionary(_) => None,
        }
    }

    /// The name of a class.
    pub(super) fn into_name(self) -> Option<String> {
        match self {
            Literal::Text(text) | Literal::Bare(text) => Some(text),
            _ => None,
        }
    }
}

/// The value that is the whole of `text`.
pub(super) fn parse(text: &str) -> Option<Literal> {
    let mut reader = Reader { rest: text };
    let value = reader.value(0)?;
    reader.skip_space();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        self.rest = chars.as_str();
        Some(first)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `wanted` if it comes next.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Literal> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_space();
        match self.rest.chars().next()? {
            '{' => self.dictionary(depth),
            '[' => self.list(']', depth),
            '(' => self.list(')', depth),
            '"' | '\'' => self.text(false).map(Literal::Text),
            _ => self.bare(),
        }
    }

    fn dictionary(&mut self, depth: usize) -> Option<Literal> {
        self.next()?;
        let mut members = Vec::new();
        while !self.take('}') {
            let key = self.value(depth + 1)?;
            self.take(':').then_some(())?;
            members.push((key, self.value(depth + 1)?));
            if members.len() > MAX_CLASSES {
                return None;
            }
            if !self.take(',') {
                self.take('}').then_some(())?;
                break;
            }
        }
        Some(Literal::Dictionary(members))
    }

    fn list(&mut self, end: char, depth: usize) -> Option<Literal> {
        self.next()?;
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.value(depth + 1)?);
            if items.len() > MAX_CLASSES {
                return None;
            }
            if !self.take(',') {
                self.take(end).then_some(())?;
                break;
            }
        }
        Some(Literal::List(items))
    }

    /// A number or word, or a text with one of Python's prefixes.
    fn bare(&mut self) -> Option<Literal> {
        for prefix in ["u", "U", "b", "B", "r", "R"] {
            if let Some(rest) = self.rest.strip_prefix(prefix).filter(|rest| rest.starts_with(['"', '\''])) {
                self.rest = rest;
                return self.text(prefix.eq_ignore_ascii_case("r")).map(Literal::Text);
            }
        }
        let end = self
            .rest
            .find([',', ':', ']', '}', ')', '[', '{', '(', '"', '\'', '\n'])
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let word = word.trim();
        (!word.is_empty()).then(|| Literal::Bare(word.to_owned()))
    }

    /// A quoted text; `raw`: a backslash is one.
    fn text(&mut self, raw: bool) -> Option<String> {
        let quote = self.next()?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '\\' if raw => {
                    text.push('\\');
                    text.push(self.next()?);
                }
                '\\' => self.escape(&mut text)?,
                c if c == quote => return Some(text),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        match self.next()? {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            '\n' => {}
            'x' => text.push(char::from_u32(self.hexadecimal(2)?)?),
            'U' => text.push(char::from_u32(self.hexadecimal(8)?)?),
            'u' => {
                let first = self.hexadecimal(4)?;
                let code = match first {
                    // UTF-16 writes what is beyond 16 bits as a pair, JSON with it
                    0xD800..=0xDBFF => {
                        self.rest = self.rest.strip_prefix("\\u")?;
                        let second = self.hexadecimal(4)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                        0x1_0000 + ((first - 0xD800) << 10 | second)
                    }
                    code => code,
                };
                text.push(char::from_u32(code)?);
            }
            digit @ '0'..='7' => {
                let more: String =
                    self.rest.chars().take(2).take_while(|c| ('0'..='7').contains(c)).collect();
                self.rest = self.rest.get(more.len()..)?;
                text.push(char::from_u32(u32::from_str_radix(&format!("{digit}{more}"), 8).ok()?)?);
            }
            quoted @ ('\\' | '\'' | '"' | '/') => text.push(quoted),
            // Python keeps a backslash that begins no escape
            other => text.extend(['\\', other]),
        }
        Some(())
    }

    /// A number of exactly so many hexadecimal digits.
    fn hexadecimal(&mut self, count: usize) -> Option<u32> {
        let digits =
            self.rest.get(..count).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        self.rest = self.rest.get(count..)?;
        u32::from_str_radix(digits, 16).ok()
    }
}
