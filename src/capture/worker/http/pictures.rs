//! JPEG pictures out of a stream of bytes, by their own markers (ITU-T T.81 Annex B).
//!
//! What stands between pictures (boundaries and headers of parts, sounds, line ends, nothing) is not looked
//! at. A picture that is cut short ends where the next one begins.

use crate::error::{Error, Kind, Result};

/// Largest picture, bytes: more than any camera's JPEG.
pub(super) const MAX_PICTURE_BYTES: usize = 16 * 1024 * 1024;

/// Most bytes between two pictures, or before the first: parts of sound and text, and the head of a part.
const MAX_BETWEEN_BYTES: usize = 1024 * 1024;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Collects bytes until they are a JPEG picture.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// What came; while a picture is read, it begins with it.
    bytes: Vec<u8>,
    state: State,
    /// Bytes that were passed over since the last picture.
    between: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For the beginning of a picture.
    #[default]
    Searching,
    /// At a marker, which stands there.
    Marker(usize),
    /// In the data of a scan; so far has been looked.
    Scan(usize),
}

/// What a look at the bytes has found.
enum Step {
    More,
    Next(State),
    /// The picture has so many bytes, and needs its end put to it or not.
    Picture(usize, bool),
    /// This is no picture.
    None,
}

impl Pictures {
    /// Where bytes are put.
    pub(super) fn input(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether the beginning of a picture has been seen that has not been given out.
    pub(super) fn has_begun(&mut self) -> bool {
        if self.state == State::Searching {
            self.search();
        }
        self.state != State::Searching
    }

    /// The next whole picture; `None`: more must come.
    ///
    /// Errors: `SourceUnsupported`: far and wide there is no picture; `SourceLost`: one is too large.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let step = match self.state {
                State::Searching => match self.search() {
                    true => continue,
                    false if self.between > MAX_BETWEEN_BYTES => {
                        return Err(Error::new(
                            Kind::SourceUnsupported,
                            "the server sends something else than pictures",
                        ));
                    }
                    false => return Ok(None),
                },
                State::Marker(at) => self.marker(at),
                State::Scan(at) => self.scan(at),
            };
            match step {
                Step::More if self.bytes.len() > MAX_PICTURE_BYTES => {
                    return Err(Error::new(
                        Kind::SourceLost,
                        "the server sends a picture of more than 16 MiB",
                    ));
                }
                Step::More => return Ok(None),
                Step::Next(state) => self.state = state,
                Step::Picture(length, is_cut) => return Ok(Some(self.take(length, is_cut))),
                Step::None => {
                    // Its two bytes are passed over.
                    self.bytes.drain(..2.min(self.bytes.len()));
                    self.between += 2;
                    self.state = State::Searching;
                }
            }
        }
    }

    /// The picture that had begun when the stream ended, if its data had.
    pub(super) fn last(&mut self) -> Option<Vec<u8>> {
        match self.state {
            State::Scan(_) => Some(self.take(self.bytes.len(), true)),
            _ => None,
        }
    }

    fn take(&mut self, length: usize, is_cut: bool) -> Vec<u8> {
        let rest = self.bytes.get(length..).unwrap_or_default().to_vec();
        let mut picture = std::mem::replace(&mut self.bytes, rest);
        picture.truncate(length);
        if is_cut {
            picture.extend_from_slice(&[0xff, END_OF_IMAGE]);
        }
        self.state = State::Searching;
        self.between = 0;
        picture
    }

    /// Goes to the beginning of a picture.
    fn search(&mut self) -> bool {
        let found = self.bytes.windows(3).position(|bytes| bytes == [0xff, START_OF_IMAGE, 0xff]);
        let passed = found.unwrap_or(self.bytes.len().saturating_sub(2));
        self.bytes.drain(..passed);
        self.between += passed;
        if found.is_some() {
            self.state = State::Marker(2);
        }
        found.is_some()
    }

    fn marker(&self, at: usize) -> Step {
        match self.bytes.get(at..).unwrap_or_default() {
            [] | [0xff] => Step::More,
            // Any number of these may stand before a marker.
            [0xff, 0xff, ..] => Step::Next(State::Marker(at + 1)),
            [0xff, END_OF_IMAGE, ..] => Step::None,
            [0xff, 0x01 | 0xd0..=0xd7, ..] => Step::Next(State::Marker(at + 2)),
            [0xff, 0xc0..=0xfe, rest @ ..] if !matches!(self.bytes.get(at + 1), Some(&START_OF_IMAGE)) => {
                match rest {
                    [] | [_] => Step::More,
                    [l1, l2, ..] => {
                        let length = usize::from(u16::from_be_bytes([*l1, *l2]));
                        let after = at + 2 + length;
                        match self.bytes.get(at + 1) {
                            _ if length < 2 => Step::None,
                            Some(&START_OF_SCAN) => Step::Next(State::Scan(after)),
                            _ => Step::Next(State::Marker(after)),
                        }
                    }
                }
            }
            _ => Step::None,
        }
    }

    fn scan(&self, from: usize) -> Step {
        let mut at = from;
        loop {
            let Some(found) =
                self.bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff))
            else {
                return if self.bytes.len() > from {
                    Step::Next(State::Scan(self.bytes.len()))
                } else {
                    Step::More
                };
            };
            at += found;
            match self.bytes.get(at + 1..) {
                None | Some([]) if at > from => return Step::Next(State::Scan(at)),
                None | Some([]) => return Step::More,
                Some([END_OF_IMAGE, ..]) => return Step::Picture(at + 2, false),
                // The next picture has begun; this one was cut short.
                Some([START_OF_IMAGE, 0xff, ..]) => return Step::Picture(at, true),
                Some([START_OF_IMAGE]) => {
                    return if at > from { Step::Next(State::Scan(at)) } else { Step::More };
                }
                // Tables before the next scan of a progressive picture, and the scan itself.
                Some([0xc4 | START_OF_SCAN | 0xdb | 0xdc | 0xdd | 0xfe, ..]) => {
                    return Step::Next(State::Marker(at));
                }
                // Data, a restart, or what no rule allows here: the decoder may make of it what it can.
                Some(_) => at += 1,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::asset;

    fn jpeg() -> Vec<u8> {
        std::fs::read(asset("clips/colour.jpg")).unwrap()
    }

    /// All pictures of a stream that comes in pieces of this size.
    fn all(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<()>) {
        let (mut pictures, mut seen) = (Pictures::default(), Vec::new());
        for piece in stream.chunks(piece) {
            pictures.input().extend_from_slice(piece);
            loop {
                match pictures.next() {
                    Ok(Some(picture)) => seen.push(picture),
                    Ok(None) => break,
                    Err(error) => return (seen, Err(error)),
                }
            }
        }
        seen.extend(pictures.last());
        (seen, Ok(()))
    }

    #[test]
    fn pictures_whatever_stands_between_them() {
        let jpeg = jpeg();
        for between in [
            &b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\n"[..],
            b"",
            b"\r\n--frameContent-Type: image/jpeg\r\nno colon\r\nContent-Length: 0\r\n\r\n",
            &[0xff, 0xd8, 0, 0xff, 0xd8, 0xff, 0xd9, 0xff],
            &[0x7f, 0xff].repeat(5000),
        ] {
            let stream = [between, &jpeg, between, &jpeg, between].concat();
            for piece in [1, 7, stream.len()] {
                let (seen, ended) = all(&stream, piece);
                assert!(ended.is_ok());
                assert!(
                    seen == [&jpeg[..], &jpeg],
                    "{} pictures, pieces of {piece}, {between:?}",
                    seen.len()
                );
            }
        }
    }

    #[test]
    fn a_picture_that_is_cut_ends_where_the_next_begins() {
        let jpeg = jpeg();
        let cut = &jpeg[..jpeg.len() - 40];
        let (seen, _) = all(&[cut, b"\r\n--frame\r\n\r\n", &jpeg, cut].concat(), 100);
        assert_eq!(seen.len(), 3);
        assert!(seen[0].starts_with(cut) && seen[0].ends_with(&[0xff, 0xd9]));
        assert!(seen[1] == jpeg && seen[2] == [cut, &[0xff, 0xd9]].concat());
        // Cut within its headers it is none.
        assert_eq!(all(&jpeg[..100], 10).0.len(), 0);
    }

    #[test]
    fn limits_hold() {
        let nothing = all(&vec![b'x'; MAX_BETWEEN_BYTES + 10], 4096).1.unwrap_err();
        assert_eq!(nothing.kind(), Kind::SourceUnsupported);
        let jpeg = jpeg();
        let endless = [&jpeg[..jpeg.len() - 2], &vec![0; MAX_PICTURE_BYTES]].concat();
        assert!(all(&endless, 1 << 20).1.unwrap_err().message().contains("16 MiB"));
        let headers = [
            &[0xff, 0xd8][..],
            &[0xff, 0xe0, 0xff, 0xfe].iter().chain(&[0; 65532]).copied().collect::<Vec<_>>().repeat(300),
        ]
        .concat();
        assert!(all(&headers, 1 << 20).1.unwrap_err().message().contains("16 MiB"));
    }

    #[test]
    fn any_bytes_are_pictures_or_none() {
        let mut state = 1_u32;
        let noise: Vec<u8> = (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Many of the bytes that mean something.
                [0xff, 0xd8, 0xd9, 0xda, 0xc4, 0, 2, (state >> 16) as u8][(state >> 28) as usize % 8]
            })
            .collect();
        let (seen, _) = all(&noise, 999);
        assert!(seen.iter().map(Vec::len).sum::<usize>() <= noise.len() + 2 * seen.len());
    }
}
