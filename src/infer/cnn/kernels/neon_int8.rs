//! Integer arithmetic on arm64: what becomes of sums, and what is no convolution. The sums themselves are made in
//! `neon_dot.rs` (dot products, ARMv8.2 and I8MM) and in `neon_mlal.rs` (any arm64).
#![allow(unsafe_code)] // std::arch

use super::half::finish;
use super::int8::{
    self, CODES, Coded, Int8Depthwise, Int8Pictures, Int8Rows, Made, Pixels, QUAD, Quantizer, Table, WIDE,
    pictures,
};
use super::lanes::{LANES, Lanes};
use super::neon::Quad;
use super::{Activation, Residual};
use std::arch::aarch64::*;

/// Numbers of a register.
const PART: usize = 4;
/// Codes that a lookup of four registers knows.
const QUARTER: usize = CODES / 4;
/// Bytes of the weights of a quad and [`LANES`] channels.
pub(super) const QUAD_WEIGHTS: usize = LANES * QUAD;
/// What turns a code into a signed number, as which the instructions without I8MM take it; the sums begin with so
/// much more.
pub(super) const SIGNED: i32 = 128;

/// The sums of a pixel's [`LANES`] channels.
pub(super) type Sums = [int32x4_t; LANES / PART];

/// How sums become codes.
#[derive(Clone, Copy)]
pub(super) struct Coder<'a> {
    low: float32x4_t,
    zero: int16x8_t,
    top: uint8x16_t,
    table: Option<&'a Table>,
}

// SAFETY (every block below): all arm64 has NEON; the contract says that the pointers are good for what is read and
// written.
impl<'a> Coder<'a> {
    #[inline(always)]
    pub(super) unsafe fn new(coded: &Coded<'a>) -> Coder<'a> {
        // SAFETY: see above.
        unsafe {
            Coder {
                low: vdupq_n_f32(-coded.zero as f32),
                zero: vdupq_n_s16(coded.zero as i16),
                top: vdupq_n_u8(coded.top as u8),
                table: coded.table,
            }
        }
    }

    /// The coder of a job; one of nothing where floats are made.
    #[inline(always)]
    pub(super) unsafe fn of(rows: &Int8Rows<'a>) -> Coder<'a> {
        let coded = match rows.made {
            Made::Codes { coded, .. } => coded,
            Made::Floats { .. } => Coded::new(0, 0, None),
        };
        // SAFETY: see above.
        unsafe { Coder::new(&coded) }
    }

    /// Numbers in steps → codes, before the table. What is too much for fewer bits becomes the most of them.
    #[inline(always)]
    unsafe fn whole(&self, numbers: Quad) -> uint8x16_t {
        // SAFETY: see above.
        unsafe {
            // the lower bound first: a NaN becomes the least
            let whole = |number: float32x4_t| vcvtnq_s32_f32(vmaxnmq_f32(number, self.low));
            let pair = |a: float32x4_t, b: float32x4_t| {
                vqaddq_s16(vqmovn_high_s32(vqmovn_s32(whole(a)), whole(b)), self.zero)
            };
            let codes = vqmovun_high_s16(vqmovun_s16(pair(numbers.0, numbers.1)), pair(numbers.2, numbers.3));
            vminq_u8(codes, self.top)
        }
    }

    #[inline(always)]
    unsafe fn through_table<const P: usize>(&self, codes: [uint8x16_t; P]) -> [uint8x16_t; P] {
        match self.table {
            // SAFETY: see above.
            Some(table) => unsafe { looked_up(&load_table(table), codes) },
            None => codes,
        }
    }
}

#[inline(always)]
unsafe fn load_table(table: &Table) -> [uint8x16x4_t; 4] {
    // SAFETY: see above; a table has four times 64 bytes.
    std::array::from_fn(|part| unsafe { vld1q_u8_x4(table.as_ptr().add(part * QUARTER)) })
}

#[inline(always)]
unsafe fn looked_up<const P: usize>(table: &[uint8x16x4_t; 4], codes: [uint8x16_t; P]) -> [uint8x16_t; P] {
    // SAFETY: see above. A lookup leaves what it does not know as it is.
    unsafe {
        let mut left = codes;
        let mut found = codes.map(|codes| vqtbl4q_u8(table[0], codes));
        for table in &table[1..] {
            for (found, left) in found.iter_mut().zip(&mut left) {
                *left = vsubq_u8(*left, vdupq_n_u8(QUARTER as u8));
                *found = vqtbx4q_u8(*found, *table, *left);
            }
        }
        found
    }
}

/// The first `bytes` (at most 16) of a register.
#[inline(always)]
unsafe fn store(to: *mut u8, codes: uint8x16_t, bytes: usize) {
    // SAFETY: see above.
    unsafe {
        if bytes >= LANES {
            return vst1q_u8(to, codes);
        }
        let halves = vreinterpretq_u64_u8(codes);
        let (mut to, mut left) = (to, vgetq_lane_u64::<0>(halves));
        if bytes & 8 != 0 {
            to.cast::<u64>().write_unaligned(left);
            (to, left) = (to.add(8), vgetq_lane_u64::<1>(halves));
        }
        if bytes & 4 != 0 {
            to.cast::<u32>().write_unaligned(left as u32);
            (to, left) = (to.add(4), left >> 32);
        }
        if bytes & 2 != 0 {
            to.cast::<u16>().write_unaligned(left as u16);
            (to, left) = (to.add(2), left >> 16);
        }
        if bytes & 1 != 0 {
            to.write(left as u8);
        }
    }
}

/// The first `bytes` (at most 16) of a register, zeros behind.
#[inline(always)]
unsafe fn load(from: *const u8, bytes: usize) -> uint8x16_t {
    // SAFETY: see above.
    unsafe {
        if bytes >= LANES {
            return vld1q_u8(from);
        }
        if bytes == 8 {
            return vcombine_u8(vld1_u8(from), vdup_n_u8(0));
        }
        let mut all = [0u8; LANES];
        std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), bytes);
        vld1q_u8(all.as_ptr())
    }
}

