//! H.264. `rusty_h264-decoder` does the common case (4:2:0, 8 bit, frames); `rust_h264`, half as fast, does
//! what that one refuses (fields, 10 bit, 4:2:2, gray, explicit weights) or does wrong (long-term references,
//! samples that are not compressed, lost references). Which of them, parameter sets and slices say before the
//! first picture that needs it; where that comes late, the second decoder decodes again what came since
//! decoding could begin.

mod engine;
mod entrance;
mod fallback;
mod history;
mod pps;
mod primer;
mod samples;
mod sets;
mod slice;
mod sps;

pub(super) use entrance::Entrance;
pub(super) use sets::Sets;
pub(super) use slice::SliceHeader;
pub(crate) use sps::Sps;

use super::annexb::{h264_type, nal_places};
use super::decoded::{Decoded, Stamp};
use super::gate::Gate;
use super::order::nearest;
use super::random_access::{self, RandomAccess};
use super::reorder::Reorder;
use super::{AccessUnit, Decoder, Output};
use crate::clock::Wall;
use crate::error::{Error, Kind, Result};
use engine::{Engine, slices};
use history::History;
use std::ops::Range;

pub(super) const SLICE: u8 = 1;
const DATA_PARTITION: u8 = 2;
pub(super) const SLICE_OF_KEY_FRAME: u8 = 5;
pub(super) const SEQUENCE_PARAMETERS: u8 = 7;
pub(super) const PICTURE_PARAMETERS: u8 = 8;

/// Most NAL units of an access unit that are looked at: a slice for each macroblock of 8K.
const MAX_UNITS: usize = 140_000;

/// After so many pictures a stream that refreshes its picture bit by bit, and does not say where, counts as
/// whole. Encoders refresh every 1 to 10 seconds; this is 20 at 25 fps, and longer than the longest distance
/// of key frames that cameras offer.
const REFRESH_PICTURES: u32 = 500;

/// Decoder of one H.264 stream.
pub(super) struct H264 {
    engine: Engine,
    sets: Sets,
    /// What the present picture is decoded by.
    sps: Option<Sps>,
    reorder: Reorder<Decoded>,
    /// Whether a picture has come out of the present engine.
    proven: bool,
    progress: Progress,
    gate: Gate,
    /// The stream has said where decoding may begin: it will again.
    marked: bool,
    /// Pictures that will not come out, since this was last asked: [`Decoder::passed`].
    passed: u64,
    /// Where the NAL units of the present access unit lie. Kept, so that a steady stream allocates nothing
    /// here.
    units: Vec<Range<usize>>,
    /// For the second decoder, while the first one decodes.
    history: History,
    /// `frame_num` of the reference picture before this one.
    last_frame_num: Option<u32>,
    /// The second decoder decodes because of a loss: until the next key frame.
    until_key_frame: bool,
    /// Others may refer to the picture that the engine has in work.
    reference: bool,
    /// Order count of the reference picture that came out of the engine last.
    base: Option<i32>,
    /// For a test: the fast decoder decodes what is beyond it, too.
    #[cfg(test)]
    alone: bool,
}

/// What the fast decoder would do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// The stream uses it, and will again.
    Tool,
    /// References are missing; the second decoder puts others in their place.
    Loss,
}

/// How far decoding has come since it began, or since something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Until a picture comes that decoding may begin at.
    Waiting,
    /// Pictures are decoded and not right yet.
    Recovering(Target),
    /// All pictures are right, or will be from the one on that was marked.
    Steady,
}

/// Where a picture has recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// At the reference picture whose `frame_num` is so much `further` than that of the present one.
    FrameNum { present: u32, further: u32 },
    /// After so many more pictures.
    Pictures(u32),
}

impl Target {
    /// Goes on to the next picture, whose access unit says that all is right so many frame numbers further.
    fn step(self, header: &SliceHeader, sps: &Sps, said: Option<u32>) -> Target {
        match (self, said) {
            (Target::Pictures(left), None) => Target::Pictures(left.saturating_sub(1)),
            (Target::Pictures(_), Some(further)) => Target::FrameNum { present: header.frame_num, further },
            (Target::FrameNum { present, further }, said) => {
                let passed = header.frame_num.wrapping_sub(present) & ((1 << sps.coding.frame_num_bits) - 1);
                let further = further.saturating_sub(passed).min(said.unwrap_or(u32::MAX));
                Target::FrameNum { present: header.frame_num, further }
            }
        }
    }
}

