//! Decoders in silicon whose Linux driver parses the stream itself (V4L2 memory to memory, "stateful").

pub(in crate::capture::worker) mod driver;
mod machine;
pub(in crate::capture::worker) mod node;
mod shape;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
mod tiles;

pub(in crate::capture::worker) use shape::{is_read, names};

use super::{Codec, H264Parameters, H265Parameters};
use crate::capture::worker::picture::Picture;
use crate::error::{Error, Result};
use driver::Driver;
use machine::{Announced, Machine};
use std::time::Duration;

/// Longest that the picture of a unit is waited for, so that a live picture is not a frame late. Where a
/// decoder needs later units first (B-frames, a pipeline of its own), that is noticed and not waited for.
const LATENCY: Duration = Duration::from_millis(60);

/// What waiting in vain counts, where each unit counts one less: in the long run every eighth unit is waited for
/// in vain at most. Second fields have no picture of their own.
const VAIN_WAIT: u32 = 8;

/// Above that nothing is waited for: four times in a row while a decoder is got to know.
const MAX_VAIN: u32 = 4 * VAIN_WAIT;

/// A picture this many units after its own will not come any more: the standards hold back 16 at most, and
/// each may be two fields.
const MAX_LAG: u64 = 34;

/// Smallest coded buffer asked for, bytes. Drivers make larger ones where pictures are large.
const MIN_CODED_BYTES: usize = 1 << 20;

/// Damaged pictures in a row after which the fault is the decoder's.
const MAX_DAMAGED: u32 = 30;

/// What comes out of a decoder: a picture, or that there is none, and the tag of what it was made from.
pub(super) enum Shot<'a> {
    Picture(u64, &'a Picture<'a>),
    Damaged(u64),
}

/// Takes what comes out. Its error ends the call and is passed on.
pub(super) type Sink<'a> = dyn FnMut(Shot<'_>) -> Result<()> + 'a;

/// Why a decoder does not decode.
#[derive(Debug)]
pub(in crate::capture::worker) enum Failure {
    /// This one unit, or a picture before it, was damaged.
    Damaged,
    /// It is gone, stuck, does what it must not, or cannot decode this stream.
    Lost(String),
    /// Not the decoder's: what takes the pictures says so.
    Output(Error),
}

/// The four letters by which the kernel knows a codec; `None`: no stateful decoder is used for it.
pub(in crate::capture::worker) fn fourcc(codec: Codec) -> Option<[u8; 4]> {
    match codec {
        Codec::H264 => Some(*b"H264"),
        Codec::H265 => Some(*b"HEVC"),
        _ => None,
    }
}

/// What the parameter sets in an access unit say that a driver needs told or may not know.
fn announced(coded: [u8; 4], unit: &[u8]) -> Option<Announced> {
    match &coded {
        b"H264" => H264Parameters::find(unit).map(|sps| (sps.width, sps.height)),
        b"HEVC" => H265Parameters::find(unit).map(|sps| (sps.width, sps.height)),
        _ => None,
    }
    .map(|size| Announced { size: Some(size) })
}

#[derive(Debug)]
enum State<D> {
    /// Set up with the next unit.
    Idle(D),
    Running(Box<Machine<D>>),
    /// While one of the two becomes the other.
    Between,
}

/// What is on its way through a decoder.
#[derive(Debug)]
struct Flight {
    /// Units whose pictures have not come, oldest first.
    tags: heapless::Vec<u64, { MAX_LAG as usize + 1 }>,
    /// Damaged pictures since this was looked at last.
    damaged: u32,
    damaged_in_row: u32,
}

impl Flight {
    /// Gives out what came out.
    fn land(&mut self, shot: Shot<'_>, take: &mut dyn FnMut(&Picture<'_>, u64) -> Result<()>) -> Result<()> {
        let (tag, picture) = match shot {
            Shot::Picture(tag, picture) => (tag, Some(picture)),
            Shot::Damaged(tag) => (tag, None),
        };
        // Some drivers lose count: then pictures come as units did.
        let place = self.tags.iter().position(|other| *other == tag).unwrap_or(0);
        let known = (place < self.tags.len()).then(|| self.tags.remove(place));
        let Some(picture) = picture else {
            self.damaged += 1;
            self.damaged_in_row += 1;
            return Ok(());
        };
        self.damaged_in_row = 0;
        known.map_or(Ok(()), |tag| take(picture, tag))
    }

    /// A unit went in.
    fn start(&mut self, tag: u64) {
        self.tags.retain(|other| other + MAX_LAG >= tag);
        let kept = self.tags.push(tag);
        debug_assert!(kept.is_ok(), "tags go up, one by one");
    }

    fn judge(&mut self) -> std::result::Result<(), Failure> {
        if self.damaged_in_row >= MAX_DAMAGED {
            return Err(Failure::Lost(format!("{MAX_DAMAGED} pictures in a row were damaged")));
        }
        if std::mem::take(&mut self.damaged) > 0 { Err(Failure::Damaged) } else { Ok(()) }
    }
}

