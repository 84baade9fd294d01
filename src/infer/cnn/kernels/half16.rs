//! Half precision with arithmetic in half precision: binary16, on CPUs that compute with it.
//!
//! Convolutions are the loops of 32 bits over vectors of twice as many channels. Sums in 16 bits lose digits
//! with every term, so a dense convolution sums a [`STRETCH`] of channels at a time and adds that to what the
//! output holds: errors are those of 16 terms and of as many additions as there are stretches, instead of all
//! terms. Means and the rarer functions are computed in 32 bits.
#![allow(unsafe_code)] // the trait's methods are CPU instructions behind raw pointers
#![allow(clippy::needless_range_loop)] // two indices walk a tile together

use super::ConvRow;
use super::generic::{Rest, finish};
use super::lanes::{LANES, Lanes};

/// Numbers of a pixel that are loaded together.
pub(super) const UNIT: usize = 8;
/// Channels that are summed before their sum is added to the output: two [`UNIT`]s.
const STRETCH: u32 = 16;
/// Pixels of the widest tile: with five, 20 sums, five times eight inputs and four registers of weights stay
/// within 32 registers.
pub(super) const PIXELS: usize = 5;

/// A vector of twice [`LANES`] binary16 numbers.
///
/// # Safety
/// As [`Lanes`].
pub(super) trait Halves: Lanes {
    /// [`UNIT`] neighbouring channels of a pixel.
    type Unit: Copy;
    /// Loads as many.
    unsafe fn unit(from: *const f32) -> Self::Unit;
    /// `self · unit[K]`.
    unsafe fn by<const K: i32>(self, unit: Self::Unit) -> Self;
    /// `self + weights · unit[K]`, rounded once.
    unsafe fn plus<const K: i32>(self, weights: Self, unit: Self::Unit) -> Self;
}

/// What the sigmoid needs beside the arithmetic.
///
/// # Safety
/// As [`Lanes`].
pub(super) trait Estimates: Lanes {
    /// The CPU's estimate of `1 / self`, 8 bits of it.
    unsafe fn estimate(self) -> Self;
    /// `2 − self · other`, rounded once.
    unsafe fn correction(self, other: Self) -> Self;
}

/// `1 / (1 + e^−x)`, within 0.2 % where it is a normal number.
#[inline(always)]
pub(super) unsafe fn sigmoid<V: Estimates>(x: V) -> V {
    // SAFETY: the caller vouches for the instructions; nothing here touches memory.
    unsafe {
        // above 9 it is one, and below −10.5 less than half of the least normal number
        let x = V::splat(9.0).min(V::splat(-10.5).max(x));
        let power = x.mul(V::splat(-std::f32::consts::LOG2_E)).round();
        // x + power·ln 2, with ln 2 in two parts so that the first product and the difference are exact
        let rest = power.mul_add(V::splat(0.693_359_4), x);
        let rest = power.mul_add(V::splat(-2.121_944_4e-4), rest);
        // e^−rest within 1.5e-4
        let mut sum = V::splat(-0.166_6);
        for coefficient in [0.504, -1.0, 1.0] {
            sum = sum.mul_add(rest, V::splat(coefficient));
        }
        let divisor = sum.scale(power).add(V::splat(1.0));
        let inverse = divisor.estimate();
        inverse.mul(divisor.correction(inverse))
    }
}

