//! `[1, N, 5+C]` as YOLOX exports it by default: per cell of three grids (strides 8, 16, 32) the centre's
//! offset in cells, the logarithm of the size in cells, objectness, one score per class. The score is
//! objectness times class.

use super::scratch::best_of;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// Pixels per cell of the three grids, in the order of the output.
pub(super) const STRIDES: [u32; 3] = [8, 16, 32];

/// Rows of such an output for an input of that size.
pub(super) fn cells(width: u32, height: u32) -> usize {
    STRIDES.iter().map(|stride| (width / stride) as usize * (height / stride) as usize).sum()
}

/// The best class of each cell, where its score reaches the threshold. `decoded`: the rows hold pixels.
pub(super) fn decode(outputs: &Outputs<'_>, decoded: bool, thresholds: &Thresholds, scratch: &mut Scratch) {
    let grid = |stride: u32| {
        let (columns, rows) = (outputs.width / stride, outputs.height / stride);
        (0..rows).flat_map(move |y| (0..columns).map(move |x| (x as f32, y as f32, stride as f32)))
    };
    for (place, ((x, y, stride), row)) in STRIDES.into_iter().flat_map(grid).zip(outputs.rows(0)).enumerate()
    {
        let [dx, dy, log_width, log_height, objectness, scores @ ..] = row else { return };
        let Some((class_id, class_score)) = best_of(scores) else { continue };
        let score = objectness * class_score;
        if score >= thresholds.confidence {
            let corners = match decoded {
                true => [*dx, *dy, *log_width, *log_height],
                false => [
                    (dx + x) * stride,
                    (dy + y) * stride,
                    log_width.exp() * stride,
                    log_height.exp() * stride,
                ],
            };
            scratch.push(Candidate::centred(corners, score, class_id, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    #[test]
    fn cells_become_pixels() {
        // 64x32: grids of 8x4, 4x2 and 2x1 cells.
        assert_eq!(cells(64, 32), 42);
        let mut output = vec![0.0; 42 * 7];
        // Cell (2, 1) of the second grid: row 32 + 1·4 + 2.
        output[38 * 7..39 * 7].copy_from_slice(&[0.5, 0.25, 1.0, 0.0, 0.9, 0.1, 0.8]);
        let run = Fixed::new([(vec![1, 42, 7], output)]).of_size(64, 32);
        let mut scratch = Scratch::default();
        Family::Yolox.detect(&run.outputs(), &THRESHOLDS, &mut scratch);
        let [found] = scratch.candidates[..] else { panic!("{:?}", scratch.candidates) };
        let (x, y) = ((found.left + found.right) / 2.0, (found.top + found.bottom) / 2.0);
        assert_eq!((x, y, found.class_id), (40.0, 20.0, 1));
        assert!(
            (found.right - found.left - 16.0 * std::f32::consts::E).abs() < 1e-4
                && found.bottom - found.top == 16.0
        );
        assert!((found.score - 0.72).abs() < 1e-6);
    }
}
