//! Elementary streams: H.264 and H.265 in Annex B, cut into access units. Raw files, and what MPEG-TS
//! carries.

use super::medium::{MAX_COUNTED_BYTES, MAX_PACKET_BYTES, Medium};
use super::{Rate, stream_facts};
use crate::capture::worker::decode::annexb::{h264_type, h265_type, nal_units, start_code};
use crate::capture::worker::decode::{AccessUnit, Codec, H264Parameters, H265Parameters, Part};
use crate::capture::worker::picture::check_size;
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// As much of a stream is looked through for the first of its parameter sets. A stream that was cut off
/// anywhere has them within a group of pictures: 10 s at 12 Mbit/s.
const MAX_BEFORE_PARAMETERS_BYTES: usize = 16 * 1024 * 1024;

/// Frame rate where the stream says none: what ffmpeg assumes for raw streams.
const ASSUMED_FPS: f64 = 25.0;

/// Where the bytes of a stream come from.
pub(super) trait Stream {
    /// Appends the next bytes. False: there are none.
    fn read_on(&mut self, out: &mut Vec<u8>) -> Result<bool>;

    /// Back to the first byte.
    fn rewind(&mut self);

    /// Bytes of the file that have been read.
    fn at(&self) -> u64;

    fn medium(&self) -> &Medium;

    /// Why nothing came that could be read; `None`: no such reason is known.
    fn problem(&self) -> Option<Error> {
        None
    }

    /// Frames per second by what carries the stream; `None`: it does not say.
    fn fps(&self) -> Option<f64> {
        None
    }
}

/// A stream without anything around it.
pub(super) struct Raw {
    medium: Medium,
    at: u64,
}

impl Raw {
    pub(super) fn new(medium: Medium) -> Raw {
        Raw { medium, at: 0 }
    }
}

impl Stream for Raw {
    fn read_on(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let filled = out.len();
        out.resize(filled + CHUNK_BYTES, 0);
        let got = self.medium.read_at(self.at, out.get_mut(filled..).unwrap_or_default())?;
        out.truncate(filled + got);
        self.at += got as u64;
        Ok(got > 0)
    }

    fn rewind(&mut self) {
        self.at = 0;
    }

    fn at(&self) -> u64 {
        self.at
    }

    fn medium(&self) -> &Medium {
        &self.medium
    }
}

/// Whether a file may begin with an elementary stream of a codec that we have: with a start code, and a unit
/// that both standards would allow (§7.3.1 of H.264, §7.3.1.2 of H.265: the first bit is 0. MPEG-1, -2 and -4
/// set it in what they begin with).
pub(super) fn begins(head: &[u8]) -> bool {
    let code = start_code(head).filter(|(start, _)| head.iter().take(*start).all(|byte| *byte == 0));
    code.and_then(|(_, after)| head.get(after)).is_some_and(|byte| byte & 0x80 == 0)
}

/// Whether an elementary stream that was cut off anywhere is in these bytes: with parameter sets that make
/// sense together, and a picture. Nothing else looks like that.
pub(super) fn lies_in(data: &[u8]) -> bool {
    let Some(codec) = codec_of(data) else { return false };
    let has = |wanted: &dyn Fn(&[u8]) -> bool| nal_units(data).any(wanted);
    match codec {
        Codec::H264 => has(&|unit| h264_type(unit) == 8) && has(&|unit| matches!(h264_type(unit), 1 | 5)),
        Codec::H265 => has(&|unit| h265_type(unit) == 34) && has(&|unit| h265_type(unit) <= 21),
        _ => false,
    }
}

