//! Integer arithmetic on x86-64 without AVX-512: dot products of bytes in 256-bit registers (AVX-VNNI: client CPUs from
//! Alder Lake on, Zen 5).
#![allow(unsafe_code)] // std::arch

use super::avx2::Ymm;
use super::half::finish;
use super::int8::{
    CODES, Coded, IN_ORDER, Int8, Int8Depthwise, Int8Pictures, Int8Rows, Made, Pixels, QUAD, Quantizer,
    Table, WIDE, pictures,
};
use super::lanes::{LANES, Lanes};
use super::{Activation, Residual};
use std::arch::x86_64::*;

/// Pixels of a tile: twelve sums of eight channels, two weights and a broadcast are 15 of 16 registers.
const PIXELS: usize = 6;
/// Bytes of the weights of a quad and [`LANES`] channels.
const QUAD_WEIGHTS: usize = LANES * QUAD;

/// The sums of a pixel's [`LANES`] channels.
type Sums = [__m256i; 2];

// SAFETY (every block below): the contract says that the CPU has AVX2, FMA and AVX-VNNI (`Int8::choose` has asked) and
// that the pointers are good for what is read and written.

/// Eight whole numbers, before the table.
#[inline(always)]
unsafe fn rounded(number: __m256, coded: &Coded<'_>) -> __m256i {
    // SAFETY: see above.
    unsafe {
        let (low, high) =
            (_mm256_set1_ps(-coded.zero as f32), _mm256_set1_ps((coded.top - coded.zero) as f32));
        let bounded = _mm256_min_ps(_mm256_max_ps(number, low), high);
        _mm256_add_epi32(_mm256_cvtps_epi32(bounded), _mm256_set1_epi32(coded.zero))
    }
}

/// Sixteen whole numbers from 0 to 255 as bytes.
#[inline(always)]
unsafe fn packed(low: __m256i, high: __m256i) -> __m128i {
    // SAFETY: see above.
    unsafe {
        // packing goes by halves of a register: 0–3, 8–11, 4–7, 12–15
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
    }
}

/// The first `channels` (at most 16) of some bytes, through the table.
#[inline(always)]
unsafe fn store(to: *mut u8, codes: __m128i, channels: usize, table: Option<&Table>) {
    // SAFETY: see above.
    unsafe {
        if let (None, LANES) = (table, channels) {
            return _mm_storeu_si128(to.cast(), codes);
        }
        let mut all = [0u8; LANES];
        _mm_storeu_si128(all.as_mut_ptr().cast(), codes);
        if let Some(table) = table {
            all.iter_mut().for_each(|code| *code = table[usize::from(*code)]);
        }
        match channels {
            LANES => _mm_storeu_si128(to.cast(), _mm_loadu_si128(all.as_ptr().cast())),
            _ => std::ptr::copy_nonoverlapping(all.as_ptr(), to, channels),
        }
    }
}

#[inline(always)]
unsafe fn scaled(sums: Sums, scale: *const f32, bias: *const f32) -> Ymm {
    // SAFETY: see above.
    unsafe {
        let half = LANES / 2;
        let low = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[0]), _mm256_loadu_ps(scale), _mm256_loadu_ps(bias));
        let high = _mm256_fmadd_ps(
            _mm256_cvtepi32_ps(sums[1]),
            _mm256_loadu_ps(scale.add(half)),
            _mm256_loadu_ps(bias.add(half)),
        );
        Ymm(low, high)
    }
}

