//! NEON: four registers are one pixel's block.
#![allow(unsafe_code)] // std::arch

use super::lanes::Lanes;
use super::{generic, instance};
use std::arch::aarch64::*;

/// Four Q registers.
#[derive(Clone, Copy)]
pub(crate) struct Quad(
    pub(super) float32x4_t,
    pub(super) float32x4_t,
    pub(super) float32x4_t,
    pub(super) float32x4_t,
);

/// The same instruction on all four registers.
macro_rules! each {
    ($f:ident, $a:expr) => {
        Quad($f($a.0), $f($a.1), $f($a.2), $f($a.3))
    };
    ($f:ident, $a:expr, $b:expr) => {
        Quad($f($a.0, $b.0), $f($a.1, $b.1), $f($a.2, $b.2), $f($a.3, $b.3))
    };
    ($f:ident, $a:expr, $b:expr, $c:expr) => {
        Quad($f($a.0, $b.0, $c.0), $f($a.1, $b.1, $c.1), $f($a.2, $b.2, $c.2), $f($a.3, $b.3, $c.3))
    };
}

// SAFETY (every block below): every AArch64 CPU this project supports has NEON (the target's baseline); the
// trait's contract says that the pointers are good for LANES floats.
impl Lanes for Quad {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe {
            Quad(vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12)))
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
            vst1q_f32(to.add(8), self.2);
            vst1q_f32(to.add(12), self.3);
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let v = vdupq_n_f32(value);
            Quad(v, v, v, v)
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vaddq_f32, self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vsubq_f32, self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vmulq_f32, self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vdivq_f32, self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vmaxq_f32, self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vminq_f32, self, other) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vfmaq_f32, addend, self, factor) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vrndnq_f32, self) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { each!(vsqrtq_f32, self) }
    }
    #[inline(always)]
    unsafe fn scale(self, power: Self) -> Self {
        #[inline(always)]
        unsafe fn one(x: float32x4_t, p: float32x4_t) -> float32x4_t {
            // SAFETY: as the caller's. 2^p is p + 127 in the exponent's place.
            unsafe {
                let bits = vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(p), vdupq_n_s32(127)));
                vmulq_f32(x, vreinterpretq_f32_s32(bits))
            }
        }
        // SAFETY: see above.
        unsafe { each!(one, self, power) }
    }
}

// 20 sums (four registers each), four weights and a broadcast stay within 32 registers; with 24 sums the
// compiler spills (seen in the disassembly; not measured on a board).
instance::instantiate!(Quad, "neon", NEON, true, [1 2 3 4 5], [], [1 2 3 4 5 6], "neon");
