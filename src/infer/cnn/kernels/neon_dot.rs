//! Integer arithmetic on arm64 by dot products of four bytes: SDOT (ARMv8.2, optional there) of signed codes, or
//! SUDOT, USDOT and USMMLA (I8MM) of codes as they are. `asm!`, since the compiler has no stable names for them.
#![allow(unsafe_code)] // std::arch, asm

use super::int8::{IN_ORDER, Int8, Int8Depthwise, Int8Rows, QUAD};
use super::neon_int8::{
    Coder, PICTURES, QUAD_WEIGHTS, SIGNED, Sums, depthwise, first_sums, four_taps, four_weights, made,
    translate,
};
use std::arch::aarch64::*;
use std::arch::asm;

/// Quads of a register.
const QUADS: usize = 4;
/// Pixels of a tile: 20 sums, four weights, five pixels and a constant are 30 of the 32 registers.
const PIXELS: usize = 5;
/// Pixels of a depthwise tile, which share the weights.
const DEPTHWISE_PIXELS: usize = 2;

/// Dot products of four codes and four weights.
///
/// # Safety
/// The CPU must have the instructions.
trait Dot {
    /// Codes as [`Dot::by`] and [`Dot::each`] take them.
    unsafe fn taken(codes: uint8x16_t) -> uint8x16_t;
    /// Adds the products of quad `K` of the codes with each quad of the weights.
    unsafe fn by<const K: i32>(sum: int32x4_t, weights: int8x16_t, codes: uint8x16_t) -> int32x4_t;
    /// Adds the products of each quad with its own.
    unsafe fn each(sum: int32x4_t, weights: int8x16_t, codes: uint8x16_t) -> int32x4_t;
}

/// By SDOT.
struct Signed;

/// By SUDOT and USDOT.
struct Mixed;

