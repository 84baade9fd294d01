//! Class names: one per line, or as exporters write them into an ONNX file's metadata.

/// Most classes of a model. The largest public detection sets have a few thousand.
const MAX_CLASSES: usize = 65_536;

/// `class_names.txt`: one name per line, blank lines skipped.
pub(super) fn of_lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_CLASSES).map(str::to_owned).collect()
}

/// The metadata entry `names`: a Python or JSON dictionary of ids (`{0: 'person', 1: 'cat'}`) or a list (`['person', 'cat']`).
/// `None` for anything else, and when ids are missing.
pub(in crate::infer) fn of_metadata(text: &str) -> Option<Vec<String>> {
    let mut reader = Reader { rest: text.trim() };
    let names = match reader.next()? {
        '{' => reader.dictionary()?,
        '[' => reader.list()?,
        _ => return None,
    };
    reader.skip_space();
    reader.rest.is_empty().then_some(names)
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

    fn dictionary(&mut self) -> Option<Vec<String>> {
        let mut names: Vec<Option<String>> = Vec::new();
        while !self.take('}') {
            let id: usize = self.key()?.parse().ok().filter(|id| *id < MAX_CLASSES)?;
            self.take(':').then_some(())?;
            let name = self.text()?;
            if names.len() <= id {
                names.resize(id + 1, None);
            }
            *names.get_mut(id)? = Some(name);
            if !self.take(',') {
                self.take('}').then_some(())?;
                break;
            }
        }
        names.into_iter().collect()
    }

    fn list(&mut self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        while !self.take(']') {
            names.push(self.text()?);
            if names.len() > MAX_CLASSES {
                return None;
            }
            if !self.take(',') {
                self.take(']').then_some(())?;
                break;
            }
        }
        Some(names)
    }

    /// Digits, bare or quoted.
    fn key(&mut self) -> Option<String> {
        self.skip_space();
        if self.rest.starts_with(['"', '\'']) {
            return self.text();
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(digits.to_owned())
    }

    /// A quoted text; a backslash takes the next character as it is.
    fn text(&mut self) -> Option<String> {
        self.skip_space();
        let quote = self.next().filter(|c| ['"', '\''].contains(c))?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '\\' => text.push(self.next()?),
                c if c == quote => return Some(text),
                c => text.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_as_exporters_write_it() {
        for (text, names) in [
            ("{0: 'person', 1: 'traffic light'}", Some(vec!["person", "traffic light"])),
            (r#"{"1": "b", "0": "a"}"#, Some(vec!["a", "b"])),
            (r#"["a", 'it\'s', ]"#, Some(vec!["a", "it's"])),
            (r#"{0: "driver's"}"#, Some(vec!["driver's"])),
            ("{}", Some(vec![])),
            ("{0: 'a', 2: 'c'}", None),
            ("{0: 'a'", None),
            ("{0 'a'}", None),
            ("{99999999999: 'a'}", None),
            ("{4000000000: 'a'}", None),
            ("person", None),
            ("[1, 2]", None),
            ("['a'] x", None),
            ("", None),
        ] {
            let expected = names.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(of_metadata(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_without_blanks() {
        assert_eq!(of_lines("red\r\n\n  \nlight green"), ["red", "light green"]);
    }
}
