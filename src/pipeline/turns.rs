//! The turns of a pipeline that are under way: one frame of each source, handed to inference, answered in any
//! order and dispatched in the order in which they were taken.

use super::source::Taken;
use crate::detection::Detection;
use crate::error::Result;
use crate::infer::{Done, Queue};

/// One frame of a turn.
pub(super) struct Part {
    /// Index of the source.
    pub(super) source: u32,
    /// The frame; its slot is back with the worker once there is an outcome.
    pub(super) taken: Taken,
    /// Set when inference is done.
    pub(super) outcome: Option<Result<Vec<Detection>>>,
}

/// The turns that are under way, in the order in which they were taken.
#[derive(Default)]
pub(super) struct Turns {
    /// Oldest first; ids are consecutive. Each has a frame in inference at least, whose queue holds no more.
    running: heapless::Deque<Vec<Part>, { Queue::CAPACITY }>,
    /// Id of the oldest.
    first: u64,
    /// Emptied vectors for later turns, so that a turn allocates nothing.
    spare_parts: Vec<Vec<Part>>,
    spare_detections: Vec<Vec<Detection>>,
}

impl Turns {
    /// How many turns are under way.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// The id the next turn will have.
    pub(super) fn next_id(&self) -> u64 {
        self.first + self.running.len() as u64
    }

    /// An empty vector for a turn's parts.
    pub(super) fn spare_parts(&mut self) -> Vec<Part> {
        self.spare_parts.pop().unwrap_or_default()
    }

    /// An empty vector for a frame's detections.
    pub(super) fn spare_detections(&mut self) -> Vec<Detection> {
        self.spare_detections.pop().unwrap_or_default()
    }

    /// A turn has been handed to inference.
    pub(super) fn start(&mut self, parts: Vec<Part>) {
        let started = self.running.push_back(parts);
        debug_assert!(started.is_ok(), "more turns under way than frames can be");
    }

    /// Notes an answer and returns its part; `None` when nobody waits for it.
    pub(super) fn answer(&mut self, done: Done) -> Option<&Part> {
        let index = usize::try_from(done.ticket.turn.checked_sub(self.first)?).ok()?;
        let part = self.running.get_mut(index)?.iter_mut().find(|part| part.source == done.ticket.source)?;
        part.outcome = Some(done.outcome);
        Some(part)
    }

    /// The oldest turn, once all its frames have answers. Give it back with [`Turns::recycle`].
    pub(super) fn pop_complete(&mut self) -> Option<Vec<Part>> {
        self.running.front()?.iter().all(|part| part.outcome.is_some()).then_some(())?;
        self.first += 1;
        self.running.pop_front()
    }

    /// Keeps the vectors of a dispatched turn for later ones.
    pub(super) fn recycle(&mut self, mut parts: Vec<Part>) {
        for part in parts.drain(..) {
            if let Some(Ok(mut detections)) = part.outcome {
                detections.clear();
                self.spare_detections.push(detections);
            }
        }
        self.spare_parts.push(parts);
    }
}
