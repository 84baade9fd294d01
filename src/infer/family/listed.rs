//! Final boxes with their own scores and classes, nothing left to suppress, in the order of the output.

use super::scratch::class_of;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// How such boxes are told; corners in input pixels, but for [`Listed::fractions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Which output, or which column, holds what.
    pub(super) layout: Layout,
    /// Of the input's width and height instead of pixels.
    pub(super) fractions: bool,
}

/// How finished boxes, classes and scores stand in the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[1, K]`, `[1, K, 4]`, `[1, K]`: RT-DETR, D-FINE and DEIM with their post-processing. Which output is
    /// which.
    Apart { labels: usize, boxes: usize, scores: usize },
    /// `[K, 6]`: class, score, corners. PaddleDetection with its suppression; class −1 where there is
    /// nothing.
    ClassFirst,
    /// `[K, 7]`: picture, corners, score, class. YOLO-NAS with its suppression, flat.
    Flat,
}

impl Listed {
    /// Whether outputs of these shapes are so.
    pub(super) fn fits(&self, shapes: &[Vec<usize>]) -> bool {
        match self.layout {
            Layout::Apart { labels, boxes, scores } => {
                match (shapes.get(labels), shapes.get(boxes), shapes.get(scores)) {
                    (Some(labels), Some(boxes), Some(scores)) => {
                        matches!((&labels[..], &boxes[..], &scores[..]), ([1, k], [1, l, 4], [1, m]) if k == l && l == m)
                    }
                    _ => false,
                }
            }
            Layout::ClassFirst => matches!(shapes.first().map(Vec::as_slice), Some([_, 6])),
            Layout::Flat => matches!(shapes.first().map(Vec::as_slice), Some([_, 7])),
        }
    }
}

/// Boxes that reach the threshold, the first `max_detections` of them.
pub(super) fn decode(outputs: &Outputs<'_>, listed: Listed, thresholds: &Thresholds, scratch: &mut Scratch) {
    let (across, down) =
        if listed.fractions { (outputs.width as f32, outputs.height as f32) } else { (1.0, 1.0) };
    let mut keep = |order: usize, [left, top, right, bottom]: [f32; 4], score: f32, class: f32| {
        let full = scratch.candidates.len() as u64 >= u64::from(thresholds.max_detections);
        if let (false, true, Some(class_id)) = (full, score >= thresholds.confidence, class_of(class)) {
            let corners = [left * across, top * down, right * across, bottom * down];
            scratch.push(Candidate::cornered(corners, score, class_id, order));
        }
    };
    match listed.layout {
        Layout::Apart { labels, boxes, scores } => {
            let (labels, scores) = (outputs.get(labels).0, outputs.get(scores).0);
            for (order, ((corners, label), score)) in outputs.rows(boxes).zip(labels).zip(scores).enumerate()
            {
                let Ok(corners) = corners.try_into() else { return };
                keep(order, corners, *score, *label);
            }
        }
        Layout::ClassFirst => {
            for (order, row) in outputs.rows(0).enumerate() {
                let &[class, score, left, top, right, bottom] = row else { return };
                keep(order, [left, top, right, bottom], score, class);
            }
        }
        Layout::Flat => {
            for (order, row) in outputs.rows(0).enumerate() {
                let &[picture, left, top, right, bottom, score, class] = row else { return };
                if picture == 0.0 {
                    keep(order, [left, top, right, bottom], score, class);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    fn found(listed: Listed, outputs: Vec<(Vec<usize>, Vec<f32>)>) -> Vec<(f32, f32, f32, u32)> {
        let run = Fixed::new(outputs);
        let outputs = run.outputs();
        assert!(listed.fits(outputs.shapes));
        let mut scratch = Scratch::default();
        Family::Listed(listed).detect(&outputs, &THRESHOLDS, &mut scratch);
        scratch.candidates.iter().map(|c| (c.left, c.bottom, c.score, c.class_id)).collect()
    }

    #[test]
    fn each_layout_is_read() {
        let listed = |layout| Listed { layout, fractions: false };
        let apart = Layout::Apart { labels: 0, boxes: 1, scores: 2 };
        let corners = vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
        let outputs =
            vec![(vec![1, 2], vec![7.0, 3.0]), (vec![1, 2, 4], corners), (vec![1, 2], vec![0.9, 0.1])];
        assert_eq!(found(Listed { fractions: true, ..listed(apart) }, outputs), [(10.0, 40.0, 0.9, 7)]);
        let rows = vec![5.0, 0.9, 1.0, 2.0, 3.0, 4.0, -1.0, 0.9, 1.0, 2.0, 3.0, 4.0];
        assert_eq!(found(listed(Layout::ClassFirst), vec![(vec![2, 6], rows)]), [(1.0, 4.0, 0.9, 5)]);
        let flat = vec![0.0, 1.0, 2.0, 3.0, 4.0, 0.9, 5.0, 1.0, 1.0, 2.0, 3.0, 4.0, 0.9, 5.0];
        assert_eq!(found(listed(Layout::Flat), vec![(vec![2, 7], flat)]), [(1.0, 4.0, 0.9, 5)]);
    }
}
