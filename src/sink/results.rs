//! The sink in memory: the last turns of a pipeline, for a client that comes and asks for them.

use super::datagram::FrameInfo;
use crate::command::{Memory, Outcome};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// See the module. Lives on the event loop.
#[derive(Debug)]
pub struct Results {
    memory: Memory,
    /// Oldest first; bounded by `memory.turns`.
    turns: RefCell<VecDeque<Vec<Outcome>>>,
    /// The turn whose frames are coming in.
    open: RefCell<Vec<Outcome>>,
    last_taken: Cell<Instant>,
}

impl Results {
    /// Nothing yet.
    pub fn new(memory: Memory) -> Results {
        Results { memory, turns: RefCell::default(), open: RefCell::default(), last_taken: Cell::new(Instant::now()) }
    }

    /// One frame of the turn that is under way, and its datagram.
    pub fn push(&self, frame: &FrameInfo, datagram: &[u8]) {
        let outcome = Outcome {
            source_id: frame.source_id,
            frame_id: frame.frame_id,
            timestamp: frame.decoded,
            datagram: Rc::from(datagram),
        };
        self.open.borrow_mut().push(outcome);
    }

    /// The turn is complete. The oldest goes when there are too many.
    pub fn end_turn(&self) {
        let turn = self.open.take();
        let mut turns = self.turns.borrow_mut();
        if turn.is_empty() {
            return;
        }
        if turns.len() >= self.memory.turns {
            turns.pop_front();
        }
        turns.push_back(turn);
    }

    /// The oldest turn; empty when none waits.
    pub fn take(&self) -> Vec<Outcome> {
        self.last_taken.set(Instant::now());
        self.turns.borrow_mut().pop_front().unwrap_or_default()
    }

    /// The names under which a client wants the detections.
    pub fn outputs(&self) -> &Rc<[String]> {
        &self.memory.outputs
    }

    /// How long until nobody has asked for too long; `None`: never.
    pub fn patience_left(&self) -> Option<Duration> {
        self.memory.timeout.map(|timeout| timeout.saturating_sub(self.last_taken.get().elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;

    #[test]
    fn the_oldest_turn_goes_first_and_is_lost_first() {
        let results = Results::new(Memory { turns: 2, outputs: Rc::from([]), timeout: None });
        let frame = |frame_id| FrameInfo {
            width: 1,
            height: 1,
            source_id: 0,
            frame_id,
            decoded: Wall::from_micros(0),
            emitted: Wall::from_micros(0),
        };
        for frame_id in 1..=3 {
            results.push(&frame(frame_id), b"{}");
            results.end_turn();
        }
        results.end_turn(); // a turn without frames is none
        let taken = [results.take(), results.take(), results.take()].map(|turn| turn.first().map(|outcome| outcome.frame_id));
        assert_eq!(taken, [Some(2), Some(3), None]);
        assert_eq!(results.patience_left(), None);
    }
}
