//! Which access units are left undecoded because fewer pictures are wanted than come, whatever decodes them
//! (in ffmpeg's words `skip_frame`: AVDISCARD_NONREF, and AVDISCARD_NONKEY).
//!
//! ```text
//! unit ─▶ judge ─▶ decoded ─▶ came_out ─▶ wanted: scaled, announced
//!            │                       └──▶ not wanted: counted
//!            ├──▶ nothing refers to it, and it is not wanted: left out
//!            ├──▶ of a temporal layer that is left out as a whole
//!            └──▶ less than one picture a key frame is wanted: all but those key frames left out
//! ```
//!
//! Which pictures are wanted is decided by their number in presentation order, so that those that are delivered
//! lie evenly, and are the same ones however the stream was coded. What is decoded is decoded exactly: a picture
//! that another one needs is never left out, so neither is any step of decoding it (its loop filter) left out.
//! Every picture that came has a number, decoded or not.

mod key_frames;
mod layers;
mod selection;

use super::decode::{AccessUnit, Codec, Decoder, Outline, Outlines, Output, PicturePart, RandomAccess};
use crate::clock::Wall;
use crate::error::Result;
use key_frames::KeyFrames;
use layers::{Layers, Standing};
pub(super) use selection::Selection;
use std::time::Instant;

/// Most pictures whose turn has not come that are remembered: four times as many as a decoder may hold back.
/// Of more, the oldest have passed.
const MAX_PENDING: usize = 64;

/// What shall become of an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    action: Action,
    /// What the decoder holds goes out before: nothing that is decoded comes for a while.
    flush_before: bool,
    /// What the decoder holds goes out after it.
    flush_after: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Decode,
    /// Among others that are decoded.
    LeaveOut,
    /// Decoding begins anew after it.
    Pass,
}

impl Verdict {
    const DECODE: Verdict = Verdict { action: Action::Decode, flush_before: false, flush_after: false };
    const LEAVE_OUT: Verdict = Verdict { action: Action::LeaveOut, ..Verdict::DECODE };

    /// Does so. `stamp` is the picture's, from [`Discard::judge`].
    pub(super) fn carry_out(
        self,
        decoder: &mut dyn Decoder,
        unit: &AccessUnit<'_>,
        stamp: Wall,
        output: &mut Output<'_>,
    ) -> Result<()> {
        if self.flush_before {
            decoder.flush(output)?;
        }
        let done = match self.action {
            Action::Decode => decoder.decode(unit, stamp, output),
            Action::LeaveOut => decoder.leave_out(unit, output),
            Action::Pass => {
                decoder.pass(&AccessUnit { shown: false, ..*unit });
                Ok(())
            }
        };
        if self.flush_after { done.and(decoder.flush(output)) } else { done }
    }
}

/// A picture that came, and whose turn in presentation order has not.
#[derive(Debug, Clone, Copy)]
struct Pending {
    place: i64,
    /// With which it will come out; `None`: it was left out.
    stamp: Option<Wall>,
}

/// What the decoder knows while only key frames are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Every picture that others need is decoded.
    No,
    /// A key frame at this place is with the decoder. It goes out when a picture comes that is shown after it.
    Holds(i64),
    /// The decoder holds nothing, and can begin at a key frame only.
    Empty,
}

/// Judges which access units of a stream are left undecoded.
#[derive(Debug)]
pub(super) struct Discard {
    outlines: Outlines,
    pub(super) selection: Selection,
    key_frames: KeyFrames,
    layers: Layers,
    /// Sorted by place; at most [`MAX_PENDING`].
    pending: Vec<Pending>,
    rest: Rest,
    /// Left out, passed, and not counted by the caller yet.
    passed: u64,
    /// Of the unit before: as it was stamped, and what became of it.
    stamp: Wall,
    first_field: Action,
}

impl Discard {
    pub(super) fn new(selection: Selection) -> Discard {
        Discard {
            outlines: Outlines::default(),
            selection,
            key_frames: KeyFrames::default(),
            layers: Layers::new(),
            pending: Vec::with_capacity(MAX_PENDING),
            rest: Rest::No,
            passed: 0,
            stamp: Wall::default(),
            first_field: Action::Decode,
        }
    }

    /// What shall become of an access unit that comes `now`, and with which time stamp it shall be decoded (no
    /// two pictures that wait have the same). `ready`: the decoder is in the middle of the stream, and its
    /// pictures are right.
    pub(super) fn judge(
        &mut self,
        codec: Codec,
        unit: &AccessUnit<'_>,
        ready: bool,
        (time, now): (Wall, Instant),
    ) -> (Verdict, Wall) {
        let Some(outline) = self.outlines.of(codec, unit.data) else { return (Verdict::DECODE, time) };
        if outline.part == PicturePart::SecondField {
            return (Verdict { action: self.first_field, ..Verdict::DECODE }, self.stamp);
        }
        let mut stamp = time;
        while self.pending.iter().any(|pending| pending.stamp == Some(stamp)) {
            stamp = Wall::from_micros(stamp.micros().saturating_add(1));
        }
        self.stamp = stamp;
        let verdict = self.judge_frame(unit, &outline, ready, now);
        self.first_field = verdict.action;
        if unit.shown {
            let stamp = (verdict.action == Action::Decode).then_some(stamp);
            self.remember(Pending { place: outline.place, stamp });
        }
        (verdict, stamp)
    }

