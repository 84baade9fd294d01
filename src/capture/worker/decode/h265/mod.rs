//! H.265 with `rust_h265`: Main and Main 10, 4:2:0 and 4:4:4. What is deeper than eight bits is reduced.

mod sps;

pub(crate) use sps::Sps;

use super::annexb::{h265_type, nal_units};
use super::decoded::{Decoded, Stamp, narrow};
use super::reorder::{Depth, Reorder};
use super::{AccessUnit, Decoder, Output};
use crate::capture::worker::picture::{Layout, MAX_PIXELS};
use crate::clock::Wall;
use crate::error::{Error, Kind, Result};
use rust_h265::{DecodeError, DecodeLimits, Frame, PixelData, parse_annex_b};

const SEQUENCE_PARAMETERS: u8 = 33;

/// Pictures that begin a sequence whose order counts start anew: broken links and IDR (not clean random access).
const SEQUENCE_BEGINS: std::ops::RangeInclusive<u8> = 16..=20;

/// An access unit delimiter. It ends the picture before it, which else would come out with the next one.
const DELIMITER: [u8; 7] = [0, 0, 0, 1, 35 << 1, 1, 0x50];

/// Most memory of one picture's planes and tables, bytes. 8K in 10 bit needs about 260 MB; a worker's own limit is below that.
const MAX_PICTURE_BYTES: u64 = 300 * 1024 * 1024;

/// Decoder of one H.265 stream.
pub(super) struct H265 {
    decoder: rust_h265::Decoder,
    sps: Option<Sps>,
    reorder: Reorder<Decoded>,
    /// Whether a picture has ever come out.
    proven: bool,
}

impl H265 {
    pub(super) fn new() -> Self {
        let limits = DecodeLimits { max_picture_pixels: MAX_PIXELS, max_picture_memory_bytes: MAX_PICTURE_BYTES };
        H265 { decoder: rust_h265::Decoder::with_limits(limits), sps: None, reorder: Reorder::new(), proven: false }
    }

    /// Takes note of parameter sets; says whether a new coded sequence begins.
    fn look(&mut self, data: &[u8]) -> bool {
        let mut sequence_begins = false;
        for unit in nal_units(data) {
            let kind = h265_type(unit);
            sequence_begins |= SEQUENCE_BEGINS.contains(&kind);
            if kind == SEQUENCE_PARAMETERS
                && let Some(sps) = Sps::parse(unit)
            {
                self.reorder.set_depth(Depth::Known(sps.reorder));
                self.sps = Some(sps);
            }
        }
        sequence_begins
    }

    fn take(&mut self, frame: Frame, stamp: Stamp) -> Result<()> {
        let order = frame.pic_order_cnt;
        let layout = match frame.chroma_format_idc {
            1 => Layout::I420,
            3 => Layout::I444,
            _ => return Err(Error::new(Kind::SourceUnsupported, "H.265 stream is not supported: chroma format")),
        };
        let depth = frame.bit_depth;
        let planes = [frame.y, frame.u, frame.v].map(|plane| match plane {
            PixelData::U8(samples) => samples,
            PixelData::U16(samples) => narrow(samples.into_iter(), depth),
        });
        self.proven = true;
        let (range, matrix) = self.sps.map_or_else(Default::default, |sps| (sps.range, sps.matrix));
        self.reorder.push(order, Decoded { width: frame.width, height: frame.height, layout, planes, range, matrix, stamp });
        Ok(())
    }
}

impl Decoder for H265 {
    fn decode(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<()> {
        if self.look(unit.data) {
            self.reorder.finish(|picture| picture.show(output))?;
        }
        let stamp = Stamp { time: timestamp, shown: unit.shown };
        let mut refusal = None;
        for nal in parse_annex_b(unit.data).iter().chain(&parse_annex_b(&DELIMITER)) {
            match self.decoder.decode_nal(nal) {
                Ok(Some(frame)) => self.take(frame, stamp)?,
                Ok(None) => {}
                Err(error) => refusal = Some(error),
            }
        }
        while let Some(picture) = self.reorder.due() {
            picture.show(output)?;
        }
        match refusal {
            None => Ok(()),
            Some(error @ (DecodeError::Unsupported(_) | DecodeError::ResourceLimit(_))) if !self.proven => {
                Err(Error::new(Kind::SourceUnsupported, format!("H.265 stream is not supported: {error}")))
            }
            Some(error) => Err(Error::new(Kind::Undecodable, "H.265 picture is damaged").because(error)),
        }
    }

    fn flush(&mut self, output: &mut Output<'_>) -> Result<()> {
        self.reorder.finish(|picture| picture.show(output))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::capture::worker::clips::assert_exact;
    use crate::capture::worker::picture::{Matrix, Range};

    #[test]
    fn main_and_main_10_are_exact() {
        for name in ["h265.mp4", "h265-10.mp4"] {
            let decoded = assert_exact(name, |_| {});
            assert!(decoded.delay <= 3, "{name}: {}", decoded.delay);
        }
    }

    #[test]
    fn range_and_matrix_come_from_the_stream() {
        assert_exact("h265-full-709.mp4", |picture| {
            assert_eq!((picture.range, picture.matrix), (Range::Full, Matrix::Bt709));
        });
    }
}
