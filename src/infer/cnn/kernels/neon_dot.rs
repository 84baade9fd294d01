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
    /// Adds the products of the [`QUADS`] quads `at` bytes behind each pixel.
    unsafe fn four(sums: &mut [Sums; PIXELS], pixels: &[*const u8; PIXELS], at: usize, weights: *const i8);
}

/// [`Dot::four`] for a whole tile, in an order in which a core that issues in order (Cortex-A55) waits for few loads:
/// weights are replaced as soon as they have met all pixels. A compiler puts every load before its use.
macro_rules! four {
    ($extension:literal, $dot:literal, [$($taken:literal),*], [$($constant:tt)*]) => {
        #[inline(always)]
        unsafe fn four(
            sums: &mut [Sums; PIXELS],
            pixels: &[*const u8; PIXELS],
            at: usize,
            weights: *const i8,
        ) {
            let [a, b, c, d, e] = sums;
            // SAFETY: the trait's contract; reads 16 bytes of each pixel and a quad's weights four times.
            unsafe {
                asm!(
                    $extension,
                    "ldp {w0:q}, {w1:q}, [{w}]",
                    "ldr {a:q}, [{from_a}, {at}]",
                    "ldr {b:q}, [{from_b}, {at}]",
                    "ldr {c:q}, [{from_c}, {at}]",
                    "ldr {d:q}, [{from_d}, {at}]",
                    "ldr {e:q}, [{from_e}, {at}]",
                    "ldp {w2:q}, {w3:q}, [{w}, #32]",
                    $($taken,)*
                    four!(@ $dot, "0"),
                    "ldp {w0:q}, {w1:q}, [{w}, #64]",
                    four!(# $dot, "0"),
                    "ldp {w2:q}, {w3:q}, [{w}, #96]",
                    four!(@ $dot, "1"),
                    "ldp {w0:q}, {w1:q}, [{w}, #128]",
                    four!(# $dot, "1"),
                    "ldp {w2:q}, {w3:q}, [{w}, #160]",
                    four!(@ $dot, "2"),
                    "ldp {w0:q}, {w1:q}, [{w}, #192]",
                    four!(# $dot, "2"),
                    "ldp {w2:q}, {w3:q}, [{w}, #224]",
                    four!(@ $dot, "3"),
                    four!(# $dot, "3"),
                    a0 = inout(vreg) a[0], a1 = inout(vreg) a[1], a2 = inout(vreg) a[2], a3 = inout(vreg) a[3],
                    b0 = inout(vreg) b[0], b1 = inout(vreg) b[1], b2 = inout(vreg) b[2], b3 = inout(vreg) b[3],
                    c0 = inout(vreg) c[0], c1 = inout(vreg) c[1], c2 = inout(vreg) c[2], c3 = inout(vreg) c[3],
                    d0 = inout(vreg) d[0], d1 = inout(vreg) d[1], d2 = inout(vreg) d[2], d3 = inout(vreg) d[3],
                    e0 = inout(vreg) e[0], e1 = inout(vreg) e[1], e2 = inout(vreg) e[2], e3 = inout(vreg) e[3],
                    a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _, e = out(vreg) _,
                    w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
                    from_a = in(reg) pixels[0], from_b = in(reg) pixels[1], from_c = in(reg) pixels[2],
                    from_d = in(reg) pixels[3], from_e = in(reg) pixels[4],
                    at = in(reg) at, w = in(reg) weights,
                    $($constant)*
                    options(readonly, nostack, preserves_flags),
                );
            }
        }
    };
    (@ $dot:literal, $k:literal) => {
        concat!(four!(= $dot, "0", $k), "\n", four!(= $dot, "1", $k))
    };
    (# $dot:literal, $k:literal) => {
        concat!(four!(= $dot, "2", $k), "\n", four!(= $dot, "3", $k))
    };
    (= $dot:literal, $w:literal, $k:literal) => {
        concat!(
            $dot, " {a", $w, ":v}.4s, {w", $w, ":v}.16b, {a:v}.4b[", $k, "]\n",
            $dot, " {b", $w, ":v}.4s, {w", $w, ":v}.16b, {b:v}.4b[", $k, "]\n",
            $dot, " {c", $w, ":v}.4s, {w", $w, ":v}.16b, {c:v}.4b[", $k, "]\n",
            $dot, " {d", $w, ":v}.4s, {w", $w, ":v}.16b, {d:v}.4b[", $k, "]\n",
            $dot, " {e", $w, ":v}.4s, {w", $w, ":v}.16b, {e:v}.4b[", $k, "]"
        )
    };
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
    four!(
        ".arch_extension dotprod",
        "sdot",
        [
            "eor {a:v}.16b, {a:v}.16b, {signed:v}.16b",
            "eor {b:v}.16b, {b:v}.16b, {signed:v}.16b",
            "eor {c:v}.16b, {c:v}.16b, {signed:v}.16b",
            "eor {d:v}.16b, {d:v}.16b, {signed:v}.16b",
            "eor {e:v}.16b, {e:v}.16b, {signed:v}.16b"
        ],
        [signed = in(vreg) vdupq_n_u8(SIGNED as u8),]
    );
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
    four!(".arch_extension i8mm", "sudot", [], []);
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
                if P == PIXELS {
                    // the same arrays: `P` is what they are as long as
                    let sums = &mut *(&raw mut sums).cast::<[Sums; PIXELS]>();
                    D::four(sums, &*(&raw const from).cast(), at, own);
                    at += QUADS * QUAD;
                    own = own.add(QUADS * QUAD_WEIGHTS);
                    continue;
                }
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
