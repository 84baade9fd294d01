//! The inner loops, behind one table of functions that is chosen when the program runs.
//!
//! Everything here works on raw pointers into the arena, which the steps of the plan have checked once, when
//! the plan was compiled: each row structure says what must be readable and writable. `generic.rs` holds the
//! loops, written once over [`lanes::Lanes`].
#![allow(unsafe_code)] // kernels run on raw pointers and CPU instructions by design

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_int8;
pub(crate) mod arena;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
pub(crate) mod costs;
mod format;
mod generic;
pub(crate) mod half;
#[cfg(any(test, target_arch = "aarch64"))]
mod half16;
#[cfg(test)]
mod half16_scalar;
#[cfg(test)]
mod half16_tests;
#[cfg(test)]
mod half_scalar;
pub(crate) mod heap;
mod instance;
pub(crate) mod int8;
#[cfg(test)]
mod int8_scalar;
#[cfg(test)]
mod int8_tests;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon16;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
#[cfg(target_arch = "aarch64")]
mod neon_int8;
#[cfg(target_arch = "aarch64")]
mod neon_mlal;
pub(crate) mod points;
#[cfg(any(test, not(target_arch = "aarch64")))]
mod scalar;
#[cfg(test)]
mod tests;
mod tokens;
#[cfg(target_arch = "x86_64")]
mod vnni;
pub(crate) mod winograd;

pub(crate) use format::Format;
pub(crate) use lanes::LANES;

/// What is left of a number that has been 8 bits: `clip(round(x ÷ scale), low, high) · step`, halves to even.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Levels {
    pub scale: f32,
    pub low: f32,
    pub high: f32,
    pub step: f32,
}

/// What happens to every element of a step's output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    /// `x` as it is.
    Identity,
    /// `min(max(x, low), high)`; ReLU is `(0, ∞)`, ReLU6 `(0, 6)`.
    Clip { low: f32, high: f32 },
    /// `x` where positive, `slope · x` elsewhere.
    Leaky { slope: f32 },
    /// `x / (1 + e^−x)`.
    Silu,
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// `x · clip(x + 3, 0, 6) / 6`.
    HardSwish,
    /// `2 · sigmoid(2x) − 1`.
    Tanh,
    /// `e^x`.
    Exp,
    /// `x · Φ(x)`, Φ being the normal distribution: `x · (1 + erf(x / √2)) / 2`.
    Gelu,
    /// GELU's approximation by tanh: `x · sigmoid(2 · √(2/π) · (x + 0.044715 · x³))`.
    GeluTanh,
    /// `2/√π · ∫ e^−t² dt` from 0 to x.
    Erf,
    /// `√x`.
    Sqrt,
    /// `1 / √x`.
    Rsqrt,
    /// `1 / x`.
    Reciprocal,
    /// `x³`.
    Cube,
    /// To 8 bits and back.
    Quantized(Levels),
    /// `after(y · gate(sigmoid(y)))` of `y = before(x)`: SiLU between 8 bits.
    QuantizedSilu { before: Levels, gate: Levels, after: Levels },
}

/// Element-wise operations of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// Where a second tensor is added to a convolution's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residual {
    /// `act(conv) + residual` (the YOLO bottleneck).
    AfterActivation,
    /// `act(conv + residual)` (ResNet).
    BeforeActivation,
}

/// Neighbouring input channels at one position of the convolution window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Floats from the window's first element.
    pub offset: u32,
    /// Channels from there on, each one float further.
    pub channels: u32,
}

/// One row of output pixels of one group of output blocks.
///
/// Must hold when a kernel gets it: for each pixel `x < width` and each tap, `channels` floats are readable
/// at `input + x·pixel_stride + offset`; `weights` holds `Σ channels · blocks · LANES` floats; `LANES` floats
/// are readable at `bias + b·bias_block + x·bias_pixel` for `b < blocks`; `LANES` floats are writable at
/// `output + b·output_block + x·output_pixel`, and readable at `residual + b·residual_block + x·output_pixel`
/// unless `residual` is null. Nothing that is read is written, except that `bias` may be `output`: then the
/// row is added to what lies there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvRow<'a> {
    pub input: *const f32,
    pub pixel_stride: usize,
    pub taps: &'a [Tap],
    pub weights: *const f32,
    pub bias: *const f32,
    pub bias_block: usize,
    pub bias_pixel: usize,
    pub output: *mut f32,
    pub output_block: usize,
    /// Floats from one pixel of output or shortcut to the next: `LANES` in blocks, the length of a row in a
    /// matrix.
    pub output_pixel: usize,
    pub width: usize,
    pub blocks: usize,
    pub activation: Activation,
    pub residual: *const f32,
    pub residual_block: usize,
    pub residual_order: Residual,
}

