//! Integer arithmetic: pictures whose numbers are 8-bit codes, one step of a scale apart.
//!
//! A picture lies pixel by pixel, all channels of a pixel side by side (NHWC), so that a window's row is one
//! stretch of bytes whatever the number of channels. Codes are unsigned, weights signed; products are summed in
//! 32-bit integers, exactly, and so every table here gives the same numbers. What a code is worth stands in the
//! plan: `(code − zero) · step`.
#![allow(unsafe_code)] // the loops run on raw pointers, as all kernels
#![cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))] // only tests have a table elsewhere

use super::lanes::LANES;
use super::{Activation, Binary, Residual};

/// Neighbouring bytes that one instruction multiplies for each output channel.
pub(crate) const QUAD: usize = 4;
/// Quads of a tile's row.
pub(crate) const TILE_QUADS: usize = 16;
/// Channels that a depthwise convolution takes together.
pub(crate) const WIDE: usize = 64;
/// Codes there are.
pub(crate) const CODES: usize = 256;

/// For each code the one that it becomes.
pub(crate) type Table = [u8; CODES];

/// Neighbouring bytes of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Int8Tap {
    /// Bytes from the window's first element.
    pub offset: u32,
    /// How many [`QUAD`]s from there on.
    pub quads: u16,
    /// How many of their bytes have weights; the others may be any.
    pub bytes: u16,
}

/// How a sum becomes a code: `table[clip(round(activation(sum · scale + bias) · factor), −zero, top − zero) + zero]`,
/// halves to even.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coded<'a> {
    /// Of dense convolutions; depthwise ones have [`Activation::Identity`] and a factor of 1.
    pub activation: Activation,
    pub factor: f32,
    pub zero: i32,
    pub top: i32,
    pub table: Option<&'a Table>,
}

impl<'a> Coded<'a> {
    /// Of the sums themselves.
    pub(crate) fn new(zero: i32, top: i32, table: Option<&'a Table>) -> Coded<'a> {
        Coded { activation: Activation::Identity, factor: 1.0, zero, top, table }
    }
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Made<'a> {
    /// Codes, `row` bytes from row to row and `pixel` from pixel to pixel; only `channels` of them are written.
    Codes { to: *mut u8, row: usize, pixel: usize, channels: usize, coded: Coded<'a> },
    /// Blocks of [`LANES`] floats, `row` floats from row to row and `block` from block to block: `sum · scale +
    /// bias` with activation and shortcut.
    Floats {
        to: *mut f32,
        row: usize,
        block: usize,
        activation: Activation,
        residual: *const f32,
        residual_row: usize,
        residual_block: usize,
        order: Residual,
    },
}

/// Some rows of output pixels of one or two groups of [`LANES`] channels of a dense convolution.
///
/// Must hold when a kernel gets it: for each row `y < rows`, pixel `x < width` and tap, `quads ·` [`QUAD`] bytes
/// are readable at `input + y·input_row + x·pixel_stride + offset`; `weights` holds for every tap and group
/// `quads · LANES · QUAD` weights, quad by quad, in a quad output channel by output channel; `sums`, `scale` and
/// `bias` hold `groups · LANES` numbers. What [`Made`] says is writable, and readable at `residual` unless that is
/// null.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8Rows<'a> {
    pub input: *const u8,
    pub input_row: usize,
    pub pixel_stride: usize,
    pub taps: &'a [Int8Tap],
    pub weights: *const i8,
    /// What the sums begin with: the share of the codes' zero, less [`Int8::offset`].
    pub sums: *const i32,
    pub scale: *const f32,
    pub bias: *const f32,
    pub rows: usize,
    pub width: usize,
    /// 1 or 2.
    pub groups: usize,
    pub made: Made<'a>,
}

/// One row of output pixels of up to [`WIDE`] channels of a depthwise convolution.
///
/// `channels` bytes are readable at `input + x·pixel_stride + tap` for every tap, whose number is a multiple of
/// [`QUAD`]; `weights` holds for every four taps [`WIDE`] times four weights, in [`Int8::order`] of the channels, as
/// `sums`, `scale` and `bias` are; `channels` bytes are writable at `output + x·output_pixel`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8Depthwise<'a> {
    pub input: *const u8,
    pub pixel_stride: usize,
    pub taps: &'a [u32],
    pub weights: *const i8,
    pub sums: *const i32,
    pub scale: *const f32,
    pub bias: *const f32,
    pub output: *mut u8,
    pub output_pixel: usize,
    pub width: usize,
    pub channels: usize,
    pub coded: Coded<'a>,
}

/// `to[i] = round((a[i] − zeros[0]) · factors[0] op (b[i] − zeros[1]) · factors[1])` within the codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8Binary {
    pub op: Binary,
    pub zeros: [i32; 2],
    pub factors: [f32; 2],
    pub zero: i32,
    pub top: i32,
}