/// Which codec a stream is in, by its first parameter set of a size that can be. `None`: none is there.
pub(super) fn codec_of(stream: &[u8]) -> Option<Codec> {
    nal_units(stream).find_map(|unit| match (h264_type(unit), h265_type(unit), unit.first()? & 0x80) {
        // As H.264 this would be a part of a partitioned slice, and of layers that nobody uses.
        (_, 33, 0)
            if H265Parameters::parse(unit).is_some_and(|sps| check_size(sps.width, sps.height).is_ok()) =>
        {
            Some(Codec::H265)
        }
        (7, _, 0)
            if H264Parameters::parse(unit).is_some_and(|sps| check_size(sps.width, sps.height).is_ok()) =>
        {
            Some(Codec::H264)
        }
        _ => None,
    })
}

/// An open elementary stream.
pub(super) struct Elementary<S> {
    units: Units<S>,
    codec: Codec,
    properties: SourceProperties,
}

impl<S: Stream> Elementary<S> {
    /// `codec` as what carries the stream says; `None`: the stream's own bytes say.
    pub(super) fn open(mut stream: S, codec: Option<Codec>) -> Result<Elementary<S>> {
        let (codec, facts) = look(&mut stream, codec)?;
        stream.rewind();
        let mut units = Units::new(stream, codec);
        let mut frames = 0_u64;
        while units.stream.at() < MAX_COUNTED_BYTES && units.advance()? {
            frames += 1;
        }
        let (read, all) = (units.stream.at(), units.stream.medium().bytes());
        if read < all && read > 0 {
            frames = (frames as f64 * all as f64 / read as f64) as u64;
        }
        let rate = Rate(facts.fps.or(units.stream.fps()).unwrap_or(ASSUMED_FPS));
        units.rewind();
        let properties = units.stream.medium().properties(facts.width, facts.height, frames, rate);
        Ok(Elementary { units, codec, properties })
    }
}

/// The codec of a stream and what its first parameter set says, wherever it stands.
fn look(stream: &mut impl Stream, codec: Option<Codec>) -> Result<(Codec, super::StreamFacts)> {
    let mut looked = Vec::new();
    loop {
        let more = stream.read_on(&mut looked)?;
        if let Some(codec) = codec.or_else(|| codec_of(&looked))
            && let Some(facts) = stream_facts(codec, &looked)
        {
            return Ok((codec, facts));
        }
        if !more || looked.len() > MAX_BEFORE_PARAMETERS_BYTES {
            let message = match codec {
                Some(codec) => {
                    format!("the {} stream is damaged: its parameter sets are missing", codec.name())
                }
                None => String::from(
                    "not a video file of a kind that is supported, or one without its parameter sets",
                ),
            };
            return Err(stream.problem().unwrap_or_else(|| Error::new(Kind::SourceUnsupported, message)));
        }
    }
}