/// Sums in steps of what is made of them.
#[inline(always)]
unsafe fn scaled(sums: &Sums, scale: &Quad, bias: &Quad) -> Quad {
    // SAFETY: see above.
    unsafe {
        let one = |sum, scale, bias| vfmaq_f32(bias, vcvtq_f32_s32(sum), scale);
        Quad(
            one(sums[0], scale.0, bias.0),
            one(sums[1], scale.1, bias.1),
            one(sums[2], scale.2, bias.2),
            one(sums[3], scale.3, bias.3),
        )
    }
}

#[inline(always)]
unsafe fn numbers(from: *const f32) -> Quad {
    // SAFETY: see above.
    unsafe {
        Quad(
            vld1q_f32(from),
            vld1q_f32(from.add(PART)),
            vld1q_f32(from.add(2 * PART)),
            vld1q_f32(from.add(3 * PART)),
        )
    }
}

/// What sums begin with.
#[inline(always)]
pub(super) unsafe fn first_sums(from: *const i32) -> Sums {
    // SAFETY: see above.
    unsafe {
        [
            vld1q_s32(from),
            vld1q_s32(from.add(PART)),
            vld1q_s32(from.add(2 * PART)),
            vld1q_s32(from.add(3 * PART)),
        ]
    }
}

/// The sums of one group of `P` pixels of a row → what is made of them.
///
/// # Safety
/// The contract of [`Int8Rows`] for the pixels from `(y, x)` on.
#[inline(always)]
pub(super) unsafe fn made<const P: usize>(
    rows: &Int8Rows,
    coder: &Coder,
    (y, x): (usize, usize),
    group: usize,
    sums: [Sums; P],
) {
    // SAFETY: see above.
    unsafe {
        match rows.made {
            Made::Codes { to, row, pixel, channels, coded } => {
                let (scale, bias) =
                    (numbers(rows.scale.add(group * LANES)), numbers(rows.bias.add(group * LANES)));
                let left = channels.saturating_sub(group * LANES);
                let codes = match coded.activation {
                    Activation::Identity => sums.map(|sums| coder.whole(scaled(&sums, &scale, &bias))),
                    activation => {
                        // a copy, so that only this way goes through memory
                        let (kept, mut made) = (sums, [[0.0f32; LANES]; P]);
                        let none = (std::ptr::null(), Residual::AfterActivation);
                        floats(rows, group, &kept, made.as_mut_ptr().cast(), (activation, none));
                        let factor = Quad::splat(coded.factor);
                        made.map(|made| coder.whole(Quad::load(made.as_ptr()).mul(factor)))
                    }
                };
                let codes = coder.through_table(codes);
                let to = to.wrapping_add(y * row + x * pixel + group * LANES);
                if left >= LANES {
                    for (p, codes) in codes.into_iter().enumerate() {
                        vst1q_u8(to.add(p * pixel), codes);
                    }
                } else {
                    for (p, codes) in codes.into_iter().enumerate() {
                        store(to.wrapping_add(p * pixel), codes, left);
                    }
                }
            }
            Made::Floats { to, row, block, activation, residual, residual_row, residual_block, order } => {
                let residual = match residual.is_null() {
                    true => residual,
                    false => residual.add(y * residual_row + group * residual_block + x * LANES),
                };
                let to = to.add(y * row + group * block + x * LANES);
                floats(rows, group, &sums, to, (activation, (residual, order)));
            }
        }
    }
}

