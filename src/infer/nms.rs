//! Non-maximum suppression as the reference does it: docs/roboflow.md §6.5.
//!
//! Overlap is the intersection divided by the **area of the lower-scored box** (not by the union), widths and
//! heights count one pixel more than their difference, all in model-input pixels and 32-bit floats.

use super::Thresholds;
use super::candidate::Candidate;

/// Orders candidates by falling score, drops those that a better one of the same class covers, and keeps the
/// first `max_detections`. Equal scores stay in the order of the model's output.
pub(crate) fn suppress(candidates: &mut Vec<Candidate>, thresholds: &Thresholds) {
    candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.order.cmp(&b.order)));
    let wanted = usize::try_from(thresholds.max_detections).unwrap_or(usize::MAX);
    // Going by falling score over all classes at once, the boxes kept so far are final: so the first `wanted`
    // suffice.
    let mut kept = 0;
    for index in 0..candidates.len() {
        if kept == wanted {
            break;
        }
        let (better, rest) = candidates.split_at(index);
        let Some(candidate) = rest.first() else { break };
        let rival = |other: &&Candidate| thresholds.class_agnostic || other.class_id == candidate.class_id;
        let covered =
            better.iter().take(kept).filter(rival).any(|other| overlap(other, candidate) > thresholds.iou);
        if !covered {
            candidates.swap(kept, index);
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

/// Part of `lower` that `better` covers.
fn overlap(better: &Candidate, lower: &Candidate) -> f32 {
    let width = (better.right.min(lower.right) - better.left.max(lower.left) + 1.0).max(0.0);
    let height = (better.bottom.min(lower.bottom) - better.top.max(lower.top) + 1.0).max(0.0);
    let area = (lower.right - lower.left + 1.0) * (lower.bottom - lower.top + 1.0);
    width * height / area
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds =
        Thresholds { confidence: 0.4, iou: 0.3, max_detections: 300, class_agnostic: false };

    fn boxed(score: f32, class_id: u32, left: f32, width: f32, order: u32) -> Candidate {
        Candidate { left, top: 0.0, right: left + width, bottom: 99.0, score, class_id, order }
    }

    fn scores(candidates: &[Candidate]) -> Vec<f32> {
        candidates.iter().map(|candidate| candidate.score).collect()
    }

    #[test]
    fn a_small_box_inside_a_large_one_goes_and_the_reverse_stays() {
        // The small one lies wholly inside: IoU is 0.1, overlap of the lower-scored box is 1.
        let mut small_lower = vec![boxed(0.9, 0, 0.0, 999.0, 0), boxed(0.8, 0, 10.0, 99.0, 1)];
        suppress(&mut small_lower, &THRESHOLDS);
        assert_eq!(scores(&small_lower), [0.9]);
        // The large one is the lower: a tenth of it is covered.
        let mut large_lower = vec![boxed(0.8, 0, 0.0, 999.0, 0), boxed(0.9, 0, 10.0, 99.0, 1)];
        suppress(&mut large_lower, &THRESHOLDS);
        assert_eq!(scores(&large_lower), [0.9, 0.8]);
    }

    #[test]
    fn one_pixel_is_added_to_every_side() {
        // Boxes of 10 pixels (9 wide by difference), 3 pixels shared: 0.3 is not above 0.3; 4 shared are.
        let mut three = vec![boxed(0.9, 0, 0.0, 9.0, 0), boxed(0.8, 0, 7.0, 9.0, 1)];
        suppress(&mut three, &THRESHOLDS);
        assert_eq!(three.len(), 2);
        let mut four = vec![boxed(0.9, 0, 0.0, 9.0, 0), boxed(0.8, 0, 6.0, 9.0, 1)];
        suppress(&mut four, &THRESHOLDS);
        assert_eq!(four.len(), 1);
    }

    #[test]
    fn classes_do_not_meet_unless_asked() {
        let pair = vec![boxed(0.9, 0, 0.0, 50.0, 0), boxed(0.8, 1, 0.0, 50.0, 1)];
        let mut apart = pair.clone();
        suppress(&mut apart, &THRESHOLDS);
        assert_eq!(apart.len(), 2);
        let mut together = pair;
        suppress(&mut together, &Thresholds { class_agnostic: true, ..THRESHOLDS });
        assert_eq!(scores(&together), [0.9]);
    }

    #[test]
    fn a_box_that_was_dropped_drops_nobody() {
        // The middle one is covered by the first and would cover the third.
        let mut chain =
            vec![boxed(0.9, 0, 0.0, 99.0, 0), boxed(0.8, 0, 60.0, 99.0, 1), boxed(0.7, 0, 120.0, 99.0, 2)];
        suppress(&mut chain, &THRESHOLDS);
        assert_eq!(scores(&chain), [0.9, 0.7]);
    }

    #[test]
    fn the_best_come_first_and_the_rest_is_cut() {
        let mut many: Vec<Candidate> =
            (0..10).map(|i| boxed(0.5 + 0.01 * i as f32, 0, 200.0 * i as f32, 50.0, i)).collect();
        suppress(&mut many, &Thresholds { max_detections: 3, ..THRESHOLDS });
        assert_eq!(scores(&many), [0.59, 0.58, 0.57]);
        suppress(&mut many, &Thresholds { max_detections: 0, ..THRESHOLDS });
        assert!(many.is_empty());
    }

    #[test]
    fn equal_scores_keep_the_order_of_the_output() {
        let mut equal = vec![boxed(0.5, 0, 600.0, 50.0, 7), boxed(0.5, 0, 0.0, 50.0, 3)];
        suppress(&mut equal, &THRESHOLDS);
        assert_eq!(equal.iter().map(|candidate| candidate.order).collect::<Vec<_>>(), [3, 7]);
    }
}
