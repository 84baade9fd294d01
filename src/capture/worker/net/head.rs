//! Heads of messages as cameras write them: RTSP and HTTP, with whatever line ends, spaces and lines that are
//! no fields.

/// Longest head, bytes. Honest ones stay below 2 KiB, with long digest challenges below 4.
pub(in crate::capture::worker) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most fields that are kept of a head.
const MAX_FIELDS: usize = 128;

/// A status or request line and the fields after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::capture::worker) struct Head {
    /// `RTSP/1.0 200 OK`, `HTTP/1.1 200`, `ICY 200 OK`, `OPTIONS * RTSP/1.0`.
    pub(in crate::capture::worker) line: String,
    /// Names as written, values without the spaces around them.
    pub(in crate::capture::worker) fields: Vec<(String, String)>,
}

/// The head has no end within [`MAX_HEAD_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture::worker) struct TooLong;

impl Head {
    /// The value of the first field of that name, in whatever case.
    pub(in crate::capture::worker) fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The values of all fields of that name.
    pub(in crate::capture::worker) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The code of a response; `None`: this is no response.
    pub(in crate::capture::worker) fn status(&self) -> Option<u16> {
        let (protocol, rest) = self.line.split_once(' ')?;
        let known = ["RTSP/", "HTTP/", "ICY"].iter().any(|begin| {
            protocol.get(..begin.len()).is_some_and(|protocol| protocol.eq_ignore_ascii_case(begin))
        });
        let code = rest.split_ascii_whitespace().next()?;
        (known && code.len() == 3).then(|| code.parse().ok())?
    }

    /// Status and reason, for messages: `404 Not Found`.
    pub(in crate::capture::worker) fn reason(&self) -> String {
        let words = self.line.split_once(' ').map_or("", |(_, rest)| rest.trim());
        words.chars().take(64).collect()
    }

    /// Bytes of the body that follow; 0 where nothing sensible is said.
    pub(in crate::capture::worker) fn content_length(&self) -> Option<u64> {
        let digits: String = self.get("content-length")?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }
}

/// The head that `bytes` begin with and its length, blank line included; `None`: it has not come whole.
pub(in crate::capture::worker) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, TooLong> {
    let mut head = Head::default();
    let mut at = 0;
    let looked_at = bytes.get(..MAX_HEAD_BYTES).unwrap_or(bytes);
    while let Some(length) = looked_at.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
    {
        let line = looked_at.get(at..at + length).unwrap_or_default();
        at += length + 1;
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if text.is_empty() {
            match head.line.is_empty() {
                // Line ends before a message mean nothing.
                true => continue,
                false => return Ok(Some((head, at))),
            }
        }
        if head.line.is_empty() {
            head.line = text.trim_start().to_owned();
        } else if let (true, Some((_, value))) = (text.starts_with([' ', '\t']), head.fields.last_mut()) {
            value.push(' ');
            value.push_str(text.trim_start());
        } else if let Some((name, value)) = text.split_once(':')
            && head.fields.len() < MAX_FIELDS
        {
            head.fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    if bytes.len() >= MAX_HEAD_BYTES { Err(TooLong) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn heads_with_any_line_ends_and_lines_that_are_no_fields() {
        let bytes = b"\r\nRTSP/1.0 200 OK\nCSeq:   7 \r\nno field at all\nX: a\r\n b\r\n\r\nbody";
        let (head, length) = parse(bytes).unwrap().unwrap();
        assert_eq!((head.status(), head.get("cseq"), head.get("x")), (Some(200), Some("7"), Some("a b")));
        assert_eq!(&bytes[length..], b"body");
        assert_eq!(head.fields.len(), 2);
    }

    #[test]
    fn a_head_that_has_not_come_whole_or_never_ends() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nA: b\r\n"), Ok(None));
        assert_eq!(parse(&[b'x'; MAX_HEAD_BYTES]), Err(TooLong));
        assert_eq!(parse(&b"A: b\n".repeat(MAX_HEAD_BYTES)), Err(TooLong));
        assert_eq!(parse(&b"\r\n".repeat(MAX_HEAD_BYTES)), Err(TooLong));
    }

    #[test]
    fn lengths_with_a_unit_and_status_lines_of_all_kinds() {
        let head = |line: &str, length: &str| Head {
            line: line.into(),
            fields: vec![("content-Length".into(), length.into())],
        };
        assert_eq!(head("HTTP/1.1 200", "77 bytes").content_length(), Some(77));
        assert_eq!(head("HTTP/1.1 200", "-1").content_length(), None);
        for (line, status) in [
            ("HTTP/1.1 200", Some(200)),
            ("ICY 200 OK", Some(200)),
            ("rtsp/1.0  401 x", Some(401)),
            ("OPTIONS * RTSP/1.0", None),
        ] {
            assert_eq!(head(line, "").status(), status, "{line}");
        }
    }
}
