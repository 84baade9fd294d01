//! Integer arithmetic on any arm64: products of two signed bytes in 16 bits, two of them added there (SMULL, SMLAL),
//! pairs of these in 32 bits (SADALP). Held against the twin and counted; floats are no slower there.
#![allow(unsafe_code)] // std::arch

use super::int8::{IN_ORDER, Int8, Int8Depthwise, Int8Rows, QUAD, WIDE};
use super::neon_int8::{
    Coder, PICTURES, QUAD_WEIGHTS, SIGNED, Sums, depthwise, first_sums, four_taps, four_weights, made,
    translate,
};
use std::arch::aarch64::*;

/// Pixels of a tile: eight registers of sums each.
const PIXELS: usize = 2;
/// Pixels of a depthwise tile, which share the weights.
const DEPTHWISE_PIXELS: usize = 2;

// SAFETY (every block below): all arm64 has NEON; the rows' contract says what is readable.

/// Whether two products of any codes and of these weights fit 16 bits: only twice −128 · −128 does not.
#[inline(always)]
unsafe fn are_small(weights: *const i8, bytes: usize) -> bool {
    // SAFETY: see above; weights come in sixteens.
    unsafe {
        let mut least = vdupq_n_s8(0);
        for at in (0..bytes).step_by(16) {
            least = vminq_s8(least, vld1q_s8(weights.add(at)));
        }
        vminvq_s8(least) > i8::MIN
    }
}

#[inline(always)]
unsafe fn signed(codes: uint8x16_t) -> int8x16_t {
    // SAFETY: see above.
    unsafe { vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(SIGNED as u8))) }
}

/// Two registers' products, each added to its neighbour's, on top of the sums.
#[inline(always)]
unsafe fn added<const SMALL: bool>(
    [low, high]: [int32x4_t; 2],
    [a, b]: [int8x16_t; 2],
    [c, d]: [int8x16_t; 2],
) -> [int32x4_t; 2] {
    // SAFETY: see above.
    unsafe {
        let mut products = [vmull_s8(vget_low_s8(a), vget_low_s8(c)), vmull_high_s8(a, c)];
        let (mut low, mut high) = (low, high);
        if SMALL {
            products[0] = vmlal_s8(products[0], vget_low_s8(b), vget_low_s8(d));
            products[1] = vmlal_high_s8(products[1], b, d);
        } else {
            low = vpadalq_s16(low, vmull_s8(vget_low_s8(b), vget_low_s8(d)));
            high = vpadalq_s16(high, vmull_high_s8(b, d));
        }
        [vpadalq_s16(low, products[0]), vpadalq_s16(high, products[1])]
    }
}

/// A quad of a pixel, four times.
#[inline(always)]
unsafe fn four_times(from: *const u8) -> int8x16_t {
    // SAFETY: see above.
    unsafe { signed(vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned()))) }
}

/// A tile of `P` pixels of one group.
#[inline(always)]
unsafe fn tile<const P: usize, const SMALL: bool>(
    rows: &Int8Rows,
    coder: &Coder,
    (y, x): (usize, usize),
    group: usize,
) {
    // SAFETY: see above.
    unsafe {
        // of four channels: the first and the second, the third and the fourth, each in two parts
        let mut pairs = [[[vdupq_n_s32(0); 2]; 4]; P];
        let start = rows.input.add(y * rows.input_row + x * rows.pixel_stride);
        let from: [*const u8; P] = std::array::from_fn(|p| start.add(p * rows.pixel_stride));
        let mut weights = rows.weights;
        for tap in rows.taps {
            let (quads, mut at) = (usize::from(tap.quads), tap.offset as usize);
            let mut own = weights.add(group * quads * QUAD_WEIGHTS);
            for _ in 0..quads / 2 {
                let codes = from.map(|from| [four_times(from.add(at)), four_times(from.add(at + QUAD))]);
                for part in 0..4 {
                    let own = own.add(16 * part);
                    let both = [vld1q_s8(own), vld1q_s8(own.add(QUAD_WEIGHTS))];
                    for (pairs, codes) in pairs.iter_mut().zip(codes) {
                        pairs[part] = added::<SMALL>(pairs[part], both, codes);
                    }
                }
                at += 2 * QUAD;
                own = own.add(2 * QUAD_WEIGHTS);
            }
            if quads % 2 != 0 {
                let codes = from.map(|from| four_times(from.add(at)));
                for part in 0..4 {
                    let own = vld1q_s8(own.add(16 * part));
                    for (pairs, codes) in pairs.iter_mut().zip(codes) {
                        let [low, high] = pairs[part];
                        let product = vmull_s8(vget_low_s8(own), vget_low_s8(codes));
                        pairs[part] =
                            [vpadalq_s16(low, product), vpadalq_s16(high, vmull_high_s8(own, codes))];
                    }
                }
            }
            weights = weights.add(rows.groups * quads * QUAD_WEIGHTS);
        }
        let first = first_sums(rows.sums.add(group * 16));
        let sums = pairs.map(|pairs| {
            let sum = |part: usize| vaddq_s32(first[part], vpaddq_s32(pairs[part][0], pairs[part][1]));
            [sum(0), sum(1), sum(2), sum(3)]
        });
        made(rows, coder, (y, x), group, sums);
    }
}

