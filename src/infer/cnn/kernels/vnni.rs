//! Integer arithmetic on x86-64: AVX-512 with its dot products of bytes (VNNI) and its tables of bytes (VBMI).
#![allow(unsafe_code)] // std::arch

use super::avx512::Zmm;
use super::half::finish;
use super::int8::{
    CODES, Coded, Int8, Int8Depthwise, Int8Pictures, Int8Rows, Made, Pixels, QUAD, Quantizer, Table, WIDE,
    pictures,
};
use super::lanes::LANES;
use super::{Activation, Residual};
use std::arch::x86_64::*;

/// Pixels of a tile: with two groups of channels 24 sums, which wait for each other for four cycles.
const PIXELS: usize = 12;

/// Channels as pairs and quads of bytes are interleaved within 16 bytes: four parts of 16 channels.
const ORDER: [u8; WIDE] = {
    let mut order = [0; WIDE];
    let mut at = 0;
    while at < WIDE {
        // part p has of each 16 channels those from 4p on
        let (part, lane) = (at / LANES, at % LANES);
        order[at] = (lane / 4 * 16 + part * 4 + lane % 4) as u8;
        at += 1;
    }
    order
};

/// How sums become codes, in registers.
#[derive(Clone, Copy)]
pub(super) struct Coder {
    low: __m512,
    high: __m512,
    zero: __m512i,
    table: Option<[__m512i; 4]>,
}

// SAFETY (every block below): the contract says that the CPU has AVX-512F, BW, VL, VBMI and VNNI (`Int8::choose`
// has asked) and that the pointers are good for what is read and written.
impl Coder {
    #[inline(always)]
    pub(super) unsafe fn new(coded: &Coded<'_>) -> Coder {
        // SAFETY: see above.
        unsafe {
            Coder {
                low: _mm512_set1_ps(-coded.zero as f32),
                high: _mm512_set1_ps((coded.top - coded.zero) as f32),
                zero: _mm512_set1_epi32(coded.zero),
                table: coded.table.map(|table| load_table(table)),
            }
        }
    }

    /// 16 sums as 16 whole numbers, before the table.
    #[inline(always)]
    unsafe fn whole(&self, sums: __m512i, scale: __m512, bias: __m512) -> __m512i {
        // SAFETY: see above.
        unsafe { self.rounded(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, bias)) }
    }

    /// 16 numbers as whole ones, before the table.
    #[inline(always)]
    unsafe fn rounded(&self, number: __m512) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let bounded = _mm512_min_ps(_mm512_max_ps(number, self.low), self.high);
            _mm512_add_epi32(_mm512_cvtps_epi32(bounded), self.zero)
        }
    }

    #[inline(always)]
    unsafe fn through_table(&self, codes: __m512i) -> __m512i {
        match &self.table {
            // SAFETY: see above.
            Some(table) => unsafe { looked_up(table, codes) },
            None => codes,
        }
    }
}

#[inline(always)]
unsafe fn load_table(table: &Table) -> [__m512i; 4] {
    // SAFETY: see above; a table has four times 64 bytes.
    std::array::from_fn(|part| unsafe { _mm512_loadu_si512(table.as_ptr().add(part * CODES / 4).cast()) })
}

#[inline(always)]
unsafe fn looked_up(table: &[__m512i; 4], codes: __m512i) -> __m512i {
    // SAFETY: see above.
    unsafe {
        let lower = _mm512_permutex2var_epi8(table[0], codes, table[1]);
        let upper = _mm512_permutex2var_epi8(table[2], codes, table[3]);
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), lower, upper)
    }
}

/// Most pixels of a tile, of any table.
const MOST_PIXELS: usize = 16;

/// Numbers of the pixels of two groups.
#[repr(C, align(64))]
struct Numbers([f32; 2 * MOST_PIXELS * LANES]);

/// Where the codes of some pixels of a row go.
struct Place {
    to: *mut u8,
    pixel: usize,
    channels: usize,
    groups: usize,
    pixels: usize,
}