/// `P` pixels of one block of a dense convolution; input pixels lie `S` floats apart (0: `row.pixel_stride`).
///
/// # Safety
/// As [`ConvRow`] and [`super::Convolutions`] say, with `x + P <= width` and one block.
#[inline(always)]
pub(super) unsafe fn tile<V: Halves, const P: usize, const S: usize>(row: &ConvRow, x: usize, rest: Rest) {
    let stride = if S == 0 { row.pixel_stride } else { S };
    // SAFETY: the row's contract.
    unsafe {
        let to = row.output.add(x * row.output_pixel);
        let start = row.input.add(x * stride);
        let mut weights = row.weights;
        let mut before = (row.bias.add(x * row.bias_pixel), row.bias_pixel);
        let mut sums = [V::splat(0.0); P];
        macro_rules! channel {
            ($k:literal, $units:ident, |$sum:ident, $w:ident, $unit:ident| $made:expr) => {
                let $w = V::load(weights.add($k * LANES));
                for p in 0..P {
                    let ($sum, $unit) = (sums[p], $units[p]);
                    sums[p] = $made;
                }
            };
        }
        macro_rules! channels {
            ($input:expr, |$sum:ident, $w:ident, $unit:ident| $first:expr) => {
                let mut units = [V::unit($input); P];
                for p in 1..P {
                    units[p] = V::unit($input.add(p * stride));
                }
                channel!(0, units, |$sum, $w, $unit| $first);
                channel!(1, units, |sum, w, unit| sum.plus::<1>(w, unit));
                channel!(2, units, |sum, w, unit| sum.plus::<2>(w, unit));
                channel!(3, units, |sum, w, unit| sum.plus::<3>(w, unit));
                channel!(4, units, |sum, w, unit| sum.plus::<4>(w, unit));
                channel!(5, units, |sum, w, unit| sum.plus::<5>(w, unit));
                channel!(6, units, |sum, w, unit| sum.plus::<6>(w, unit));
                channel!(7, units, |sum, w, unit| sum.plus::<7>(w, unit));
                weights = weights.add(UNIT * LANES);
            };
        }
        for tap in row.taps {
            let mut input = start.add(tap.offset as usize);
            let mut left = tap.channels;
            while left > 0 {
                channels!(input, |_sum, w, unit| w.by::<0>(unit));
                if left > UNIT as u32 {
                    let second = input.add(UNIT / 2);
                    channels!(second, |sum, w, unit| sum.plus::<0>(w, unit));
                }
                for p in 0..P {
                    V::load(before.0.add(p * before.1)).add(sums[p]).store(to.add(p * row.output_pixel));
                }
                before = (to.cast_const(), row.output_pixel);
                input = input.add(STRETCH as usize / 2);
                left = left.saturating_sub(STRETCH);
            }
        }
        let residual = row.residual.wrapping_add(x * row.output_pixel);
        let residual = (!row.residual.is_null()).then_some((residual, row.residual_order));
        finish::<V>(to, P, row.output_pixel, row.activation, residual, rest);
    }
}

