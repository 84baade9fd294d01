//! `rust_h264`: slower than the first decoder, and knows fields, 10 bit, 4:2:2, gray and explicit weights.

use super::{Refusal, Sps, Step};
use crate::capture::worker::decode::decoded::{Decoded, Stamp, narrow};
use crate::capture::worker::picture::Layout;
use crate::clock::Wall;
use rust_h264::decoder::{ChromaFormat, Decoder, Frame};
use rust_h264::error::DecodeError;
use rust_h264::nal::parse_annex_b;

/// That decoder and the stamp of the access unit it works on: with fields, a picture is only complete when
/// the next begins.
pub(super) struct Fallback {
    decoder: Decoder,
    pending: Stamp,
}

impl Fallback {
    pub(super) fn new() -> Self {
        let nothing = Stamp { time: Wall::from_micros(0), shown: false, recovers: false };
        Fallback { decoder: Decoder::new(), pending: nothing }
    }

    /// Parameter sets in Annex B.
    pub(super) fn take_sets(&mut self, sets: &[u8]) {
        for unit in parse_annex_b(sets) {
            let _ = self.decoder.decode_nal(&unit);
        }
    }

    /// A picture that is to be referred to and not to be seen.
    pub(super) fn prime(&mut self, picture: &[u8]) -> Result<(), Refusal> {
        for unit in parse_annex_b(picture) {
            self.decoder.decode_nal(&unit).map_err(refusal)?;
        }
        self.decoder.flush();
        Ok(())
    }

    /// Order count and picture: of this access unit, or with fields of the one before. Slices in Annex B.
    pub(super) fn decode<'a>(
        &mut self,
        slices: impl Iterator<Item = &'a [u8]>,
        sps: Option<&Sps>,
        stamp: Stamp,
    ) -> Step {
        let mut picture = None;
        let mut refused = None;
        for unit in slices.flat_map(parse_annex_b) {
            match self.decoder.decode_nal(&unit) {
                Ok(frame) => picture = frame.map(|frame| decoded(frame, sps, self.pending)).or(picture),
                Err(error) => refused = Some(refusal(error)),
            }
        }
        // The second field of a picture whose first one says that it recovers.
        let recovers = stamp.recovers || (picture.is_none() && self.pending.recovers);
        self.pending = Stamp { recovers, ..stamp };
        if picture.is_none() && sps.is_some_and(|sps| sps.frames_only) {
            picture = self.flush(sps);
        }
        match refused {
            Some(refusal) if picture.is_none() => Err(refusal),
            _ => Ok(picture),
        }
    }

    /// The picture in progress is complete.
    pub(super) fn flush(&mut self, sps: Option<&Sps>) -> Option<(i32, Decoded)> {
        let stamp = self.pending;
        self.pending.recovers = false;
        self.decoder.flush().map(|frame| decoded(frame, sps, stamp))
    }
}

fn refusal(error: DecodeError) -> Refusal {
    Refusal { unsupported: matches!(error, DecodeError::Unsupported(_)), cause: error.to_string() }
}

fn decoded(frame: Frame, sps: Option<&Sps>, stamp: Stamp) -> (i32, Decoded) {
    let layout = match frame.chroma_format {
        ChromaFormat::Yuv420 => Layout::I420,
        ChromaFormat::Yuv422 => Layout::I422,
    };
    let planes = [frame.y, frame.u, frame.v].map(|plane| match frame.bit_depth {
        ..=8 => plane,
        depth => narrow(plane.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes)), depth),
    });
    let picture = Decoded {
        width: frame.width,
        height: frame.height,
        layout,
        planes,
        range: sps.map_or_else(Default::default, |sps| sps.range),
        matrix: sps.map_or_else(Default::default, |sps| sps.matrix),
        stamp,
    };
    (frame.pic_order_cnt, picture)
}
