//! Decoders that are not ours, as one of ours: libavcodec's, or the board's.
//!
//! They take access units in decoding order and give pictures in presentation order. What is the same for all
//! of them is here: decoding begins where the stream says that it may, what cannot be right is not shown,
//! every picture has the stamp of its access unit, and what fails is replaced by the builtin decoder in
//! mid-stream.

use super::annexb::{START_CODE, nal_units};
use super::decoded::Stamp;
use super::entrance::Entrance;
use super::entry::Entry;
use super::{AccessUnit, Codec, Decoder, Output, builtin};
use crate::capture::DecoderKind;
use crate::capture::worker::picture::{Matrix, Picture, Range};
use crate::clock::Wall;
use crate::error::{Error, Kind, Result};

/// A picture this many units after its own will not come any more: the standards hold back 16 at most, and
/// each may be two fields.
const MAX_LAG: u64 = 34;

/// Most bytes of parameter sets that wait for a picture that is decoded.
const MAX_SETS_BYTES: usize = 64 * 1024;

/// Most bytes that are kept for the builtin decoder since decoding could last begin: ten seconds of 6 Mbit/s,
/// as of a muted source. Beyond that it waits for the next key frame.
const MAX_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Most units of the same: ten seconds at 60 frames per second.
const MAX_KEPT_UNITS: usize = 600;

/// Takes pictures with the tag of the unit that each was begun by. Its error ends the call and is passed on
/// as [`Fault::Output`].
pub(super) type Take<'a> = dyn FnMut(&Picture<'_>, u64) -> Result<()> + 'a;

/// A decoder that is not ours, for one stream.
pub(super) trait Foreign {
    /// Whose decoder it is.
    fn kind(&self) -> DecoderKind;

    /// Which one, for the log: `libavcodec 59.37.100 h264`.
    fn name(&self) -> &str;