/// A decoder of one stream.
#[derive(Debug)]
pub(in crate::capture::worker) struct Stateful<D: Driver> {
    coded: [u8; 4],
    state: State<D>,
    announced: Announced,
    flight: Flight,
    /// How many pictures are on their way when none is worth waiting for.
    usual: usize,
    /// What the last waits in vain count, less one for each unit since: see [`VAIN_WAIT`].
    vain: u32,
}

impl<D: Driver> Stateful<D> {
    /// A decoder of streams that the kernel knows by these four letters; it is set up by the first unit.
    pub(in crate::capture::worker) fn new(coded: [u8; 4], driver: D) -> Stateful<D> {
        Stateful {
            coded,
            state: State::Idle(driver),
            announced: Announced::default(),
            flight: Flight { tags: heapless::Vec::new(), damaged: 0, damaged_in_row: 0 },
            usual: 0,
            vain: 0,
        }
    }

    /// The device, nothing of a stream in it.
    pub(in crate::capture::worker) fn into_driver(mut self) -> Option<D> {
        self.stop()
    }

    fn stop(&mut self) -> Option<D> {
        self.flight.tags.clear();
        match std::mem::replace(&mut self.state, State::Between) {
            State::Idle(driver) => Some(driver),
            State::Running(machine) => Some(machine.stop()),
            State::Between => None,
        }
    }

    /// Decodes a unit; gives the pictures whose turn it is, with the tags of their units. Tags go up.
    pub(in crate::capture::worker) fn decode(
        &mut self,
        data: &[u8],
        tag: u64,
        take: &mut dyn FnMut(&Picture<'_>, u64) -> Result<()>,
    ) -> std::result::Result<(), Failure> {
        if let Some(announced) = announced(self.coded, data) {
            self.announced = announced;
        }
        self.make_room(data.len(), take)?;
        let Stateful { state: State::Running(machine), flight, .. } = self else { return Err(gone()) };
        machine.announce(self.announced);
        machine.feed(data, tag, &mut |shot| flight.land(shot, take))?;
        flight.start(tag);
        let before = flight.tags.len();
        let wanted = before.saturating_sub(self.usual);
        self.vain = self.vain.saturating_sub(1);
        let longest = if self.vain < MAX_VAIN - VAIN_WAIT { LATENCY } else { Duration::ZERO };
        machine.settle(longest, wanted, &mut |shot| flight.land(shot, take))?;
        let after = flight.tags.len();
        if wanted > 0 && after == before && !longest.is_zero() {
            self.vain += VAIN_WAIT;
        }
        if after > self.usual || after < before {
            // More are on their way than was known, or fewer: then the next may be waited for.
            self.usual = after;
        }
        flight.judge()
    }

    /// Gives everything that is held. Decoding begins anew afterwards.
    pub(in crate::capture::worker) fn drain(
        &mut self,
        take: &mut dyn FnMut(&Picture<'_>, u64) -> Result<()>,
    ) -> std::result::Result<(), Failure> {
        let Stateful { state: State::Running(machine), flight, .. } = self else { return Ok(()) };
        let drained = machine.drain(&mut |shot| flight.land(shot, take));
        self.reset();
        drained?;
        self.flight.judge()
    }

    /// Forgets everything that is held. Decoding begins anew afterwards.
    pub(in crate::capture::worker) fn reset(&mut self) {
        if let Some(driver) = self.stop() {
            self.state = State::Idle(driver);
        }
    }

    /// Sets the decoder up, or anew where a unit does not fit its buffers.
    fn make_room(
        &mut self,
        bytes: usize,
        take: &mut dyn FnMut(&Picture<'_>, u64) -> Result<()>,
    ) -> std::result::Result<(), Failure> {
        if let State::Running(machine) = &self.state {
            if machine.room() >= bytes {
                return Ok(());
            }
            // Units that large are key frames; where this one is none, the decoder says so.
            self.drain(take)?;
        }
        let driver = self.stop().ok_or_else(gone)?;
        let wanted = bytes.saturating_mul(2).max(MIN_CODED_BYTES);
        match Machine::start(driver, self.coded, self.announced, wanted) {
            Ok(machine) if machine.room() >= bytes => {
                self.state = State::Running(Box::new(machine));
                Ok(())
            }
            Ok(machine) => {
                let room = machine.room();
                self.state = State::Idle(machine.stop());
                Err(Failure::Lost(format!("a unit of {bytes} bytes does not fit its buffers of {room}")))
            }
            Err((driver, failure)) => {
                self.state = State::Idle(driver);
                Err(failure)
            }
        }
    }
}

fn gone() -> Failure {
    Failure::Lost("it was taken away".to_owned())
}