/// What an engine makes of an access unit: order count and picture.
type Step = Result<Option<(i32, Decoded)>, Refusal>;

/// Why an engine gave no picture.
struct Refusal {
    /// A coding tool that it lacks; or damage that looks like one.
    unsupported: bool,
    cause: String,
}

impl H264 {
    pub(super) fn new() -> Self {
        H264 {
            engine: Engine::fast(),
            sets: Sets::default(),
            sps: None,
            reorder: Reorder::new(),
            proven: false,
            progress: Progress::Waiting,
            gate: Gate::Shut,
            marked: false,
            passed: 0,
            units: Vec::new(),
            history: History::default(),
            last_frame_num: None,
            until_key_frame: false,
            reference: false,
            base: None,
            #[cfg(test)]
            alone: false,
        }
    }

    /// Finds the NAL units and takes note of parameter sets.
    fn look(&mut self, data: &[u8]) {
        self.units.clear();
        self.units.extend(nal_places(data).take(MAX_UNITS));
        let mut other = false;
        for place in &self.units {
            let unit = data.get(place.clone()).unwrap_or_default();
            let new = match h264_type(unit) {
                SEQUENCE_PARAMETERS => self.sets.take_sequence(unit).map(|sps| !sps.plain),
                PICTURE_PARAMETERS => self.sets.take_picture(unit).map(|pps| pps.needs_other_decoder()),
                _ => continue,
            };
            other |= new.unwrap_or(false);
            self.engine.take_set(unit);
        }
        if other && self.engine.is_fast() {
            self.switch();
        }
    }

    /// To the decoder that can do everything. False: it has to wait until decoding may begin.
    fn switch(&mut self) -> bool {
        self.engine = Engine::fallback(&self.sets);
        self.proven = false;
        let replayed = self.history.units().map(|units| {
            for (unit, places) in units {
                let stamp = Stamp { time: Wall::from_micros(0), shown: false, recovers: false };
                // Its pictures are out already.
                let _ = self.engine.decode(unit, &places, self.sps.as_ref(), stamp);
            }
        });
        self.history.end();
        replayed.is_some()
    }

    /// What of this picture is beyond the fast decoder.
    fn beyond(&self, data: &[u8], header: Option<&SliceHeader>) -> Option<Beyond> {
        #[cfg(test)]
        if self.alone {
            return None;
        }
        let long_term = header.is_some_and(|header| header.long_term || header.reset);
        let slices = || slices(data, &self.units).filter_map(|place| data.get(place));
        if long_term || slices().any(samples::are_in) {
            return Some(Beyond::Tool);
        }
        let (header, coding) = (header?, self.sps?.coding);
        let last = self.last_frame_num.filter(|_| !coding.gaps && self.progress == Progress::Steady)?;
        let next = (last + 1) & ((1 << coding.frame_num_bits) - 1);
        (header.frame_num != last && header.frame_num != next).then_some(Beyond::Loss)
    }

    /// Whether the second decoder could go on from a damaged picture, for which it shows what it has and
    /// which it lets others refer to; the first one refuses all that refers to it.
    fn can_conceal(&self) -> bool {
        #[cfg(test)]
        if self.alone {
            return false;
        }
        self.progress == Progress::Steady && self.history.is_whole()
    }

    /// Begins at this picture, or goes on. False: it passes by undecoded.
    fn enter(
        &mut self,
        data: &[u8],
        header: Option<&SliceHeader>,
        stamp: &mut Stamp,
        output: &mut Output<'_>,
    ) -> Result<bool> {
        let key = self.kinds(data).any(|kind| kind == SLICE_OF_KEY_FRAME);
        if self.progress == Progress::Steady && !key {
            return Ok(true);
        }
        let units = self.units.iter().map(|place| data.get(place.clone()).unwrap_or_default());
        let access = random_access::h264(units);
        self.marked |= access.is_some();
        if access == Some(RandomAccess::Clean) {
            if self.sets.is_empty() {
                return Ok(false);
            }
            self.finish(output)?;
            (self.progress, self.gate) = (Progress::Steady, Gate::Open);
            if std::mem::take(&mut self.until_key_frame) {
                self.engine = Engine::fast_with(&self.sets);
            }
            self.history.begin();
            self.last_frame_num = None;
            return Ok(true);
        }
        // Without its parameter sets nothing can be made of a picture.
        let (Some(header), Some(sps)) = (header, self.sps) else { return Ok(false) };
        let said = match access {
            Some(RandomAccess::Gradual(further)) => Some(further.unsigned_abs()),
            Some(_) => Some(0),
            None => None,
        };
        let target = match self.progress {
            Progress::Recovering(target) => target.step(header, &sps, said),
            _ if said.is_none() && self.marked => return Ok(false),
            _ => {
                self.finish(output)?;
                self.gate = Gate::Shut;
                if !self.prime(&sps, header)? {
                    return Ok(false);
                }
                said.map_or(Target::Pictures(REFRESH_PICTURES), |further| Target::FrameNum {
                    present: header.frame_num,
                    further,
                })
            }
        };
        stamp.recovers = match target {
            Target::FrameNum { further, .. } => {
                further == 0 && (header.reference || access == Some(RandomAccess::Open))
            }
            Target::Pictures(left) => left == 0,
        };
        self.progress = if stamp.recovers { Progress::Steady } else { Progress::Recovering(target) };
        Ok(true)
    }

