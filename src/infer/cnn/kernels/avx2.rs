//! AVX2 and FMA: two registers are one pixel's block.
#![allow(unsafe_code)] // std::arch

use super::lanes::Lanes;
use super::{generic, instance};
use std::arch::x86_64::*;

/// Two YMM registers.
#[derive(Clone, Copy)]
pub(crate) struct Ymm(pub(super) __m256, pub(super) __m256);

// SAFETY (every block below): the trait's contract says that the CPU has AVX2 and FMA (`Kernels::choose` has
// asked) and that the pointers are good for LANES floats.
impl Lanes for Ymm {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Ymm(_mm256_fmadd_ps(self.0, factor.0, addend.0), _mm256_fmadd_ps(self.1, factor.1, addend.1))
        }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: see above. 8 = to nearest even, without an exception.
        unsafe { Ymm(_mm256_round_ps::<8>(self.0), _mm256_round_ps::<8>(self.1)) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
    }
    #[inline(always)]
    unsafe fn scale(self, power: Self) -> Self {
        // SAFETY: see above. 2^p is p + 127 in the exponent's place.
        unsafe {
            let two_to = |p: __m256| {
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                    _mm256_cvtps_epi32(p),
                    _mm256_set1_epi32(127),
                )))
            };
            Ymm(_mm256_mul_ps(self.0, two_to(power.0)), _mm256_mul_ps(self.1, two_to(power.1)))
        }
    }
}

// 12 sums (two registers each), two weights and a broadcast stay within 16 registers.
instance::instantiate!(Ymm, "avx2", AVX2, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), [1 2 3 4 5 6], [], [1 2 3 4 5], "avx2,fma");
