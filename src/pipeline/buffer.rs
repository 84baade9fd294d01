//! The frames of one source that wait for a turn. Pixels stay in the worker's ring; this holds slot numbers.
//!
//! The reference buffers up to 64 decoded frames; we hold a handful of model-input slots, which gives the
//! same strategies with a fraction of the memory. Rules: docs/roboflow.md §4.3.

use crate::capture::Frame;
use crate::command::{Consumption, Filling};
use heapless::Deque;

/// Slots of a ring at most: more only make frames older.
pub(super) const MAX_SLOTS: usize = 12;

/// Frames that wait, and how many slots are lent out.
#[derive(Debug)]
pub(super) struct Buffer {
    waiting: Deque<Frame, MAX_SLOTS>,
    /// Slots of the ring.
    slots: usize,
    /// Slots that inference is reading.
    lent: usize,
    filling: Filling,
    consumption: Consumption,
}

impl Buffer {
    /// A buffer over a ring of `slots` slots.
    pub(super) fn new(slots: u32, filling: Filling, consumption: Consumption) -> Buffer {
        let slots = (slots as usize).min(MAX_SLOTS);
        Buffer { waiting: Deque::new(), slots, lent: 0, filling, consumption }
    }

    /// Takes a new frame in. Calls `release` for each slot that goes back to the worker because of it.
    pub(super) fn push(&mut self, frame: Frame, mut release: impl FnMut(u32)) {
        if self.consumption == Consumption::Eager {
            // Only the newest is ever taken, so an older one is of no use.
            self.clear(&mut release);
        }
        // A worker has no more slots than there is room; of one that lies about it nothing is kept.
        if let Err(frame) = self.waiting.push_back(frame) {
            return release(frame.slot);
        }
        if matches!(self.filling, Filling::DropOldest | Filling::AdaptiveDropOldest) {
            // Keeps one slot free for the worker to write into; without it the worker would drop the newest
            // instead.
            while self.waiting.len() > 1 && self.waiting.len() + self.lent >= self.slots {
                if let Some(old) = self.waiting.pop_front() {
                    release(old.slot);
                }
            }
        }
    }

    /// The frame for the next turn; its slot is lent until [`Buffer::give_back`].
    pub(super) fn take(&mut self) -> Option<Frame> {
        let frame = self.waiting.pop_front()?;
        self.lent += 1;
        Some(frame)
    }

    /// Inference is done with a slot.
    pub(super) fn give_back(&mut self) {
        self.lent = self.lent.saturating_sub(1);
    }

    /// Whether no frame waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops what waits (mute, loss). Slots that are lent stay lent.
    pub(super) fn clear(&mut self, mut release: impl FnMut(u32)) {
        while let Some(frame) = self.waiting.pop_front() {
            release(frame.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::clock::Wall;

    fn frame(id: u64) -> Frame {
        Frame {
            slot: (id % 4) as u32,
            frame_id: id,
            left_out: 0,
            timestamp: Wall::from_micros(0),
            width: 1,
            height: 1,
            is_kept: false,
        }
    }

    fn filled(filling: Filling, consumption: Consumption) -> (Buffer, Vec<u32>) {
        let mut buffer = Buffer::new(4, filling, consumption);
        let mut released = Vec::new();
        for id in 0..4 {
            buffer.push(frame(id), |slot| released.push(slot));
        }
        (buffer, released)
    }

    #[test]
    fn lazy_wait_keeps_every_frame_in_order() {
        let (mut buffer, released) = filled(Filling::Wait, Consumption::Lazy);
        assert!(released.is_empty());
        let order: Vec<u64> = std::iter::from_fn(|| buffer.take()).map(|f| f.frame_id).collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }

    #[test]
    fn drop_oldest_keeps_one_slot_free() {
        let (mut buffer, released) = filled(Filling::DropOldest, Consumption::Lazy);
        assert_eq!(released, [0]);
        assert_eq!(buffer.take().unwrap().frame_id, 1);
        buffer.push(frame(4), |slot| assert_eq!(slot, 2));
        buffer.give_back();
        buffer.push(frame(5), |slot| assert_eq!(slot, 3));
    }

    #[test]
    fn eager_holds_the_newest_only() {
        let (mut buffer, released) = filled(Filling::AdaptiveDropOldest, Consumption::Eager);
        assert_eq!(released, [0, 1, 2]);
        assert_eq!(buffer.take().unwrap().frame_id, 3);
        assert!(buffer.is_empty());
    }

    #[test]
    fn clear_releases_what_waits() {
        let (mut buffer, _) = filled(Filling::Wait, Consumption::Lazy);
        buffer.take();
        let mut released = Vec::new();
        buffer.clear(|slot| released.push(slot));
        assert_eq!(released, [1, 2, 3]);
    }
}