/// The sums of one group of some pixels of a row → what is made of them.
///
/// # Safety
/// The contract of [`Int8Rows`] for the pixels from `(y, x)` on.
#[inline(always)]
unsafe fn made<const P: usize>(
    rows: &Int8Rows,
    (y, x): (usize, usize),
    (group, pixels): (usize, usize),
    sums: &[Sums; P],
) {
    // SAFETY: see above.
    unsafe {
        let (scale, bias) = (rows.scale.add(group * LANES), rows.bias.add(group * LANES));
        match rows.made {
            Made::Codes { to, row, pixel, channels, coded } => {
                let left = channels.saturating_sub(group * LANES).min(LANES);
                if left == 0 {
                    return;
                }
                let to = to.add(y * row + x * pixel + group * LANES);
                let mut numbers = [[0.0f32; LANES]; P];
                let none = (std::ptr::null(), Residual::AfterActivation);
                let is_plain = coded.activation == Activation::Identity;
                if !is_plain {
                    let number = |p: usize| scaled(sums[p], scale, bias);
                    finish::<Ymm>(number, pixels, numbers.as_mut_ptr().cast(), coded.activation, none);
                }
                for p in 0..pixels {
                    let number = match is_plain {
                        true => scaled(sums[p], scale, bias),
                        false => Ymm::load(numbers[p].as_ptr()).mul(Ymm::splat(coded.factor)),
                    };
                    let codes = packed(rounded(number.0, &coded), rounded(number.1, &coded));
                    store(to.add(p * pixel), codes, left, coded.table);
                }
            }
            Made::Floats { to, row, block, activation, residual, residual_row, residual_block, order } => {
                let residual = match residual.is_null() {
                    true => residual,
                    false => residual.add(y * residual_row + group * residual_block + x * LANES),
                };
                let to = to.add(y * row + group * block + x * LANES);
                let number = |p: usize| scaled(sums[p], scale, bias);
                finish::<Ymm>(number, pixels, to, activation, (residual, order));
            }
        }
    }
}

/// A tile of `P` pixels of one group.
#[inline(always)]
unsafe fn tile<const P: usize>(rows: &Int8Rows, (y, x): (usize, usize), group: usize, pixels: usize) {
    // SAFETY: see above; a shorter tile repeats its last pixel.
    unsafe {
        let first = rows.sums.add(group * LANES);
        let mut sums: [Sums; P] =
            [[_mm256_loadu_si256(first.cast()), _mm256_loadu_si256(first.add(LANES / 2).cast())]; P];
        let start = rows.input.add(y * rows.input_row + x * rows.pixel_stride);
        let mut weights = rows.weights;
        for tap in rows.taps {
            let quads = usize::from(tap.quads);
            let own = weights.add(group * quads * QUAD_WEIGHTS);
            for quad in 0..quads {
                let from = start.add(tap.offset as usize + quad * QUAD);
                let w = own.add(quad * QUAD_WEIGHTS);
                let low = _mm256_loadu_si256(w.cast());
                let high = _mm256_loadu_si256(w.add(QUAD_WEIGHTS / 2).cast());
                for (p, sum) in sums.iter_mut().enumerate() {
                    let codes = from.add(p.min(pixels - 1) * rows.pixel_stride).cast::<i32>();
                    let codes = _mm256_set1_epi32(codes.read_unaligned());
                    sum[0] = _mm256_dpbusd_avx_epi32(sum[0], codes, low);
                    sum[1] = _mm256_dpbusd_avx_epi32(sum[1], codes, high);
                }
            }
            weights = weights.add(rows.groups * quads * QUAD_WEIGHTS);
        }
        // a copy, since what is read by index lies in memory: the sums themselves would be written there at every step
        let made_of = sums;
        made::<P>(rows, (y, x), (group, pixels), &made_of);
    }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn conv(rows: &Int8Rows) {
    let tiles = rows.width.div_ceil(PIXELS).max(1);
    let step = rows.width.div_ceil(tiles).max(1);
    for (y, group) in (0..rows.rows).flat_map(|y| (0..rows.groups).map(move |group| (y, group))) {
        let mut x = 0;
        while x < rows.width {
            let pixels = step.min(rows.width - x);
            // SAFETY: the rows' contract; every tile lies within its row.
            unsafe {
                match pixels {
                    0..=2 => tile::<2>(rows, (y, x), group, pixels),
                    3..=4 => tile::<4>(rows, (y, x), group, pixels),
                    _ => tile::<PIXELS>(rows, (y, x), group, pixels),
                }
            }
            x += pixels;
        }
    }
}

/// The first `bytes` (at most 16), zeros behind.
#[inline(always)]
unsafe fn load(from: *const u8, bytes: usize) -> __m128i {
    // SAFETY: see above.
    unsafe {
        if bytes == LANES {
            return _mm_loadu_si128(from.cast());
        }
        let mut all = [0u8; LANES];
        std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), bytes);
        _mm_loadu_si128(all.as_ptr().cast())
    }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn depthwise(row: &Int8Depthwise) {
    /// Channels whose four taps fill a register.
    const PART: usize = 4;
    let (fours, _) = row.taps.as_chunks::<QUAD>();
    for (x, first) in (0..row.width).flat_map(|x| (0..row.channels).step_by(LANES).map(move |c| (x, c))) {
        let channels = (row.channels - first).min(LANES);
        // SAFETY: the row's contract.
        unsafe {
            let start = row.input.add(x * row.pixel_stride + first);
            let sums = row.sums.add(first);
            let mut parts = [_mm_setzero_si128(); LANES / PART];
            for (n, part) in parts.iter_mut().enumerate() {
                *part = _mm_loadu_si128(sums.add(n * PART).cast());
            }
            for (n, taps) in fours.iter().enumerate() {
                let at = |tap: usize| start.add(taps[tap] as usize);
                let (a, b) = (load(at(0), channels), load(at(1), channels));
                let (c, d) = (load(at(2), channels), load(at(3), channels));
                let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
                let (other_low, other_high) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
                let codes = [
                    _mm_unpacklo_epi16(low, other_low),
                    _mm_unpackhi_epi16(low, other_low),
                    _mm_unpacklo_epi16(high, other_high),
                    _mm_unpackhi_epi16(high, other_high),
                ];
                let weights = row.weights.add((n * WIDE + first) * QUAD);
                for (n, (part, codes)) in parts.iter_mut().zip(codes).enumerate() {
                    let w = _mm_loadu_si128(weights.add(n * PART * QUAD).cast());
                    *part = _mm_dpbusd_avx_epi32(*part, codes, w);
                }
            }
            let sums = [_mm256_set_m128i(parts[1], parts[0]), _mm256_set_m128i(parts[3], parts[2])];
            let number = scaled(sums, row.scale.add(first), row.bias.add(first));
            let codes = packed(rounded(number.0, &row.coded), rounded(number.1, &row.coded));
            store(row.output.add(x * row.output_pixel + first), codes, channels, row.coded.table);
        }
    }
}

