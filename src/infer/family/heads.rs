//! Three heads of YOLOv5 as they leave the last convolutions: `[1, 3, H, W, 5+C]`, or `[1, 3·(5+C), H, W]`,
//! strides 8, 16, 32 in any order. Offsets within a cell, sizes of the anchors that YOLOv5 was trained with,
//! objectness and class scores.

use super::pair::sigmoid;
use super::scratch::best_of;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// Anchors of each head: width and height in input pixels.
const ANCHORS: [(u32, [(f32, f32); 3]); 3] = [
    (8, [(10.0, 13.0), (16.0, 30.0), (33.0, 23.0)]),
    (16, [(30.0, 61.0), (62.0, 45.0), (59.0, 119.0)]),
    (32, [(116.0, 90.0), (156.0, 198.0), (373.0, 326.0)]),
];

/// How the heads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Their sigmoid is in the graph.
    pub(super) activated: bool,
}

/// One head: anchors' values at strides, rows, columns, stride of the grid.
struct Head {
    rows: usize,
    columns: usize,
    values: usize,
    /// Distance of an anchor, a value, a cell.
    anchor: usize,
    value: usize,
    cell: usize,
}

fn head(shape: &[usize]) -> Option<Head> {
    match *shape {
        [1, 3, rows, columns, values] if values > 5 => {
            Some(Head { rows, columns, values, anchor: rows * columns * values, value: 1, cell: values })
        }
        [1, channels, rows, columns] if channels % 3 == 0 && channels / 3 > 5 => {
            let values = channels / 3;
            Some(Head {
                rows,
                columns,
                values,
                anchor: values * rows * columns,
                value: rows * columns,
                cell: 1,
            })
        }
        _ => None,
    }
}

/// Classes of such outputs for an input of that size; `None` where they are no such heads.
pub(super) fn classes(shapes: &[Vec<usize>], size: Option<(u32, u32)>) -> Option<usize> {
    let [first, second, third] = shapes else { return None };
    let heads = [head(first)?, head(second)?, head(third)?];
    let values = heads[0].values;
    if heads.iter().any(|head| head.values != values) {
        return None;
    }
    if let Some((width, height)) = size {
        let of_grid = |stride: u32| (height as usize / stride as usize, width as usize / stride as usize);
        let every = ANCHORS
            .iter()
            .all(|(stride, _)| heads.iter().any(|head| (head.rows, head.columns) == of_grid(*stride)));
        if !every {
            return None;
        }
    }
    Some(values - 5)
}

/// The best class of each anchor, where its score reaches the threshold.
pub(super) fn decode(outputs: &Outputs<'_>, heads: Heads, thresholds: &Thresholds, scratch: &mut Scratch) {
    let mut order = 0;
    let mut scores = std::mem::take(&mut scratch.best);
    let on = |value: f32| if heads.activated { value } else { sigmoid(value) };
    for index in 0..outputs.shapes.len() {
        let (values, shape) = outputs.get(index);
        let Some(head) = head(shape) else { continue };
        let stride = outputs.height / u32::try_from(head.rows.max(1)).unwrap_or(u32::MAX);
        let Some((_, anchors)) = ANCHORS.iter().find(|(known, _)| *known == stride) else { continue };
        for (number, (width, height)) in anchors.iter().enumerate() {
            for cell in 0..head.rows * head.columns {
                order += 1;
                let at = number * head.anchor + cell * head.cell;
                let value = |which: usize| values.get(at + which * head.value).copied().unwrap_or(f32::NAN);
                let objectness = on(value(4));
                // No class can lift a score above it; NaN goes too.
                if objectness.is_nan() || objectness < thresholds.confidence {
                    continue;
                }
                scores.clear();
                scores.extend((5..head.values).map(|which| on(value(which))));
                let Some((class_id, score)) = best_of(&scores) else { continue };
                let score = objectness * score;
                if score < thresholds.confidence {
                    continue;
                }
                let (x, y) = ((cell % head.columns) as f32, (cell / head.columns) as f32);
                let centre = |offset: f32, cell: f32| (on(offset) * 2.0 - 0.5 + cell) * stride as f32;
                let size = |value: f32, anchor: f32| (on(value) * 2.0).powi(2) * anchor;
                let corners = [
                    centre(value(0), x),
                    centre(value(1), y),
                    size(value(2), *width),
                    size(value(3), *height),
                ];
                scratch.push(Candidate::centred(corners, score, class_id, order));
            }
        }
    }
    scratch.best = scores;
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    #[test]
    fn cells_and_anchors_become_pixels_in_both_layouts() {
        // 64x64: grids of 8x8, 4x4 and 2x2 cells; two classes.
        let grids = [8usize, 4, 2];
        let empty = |grid: usize| vec![-20.0f32; 3 * grid * grid * 7];
        let mut last = empty(4);
        // anchor 1 of stride 16, row 2, column 1
        let at = (16 + 2 * 4 + 1) * 7;
        last[at..at + 7].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 20.0, -20.0, 20.0]);
        let mut planes = empty(4);
        for value in 0..7 {
            planes[(7 + value) * 16 + 9] = last[at + value];
        }
        let with = |middle: (Vec<usize>, Vec<f32>), shape: &dyn Fn(usize) -> Vec<usize>| {
            let run = Fixed::new([(shape(8), empty(8)), middle, (shape(2), empty(2))]).of_size(64, 64);
            let outputs = run.outputs();
            assert_eq!(classes(outputs.shapes, Some((64, 64))), Some(2));
            let mut scratch = Scratch::default();
            Family::Heads(Heads { activated: false }).detect(&outputs, &THRESHOLDS, &mut scratch);
            let [found] = scratch.candidates[..] else { panic!("{:?}", scratch.candidates) };
            // centre of the cell, size of the anchor
            assert_eq!(
                [found.left, found.top, found.right, found.bottom],
                [24.0 - 31.0, 40.0 - 22.5, 24.0 + 31.0, 40.0 + 22.5]
            );
            assert_eq!(found.class_id, 1);
        };
        with((vec![1, 3, 4, 4, 7], last), &|grid| vec![1, 3, grid, grid, 7]);
        with((vec![1, 21, 4, 4], planes), &|grid| vec![1, 21, grid, grid]);
        assert_eq!(classes(&grids.map(|grid| vec![1, 3, grid, grid, 7]), Some((128, 128))), None);
    }
}
