//! H.265 with `rust_h265`: Main and Main 10, 4:2:0 and 4:4:4. What is deeper than eight bits is reduced.

mod entrance;
mod slice;
mod sps;

pub(super) use entrance::Entrance;
pub(super) use slice::{Sets, SliceHeader};
pub(crate) use sps::Sps;

use super::annexb::{h265_type, nal_units};
use super::decoded::{Decoded, Stamp, narrow};
use super::gate::Gate;
use super::order::nearest;
use super::random_access::{self, RandomAccess};
use super::reorder::{Depth, Reorder};
use super::{AccessUnit, Decoder, Output};
use crate::capture::worker::picture::{Layout, MAX_PIXELS};
use crate::clock::Wall;
use crate::error::{Error, Kind, Result};
use rust_h265::{DecodeError, DecodeLimits, Frame, NalUnitType, PixelData, parse_annex_b};

pub(super) const SEQUENCE_PARAMETERS: u8 = 33;
const PICTURE_PARAMETERS: u8 = 34;

/// Slices of pictures; what lies between those that are defined is reserved.
pub(super) const PICTURES: std::ops::RangeInclusive<u8> = 0..=31;

/// Pictures that begin a sequence whose order counts start anew: broken links and IDR. Clean random access
/// does so only where decoding begins.
pub(super) const SEQUENCE_BEGINS: std::ops::RangeInclusive<u8> = 16..=20;

/// Types of NAL units at which decoding may begin: BLA_W_LP to CRA_NUT (random access points).
pub(super) const BEGINS: std::ops::RangeInclusive<u8> = 16..=21;

/// Pictures that are shown before a random access point and may need what lies before it (RASL).
const SKIPPED_LEADING: std::ops::RangeInclusive<u8> = 8..=9;

/// End of the sequence, of the stream.
pub(super) const SEQUENCE_ENDS: std::ops::RangeInclusive<u8> = 36..=37;

/// An access unit delimiter. It ends the picture before it, which else would come out with the next one.
const DELIMITER: [u8; 7] = [0, 0, 0, 1, 35 << 1, 1, 0x50];

/// The end of a sequence, as if it stood in the stream: the decoder then takes clean random access as a
/// beginning.
const END_OF_SEQUENCE: [u8; 6] = [0, 0, 0, 1, 36 << 1, 1];

/// Most memory of one picture's planes and tables, bytes. 8K in 10 bits needs about 260 MB, with all of its
/// chroma 460 MB; whether the worker may have as much is asked before (`memory.rs`).
const MAX_PICTURE_BYTES: u64 = 512 * 1024 * 1024;

/// Decoder of one H.265 stream.
pub(super) struct H265 {
    decoder: rust_h265::Decoder,
    sps: Option<Sps>,
    reorder: Reorder<Decoded>,
    /// Whether a picture has ever come out.
    proven: bool,
    /// Until a picture comes that decoding may begin at.
    waiting: bool,
    /// How much further than the next picture those are that have recovered; `None`: see `gate`.
    recovery: Option<i32>,
    gate: Gate,
    /// The sequence is over: clean random access begins one.
    ended: bool,
    /// Leading pictures of the random access point that decoding began at are left out.
    skips_leading: bool,
    /// Pictures that will not come out, since this was last asked: [`Decoder::passed`].
    passed: u64,
    /// By which slice headers are read.
    sets: Sets,
    /// Order count of the picture that the lower bits of those after it are counted from.
    base: Option<i32>,
}

impl H265 {
    pub(super) fn new() -> Self {
        let limits =
            DecodeLimits { max_picture_pixels: MAX_PIXELS, max_picture_memory_bytes: MAX_PICTURE_BYTES };
        H265 {
            decoder: rust_h265::Decoder::with_limits(limits),
            sps: None,
            reorder: Reorder::new(),
            proven: false,
            waiting: true,
            recovery: None,
            gate: Gate::Shut,
            ended: false,
            skips_leading: false,
            passed: 0,
            sets: Sets::default(),
            base: None,
        }
    }