/// Neighbouring 6×6 input windows of one block, four columns apart, into the 36 products of Winograd's F(4×4,
/// 3×3).
///
/// Readable: six rows of `4·tiles + 2` vectors, `row_stride` floats apart, at `input`; writable: `tiles`
/// vectors at `output + f·frequency` for `f < 36`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WinogradInput {
    pub input: *const f32,
    pub row_stride: usize,
    pub output: *mut f32,
    pub frequency: usize,
    pub tiles: usize,
}

/// The way back: `tiles` × 36 products of one block into `rows` (≤ 4) rows of `width` (≤ `4·tiles`) output
/// pixels, with bias, activation and shortcut.
///
/// Readable: `tiles` vectors at `input + f·frequency`, one at `bias`, and `width` at `residual +
/// r·residual_row` unless that is null; writable: `width` vectors at `output + r·row_stride` for `r < rows`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WinogradOutput {
    pub input: *const f32,
    pub frequency: usize,
    pub tiles: usize,
    pub bias: *const f32,
    pub output: *mut f32,
    pub row_stride: usize,
    pub rows: usize,
    pub width: usize,
    pub activation: Activation,
    pub residual: *const f32,
    pub residual_row: usize,
    pub residual_order: Residual,
}

/// `kernels` 3×3 kernels of 16 output channels each into their 36 factors.
///
/// Readable: `9 · kernels` vectors at `input`, row by row of a kernel, kernel by kernel; writable: `kernels`
/// vectors at `output + f·frequency` for `f < 36`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WinogradWeights {
    pub input: *const f32,
    pub output: *mut f32,
    pub frequency: usize,
    pub kernels: usize,
}

/// A row of a matrix for normalisation over its `length` elements: `(x − mean) / √(variance + epsilon) ·
/// scale + bias`.
///
/// `length` floats are readable at `from`, and at `scale` and `bias` unless these are null; as many are
/// writable at `to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normalized {
    pub from: *const f32,
    pub to: *mut f32,
    pub length: usize,
    pub epsilon: f32,
    pub scale: *const f32,
    pub bias: *const f32,
}

/// Scores of attention: each row's become `e^(x − most)` in place, and `sums` the rows' sums of them.
///
/// Vector `b` of row `r` lies at `scores + b·block + r·LANES`; a row has `length` scores. All of these are
/// readable and writable (the last vector as a whole), and `rows` floats at `sums`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attended {
    pub scores: *mut f32,
    pub block: usize,
    pub rows: usize,
    pub length: usize,
    pub sums: *mut f32,
}

/// One row of output pixels of one block of a pooling window.
///
/// For pixel `x`, `rows × columns[x].1` vectors are readable at `input + r·row_stride + (columns[x].0 +
/// k)·LANES`; `columns.len() · LANES` floats are writable at `output`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolRow<'a> {
    pub input: *const f32,
    pub rows: usize,
    pub row_stride: usize,
    /// For each output pixel: first input column and number of columns, inside the picture.
    pub columns: &'a [(u32, u32)],
    pub output: *mut f32,
    /// `None`: maximum. `Some(n)`: sum divided by `n`, or by what lies inside the picture where `n` is 0.
    pub average: Option<u32>,
}

/// One row of output pixels of one block of a separable resize with two taps per axis.
///
/// Two vectors are readable at `upper` and `lower` + `columns[x].0/.1 · LANES`; `columns.len() · LANES`
/// floats are writable at `output`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResizeRow<'a> {
    pub upper: *const f32,
    pub lower: *const f32,
    /// Weight of `lower`; 0 means that `upper` is taken alone.
    pub weight: f32,
    /// For each output pixel: the two input columns and the weight of the second.
    pub columns: &'a [(u32, u32, f32)],
    pub output: *mut f32,
}

/// Loops over pictures in blocks, whatever a pixel's block holds: [`LANES`] floats, or twice as many numbers
/// of half precision in the same bytes.
pub(crate) struct Pictures {
    /// One row of pooled blocks.
    pub pool: unsafe fn(&PoolRow),
    /// One row of resized blocks.
    pub resize: unsafe fn(&ResizeRow),
    /// `to[i] = activation(from[i])` for `vectors` vectors; `from` may be `to`.
    pub activate: unsafe fn(from: *const f32, to: *mut f32, vectors: usize, activation: Activation),
    /// `to[i] = op(a[i], b[i·step])` for `vectors` vectors; the steps of `a` and `b` are 0 or 1 vectors;
    /// either may be `to`.
    pub binary: unsafe fn(op: Binary, a: Operand, b: Operand, to: *mut f32, vectors: usize),
}

