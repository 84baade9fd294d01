//! NEON with FP16 arithmetic (ARMv8.2): four registers of eight binary16 numbers are one pixel's block.
//!
//! `f16` itself has no stable name, so everything goes through its bits.
#![allow(unsafe_code)]
// std::arch
// the methods become part of functions that have the CPU's features, and the instructions with them
#![allow(unknown_lints, inline_always_mismatching_target_features)]

use super::half::{Recast, Shuffle};
use super::half16::{Estimates, Halves, instantiate, sigmoid};
use super::lanes::{LANES, Lanes, by_registers};
use super::neon::Quad;
use super::points::{FINE_POINTS, Points};
use std::arch::aarch64::*;

/// One register: a quarter of a block.
#[derive(Clone, Copy)]
struct Eight(float16x8_t);

/// A block.
#[derive(Clone, Copy)]
struct Block(Eight, Eight, Eight, Eight);

/// A block in 32 bits.
#[derive(Clone, Copy)]
struct Wide(Quad, Quad);

/// Floats that a register of eight takes.
const PART: usize = 4;

#[inline(always)]
unsafe fn load(from: *const f32) -> float16x8_t {
    // SAFETY: the caller vouches for 16 bytes and FP16.
    unsafe { vreinterpretq_f16_u16(vld1q_u16(from.cast())) }
}

#[inline(always)]
unsafe fn store(value: float16x8_t, to: *mut f32) {
    // SAFETY: as above.
    unsafe { vst1q_u16(to.cast(), vreinterpretq_u16_f16(value)) }
}

/// [`LANES`] numbers in 32 bits from as many in 16.
#[inline(always)]
unsafe fn widened(from: *const f32) -> Quad {
    // SAFETY: as above, 32 bytes.
    unsafe {
        let (a, b) = (load(from), load(from.add(PART)));
        Quad(
            vcvt_f32_f16(vget_low_f16(a)),
            vcvt_high_f32_f16(a),
            vcvt_f32_f16(vget_low_f16(b)),
            vcvt_high_f32_f16(b),
        )
    }
}

/// The way back.
#[inline(always)]
unsafe fn narrowed(value: Quad, to: *mut f32) {
    // SAFETY: as above.
    unsafe {
        store(vcvt_high_f16_f32(vcvt_f16_f32(value.0), value.1), to);
        store(vcvt_high_f16_f32(vcvt_f16_f32(value.2), value.3), to.add(PART));
    }
}

// SAFETY (every block below): the trait's contract says that the CPU has FP16 arithmetic (`Half::choose` has
// asked) and that the pointers are good for the vector.
impl Lanes for Eight {
    const POINTS: Points = FINE_POINTS;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { Eight(load(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { store(self.0, to) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let four = vcvt_f16_f32(vdupq_n_f32(value));
            Eight(vcombine_f16(four, four))
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vaddq_f16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vsubq_f16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vmulq_f16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vdivq_f16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vmaxq_f16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vminq_f16(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vfmaq_f16(addend.0, self.0, factor.0)) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vrndnq_f16(self.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vsqrtq_f16(self.0)) }
    }
    #[inline(always)]
    unsafe fn scale(self, power: Self) -> Self {
        // SAFETY: see above. 2^p is p + 15 in the exponent's place.
        unsafe {
            let bits = vshlq_n_s16::<10>(vaddq_s16(vcvtq_s16_f16(power.0), vdupq_n_s16(15)));
            Eight(vmulq_f16(self.0, vreinterpretq_f16_s16(bits)))
        }
    }
    #[inline(always)]
    unsafe fn silu(self) -> Self {
        // SAFETY: see above.
        unsafe { self.mul(sigmoid(self)) }
    }
}

impl Estimates for Eight {
    #[inline(always)]
    unsafe fn estimate(self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vrecpeq_f16(self.0)) }
    }
    #[inline(always)]
    unsafe fn correction(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Eight(vrecpsq_f16(self.0, other.0)) }
    }
}

