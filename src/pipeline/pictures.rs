//! Pictures of one source: asks its worker for those that viewers wait for, in turns.
//!
//! ```text
//! somebody asks ─▶ keeping ──a kept frame is taken for inference──▶ taken ──its detections──▶ drawing ──all pictures there──▶ idle
//! ```
//!
//! One turn serves every wish that waits. While nobody asks, nothing is kept, scaled or encoded.

use crate::capture::{Drawn, Frame, MAX_LABEL_BYTES, MAX_MARKINGS, Marking, WIDTHS, Worker};
use crate::clock::Wall;
use crate::detection::Detection;
use crate::view::{Audience, Shown, Wish};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Bytes of a name beside the score: ` 0.87`.
const MAX_NAME_BYTES: usize = MAX_LABEL_BYTES - 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Idle,
    /// The worker keeps frames.
    Keeping,
    /// One of them is in inference.
    Taken(u64),
    /// So many pictures are being made.
    Drawing(usize),
}

/// A picture under way.
#[derive(Debug, Clone, Copy)]
struct Job {
    number: u32,
    wish: Wish,
    timestamp: Wall,
}

/// Pictures of one source, for those who look.
#[derive(Debug)]
pub(super) struct Pictures {
    pub(super) audience: Rc<Audience>,
    turn: Cell<Turn>,
    /// In which widths frames are kept, or were for the frame that is being drawn.
    widths: RefCell<heapless::Vec<u16, WIDTHS>>,
    jobs: RefCell<Vec<Job>>,
}

impl Pictures {
    pub(super) fn new() -> Pictures {
        Pictures {
            audience: Rc::default(),
            turn: Cell::new(Turn::Idle),
            widths: RefCell::default(),
            jobs: RefCell::default(),
        }
    }

    /// Somebody has asked or gone, or a turn is over.
    pub(super) fn look(&self, worker: &Worker) {
        if matches!(self.turn.get(), Turn::Taken(_) | Turn::Drawing(_)) {
            return;
        }
        let mut widths = heapless::Vec::<u16, WIDTHS>::new();
        for wish in self.audience.wishes() {
            if !widths.contains(&wish.width) && widths.push(wish.width).is_err() {
                break;
            }
        }
        self.turn.set(if widths.is_empty() { Turn::Idle } else { Turn::Keeping });
        worker.keep(&widths);
        *self.widths.borrow_mut() = widths;
    }

    /// A frame goes to inference.
    pub(super) fn taken(&self, frame: &Frame, worker: &Worker) {
        if frame.is_kept && self.turn.get() == Turn::Keeping {
            self.turn.set(Turn::Taken(frame.frame_id));
            worker.keep(&[]);
        }
    }

    /// The detections of a frame are there, and its slot is held yet.
    pub(super) fn inferred(
        &self,
        frame: &Frame,
        detections: &[Detection],
        classes: &[String],
        worker: &Worker,
    ) {
        if !frame.is_kept || matches!(self.turn.get(), Turn::Idle | Turn::Drawing(_)) {
            return;
        }
        let mut jobs = self.jobs.borrow_mut();
        jobs.clear();
        for wish in self.audience.wishes() {
            if self.widths.borrow().contains(&wish.width) {
                let markings = wish.has_boxes.then(|| markings(detections, classes));
                let job = worker.draw(frame, wish.width, markings);
                jobs.extend(job.map(|number| Job { number, wish, timestamp: frame.timestamp }));
            }
        }
        if !jobs.is_empty() {
            self.turn.set(Turn::Drawing(jobs.len()));
            worker.keep(&[]);
        }
    }

    /// The slot of a frame is free again, whatever became of it.
    pub(super) fn given_back(&self, frame: &Frame, worker: &Worker) {
        if self.turn.get() == Turn::Taken(frame.frame_id) {
            self.turn.set(Turn::Idle);
            self.look(worker);
        }
    }

    /// A picture is there.
    pub(super) fn drawn(&self, drawn: &Drawn, worker: &Worker) {
        let jpeg = worker.picture(drawn);
        let job = self.jobs.borrow().iter().find(|job| job.number == drawn.job).copied();
        if let (Some(job), Some(jpeg)) = (job, jpeg) {
            self.audience
                .serve(job.wish, &Shown { frame_id: drawn.frame_id, timestamp: job.timestamp, jpeg });
        }
        if let Turn::Drawing(left) = self.turn.get() {
            self.turn.set(if left > 1 { Turn::Drawing(left - 1) } else { Turn::Idle });
            self.look(worker);
        }
    }

    /// The worker is another one now.
    pub(super) fn reset(&self) {
        self.turn.set(Turn::Idle);
        self.jobs.borrow_mut().clear();
    }
}

/// The boxes of detections; of too many, those with the highest scores, and the best on top.
fn markings(detections: &[Detection], classes: &[String]) -> Vec<Marking> {
    let mut sorted: Vec<&Detection> = detections.iter().filter(|detection| detection.is_finite()).collect();
    sorted.sort_by(|one, other| other.confidence.total_cmp(&one.confidence));
    sorted.truncate(MAX_MARKINGS);
    let marking = |detection: &&Detection| {
        // Casts saturate.
        let [left, top, right, bottom] = [detection.left, detection.top, detection.right, detection.bottom]
            .map(|edge| edge.round() as u16);
        let name = classes.get(detection.class_id as usize).map_or("", String::as_str);
        let name = name.get(..name.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or_default();
        let label = format!("{name} {:.2}", detection.confidence.clamp(0.0, 1.0));
        Marking { left, top, right, bottom, class_id: detection.class_id, label }
    };
    sorted.iter().rev().map(marking).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_boxes_are_drawn_last_and_have_names_of_bounded_length() {
        let detection = |class_id: u32, confidence: f32| Detection {
            left: -3.0,
            top: 1.6,
            right: 1e9,
            bottom: 20.2,
            confidence,
            class_id,
        };
        let mut detections: Vec<_> = (0..200).map(|index| detection(1, index as f32 / 1000.0)).collect();
        detections.push(detection(0, 0.876));
        detections.push(Detection { left: f32::NAN, ..detection(0, 1.0) });
        let classes = ["ä".repeat(100), "person".to_owned()];
        let markings = markings(&detections, &classes);
        assert_eq!(markings.len(), MAX_MARKINGS);
        assert!(markings.iter().all(|marking| marking.label.len() <= MAX_LABEL_BYTES));
        let best =
            markings.last().cloned().map(|best| (best.left, best.top, best.right, best.bottom, best.label));
        assert_eq!(best, Some((0, 2, u16::MAX, 20, format!("{} 0.88", "ä".repeat(MAX_NAME_BYTES / 2)))));
        assert_eq!(markings.first().map(|worst| worst.label.as_str()), Some("person 0.10"));
    }
}
