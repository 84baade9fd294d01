//! The twin of the kernels in half precision: plain Rust that gives the same bits, for tests.
#![allow(unsafe_code)] // loads and stores through the kernels' raw pointers

use super::format::{from_bfloat16, to_bfloat16};
use super::half::{
    Coarse, Convolve, ESTIMATE, HALF_LANES, Half, HalfDepthwise, HalfRows, Recast, Shuffle, TAP_FLOATS,
    Tiles, depthwise, finish, sigmoid,
};
use super::lanes::{LANES, Lanes};
use super::{Activation, Binary, Format, Operand, Pictures, PoolRow, ResizeRow, generic};

/// A block in half precision, in the order of its channels.
#[derive(Clone, Copy)]
struct Twin([f32; HALF_LANES]);

impl Twin {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Twin(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Twin {
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for as many bytes.
        Twin(unsafe { from.cast::<[u16; HALF_LANES]>().read_unaligned() }.map(from_bfloat16))
    }
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[u16; HALF_LANES]>().write_unaligned(self.0.map(to_bfloat16)) }
    }
    unsafe fn splat(value: f32) -> Self {
        Twin([value; HALF_LANES])
    }
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Twin(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], addend.0[i])))
    }
    unsafe fn round(self) -> Self {
        Twin(self.0.map(f32::round_ties_even))
    }
    unsafe fn sqrt(self) -> Self {
        Twin(self.0.map(f32::sqrt))
    }
    unsafe fn scale(self, power: Self) -> Self {
        self.zip(power, |a, p| a * f32::from_bits(((p as i32 + 127) as u32) << 23))
    }
    unsafe fn sigmoid(self) -> Self {
        // SAFETY: no instructions are needed.
        unsafe { sigmoid(self) }
    }
    unsafe fn silu(self) -> Self {
        // SAFETY: as above.
        unsafe { self.mul(sigmoid(self)) }
    }
}

impl Coarse for Twin {
    unsafe fn estimate(self) -> Self {
        Twin(self.0.map(|x| f32::from_bits(ESTIMATE.wrapping_sub(x.to_bits() as i32) as u32)))
    }
}

/// Even channels, then odd ones, in their order.
unsafe fn wide(from: *const f32) -> Twin {
    // SAFETY: the caller vouches for HALF_LANES floats.
    Twin(std::array::from_fn(|c| unsafe { *from.add(c % 2 * LANES + c / 2) }))
}

/// The two numbers in a float's place.
fn halves(pair: f32) -> [f32; 2] {
    [0, 1].map(|channel| Format::Bfloat16.number(channel, pair))
}

/// What is too small for a normal number is zero to the CPU's tiles.
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}

unsafe fn conv(rows: &HalfRows) {
    for (y, x) in (0..rows.rows).flat_map(|y| (0..rows.width).map(move |x| (y, x))) {
        // SAFETY: the rows' contract.
        unsafe {
            let start = rows.input.add(y * rows.input_row + x * rows.pixel_stride);
            let mut sums: [f32; HALF_LANES] = [0.0; HALF_LANES];
            for (n, sum) in sums.iter_mut().enumerate().take(rows.groups * LANES) {
                *sum = *rows.bias.add(n);
                for (t, tap) in rows.taps.iter().enumerate() {
                    let weights = rows.weights.add((t * rows.groups + n / LANES) * TAP_FLOATS + n % LANES);
                    let mut apart = [0.0f32; 2];
                    for k in 0..LANES {
                        let [a, b] = [halves(*start.add(*tap as usize + k)), halves(*weights.add(k * LANES))];
                        for (sum, (a, b)) in apart.iter_mut().zip(a.into_iter().zip(b)) {
                            // the product of two bfloat16 is exact
                            *sum = flushed(flushed(a).mul_add(flushed(b), *sum));
                        }
                    }
                    *sum = flushed(*sum + flushed(apart[0] + apart[1]));
                }
            }
            let ordered = match rows.groups {
                1 => Twin(sums),
                _ => wide(sums.as_ptr()),
            };
            let at = |from: *const f32, row: usize| match from.is_null() {
                true => from,
                false => from.add(y * row + x * LANES),
            };
            let residual = (at(rows.residual, rows.residual_row), rows.residual_order);
            let to = rows.output.add(y * rows.output_row + x * LANES);
            finish::<Twin>(|_| ordered, 1, to, rows.activation, residual);
            if rows.groups == 1 {
                to.cast::<u16>().add(LANES).cast::<[u16; LANES]>().write_unaligned([0; LANES]);
            }
        }
    }
}

