//! `[1, K, 6]`: per box two corners in input pixels, score, class. YOLOv10, YOLO26, and Ultralytics exports
//! with NMS inside. Masks and points, which other tasks have behind these, are not used.

use super::scratch::class_of;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// Whether the outputs look like that.
pub(super) fn is_layout(shapes: &[Vec<usize>]) -> bool {
    matches!(shapes.first().map(Vec::as_slice), Some([1, _, columns]) if *columns >= 6)
}

/// Boxes above the threshold, in the order of the output; `limited`: the first `max_detections` of them.
pub(super) fn decode(outputs: &Outputs<'_>, limited: bool, thresholds: &Thresholds, scratch: &mut Scratch) {
    for (order, row) in outputs.rows(0).enumerate() {
        let &[left, top, right, bottom, score, class, ..] = row else { return };
        if limited && scratch.candidates.len() as u64 >= u64::from(thresholds.max_detections) {
            return;
        }
        if score > thresholds.confidence
            && let Some(class_id) = class_of(class)
        {
            scratch.push(Candidate::cornered([left, top, right, bottom], score, class_id, order));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    #[rustfmt::skip]
    const OUTPUT: [f32; 30] = [
         0.0,  0.0, 50.0, 50.0, 0.9, 1.0,
         0.0,  0.0, 50.0, 50.0, 0.8, 1.0, // The same box again stays: nothing is suppressed.
        10.0, 10.0, 20.0, 20.0, 0.4, 0.0, // The threshold itself is not above it.
        10.0, 10.0, 20.0, 20.0, 0.7, -1.0,
        10.0, 10.0, 20.0, 20.0, 0.5, 2.0,
    ];

    fn scores(family: Family, max_detections: u32) -> Vec<(f32, u32)> {
        let run = Fixed::new([(vec![1, 5, 6], OUTPUT.to_vec())]);
        let mut scratch = Scratch::default();
        family.detect(&run.outputs(), &Thresholds { max_detections, ..THRESHOLDS }, &mut scratch);
        scratch.candidates.iter().map(|c| (c.score, c.class_id)).collect()
    }

    #[test]
    fn boxes_are_taken_as_they_come() {
        assert_eq!(scores(Family::EndToEnd { limited: true }, 300), [(0.9, 1), (0.8, 1), (0.5, 2)]);
        assert_eq!(scores(Family::EndToEnd { limited: true }, 2), [(0.9, 1), (0.8, 1)]);
        assert_eq!(scores(Family::EndToEnd { limited: false }, 2), [(0.9, 1), (0.8, 1), (0.5, 2)]);
    }
}