    /// Fills the memory of references. False: the engine does not take that.
    fn prime(&mut self, sps: &Sps, header: &SliceHeader) -> Result<bool> {
        let Some(free) = self.sets.free_picture_set() else { return Ok(false) };
        self.history.begin();
        self.last_frame_num = None;
        for picture in primer::pictures(sps, header, free) {
            self.history.push(&picture);
            match self.engine.prime(&picture) {
                Err(refusal) if refusal.unsupported => return Err(unsupported(&refusal)),
                Err(_) => return Ok(false),
                Ok(()) => {}
            }
        }
        Ok(true)
    }

    /// The present picture cannot be decoded, nor what follows until decoding may begin.
    fn wait(&mut self, shown: bool) {
        self.progress = Progress::Waiting;
        self.passed += u64::from(shown);
    }

    fn kinds(&self, data: &[u8]) -> impl Iterator<Item = u8> {
        self.units.iter().map(|place| data.get(place.clone()).map_or(0, h264_type))
    }

    /// A picture comes out of the engine; `reference`: others may refer to it.
    fn push(&mut self, (order, picture): (i32, Decoded), reference: bool) {
        self.proven = true;
        if reference {
            self.base = Some(order);
        }
        if picture.stamp.recovers {
            self.gate = Gate::From(order);
        }
        self.hold(order, picture);
    }

    /// Holds a picture back until its turn has come.
    fn hold(&mut self, order: i32, picture: Decoded) {
        let squeezed = self.reorder.push(order, picture);
        self.passed += u64::from(squeezed.is_some_and(|picture| picture.stamp.shown));
    }

    /// A coded sequence is over: everything that is held goes out.
    fn finish(&mut self, output: &mut Output<'_>) -> Result<()> {
        if let Some(last) = self.engine.flush(self.sps.as_ref()) {
            self.push(last, self.reference);
        }
        while let Some((order, picture)) = self.reorder.take() {
            self.show(order, &picture, output)?;
        }
        self.reorder.restart();
        Ok(())
    }

    fn show(&mut self, order: i32, picture: &Decoded, output: &mut Output<'_>) -> Result<()> {
        if self.gate.lets_pass(order) {
            return picture.show(output);
        }
        self.passed += u64::from(picture.stamp.shown);
        Ok(())
    }
}