unsafe fn translate(from: &[u8], to: &mut [u8], table: &[u8; CODES]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = table[usize::from(*from)]);
}

/// Floats → codes: one pixel's channels at a time.
#[target_feature(enable = "avx2,fma")]
unsafe fn quantize(from: &[f32], to: &mut [u8], pixels: Pixels, how: &Quantizer) {
    let (channels, coded) = (pixels.channels.min(LANES), how.coded());
    let (inverse, scale) = (_mm256_set1_ps(1.0 / how.scale), _mm256_set1_ps(how.scale));
    for (x, from) in from.chunks_exact(LANES).enumerate() {
        let Some(to) = to.get_mut(x * pixels.apart..x * pixels.apart + channels) else { return };
        // SAFETY: a chunk has LANES floats, `to` has `channels` bytes.
        unsafe {
            let (low, high) = (_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(LANES / 2)));
            let near = [_mm256_mul_ps(low, inverse), _mm256_mul_ps(high, inverse)];
            // the quotient to the last bit, without a division
            let left = [_mm256_fnmadd_ps(scale, near[0], low), _mm256_fnmadd_ps(scale, near[1], high)];
            let low = _mm256_fmadd_ps(left[0], inverse, near[0]);
            let high = _mm256_fmadd_ps(left[1], inverse, near[1]);
            let codes = packed(rounded(low, &coded), rounded(high, &coded));
            store(to.as_mut_ptr(), codes, channels, None);
        }
    }
}

pictures!(PICTURES, "avx2,fma");

fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("avxvnni")
}

pub(super) const INT8: Int8 = Int8 {
    name: "avx-vnni",
    is_fast: true,
    available,
    has_tiles: false,
    offset: 0,
    order: &IN_ORDER,
    conv,
    depthwise,
    translate,
    pictures: Int8Pictures { quantize, ..PICTURES },
};
