//! `[1, N, 5+C]`: per anchor centre x, centre y, width, height in input pixels, objectness, one score per
//! class. YOLOv5, and v7's usual export. Objectness alone is compared with the threshold and reported, as in
//! the reference.

use super::scratch::best_of;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// Column of the objectness.
pub(super) const OBJECTNESS: usize = 4;

/// Classes of such an output.
pub(super) fn classes(shapes: &[Vec<usize>]) -> Option<usize> {
    match shapes.first()?.as_slice() {
        [1, _, columns] => columns.checked_sub(OBJECTNESS + 1).filter(|classes| *classes > 0),
        _ => None,
    }
}

/// Anchors whose objectness reaches the threshold, with the best of their first `classes` classes.
pub(super) fn decode(outputs: &Outputs<'_>, classes: usize, thresholds: &Thresholds, scratch: &mut Scratch) {
    for (anchor, row) in outputs.anchors().zip(outputs.rows(0)) {
        let [x, y, width, height, objectness, scores @ ..] = row else { return };
        if *objectness >= thresholds.confidence
            && let Some((class_id, _)) = best_of(scores.get(..classes).unwrap_or(scores))
        {
            scratch.push(Candidate::centred([*x, *y, *width, *height], *objectness, class_id, anchor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    #[test]
    fn objectness_is_the_score_and_the_best_class_the_class() {
        #[rustfmt::skip]
        let output = vec![
             10.0,  10.0,  4.0,  4.0, 0.5,  0.1, 0.2,
            100.0, 100.0, 40.0, 40.0, 0.3,  0.9, 0.9,
            200.0, 200.0, 40.0, 20.0, 0.4,  0.9, 0.9,
            f32::NAN, 2.0, 4.0,  2.0, 0.9,  0.9, 0.9,
        ];
        let run = Fixed::new([(vec![1, 4, 7], output)]);
        let mut scratch = Scratch::default();
        Family::Yolov5.detect(&run.outputs(), &THRESHOLDS, &mut scratch);
        let found: Vec<_> =
            scratch.candidates.iter().map(|c| (c.left, c.bottom, c.score, c.class_id)).collect();
        assert_eq!(found, [(8.0, 12.0, 0.5, 1), (180.0, 210.0, 0.4, 0)]);
    }
}
