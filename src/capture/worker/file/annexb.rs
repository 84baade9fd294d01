//! Raw streams: `.h264` and `.h265` files in Annex B form, without a container.

use super::{Medium, Rate, stream_facts};
use crate::capture::worker::decode::annexb::{h264_type, h265_type, is_key, nal_units, start_code};
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::file::medium::MAX_PACKET_BYTES;
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// As much of a file is read to count its frames; of a longer one the rest is estimated. A second's work.
const MAX_COUNTED_BYTES: u64 = 256 * 1024 * 1024;

/// Frame rate where the stream says none: what ffmpeg assumes for raw streams.
const ASSUMED_FPS: f64 = 25.0;

/// An open raw stream.
pub(super) struct RawStream {
    units: Units,
    codec: Codec,
    properties: SourceProperties,
}

/// Which codec a stream beginning with a start code is in, by its first parameter set.
pub(super) fn codec_of(head: &[u8]) -> Option<Codec> {
    if !head.starts_with(&[0, 0, 1]) && !head.starts_with(&[0, 0, 0, 1]) {
        return None;
    }
    // An H.265 video or sequence parameter set (0x40, 0x42) would be an H.264 type 0 or 2, which do not begin streams.
    nal_units(head).find_map(|unit| match (h264_type(unit), h265_type(unit), unit.get(1)) {
        (_, 32 | 33 | 35, Some(1)) => Some(Codec::H265),
        (7 | 9, _, _) => Some(Codec::H264),
        _ => None,
    })
}

impl RawStream {
    pub(super) fn open(medium: Medium, codec: Codec) -> Result<RawStream> {
        let facts = stream_facts(codec, &medium.head()?);
        let facts = facts.ok_or_else(|| Error::new(Kind::SourceConnection, "the stream begins without its parameters"))?;
        let mut units = Units::new(medium, codec);
        let mut frames = 0_u64;
        while units.at < MAX_COUNTED_BYTES && units.advance()? {
            frames += 1;
        }
        let (read, all) = (units.at, units.medium.bytes());
        if read < all && read > 0 {
            frames = (frames as f64 * all as f64 / read as f64) as u64;
        }
        units.rewind();
        let rate = Rate(facts.fps.unwrap_or(ASSUMED_FPS));
        let properties = units.medium.properties(facts.width, facts.height, Some(frames), rate);
        Ok(RawStream { units, codec, properties })
    }
}

impl Source for RawStream {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.units.advance()? {
            return Ok(Grab::End);
        }
        let data = self.units.current();
        Ok(Grab::Packet(self.codec, AccessUnit { data, key: is_key(self.codec, data), shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        self.units.rewind();
        Ok(())
    }
}

/// Cuts a stream into access units.
struct Units {
    medium: Medium,
    codec: Codec,
    /// Part of the file that is looked at; begins with the present access unit.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are the present access unit.
    unit: usize,
    /// Byte offset in the file of the end of `buffer`.
    at: u64,
}

impl Units {
    fn new(medium: Medium, codec: Codec) -> Self {
        Units { medium, codec, buffer: Vec::new(), unit: 0, at: 0 }
    }

    fn rewind(&mut self) {
        self.buffer.clear();
        (self.unit, self.at) = (0, 0);
    }

    fn current(&self) -> &[u8] {
        self.buffer.get(..self.unit).unwrap_or_default()
    }

    /// Goes to the next access unit. False: there is none.
    fn advance(&mut self) -> Result<bool> {
        self.buffer.drain(..self.unit.min(self.buffer.len()));
        self.unit = 0;
        let mut scanned = 0;
        let mut has_picture = false;
        loop {
            let rest = self.buffer.get(scanned..).unwrap_or_default();
            let found = start_code(rest).map(|(start, after)| (scanned + start, scanned + after));
            // A unit's kind is in its first three bytes.
            let header = found.and_then(|(_, after)| self.buffer.get(after..after + 3));
            if let (Some((start, after)), Some(header)) = (found, header) {
                let part = Part::of(self.codec, header);
                if has_picture && part != Part::Continues {
                    // The zero of a long start code belongs to the next unit.
                    self.unit = start - usize::from(start > 0 && self.buffer.get(start - 1) == Some(&0));
                    return Ok(true);
                }
                has_picture |= part == Part::BeginsPicture;
                scanned = after;
                continue;
            }
            // Look again at what may be the first bytes of a start code.
            scanned = found.map_or(self.buffer.len().saturating_sub(3).max(scanned), |(start, _)| start);
            if !self.read_on()? {
                self.unit = self.buffer.len();
                return Ok(has_picture);
            }
            if u64::try_from(self.buffer.len()).is_ok_and(|bytes| bytes > MAX_PACKET_BYTES) {
                return Err(Error::new(Kind::SourceLost, "a picture of the stream is larger than 16 MiB"));
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

/// What a NAL unit is to the cutting of access units (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// First slice of a picture.
    BeginsPicture,
    /// What may only stand before a picture.
    Leads,
    /// Further slices, and what follows a picture.
    Continues,
}

impl Part {
    fn of(codec: Codec, header: &[u8]) -> Part {
        let first_slice = |at: usize| header.get(at).is_some_and(|byte| byte & 0x80 != 0);
        match codec {
            Codec::H264 => match h264_type(header) {
                1 | 2 | 5 if first_slice(1) => Part::BeginsPicture,
                6..=9 | 14..=18 => Part::Leads,
                _ => Part::Continues,
            },
            Codec::H265 => match h265_type(header) {
                0..=31 if first_slice(2) => Part::BeginsPicture,
                32..=35 | 39 | 41..=44 | 48..=55 => Part::Leads,
                _ => Part::Continues,
            },
            Codec::Jpeg => Part::Continues,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::worker::clips::assert_exact;

    #[test]
    fn raw_streams_are_exact() {
        for name in ["raw.h264", "slices.h264", "raw.h265"] {
            assert_exact(name, |_| {});
        }
    }
}
