//! The memory a run works in, and the checked way from its offsets to the kernels' pointers.
//!
//! The steps of a plan know offsets only. Each function here checks that the offsets lie inside the arena (or the
//! weights), makes pointers of them and calls the kernel; a plan with a wrong offset panics instead of reading beyond.
//!
//! Several threads may work on one step at the same time. What makes that sound: the items of a step write disjoint
//! ranges and read nothing that another item writes (`step/*.rs` cut them by rows or blocks of the output), and no
//! step's output overlaps what it reads (`storage.rs`; thousands of random graphs, each run twice, would show it).
#![allow(unsafe_code)] // one allocation that is shared between threads in disjoint parts

use super::{Activation, Binary, ConvRow, Kernels, LANES, Operand, PoolRow, Residual, ResizeRow, Tap};
use super::{WinogradInput, WinogradOutput, WinogradWeights};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::Range;
use std::ptr::NonNull;

/// Alignment of the arena in bytes: a cache line and the widest register.
const ALIGNMENT_BYTES: usize = 64;

/// Floats in one aligned allocation.
pub(crate) struct Arena {
    start: NonNull<f32>,
    floats: usize,
    layout: Layout,
}

// SAFETY: the arena owns its memory; see the module's documentation for what threads do with it.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) }
    }
}

impl Arena {
    /// Zeroed floats, or `None` where there is no memory.
    pub(crate) fn new(floats: usize) -> Option<Arena> {
        let bytes = floats.max(LANES).checked_mul(size_of::<f32>())?;
        let layout = Layout::from_size_align(bytes, ALIGNMENT_BYTES).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?.cast();
        Some(Arena { start, floats: floats.max(LANES), layout })
    }

    fn at(&self, offset: usize, floats: usize) -> *mut f32 {
        let inside = offset.checked_add(floats).is_some_and(|end| end <= self.floats);
        assert!(inside, "the plan left its arena: {offset} + {floats} of {}", self.floats);
        // SAFETY: inside the allocation.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Part of the arena, to read.
    pub(crate) fn read(&self, range: Range<usize>) -> &[f32] {
        let floats = range.len();
        // SAFETY: inside the allocation, initialised; nobody writes it meanwhile (see the module's documentation).
        unsafe { std::slice::from_raw_parts(self.at(range.start, floats), floats) }
    }

    /// Part of the arena, to write: only from a step that alone touches it.
    #[allow(clippy::mut_from_ref)] // disjointness is the plan's, see the module's documentation
    pub(crate) fn write(&self, range: Range<usize>) -> &mut [f32] {
        let floats = range.len();
        // SAFETY: inside the allocation, initialised; nobody else touches it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.at(range.start, floats), floats) }
    }
}

/// What the sums of a convolution start from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// A number per output channel.
    Bias(&'a [f32]),
    /// What lies in the output.
    Output,
}

/// [`ConvRow`] in offsets: `input`, `output` and `residual` into the arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvJob<'a> {
    pub input: usize,
    pub pixel_stride: usize,
    pub taps: &'a [Tap],
    /// Largest `offset + channels` (depthwise: `offset + LANES`) of the taps.
    pub reach: usize,
    pub weights: &'a [f32],
    pub start: Start<'a>,
    pub output: usize,
    pub output_block: usize,
    pub width: usize,
    pub blocks: usize,
    pub activation: Activation,
    /// Offset and distance between blocks.
    pub residual: Option<(usize, usize, Residual)>,
}

/// Runs one row of a convolution.
pub(crate) fn conv(kernels: &Kernels, arena: &Arena, job: &ConvJob, depthwise: bool) {
    if job.width == 0 {
        return;
    }
    let last = job.width - 1;
    let vectors = |at: usize, block: usize| arena.at(at, (job.blocks - 1) * block + job.width * LANES);
    let per_tap = |tap: &Tap| if depthwise { 1 } else { tap.channels as usize };
    let weights = job.taps.iter().map(per_tap).sum::<usize>() * job.blocks * LANES;
    assert!(job.weights.len() >= weights, "weights do not fit the taps");
    let output = vectors(job.output, job.output_block);
    let (bias, bias_block, bias_pixel) = match job.start {
        Start::Bias(bias) => {
            assert!(bias.len() >= job.blocks * LANES, "a bias is too short");
            (bias.as_ptr(), LANES, 0)
        }
        Start::Output => (output.cast_const(), job.output_block, LANES),
    };
    let row = ConvRow {
        input: arena.at(job.input, last * job.pixel_stride + job.reach),
        pixel_stride: job.pixel_stride,
        taps: job.taps,
        weights: job.weights.as_ptr(),
        bias,
        bias_block,
        bias_pixel,
        output,
        output_block: job.output_block,
        width: job.width,
        blocks: job.blocks,
        activation: job.activation,
        residual: job.residual.map_or(std::ptr::null(), |(at, block, _)| vectors(at, block)),
        residual_block: job.residual.map_or(0, |r| r.1),
        residual_order: job.residual.map_or(Residual::AfterActivation, |r| r.2),
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { if depthwise { (kernels.depthwise)(&row) } else { (kernels.conv)(&row) } }
}

/// Products of a Winograd tile.
pub(crate) const FREQUENCIES: usize = 36;

/// Transforms `tiles` neighbouring windows whose rows lie `row_stride` floats apart; products go `frequency` floats apart.
pub(crate) fn winograd_input(
    kernels: &Kernels,
    arena: &Arena,
    (input, row_stride): (usize, usize),
    (output, frequency): (usize, usize),
    tiles: usize,
) {
    let job = WinogradInput {
        input: arena.at(input, 5 * row_stride + (4 * tiles + 2) * LANES),
        row_stride,
        output: arena.at(output, (FREQUENCIES - 1) * frequency + tiles * LANES),
        frequency,
        tiles,
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.winograd_input)(&job) }
}

