//! The twin of the kernels that compute in binary16: plain Rust that gives the same bits, for tests.
#![allow(unsafe_code)] // loads and stores through the kernels' raw pointers

use super::format::{from_float16, to_float16};
use super::half::{HALF_LANES, Recast};
use super::half_scalar::{narrow_by, shuffle, widen_by};
use super::half16::{Estimates, Halves, UNIT, instantiate, sigmoid};
use super::lanes::{LANES, Lanes};
use super::points::{FINE_POINTS, Points};

/// A block in the order of its channels, each rounded to 16 bits after every operation, or (`WIDE`) to 32.
#[derive(Clone, Copy)]
struct Twin<const WIDE: bool>([f32; HALF_LANES]);

/// The nearest binary16 number to one that is exact, or near enough that rounding it again changes nothing:
/// 53 bits are more than twice 11 and two.
fn rounded(value: f64) -> f32 {
    const LEAST: f64 = 1.0 / 16_777_216.0;
    let size = value.abs();
    if size < 1.0 / 16_384.0 {
        // copysign: zero has a sign
        return ((value / LEAST).round_ties_even() * LEAST).copysign(value) as f32;
    }
    if size >= 65_520.0 {
        return f32::INFINITY.copysign(value as f32);
    }
    // 42 of 52 bits of the fraction go, ties to even
    let bits = value.to_bits();
    f64::from_bits((bits + ((1 << 41) - 1) + (bits >> 42 & 1)) & !((1 << 42) - 1)) as f32
}

impl<const WIDE: bool> Twin<WIDE> {
    fn round(value: f64) -> f32 {
        match WIDE || value.is_nan() {
            true => value as f32,
            false => rounded(value),
        }
    }
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Twin(std::array::from_fn(|i| Self::round(f(f64::from(self.0[i]), f64::from(other.0[i])))))
    }
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        match WIDE {
            true => a.mul_add(b, c),
            // the product is exact, and where the sum is not, it is far from the middle of two numbers
            false => Self::round(f64::from(a) * f64::from(b) + f64::from(c)),
        }
    }
}

impl<const WIDE: bool> Lanes for Twin<WIDE> {
    const POINTS: Points = FINE_POINTS;

    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for as many bytes.
        Twin(unsafe { from.cast::<[u16; HALF_LANES]>().read_unaligned() }.map(from_float16))
    }
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[u16; HALF_LANES]>().write_unaligned(self.0.map(to_float16)) }
    }
    unsafe fn splat(value: f32) -> Self {
        Twin([if WIDE { value } else { from_float16(to_float16(value)) }; HALF_LANES])
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
    // of two zeros the positive one is greater; NaN stays
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| match a.is_nan() || b.is_nan() {
            true => f64::NAN,
            false if a == b => f64::from_bits(a.to_bits() & b.to_bits()),
            false => a.max(b),
        })
    }
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| match a.is_nan() || b.is_nan() {
            true => f64::NAN,
            false if a == b => f64::from_bits(a.to_bits() | b.to_bits()),
            false => a.min(b),
        })
    }
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Twin(std::array::from_fn(|i| Self::fused(self.0[i], factor.0[i], addend.0[i])))
    }
    unsafe fn round(self) -> Self {
        Twin(self.0.map(f32::round_ties_even))
    }
    unsafe fn sqrt(self) -> Self {
        self.zip(self, |a, _| a.sqrt())
    }
    unsafe fn scale(self, power: Self) -> Self {
        self.zip(power, |a, p| a * 2f64.powi(p as i32))
    }
    unsafe fn silu(self) -> Self {
        // SAFETY: no instructions are needed.
        unsafe {
            match WIDE {
                true => self.div(Self::splat(0.0).sub(self).exp().add(Self::splat(1.0))),
                false => self.mul(sigmoid(self)),
            }
        }
    }
}

/// `FRECPE` on binary16, as Arm's manual gives it.
fn estimate(value: f32) -> f32 {
    let half = to_float16(value);
    let (exponent, fraction) = (i32::from(half >> 10 & 0x1f), u32::from(half & 0x3ff));
    // what is divided here lies between 1 and 65 504
    assert!(half >> 15 == 0 && (15..31).contains(&exponent) || value.is_nan() || value.is_infinite());
    if exponent == 31 {
        return if value.is_nan() { f32::NAN } else { 0.0 };
    }
    let scaled = 2 * (256 + (fraction >> 2)) + 1;
    let estimate = ((1 << 19) / scaled).div_ceil(2) as f32 / 512.0;
    // between ½ and 1, times 2^(15 − exponent − …)
    estimate * 2f32.powi(15 - exponent)
}

impl<const WIDE: bool> Estimates for Twin<WIDE> {
    unsafe fn estimate(self) -> Self {
        Twin(self.0.map(estimate))
    }
    unsafe fn correction(self, other: Self) -> Self {
        Twin(std::array::from_fn(|i| Self::fused(-self.0[i], other.0[i], 2.0)))
    }
}

impl Halves for Twin<false> {
    type Unit = [f32; UNIT];
    unsafe fn unit(from: *const f32) -> Self::Unit {
        // SAFETY: the caller vouches for as many bytes.
        unsafe { from.cast::<[u16; UNIT]>().read_unaligned() }.map(from_float16)
    }
    unsafe fn by<const K: i32>(self, unit: Self::Unit) -> Self {
        self.zip(Twin([unit[K as usize]; HALF_LANES]), |a, b| a * b)
    }
    unsafe fn plus<const K: i32>(self, weights: Self, unit: Self::Unit) -> Self {
        Twin(std::array::from_fn(|i| Self::fused(weights.0[i], unit[K as usize], self.0[i])))
    }
}

unsafe fn narrow(row: &Recast) {
    // SAFETY: the caller's promise, passed on.
    unsafe { narrow_by(row, to_float16) }
}

unsafe fn widen(row: &Recast) {
    // SAFETY: the caller's promise, passed on.
    unsafe { widen_by(row, from_float16) }
}

instantiate!("scalar-fp16", false, true, Twin<false>, Twin<false>, LANES, Twin<true>);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of 16 bits, through the function that SiLU is made of.
    #[test]
    fn the_sigmoid_is_near() {
        for half in 0..=u16::MAX {
            let x = from_float16(half);
            if x.is_nan() {
                continue;
            }
            // SAFETY: no instructions are needed.
            let Twin(found) = unsafe { sigmoid(Twin::<false>([x; HALF_LANES])) };
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            let off = (f64::from(found[0]) - exact).abs();
            assert!(off <= exact * 2.5e-3 + 3e-5, "{x}: {} instead of {exact}", found[0]);
        }
    }

    #[test]
    fn it_rounds_as_the_conversion_does() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (from_float16(half), from_float16(half + 1));
            for part in [0.0, 0.25, 0.5, 0.75] {
                let value = f64::from(low) + part * f64::from(high - low);
                assert_eq!(rounded(value), from_float16(to_float16(value as f32)), "{value}");
                assert_eq!(rounded(-value), -rounded(value));
            }
        }
        assert_eq!(rounded(65_519.9), 65_504.0);
        assert_eq!(rounded(-65_520.0), f32::NEG_INFINITY);
    }
}
