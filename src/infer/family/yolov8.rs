//! `[1, 4+C, N]`: rows of centre x, centre y, width, height in input pixels, then one row of scores per
//! class. YOLOv8, v9, v11 and v12.

use super::{Candidate, Outputs, Scratch, Thresholds};

/// Rows of the box, before those of the scores.
pub(super) const BOX_ROWS: usize = 4;

/// Classes of such an output.
pub(super) fn classes(shapes: &[Vec<usize>]) -> Option<usize> {
    match shapes.first()?.as_slice() {
        [1, rows, _] => rows.checked_sub(BOX_ROWS).filter(|classes| *classes > 0),
        _ => None,
    }
}

/// The best of the first `classes` classes of each anchor, where it reaches the threshold.
pub(super) fn decode(outputs: &Outputs<'_>, classes: usize, thresholds: &Thresholds, scratch: &mut Scratch) {
    let (values, shape) = outputs.get(0);
    let &[1, _, anchors] = shape else { return };
    let count = outputs.held(anchors);
    let Some((boxes, scores)) = (count > 0).then(|| values.split_at_checked(BOX_ROWS * count)).flatten()
    else {
        return;
    };
    let scores = classes.checked_mul(count).and_then(|length| scores.get(..length)).unwrap_or(scores);
    best_of_rows(scores, count, scratch);
    let rows: [&[f32]; BOX_ROWS] =
        std::array::from_fn(|row| boxes.get(row * count..(row + 1) * count).unwrap_or_default());
    for (place, anchor) in outputs.anchors().enumerate().take(count) {
        let (Some(score), Some(class_id)) = (scratch.best.get(place), scratch.class.get(place)) else {
            return;
        };
        let (score, class_id) = (*score, *class_id);
        if score >= thresholds.confidence {
            let corner = rows.map(|row| row.get(place).copied().unwrap_or(f32::NAN));
            scratch.push(Candidate::centred(corner, score, class_id, anchor));
        }
    }
}

/// Goes class by class over whole rows, which the compiler vectorises; anchor by anchor is several times
/// slower.
fn best_of_rows(scores: &[f32], anchors: usize, scratch: &mut Scratch) {
    scratch.best.clear();
    scratch.best.resize(anchors, f32::NEG_INFINITY);
    scratch.class.clear();
    scratch.class.resize(anchors, 0);
    for (class_id, row) in scores.chunks_exact(anchors).enumerate() {
        for ((best, class), score) in scratch.best.iter_mut().zip(&mut scratch.class).zip(row) {
            // The first of equal scores stays, as argmax has it.
            if *score > *best {
                *best = *score;
                *class = class_id as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    /// Three anchors, two classes.
    #[rustfmt::skip]
    const OUTPUT: [f32; 18] = [
        10.0, 100.0, 200.0,
        20.0, 100.0, 200.0,
         4.0,  50.0,  60.0,
         8.0,  50.0,  60.0,
         0.4,   0.1,   f32::NAN,
         0.3,   0.9,   0.2,
    ];

    #[test]
    fn the_best_class_of_each_anchor_counts() {
        let run = Fixed::new([(vec![1, 6, 3], OUTPUT.to_vec())]);
        let mut scratch = Scratch::default();
        Family::Yolov8.detect(&run.outputs(), &THRESHOLDS, &mut scratch);
        let found: Vec<_> = scratch
            .candidates
            .iter()
            .map(|c| (c.left, c.top, c.right, c.bottom, c.score, c.class_id))
            .collect();
        assert_eq!(found, [(75.0, 75.0, 125.0, 125.0, 0.9, 1), (8.0, 16.0, 12.0, 24.0, 0.4, 0)]);
    }

    #[test]
    fn broken_numbers_are_no_candidates() {
        let mut output = OUTPUT;
        output[1] = f32::INFINITY;
        output[3] = f32::NAN;
        let run = Fixed::new([(vec![1, 6, 3], output.to_vec())]);
        let mut scratch = Scratch::default();
        Family::Yolov8.detect(&run.outputs(), &THRESHOLDS, &mut scratch);
        assert!(scratch.candidates.is_empty(), "{:?}", scratch.candidates);
    }

    #[test]
    fn an_output_shorter_than_its_shape_is_survived() {
        let run = Fixed::new([(vec![1, 6, 3], vec![1.0; 7])]);
        Family::Yolov8.detect(&run.outputs(), &THRESHOLDS, &mut Scratch::default());
    }

    #[test]
    fn classes_come_from_the_shape() {
        assert_eq!(classes(&[vec![1, 84, 8400]]), Some(80));
        assert_eq!(classes(&[vec![1, 4, 8400]]), None);
        assert_eq!(classes(&[]), None);
    }
}