/// Transforms 3×3 kernels, nine vectors each, into factors that go `frequency` floats apart.
pub(crate) fn winograd_weights(kernels: &Kernels, arena: &Arena, weights: &[f32], (output, frequency): (usize, usize)) {
    let count = weights.len() / (9 * LANES);
    let output = arena.at(output, (FREQUENCIES - 1) * frequency + count * LANES);
    let job = WinogradWeights { input: weights.as_ptr(), output, frequency, kernels: count };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.winograd_weights)(&job) }
}

/// [`WinogradOutput`] in offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WinogradJob<'a> {
    pub input: usize,
    pub frequency: usize,
    pub tiles: usize,
    pub bias: &'a [f32],
    pub output: usize,
    pub row_stride: usize,
    pub rows: usize,
    pub width: usize,
    pub activation: Activation,
    /// Offset, distance between rows, place.
    pub residual: Option<(usize, usize, Residual)>,
}

/// Transforms products back into pixels.
pub(crate) fn winograd_output(kernels: &Kernels, arena: &Arena, job: &WinogradJob) {
    assert!(job.bias.len() >= LANES && job.width <= 4 * job.tiles && (1..=4).contains(&job.rows), "not a tile's output");
    let pixels = |at: usize, row: usize| arena.at(at, (job.rows - 1) * row + job.width * LANES);
    let job = WinogradOutput {
        input: arena.at(job.input, (FREQUENCIES - 1) * job.frequency + job.tiles * LANES),
        frequency: job.frequency,
        tiles: job.tiles,
        bias: job.bias.as_ptr(),
        output: pixels(job.output, job.row_stride),
        row_stride: job.row_stride,
        rows: job.rows,
        width: job.width,
        activation: job.activation,
        residual: job.residual.map_or(std::ptr::null(), |(at, row, _)| pixels(at, row)),
        residual_row: job.residual.map_or(0, |r| r.1),
        residual_order: job.residual.map_or(Residual::AfterActivation, |r| r.2),
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.winograd_output)(&job) }
}

/// Runs one row of a pooling: `rows` input rows from float offset `input` on, each `row_stride` floats long.
pub(crate) fn pool(
    kernels: &Kernels,
    arena: &Arena,
    (input, rows, row_stride): (usize, usize, usize),
    columns: &[(u32, u32)],
    output: usize,
    average: Option<u32>,
) {
    let reach = columns.iter().map(|c| (c.0 + c.1) as usize).max().unwrap_or(0) * LANES;
    let input = arena.at(input, rows.saturating_sub(1) * row_stride + reach);
    let output = arena.at(output, columns.len() * LANES);
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.pool)(&PoolRow { input, rows, row_stride, columns, output, average }) }
}

/// Runs one row of a resize between the rows at float offsets `upper` and `lower`.
pub(crate) fn resize(
    kernels: &Kernels,
    arena: &Arena,
    (upper, lower, weight): (usize, usize, f32),
    columns: &[(u32, u32, f32)],
    output: usize,
) {
    let reach = columns.iter().map(|c| c.0.max(c.1) as usize + 1).max().unwrap_or(0) * LANES;
    let (upper, lower) = (arena.at(upper, reach), arena.at(lower, reach));
    let output = arena.at(output, columns.len() * LANES);
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.resize)(&ResizeRow { upper, lower, weight, columns, output }) }
}

/// `floats` elements (a multiple of [`LANES`]) through an activation; `from` may be `to`.
pub(crate) fn activate(kernels: &Kernels, arena: &Arena, from: usize, to: usize, floats: usize, activation: Activation) {
    let (from, to) = (arena.at(from, floats), arena.at(to, floats));
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.activate)(from, to, floats / LANES, activation) }
}

/// One side of an element-wise operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side<'a> {
    /// As many floats as the output, from this offset on.
    Arena(usize),
    /// One vector for all, in the arena.
    ArenaVector(usize),
    /// One vector for all.
    Vector(&'a [f32]),
}

/// `floats` elements (a multiple of [`LANES`]) of `a op b`.
pub(crate) fn binary(kernels: &Kernels, arena: &Arena, op: Binary, [a, b]: [Side; 2], to: usize, floats: usize) {
    let side = |side: Side| match side {
        Side::Arena(at) => Operand { from: arena.at(at, floats), step: LANES },
        Side::ArenaVector(at) => Operand { from: arena.at(at, LANES), step: 0 },
        Side::Vector(values) => {
            assert!(values.len() >= LANES, "a vector is too short");
            Operand { from: values.as_ptr(), step: 0 }
        }
    };
    let to = arena.at(to, floats);
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.binary)(op, side(a), side(b), to, floats / LANES) }
}

/// Softmax of [`LANES`] neighbouring columns down `length` rows that lie `stride` floats apart, in place.
pub(crate) fn softmax(kernels: &Kernels, arena: &Arena, at: usize, length: usize, stride: usize) {
    let at = arena.at(at, length.saturating_sub(1) * stride + LANES);
    // SAFETY: the range was checked above; the table was chosen for this CPU.
    unsafe { (kernels.softmax)(at, length, stride) }
}
