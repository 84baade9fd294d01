//! Flash Video, as cameras' and studios' software records RTMP: tag after tag, each a picture or something
//! else. H.264, and H.265 in both ways of writing it (codec number 12, and the "enhanced" form with four
//! letters).

use super::medium::{Medium, Rate, Window};
use super::nal::NalFormat;
use super::number::{be24, be32, be64};
use super::{fourcc, picture_facts};
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Result};

/// Header of a tag, bytes: kind, size, time stamp, stream.
const TAG_HEADER_BYTES: usize = 11;

/// Bytes of the size that follows each tag.
const BACK_POINTER_BYTES: u64 = 4;

/// Most tags between two pictures: sound and notes.
const MAX_OTHER_TAGS: usize = 100_000;

/// As many pictures are counted: nine hours at 30 fps, a second's work. Of a longer file the rest is
/// estimated.
const MAX_COUNTED_FRAMES: u64 = 1_000_000;

/// Largest script tag that is looked through for what it says of the video.
const MAX_SCRIPT_BYTES: u64 = 64 * 1024;

/// Longest header of a picture within its tag, bytes: the enhanced form with four letters and a composition
/// time.
const MAX_PICTURE_HEADER_BYTES: usize = 8;

/// Bytes that are read at a time.
const STEP_BYTES: usize = 4096;

/// Largest decoder configuration that is taken, bytes.
const MAX_CONFIGURATION_BYTES: u64 = 64 * 1024;

const SCRIPT: u8 = 18;
const VIDEO: u8 = 9;

/// An open FLV file.
pub(super) struct Flv {
    window: Window,
    properties: SourceProperties,
    /// Byte offset of the first tag, and of the next one.
    first: u64,
    next: u64,
    /// From the configuration that came last.
    format: Option<(Codec, NalFormat)>,
    /// No picture has been read since that configuration.
    leads: bool,
    /// Why there is none, where the codec is one that we lack.
    problem: Option<Error>,
    raw: Vec<u8>,
    packet: Vec<u8>,
}

/// A tag that holds a picture or a configuration.
struct Tag {
    codec: Codec,
    is_configuration: bool,
    /// When it is decoded, milliseconds.
    time: u32,
    /// What follows the headers.
    at: u64,
    bytes: u64,
}

impl Flv {
    pub(super) fn open(medium: Medium) -> Result<Flv> {
        let mut window = Window::new(medium, STEP_BYTES);
        // After the header, whose length it names itself, and the size of no tag.
        let first = u64::from(be32(window.bytes(0, 9)?, 5).unwrap_or(9)).max(9) + BACK_POINTER_BYTES;
        let properties = window.medium.properties(0, 0, 0, Rate(0.0));
        let (raw, packet) = (Vec::new(), Vec::new());
        let mut flv = Flv {
            window,
            properties,
            first,
            next: first,
            format: None,
            leads: true,
            problem: None,
            raw,
            packet,
        };
        let size = if flv.advance()? {
            flv.format.as_ref().and_then(|(codec, _)| picture_facts(*codec, &flv.packet))
        } else {
            None
        };
        if let Some(problem) = flv.problem.take() {
            return Err(problem);
        }
        flv.restart()?;
        let declared = flv.declared_fps()?;
        let (frames, measured) = flv.count()?;
        flv.restart()?;
        let (width, height) = size.map_or((0, 0), |facts| (facts.width, facts.height));
        let fps = declared.or(size.and_then(|facts| facts.fps)).unwrap_or(measured);
        flv.properties = flv.window.medium.properties(width, height, frames, Rate(fps));
        Ok(flv)
    }