/// Whole numbers of a pixel and group, as `read` gives them, through the table to their place.
///
/// # Safety
/// `channels` bytes are writable at each pixel.
#[inline(always)]
unsafe fn store(coder: &Coder, place: &Place, read: impl Fn(usize, usize) -> __m512i) {
    let Place { to, pixel, channels, groups, pixels } = *place;
    let mask = |group: usize| {
        let left = channels.saturating_sub(group * LANES).min(LANES);
        ((1u32 << left) - 1) as u16
    };
    let masks = [mask(0), if groups > 1 { mask(1) } else { 0 }];
    // SAFETY: see above.
    unsafe {
        let part = |(p, group): (usize, usize)| _mm512_cvtepi32_epi8(read(p.min(pixels - 1), group));
        for first in (0..pixels).step_by(4 / groups) {
            // four parts of 16 bytes: pixels, or the groups of two pixels
            let of = |n: usize| if groups == 1 { (first + n, 0) } else { (first + n / 2, n % 2) };
            let places = [of(0), of(1), of(2), of(3)];
            // not by `map`: what it calls is compiled without these instructions
            let [a, b, c, d] = [part(places[0]), part(places[1]), part(places[2]), part(places[3])];
            let lower = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
            let upper = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
            let all = coder.through_table(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(lower), upper));
            let parts = [
                _mm512_extracti32x4_epi32::<0>(all),
                _mm512_extracti32x4_epi32::<1>(all),
                _mm512_extracti32x4_epi32::<2>(all),
                _mm512_extracti32x4_epi32::<3>(all),
            ];
            for (part, (p, group)) in parts.into_iter().zip(places) {
                if p < pixels {
                    _mm_mask_storeu_epi8(to.add(p * pixel + group * LANES).cast(), masks[group], part);
                }
            }
        }
    }
}

/// Sums of some pixels of a row → what is made of them; `read` gives those of a pixel and group.
///
/// # Safety
/// The contract of [`Int8Rows`] for the pixels from `(y, x)` on.
#[inline(always)]
pub(super) unsafe fn made(
    rows: &Int8Rows,
    coder: &Coder,
    (y, x): (usize, usize),
    pixels: usize,
    read: impl Fn(usize, usize) -> __m512i,
) {
    // SAFETY: see above.
    unsafe {
        let scale = |group: usize| _mm512_loadu_ps(rows.scale.add(group * LANES));
        let bias = |group: usize| _mm512_loadu_ps(rows.bias.add(group * LANES));
        match rows.made {
            Made::Codes { to, row, pixel, channels, coded } => {
                let to = to.add(y * row + x * pixel);
                let place = Place { to, pixel, channels, groups: rows.groups, pixels };
                let (scales, biases) = ([scale(0), scale(rows.groups - 1)], [bias(0), bias(rows.groups - 1)]);
                if coded.activation == Activation::Identity {
                    store(coder, &place, |p, group| {
                        coder.whole(read(p, group), scales[group], biases[group])
                    });
                    return;
                }
                // what is done to each number, in the first-level cache
                let mut numbers = Numbers([0.0; 2 * MOST_PIXELS * LANES]);
                for group in 0..rows.groups {
                    let number = |p: usize| {
                        let sums = _mm512_cvtepi32_ps(read(p, group));
                        Zmm(_mm512_fmadd_ps(sums, scales[group], biases[group]))
                    };
                    let to = numbers.0.as_mut_ptr().add(group * MOST_PIXELS * LANES);
                    let none = (std::ptr::null(), Residual::AfterActivation);
                    finish::<Zmm>(number, pixels, to, coded.activation, none);
                }
                let factor = _mm512_set1_ps(coded.factor);
                store(coder, &place, |p, group| {
                    let number = numbers.0.as_ptr().add((group * MOST_PIXELS + p) * LANES);
                    coder.rounded(_mm512_mul_ps(_mm512_loadu_ps(number), factor))
                });
            }
            Made::Floats { to, row, block, activation, residual, residual_row, residual_block, order } => {
                for group in 0..rows.groups {
                    let (scale, bias) = (scale(group), bias(group));
                    let number =
                        |p: usize| Zmm(_mm512_fmadd_ps(_mm512_cvtepi32_ps(read(p, group)), scale, bias));
                    let residual = match residual.is_null() {
                        true => residual,
                        false => residual.add(y * residual_row + group * residual_block + x * LANES),
                    };
                    let to = to.add(y * row + group * block + x * LANES);
                    finish::<Zmm>(number, pixels, to, activation, (residual, order));
                }
            }
        }
    }
}

