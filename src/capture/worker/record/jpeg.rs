//! What stays of a body that has JPEG pictures in it: the text between them, and their headers.

/// Longest text between two pictures that is kept, bytes: the head of a part has 100, a page that says what is
/// wrong has more.
const MAX_TEXT_BYTES: u32 = 4096;

/// Bytes that are kept of what applications and people put into a picture (APPn, COM): what it is. Cameras
/// have small pictures in there.
const COMMENT_BYTES: u16 = 16;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// What a byte is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Words between two pictures.
    Text,
    /// The headers of a picture.
    Header,
    /// The picture, or what cannot be told.
    Content,
}

/// Goes through a body byte by byte.
#[derive(Debug)]
pub(super) struct Sieve {
    state: State,
    /// So many bytes of text since the last picture; `None`: it is no text.
    text: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two pictures, or before the first.
    Between,
    /// The same, after a byte that a picture could begin with.
    Perhaps,
    /// Where a marker belongs.
    Marker,
    /// At the upper byte of a segment's length.
    Length(u8),
    /// At the lower one.
    Low(u8, u8),
    /// So many bytes of a segment are left, and so many of them are kept.
    Segment(u8, u16, u16),
    /// In the data of a scan.
    Scan,
    /// The same, after a byte that markers begin with.
    ScanMarker,
}

impl Default for Sieve {
    fn default() -> Sieve {
        Sieve { state: State::Between, text: Some(0) }
    }
}

impl Sieve {
    /// Runs of the same, in their order.
    pub(super) fn runs<'a>(&mut self, bytes: &'a [u8], mut run: impl FnMut(Part, &'a [u8])) {
        let (mut begin, mut present) = (0, None);
        for (at, byte) in bytes.iter().enumerate() {
            let part = self.next(*byte);
            if let Some(before) = present.replace(part)
                && before != part
            {
                run(before, bytes.get(begin..at).unwrap_or_default());
                begin = at;
            }
        }
        if let Some(part) = present {
            run(part, bytes.get(begin..).unwrap_or_default());
        }
    }

    fn next(&mut self, byte: u8) -> Part {
        let (state, part) = match (self.state, byte) {
            (State::Between | State::Perhaps, 0xff) => (State::Perhaps, Part::Header),
            (State::Perhaps, START_OF_IMAGE) => (State::Marker, Part::Header),
            (State::Between | State::Perhaps, _) => (State::Between, self.between(byte)),
            (State::Marker, END_OF_IMAGE) => (State::Between, Part::Header),
            (State::Marker, 0x01 | 0xd0..=0xd8 | 0xff) => (State::Marker, Part::Header),
            (State::Marker, 0xc0..) => (State::Length(byte), Part::Header),
            (State::Length(kind), high) => (State::Low(kind, high), Part::Header),
            (State::Low(kind, high), low) => {
                let left = u16::from_be_bytes([high, low]).saturating_sub(2);
                let is_comment = matches!(kind, 0xe0..=0xef | 0xfe);
                (segment(kind, left, if is_comment { left.min(COMMENT_BYTES) } else { left }), Part::Header)
            }
            (State::Segment(kind, left, 0), _) => (segment(kind, left - 1, 0), Part::Content),
            (State::Segment(kind, left, kept), _) => (segment(kind, left - 1, kept - 1), Part::Header),
            (State::Scan | State::ScanMarker, 0xff) => (State::ScanMarker, Part::Content),
            (State::ScanMarker, END_OF_IMAGE) => (State::Between, Part::Header),
            (State::ScanMarker, START_OF_IMAGE) => (State::Marker, Part::Header),
            // Tables before the next scan of a progressive picture, and the scan itself.
            (State::ScanMarker, 0xc4 | START_OF_SCAN | 0xdb..=0xdd) => (State::Length(byte), Part::Header),
            (State::Scan | State::ScanMarker | State::Marker, _) => (State::Scan, Part::Content),
        };
        if state == State::Between && self.state != State::Between && self.state != State::Perhaps {
            self.text = Some(0);
        }
        self.state = state;
        part
    }

    fn between(&mut self, byte: u8) -> Part {
        let is_text = byte >= b' ' || matches!(byte, b'\r' | b'\n' | b'\t');
        let is_after_all = self.state == State::Perhaps || !is_text;
        self.text =
            self.text.filter(|length| *length < MAX_TEXT_BYTES && !is_after_all).map(|length| length + 1);
        if self.text.is_some() { Part::Text } else { Part::Content }
    }
}

/// A segment of which so much is left: over, where nothing is.
fn segment(kind: u8, left: u16, kept: u16) -> State {
    match left {
        0 if kind == START_OF_SCAN => State::Scan,
        0 => State::Marker,
        _ => State::Segment(kind, left, kept),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::asset;

    fn split(bytes: &[u8], size: usize) -> [Vec<u8>; 3] {
        let (mut sieve, mut found) = (Sieve::default(), [Vec::new(), Vec::new(), Vec::new()]);
        for piece in bytes.chunks(size) {
            sieve.runs(piece, |part, run| found[part as usize].extend_from_slice(run));
        }
        found
    }

    #[test]
    fn parts_of_a_stream_however_it_comes_in_pieces() {
        let jpeg = std::fs::read(asset("clips/colour.jpg")).unwrap();
        let head = b"--x\r\nContent-Type: image/jpeg\r\n\r\n";
        let stream = [&head[..], &jpeg, b"\r\n", head, &jpeg].concat();
        let whole = split(&stream, stream.len());
        for size in [1, 7, 64] {
            assert_eq!(split(&stream, size), whole);
        }
        let [text, headers, content] = whole;
        assert_eq!(text, [&head[..], b"\r\n", head].concat());
        let scan = jpeg.windows(2).position(|marker| marker == [0xff, START_OF_SCAN]).unwrap();
        // The scan begins behind its own header; of its end one byte is taken for data.
        let begin = scan + 2 + usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]));
        assert_eq!(headers.len(), 2 * (begin + 1));
        assert_eq!(content.len(), 2 * (jpeg.len() - begin - 1));
    }

    #[test]
    fn what_applications_put_into_a_picture_and_what_is_no_text_goes() {
        let thumbnail = [&[0xff, 0xd8, 0xff, 0xe1, 1, 0], &[7; 254][..], &[0xff, 0xd9]].concat();
        let [_, headers, content] = split(&thumbnail, 1000);
        assert_eq!((headers.len(), content.len()), (6 + usize::from(COMMENT_BYTES) + 2, 254 - 16));
        let [text, _, content] = split(b"<html>\x89PNG and no more text", 1000);
        assert_eq!((text.as_slice(), content.len()), (&b"<html>\x89PNG and no more text"[..], 0));
        let [text, _, content] = split(b"RIFF\0\0\x10 and no more text", 1000);
        assert_eq!((text.as_slice(), content.len()), (&b"RIFF"[..], 20));
        let [text, _, content] = split(&[b'x'; 5000], 1000);
        assert_eq!((text.len(), content.len()), (4096, 904));
    }
}
