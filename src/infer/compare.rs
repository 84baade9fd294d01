//! Two ways to compute a model, compared by what they find on the same pictures.

use super::family::Scratch;
use super::workbench::find;
use super::{Model, Run, Thresholds};
use crate::detection::Detection;
use crate::error::Result;
use crate::geometry::Placement;
use std::collections::BTreeMap;
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
    classes: BTreeMap<u32, Outcome>,
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
        Ok(Comparison { sides, confidence, outcome: Outcome::default(), classes: BTreeMap::new() })
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
        self.outcome.frames += 1;
        compare(&one.found, &other.found, self.confidence, |class, pair| {
            self.outcome.count(pair);
            self.classes.entry(class).or_default().count(pair);
        });
        Ok(())
    }

    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The same for each class that either side found, by its number; pictures are not counted.
    pub fn by_class(&self) -> &BTreeMap<u32, Outcome> {
        &self.classes
    }
}

/// What a detection and its counterpart differ by: scores, and sides in pixels.
type Pair = Option<(f32, f32)>;

/// Looks for the counterpart of every detection of either side; `tell` gets its class and the two's difference.
fn compare(one: &[Detection], other: &[Detection], confidence: f32, mut tell: impl FnMut(u32, Pair)) {
    for (from, to) in [(one, other), (other, one)] {
        for detection in from.iter().filter(|detection| detection.confidence >= confidence) {
            let same = to.iter().filter(|other| other.class_id == detection.class_id);
            let nearest = same.max_by(|a, b| overlap(detection, a).total_cmp(&overlap(detection, b)));
            let nearest = nearest.filter(|nearest| overlap(detection, nearest) >= SAME_BOX);
            let sides = |d: &Detection| [d.left, d.top, d.right, d.bottom];
            let pair = nearest.map(|nearest| {
                let apart = sides(detection).into_iter().zip(sides(nearest)).map(|(a, b)| (a - b).abs());
                ((detection.confidence - nearest.confidence).abs(), apart.fold(0.0, f32::max))
            });
            tell(detection.class_id, pair);
        }
    }
}

impl Outcome {
    fn count(&mut self, pair: Pair) {
        self.detections += 1;
        if let Some((score, pixels)) = pair {
            self.matched += 1;
            self.score = self.score.max(score);
            self.pixels = self.pixels.max(pixels);
        }
    }

    /// Detections that have a counterpart, of all, 0..1.
    pub fn share(&self) -> f64 {
        self.matched as f64 / self.detections.max(1) as f64
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
        let Outcome { frames, detections, score, pixels, .. } = self;
        let share = 100.0 * self.share();
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

    impl Outcome {
        fn add(&mut self, one: &[Detection], other: &[Detection], confidence: f32) {
            self.frames += 1;
            compare(one, other, confidence, |_, pair| self.count(pair));
        }
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