    fn judge_frame(
        &mut self,
        unit: &AccessUnit<'_>,
        outline: &Outline,
        ready: bool,
        now: Instant,
    ) -> Verdict {
        let begins = matches!(outline.begins, Some(RandomAccess::Clean | RandomAccess::Open));
        let standing = outline.layer.map_or(Standing::Needed, |layer| {
            self.layers.picture(layer, outline.place, begins, self.selection.stride())
        });
        if !unit.shown {
            // Nobody will see it, so only what others need of it counts.
            if (outline.droppable || standing != Standing::Needed) && ready {
                return Verdict::LEAVE_OUT;
            }
            self.rest = Rest::No;
            return Verdict::DECODE;
        }
        self.selection.came(now);
        self.key_frames.picture(begins, outline.place);
        if begins {
            return self.judge_key_frame(outline, now);
        }
        match self.rest {
            Rest::No if ready && self.can_be_spared(outline, standing, now) => Verdict::LEAVE_OUT,
            Rest::No => Verdict::DECODE,
            // Shown before the key frame.
            Rest::Holds(place) if outline.place < place => Verdict::LEAVE_OUT,
            Rest::Holds(_) => {
                self.rest = Rest::Empty;
                Verdict { action: Action::Pass, flush_before: true, flush_after: false }
            }
            Rest::Empty => Verdict { action: Action::Pass, ..Verdict::DECODE },
        }
    }

    /// Whether a picture is neither needed nor wanted, or cannot be had.
    fn can_be_spared(&self, outline: &Outline, standing: Standing, now: Instant) -> bool {
        match standing {
            Standing::Needed => outline.droppable && !self.takes(outline, 0, now),
            Standing::Free => {
                let waiting = self.pending.iter().map(|pending| pending.place);
                !self.takes(outline, self.layers.to_come(outline.place, waiting), now)
            }
            Standing::OutOfReach => true,
        }
    }

    /// Whether a picture is wanted, before which so many are shown that are to come.
    fn takes(&self, outline: &Outline, to_come: usize, now: Instant) -> bool {
        let before = self.pending.iter().take_while(|pending| pending.place < outline.place);
        let before = before.map(|pending| pending.stamp.is_some()).chain(std::iter::repeat_n(false, to_come));
        self.selection.takes(before, now)
    }

    fn judge_key_frame(&mut self, outline: &Outline, now: Instant) -> Verdict {
        // The one before goes out, whatever becomes of this one.
        let flush_before = matches!(self.rest, Rest::Holds(_));
        if !self.selection.is_below(self.key_frames.distance()) {
            self.rest = Rest::No;
            return Verdict { flush_before, ..Verdict::DECODE };
        }
        let is_clean = outline.begins == Some(RandomAccess::Clean);
        let leading = if is_clean { 0 } else { self.key_frames.leading() };
        if !self.takes(outline, leading, now) {
            let flush_before = flush_before || self.rest == Rest::No;
            self.rest = Rest::Empty;
            return Verdict { action: Action::Pass, flush_before, flush_after: false };
        }
        // Pictures may come that are shown before it, and it has its number after theirs.
        let is_first = is_clean && outline.part == PicturePart::Frame;
        self.rest = if is_first { Rest::Empty } else { Rest::Holds(outline.place) };
        Verdict { action: Action::Decode, flush_before, flush_after: is_first }
    }

    fn remember(&mut self, picture: Pending) {
        if self.pending.len() >= MAX_PENDING {
            self.pass(1);
        }
        let at = self.pending.partition_point(|other| other.place <= picture.place);
        self.pending.insert(at, picture);
    }

    /// The turn of the first so many has passed.
    fn pass(&mut self, count: usize) {
        for picture in self.pending.drain(..count.min(self.pending.len())) {
            if picture.stamp.is_none() {
                self.passed += 1;
                self.selection.pass();
            }
        }
    }

    /// The verdict was carried out.
    pub(super) fn carried_out(&mut self) {
        if self.rest == Rest::Empty {
            self.pass(MAX_PENDING);
        }
    }

    /// A picture came out of the decoder: whether it is wanted. Ask how many [passed](Self::passed) before it.
    pub(super) fn came_out(&mut self, stamp: Wall, now: Instant) -> bool {
        if let Some(at) = self.pending.iter().position(|pending| pending.stamp == Some(stamp)) {
            self.pass(at + 1);
        }
        self.selection.takes_next(now)
    }

    /// How many pictures were left out and have passed since this was asked last.
    pub(super) fn passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    /// Something is missing in the stream, or another decoder begins.
    pub(super) fn interrupt(&mut self) {
        self.pass(MAX_PENDING);
        self.outlines.interrupt();
    }

    /// The decoder was begun anew, or will be: what it knew is of no use.
    pub(super) fn restart(&mut self) {
        self.interrupt();
        self.rest = Rest::No;
    }

    /// The decoder waits for a key frame because it was left without the pictures before.
    pub(super) fn rests(&self) -> bool {
        self.rest != Rest::No && !self.key_frames.is_overdue()
    }
}

#[cfg(test)]
mod tests;
