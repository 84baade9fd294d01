//! `rust_h264`: slower than the first decoder, and knows fields, 10 bit, 4:2:2, gray and explicit weights.

use super::{Refusal, Sps, Step};
use crate::capture::worker::decode::decoded::{Decoded, Stamp, narrow};
use crate::capture::worker::picture::Layout;
use crate::clock::Wall;
use rust_h264::decoder::{ChromaFormat, Decoder, Frame};
use rust_h264::error::DecodeError;
use rust_h264::nal::parse_annex_b;

/// That decoder and the stamp of the access unit it works on: with fields, a picture is only complete when the next begins.
pub(super) struct Fallback {
    decoder: Decoder,
    pending: Stamp,
}

impl Fallback {
    pub(super) fn new() -> Self {
        Fallback { decoder: Decoder::new(), pending: Stamp { time: Wall::from_micros(0), shown: true } }
    }

    /// Order count and picture: of this access unit, or with fields of the one before.
    pub(super) fn decode(&mut self, data: &[u8], sps: Option<&Sps>, stamp: Stamp) -> Step {
        let mut picture = None;
        let mut refusal = None;
        for unit in parse_annex_b(data) {
            match self.decoder.decode_nal(&unit) {
                Ok(frame) => picture = frame.map(|frame| decoded(frame, sps, self.pending)).or(picture),
                Err(error) => {
                    refusal =
                        Some(Refusal { unsupported: matches!(error, DecodeError::Unsupported(_)), cause: error.to_string() });
                }
            }
        }
        self.pending = stamp;
        if picture.is_none() && sps.is_some_and(|sps| sps.frames_only) {
            picture = self.flush(sps);
        }
        match refusal {
            Some(refusal) if picture.is_none() => Err(refusal),
            _ => Ok(picture),
        }
    }

    /// The picture in progress is complete.
    pub(super) fn flush(&mut self, sps: Option<&Sps>) -> Option<(i32, Decoded)> {
        self.decoder.flush().map(|frame| decoded(frame, sps, self.pending))
    }
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