/// The loops of [`super::Convolutions`] and [`super::Pictures`] for a CPU: `$vector` and `$one` compute in 16
/// bits, a whole block or a part of `$part` floats of one; `$wide` in 32 bits.
macro_rules! instantiate {
    ($name:literal, $is_fast:expr, $available:expr, $vector:ty, $one:ty, $part:expr, $wide:ty $(, $features:literal)?) => {
        use $crate::infer::cnn::kernels::generic::{self, Tile};
        use $crate::infer::cnn::kernels::half::{Convolve, Half};
        use $crate::infer::cnn::kernels::{
            Activation, Binary, ConvRow, Convolutions, Format, Operand, Pictures, PoolRow, ResizeRow,
            WinogradInput, WinogradOutput, WinogradWeights, costs, half16, points, winograd,
        };

        $(#[target_feature(enable = $features)])?
        unsafe fn tile<const P: usize, const S: usize>(row: &ConvRow, x: usize) {
            // SAFETY: the caller's promise, passed on; the features are enabled on this function.
            unsafe { half16::tile::<$vector, P, S>(row, x, rest) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn depthwise_tile<const P: usize, const S: usize>(row: &ConvRow, x: usize) {
            // SAFETY: as above.
            unsafe { generic::depthwise_tile::<$vector, P, S>(row, x, rest) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn winograd_input(job: &WinogradInput) {
            for part in (0..LANES).step_by($part) {
                // SAFETY: as above; a part of every vector at a time.
                unsafe {
                    let (input, output) = (job.input.add(part), job.output.add(part));
                    winograd::input::<$one>(&WinogradInput { input, output, ..*job });
                }
            }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn winograd_output(job: &WinogradOutput) {
            for part in (0..LANES).step_by($part) {
                // SAFETY: as above.
                unsafe {
                    winograd::output::<$one>(
                        &WinogradOutput {
                            input: job.input.add(part),
                            bias: job.bias.add(part),
                            output: job.output.add(part),
                            activation: Activation::Identity,
                            residual: std::ptr::null(),
                            ..*job
                        },
                        rest,
                    );
                }
            }
            for y in 0..job.rows {
                // SAFETY: as above.
                unsafe {
                    let residual = job.residual.wrapping_add(y * job.residual_row);
                    let residual = (!job.residual.is_null()).then_some((residual, job.residual_order));
                    let to = job.output.add(y * job.row_stride);
                    generic::finish::<$vector>(to, job.width, LANES, job.activation, residual, rest);
                }
            }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn winograd_weights(job: &WinogradWeights) {
            for part in (0..LANES).step_by($part) {
                // SAFETY: as above.
                unsafe {
                    let (input, output) = (job.input.add(part), job.output.add(part));
                    winograd::weights::<$one>(&WinogradWeights { input, output, ..*job });
                }
            }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn pool(row: &PoolRow) {
            // SAFETY: as above.
            unsafe {
                match row.average {
                    None => generic::pool::<$vector>(row),
                    Some(_) => generic::pool::<$wide>(row),
                }
            }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn resize(row: &ResizeRow) {
            // SAFETY: as above.
            unsafe { generic::resize::<$vector>(row) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn activate(from: *const f32, to: *mut f32, vectors: usize, activation: Activation) {
            // SAFETY: as above.
            unsafe { generic::activate::<$vector>(from, to, vectors, LANES, activation, rest) }
        }
        $(#[target_feature(enable = $features)])?
        #[inline(never)]
        unsafe fn rest(from: *const f32, to: *mut f32, vectors: usize, step: usize, activation: Activation) {
            // SAFETY: as above.
            unsafe { generic::rest::<$wide>(from, to, vectors, step, activation) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn binary(op: Binary, a: Operand, b: Operand, to: *mut f32, vectors: usize) {
            // SAFETY: as above.
            unsafe { generic::binary::<$vector>(op, a, b, to, vectors) }
        }

        /// Tiles for input pixels that lie `S` floats apart; entry `n − 1` does `n` pixels.
        struct Tiles<const S: usize>;
        impl<const S: usize> Tiles<S> {
            const DENSE: &[Tile; half16::PIXELS] =
                &[tile::<1, S>, tile::<2, S>, tile::<3, S>, tile::<4, S>, tile::<5, S>];
            const DEPTHWISE: &[Tile] = &[
                depthwise_tile::<1, S>,
                depthwise_tile::<2, S>,
                depthwise_tile::<3, S>,
                depthwise_tile::<4, S>,
                depthwise_tile::<5, S>,
                depthwise_tile::<6, S>,
            ];
        }

        unsafe fn conv(row: &ConvRow) {
            let tiles = match row.pixel_stride {
                16 => Tiles::<16>::DENSE,
                32 => Tiles::<32>::DENSE,
                _ => Tiles::<0>::DENSE,
            };
            // SAFETY: as above.
            unsafe { generic::in_tiles(row, tiles) }
        }

        unsafe fn depthwise(row: &ConvRow) {
            let tiles = match row.pixel_stride {
                16 => Tiles::<16>::DEPTHWISE,
                32 => Tiles::<32>::DEPTHWISE,
                _ => Tiles::<0>::DEPTHWISE,
            };
            // SAFETY: as above.
            unsafe { generic::in_tiles(row, tiles) }
        }

        pub(super) const HALF: Half = Half {
            name: $name,
            format: Format::Float16,
            is_fast: $is_fast,
            available: || $available,
            pictures: Pictures { pool, resize, activate, binary },
            convolutions: Convolve::Rows(Convolutions {
                format: Format::Float16,
                blocks: 1,
                pixels: [half16::PIXELS, 0],
                costs: &costs::NEON,
                points: points::FINE_POINTS,
                conv,
                depthwise,
                winograd_input,
                winograd_output,
                winograd_weights,
            }),
            narrow,
            widen,
            shuffle,
        };
    };
}
pub(super) use instantiate;