    /// Takes note of parameter sets; says of what type the picture is, if there is one.
    fn look(&mut self, data: &[u8]) -> Option<u8> {
        let mut picture = None;
        for unit in nal_units(data) {
            let kind = h265_type(unit);
            self.sets.take(unit);
            if kind == SEQUENCE_PARAMETERS
                && let Some(sps) = Sps::parse(unit)
            {
                self.reorder.set_depth(Depth::Known(sps.reorder));
                self.sps = Some(sps);
            }
            if PICTURES.contains(&kind) {
                picture = picture.or(Some(kind));
            }
        }
        picture
    }

    /// What the first slice of a picture says.
    fn header(&self, data: &[u8]) -> Option<SliceHeader> {
        let first = nal_units(data).find(|unit| PICTURES.contains(&h265_type(unit)))?;
        SliceHeader::parse(first, &self.sets)
    }

    /// Gives the decoder the parameter sets of a unit that is not decoded.
    fn take_sets(&mut self, data: &[u8]) {
        for nal in parse_annex_b(data) {
            if matches!(nal.nal_unit_type, NalUnitType::Vps | NalUnitType::Sps | NalUnitType::Pps) {
                // A damaged one is missed when a picture names it.
                let _ = self.decoder.decode_nal(&nal);
            }
        }
    }

    /// Begins at this picture, or goes on. False: it passes by undecoded.
    fn enter(&mut self, data: &[u8], kind: u8, output: &mut Output<'_>) -> Result<bool> {
        let begins = BEGINS.contains(&kind);
        if begins
            && (self.waiting || self.ended || self.gate == Gate::Shut || SEQUENCE_BEGINS.contains(&kind))
        {
            self.finish(output)?;
            if !SEQUENCE_BEGINS.contains(&kind) {
                self.end_sequence();
            }
            (self.waiting, self.recovery, self.gate) = (false, None, Gate::Open);
            self.skips_leading = true;
        } else if begins {
            self.skips_leading = false;
        } else if self.waiting {
            let Some(RandomAccess::Gradual(further)) = random_access::h265(nal_units(data)) else {
                return Ok(false);
            };
            self.finish(output)?;
            (self.waiting, self.recovery, self.gate) = (false, Some(further), Gate::Shut);
        }
        self.ended = false;
        Ok(!(self.skips_leading && SKIPPED_LEADING.contains(&kind)))
    }

    /// What comes next does not follow on what came before.
    fn end_sequence(&mut self) {
        for nal in parse_annex_b(&END_OF_SEQUENCE) {
            let _ = self.decoder.decode_nal(&nal);
        }
    }

    fn take(&mut self, frame: Frame, stamp: Stamp) -> Result<()> {
        let order = frame.pic_order_cnt;
        let layout = match frame.chroma_format_idc {
            1 => Layout::I420,
            3 => Layout::I444,
            _ => {
                return Err(Error::new(
                    Kind::SourceUnsupported,
                    "H.265 stream is not supported: chroma format",
                ));
            }
        };
        let depth = frame.bit_depth;
        let planes = [frame.y, frame.u, frame.v].map(|plane| match plane {
            PixelData::U8(samples) => samples,
            PixelData::U16(samples) => narrow(samples.into_iter(), depth),
        });
        self.proven = true;
        if let Some(further) = self.recovery.take() {
            self.gate = Gate::From(order.saturating_add(further));
        }
        let (range, matrix) = self.sps.map_or_else(Default::default, |sps| (sps.range, sps.matrix));
        self.hold(
            order,
            Decoded { width: frame.width, height: frame.height, layout, planes, range, matrix, stamp },
        );
        Ok(())
    }

    /// Holds a picture back until its turn has come.
    fn hold(&mut self, order: i32, picture: Decoded) {
        let squeezed = self.reorder.push(order, picture);
        self.passed += u64::from(squeezed.is_some_and(|picture| picture.stamp.shown));
    }

