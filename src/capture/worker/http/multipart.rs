//! `multipart/x-mixed-replace`: parts one after the other, each a picture that replaces the one before.

use crate::error::{Error, Kind, Result};
use std::io::{BufRead, BufReader, Read};

/// Longest header line of a part, bytes. Cameras write some tens.
const MAX_LINE_BYTES: u64 = 1024;

/// Most header lines of a part, and most lines between parts.
const MAX_LINES: usize = 64;

/// Largest part: more than any camera's JPEG.
pub(super) const MAX_PART_BYTES: usize = 16 * 1024 * 1024;

/// Reads parts from a stream.
pub(super) struct Parts<R> {
    stream: BufReader<R>,
    /// Without the dashes before and after: cameras disagree about them.
    boundary: Vec<u8>,
    line: Vec<u8>,
}

/// The `boundary` parameter of a content type, dashes and quotes taken off.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let parameters = content_type.split(';').skip(1);
    let (_, value) = parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    let value = value.trim().trim_matches('"').trim_matches('-');
    (!value.is_empty() && value.len() < 128).then_some(value)
}

impl<R: Read> Parts<R> {
    pub(super) fn new(stream: R, boundary: &str) -> Self {
        Parts { stream: BufReader::new(stream), boundary: boundary.as_bytes().to_vec(), line: Vec::new() }
    }

    /// The next part into `out`. Its headers beyond the length are not looked at: what is no picture, the decoder refuses.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.skip_to_boundary()?;
        match self.headers()? {
            Some(bytes) => self.fixed(bytes, out),
            None => self.until_boundary(out),
        }
    }

    /// Reads a line into `line`, its end taken off.
    fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        let got = (&mut self.stream).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line).map_err(lost)?;
        if got == 0 {
            return Err(Error::new(Kind::SourceLost, "the stream has ended"));
        }
        if self.line.last() != Some(&b'\n') {
            return Err(malformed());
        }
        let text = self.line.trim_ascii_end().len();
        self.line.truncate(text);
        Ok(())
    }

    fn at_boundary(&self) -> bool {
        is_boundary(&self.line, &self.boundary)
    }

    fn skip_to_boundary(&mut self) -> Result<()> {
        for _ in 0..MAX_LINES {
            // What `until_boundary` found counts too.
            if self.at_boundary() {
                self.line.clear();
                return Ok(());
            }
            self.read_line()?;
        }
        Err(malformed())
    }

    /// Passes the headers; the length that they give.
    fn headers(&mut self) -> Result<Option<usize>> {
        let mut length = None;
        for _ in 0..MAX_LINES {
            self.read_line()?;
            if self.line.is_empty() {
                return Ok(length);
            }
            let text = String::from_utf8_lossy(&self.line);
            if let Some((name, value)) = text.split_once(':')
                && name.trim().eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse().map_err(|_| malformed())?);
            }
        }
        Err(malformed())
    }

    fn fixed(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<()> {
        if bytes > MAX_PART_BYTES {
            return Err(too_large());
        }
        out.resize(bytes, 0);
        self.stream.read_exact(out).map_err(lost)
    }

    /// A part without a length goes on until a line that is the boundary.
    fn until_boundary(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let mut line_begins = 0;
        loop {
            let room = MAX_PART_BYTES.saturating_sub(out.len());
            let got = (&mut self.stream).take(room as u64).read_until(b'\n', out).map_err(lost)?;
            if got == 0 {
                return Err(if room == 0 { too_large() } else { Error::new(Kind::SourceLost, "the stream has ended") });
            }
            let line = out.get(line_begins..).unwrap_or_default();
            if is_boundary(line.trim_ascii_end(), &self.boundary) {
                self.line = line.trim_ascii_end().to_vec();
                // The line end before the boundary belongs to the boundary.
                let mut end = line_begins;
                for byte in [b'\n', b'\r'] {
                    end -= usize::from(end > 0 && out.get(end - 1) == Some(&byte));
                }
                out.truncate(end);
                return Ok(());
            }
            line_begins = out.len();
        }
    }
}

/// Whether a line is the boundary, with the dashes that belong before and after it.
fn is_boundary(line: &[u8], boundary: &[u8]) -> bool {
    let Some(mut rest) = line.strip_prefix(b"--") else { return false };
    while let [b'-', after @ ..] = rest {
        rest = after;
    }
    while let [before @ .., b'-'] = rest {
        rest = before;
    }
    rest == boundary
}

fn malformed() -> Error {
    Error::new(Kind::SourceLost, "the server sends something else than pictures one after the other")
}

fn too_large() -> Error {
    Error::new(Kind::SourceLost, "the server sends a picture of more than 16 MiB")
}

fn lost(cause: std::io::Error) -> Error {
    let silent = cause.kind() == std::io::ErrorKind::TimedOut;
    Error::new(if silent { Kind::SourceStalled } else { Kind::SourceLost }, "the connection broke").because(cause)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parts(stream: &[u8]) -> (Vec<Vec<u8>>, Error) {
        let mut parts = Parts::new(stream, "frame");
        let mut out = Vec::new();
        let mut seen = Vec::new();
        loop {
            match parts.next(&mut out) {
                Ok(()) => seen.push(out.clone()),
                Err(error) => return (seen, error),
            }
        }
    }

    #[test]
    fn boundaries_as_cameras_write_them() {
        assert_eq!(boundary("multipart/x-mixed-replace; boundary=frame"), Some("frame"));
        assert_eq!(boundary("multipart/x-mixed-replace;boundary=\"--frame\"; charset=x"), Some("frame"));
        assert_eq!(boundary("multipart/x-mixed-replace"), None);
        assert_eq!(boundary("multipart/x-mixed-replace; boundary=--"), None);
    }

    #[test]
    fn parts_with_and_without_length() {
        let stream = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\na\nb\nc\r\n\r\n----frame\r\n\r\nde\nf\r\n--frame\r\n\r\ng\r\n--frame--\r\n";
        let (seen, error) = parts(stream);
        assert_eq!(seen, [&b"a\nb\nc"[..], b"de\nf", b"g"]);
        assert_eq!(error.message(), "the stream has ended");
    }

    #[test]
    fn limits_hold() {
        let (seen, error) = parts(b"--frame\r\nContent-Length: 99999999999\r\n\r\n");
        assert_eq!((seen.len(), error.kind()), (0, Kind::SourceLost));
        assert!(error.message().contains("16 MiB"));
        let endless_line = [b"--frame\r\nX: ".to_vec(), vec![b'y'; 5000]].concat();
        assert!(parts(&endless_line).1.message().contains("something else"));
        let endless_headers = [b"--frame\r\n".to_vec(), b"A: b\r\n".repeat(1000)].concat();
        assert!(parts(&endless_headers).1.message().contains("something else"));
        assert!(parts(&b"\r\n".repeat(1000)).1.message().contains("something else"));
    }
}