impl<S: Stream> Source for Elementary<S> {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.units.advance()? {
            return Ok(Grab::End);
        }
        let data = self.units.current();
        Ok(Grab::Packet(self.codec, AccessUnit { data, shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        self.units.rewind();
        Ok(())
    }
}

/// Cuts a stream into access units.
struct Units<S> {
    stream: S,
    codec: Codec,
    /// Part of the stream that is looked at; begins with the present access unit.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are the present access unit.
    unit: usize,
}

impl<S: Stream> Units<S> {
    fn new(stream: S, codec: Codec) -> Self {
        Units { stream, codec, buffer: Vec::new(), unit: 0 }
    }

    fn rewind(&mut self) {
        self.buffer.clear();
        self.unit = 0;
        self.stream.rewind();
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
        // Where units began that belong to whichever picture comes next.
        let mut undecided = None;
        loop {
            let rest = self.buffer.get(scanned..).unwrap_or_default();
            let found = start_code(rest).map(|(start, after)| (scanned + start, scanned + after));
            // A unit's kind is in its first three bytes.
            let header = found.and_then(|(_, after)| self.buffer.get(after..after + 3));
            if let (Some((start, after)), Some(header)) = (found, header) {
                // The zero of a long start code belongs to the next unit.
                let start = start - usize::from(start > 0 && self.buffer.get(start - 1) == Some(&0));
                match Part::of(self.codec, header) {
                    Part::BeginsPicture | Part::Leads if has_picture => {
                        self.unit = undecided.unwrap_or(start);
                        return Ok(true);
                    }
                    Part::BeginsPicture => has_picture = true,
                    Part::Undecided if has_picture => _ = undecided.get_or_insert(start),
                    Part::Continues => undecided = None,
                    Part::Leads | Part::Undecided => {}
                }
                scanned = after;
                continue;
            }
            // Look again at what may be the first bytes of a start code.
            scanned = found.map_or(self.buffer.len().saturating_sub(3).max(scanned), |(start, _)| start);
            if u64::try_from(self.buffer.len()).is_ok_and(|bytes| bytes > MAX_PACKET_BYTES) {
                // No picture is so large: damage, or zeros for megabytes. What follows may be good.
                self.buffer.clear();
                (scanned, has_picture, undecided) = (0, false, None);
            }
            if !self.stream.read_on(&mut self.buffer)? {
                self.unit = self.buffer.len();
                return Ok(has_picture);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::{assert_exact, asset};

    #[test]
    fn raw_streams_are_exact() {
        for name in ["raw.h264", "slices.h264", "raw.h265"] {
            assert_exact(name, |_| {});
        }
    }

    /// A stream that lies in memory.
    struct Bytes(Medium, Vec<u8>);

    impl Stream for Bytes {
        fn read_on(&mut self, out: &mut Vec<u8>) -> Result<bool> {
            out.append(&mut self.1);
            Ok(false)
        }

        fn rewind(&mut self) {}

        fn at(&self) -> u64 {
            0
        }

        fn medium(&self) -> &Medium {
            &self.0
        }
    }

    /// Lengths of the access units of an H.264 stream.
    fn cut(stream: &[u8]) -> Vec<usize> {
        let medium = Medium::open(&asset("clips/raw.h264")).unwrap();
        let mut units = Units::new(Bytes(medium, Vec::new()), Codec::H264);
        units.buffer = stream.to_vec();
        std::iter::from_fn(|| units.advance().unwrap().then_some(units.unit)).collect()
    }

    #[test]
    fn what_stands_before_each_slice_of_a_layered_stream_cuts_no_picture() {
        let prefix = [0, 0, 1, 0x6e, 0, 1];
        let (first, further) = ([0, 0, 1, 0x65, 0x80, 1], [0, 0, 1, 0x65, 0x40, 1]);
        let picture = [prefix, first, prefix, further].concat();
        assert_eq!(cut(&[picture.clone(), picture].concat()), [24, 24]);
        // A parameter set leads; the zero before its start code goes with it.
        assert_eq!(cut(&[&first[..], &[0, 0, 0, 1, 0x67, 1, 1], &first[..]].concat()), [6, 13]);
    }

    #[test]
    fn other_streams_between_start_codes_are_not_ours() {
        for (head, ours) in [
            (&[0, 0, 1, 0xb3, 1][..], false),
            (&[0, 0, 1, 0xba, 1], false),
            (&[0, 0, 0, 0, 0, 1, 0x09, 0x10], true),
            (&[0, 0, 1, 0x40, 1], true),
            (&[7, 0, 0, 1, 0x67], false),
            (&[0, 0, 0, 0], false),
        ] {
            assert_eq!(begins(head), ours, "{head:?}");
        }
    }

    #[test]
    fn a_stream_that_was_cut_within_a_unit_is_found() {
        let stream = std::fs::read(asset("clips/raw.h264")).unwrap();
        assert!(!begins(&stream[100..]) && lies_in(&stream[100..]));
        let h265 = std::fs::read(asset("clips/raw.h265")).unwrap();
        assert!(lies_in(&h265[100..]));
        assert!(!lies_in(&std::fs::read(asset("toy.onnx")).unwrap()));
        assert!(!lies_in(&std::fs::read(asset("clips/main.mp4")).unwrap()));
    }
}