    fn show(&mut self, order: i32, picture: &Decoded, output: &mut Output<'_>) -> Result<()> {
        if self.gate.lets_pass(order) {
            return picture.show(output);
        }
        self.passed += u64::from(picture.stamp.shown);
        Ok(())
    }

    /// A coded sequence is over: everything that is held goes out.
    fn finish(&mut self, output: &mut Output<'_>) -> Result<()> {
        while let Some((order, picture)) = self.reorder.take() {
            self.show(order, &picture, output)?;
        }
        self.reorder.restart();
        Ok(())
    }
}

impl Decoder for H265 {
    fn decode(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<()> {
        let Some(kind) = self.look(unit.data) else {
            self.take_sets(unit.data);
            self.ended |= nal_units(unit.data).any(|unit| SEQUENCE_ENDS.contains(&h265_type(unit)));
            return Ok(());
        };
        if !self.enter(unit.data, kind, output)? {
            self.take_sets(unit.data);
            self.passed += u64::from(unit.shown);
            return Ok(());
        }
        let stamp = Stamp { time: timestamp, shown: unit.shown, recovers: false };
        let is_base = self.header(unit.data).is_some_and(|header| header.is_base);
        let mut refusal = None;
        for nal in parse_annex_b(unit.data).iter().chain(&parse_annex_b(&DELIMITER)) {
            self.ended |= matches!(nal.nal_unit_type, NalUnitType::Eos | NalUnitType::Eob);
            match self.decoder.decode_nal(nal) {
                Ok(Some(frame)) => {
                    self.base = if is_base { Some(frame.pic_order_cnt) } else { self.base };
                    self.take(frame, stamp)?;
                }
                Ok(None) => {}
                Err(error) => refusal = Some(error),
            }
        }
        while let Some((order, picture)) = self.reorder.due() {
            self.show(order, &picture, output)?;
        }
        match refusal {
            None => Ok(()),
            Some(error @ (DecodeError::Unsupported(_) | DecodeError::ResourceLimit(_))) if !self.proven => {
                Err(Error::told(Kind::SourceUnsupported, "H.265 stream is not supported", error))
            }
            Some(error) => Err(Error::new(Kind::Undecodable, "H.265 picture is damaged").because(error)),
        }
    }

    fn leave_out(&mut self, unit: &AccessUnit<'_>, output: &mut Output<'_>) -> Result<()> {
        self.look(unit.data);
        self.take_sets(unit.data);
        if let Some((low, bits)) = self.header(unit.data).and_then(|header| header.order) {
            self.hold(nearest(low, bits, self.base), Decoded::nothing());
        }
        while let Some((order, picture)) = self.reorder.due() {
            self.show(order, &picture, output)?;
        }
        Ok(())
    }

    fn pass(&mut self, unit: &AccessUnit<'_>) {
        let picture = self.look(unit.data);
        self.take_sets(unit.data);
        self.passed += u64::from(picture.is_some() && unit.shown);
        while self.reorder.take().is_some() {}
        self.reorder.restart();
        (self.waiting, self.gate) = (true, Gate::Shut);
    }

    fn lost(&mut self) {
        self.waiting = true;
    }

    fn waiting(&self) -> bool {
        self.waiting || self.gate == Gate::Shut
    }

    fn passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    fn flush(&mut self, output: &mut Output<'_>) -> Result<()> {
        self.finish(output)?;
        (self.waiting, self.gate) = (true, Gate::Shut);
        Ok(())
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
    fn an_open_group_of_pictures_begins_at_its_clean_random_access() {
        // Three are shown before it and need what lies before.
        assert_eq!(assert_exact("cut-open.h265", |_| {}).passed, 3);
    }

    #[test]
    fn range_and_matrix_come_from_the_stream() {
        assert_exact("h265-full-709.mp4", |picture| {
            assert_eq!((picture.range, picture.matrix), (Range::Full, Matrix::Bt709));
        });
    }
}