impl Dot for Signed {
    #[inline(always)]
    unsafe fn taken(codes: uint8x16_t) -> uint8x16_t {
        // SAFETY: all arm64 has NEON.
        unsafe { veorq_u8(codes, vdupq_n_u8(SIGNED as u8)) }
    }
    #[inline(always)]
    unsafe fn by<const K: i32>(mut sum: int32x4_t, weights: int8x16_t, codes: uint8x16_t) -> int32x4_t {
        // SAFETY: the trait's contract.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {weights:v}.16b, {codes:v}.4b[{k}]",
                sum = inout(vreg) sum, weights = in(vreg) weights, codes = in(vreg) codes, k = const K,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
    #[inline(always)]
    unsafe fn each(mut sum: int32x4_t, weights: int8x16_t, codes: uint8x16_t) -> int32x4_t {
        // SAFETY: the trait's contract.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {weights:v}.16b, {codes:v}.16b",
                sum = inout(vreg) sum, weights = in(vreg) weights, codes = in(vreg) codes,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
}

impl Dot for Mixed {
    #[inline(always)]
    unsafe fn taken(codes: uint8x16_t) -> uint8x16_t {
        codes
    }
    #[inline(always)]
    unsafe fn by<const K: i32>(mut sum: int32x4_t, weights: int8x16_t, codes: uint8x16_t) -> int32x4_t {
        // SAFETY: the trait's contract.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "sudot {sum:v}.4s, {weights:v}.16b, {codes:v}.4b[{k}]",
                sum = inout(vreg) sum, weights = in(vreg) weights, codes = in(vreg) codes, k = const K,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
    #[inline(always)]
    unsafe fn each(mut sum: int32x4_t, weights: int8x16_t, codes: uint8x16_t) -> int32x4_t {
        // SAFETY: the trait's contract.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "usdot {sum:v}.4s, {codes:v}.16b, {weights:v}.16b",
                sum = inout(vreg) sum, weights = in(vreg) weights, codes = in(vreg) codes,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
}

/// The products of quad `K` of some pixels.
#[inline(always)]
unsafe fn quad<D: Dot, const K: i32, const P: usize>(
    sums: &mut [Sums; P],
    weights: *const i8,
    codes: &[uint8x16_t; P],
) {
    // SAFETY: the caller's promise: a quad's weights.
    unsafe {
        let weights = weights.add(K as usize * QUAD_WEIGHTS);
        let weights = [
            vld1q_s8(weights),
            vld1q_s8(weights.add(16)),
            vld1q_s8(weights.add(32)),
            vld1q_s8(weights.add(48)),
        ];
        for (sums, codes) in sums.iter_mut().zip(codes) {
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = D::by::<K>(*sum, weights, *codes);
            }
        }
    }
}

/// A tile of `P` pixels of one group.
#[inline(always)]
unsafe fn tile<D: Dot, const P: usize>(rows: &Int8Rows, coder: &Coder, (y, x): (usize, usize), group: usize) {
    // SAFETY: the rows' contract.
    unsafe {
        let mut sums = [first_sums(rows.sums.add(group * 16)); P];
        let start = rows.input.add(y * rows.input_row + x * rows.pixel_stride);
        let from: [*const u8; P] = std::array::from_fn(|p| start.add(p * rows.pixel_stride));
        let mut weights = rows.weights;
        for tap in rows.taps {
            let (quads, mut at) = (usize::from(tap.quads), tap.offset as usize);
            let mut own = weights.add(group * quads * QUAD_WEIGHTS);
            for _ in 0..quads / QUADS {
                let codes = from.map(|from| D::taken(vld1q_u8(from.add(at))));
                quad::<D, 0, P>(&mut sums, own, &codes);
                quad::<D, 1, P>(&mut sums, own, &codes);
                quad::<D, 2, P>(&mut sums, own, &codes);
                quad::<D, 3, P>(&mut sums, own, &codes);
                at += QUADS * QUAD;
                own = own.add(QUADS * QUAD_WEIGHTS);
            }
            if quads & 2 != 0 {
                let codes = from.map(|from| {
                    let two = vld1_u8(from.add(at));
                    D::taken(vcombine_u8(two, two))
                });
                quad::<D, 0, P>(&mut sums, own, &codes);
                quad::<D, 1, P>(&mut sums, own, &codes);
                at += 2 * QUAD;
                own = own.add(2 * QUAD_WEIGHTS);
            }
            if quads & 1 != 0 {
                let codes = from.map(|from| {
                    let one = from.add(at).cast::<u32>().read_unaligned();
                    D::taken(vreinterpretq_u8_u32(vdupq_n_u32(one)))
                });
                quad::<D, 0, P>(&mut sums, own, &codes);
            }
            weights = weights.add(rows.groups * quads * QUAD_WEIGHTS);
        }
        made(rows, coder, (y, x), group, sums);
    }
}

unsafe fn conv<D: Dot>(rows: &Int8Rows) {
    let tiles = rows.width.div_ceil(PIXELS).max(1);
    let step = rows.width.div_ceil(tiles).max(1);
    // SAFETY: the rows' contract, passed on.
    unsafe {
        let coder = Coder::of(rows);
        for y in 0..rows.rows {
            for x in (0..rows.width).step_by(step) {
                for group in 0..rows.groups {
                    match step.min(rows.width - x) {
                        1 => tile::<D, 1>(rows, &coder, (y, x), group),
                        2 => tile::<D, 2>(rows, &coder, (y, x), group),
                        3 => tile::<D, 3>(rows, &coder, (y, x), group),
                        4 => tile::<D, 4>(rows, &coder, (y, x), group),
                        _ => tile::<D, PIXELS>(rows, &coder, (y, x), group),
                    }
                }
            }
        }
    }
}

/// The bytes of four registers, quad by quad.
#[inline(always)]
unsafe fn interleaved([a, b, c, d]: [uint8x16_t; QUAD]) -> [uint8x16_t; QUAD] {
    // SAFETY: all arm64 has NEON.
    unsafe {
        let (low, high) = (vzip1q_u8(a, b), vzip2q_u8(a, b));
        let (other_low, other_high) = (vzip1q_u8(c, d), vzip2q_u8(c, d));
        let first = |a, b| vreinterpretq_u8_u16(vzip1q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
        let second =
            |a, b| vreinterpretq_u8_u16(vzip2q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
        [first(low, other_low), second(low, other_low), first(high, other_high), second(high, other_high)]
    }
}

unsafe fn depthwise_by<D: Dot>(row: &Int8Depthwise) {
    // SAFETY: the row's contract.
    unsafe {
        depthwise::<DEPTHWISE_PIXELS>(row, |from, first, channels| {
            let mut sums = [first_sums(row.sums.add(first)); DEPTHWISE_PIXELS];
            let (fours, _) = row.taps.as_chunks::<QUAD>();
            for (n, taps) in fours.iter().enumerate() {
                let weights = four_weights(row, n, first);
                let weights: Sums =
                    std::array::from_fn(|part| vreinterpretq_s32_s8(vld1q_s8(weights.add(16 * part))));
                for (sums, from) in sums.iter_mut().zip(from) {
                    let codes = interleaved(four_taps(from, taps, channels));
                    for ((sum, weights), codes) in sums.iter_mut().zip(weights).zip(codes) {
                        *sum = D::each(*sum, vreinterpretq_s8_s32(weights), D::taken(codes));
                    }
                }
            }
            sums
        })
    }
}

pub(super) const DOT: Int8 = Int8 {
    name: "neon-dotprod",
    is_fast: true,
    available: || std::arch::is_aarch64_feature_detected!("dotprod"),
    has_tiles: false,
    offset: SIGNED,
    order: &IN_ORDER,
    conv: conv::<Signed>,
    depthwise: depthwise_by::<Signed>,
    translate,
    pictures: PICTURES,
};

pub(super) const I8MM: Int8 = Int8 {
    name: "neon-i8mm",
    available: || std::arch::is_aarch64_feature_detected!("i8mm"),
    offset: 0,
    conv: conv::<Mixed>,
    depthwise: depthwise_by::<Mixed>,
    ..DOT
};
