//! Half precision: pictures whose numbers have 16 bits.
//!
//! A pixel's block has the bytes of [`LANES`] floats and twice as many channels, so a picture is laid out,
//! bordered, viewed and pooled as one of floats is. There are two kinds. With bfloat16, the upper 16 bits of
//! a 32-bit float, what is computed in between has 32 bits: weights of dense convolutions are bfloat16 too,
//! products and sums are not, and vectors of 32 channels are two registers: the even channels, and the odd
//! ones. With binary16 (`half16.rs`) the arithmetic itself has 16 bits.
#![allow(unsafe_code)] // the trait's methods are CPU instructions behind raw pointers
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only tests have a table elsewhere

use super::lanes::{LANES, Lanes};
use super::{Activation, Convolutions, Format, Pictures, Residual, Tap, generic};

/// Channels of a block in half precision.
pub(crate) const HALF_LANES: usize = 2 * LANES;
/// Numbers of a tile's row: what one instruction multiplies for each pixel and output channel.
pub(crate) const DEPTH: usize = HALF_LANES;
/// Pixels of a tile.
pub(crate) const TILE_PIXELS: usize = 16;
/// Floats of the weights of one tap and one group of [`LANES`] output channels.
pub(crate) const TAP_FLOATS: usize = DEPTH * LANES / 2;

/// Some rows of output pixels of one block of a dense convolution.
///
/// Must hold when a kernel gets it: for each row `y < rows`, pixel `x < width` and tap, [`LANES`] floats' bytes
/// are readable at `input + y·input_row + x·pixel_stride + tap`; `weights` holds `taps · groups · TAP_FLOATS`
/// floats, for every tap and group 16 pairs of input channels, each for 16 output channels; `bias` holds
/// `groups · LANES` numbers. [`LANES`] floats' bytes are writable at `output + y·output_row + x·LANES`, and
/// readable at `residual` in the same way unless it is null. Pixels are at multiples of 64 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfRows<'a> {
    pub input: *const f32,
    pub input_row: usize,
    pub pixel_stride: usize,
    /// Floats from the window's first element.
    pub taps: &'a [u32],
    pub weights: *const f32,
    pub bias: *const f32,
    pub output: *mut f32,
    pub output_row: usize,
    pub rows: usize,
    pub width: usize,
    /// 2: even channels, odd channels. 1: the first [`LANES`] channels in order; the others become zero.
    pub groups: usize,
    pub activation: Activation,
    pub residual: *const f32,
    pub residual_row: usize,
    pub residual_order: Residual,
}

/// One row of output pixels of one block of a depthwise convolution: as in [`HalfRows`], with
/// [`HALF_LANES`] floats for each tap at `weights` and as many at `bias`, the even channels first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfDepthwise<'a> {
    pub input: *const f32,
    pub pixel_stride: usize,
    pub taps: &'a [Tap],
    pub weights: *const f32,
    pub bias: *const f32,
    pub output: *mut f32,
    pub width: usize,
    pub activation: Activation,
    pub residual: *const f32,
    pub residual_order: Residual,
}

/// A row of `pixels` between blocks of floats and blocks of half precision: `blocks` (1 or 2) blocks of floats
/// that lie `apart`, and one of half precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recast {
    pub from: *const f32,
    pub to: *mut f32,
    pub apart: usize,
    pub blocks: usize,
    pub pixels: usize,
}

/// Channels of one block that go into another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// For each channel of the output the channel that it comes from, where it does.
    pub from: [u16; HALF_LANES],
    /// The output's channels that come from here.
    pub mask: u32,
    /// The same byte by byte: for each byte of the output the byte that it comes from, or [`ELSEWHERE`].
    pub bytes: [u8; 2 * HALF_LANES],
}

/// In [`Taken::bytes`]: from no byte of this block.
pub(crate) const ELSEWHERE: u8 = 0xff;

impl Taken {
    /// Nothing.
    pub(crate) const NOTHING: Taken =
        Taken { from: [0; HALF_LANES], mask: 0, bytes: [ELSEWHERE; 2 * HALF_LANES] };

    /// Takes channel `from` for channel `to`; both are less than [`HALF_LANES`].
    pub(crate) fn take(&mut self, from: usize, to: usize) {
        self.mask |= 1 << to;
        self.from[to] = from as u16;
        self.bytes[2 * to] = 2 * from as u8;
        self.bytes[2 * to + 1] = 2 * from as u8 + 1;
    }
}

/// A row of `pixels` pixels at `output`, put together from the blocks at `sources`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shuffle<'a> {
    pub sources: &'a [(*const f32, &'a Taken)],
    pub output: *mut f32,
    pub pixels: usize,
}

/// Convolutions by tiles of pixels and channels, with weights in an order of their own.
pub(crate) struct Tiles {
    /// Dense convolution.
    pub conv: unsafe fn(&HalfRows),
    /// Depthwise convolution.
    pub depthwise: unsafe fn(&HalfDepthwise),
}

/// How half precision convolves.
pub(crate) enum Convolve {
    /// By tiles.
    Tiles(Tiles),
    #[cfg_attr(not(any(test, target_arch = "aarch64")), allow(dead_code))] // only arm64 computes with it
    /// By the loops that 32 bits have, over vectors of half precision.
    Rows(Convolutions),
}