    /// `framerate` of the script tag `onMetaData`, if that is the first tag.
    fn declared_fps(&mut self) -> Result<Option<f64>> {
        const NAME: &[u8] = b"\0\x09framerate\0";
        const MAX_FPS: f64 = 1000.0;
        let header = self.window.bytes(self.first, TAG_HEADER_BYTES)?;
        let (kind, bytes) = (header.first().copied(), u64::from(be24(header, 1).unwrap_or(0)));
        let mut script = Vec::new();
        let at = self.first + TAG_HEADER_BYTES as u64;
        if kind != Some(SCRIPT)
            || bytes > MAX_SCRIPT_BYTES
            || !self.window.medium.read(at, bytes, &mut script)?
        {
            return Ok(None);
        }
        let place =
            script.windows(NAME.len()).position(|window| window == NAME).map(|place| place + NAME.len());
        let fps = place.and_then(|place| be64(&script, place)).map(f64::from_bits);
        Ok(fps.filter(|&fps| fps > 0.0 && fps <= MAX_FPS))
    }

    /// How many pictures there are, and their rate by their time stamps.
    fn count(&mut self) -> Result<(u64, f64)> {
        let (mut frames, mut span) = (0_u64, None::<(u32, u32)>);
        while let Some(tag) = self.next_tag()? {
            if tag.is_configuration {
                continue;
            }
            frames += 1;
            let (first, last) = span.unwrap_or((tag.time, tag.time));
            span = Some((first.min(tag.time), last.max(tag.time)));
            if frames >= MAX_COUNTED_FRAMES {
                break;
            }
        }
        let milliseconds = span.map_or(0, |(first, last)| last - first);
        let fps = if frames > 1 && milliseconds > 0 {
            (frames - 1) as f64 * 1e3 / f64::from(milliseconds)
        } else {
            0.0
        };
        if frames >= MAX_COUNTED_FRAMES {
            frames = (frames as f64 * self.window.medium.bytes() as f64 / self.next.max(1) as f64) as u64;
        }
        Ok((frames, fps))
    }

    /// The next picture into `packet`. False: there is none.
    fn advance(&mut self) -> Result<bool> {
        while let Some(tag) = self.next_tag()? {
            if tag.is_configuration {
                if tag.bytes <= MAX_CONFIGURATION_BYTES
                    && self.window.medium.read(tag.at, tag.bytes, &mut self.raw)?
                {
                    let format = Some((tag.codec, NalFormat::new(tag.codec, &self.raw)));
                    self.leads |= format != self.format;
                    self.format = format;
                }
                continue;
            }
            if !self.window.medium.read_packet(tag.at, tag.bytes, &mut self.raw)? {
                return Ok(false);
            }
            let format = self.format.take().filter(|(codec, _)| *codec == tag.codec);
            let (codec, nal) = format.unwrap_or_else(|| (tag.codec, NalFormat::new(tag.codec, &[])));
            nal.unpack(codec, &self.raw, std::mem::take(&mut self.leads), &mut self.packet);
            self.format = Some((codec, nal));
            return Ok(true);
        }
        Ok(false)
    }

    /// The next tag of a codec that we have.
    fn next_tag(&mut self) -> Result<Option<Tag>> {
        for _ in 0..MAX_OTHER_TAGS {
            let at = self.next;
            let header = self.window.bytes(at, TAG_HEADER_BYTES + MAX_PICTURE_HEADER_BYTES)?;
            let (Some(&kind), Some(bytes), Some(time)) = (header.first(), be24(header, 1), be24(header, 4))
            else {
                return Ok(None);
            };
            let time = u32::from(header.get(7).copied().unwrap_or(0)) << 24 | time;
            let bytes = u64::from(bytes);
            self.next = at + TAG_HEADER_BYTES as u64 + bytes + BACK_POINTER_BYTES;
            // The upper bits say "encrypted" and are reserved.
            if kind & 0x1f != VIDEO {
                continue;
            }
            let picture = header.get(TAG_HEADER_BYTES..).unwrap_or_default();
            match Picture::of(picture) {
                Ok(Some(Picture { codec, is_configuration, header_bytes })) if bytes > header_bytes => {
                    let at = at + TAG_HEADER_BYTES as u64 + header_bytes;
                    return Ok(Some(Tag { codec, is_configuration, time, at, bytes: bytes - header_bytes }));
                }
                Ok(_) => {}
                Err(error) => _ = self.problem.get_or_insert(error),
            }
        }
        Ok(None)
    }
}