#[inline(always)]
unsafe fn conv_of<const SMALL: bool>(rows: &Int8Rows) {
    // SAFETY: see above.
    unsafe {
        let coder = Coder::of(rows);
        for y in 0..rows.rows {
            for x in (0..rows.width).step_by(PIXELS) {
                for group in 0..rows.groups {
                    match rows.width - x {
                        1 => tile::<1, SMALL>(rows, &coder, (y, x), group),
                        _ => tile::<PIXELS, SMALL>(rows, &coder, (y, x), group),
                    }
                }
            }
        }
    }
}

unsafe fn conv(rows: &Int8Rows) {
    let quads: usize = rows.taps.iter().map(|tap| usize::from(tap.quads)).sum();
    // SAFETY: see above.
    unsafe {
        match are_small(rows.weights, quads * rows.groups * QUAD_WEIGHTS) {
            true => conv_of::<true>(rows),
            false => conv_of::<false>(rows),
        }
    }
}

#[inline(always)]
unsafe fn depthwise_of<const SMALL: bool>(row: &Int8Depthwise) {
    // SAFETY: see above.
    unsafe {
        depthwise::<DEPTHWISE_PIXELS>(row, |from, first, channels| {
            let mut sums = [first_sums(row.sums.add(first)); DEPTHWISE_PIXELS];
            let (fours, _) = row.taps.as_chunks::<QUAD>();
            for (n, taps) in fours.iter().enumerate() {
                let own = vld4q_s8(four_weights(row, n, first));
                for (sums, from) in sums.iter_mut().zip(from) {
                    let [a, b, c, d] = four_taps(from, taps, channels);
                    wide::<SMALL>(sums, [own.0, own.1], [signed(a), signed(b)]);
                    wide::<SMALL>(sums, [own.2, own.3], [signed(c), signed(d)]);
                }
            }
            sums
        })
    }
}

/// Two registers' products on top of the sums of their channels.
#[inline(always)]
unsafe fn wide<const SMALL: bool>(sums: &mut Sums, [a, b]: [int8x16_t; 2], [c, d]: [int8x16_t; 2]) {
    // SAFETY: see above.
    unsafe {
        let add = |sums: &mut Sums, low: int16x8_t, high: int16x8_t| {
            sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
            sums[1] = vaddw_high_s16(sums[1], low);
            sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
            sums[3] = vaddw_high_s16(sums[3], high);
        };
        let (low, high) = (vmull_s8(vget_low_s8(a), vget_low_s8(c)), vmull_high_s8(a, c));
        if SMALL {
            let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(d));
            add(sums, low, vmlal_high_s8(high, b, d));
        } else {
            add(sums, low, high);
            add(sums, vmull_s8(vget_low_s8(b), vget_low_s8(d)), vmull_high_s8(b, d));
        }
    }
}

unsafe fn depthwise_row(row: &Int8Depthwise) {
    // SAFETY: see above.
    unsafe {
        match are_small(row.weights, row.taps.len() * WIDE) {
            true => depthwise_of::<true>(row),
            false => depthwise_of::<false>(row),
        }
    }
}

pub(super) const INT8: Int8 = Int8 {
    name: "neon-int8",
    // a quarter of an instruction a product: more than 32 bits take with Winograd's help (docs/engine.md)
    is_fast: false,
    available: || true,
    has_tiles: false,
    offset: SIGNED,
    order: &IN_ORDER,
    conv,
    depthwise: depthwise_row,
    translate,
    pictures: PICTURES,
};