/// The loops in half precision for one kind of CPU.
pub(crate) struct Half {
    /// `amx-bf16`, `neon-fp16`; for tests `scalar-bf16`, `scalar-fp16`.
    pub name: &'static str,
    /// What its numbers are.
    pub format: Format,
    /// Whether it is there to be faster than 32 bits.
    pub is_fast: bool,
    /// Whether this CPU and its kernel have what it needs.
    pub available: fn() -> bool,
    /// On pictures in half precision.
    pub pictures: Pictures,
    /// Convolutions.
    pub convolutions: Convolve,
    /// Floats → half precision.
    pub narrow: unsafe fn(&Recast),
    /// Half precision → floats.
    pub widen: unsafe fn(&Recast),
    /// Channels to other places.
    pub shuffle: unsafe fn(&Shuffle),
}

impl Half {
    /// The loops over rows, where these convolve.
    pub(crate) fn rows(&self) -> Option<&Convolutions> {
        match &self.convolutions {
            Convolve::Rows(rows) => Some(rows),
            Convolve::Tiles(_) => None,
        }
    }

    /// The loops over tiles, where these convolve.
    pub(crate) fn tiles(&self) -> Option<&Tiles> {
        match &self.convolutions {
            Convolve::Rows(_) => None,
            Convolve::Tiles(tiles) => Some(tiles),
        }
    }
}

/// Vectors whose functions are as exact as half precision needs.
///
/// # Safety
/// As [`Lanes`].
pub(super) trait Coarse: Lanes {
    /// `1 / self` for positive numbers between 1e-30 and 1e30, within an eighth.
    unsafe fn estimate(self) -> Self;
}

/// `1 / (1 + e^−x)` within 3e-4 of itself: two steps of Newton's after an estimate in place of a division,
/// which takes as long as everything else here.
#[inline(always)]
pub(super) unsafe fn sigmoid<V: Coarse>(x: V) -> V {
    // SAFETY: the caller vouches for the instructions; nothing here touches memory.
    unsafe {
        let zero = V::splat(0.0);
        // beyond ±30 nothing changes in half precision
        let x = V::splat(30.0).min(V::splat(-30.0).max(zero.sub(x)));
        let power = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let rest = power.mul_add(V::splat(-std::f32::consts::LN_2), x);
        // Taylor to the fourth order: within 5e-5
        let mut sum = V::splat(1.0 / 24.0);
        for coefficient in [1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = sum.mul_add(rest, V::splat(coefficient));
        }
        let divisor = sum.scale(power).add(V::splat(1.0));
        let negative = zero.sub(divisor);
        let mut inverse = divisor.estimate();
        for _ in 0..2 {
            inverse = inverse.mul(negative.mul_add(inverse, V::splat(2.0)));
        }
        inverse
    }
}

/// The bits of `estimate(x)` are these less those of `x`.
pub(super) const ESTIMATE: i32 = 0x7ef3_11c7;

/// Sums of `pixels` pixels, `LANES` apart in `V`'s own layout at `sums`, through activation and shortcut to
/// the output.
///
/// # Safety
/// [`LANES`] floats' bytes are writable at `to + p·LANES` for each pixel, and readable at `residual` unless
/// that is null; what `read` reads is the caller's.
#[inline(always)]
pub(super) unsafe fn finish<V: Lanes>(
    read: impl Fn(usize) -> V,
    pixels: usize,
    to: *mut f32,
    activation: Activation,
    (residual, order): (*const f32, Residual),
) {
    let before = !residual.is_null() && order == Residual::BeforeActivation;
    let after = !residual.is_null() && order == Residual::AfterActivation;
    macro_rules! each {
        (|$x:ident| $result:expr) => {
            for p in 0..pixels {
                let $x = read(p);
                let $x = if before { $x.add(V::load(residual.add(p * LANES))) } else { $x };
                let done = $result;
                let done = if after { done.add(V::load(residual.add(p * LANES))) } else { done };
                done.store(to.add(p * LANES));
            }
        };
    }
    // SAFETY: the caller's promise.
    unsafe { generic::by_activation!(V, activation, each) }
}

/// [`HalfDepthwise`], `P` pixels at a time; `wide` makes a vector of the even and the odd channels' floats.
///
/// # Safety
/// As [`HalfDepthwise`] says.
#[inline(always)]
pub(super) unsafe fn depthwise<V: Lanes, const P: usize>(
    row: &HalfDepthwise,
    wide: impl Fn(*const f32) -> V,
) {
    let mut x = 0;
    while x < row.width {
        let pixels = P.min(row.width - x);
        // SAFETY: the row's contract; a shorter rest repeats its last pixel.
        unsafe {
            let mut sums = [wide(row.bias); P];
            for (t, tap) in row.taps.iter().enumerate() {
                let weights = wide(row.weights.add(t * HALF_LANES));
                let start = row.input.add(x * row.pixel_stride + tap.offset as usize);
                for (p, sum) in sums.iter_mut().enumerate() {
                    let input = V::load(start.add(p.min(pixels - 1) * row.pixel_stride));
                    *sum = input.mul_add(weights, *sum);
                }
            }
            let residual = match row.residual.is_null() {
                true => row.residual,
                false => row.residual.add(x * LANES),
            };
            let to = row.output.add(x * LANES);
            let read = |p: usize| sums.get(p).copied().unwrap_or(sums[0]);
            finish::<V>(read, pixels, to, row.activation, (residual, row.residual_order));
        }
        x += pixels;
    }
}
