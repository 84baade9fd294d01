//! Pictures one after the other without a container: `.mjpeg`, a single `.jpg`, and what a camera's multipart
//! answer looks like when it is saved. Whatever lies between the pictures is passed.

use super::medium::{MAX_COUNTED_BYTES, MAX_PACKET_BYTES, Medium, Rate};
use crate::capture::worker::decode::{AccessUnit, Codec, jpeg_size};
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Frame rate, which nobody says: what ffmpeg assumes for raw streams.
const ASSUMED_FPS: f64 = 25.0;

const START: [u8; 3] = [0xff, 0xd8, 0xff];
const END_MARKER: u8 = 0xd9;

/// Whether a file begins with a picture, or with a line of dashes and the words before one.
pub(super) fn begins(head: &[u8]) -> bool {
    const TYPE: &[u8] = b"image/jpeg";
    let lines = head.trim_ascii_start();
    let is_multipart =
        || lines.starts_with(b"--") && head.windows(TYPE.len()).any(|word| word.eq_ignore_ascii_case(TYPE));
    head.starts_with(&START) || is_multipart()
}

/// An open file of pictures.
pub(super) struct Jpegs {
    pictures: Pictures,
    properties: SourceProperties,
}

impl Jpegs {
    pub(super) fn open(medium: Medium) -> Result<Jpegs> {
        let mut pictures = Pictures { medium, buffer: Vec::new(), picture: 0, at: 0 };
        let (mut frames, mut size) = (0_u64, None);
        while pictures.at < MAX_COUNTED_BYTES && pictures.advance()? {
            frames += 1;
            size = size.or_else(|| jpeg_size(pictures.current()));
        }
        let (read, all) = (pictures.at, pictures.medium.bytes());
        if read < all && read > 0 {
            frames = (frames as f64 * all as f64 / read as f64) as u64;
        }
        let (width, height) =
            size.ok_or_else(|| Error::new(Kind::SourceConnection, "no picture of the JPEG file is whole"))?;
        pictures.rewind();
        let properties = pictures.medium.properties(width, height, frames, Rate(ASSUMED_FPS));
        Ok(Jpegs { pictures, properties })
    }
}

impl Source for Jpegs {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.pictures.advance()? {
            return Ok(Grab::End);
        }
        Ok(Grab::Packet(Codec::Jpeg, AccessUnit { data: self.pictures.current(), shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        self.pictures.rewind();
        Ok(())
    }
}

/// Cuts a file into pictures.
struct Pictures {
    medium: Medium,
    /// Part of the file that is looked at; begins with the present picture.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are the present picture.
    picture: usize,
    /// Byte offset in the file of the end of `buffer`.
    at: u64,
}

impl Pictures {
    fn rewind(&mut self) {
        self.buffer.clear();
        (self.picture, self.at) = (0, 0);
    }

    fn current(&self) -> &[u8] {
        self.buffer.get(..self.picture).unwrap_or_default()
    }

    /// Goes to the next picture; a last one that is cut short is given as it is. False: there is none.
    fn advance(&mut self) -> Result<bool> {
        self.buffer.drain(..self.picture.min(self.buffer.len()));
        self.picture = 0;
        while !self.buffer.starts_with(&START) {
            let found = self.buffer.windows(START.len()).position(|window| window == START);
            // The last two bytes may be the beginning of one.
            let passed = found.unwrap_or(self.buffer.len().saturating_sub(START.len() - 1));
            self.buffer.drain(..passed);
            if found.is_none() && !self.read_on()? {
                return Ok(false);
            }
        }
        let mut ends = Ends::default();
        loop {
            if let Some(end) = ends.find(&self.buffer) {
                self.picture = end;
                return Ok(true);
            }
            let too_large = u64::try_from(self.buffer.len()).is_ok_and(|bytes| bytes > MAX_PACKET_BYTES);
            if too_large || !self.read_on()? {
                self.picture = self.buffer.len();
                return Ok(true);
            }
        }
    }

    fn read_on(&mut self) -> Result<bool> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK_BYTES, 0);
        let got = self.medium.read_at(self.at, self.buffer.get_mut(filled..).unwrap_or_default())?;
        self.buffer.truncate(filled + got);
        self.at += got as u64;
        Ok(got > 0)
    }
}

/// Where a picture ends. Segments are passed by their length: they may hold a small picture of their own.
#[derive(Debug, Default)]
struct Ends {
    /// Everything before has been looked at.
    at: usize,
    in_entropy_coded: bool,
}

impl Ends {
    /// The byte after the picture that `data` begins with; `None`: not in there yet.
    fn find(&mut self, data: &[u8]) -> Option<usize> {
        const SCAN: u8 = 0xda;
        self.at = self.at.max(2);
        loop {
            if self.in_entropy_coded {
                // Up to the next marker; a byte 0xff of data has a zero after it, and restarts belong to the
                // data.
                let offset = data.get(self.at..)?.iter().position(|byte| *byte == 0xff);
                self.at += offset.unwrap_or(data.len() - self.at);
                match *data.get(self.at + 1)? {
                    0 | 0xd0..=0xd7 => self.at += 2,
                    0xff => self.at += 1,
                    _ => self.in_entropy_coded = false,
                }
                continue;
            }
            match *data.get(self.at..)?.first_chunk::<2>()? {
                [0xff, END_MARKER] => return Some(self.at + 2),
                // The next picture begins: this one was cut short.
                [0xff, 0xd8] => return Some(self.at),
                [0xff, 0xff] => self.at += 1,
                [0xff, 1 | 0xd0..=0xd7] => self.at += 2,
                [0xff, kind] => {
                    let length = usize::from(u16::from_be_bytes(*data.get(self.at + 2..)?.first_chunk()?));
                    self.at += 2 + length.max(2);
                    self.in_entropy_coded = kind == SCAN;
                }
                // No marker where one must be: damage, and the decoder's to judge.
                _ => self.in_entropy_coded = true,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn end(data: &[u8]) -> Option<usize> {
        let whole = Ends::default().find(data);
        // However the bytes come.
        let mut ends = Ends::default();
        assert_eq!((0..=data.len()).find_map(|length| ends.find(&data[..length])), whole);
        whole
    }

    #[test]
    fn the_end_is_none_that_stands_in_a_segment_or_in_data() {
        let picture = [
            &[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9][..],
            &[0xff, 0xda, 0, 3, 1, 7, 0xff, 0, 0xd9, 0xff, 0xd0, 8, 0xff, 0xff, 0xd9, 1, 2],
        ]
        .concat();
        assert_eq!(end(&picture), Some(picture.len() - 2));
        assert_eq!(end(&picture[..picture.len() - 3]), None);
        // Cut short, and followed by another.
        assert_eq!(end(&[0xff, 0xd8, 0xff, 0xda, 0, 2, 5, 6, 0xff, 0xd8, 0xff]), Some(8));
    }

    #[test]
    fn saved_answers_of_cameras_are_known() {
        assert!(begins(b"\r\n--frame\r\nContent-type: Image/JPEG\r\n\r\n"));
        assert!(begins(&[0xff, 0xd8, 0xff, 0xe0]));
        assert!(!begins(b"--frame\r\nContent-Type: text/plain\r\n"));
    }
}