/// The loops of convolutions, over vectors of one format.
///
/// Where the format is half precision, a [`Tap`]'s channels are numbers of half precision and a multiple of
/// [`Format::unit`], its offset and everything else is in floats, and a vector of weights, bias or output holds
/// twice [`LANES`] numbers in their bytes.
pub(crate) struct Convolutions {
    /// Of pictures, weights and bias.
    pub format: Format,
    /// Most output blocks one [`ConvRow`] may have.
    pub blocks: usize,
    /// Pixels of its widest tile, for one and for two blocks.
    pub pixels: [usize; 2],
    /// What the loops cost.
    pub costs: &'static costs::Costs,
    /// Points of Winograd's transforms.
    pub points: points::Points,
    /// Dense convolution.
    pub conv: unsafe fn(&ConvRow),
    /// Depthwise convolution: one block, taps of one vector each, `channels` unused.
    pub depthwise: unsafe fn(&ConvRow),
    /// Winograd's input transform.
    pub winograd_input: unsafe fn(&WinogradInput),
    /// Winograd's output transform.
    pub winograd_output: unsafe fn(&WinogradOutput),
    /// Winograd's transform of the weights.
    pub winograd_weights: unsafe fn(&WinogradWeights),
}

/// The inner loops for one kind of CPU.
pub(crate) struct Kernels {
    /// `avx512`, `avx2`, `neon` or `scalar`.
    pub name: &'static str,
    /// Whether this CPU has the instructions.
    pub available: fn() -> bool,
    /// Convolutions, in 32 bits.
    pub convolutions: Convolutions,
    /// Everything on pictures in blocks that is no convolution.
    pub pictures: Pictures,
    /// Softmax down `length` vectors that lie `stride` floats apart, in place.
    pub softmax: unsafe fn(at: *mut f32, length: usize, stride: usize),
    /// Softmax over `length` neighbouring floats, in place.
    pub softmax_row: unsafe fn(at: *mut f32, length: usize),
    /// Layer normalisation of a row.
    pub normalize: unsafe fn(&Normalized),
    /// The softmax of attention, but for the division by the sums.
    pub attend: unsafe fn(&Attended),
    /// Least and greatest of the numbers and of those given.
    pub range: unsafe fn(from: &[f32], range: [f32; 2]) -> [f32; 2],
}

/// One side of [`Pictures::binary`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    pub from: *const f32,
    /// Floats from one vector to the next: `LANES`, or 0 where one vector serves all.
    pub step: usize,
}

impl Kernels {
    /// Every table this build has, the fastest first; the last one runs everywhere. All arm64 has NEON: there
    /// the plain loops are for tests, which hold NEON's against them.
    pub(crate) const ALL: &[&Kernels] = &[
        #[cfg(target_arch = "x86_64")]
        &avx512::KERNELS,
        #[cfg(target_arch = "x86_64")]
        &avx2::KERNELS,
        #[cfg(target_arch = "aarch64")]
        &neon::KERNELS,
        #[cfg(any(test, not(target_arch = "aarch64")))]
        &scalar::KERNELS,
    ];

    /// The fastest table this CPU can run, or the one called `name` if the CPU can run that.
    pub(crate) fn choose(name: Option<&str>) -> Option<&'static Kernels> {
        Self::ALL.iter().copied().find(|k| name.is_none_or(|n| n == k.name) && (k.available)())
    }
}

impl half::Half {
    /// Every table this build has, the fastest first; tests also have their twin.
    pub(crate) const ALL: &[&half::Half] = &[
        #[cfg(target_arch = "x86_64")]
        &amx::HALF,
        #[cfg(target_arch = "aarch64")]
        &neon16::HALF,
        #[cfg(test)]
        &half_scalar::HALF,
        #[cfg(test)]
        &half16_scalar::HALF,
    ];

    /// The one that is faster than 32 bits on this CPU, or the one called `name`.
    pub(crate) fn choose(name: Option<&str>) -> Option<&'static half::Half> {
        let wanted = |half: &&half::Half| name.map_or(half.is_fast, |name| name == half.name);
        Self::ALL.iter().copied().find(|half| wanted(half) && (half.available)())
    }
}

impl int8::Int8 {
    /// Every table this build has, the fastest first; tests also have their twin.
    pub(crate) const ALL: &[&int8::Int8] = &[
        #[cfg(target_arch = "x86_64")]
        &amx_int8::INT8,
        #[cfg(target_arch = "x86_64")]
        &vnni::INT8,
        #[cfg(target_arch = "x86_64")]
        &avx_vnni::INT8,
        #[cfg(target_arch = "aarch64")]
        &neon_dot::I8MM,
        #[cfg(target_arch = "aarch64")]
        &neon_dot::DOT,
        #[cfg(target_arch = "aarch64")]
        &neon_mlal::INT8,
        #[cfg(test)]
        &int8_scalar::INT8,
    ];

    /// The one that is faster than 32-bit floats on this CPU, or the one called `name`.
    pub(crate) fn choose(name: Option<&str>) -> Option<&'static int8::Int8> {
        let wanted = |int8: &&int8::Int8| name.map_or(int8.is_fast, |name| name == int8.name);
        Self::ALL.iter().copied().find(|int8| wanted(int8) && (int8.available)())
    }
}
