//! One vector of [`LANES`] channels, whatever the machine calls it.
//!
//! A kernel is written once, over this trait, in `generic.rs`; `avx512.rs`, `avx2.rs`, `neon.rs` and
//! `scalar.rs` give it registers. [`Scalar`](super::scalar::Scalar) is the twin that runs everywhere (and
//! under Miri).
#![allow(unsafe_code)] // the trait's methods are CPU instructions behind raw pointers

use super::points::{POINTS, Points};

/// Channels in one block: activations lie as `[block][row][column][LANES]`, so one vector is one pixel's
/// block.
pub(crate) const LANES: usize = 16;

/// [`LANES`] 32-bit floats in registers.
///
/// # Safety
/// Every method may only be called on a CPU that has the instructions the implementor is written in. `load`
/// and `store` need `LANES` readable (writable) floats at the pointer; no alignment is asked for.
pub(crate) trait Lanes: Copy {
    /// Where Winograd's transforms take their polynomials.
    const POINTS: Points = POINTS;

    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// The greater; a NaN in `other` stays one, so bounds come first: `bound.max(x)`.
    unsafe fn max(self, other: Self) -> Self;
    /// The lesser; a NaN in `other` stays one.
    unsafe fn min(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Nearest whole number, ties to even.
    unsafe fn round(self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// `self * 2^power`; `power` is whole and within −126 … 127.
    unsafe fn scale(self, power: Self) -> Self;

    /// `e^self`, clamped to e^±87; relative error below 3e-7.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: the caller vouches for the instructions; nothing here touches memory.
        unsafe {
            let x = Self::splat(87.0).min(Self::splat(-87.0).max(self));
            let power = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
            // x − power·ln 2, with ln 2 in two parts so that the difference is exact
            let rest = power.mul_add(Self::splat(-0.693_359_4), x);
            let rest = power.mul_add(Self::splat(2.121_944_4e-4), rest);
            // Taylor to the sixth order: rest lies within ±0.347
            let mut sum = Self::splat(1.0 / 720.0);
            for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                sum = sum.mul_add(rest, Self::splat(coefficient));
            }
            sum.scale(power)
        }
    }

    /// The error function; absolute error below 5e-7.
    #[inline(always)]
    unsafe fn erf(self) -> Self {
        // SAFETY: as above.
        unsafe {
            // beyond ±3.92 it is ±1 to 3e-8; within, an odd rational function whose coefficients minimise the
            // greatest error
            let x = Self::splat(3.92).min(Self::splat(-3.92).max(self));
            let square = x.mul(x);
            let mut above = Self::splat(2.034_719_8e-6);
            for coefficient in
                [2.874_776_8e-4, 3.868_315e-3, 5.306_046e-2, 0.192_763_94, std::f32::consts::FRAC_2_SQRT_PI]
            {
                above = above.mul_add(square, Self::splat(coefficient));
            }
            let mut below = Self::splat(3.807_038_5e-5);
            for coefficient in [1.188_109e-3, 1.517_227_9e-2, 0.115_084_56, 0.504_164_3, 1.0] {
                below = below.mul_add(square, Self::splat(coefficient));
            }
            x.mul(above).div(below)
        }
    }

    /// `1 / (1 + e^−self)`.
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        // SAFETY: as above.
        unsafe {
            let one = Self::splat(1.0);
            one.div(Self::splat(0.0).sub(self).exp().add(one))
        }
    }

    /// `self / (1 + e^−self)`.
    #[inline(always)]
    unsafe fn silu(self) -> Self {
        // SAFETY: as above.
        unsafe { self.div(Self::splat(0.0).sub(self).exp().add(Self::splat(1.0))) }
    }
}

/// What a vector of registers does register by register.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! by_registers {
    ($vector:ident, $($register:tt)*) => {
        $crate::infer::cnn::kernels::lanes::by_registers!(# $vector, [$($register)*], add(other), sub(other), mul(other), div(other), max(other),
            min(other), round(), sqrt(), scale(other), mul_add(factor, addend));
    };
    (# $vector:ident, $registers:tt, $($name:ident $operands:tt),*) => {
        $($crate::infer::cnn::kernels::lanes::by_registers!(= $vector, $registers, $name $operands);)*
    };
    (= $vector:ident, [$($register:tt)*], $name:ident()) => {
        #[inline(always)]
        unsafe fn $name(self) -> Self {
            // SAFETY: the caller's promise, passed on.
            unsafe { $vector($(self.$register.$name()),*) }
        }
    };
    (= $vector:ident, [$($register:tt)*], $name:ident($one:ident)) => {
        #[inline(always)]
        unsafe fn $name(self, $one: Self) -> Self {
            // SAFETY: the caller's promise, passed on.
            unsafe { $vector($(self.$register.$name($one.$register)),*) }
        }
    };
    (= $vector:ident, [$($register:tt)*], $name:ident($one:ident, $two:ident)) => {
        #[inline(always)]
        unsafe fn $name(self, $one: Self, $two: Self) -> Self {
            // SAFETY: the caller's promise, passed on.
            unsafe { $vector($(self.$register.$name($one.$register, $two.$register)),*) }
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use by_registers;