impl Lanes for Block {
    const POINTS: Points = FINE_POINTS;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe {
            Block(
                Eight::load(from),
                Eight::load(from.add(PART)),
                Eight::load(from.add(2 * PART)),
                Eight::load(from.add(3 * PART)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            self.0.store(to);
            self.1.store(to.add(PART));
            self.2.store(to.add(2 * PART));
            self.3.store(to.add(3 * PART));
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let one = Eight::splat(value);
            Block(one, one, one, one)
        }
    }
    by_registers!(Block, 0 1 2 3);
    #[inline(always)]
    unsafe fn silu(self) -> Self {
        // SAFETY: see above.
        unsafe { Block(self.0.silu(), self.1.silu(), self.2.silu(), self.3.silu()) }
    }
}

impl Halves for Block {
    type Unit = float16x8_t;
    #[inline(always)]
    unsafe fn unit(from: *const f32) -> Self::Unit {
        // SAFETY: see above.
        unsafe { load(from) }
    }
    #[inline(always)]
    unsafe fn by<const K: i32>(self, unit: Self::Unit) -> Self {
        // SAFETY: see above.
        unsafe {
            Block(
                Eight(vmulq_laneq_f16::<K>(self.0.0, unit)),
                Eight(vmulq_laneq_f16::<K>(self.1.0, unit)),
                Eight(vmulq_laneq_f16::<K>(self.2.0, unit)),
                Eight(vmulq_laneq_f16::<K>(self.3.0, unit)),
            )
        }
    }
    #[inline(always)]
    unsafe fn plus<const K: i32>(self, weights: Self, unit: Self::Unit) -> Self {
        // SAFETY: see above.
        unsafe {
            Block(
                Eight(vfmaq_laneq_f16::<K>(self.0.0, weights.0.0, unit)),
                Eight(vfmaq_laneq_f16::<K>(self.1.0, weights.1.0, unit)),
                Eight(vfmaq_laneq_f16::<K>(self.2.0, weights.2.0, unit)),
                Eight(vfmaq_laneq_f16::<K>(self.3.0, weights.3.0, unit)),
            )
        }
    }
}

impl Lanes for Wide {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { Wide(widened(from), widened(from.add(2 * PART))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            narrowed(self.0, to);
            narrowed(self.1, to.add(2 * PART));
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let one = Quad::splat(value);
            Wide(one, one)
        }
    }
    by_registers!(Wide, 0 1);
}

#[target_feature(enable = "neon,fp16")]
unsafe fn narrow(row: &Recast) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract.
        unsafe {
            let to = row.to.add(x * LANES);
            narrowed(Quad::load(row.from.add(x * LANES)), to);
            let second = match row.blocks > 1 {
                true => Quad::load(row.from.add(row.apart + x * LANES)),
                false => Quad::splat(0.0),
            };
            narrowed(second, to.add(2 * PART));
        }
    }
}

#[target_feature(enable = "neon,fp16")]
unsafe fn widen(row: &Recast) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract.
        unsafe {
            let from = row.from.add(x * LANES);
            for block in 0..row.blocks {
                widened(from.add(block * 2 * PART)).store(row.to.add(block * row.apart + x * LANES));
            }
        }
    }
}

#[target_feature(enable = "neon,fp16")]
unsafe fn shuffle(row: &Shuffle) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract; a table has the 64 bytes of a pixel's block.
        unsafe {
            let mut made = [vdupq_n_u8(0); 4];
            for (from, taken) in row.sources {
                let from = from.add(x * LANES).cast::<u8>();
                let table = uint8x16x4_t(
                    vld1q_u8(from),
                    vld1q_u8(from.add(16)),
                    vld1q_u8(from.add(32)),
                    vld1q_u8(from.add(48)),
                );
                for (part, made) in made.iter_mut().enumerate() {
                    // a byte from elsewhere stays as it is
                    *made = vqtbx4q_u8(*made, table, vld1q_u8(taken.bytes.as_ptr().add(16 * part)));
                }
            }
            let to = row.output.add(x * LANES).cast::<u8>();
            for (part, made) in made.into_iter().enumerate() {
                vst1q_u8(to.add(16 * part), made);
            }
        }
    }
}

instantiate!(
    "neon-fp16",
    true,
    std::arch::is_aarch64_feature_detected!("fp16"),
    Block,
    Eight,
    PART,
    Wide,
    "neon,fp16"
);
