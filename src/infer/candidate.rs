//! What decoders find, suppression thins out and the way back turns into detections.

use crate::detection::Detection;
use crate::geometry::ToSource;

/// A box that passed the threshold, in model-input pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Left edge, pixels of the model's input.
    pub(crate) left: f32,
    /// Top edge, pixels of the model's input.
    pub(crate) top: f32,
    /// Right edge, pixels of the model's input.
    pub(crate) right: f32,
    /// Bottom edge, pixels of the model's input.
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
    pub(super) fn centred(
        [x, y, width, height]: [f32; 4],
        score: f32,
        class_id: u32,
        order: usize,
    ) -> Candidate {
        let (half_width, half_height) = (width / 2.0, height / 2.0);
        Self::cornered(
            [x - half_width, y - half_height, x + half_width, y + half_height],
            score,
            class_id,
            order,
        )
    }

    /// A candidate from the corners of its box.
    pub(super) fn cornered(
        [left, top, right, bottom]: [f32; 4],
        score: f32,
        class_id: u32,
        order: usize,
    ) -> Candidate {
        Candidate {
            left,
            top,
            right,
            bottom,
            score,
            class_id,
            order: u32::try_from(order).unwrap_or(u32::MAX),
        }
    }

    /// Boxes of NaN or infinity would poison every comparison: they never become candidates.
    pub(super) fn is_finite(&self) -> bool {
        [self.left, self.top, self.right, self.bottom, self.score].iter().all(|v| v.is_finite())
    }

    /// The detection on the frame; `None` for boxes that are no numbers.
    pub(super) fn on_frame(&self, back: &ToSource) -> Option<Detection> {
        let detection = Detection {
            left: back.x(self.left),
            top: back.y(self.top),
            right: back.x(self.right),
            bottom: back.y(self.bottom),
            confidence: self.score,
            class_id: self.class_id,
        };
        // `clamp` would turn an infinite coordinate into the frame's edge: such a box is noise all the same.
        (detection.is_finite() && self.is_finite()).then_some(detection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Fit, InputRule, Rounding};

    #[test]
    fn what_is_no_number_is_no_detection() {
        let rule = InputRule {
            width: 320,
            height: 320,
            fit: Fit::Stretch,
            crop: None,
            grayscale: false,
            contrast: None,
        };
        let back = ToSource::new(&rule, &rule.place(640, 480).unwrap(), Rounding::Whole);
        let good =
            Candidate { left: 1.0, top: 2.0, right: 2.0, bottom: 3.0, score: 0.5, class_id: 0, order: 0 };
        assert!(good.on_frame(&back).is_some());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Candidate { top: bad, ..good }.on_frame(&back), None);
            assert_eq!(Candidate { score: bad, ..good }.on_frame(&back), None);
        }
    }
}