/// [`finish`] once for the tiles of all tables, since there are many activations and few layers need it.
///
/// # Safety
/// The contract of [`finish`], for as many pixels as there are sums.
#[inline(never)]
unsafe fn floats(
    rows: &Int8Rows,
    group: usize,
    sums: &[Sums],
    to: *mut f32,
    (activation, residual): (Activation, (*const f32, Residual)),
) {
    // SAFETY: see above.
    unsafe {
        let (scale, bias) = (numbers(rows.scale.add(group * LANES)), numbers(rows.bias.add(group * LANES)));
        finish::<Quad>(|p| scaled(&sums[p], &scale, &bias), sums.len(), to, activation, residual);
    }
}

/// Pixel by pixel through a row of a depthwise convolution, [`LANES`] channels at a time; `sums` makes the sums of
/// `P` pixels from where their windows begin, the first of the channels, and how many of them there are.
///
/// # Safety
/// The contract of [`Int8Depthwise`], whose numbers lie in the channels' order.
#[inline(always)]
pub(super) unsafe fn depthwise<const P: usize>(
    row: &Int8Depthwise,
    sums: impl Fn([*const u8; P], usize, usize) -> [Sums; P],
) {
    // SAFETY: see above.
    unsafe {
        let coder = Coder::new(&row.coded);
        for first in (0..row.channels).step_by(LANES) {
            // the last ones begin earlier where they would go beyond: some are made twice
            let first = first.min(row.channels.saturating_sub(LANES));
            let channels = (row.channels - first).min(LANES);
            // two loops: the one for whole registers asks nothing more
            match channels {
                LANES => depthwise_part(row, &coder, (first, LANES), &sums),
                _ => depthwise_part(row, &coder, (first, channels), &sums),
            }
        }
    }
}

#[inline(always)]
unsafe fn depthwise_part<const P: usize>(
    row: &Int8Depthwise,
    coder: &Coder,
    (first, channels): (usize, usize),
    sums: &impl Fn([*const u8; P], usize, usize) -> [Sums; P],
) {
    // SAFETY: see above.
    unsafe {
        let (scale, bias) = (numbers(row.scale.add(first)), numbers(row.bias.add(first)));
        for x in (0..row.width).step_by(P) {
            // a shorter rest repeats its last pixel
            let place = |p: usize| (x + p).min(row.width - 1);
            let from = std::array::from_fn(|p| row.input.add(place(p) * row.pixel_stride + first));
            let made = sums(from, first, channels);
            let codes = made.map(|sums| coder.whole(scaled(&sums, &scale, &bias)));
            for (p, codes) in coder.through_table(codes).into_iter().enumerate() {
                store(row.output.add(place(p) * row.output_pixel + first), codes, channels);
            }
        }
    }
}

/// The codes of four taps of some channels.
#[inline(always)]
pub(super) unsafe fn four_taps(from: *const u8, taps: &[u32; QUAD], channels: usize) -> [uint8x16_t; QUAD] {
    // SAFETY: see above.
    taps.map(|tap| unsafe { load(from.add(tap as usize), channels) })
}