impl Decoder for H264 {
    fn decode(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<()> {
        self.look(unit.data);
        if self.sets.extended() && self.kinds(unit.data).any(|kind| kind == DATA_PARTITION) {
            let cause = "data partitions of the Extended profile".to_owned();
            return Err(unsupported(&Refusal { unsupported: true, cause }));
        }
        let place = slices(unit.data, &self.units).next();
        let Some(first) = place.and_then(|place| unit.data.get(place)) else { return Ok(()) };
        let header = SliceHeader::parse(first, |pps| self.sets.of(pps));
        if let Some((sps, _)) = header.and_then(|header| self.sets.of(header.pps)) {
            self.reorder.set_depth(sps.depth);
            self.sps = Some(sps);
        }
        let mut stamp = Stamp { time: timestamp, shown: unit.shown, recovers: false };
        let before = self.progress;
        if !self.enter(unit.data, header.as_ref(), &mut stamp, output)? {
            self.passed += u64::from(unit.shown);
            return Ok(());
        }
        if header.is_some_and(|header| header.reset) {
            self.finish(output)?;
            self.gate = if self.gate == Gate::Shut { Gate::Shut } else { Gate::Open };
        }
        if self.engine.is_fast()
            && let Some(beyond) = self.beyond(unit.data, header.as_ref())
        {
            log::debug!("event=second_decoder reason={beyond:?}");
            self.until_key_frame = beyond == Beyond::Loss;
            if !self.switch() {
                self.wait(unit.shown);
                return Ok(());
            }
        }
        if let Some(header) = header.filter(|header| header.reference) {
            self.last_frame_num = Some(if header.reset { 0 } else { header.frame_num });
        }
        let mut step = self.engine.decode(unit.data, &self.units, self.sps.as_ref(), stamp);
        if self.engine.is_fast() {
            let refused = step.as_ref().err().map(|refusal| refusal.unsupported);
            if refused == Some(true) || (refused == Some(false) && self.can_conceal()) {
                self.until_key_frame = refused == Some(false);
                // What has played is supported, and damage may look like what is not.
                let proven = self.proven;
                if !self.switch() {
                    self.wait(unit.shown);
                    return Ok(());
                }
                self.proven = proven;
                step = self.engine.decode(unit.data, &self.units, self.sps.as_ref(), stamp);
            } else {
                self.history.push(unit.data);
            }
        }
        let reference = header.is_some_and(|header| header.reference);
        // With fields, what comes out is the picture before.
        let is_late = !self.engine.is_fast() && self.sps.is_some_and(|sps| !sps.frames_only);
        let before_it = std::mem::replace(&mut self.reference, reference);
        match step {
            Ok(Some(picture)) => self.push(picture, if is_late { before_it } else { reference }),
            Ok(None) => {}
            Err(refusal) if self.gate == Gate::Shut => {
                // Of no interest: pictures that were expected to be wrong.
                log::debug!("event=undecodable_before_recovery error=\"{}\"", refusal.cause);
                if stamp.recovers {
                    self.progress = before;
                }
                self.passed += u64::from(unit.shown);
            }
            Err(refusal) if refusal.unsupported && !self.proven => return Err(unsupported(&refusal)),
            Err(refusal) => {
                return Err(Error::new(Kind::Undecodable, "H.264 picture is damaged").because(refusal.cause));
            }
        }
        while let Some((order, picture)) = self.reorder.due() {
            self.show(order, &picture, output)?;
        }
        Ok(())
    }

    fn leave_out(&mut self, unit: &AccessUnit<'_>, output: &mut Output<'_>) -> Result<()> {
        self.look(unit.data);
        let place = slices(unit.data, &self.units).next();
        let first = place.and_then(|place| unit.data.get(place));
        let header = first.and_then(|first| SliceHeader::parse(first, |pps| self.sets.of(pps)));
        // Other types of order count come out as they come in.
        if let (Some(header), Some(sps)) = (header, self.sps.filter(|sps| sps.order_type() == 0)) {
            if let Some(last) = self.engine.flush(self.sps.as_ref()) {
                self.push(last, self.reference);
            }
            let order = nearest(header.order, sps.order_bits(), self.base).saturating_add(header.earlier);
            self.hold(order, Decoded::nothing());
        }
        while let Some((order, picture)) = self.reorder.due() {
            self.show(order, &picture, output)?;
        }
        Ok(())
    }

    fn pass(&mut self, unit: &AccessUnit<'_>) {
        self.look(unit.data);
        let pictures = self.kinds(unit.data).any(|kind| matches!(kind, SLICE | SLICE_OF_KEY_FRAME));
        self.passed += u64::from(pictures && unit.shown);
        self.engine.flush(self.sps.as_ref());
        while self.reorder.take().is_some() {}
        self.reorder.restart();
        (self.progress, self.gate) = (Progress::Waiting, Gate::Shut);
    }

    fn lost(&mut self) {
        self.progress = Progress::Waiting;
    }

    fn waiting(&self) -> bool {
        self.progress == Progress::Waiting || self.gate == Gate::Shut
    }

    fn passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    fn flush(&mut self, output: &mut Output<'_>) -> Result<()> {
        self.finish(output)?;
        (self.progress, self.gate) = (Progress::Waiting, Gate::Shut);
        Ok(())
    }
}

fn unsupported(refusal: &Refusal) -> Error {
    Error::new(Kind::SourceUnsupported, format!("H.264 stream is not supported: {}", refusal.cause))
}

#[cfg(test)]
mod tests;
