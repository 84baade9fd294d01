//! Graphs that end with their own suppression, as local files. What they kept is taken in their order, from
//! the threshold up.

use super::scratch::class_of;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// How such a graph tells its boxes; corners in input pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[K, 7]`: picture, corners, class, score. YOLOv7's export; `K` depends on the frame.
    Rows,
    /// `[1, K, 5]` corners and score, and `[1, K]` classes, −1 where there is none. NanoDet and others of the
    /// MMDetection kind.
    BoxesAndLabels,
    /// `[1, 1]` how many, `[1, K, 4]` corners, `[1, K]` scores, `[1, K]` classes. As TensorRT's EfficientNMS.
    Counted,
}

/// The layout of those outputs. A dimension of 0 is one that depends on the frame.
pub(super) fn layout(shapes: &[Vec<usize>]) -> Option<Layout> {
    match shapes {
        [rows] if matches!(rows[..], [_, 7]) => Some(Layout::Rows),
        [boxes, labels] if matches!((&boxes[..], &labels[..]), ([1, k, 5], [1, l]) if k == l) => {
            Some(Layout::BoxesAndLabels)
        }
        [count, boxes, scores, classes] => {
            let is_count = matches!(count[..], [1] | [1, 1]);
            let fit = matches!((&boxes[..], &scores[..], &classes[..]), ([1, k, 4], [1, l], [1, m]) if k == l && l == m);
            (is_count && fit).then_some(Layout::Counted)
        }
        _ => None,
    }
}

/// Boxes that reach the threshold, the first `max_detections` of them.
pub(super) fn decode(outputs: &Outputs<'_>, layout: Layout, thresholds: &Thresholds, scratch: &mut Scratch) {
    let mut keep = |order: usize, corners: [f32; 4], score: f32, class: f32| {
        let full = scratch.candidates.len() as u64 >= u64::from(thresholds.max_detections);
        if let (false, true, Some(class_id)) = (full, score >= thresholds.confidence, class_of(class)) {
            scratch.push(Candidate::cornered(corners, score, class_id, order));
        }
    };
    match layout {
        Layout::Rows => {
            for (order, row) in outputs.rows(0).enumerate() {
                let &[picture, left, top, right, bottom, class, score] = row else { return };
                // of a graph for several pictures each frame has its own
                if picture != 0.0 {
                    continue;
                }
                keep(order, [left, top, right, bottom], score, class);
            }
        }
        Layout::BoxesAndLabels => {
            for (order, (row, class)) in outputs.rows(0).zip(outputs.get(1).0).enumerate() {
                let &[left, top, right, bottom, score] = row else { return };
                keep(order, [left, top, right, bottom], score, *class);
            }
        }
        Layout::Counted => {
            // A negative or broken count is 0.
            let count = outputs.get(0).0.first().copied().unwrap_or(0.0) as usize;
            let (scores, classes) = (outputs.get(2).0, outputs.get(3).0);
            for (order, ((row, score), class)) in
                outputs.rows(1).zip(scores).zip(classes).take(count).enumerate()
            {
                let Ok(corners) = row.try_into() else { return };
                keep(order, corners, *score, *class);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    fn found(
        shapes_and_values: impl IntoIterator<Item = (Vec<usize>, Vec<f32>)>,
    ) -> Vec<(f32, f32, f32, u32)> {
        let run = Fixed::new(shapes_and_values);
        let outputs = run.outputs();
        let mut scratch = Scratch::default();
        Family::InGraph(layout(outputs.shapes).unwrap()).detect(&outputs, &THRESHOLDS, &mut scratch);
        scratch.candidates.iter().map(|c| (c.left, c.bottom, c.score, c.class_id)).collect()
    }

    #[test]
    fn each_layout_is_read() {
        let rows = vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.9, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.1];
        assert_eq!(found([(vec![0, 7], rows)]), [(1.0, 4.0, 0.9, 5)]);
        assert_eq!(found([(vec![0, 7], vec![])]), []);
        let boxes = vec![1.0, 2.0, 3.0, 4.0, 0.9, 1.0, 2.0, 3.0, 4.0, 0.8];
        assert_eq!(found([(vec![1, 2, 5], boxes), (vec![1, 2], vec![7.0, -1.0])]), [(1.0, 4.0, 0.9, 7)]);
        let corners = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let counted = |count: f32| {
            found([
                (vec![1, 1], vec![count]),
                (vec![1, 2, 4], corners.clone()),
                (vec![1, 2], vec![0.9, 0.8]),
                (vec![1, 2], vec![0.0, 1.0]),
            ])
        };
        assert_eq!(counted(1.0), [(1.0, 4.0, 0.9, 0)]);
        assert_eq!(counted(2.0).len(), 2);
        assert_eq!(counted(-3.0), []);
        assert_eq!(counted(f32::NAN), []);
    }
}