/// Where the weights of four taps of a depthwise convolution lie, from some channel on.
#[inline(always)]
pub(super) unsafe fn four_weights(row: &Int8Depthwise, fours: usize, first: usize) -> *const i8 {
    // SAFETY: see above.
    unsafe { row.weights.add((fours * WIDE + first) * QUAD) }
}

pub(super) unsafe fn translate(from: &[u8], to: &mut [u8], table: &Table) {
    let bytes = from.len().min(to.len());
    if bytes < LANES {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = table[usize::from(*from)]);
        return;
    }
    // SAFETY: within both slices: the last sixteen begin earlier where they would go beyond.
    unsafe {
        let loaded = load_table(table);
        for at in (0..bytes).step_by(LANES) {
            let at = at.min(bytes - LANES);
            let [codes] = looked_up(&loaded, [vld1q_u8(from.as_ptr().add(at))]);
            vst1q_u8(to.as_mut_ptr().add(at), codes);
        }
    }
}

/// Numbers in steps, to the last bit: as [`int8::quantize`] has them.
struct Steps {
    scale: float32x4_t,
    inverse: float32x4_t,
}

impl Steps {
    #[inline(always)]
    unsafe fn new(scale: f32) -> Steps {
        // SAFETY: see above.
        unsafe { Steps { scale: vdupq_n_f32(scale), inverse: vdupq_n_f32(1.0 / scale) } }
    }

    /// Of [`LANES`] numbers.
    #[inline(always)]
    unsafe fn of(&self, from: *const f32) -> Quad {
        // SAFETY: see above.
        unsafe {
            let one = |x: float32x4_t| {
                let near = vmulq_f32(x, self.inverse);
                vfmaq_f32(near, vfmsq_f32(x, self.scale, near), self.inverse)
            };
            let Quad(a, b, c, d) = numbers(from);
            Quad(one(a), one(b), one(c), one(d))
        }
    }
}

/// As [`int8::quantize`] does it.
unsafe fn quantize(from: &[f32], to: &mut [u8], pixels: Pixels, how: &Quantizer) {
    let (pixel, channels) = (pixels.apart, pixels.channels.min(LANES));
    let pixels = (from.len() / LANES).min((to.len() + pixel).saturating_sub(channels) / pixel.max(1));
    // SAFETY: so many pixels lie in both, the last one's channels included.
    unsafe {
        let (coder, steps) = (Coder::new(&how.coded()), Steps::new(how.scale));
        for x in 0..pixels {
            let codes = coder.whole(steps.of(from.as_ptr().add(x * LANES)));
            store(to.as_mut_ptr().add(x * pixel), codes, channels);
        }
    }
}

/// As [`int8::quantize_planes`] does it, which gets what is no sixteen pixels.
unsafe fn quantize_planes(planes: &[&[f32]], to: &mut [u8], pixel: usize, how: &Quantizer) {
    let length = planes.iter().map(|plane| plane.len()).min().unwrap_or(0).min(to.len() / QUAD);
    let whole = if pixel == QUAD { length / LANES * LANES } else { 0 };
    // SAFETY: so many pixels lie in each plane and in `to`.
    unsafe {
        let (coder, steps) = (Coder::new(&how.coded()), Steps::new(how.scale));
        for at in (0..whole).step_by(LANES) {
            let code = |channel: usize| match planes.get(channel) {
                Some(plane) => coder.whole(steps.of(plane.as_ptr().add(at))),
                None => vdupq_n_u8(0),
            };
            vst4q_u8(to.as_mut_ptr().add(at * QUAD), uint8x16x4_t(code(0), code(1), code(2), code(3)));
        }
    }
    let mut rest: [&[f32]; QUAD] = [&[]; QUAD];
    rest.iter_mut().zip(planes).for_each(|(rest, plane)| *rest = &plane[whole..]);
    int8::quantize_planes(&rest[..planes.len().min(QUAD)], &mut to[whole * QUAD..], pixel, how);
}

pictures!(WRITTEN, "neon");

pub(super) const PICTURES: Int8Pictures = Int8Pictures { quantize, quantize_planes, ..WRITTEN };