    /// Decodes an access unit; gives the pictures whose turn it is. Range and matrix of H.264 and H.265 are
    /// set from the stream's parameter sets afterwards.
    fn decode(&mut self, data: &[u8], tag: u64, take: &mut Take<'_>) -> Result<(), Fault>;

    /// Gives everything that is held. What comes next does not follow on it.
    fn drain(&mut self, take: &mut Take<'_>) -> Result<(), Fault>;

    /// Forgets everything that is held. What comes next does not follow on it.
    fn reset(&mut self) -> Result<(), Fault>;

    /// It may be gone at any moment (a device): what came since decoding could begin is kept, for who takes
    /// over.
    fn can_vanish(&self) -> bool;
}

/// Why there is no picture.
#[derive(Debug)]
#[cfg_attr(target_env = "musl", allow(dead_code))] // made by libavcodec, which static builds lack
pub(super) enum Fault {
    /// This one unit is damaged.
    Damaged(String),
    /// The decoder is of no use for this stream any more: it does not do what the stream needs, or is gone.
    Lost(String),
    /// What the pictures were given to ([`Take`]) failed: no fault of the decoder's.
    Output(Error),
}

/// Units whose pictures have not come out, the oldest first: those of [`MAX_LAG`] tags, the one that goes in,
/// and the one that is given up after it.
type PendingUnits = heapless::Vec<Pending, { MAX_LAG as usize + 2 }>;

/// A unit that has gone in and whose picture has not come out.
#[derive(Debug, Clone, Copy)]
struct Pending {
    tag: u64,
    stamp: Stamp,
    range: Option<(Range, Matrix)>,
    /// It was reported as undecodable: not counted once more if its picture never comes.
    told: bool,
}

/// A decoder that is not ours, let in where the stream allows it and replaced by the builtin one when it
/// fails.
pub(super) struct Guarded {
    codec: Codec,
    foreign: Box<dyn Foreign>,
    /// Who has taken over.
    builtin: Option<Box<dyn Decoder>>,
    entrance: Entrance,
    /// Nothing that comes out can be right yet.
    shut: bool,
    next_tag: u64,
    /// Something has gone in since it was drained or reset.
    has_begun: bool,
    pending: PendingUnits,
    /// What passed by undecoded and is needed: parameter sets, ends of sequences.
    sets: Vec<u8>,
    /// Those, and a unit after them.
    joined: Vec<u8>,
    kept: Kept,
    /// A picture has come out.
    proven: bool,
    /// Why the builtin decoder has taken over.
    refusal: Option<String>,
    passed: u64,
    news: Option<String>,
}

impl Guarded {
    pub(super) fn new(codec: Codec, foreign: Box<dyn Foreign>) -> Guarded {
        Guarded {
            codec,
            foreign,
            builtin: None,
            entrance: Entrance::new(codec),
            shut: true,
            next_tag: 0,
            has_begun: false,
            pending: PendingUnits::new(),
            sets: Vec::new(),
            joined: Vec::new(),
            kept: Kept::default(),
            proven: false,
            refusal: None,
            passed: 0,
            news: None,
        }
    }

    /// Keeps the units that are no picture.
    fn keep_sets(&mut self, data: &[u8]) {
        if !self.codec.has_nal_units() {
            return;
        }
        for unit in nal_units(data).filter(|unit| self.entrance.outlives_its_unit(unit)) {
            if self.sets.len() + START_CODE.len() + unit.len() <= MAX_SETS_BYTES {
                self.sets.extend(START_CODE);
                self.sets.extend(unit);
            }
        }
    }

    /// What is held comes out, and decoding begins anew.
    fn finish(&mut self, output: &mut Output<'_>) -> Result<(), Fault> {
        let Guarded { foreign, pending, shut, passed, .. } = self;
        let drained = foreign.drain(&mut |picture, tag| show(pending, shut, passed, picture, tag, output));
        self.has_begun = false;
        self.forget();
        drained
    }

    /// What has not come out will not come out.
    fn forget(&mut self) {
        let lost = self.pending.drain(..).filter(|pending| pending.stamp.shown && !pending.told).count();
        self.passed += lost as u64;
    }

    fn run(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<(), Fault> {
        let (begins, recovers, own_picture) = match self.entrance.enter(unit.data, self.shut) {
            Entry::Sets => {
                self.keep_sets(unit.data);
                return Ok(());
            }
            Entry::Pass => {
                self.keep_sets(unit.data);
                self.passed += u64::from(unit.shown);
                return Ok(());
            }
            Entry::Decode { begins, recovers, own_picture } => (begins, recovers, own_picture),
        };
        if let Some(is_whole) = begins {
            if self.has_begun {
                self.finish(output)?;
            }
            self.shut = !is_whole;
            self.kept.begin();
        } else if self.entrance.is_clean() {
            if self.shut {
                // Some of what is held may be wrong.
                self.finish(output)?;
                self.shut = false;
            }
            self.kept.begin();
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        self.has_begun = true;
        let stamp = Stamp { time: timestamp, shown: unit.shown, recovers };
        if own_picture {
            let range = self.entrance.colours();
            let kept = self.pending.push(Pending { tag, stamp, range, told: false });
            debug_assert!(kept.is_ok(), "tags go up, one by one");
        }
        if self.foreign.can_vanish() || !self.proven {
            let oldest = self.pending.first().map_or(tag, |pending| pending.tag);
            self.kept.push(&self.sets, unit.data, tag, stamp, oldest);
        }
        let data = if self.sets.is_empty() {
            unit.data
        } else {
            self.joined.clear();
            self.joined.extend_from_slice(&self.sets);
            self.joined.extend_from_slice(unit.data);
            self.sets.clear();
            &self.joined
        };
        let Guarded { foreign, pending, shut, passed, .. } = self;
        let waiting = pending.len();
        let decoded =
            foreign.decode(data, tag, &mut |picture, tag| show(pending, shut, passed, picture, tag, output));
        if self.pending.len() < waiting {
            self.prove();
        }
        let passed = &mut self.passed;
        self.pending.retain(|pending| {
            let may_come = pending.tag + MAX_LAG >= tag;
            *passed += u64::from(!may_come && pending.stamp.shown && !pending.told);
            may_come
        });
        match decoded {
            Err(Fault::Damaged(cause)) if self.shut => {
                // Of no interest: pictures that were expected to be wrong.
                log::debug!("event=undecodable_before_recovery error={cause:?}");
                Ok(())
            }
            Err(Fault::Damaged(cause)) => {
                if let Some(pending) = self.pending.iter_mut().find(|pending| pending.tag == tag) {
                    pending.told = true;
                }
                Err(Fault::Damaged(cause))
            }
            decoded => decoded,
        }
    }

    /// A picture has come out: what was kept in case that none does goes.
    fn prove(&mut self) {
        if !std::mem::replace(&mut self.proven, true) && !self.foreign.can_vanish() {
            self.kept = Kept::default();
        }
    }

    fn answer(&mut self, ran: Result<(), Fault>, output: &mut Output<'_>) -> Result<()> {
        match ran {
            Ok(()) => Ok(()),
            Err(Fault::Output(error)) => Err(error),
            Err(Fault::Damaged(cause)) => {
                let message = format!("{} picture is damaged", self.codec.name());
                Err(Error::new(Kind::Undecodable, message).because(cause))
            }
            Err(Fault::Lost(cause)) => self.fall_back(&cause, output),
        }
    }

    /// The builtin decoder takes over; it is told what it has missed.
    fn fall_back(&mut self, cause: &str, output: &mut Output<'_>) -> Result<()> {
        let (codec, name) = (self.codec.name(), self.foreign.name());
        log::warn!("event=decoder_lost codec={codec} decoder=\"{name}\" error={cause:?}");
        self.news = Some(format!("{name} failed ({cause}): the builtin decoder goes on"));
        let Some(builtin) = builtin(self.codec) else {
            let message = format!("{codec} stream is not supported: {name}: {cause}");
            return Err(Error::new(Kind::SourceUnsupported, message));
        };
        self.builtin = Some(builtin);
        self.refusal = Some(format!("{name}: {cause}"));
        let pending = std::mem::take(&mut self.pending);
        let mut kept = std::mem::take(&mut self.kept);
        while let Some(Unit { data, tag, stamp, .. }) = kept.units.pop_front() {
            let shown = stamp.shown && pending.iter().any(|pending| pending.tag == tag);
            match self.decode_builtin(&AccessUnit { data: &data, shown }, stamp.time, output) {
                Err(error) if error.kind() == Kind::Undecodable => {}
                decoded => decoded?,
            }
        }
        Ok(())
    }

    /// What neither takes, both say.
    fn decode_builtin(
        &mut self,
        unit: &AccessUnit<'_>,
        timestamp: Wall,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let Some(builtin) = &mut self.builtin else { return Ok(()) };
        builtin.decode(unit, timestamp, output).map_err(|error| match &self.refusal {
            Some(refusal) if error.kind() == Kind::SourceUnsupported => error.because(refusal.clone()),
            _ => error,
        })
    }
}

/// Gives a picture out, if it is to be seen.
fn show(
    pending: &mut PendingUnits,
    shut: &mut bool,
    passed: &mut u64,
    picture: &Picture<'_>,
    tag: u64,
    output: &mut Output<'_>,
) -> Result<()> {
    // One whose tag nobody knows takes the place of the oldest.
    let place = pending.iter().position(|pending| pending.tag == tag).unwrap_or(0);
    if pending.is_empty() {
        return Ok(());
    }
    let Pending { stamp, range, .. } = pending.remove(place);
    *shut &= !stamp.recovers;
    if !stamp.shown {
        return Ok(());
    }
    if *shut {
        *passed += 1;
        return Ok(());
    }
    let (range, matrix) = range.unwrap_or((picture.range, picture.matrix));
    let picture = Picture { range, matrix, ..*picture };
    picture.check()?;
    output(&picture, stamp.time)
}

impl Decoder for Guarded {
    fn decode(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<()> {
        if self.builtin.is_some() {
            return self.decode_builtin(unit, timestamp, output);
        }
        let ran = self.run(unit, timestamp, output);
        self.answer(ran, output)
    }

    fn pass(&mut self, unit: &AccessUnit<'_>) {
        if let Some(builtin) = &mut self.builtin {
            return builtin.pass(unit);
        }
        self.keep_sets(unit.data);
        self.passed += u64::from(unit.shown && self.entrance.holds_picture(unit.data));
        self.entrance.lose();
        self.shut = true;
        self.forget();
        self.kept = Kept::default();
        if std::mem::take(&mut self.has_begun)
            && let Err(fault) = self.foreign.reset()
        {
            // The next unit that is decoded says so again.
            log::debug!("event=decoder_not_reset error={fault:?}");
        }
    }

    fn lost(&mut self) {
        match &mut self.builtin {
            Some(builtin) => builtin.lost(),
            None => self.entrance.lose(),
        }
    }

    fn waiting(&self) -> bool {
        self.builtin.as_ref().map_or(self.entrance.is_waiting() || self.shut, |builtin| builtin.waiting())
    }

    fn passed(&mut self) -> u64 {
        let own = std::mem::take(&mut self.passed);
        own + self.builtin.as_mut().map_or(0, |builtin| builtin.passed())
    }

    fn flush(&mut self, output: &mut Output<'_>) -> Result<()> {
        if let Some(builtin) = &mut self.builtin {
            return builtin.flush(output);
        }
        let finished = if self.has_begun { self.finish(output) } else { Ok(()) };
        self.entrance.lose();
        self.shut = true;
        self.answer(finished, output)
    }

    fn outlives_its_stream(&self) -> bool {
        true
    }

    fn kind(&self) -> DecoderKind {
        self.builtin.as_ref().map_or(self.foreign.kind(), |builtin| builtin.kind())
    }

    fn news(&mut self) -> Option<String> {
        self.news.take()
    }
}

/// A unit that is kept.
struct Unit {
    data: Vec<u8>,
    tag: u64,
    stamp: Stamp,
    /// Decoding may begin with it.
    begins: bool,
}

/// Units since decoding could last begin, for who takes over; and those before, as long as pictures of theirs
/// have not come out.
#[derive(Default)]
struct Kept {
    units: Box<heapless::Deque<Unit, MAX_KEPT_UNITS>>,
    bytes: usize,
    /// The next unit is one that decoding may begin with.
    begins: bool,
    /// There were more than are kept.
    is_over: bool,
}

impl Kept {
    fn begin(&mut self) {
        (self.begins, self.is_over) = (true, false);
    }

    /// `oldest`: tag of the first unit whose picture has not come out.
    fn push(&mut self, sets: &[u8], data: &[u8], tag: u64, stamp: Stamp, oldest: u64) {
        let begins = std::mem::take(&mut self.begins);
        while let Some(next) = self.units.iter().skip(1).position(|unit| unit.begins && unit.tag <= oldest) {
            self.forget(next + 1);
        }
        if begins && tag <= oldest {
            self.forget(self.units.len());
        }
        self.bytes += sets.len() + data.len();
        let kept = self.units.push_back(Unit { data: [sets, data].concat(), tag, stamp, begins });
        self.is_over |= self.bytes > MAX_KEPT_BYTES || kept.is_err();
        if self.is_over {
            self.forget(self.units.len());
            self.bytes = 0;
        }
    }

    /// The oldest units are not needed any more.
    fn forget(&mut self, count: usize) {
        for unit in (0..count).map_while(|_| self.units.pop_front()) {
            self.bytes -= unit.data.len();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::{asset, decode_all_by};
    use crate::capture::worker::decode::open;
    use crate::capture::worker::decode::own::Own;
    use crate::capture::worker::file;

    const CLIPS: [&str; 6] =
        ["main.mp4", "high-pyramid.mp4", "h265.mp4", "cut-open.h264", "cut-refresh.h264", "interlaced.mp4"];

    /// Checksums, units of pictures, and how many passed.
    fn decode(name: &str, open: &mut dyn FnMut(Codec) -> Box<dyn Decoder>) -> (Vec<u32>, Vec<i64>, u64) {
        let mut source = file::open(&asset(&format!("clips/{name}"))).unwrap();
        let decoded = decode_all_by(source.as_mut(), open, |_| {}).unwrap();
        (decoded.checksums, decoded.packets, decoded.passed)
    }

    fn guarded(codec: Codec, lost_at: u64, can_vanish: bool) -> Box<dyn Decoder> {
        let mut own = Own::new(codec, |_, _| {});
        (own.lost_at, own.can_vanish) = (lost_at, can_vanish);
        Box::new(Guarded::new(codec, Box::new(own)))
    }

    #[test]
    fn a_decoder_that_is_not_ours_gives_what_ours_gives() {
        for name in CLIPS {
            let ours = decode(name, &mut open);
            assert_eq!(decode(name, &mut |codec| guarded(codec, u64::MAX, false)), ours, "{name}");
        }
    }

    #[test]
    fn one_that_is_lost_anywhere_costs_no_picture() {
        for name in CLIPS {
            let (checksums, units, _) = decode(name, &mut open);
            for lost_at in [0, 1, 5, 11, 12, 17] {
                let (got, of, _) = decode(name, &mut |codec| guarded(codec, lost_at, true));
                assert_eq!((got, of), (checksums.clone(), units.clone()), "{name}, lost at {lost_at}");
            }
        }
    }

    #[test]
    fn one_that_cannot_vanish_and_does_costs_the_pictures_before_the_next_key_frame() {
        // Key frames are 12 pictures apart.
        let (checksums, ..) = decode("baseline.mp4", &mut open);
        let (got, ..) = decode("baseline.mp4", &mut |codec| guarded(codec, 5, false));
        assert_eq!(got, [&checksums[..5], &checksums[12..]].concat());
        // Before its first picture nothing is lost.
        let (got, ..) = decode("baseline.mp4", &mut |codec| guarded(codec, 0, false));
        assert_eq!(got, checksums);
    }

    #[test]
    fn it_says_once_who_took_over() {
        let mut source = file::open(&asset("clips/main.mp4")).unwrap();
        let mut decoder = guarded(Codec::H264, 3, true);
        let mut news = Vec::new();
        while let crate::capture::worker::source::Grab::Packet(_, unit) = source.grab().unwrap() {
            decoder.decode(&unit, Wall::from_micros(0), &mut |_, _| Ok(())).unwrap();
            news.extend(decoder.news());
        }
        assert_eq!(news, ["own failed (unplugged): the builtin decoder goes on"]);
        assert_eq!(decoder.kind(), DecoderKind::Builtin);
    }
}