/// Floats → codes: `clip(round(x ÷ scale) + zero, 0, top)`, halves to even.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantizer {
    pub scale: f32,
    pub zero: i32,
    pub top: i32,
}

impl Quantizer {
    /// What is made of numbers in steps.
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
    pub(crate) fn coded(&self) -> Coded<'static> {
        Coded::new(self.zero, self.top, None)
    }
}

/// What codes are worth: `(code − zero) · step`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worth {
    pub zero: i32,
    pub step: f32,
}

impl Worth {
    #[inline(always)]
    pub(crate) fn number(&self, code: u8) -> f32 {
        (i32::from(code) - self.zero) as f32 * self.step
    }
}

/// Where the codes of a block's pixels lie: `apart` bytes from one pixel to the next, `channels` of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels {
    pub apart: usize,
    pub channels: usize,
}

/// The loops over codes for one kind of CPU.
pub(crate) struct Int8 {
    /// `amx-int8`, `avx512-vnni`, `avx-vnni`, `neon-i8mm`, `neon-dotprod`, `neon-int8`; for tests `scalar-int8`.
    pub name: &'static str,
    /// Whether it is there to be faster than 32-bit floats.
    pub is_fast: bool,
    /// Whether this CPU and its kernel have what it needs.
    pub available: fn() -> bool,
    /// Every tap has [`TILE_QUADS`] quads, those beyond the window with weights of zero: bytes of the picture, or
    /// up to a tile's row behind it, are read there.
    pub has_tiles: bool,
    /// What the loops take off every code before they multiply it: so many times the weights are what the sums begin
    /// with.
    pub offset: i32,
    /// The place in a depthwise convolution's numbers → the channel.
    pub order: &'static [u8; WIDE],
    /// Dense convolution.
    pub conv: unsafe fn(&Int8Rows),
    /// Depthwise convolution.
    pub depthwise: unsafe fn(&Int8Depthwise),
    /// `to[i] = table[from[i]]`.
    pub translate: unsafe fn(from: &[u8], to: &mut [u8], table: &Table),
    /// What is no convolution.
    pub pictures: Int8Pictures,
}

/// Loops over codes that compilers write.
pub(crate) struct Int8Pictures {
    pub binary: unsafe fn(a: &[u8], b: &[u8], to: &mut [u8], how: &Int8Binary),
    /// `to[i] = max(to[i], from[i])`.
    pub max: unsafe fn(from: &[u8], to: &mut [u8]),
    /// Pixels of one block of floats → codes.
    pub quantize: unsafe fn(from: &[f32], to: &mut [u8], pixels: Pixels, how: &Quantizer),
    /// Rows of up to [`QUAD`] planes → pixels, `pixel` bytes apart; where that is a [`QUAD`], whole ones.
    pub quantize_planes: unsafe fn(planes: &[&[f32]], to: &mut [u8], pixel: usize, how: &Quantizer),
    /// Codes → pixels of one block of floats.
    pub dequantize: unsafe fn(from: &[u8], to: &mut [f32], pixels: Pixels, worth: &Worth),
}

/// A number brought to codes, as a whole number.
#[inline(always)]
fn coded(number: f32, zero: i32, top: i32) -> u8 {
    let (low, high) = (-zero as f32, (top - zero) as f32);
    // bounds first: a NaN becomes the least
    let bounded = if number > low { if number < high { number } else { high } } else { low };
    // SAFETY: between −255 and 255.
    (unsafe { bounded.round_ties_even().to_int_unchecked::<i32>() } + zero) as u8
}

/// `x ÷ scale` to the last bit without a division, and then the code.
#[inline(always)]
fn quantized(x: f32, how: &Quantizer, inverse: f32) -> u8 {
    let near = x * inverse;
    coded((-how.scale).mul_add(near, x).mul_add(inverse, near), how.zero, how.top)
}

/// See [`Int8Pictures::binary`].
#[inline(always)]
pub(super) fn binary(a: &[u8], b: &[u8], to: &mut [u8], how: &Int8Binary) {
    let [za, zb] = how.zeros;
    let [fa, fb] = how.factors;
    macro_rules! each {
        (|$x:ident, $y:ident| $result:expr) => {
            for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                let ($x, $y) = ((i32::from(*a) - za) as f32 * fa, (i32::from(*b) - zb) as f32 * fb);
                *to = coded($result, how.zero, how.top);
            }
        };
    }
    match how.op {
        Binary::Mul => each!(|x, y| x * y),
        _ => each!(|x, y| x + y),
    }
}

/// See [`Int8Pictures::max`].
#[inline(always)]
pub(super) fn max(from: &[u8], to: &mut [u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = (*to).max(*from));
}

