//! The two decoders as one.

use super::fallback::Fallback;
use super::sets::Sets;
use super::{Refusal, SLICE, SLICE_OF_KEY_FRAME, Sps, Step};
use crate::capture::worker::decode::annexb::{START_CODE, h264_type, nal_units};
use crate::capture::worker::decode::decoded::{Decoded, Stamp};
use crate::capture::worker::picture::Layout;
use rusty_h264_decoder::DecodeError;
use std::ops::Range;

/// Bytes of the start code right before a NAL unit that was found by one.
const SHORT_START_CODE: usize = 3;

/// Boxed: both are large.
pub(super) enum Engine {
    Fast(Box<rusty_h264_decoder::Decoder>),
    Fallback(Box<Fallback>),
}

impl Engine {
    pub(super) fn fast() -> Engine {
        Engine::Fast(Box::default())
    }

    /// With all parameter sets that came so far.
    pub(super) fn fast_with(sets: &Sets) -> Engine {
        let mut engine = Engine::fast();
        let sets = sets.annex_b();
        nal_units(&sets).for_each(|unit| engine.take_set(unit));
        engine
    }

    /// The second decoder, with these parameter sets.
    pub(super) fn fallback(sets: &Sets) -> Engine {
        let mut fallback = Box::new(Fallback::new());
        fallback.take_sets(&sets.annex_b());
        Engine::Fallback(fallback)
    }

    pub(super) fn is_fast(&self) -> bool {
        matches!(self, Engine::Fast(_))
    }

    /// A parameter set. One that the decoder refuses is missed when a slice names it.
    pub(super) fn take_set(&mut self, unit: &[u8]) {
        let framed = [&START_CODE, unit].concat();
        match self {
            Engine::Fast(engine) => _ = engine.decode(&framed),
            Engine::Fallback(engine) => engine.take_sets(&framed),
        }
    }

    /// A reference picture of our own.
    pub(super) fn prime(&mut self, picture: &[u8]) -> Result<(), Refusal> {
        match self {
            Engine::Fast(engine) => engine.decode(picture).map(|_| ()).map_err(refusal),
            Engine::Fallback(engine) => engine.prime(picture),
        }
    }

    /// The slices among `units` of `data`.
    pub(super) fn decode(
        &mut self,
        data: &[u8],
        units: &[Range<usize>],
        sps: Option<&Sps>,
        stamp: Stamp,
    ) -> Step {
        let slices = slices(data, units)
            .filter_map(|place| data.get(place.start.checked_sub(SHORT_START_CODE)?..place.end));
        match self {
            Engine::Fast(engine) => {
                let mut frame = None;
                for slice in slices {
                    frame = engine.decode(slice).map_err(refusal)?.or(frame);
                }
                let Some(frame) = frame else { return Ok(None) };
                // A size that does not fit is refused by `Picture::check`.
                let side = |pixels| u32::try_from(pixels).unwrap_or(u32::MAX);
                let picture = Decoded {
                    width: side(frame.width),
                    height: side(frame.height),
                    layout: Layout::I420,
                    planes: [frame.y, frame.u, frame.v],
                    range: sps.map_or_else(Default::default, |sps| sps.range),
                    matrix: sps.map_or_else(Default::default, |sps| sps.matrix),
                    stamp,
                };
                Ok(Some((engine.last_poc(), picture)))
            }
            Engine::Fallback(engine) => engine.decode(slices, sps, stamp),
        }
    }

    /// The picture in progress is complete, where that is not known before the next one comes.
    pub(super) fn flush(&mut self, sps: Option<&Sps>) -> Option<(i32, Decoded)> {
        match self {
            Engine::Fast(_) => None,
            Engine::Fallback(engine) => engine.flush(sps),
        }
    }
}

/// Where the slices among `units` lie.
pub(super) fn slices(data: &[u8], units: &[Range<usize>]) -> impl Iterator<Item = Range<usize>> {
    let is_slice = |place: &&Range<usize>| {
        let kind = data.get((*place).clone()).map_or(0, h264_type);
        matches!(kind, SLICE | SLICE_OF_KEY_FRAME)
    };
    units.iter().filter(is_slice).cloned()
}

fn refusal(error: DecodeError) -> Refusal {
    Refusal { unsupported: matches!(error, DecodeError::Unsupported(_)), cause: error.to_string() }
}
