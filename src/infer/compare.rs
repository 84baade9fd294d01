//! Two ways to compute a model, compared by what they find on the same pictures.

use super::family::Scratch;
use super::workbench::find;
use super::{Model, Run, Thresholds};
use crate::detection::Detection;
use crate::error::Result;
use crate::geometry::Placement;
use std::fmt;

/// Overlap from which two boxes are the same one.
const SAME_BOX: f32 = 0.9;
/// A detection counts where its score is the threshold's; its counterpart may lie this far below: what is on the
/// threshold in one is not lost in the other.
const MARGIN: f32 = 0.05;

/// What one model finds, frame by frame.
struct Finder<'a> {
    model: &'a Model,
    run: Box<dyn Run>,
    scratch: Scratch,
    found: Vec<Detection>,
}

/// A comparison under way.
pub struct Comparison<'a> {
    sides: [Finder<'a>; 2],
    confidence: f32,
    outcome: Outcome,
}

/// How far two ways differ.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Pictures that both sides were given.
    pub frames: u64,
    /// Detections of either side.
    pub detections: u64,
    /// Those that have a counterpart: the same class, an overlap of 0.9.
    pub matched: u64,
    /// Largest difference of two scores.
    pub score: f32,
    /// Largest distance of two sides of matched boxes, pixels of the source.
    pub pixels: f32,
}

impl<'a> Comparison<'a> {
    /// Of two models that take the same pictures; detections from a score of `confidence` on count.
    pub fn new(models: [&'a Model; 2], confidence: f32) -> Result<Comparison<'a>> {
        let finder = |model: &'a Model| -> Result<Finder<'a>> {
            let run = model.engine().new_run()?;
            let (scratch, found) = (Scratch::default(), Vec::new());
            Ok(Finder { model, run, scratch, found })
        };
        let [first, second] = models;
        let sides = [finder(first)?, finder(second)?];
        Ok(Comparison { sides, confidence, outcome: Outcome::default() })
    }

    /// One picture: planes R, G, B as the model's rule lays them.
    pub fn frame(&mut self, slot: &[u8], placement: &Placement) -> Result<()> {
        let confidence = (self.confidence - MARGIN).max(0.0);
        let thresholds = Thresholds { confidence, iou: 0.3, max_detections: 300, class_agnostic: false };
        for side in &mut self.sides {
            side.found.clear();
            find(
                side.model,
                side.run.as_mut(),
                (slot, placement),
                &thresholds,
                &mut side.scratch,
                &mut side.found,
            )?;
        }
        let [one, other] = &self.sides;
        self.outcome.add(&one.found, &other.found, self.confidence);
        Ok(())
    }

    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl Outcome {
    fn add(&mut self, one: &[Detection], other: &[Detection], confidence: f32) {
        self.frames += 1;
        for (from, to) in [(one, other), (other, one)] {
            for detection in from.iter().filter(|detection| detection.confidence >= confidence) {
                self.detections += 1;
                let same = to.iter().filter(|other| other.class_id == detection.class_id);
                let nearest = same.max_by(|a, b| overlap(detection, a).total_cmp(&overlap(detection, b)));
                let Some(nearest) = nearest.filter(|nearest| overlap(detection, nearest) >= SAME_BOX) else {
                    continue;
                };
                self.matched += 1;
                self.score = self.score.max((detection.confidence - nearest.confidence).abs());
                let sides = |d: &Detection| [d.left, d.top, d.right, d.bottom];
                for (a, b) in sides(detection).into_iter().zip(sides(nearest)) {
                    self.pixels = self.pixels.max((a - b).abs());
                }
            }
        }
    }
}

/// Intersection over union of two boxes, 0..1.
fn overlap(a: &Detection, b: &Detection) -> f32 {
    let width = a.right.min(b.right) - a.left.max(b.left);
    let height = a.bottom.min(b.bottom) - a.top.max(b.top);
    let area = |d: &Detection| (d.right - d.left) * (d.bottom - d.top);
    let common = width.max(0.0) * height.max(0.0);
    common / (area(a) + area(b) - common).max(f32::MIN_POSITIVE)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { frames, detections, matched, score, pixels } = self;
        let share = 100.0 * *matched as f64 / (*detections).max(1) as f64;
        write!(
            f,
            "{share:.2} % of {detections} detections on {frames} frames are the same; scores differ by {score:.4} at most, \
             boxes by {pixels:.1} pixels"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(left: f32, confidence: f32, class_id: u32) -> Detection {
        Detection { left, top: 0.0, right: left + 100.0, bottom: 100.0, confidence, class_id }
    }

    #[test]
    fn what_both_find_is_matched_and_measured() {
        let mut outcome = Outcome::default();
        outcome.add(&[detection(0.0, 0.9, 1)], &[detection(1.0, 0.875, 1)], 0.4);
        assert_eq!((outcome.frames, outcome.detections, outcome.matched), (1, 2, 2));
        assert!((outcome.score - 0.025).abs() < 1e-6 && outcome.pixels == 1.0, "{outcome}");
    }

    #[test]
    fn what_only_one_finds_is_not() {
        let mut outcome = Outcome::default();
        // another class, another place, and nothing at all
        outcome.add(&[detection(0.0, 0.9, 1)], &[detection(0.0, 0.9, 2)], 0.4);
        outcome.add(&[detection(0.0, 0.9, 1)], &[detection(30.0, 0.9, 1)], 0.4);
        outcome.add(&[], &[detection(0.0, 0.5, 1)], 0.4);
        assert_eq!((outcome.detections, outcome.matched), (5, 0));
    }

    #[test]
    fn a_score_on_the_threshold_is_no_loss() {
        let mut outcome = Outcome::default();
        outcome.add(&[detection(0.0, 0.401, 1)], &[detection(0.0, 0.399, 1)], 0.4);
        assert_eq!((outcome.detections, outcome.matched), (1, 1));
        assert!(outcome.to_string().starts_with("100.00 % of 1 detections on 1 frames"), "{outcome}");
    }
}