/// See [`Int8Pictures::quantize`].
#[inline(always)]
pub(super) fn quantize(from: &[f32], to: &mut [u8], pixels: Pixels, how: &Quantizer) {
    let inverse = 1.0 / how.scale;
    let (pixel, channels) = (pixels.apart, pixels.channels.min(LANES));
    for (x, from) in from.chunks_exact(LANES).enumerate() {
        let Some(to) = to.get_mut(x * pixel..x * pixel + channels) else { return };
        let mut codes = [0; LANES];
        codes.iter_mut().zip(from).for_each(|(code, x)| *code = quantized(*x, how, inverse));
        match <&mut [u8; LANES]>::try_from(&mut *to) {
            Ok(whole) => *whole = codes,
            Err(_) => to.iter_mut().zip(codes).for_each(|(to, code)| *to = code),
        }
    }
}

/// See [`Int8Pictures::quantize_planes`].
#[inline(always)]
pub(super) fn quantize_planes(planes: &[&[f32]], to: &mut [u8], pixel: usize, how: &Quantizer) {
    let inverse = 1.0 / how.scale;
    if pixel != QUAD {
        for (channel, plane) in planes.iter().enumerate() {
            for (to, x) in to.iter_mut().skip(channel).step_by(pixel).zip(*plane) {
                *to = quantized(*x, how, inverse);
            }
        }
        return;
    }
    let (pixels, _) = to.as_chunks_mut::<QUAD>();
    let whole = planes.iter().map(|plane| plane.len()).min().unwrap_or(0).min(pixels.len()) / LANES * LANES;
    // sixteen pixels at a time, which is a shape that compilers make vectors of
    for at in (0..whole).step_by(LANES) {
        let mut all = [0u32; LANES];
        for (channel, plane) in planes.iter().enumerate().take(QUAD) {
            let numbers = plane[at..at + LANES].iter();
            for (to, x) in all.iter_mut().zip(numbers) {
                *to |= u32::from(quantized(*x, how, inverse)) << (8 * channel);
            }
        }
        pixels[at..at + LANES].iter_mut().zip(all).for_each(|(to, all)| *to = all.to_le_bytes());
    }
    for (channel, plane) in planes.iter().enumerate().take(QUAD) {
        for (to, x) in pixels.iter_mut().zip(*plane).skip(whole) {
            to[channel] = quantized(*x, how, inverse);
        }
    }
}

/// See [`Int8Pictures::dequantize`].
#[inline(always)]
pub(super) fn dequantize(from: &[u8], to: &mut [f32], pixels: Pixels, worth: &Worth) {
    let (pixel, channels) = (pixels.apart, pixels.channels.min(LANES));
    for (x, to) in to.chunks_exact_mut(LANES).enumerate() {
        let Some(from) = from.get(x * pixel..x * pixel + channels) else { return };
        let number = |code: u8| worth.number(code);
        match <&[u8; LANES]>::try_from(from) {
            Ok(whole) => to.iter_mut().zip(whole).for_each(|(to, code)| *to = number(*code)),
            Err(_) => {
                let codes = from.iter().map(|code| number(*code)).chain(std::iter::repeat(0.0));
                to.iter_mut().zip(codes).for_each(|(to, number)| *to = number);
            }
        }
    }
}

/// The loops that compilers write, for one set of instructions.
macro_rules! pictures {
    ($name:ident, $features:literal) => {
        mod written {
            use crate::infer::cnn::kernels::int8::{self, Int8Binary, Pixels, Quantizer, Worth};

            #[target_feature(enable = $features)]
            pub(super) unsafe fn binary(a: &[u8], b: &[u8], to: &mut [u8], how: &Int8Binary) {
                int8::binary(a, b, to, how)
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn max(from: &[u8], to: &mut [u8]) {
                int8::max(from, to)
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn quantize(from: &[f32], to: &mut [u8], pixels: Pixels, how: &Quantizer) {
                int8::quantize(from, to, pixels, how)
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn quantize_planes(
                planes: &[&[f32]],
                to: &mut [u8],
                pixel: usize,
                how: &Quantizer,
            ) {
                int8::quantize_planes(planes, to, pixel, how)
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn dequantize(from: &[u8], to: &mut [f32], pixels: Pixels, worth: &Worth) {
                int8::dequantize(from, to, pixels, worth)
            }
        }

        pub(super) const $name: $crate::infer::cnn::kernels::int8::Int8Pictures =
            $crate::infer::cnn::kernels::int8::Int8Pictures {
                binary: written::binary,
                max: written::max,
                quantize: written::quantize,
                quantize_planes: written::quantize_planes,
                dequantize: written::dequantize,
            };
    };
}
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(unused_imports))]
pub(super) use pictures;

/// Channels in the order that they have.
pub(super) const IN_ORDER: [u8; WIDE] = {
    let mut order = [0; WIDE];
    let mut c = 0;
    while c < WIDE {
        order[c] = c as u8;
        c += 1;
    }
    order
};
