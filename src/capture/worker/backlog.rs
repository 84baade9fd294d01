//! Units of a muted source, so that pictures come at once when it is heard again.
//!
//! A picture can only be decoded after all since the last key frame, which may be ten seconds ago. Muted,
//! units are kept from there on, undecoded: that costs nothing. Only where decoding them would take longer
//! than [`READY_TIME`] (long groups of large pictures) the oldest are decoded meanwhile, and their pictures
//! thrown away; that costs as much as decoding does, and therefore ends after [`READY_FOR`]: a source that is
//! muted for hours is only kept in packets.

use super::decode::{AccessUnit, Codec, RandomAccess, random_access};
use std::time::{Duration, Instant};

/// Longest that decoding what is kept may take when the source is heard again: with a frame's way through the
/// model and the time to the next frame of a slow camera, it is below 250 ms.
const READY_TIME: Duration = Duration::from_millis(60);

/// After so long, being ready is not worth decoding any more: who is muted for minutes is rarely in a hurry.
const READY_FOR: Duration = Duration::from_secs(600);

/// Most bytes that are kept: ten seconds of 6 Mbit/s. What is beyond waits for the next key frame.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Most units that are kept: ten seconds at 60 frames per second.
const MAX_UNITS: usize = 600;

/// Of a new measurement of what decoding a unit takes, this part counts.
const NEW_PART: f64 = 0.1;

/// A unit that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) codec: Codec,
    pub(super) data: Vec<u8>,
    /// Units before this one were not decoded: a decoder must begin anew with it.
    pub(super) first: bool,
}

/// Access units of a muted source, from where their pictures can be made when it is heard again.
#[derive(Debug)]
pub(super) struct Backlog {
    units: Box<heapless::Deque<Kept, MAX_UNITS>>,
    bytes: usize,
    /// Since when nobody hears.
    since: Instant,
    /// What is kept cannot be decoded: something before it is missing.
    broken: bool,
    /// What decoding one unit takes, seconds.
    cost_s: f64,
    spare: Vec<Vec<u8>>,
}

impl Backlog {
    pub(super) fn new() -> Backlog {
        Backlog {
            units: Box::default(),
            bytes: 0,
            since: Instant::now(),
            broken: false,
            cost_s: 0.0,
            spare: Vec::new(),
        }
    }

    /// The source is muted from now on. `can_go_on`: the decoder is at the unit before the next.
    pub(super) fn begin(&mut self, can_go_on: bool) {
        self.clear();
        self.broken = !can_go_on;
        self.since = Instant::now();
    }

    /// Something is missing here: nothing can be decoded before the next key frame.
    pub(super) fn interrupt(&mut self) {
        self.clear();
        self.broken = true;
    }

    /// Keeps a unit. False: it is of no use.
    pub(super) fn push(&mut self, codec: Codec, unit: &AccessUnit<'_>) -> bool {
        // Each of these is whole in itself.
        if codec == Codec::Jpeg {
            self.clear();
            return true;
        }
        // What recovers bit by bit is not there at once: there is nothing to begin with but what came before.
        let begins =
            matches!(random_access(codec, unit.data), Some(RandomAccess::Clean | RandomAccess::Open));
        self.put(codec, unit.data, begins)
    }

    fn put(&mut self, codec: Codec, unit: &[u8], begins: bool) -> bool {
        let mut first = false;
        if begins {
            first = self.broken || !self.units.is_empty();
            self.clear();
            self.broken = false;
        }
        if self.units.is_full() || self.bytes + unit.len() > MAX_BYTES {
            self.interrupt();
        }
        if self.broken {
            return false;
        }
        let mut data = self.spare.pop().unwrap_or_default();
        data.clear();
        data.extend_from_slice(unit);
        self.bytes += data.len();
        let kept = self.units.push_back(Kept { codec, data, first });
        debug_assert!(kept.is_ok(), "full, it was interrupted");
        true
    }

    /// The oldest unit, if decoding all would take too long; give it back with [`Backlog::done`].
    pub(super) fn surplus(&mut self) -> Option<Kept> {
        let too_long = self.cost_s * self.units.len() as f64 > READY_TIME.as_secs_f64();
        if too_long && self.since.elapsed() < READY_FOR { self.pop() } else { None }
    }

    /// The oldest unit, of those that can be decoded; give it back with [`Backlog::done`].
    pub(super) fn pop(&mut self) -> Option<Kept> {
        let kept = self.units.pop_front()?;
        self.bytes -= kept.data.len();
        Some(kept)
    }

    /// Whether the unit before the next that comes is known to the decoder, or will be once all of this is.
    pub(super) fn can_go_on(&self) -> bool {
        !self.broken
    }

    /// A unit was decoded.
    pub(super) fn done(&mut self, kept: Kept) {
        self.spare.push(kept.data);
    }

    /// Decoding a unit took so long.
    pub(super) fn measure(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.cost_s = if self.cost_s == 0.0 { took } else { self.cost_s + NEW_PART * (took - self.cost_s) };
    }

    fn clear(&mut self) {
        self.bytes = 0;
        // A group's worth of buffers: those of the next group.
        self.spare.extend(std::iter::from_fn(|| self.units.pop_front()).map(|kept| kept.data));
        self.spare.truncate(MAX_UNITS);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn push(backlog: &mut Backlog, begins: bool, bytes: usize) -> bool {
        backlog.put(Codec::H264, &vec![0; bytes], begins)
    }

    /// Of all units, whether each must begin anew.
    fn all(backlog: &mut Backlog) -> Vec<bool> {
        std::iter::from_fn(|| backlog.pop()).map(|kept| kept.first).collect()
    }

    #[test]
    fn units_since_the_last_key_frame_are_kept() {
        let mut backlog = Backlog::new();
        backlog.begin(true);
        push(&mut backlog, false, 1);
        assert_eq!(all(&mut backlog), [false], "the decoder goes on with it");
        for key in [false, true, false, false] {
            push(&mut backlog, key, 1);
        }
        assert_eq!(all(&mut backlog), [true, false, false]);
        backlog.begin(false);
        assert!(!push(&mut backlog, false, 1));
        assert!(all(&mut backlog).is_empty() && !backlog.can_go_on());
        push(&mut backlog, true, 1);
        backlog.interrupt();
        push(&mut backlog, false, 1);
        assert!(all(&mut backlog).is_empty());
    }

    #[test]
    fn what_would_take_too_long_is_to_be_decoded_before() {
        let mut backlog = Backlog::new();
        backlog.begin(true);
        backlog.measure(Duration::from_millis(7));
        for _ in 0..8 {
            push(&mut backlog, false, 1);
        }
        assert!(backlog.surplus().is_none());
        push(&mut backlog, false, 1);
        let surplus = backlog.surplus().unwrap();
        backlog.done(surplus);
        assert!(backlog.surplus().is_none());
        // For as long as being ready is worth it.
        push(&mut backlog, false, 1);
        backlog.since -= READY_FOR;
        assert!(backlog.surplus().is_none());
    }

    #[test]
    fn limits_hold() {
        let mut backlog = Backlog::new();
        backlog.begin(true);
        for _ in 0..=MAX_UNITS {
            push(&mut backlog, false, 1);
        }
        assert!(backlog.units.is_empty() && !backlog.can_go_on());
        push(&mut backlog, true, MAX_BYTES);
        assert_eq!(backlog.units.len(), 1);
        push(&mut backlog, false, 1);
        assert!(backlog.units.is_empty() && backlog.bytes == 0);
    }
}
