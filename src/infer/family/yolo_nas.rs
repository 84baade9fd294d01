//! `[1, N, 4]` and `[1, N, C]`: corners in input pixels, and scores. YOLO-NAS.

use super::scratch::best_of;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// Classes of such outputs.
pub(super) fn classes(shapes: &[Vec<usize>]) -> Option<usize> {
    match shapes {
        [boxes, scores, ..] => match (boxes.as_slice(), scores.as_slice()) {
            ([1, boxes, 4], [1, anchors, classes]) if boxes == anchors && *classes > 0 => Some(*classes),
            _ => None,
        },
        _ => None,
    }
}

/// The best class of each anchor, where it reaches the threshold.
pub(super) fn decode(outputs: &Outputs<'_>, thresholds: &Thresholds, scratch: &mut Scratch) {
    for (anchor, (corners, scores)) in outputs.anchors().zip(outputs.rows(0).zip(outputs.rows(1))) {
        if let (Ok(corners), Some((class_id, score))) = (corners.try_into(), best_of(scores))
            && score >= thresholds.confidence
        {
            scratch.push(Candidate::cornered(corners, score, class_id, anchor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    #[test]
    fn corners_and_scores_come_apart() {
        let corners = vec![1.0, 2.0, 3.0, 4.0, 50.0, 60.0, 70.0, 80.0];
        let run =
            Fixed::new([(vec![1, 2, 4], corners), (vec![1, 2, 3], vec![0.1, 0.2, 0.3, 0.4, f32::NAN, 0.3])]);
        let mut scratch = Scratch::default();
        Family::YoloNas.detect(&run.outputs(), &THRESHOLDS, &mut scratch);
        let found: Vec<_> =
            scratch.candidates.iter().map(|c| (c.left, c.bottom, c.score, c.class_id)).collect();
        assert_eq!(found, [(50.0, 80.0, 0.4, 0)]);
        assert_eq!(classes(&[vec![1, 2, 4], vec![1, 2, 3]]), Some(3));
        assert_eq!(classes(&[vec![1, 2, 4], vec![1, 9, 3]]), None);
    }
}
