//! Winograd's F(4×4, 3×3): 6×6 windows, 3×3 kernels and 4×4 outputs to and from the 36 places where they are
//! multiplied.
#![allow(unsafe_code)] // raw pointers, as the structures in `mod.rs` describe them
#![allow(clippy::needless_range_loop)] // rows of a square are taken across its columns

use super::generic::{Rest, finish};
use super::lanes::{LANES, Lanes};
use super::points::{POINTS, Points};
use super::{WinogradInput, WinogradOutput, WinogradWeights};

/// One column or row of the input transform: the points are 0, ±near, ±far, ∞.
#[inline(always)]
unsafe fn forward<V: Lanes>(d: [V; 6]) -> [V; 6] {
    let Points { near, far } = V::POINTS;
    let (near_square, far_square) = (near * near, far * far);
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let (product, sum) = (V::splat(near_square * far_square), V::splat(-near_square - far_square));
        let first = product.mul_add(d[0], sum.mul_add(d[2], d[4]));
        let last = product.mul_add(d[1], sum.mul_add(d[3], d[5]));
        let minus = V::splat(-far_square);
        let even = minus.mul_add(d[2], d[4]);
        let odd = minus.mul_add(d[1], d[3]);
        if V::POINTS == POINTS {
            let even_two = d[4].sub(d[2]);
            let odd_two = V::splat(2.0).mul(d[3].sub(d[1]));
            let [near, far] =
                [[even.add(odd), even.sub(odd)], [even_two.add(odd_two), even_two.sub(odd_two)]];
            return [first, near[0], near[1], far[0], far[1], last];
        }
        let minus = V::splat(-near_square);
        let even_far = minus.mul_add(d[2], d[4]);
        let odd_far = minus.mul_add(d[1], d[3]);
        [
            first,
            V::splat(near).mul_add(odd, even),
            V::splat(-near).mul_add(odd, even),
            V::splat(far).mul_add(odd_far, even_far),
            V::splat(-far).mul_add(odd_far, even_far),
            last,
        ]
    }
}

/// One column or row of the output transform.
#[inline(always)]
unsafe fn backward<V: Lanes>(m: [V; 6]) -> [V; 4] {
    let Points { near, far } = V::POINTS;
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (sum_far, difference_far) = (m[3].add(m[4]), m[3].sub(m[4]));
        let powers = |near: f32, far: f32, [one, two]: [V; 2]| {
            let one = if near == 1.0 { one } else { V::splat(near).mul(one) };
            V::splat(far).mul_add(two, one)
        };
        let differences = [difference, difference_far];
        [
            m[0].add(sum).add(sum_far),
            powers(near, far, differences),
            powers(near * near, far * far, [sum, sum_far]),
            powers(near * near * near, far * far * far, differences).add(m[5]),
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
    let Points { near, far } = V::POINTS;
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        if V::POINTS == POINTS {
            let (sixth, twelfth) = (V::splat(1.0 / 6.0), V::splat(1.0 / 12.0));
            let (ends, middle) = (g[0].add(g[2]), g[1].mul(twelfth));
            let minus_sixth = V::splat(-1.0 / 6.0);
            let outer = g[2].mul_add(sixth, g[0].mul(V::splat(1.0 / 24.0)));
            return [
                g[0].mul(V::splat(0.25)),
                ends.add(g[1]).mul(minus_sixth),
                ends.sub(g[1]).mul(minus_sixth),
                outer.add(middle),
                outer.sub(middle),
                g[2],
            ];
        }
        let pair = |x: f32, other: f32| {
            let ends = V::splat(x * x).mul_add(g[2], g[0]);
            let share = V::splat(1.0 / (2.0 * x * x * (x * x - other * other)));
            let at = |x: f32| V::splat(x).mul_add(g[1], ends).mul(share);
            [at(x), at(-x)]
        };
        let ([near_up, near_down], [far_up, far_down]) = (pair(near, far), pair(far, near));
        let first = g[0].mul(V::splat(1.0 / (near * near * far * far)));
        [first, near_up, near_down, far_up, far_down, g[2]]
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