unsafe fn one_depthwise(row: &HalfDepthwise) {
    // SAFETY: the caller's promise, passed on.
    unsafe { depthwise::<Twin, 1>(row, |from| wide(from)) }
}

/// Floats → numbers of 16 bits, each by `to_half`.
///
/// # Safety
/// As [`Recast`] says.
pub(super) unsafe fn narrow_by(row: &Recast, to_half: fn(f32) -> u16) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract.
        unsafe {
            let channel = |c: usize| match c / LANES < row.blocks {
                true => *row.from.add(c / LANES * row.apart + x * LANES + c % LANES),
                false => 0.0,
            };
            let made: [u16; HALF_LANES] = std::array::from_fn(|c| to_half(channel(c)));
            row.to.add(x * LANES).cast::<[u16; HALF_LANES]>().write_unaligned(made);
        }
    }
}

/// The way back, each number by `from_half`.
///
/// # Safety
/// As [`Recast`] says.
pub(super) unsafe fn widen_by(row: &Recast, from_half: fn(u16) -> f32) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract.
        unsafe {
            let values = row.from.add(x * LANES).cast::<[u16; HALF_LANES]>().read_unaligned();
            for (c, value) in values.into_iter().enumerate().take(row.blocks * LANES) {
                *row.to.add(c / LANES * row.apart + x * LANES + c % LANES) = from_half(value);
            }
        }
    }
}

unsafe fn narrow(row: &Recast) {
    // SAFETY: the caller's promise, passed on.
    unsafe { narrow_by(row, to_bfloat16) }
}

unsafe fn widen(row: &Recast) {
    // SAFETY: the caller's promise, passed on.
    unsafe { widen_by(row, from_bfloat16) }
}

pub(super) unsafe fn shuffle(row: &Shuffle) {
    for x in 0..row.pixels {
        let mut made = [0u16; HALF_LANES];
        for (from, taken) in row.sources {
            // SAFETY: the row's contract.
            let source = unsafe { from.add(x * LANES).cast::<[u16; HALF_LANES]>().read_unaligned() };
            for (c, to) in made.iter_mut().enumerate().filter(|(c, _)| taken.mask & (1 << c) != 0) {
                *to = source.get(usize::from(taken.from[c])).copied().unwrap_or_default();
            }
        }
        // SAFETY: as above.
        unsafe { row.output.add(x * LANES).cast::<[u16; HALF_LANES]>().write_unaligned(made) }
    }
}

unsafe fn pool(row: &PoolRow) {
    // SAFETY: the caller's promise, passed on.
    unsafe { generic::pool::<Twin>(row) }
}

unsafe fn resize(row: &ResizeRow) {
    // SAFETY: as above.
    unsafe { generic::resize::<Twin>(row) }
}

unsafe fn activate(from: *const f32, to: *mut f32, vectors: usize, activation: Activation) {
    // SAFETY: as above.
    unsafe { generic::rest::<Twin>(from, to, vectors, LANES, activation) }
}

unsafe fn binary(op: Binary, a: Operand, b: Operand, to: *mut f32, vectors: usize) {
    // SAFETY: as above.
    unsafe { generic::binary::<Twin>(op, a, b, to, vectors) }
}

pub(super) const HALF: Half = Half {
    name: "scalar-bf16",
    format: Format::Bfloat16,
    is_fast: false,
    available: || true,
    pictures: Pictures { pool, resize, activate, binary },
    convolutions: Convolve::Tiles(Tiles { conv, depthwise: one_depthwise }),
    narrow,
    widen,
    shuffle,
};
