//! How each family of detectors writes its detections into its outputs: reference.md §6.4.
//!
//! A decoder turns outputs into [`Candidate`]s above the threshold, in model-input pixels. Suppression and the way back to
//! the frame are the same for all and lie in [`super::nms`] and [`super::unplace`].

pub(crate) mod recognise;
#[cfg(test)]
mod test_run;
mod yolov8;

use super::fill::Scale;
use super::unplace::Rounding;
use super::{Run, Thresholds, nms};

/// A family of output layouts. `C` classes, `N` anchors, batch 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `[1, 4+C, N]`, centre and size in input pixels, scores: YOLOv8, v9, v11, v12.
    Yolov8,
}

/// A box that passed the threshold, in model-input pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Left edge.
    pub(crate) left: f32,
    /// Top edge.
    pub(crate) top: f32,
    /// Right edge.
    pub(crate) right: f32,
    /// Bottom edge.
    pub(crate) bottom: f32,
    /// What is compared and reported.
    pub(crate) score: f32,
    /// Index into the class names.
    pub(crate) class_id: u32,
    /// Position in the output: decides between equal scores.
    pub(crate) order: u32,
}

impl Candidate {
    /// From centre and size.
    fn centred([x, y, width, height]: [f32; 4], score: f32, class_id: u32, order: u32) -> Candidate {
        let (half_width, half_height) = (width / 2.0, height / 2.0);
        Candidate {
            left: x - half_width,
            top: y - half_height,
            right: x + half_width,
            bottom: y + half_height,
            score,
            class_id,
            order,
        }
    }

    /// Boxes of NaN or infinity would poison every comparison: they never become candidates.
    fn is_finite(&self) -> bool {
        [self.left, self.top, self.right, self.bottom, self.score].iter().all(|v| v.is_finite())
    }
}

/// What decoding needs and keeps between frames, so that a frame allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The result.
    pub(crate) candidates: Vec<Candidate>,
    /// Best score of each anchor.
    best: Vec<f32>,
    /// Class of that score.
    class: Vec<u32>,
}

/// The outputs of a run with their shapes.
#[derive(Clone, Copy)]
pub(crate) struct Outputs<'a> {
    /// As [`super::Engine::output_shapes`].
    pub(crate) shapes: &'a [Vec<usize>],
    /// After a run.
    pub(crate) run: &'a dyn Run,
}

impl<'a> Outputs<'a> {
    /// Output `index` and its shape; empty when there is none.
    fn get(&self, index: usize) -> (&'a [f32], &'a [usize]) {
        self.shapes.get(index).map_or((&[], &[]), |shape| (self.run.output(index), shape.as_slice()))
    }
}

impl Family {
    /// Short name for logs and `weir check`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Yolov8 => "yolov8",
        }
    }

    /// How this family's coordinates are rounded.
    pub(crate) fn rounding(self) -> Rounding {
        match self {
            Family::Yolov8 => Rounding::Whole,
        }
    }

    /// Reads the outputs of a run into `scratch.candidates`, ordered and suppressed.
    pub(crate) fn detect(self, outputs: &Outputs<'_>, thresholds: &Thresholds, scratch: &mut Scratch) {
        scratch.candidates.clear();
        match self {
            Family::Yolov8 => yolov8::decode(outputs, thresholds, scratch),
        }
        nms::suppress(&mut scratch.candidates, thresholds);
    }

    /// From the API's `modelType`.
    pub(crate) fn of_model_type(name: &str) -> Option<Family> {
        const PREFIXES: [(&str, Family); 1] = [("yolov8", Family::Yolov8)];
        PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, family)| *family)
    }

    /// The family as it is for a model with these class names, and the names that are reported.
    pub(crate) fn with_names(self, names: Vec<String>) -> (Family, Vec<String>) {
        (self, names)
    }

    /// What its input wants after dividing by 255.
    pub(crate) fn scale(self) -> Scale {
        match self {
            Family::Yolov8 => Scale::Unit,
        }
    }

    /// Whether outputs with `found` classes go with `names` names.
    pub(crate) fn fits(self, found: usize, names: usize) -> bool {
        found == names
    }

    /// How many classes the outputs hold, as far as their shapes tell.
    pub(crate) fn classes(self, shapes: &[Vec<usize>]) -> Option<usize> {
        match self {
            Family::Yolov8 => yolov8::classes(shapes),
        }
    }
}
