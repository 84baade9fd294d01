//! Winograd's F(4×4, 3×3): 6×6 windows, 3×3 kernels and 4×4 outputs to and from the 36 places where they are
//! multiplied.
#![allow(unsafe_code)] // raw pointers, as the structures in `mod.rs` describe them
#![allow(clippy::needless_range_loop)] // rows of a square are taken across its columns

use super::generic::{Rest, finish};
use super::lanes::{LANES, Lanes};
use super::{WinogradInput, WinogradOutput, WinogradWeights};

/// One column or row of the input transform: the points are 0, ±1, ±2, ∞.
#[inline(always)]
unsafe fn forward<V: Lanes>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let (four, five, two) = (V::splat(-4.0), V::splat(-5.0), V::splat(2.0));
        let even = four.mul_add(d[2], d[4]);
        let odd = four.mul_add(d[1], d[3]);
        let even_two = d[4].sub(d[2]);
        let odd_two = two.mul(d[3].sub(d[1]));
        [
            V::splat(4.0).mul_add(d[0], five.mul_add(d[2], d[4])),
            even.add(odd),
            even.sub(odd),
            even_two.add(odd_two),
            even_two.sub(odd_two),
            V::splat(4.0).mul_add(d[1], five.mul_add(d[3], d[5])),
        ]
    }
}

/// One column or row of the output transform.
#[inline(always)]
unsafe fn backward<V: Lanes>(m: [V; 6]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (sum_two, difference_two) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(sum).add(sum_two),
            V::splat(2.0).mul_add(difference_two, difference),
            V::splat(4.0).mul_add(sum_two, sum),
            V::splat(8.0).mul_add(difference_two, difference).add(m[5]),
        ]
    }
}

/// See [`WinogradInput`].
#[inline(always)]
pub(super) unsafe fn input<V: Lanes>(job: &WinogradInput) {
    // SAFETY: the job's contract.
    unsafe {
        for tile in 0..job.tiles {
            let from = job.input.add(tile * 4 * LANES);
            let mut columns = [[V::splat(0.0); 6]; 6];
            for (x, column) in columns.iter_mut().enumerate() {
                let mut d = [V::splat(0.0); 6];
                for (y, d) in d.iter_mut().enumerate() {
                    *d = V::load(from.add(y * job.row_stride + x * LANES));
                }
                *column = forward(d);
            }
            let to = job.output.add(tile * LANES);
            for y in 0..6 {
                let row = forward([
                    columns[0][y],
                    columns[1][y],
                    columns[2][y],
                    columns[3][y],
                    columns[4][y],
                    columns[5][y],
                ]);
                for (x, value) in row.iter().enumerate() {
                    value.store(to.add((y * 6 + x) * job.frequency));
                }
            }
        }
    }
}

/// See [`WinogradOutput`].
#[inline(always)]
pub(super) unsafe fn output<V: Lanes>(job: &WinogradOutput, rest: Rest) {
    // SAFETY: the job's contract.
    unsafe {
        let bias = V::load(job.bias);
        for tile in 0..job.tiles {
            let from = job.input.add(tile * LANES);
            let mut columns = [[V::splat(0.0); 4]; 6];
            for (x, column) in columns.iter_mut().enumerate() {
                let mut m = [V::splat(0.0); 6];
                for (y, m) in m.iter_mut().enumerate() {
                    *m = V::load(from.add((y * 6 + x) * job.frequency));
                }
                *column = backward(m);
            }
            let width = job.width.saturating_sub(4 * tile).min(4);
            for y in 0..job.rows.min(4) {
                let row = backward([
                    columns[0][y],
                    columns[1][y],
                    columns[2][y],
                    columns[3][y],
                    columns[4][y],
                    columns[5][y],
                ]);
                let to = job.output.add(y * job.row_stride + 4 * tile * LANES);
                for (x, value) in row.iter().enumerate().take(width) {
                    value.add(bias).store(to.add(x * LANES));
                }
            }
        }
        for y in 0..job.rows.min(4) {
            let to = job.output.add(y * job.row_stride);
            let residual = (!job.residual.is_null())
                .then(|| (job.residual.add(y * job.residual_row), job.residual_order));
            finish::<V>(to, job.width, LANES, job.activation, residual, rest);
        }
    }
}

/// One column or row of the transform of the weights.
#[inline(always)]
unsafe fn spread<V: Lanes>(g: [V; 3]) -> [V; 6] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let (sixth, twelfth) = (V::splat(1.0 / 6.0), V::splat(1.0 / 12.0));
        let (ends, middle) = (g[0].add(g[2]), g[1].mul(twelfth));
        let minus_sixth = V::splat(-1.0 / 6.0);
        let outer = g[2].mul_add(sixth, g[0].mul(V::splat(1.0 / 24.0)));
        [
            g[0].mul(V::splat(0.25)),
            ends.add(g[1]).mul(minus_sixth),
            ends.sub(g[1]).mul(minus_sixth),
            outer.add(middle),
            outer.sub(middle),
            g[2],
        ]
    }
}

/// See [`WinogradWeights`].
#[inline(always)]
pub(super) unsafe fn weights<V: Lanes>(job: &WinogradWeights) {
    // SAFETY: the job's contract.
    unsafe {
        for kernel in 0..job.kernels {
            let from = job.input.add(kernel * 9 * LANES);
            let mut columns = [[V::splat(0.0); 6]; 3];
            for (x, column) in columns.iter_mut().enumerate() {
                let at = |y: usize| V::load(from.add((3 * y + x) * LANES));
                *column = spread([at(0), at(1), at(2)]);
            }
            let to = job.output.add(kernel * LANES);
            for y in 0..6 {
                let row = spread([columns[0][y], columns[1][y], columns[2][y]]);
                for (x, value) in row.iter().enumerate() {
                    value.store(to.add((y * 6 + x) * job.frequency));
                }
            }
        }
    }
}