/// The coder of a job; one of nothing where floats are made.
#[inline(always)]
pub(super) unsafe fn coder_of(rows: &Int8Rows) -> Coder {
    let coded = match rows.made {
        Made::Codes { coded, .. } => coded,
        Made::Floats { .. } => Coded::new(0, 0, None),
    };
    // SAFETY: see above.
    unsafe { Coder::new(&coded) }
}

/// A tile of `P` pixels of `G` groups.
#[inline(always)]
unsafe fn tile<const P: usize, const G: usize>(
    rows: &Int8Rows,
    coder: &Coder,
    (y, x): (usize, usize),
    pixels: usize,
) {
    // SAFETY: see above; a shorter tile repeats its last pixel.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); G]; P];
        for sum in &mut sums {
            *sum = std::array::from_fn(|group| _mm512_loadu_si512(rows.sums.add(group * LANES).cast()));
        }
        let start = rows.input.add(y * rows.input_row + x * rows.pixel_stride);
        let from: [*const u8; P] = std::array::from_fn(|p| start.add(p.min(pixels - 1) * rows.pixel_stride));
        let mut weights = rows.weights;
        for tap in rows.taps {
            let quads = usize::from(tap.quads);
            for quad in 0..quads {
                let at = tap.offset as usize + quad * QUAD;
                let w: [__m512i; G] = std::array::from_fn(|group| {
                    _mm512_loadu_si512(weights.add((group * quads + quad) * LANES * QUAD).cast())
                });
                for (sum, from) in sums.iter_mut().zip(from) {
                    let codes = _mm512_set1_epi32(from.add(at).cast::<i32>().read_unaligned());
                    for (sum, w) in sum.iter_mut().zip(w) {
                        *sum = _mm512_dpbusd_epi32(*sum, codes, w);
                    }
                }
            }
            weights = weights.add(G * quads * LANES * QUAD);
        }
        // a copy, since what is read by index lies in memory: the sums themselves would be written there at every step
        let made_of = sums;
        made(rows, coder, (y, x), pixels, |p, group| made_of[p][group]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
unsafe fn conv(rows: &Int8Rows) {
    // SAFETY: the rows' contract, passed on.
    unsafe {
        let coder = coder_of(rows);
        let tiles = rows.width.div_ceil(PIXELS).max(1);
        let step = rows.width.div_ceil(tiles);
        for y in 0..rows.rows {
            let mut x = 0;
            while x < rows.width {
                let pixels = step.min(rows.width - x);
                match (rows.groups, pixels) {
                    (1, ..=4) => tile::<4, 1>(rows, &coder, (y, x), pixels),
                    (1, ..=8) => tile::<8, 1>(rows, &coder, (y, x), pixels),
                    (1, _) => tile::<PIXELS, 1>(rows, &coder, (y, x), pixels),
                    (_, ..=4) => tile::<4, 2>(rows, &coder, (y, x), pixels),
                    (_, ..=8) => tile::<8, 2>(rows, &coder, (y, x), pixels),
                    (_, ..=10) => tile::<10, 2>(rows, &coder, (y, x), pixels),
                    _ => tile::<PIXELS, 2>(rows, &coder, (y, x), pixels),
                }
                x += pixels;
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
pub(super) unsafe fn depthwise(row: &Int8Depthwise) {
    // SAFETY: the row's contract.
    unsafe {
        let coder = Coder::new(&row.coded);
        let mask = u64::MAX >> (WIDE - row.channels.clamp(1, WIDE));
        let part = |from: *const f32, n: usize| _mm512_loadu_ps(from.add(n * LANES));
        for x in 0..row.width {
            let start = row.input.add(x * row.pixel_stride);
            let mut sums: [__m512i; 4] =
                std::array::from_fn(|n| _mm512_loadu_si512(row.sums.add(n * LANES).cast()));
            let (fours, _) = row.taps.as_chunks::<QUAD>();
            for (n, taps) in fours.iter().enumerate() {
                let load = |tap: u32| _mm512_maskz_loadu_epi8(mask, start.add(tap as usize).cast());
                let [a, b, c, d] = [load(taps[0]), load(taps[1]), load(taps[2]), load(taps[3])];
                let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
                let (other_low, other_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
                let fours = [
                    _mm512_unpacklo_epi16(low, other_low),
                    _mm512_unpackhi_epi16(low, other_low),
                    _mm512_unpacklo_epi16(high, other_high),
                    _mm512_unpackhi_epi16(high, other_high),
                ];
                let weights = row.weights.add(n * WIDE * QUAD);
                for (n, (sum, codes)) in sums.iter_mut().zip(fours).enumerate() {
                    let w = _mm512_loadu_si512(weights.add(n * LANES * QUAD).cast());
                    *sum = _mm512_dpbusd_epi32(*sum, codes, w);
                }
            }
            let whole: [__m512i; 4] =
                std::array::from_fn(|n| coder.whole(sums[n], part(row.scale, n), part(row.bias, n)));
            // packing within 16 bytes undoes the interleaving
            let codes = _mm512_packus_epi16(
                _mm512_packs_epi32(whole[0], whole[1]),
                _mm512_packs_epi32(whole[2], whole[3]),
            );
            let to = row.output.add(x * row.output_pixel);
            _mm512_mask_storeu_epi8(to.cast(), mask, coder.through_table(codes));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2")]
pub(super) unsafe fn translate(from: &[u8], to: &mut [u8], table: &Table) {
    let bytes = from.len().min(to.len());
    // SAFETY: within both slices, by the masks.
    unsafe {
        let table = load_table(table);
        for at in (0..bytes).step_by(WIDE) {
            let mask = u64::MAX >> (WIDE - (bytes - at).min(WIDE));
            let codes = _mm512_maskz_loadu_epi8(mask, from.as_ptr().add(at).cast());
            _mm512_mask_storeu_epi8(to.as_mut_ptr().add(at).cast(), mask, looked_up(&table, codes));
        }
    }
}

/// As [`int8::quantize`](super::int8::quantize) does it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
unsafe fn quantize(from: &[f32], to: &mut [u8], pixels: Pixels, how: &Quantizer) {
    let (pixel, channels) = (pixels.apart, pixels.channels.min(LANES));
    let mask = ((1u32 << channels) - 1) as u16;
    let pixels = (from.len() / LANES).min((to.len() + pixel).saturating_sub(channels) / pixel.max(1));
    let (scale, inverse) = (_mm512_set1_ps(-how.scale), _mm512_set1_ps(1.0 / how.scale));
    let (low, high) = (_mm512_set1_ps(-how.zero as f32), _mm512_set1_ps((how.top - how.zero) as f32));
    let zero = _mm512_set1_epi32(how.zero);
    for x in 0..pixels {
        // SAFETY: so many pixels lie in both, the last one's channels included.
        unsafe {
            let number = _mm512_loadu_ps(from.as_ptr().add(x * LANES));
            let near = _mm512_mul_ps(number, inverse);
            let steps = _mm512_fmadd_ps(_mm512_fmadd_ps(scale, near, number), inverse, near);
            let bounded = _mm512_min_ps(_mm512_max_ps(steps, low), high);
            let codes = _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(bounded), zero));
            _mm_mask_storeu_epi8(to.as_mut_ptr().add(x * pixel).cast(), mask, codes);
        }
    }
}

pictures!(PICTURES, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma");

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) const INT8: Int8 = Int8 {
    name: "avx512-vnni",
    is_fast: true,
    available,
    has_tiles: false,
    offset: 0,
    order: &ORDER,
    conv,
    depthwise,
    translate,
    pictures: Int8Pictures { quantize, ..PICTURES },
};