/// How a video tag begins.
struct Picture {
    codec: Codec,
    is_configuration: bool,
    header_bytes: u64,
}

impl Picture {
    /// `None`: nothing to decode. An error names the codec that we lack.
    fn of(data: &[u8]) -> Result<Option<Picture>> {
        let Some(&first) = data.first() else { return Ok(None) };
        if first & 0x80 != 0 {
            return Picture::enhanced(first & 15, data);
        }
        // A frame that is no frame but a word to the player.
        if first >> 4 == 5 {
            return Ok(None);
        }
        let codec = match first & 15 {
            7 => Codec::H264,
            12 => Codec::H265,
            2 => return Err(fourcc::missing("Sorenson H.263")),
            3 | 6 => return Err(fourcc::missing("Screen Video")),
            4 | 5 => return Err(fourcc::missing("VP6")),
            13 => return Err(fourcc::missing("AV1")),
            other => return Err(fourcc::missing(format!("{other} of Flash Video"))),
        };
        // Kind, then the composition time.
        Ok(match data.get(1) {
            Some(0) => Some(Picture { codec, is_configuration: true, header_bytes: 5 }),
            Some(1) => Some(Picture { codec, is_configuration: false, header_bytes: 5 }),
            _ => None,
        })
    }

    /// The form of 2023: kind of packet in the first byte, then the codec's letters.
    fn enhanced(kind: u8, data: &[u8]) -> Result<Option<Picture>> {
        const CONFIGURATION: u8 = 0;
        const WITH_COMPOSITION_TIME: u8 = 1;
        const WITHOUT: u8 = 3;
        let Some(letters) = data.get(1..5) else { return Ok(None) };
        let header_bytes = match kind {
            CONFIGURATION | WITHOUT => 5,
            WITH_COMPOSITION_TIME => 8,
            _ => return Ok(None),
        };
        // Others have more kinds of packets, which are not read here.
        let codec = match fourcc::codec(letters)? {
            codec @ (Codec::H264 | Codec::H265) => codec,
            other => return Err(fourcc::missing(other.name())),
        };
        Ok(Some(Picture { codec, is_configuration: kind == CONFIGURATION, header_bytes }))
    }
}

impl Source for Flv {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.advance()? {
            return Ok(Grab::End);
        }
        let codec = self.format.as_ref().map_or(Codec::H264, |(codec, _)| *codec);
        Ok(Grab::Packet(codec, AccessUnit { data: &self.packet, shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        (self.next, self.format, self.leads) = (self.first, None, true);
        Ok(())
    }
}

/// Whether a file begins as FLV.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(b"FLV\x01")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pictures_in_both_forms() {
        let of = |data: &[u8]| {
            let picture = Picture::of(data).unwrap();
            picture.map(|picture| (picture.codec, picture.is_configuration, picture.header_bytes))
        };
        assert_eq!(of(&[0x17, 0, 0, 0, 0, 1]), Some((Codec::H264, true, 5)));
        assert_eq!(of(&[0x27, 1, 0, 0, 0, 1]), Some((Codec::H264, false, 5)));
        assert_eq!(of(&[0x1c, 1, 0, 0, 0, 1]), Some((Codec::H265, false, 5)));
        assert_eq!(of(b"\x90hvc1"), Some((Codec::H265, true, 5)));
        assert_eq!(of(b"\x91hvc1\0\0\0"), Some((Codec::H265, false, 8)));
        assert_eq!(of(b"\xa3avc1"), Some((Codec::H264, false, 5)));
        assert_eq!(of(b"\x92hvc1"), None);
        assert_eq!(of(&[0x17, 2]), None);
        assert_eq!(of(&[0x57, 0]), None);
        assert!(Picture::of(&[0x14]).err().unwrap().message().contains("VP6"));
        assert!(Picture::of(b"\x90av01").err().unwrap().message().contains("AV1"));
    }
}
