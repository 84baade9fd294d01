//! The memory a run works in, and the checked way from its offsets to the kernels' pointers.
//!
//! The steps of a plan know offsets only. Each function here checks that the offsets lie inside the arena (or
//! the weights), makes pointers of them and calls the kernel; a plan with a wrong offset panics instead of
//! reading beyond.
//!
//! Whoever works on an arena holds a [`Part`]. Within it the compiler sees to it that nothing is read that is
//! being written. Several threads may work on one step at the same time, each with a part of its own: making
//! those is the one thing here that is unsafe for the caller, and [`Arena::part`] says what it must vouch
//! for. Tests have every part tell what it touched, and compare what the items of each step did
//! (`cnn/tests/disjoint.rs`).
#![allow(unsafe_code)] // one allocation that is shared between threads in disjoint parts

mod int8;

pub(crate) use int8::*;

use super::half::{HALF_LANES, Half, HalfDepthwise, HalfRows, Recast, Shuffle, TAP_FLOATS, Taken, Tiles};
use super::{
    Activation, Attended, Binary, ConvRow, Convolutions, Kernels, LANES, Normalized, Operand, Pictures,
    PoolRow, Residual, ResizeRow, Tap,
};
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

// SAFETY: the arena owns its memory.
unsafe impl Send for Arena {}
// SAFETY: it is read and written through parts only, and whoever makes several vouches for them.
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

    /// All of it, for who alone has it.
    pub(crate) fn whole(&mut self) -> Part<'_> {
        // SAFETY: there is no other part while this one is there.
        unsafe { self.part() }
    }

    /// One of several parts.
    ///
    /// # Safety
    /// While several are there, nobody writes through one what somebody reads or writes through another. The
    /// items of one step keep that: they write disjoint ranges and read nothing that another item writes
    /// (`step/*.rs` cut them by rows or blocks of the output, scratch space is each worker's own), and no
    /// step's output overlaps what it reads (`storage.rs`).
    pub(crate) unsafe fn part(&self) -> Part<'_> {
        Part {
            arena: self,
            #[cfg(test)]
            touched: std::cell::RefCell::default(),
        }
    }
}

/// What one worker may touch of an arena.
pub(crate) struct Part<'a> {
    arena: &'a Arena,
    #[cfg(test)]
    touched: std::cell::RefCell<Vec<Touched>>,
}

/// What a part has read or written.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Touched {
    pub(crate) bytes: Range<usize>,
    pub(crate) is_written: bool,
}

impl<'a> Part<'a> {
    fn at(&self, offset: usize, floats: usize) -> *mut f32 {
        let inside = offset.checked_add(floats).is_some_and(|end| end <= self.arena.floats);
        assert!(inside, "the plan left its arena: {offset} + {floats} of {}", self.arena.floats);
        // SAFETY: inside the allocation.
        unsafe { self.arena.start.as_ptr().add(offset) }
    }

    /// Where a kernel reads.
    fn from(&self, offset: usize, floats: usize) -> *const f32 {
        self.note(offset, floats, false);
        self.at(offset, floats)
    }

    /// Where a kernel writes.
    fn to(&mut self, offset: usize, floats: usize) -> *mut f32 {
        self.note(offset, floats, true);
        self.at(offset, floats)
    }

    /// Where a kernel writes (or, as it was, reads) `count` pieces of `floats` that lie `apart`.
    fn pieces(&self, offset: usize, [count, apart, floats]: [usize; 3], is_written: bool) -> *mut f32 {
        (0..count).for_each(|piece| self.note(offset + piece * apart, floats, is_written));
        self.at(offset, count.saturating_sub(1) * apart + floats)
    }

    #[cfg(test)]
    fn note(&self, offset: usize, floats: usize, is_written: bool) {
        const BYTES: usize = size_of::<f32>();
        self.note_bytes(offset * BYTES..(offset + floats) * BYTES, is_written);
    }

    #[cfg(test)]
    fn note_bytes(&self, bytes: Range<usize>, is_written: bool) {
        self.touched.borrow_mut().push(Touched { bytes, is_written });
    }

    #[cfg(not(test))]
    #[inline(always)]
    fn note(&self, _: usize, _: usize, _: bool) {}

    #[cfg(not(test))]
    #[inline(always)]
    fn note_bytes(&self, _: Range<usize>, _: bool) {}

    /// Everything that was touched since it was asked last.
    #[cfg(test)]
    pub(crate) fn take_touched(&mut self) -> Vec<Touched> {
        self.touched.take()
    }

    /// Floats of this part, to be read.
    pub(crate) fn read(&self, range: Range<usize>) -> &[f32] {
        let floats = range.len();
        // SAFETY: inside the allocation, initialised; writing through this part needs it exclusively, and
        // nobody writes it through another.
        unsafe { std::slice::from_raw_parts(self.from(range.start, floats), floats) }
    }

    /// To read for as long as this part could be there.
    pub(crate) fn into_read(self, range: Range<usize>) -> &'a [f32] {
        let floats = range.len();
        // SAFETY: as in `read`; this part writes nothing any more.
        unsafe { std::slice::from_raw_parts(self.from(range.start, floats), floats) }
    }

    /// Floats of this part, to be written.
    pub(crate) fn write(&mut self, range: Range<usize>) -> &mut [f32] {
        let floats = range.len();
        // SAFETY: inside the allocation, initialised; this part is borrowed exclusively, and nobody touches
        // it through another.
        unsafe { std::slice::from_raw_parts_mut(self.to(range.start, floats), floats) }
    }

    /// To write for as long as this part could be there.
    pub(crate) fn into_write(mut self, range: Range<usize>) -> &'a mut [f32] {
        let floats = range.len();
        // SAFETY: as in `write`; this part does nothing else any more.
        unsafe { std::slice::from_raw_parts_mut(self.to(range.start, floats), floats) }
    }

    /// Some ranges to read while others are written, none of which may overlap with any other (reads among
    /// themselves may).
    pub(crate) fn split<const R: usize, const W: usize>(
        &mut self,
        reads: [Range<usize>; R],
        writes: [Range<usize>; W],
    ) -> ([&[f32]; R], [&mut [f32]; W]) {
        let apart = |a: &Range<usize>, b: &Range<usize>| {
            a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
        };
        for (index, write) in writes.iter().enumerate() {
            let free = reads.iter().chain(writes.iter().skip(index + 1)).all(|other| apart(write, other));
            assert!(free, "a step reads what it writes: {reads:?} {writes:?}");
        }
        // SAFETY: as in `read` and `write`; the ranges that are written overlap with nothing.
        let reads = reads.map(|range| unsafe {
            std::slice::from_raw_parts(self.from(range.start, range.len()), range.len())
        });
        let writes = writes.map(|range| {
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts_mut(self.to(range.start, range.len()), range.len()) }
        });
        (reads, writes)
    }

    /// Copies a range to another place.
    pub(crate) fn copy(&mut self, from: Range<usize>, to: usize) {
        let target = self.to(to, from.len());
        // SAFETY: both are inside the allocation, and may overlap.
        unsafe { std::ptr::copy(self.from(from.start, from.len()), target, from.len()) }
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

/// Where the weights of a convolution are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// Packed, among the weights of the plan.
    Packed(&'a [f32]),
    /// Made in the arena: offset and length.
    Made(usize, usize),
}

/// [`ConvRow`] in offsets: `input`, `output` and `residual` into the arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvJob<'a> {
    pub input: usize,
    pub pixel_stride: usize,
    pub taps: &'a [Tap],
    /// Largest `offset + channels` (depthwise: `offset + LANES`) of the taps.
    pub reach: usize,
    pub weights: Weights<'a>,
    pub start: Start<'a>,
    pub output: usize,
    pub output_block: usize,
    /// [`LANES`], or more where blocks are neighbours ([`LANES`] apart) in the rows of a matrix.
    pub output_pixel: usize,
    pub width: usize,
    pub blocks: usize,
    pub activation: Activation,
    /// Offset and distance between blocks.
    pub residual: Option<(usize, usize, Residual)>,
}

/// Runs one row of a convolution.
pub(crate) fn conv(loops: &Convolutions, part: &mut Part<'_>, job: &ConvJob, depthwise: bool) {
    if job.width == 0 || job.blocks == 0 {
        return;
    }
    let last = job.width - 1;
    let per_tap = |tap: &Tap| if depthwise { 1 } else { tap.channels as usize };
    let needed = job.taps.iter().map(per_tap).sum::<usize>() * job.blocks * LANES;
    debug_assert!(
        depthwise || job.taps.iter().all(|tap| (tap.channels as usize).is_multiple_of(loops.format.unit()))
    );
    let (weights, length) = match job.weights {
        Weights::Packed(weights) => (weights.as_ptr(), weights.len()),
        Weights::Made(at, length) => (part.from(at, length), length),
    };
    assert!(length >= needed, "weights do not fit the taps");
    let place = |part: &Part<'_>, at: usize, block: usize, is_written: bool| match job.output_pixel == LANES {
        true => part.pieces(at, [job.blocks, block, job.width * LANES], is_written),
        false => {
            assert!(block == LANES && job.output_pixel >= job.blocks * LANES, "not the rows of a matrix");
            part.pieces(at, [job.width, job.output_pixel, job.blocks * LANES], is_written)
        }
    };
    let output = place(part, job.output, job.output_block, true);
    let (bias, bias_block, bias_pixel) = match job.start {
        Start::Bias(bias) => {
            assert!(bias.len() >= job.blocks * LANES, "a bias is too short");
            (bias.as_ptr(), LANES, 0)
        }
        Start::Output => (output.cast_const(), job.output_block, job.output_pixel),
    };
    let row = ConvRow {
        input: part.from(job.input, last * job.pixel_stride + job.reach),
        pixel_stride: job.pixel_stride,
        taps: job.taps,
        weights,
        bias,
        bias_block,
        bias_pixel,
        output,
        output_block: job.output_block,
        output_pixel: job.output_pixel,
        width: job.width,
        blocks: job.blocks,
        activation: job.activation,
        residual: job
            .residual
            .map_or(std::ptr::null(), |(at, block, _)| place(part, at, block, false).cast_const()),
        residual_block: job.residual.map_or(0, |r| r.1),
        residual_order: job.residual.map_or(Residual::AfterActivation, |r| r.2),
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { if depthwise { (loops.depthwise)(&row) } else { (loops.conv)(&row) } }
}

/// [`HalfRows`] in offsets: `input`, `output` and `residual` into the arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfJob<'a> {
    /// Where the window of the first pixel of the first row begins, and floats to the next row's.
    pub input: (usize, usize),
    pub pixel_stride: usize,
    pub taps: &'a [u32],
    /// Floats behind a window's first element that the taps reach.
    pub reach: usize,
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    /// The first row's first pixel, and floats between rows.
    pub output: (usize, usize),
    pub rows: usize,
    pub width: usize,
    pub groups: usize,
    pub activation: Activation,
    pub residual: Option<(usize, usize, Residual)>,
}

/// Runs some rows of a dense convolution in half precision.
pub(crate) fn half_conv(tiles: &Tiles, part: &mut Part<'_>, job: &HalfJob) {
    if job.width == 0 || job.rows == 0 {
        return;
    }
    let groups = job.groups.clamp(1, 2);
    assert!(job.weights.len() >= job.taps.len() * groups * TAP_FLOATS, "weights do not fit the taps");
    assert!(job.bias.len() >= groups * LANES, "a bias is too short");
    // the CPU reads tiles row by row: a line that is cut in two costs twice
    debug_assert!(job.weights.as_ptr().addr().is_multiple_of(ALIGNMENT_BYTES), "weights off their lines");
    let place = |part: &Part<'_>, (at, row): (usize, usize), is_written| {
        part.pieces(at, [job.rows, row, job.width * LANES], is_written)
    };
    let reach = (job.width - 1) * job.pixel_stride + job.reach;
    let rows = HalfRows {
        input: part.pieces(job.input.0, [job.rows, job.input.1, reach], false),
        input_row: job.input.1,
        pixel_stride: job.pixel_stride,
        taps: job.taps,
        weights: job.weights.as_ptr(),
        bias: job.bias.as_ptr(),
        output: place(part, job.output, true),
        output_row: job.output.1,
        rows: job.rows,
        width: job.width,
        groups,
        activation: job.activation,
        residual: job
            .residual
            .map_or(std::ptr::null(), |(at, row, _)| place(part, (at, row), false).cast_const()),
        residual_row: job.residual.map_or(0, |r| r.1),
        residual_order: job.residual.map_or(Residual::AfterActivation, |r| r.2),
    };
    // SAFETY: the ranges were checked above, reach being the farthest of the taps; the table was chosen for
    // this CPU.
    unsafe { (tiles.conv)(&rows) }
}

/// Runs one row of a depthwise convolution in half precision, of one block.
pub(crate) fn half_depthwise(tiles: &Tiles, part: &mut Part<'_>, job: &ConvJob) {
    if job.width == 0 {
        return;
    }
    let (weights, bias): (&[f32], &[f32]) = match (job.weights, job.start) {
        (Weights::Packed(weights), Start::Bias(bias)) => (weights, bias),
        _ => (&[], &[]),
    };
    assert!(
        weights.len() >= job.taps.len() * HALF_LANES && bias.len() >= HALF_LANES,
        "weights do not fit the taps"
    );
    let row = HalfDepthwise {
        input: part.from(job.input, (job.width - 1) * job.pixel_stride + job.reach),
        pixel_stride: job.pixel_stride,
        taps: job.taps,
        weights: weights.as_ptr(),
        bias: bias.as_ptr(),
        output: part.to(job.output, job.width * LANES),
        width: job.width,
        activation: job.activation,
        residual: job.residual.map_or(std::ptr::null(), |(at, ..)| part.from(at, job.width * LANES)),
        residual_order: job.residual.map_or(Residual::AfterActivation, |r| r.2),
    };
    // SAFETY: as above.
    unsafe { (tiles.depthwise)(&row) }
}

/// A row of `pixels` from `blocks` blocks of floats, `apart` from each other, to one block of half precision.
pub(crate) fn narrow(
    half: &Half,
    part: &mut Part<'_>,
    (from, apart, blocks): (usize, usize, usize),
    to: usize,
    pixels: usize,
) {
    let row = Recast {
        from: part.pieces(from, [blocks, apart, pixels * LANES], false).cast_const(),
        to: part.to(to, pixels * LANES),
        apart,
        blocks,
        pixels,
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (half.narrow)(&row) }
}

/// Half precision → floats: the way back of [`narrow`].
pub(crate) fn widen(
    half: &Half,
    part: &mut Part<'_>,
    from: usize,
    (to, apart, blocks): (usize, usize, usize),
    pixels: usize,
) {
    let row = Recast {
        from: part.from(from, pixels * LANES),
        to: part.pieces(to, [blocks, apart, pixels * LANES], true),
        apart,
        blocks,
        pixels,
    };
    // SAFETY: as above.
    unsafe { (half.widen)(&row) }
}

/// Most blocks that the channels of one block may come from: every channel from another.
pub(crate) const MOST_SOURCES: usize = HALF_LANES;

/// A row of `pixels` whose channels are taken from rows of other blocks.
pub(crate) fn shuffle<'a>(
    half: &Half,
    part: &mut Part<'_>,
    sources: impl Iterator<Item = (usize, &'a Taken)>,
    to: usize,
    pixels: usize,
) {
    let mut rows = [(std::ptr::null(), &Taken::NOTHING); MOST_SOURCES];
    let mut count = 0;
    for ((at, taken), row) in sources.zip(&mut rows) {
        *row = (part.from(at, pixels * LANES), taken);
        count += 1;
    }
    let output = part.to(to, pixels * LANES);
    // SAFETY: as above.
    unsafe { (half.shuffle)(&Shuffle { sources: &rows[..count], output, pixels }) }
}

/// Products of a Winograd tile.
pub(crate) const FREQUENCIES: usize = 36;

/// Transforms `tiles` neighbouring windows whose rows lie `row_stride` floats apart; products go `frequency`
/// floats apart.
pub(crate) fn winograd_input(
    loops: &Convolutions,
    part: &mut Part<'_>,
    (input, row_stride): (usize, usize),
    (output, frequency): (usize, usize),
    tiles: usize,
) {
    let job = WinogradInput {
        input: part.from(input, 5 * row_stride + (4 * tiles + 2) * LANES),
        row_stride,
        output: part.to(output, (FREQUENCIES - 1) * frequency + tiles * LANES),
        frequency,
        tiles,
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (loops.winograd_input)(&job) }
}

/// Transforms 3×3 kernels, nine vectors each, into factors that go `frequency` floats apart.
pub(crate) fn winograd_weights(
    loops: &Convolutions,
    part: &mut Part<'_>,
    weights: &[f32],
    (output, frequency): (usize, usize),
) {
    let count = weights.len() / (9 * LANES);
    let output = part.to(output, (FREQUENCIES - 1) * frequency + count * LANES);
    let job = WinogradWeights { input: weights.as_ptr(), output, frequency, kernels: count };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (loops.winograd_weights)(&job) }
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
pub(crate) fn winograd_output(loops: &Convolutions, part: &mut Part<'_>, job: &WinogradJob) {
    assert!(
        job.bias.len() >= LANES && job.width <= 4 * job.tiles && (1..=4).contains(&job.rows),
        "not a tile's output"
    );
    let pixels =
        |at: usize, row: usize, is_written| part.pieces(at, [job.rows, row, job.width * LANES], is_written);
    let job = WinogradOutput {
        input: part.from(job.input, (FREQUENCIES - 1) * job.frequency + job.tiles * LANES),
        frequency: job.frequency,
        tiles: job.tiles,
        bias: job.bias.as_ptr(),
        output: pixels(job.output, job.row_stride, true),
        row_stride: job.row_stride,
        rows: job.rows,
        width: job.width,
        activation: job.activation,
        residual: job.residual.map_or(std::ptr::null(), |(at, row, _)| pixels(at, row, false).cast_const()),
        residual_row: job.residual.map_or(0, |r| r.1),
        residual_order: job.residual.map_or(Residual::AfterActivation, |r| r.2),
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (loops.winograd_output)(&job) }
}

/// Runs one row of a pooling: `rows` input rows from float offset `input` on, each `row_stride` floats long.
pub(crate) fn pool(
    pictures: &Pictures,
    part: &mut Part<'_>,
    (input, rows, row_stride): (usize, usize, usize),
    columns: &[(u32, u32)],
    output: usize,
    average: Option<u32>,
) {
    let reach = columns.iter().map(|c| (c.0 + c.1) as usize).max().unwrap_or(0) * LANES;
    let input = part.from(input, rows.saturating_sub(1) * row_stride + reach);
    let output = part.to(output, columns.len() * LANES);
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (pictures.pool)(&PoolRow { input, rows, row_stride, columns, output, average }) }
}

/// Runs one row of a resize between the rows at float offsets `upper` and `lower`.
pub(crate) fn resize(
    pictures: &Pictures,
    part: &mut Part<'_>,
    (upper, lower, weight): (usize, usize, f32),
    columns: &[(u32, u32, f32)],
    output: usize,
) {
    let reach = columns.iter().map(|c| c.0.max(c.1) as usize + 1).max().unwrap_or(0) * LANES;
    let (upper, lower) = (part.from(upper, reach), part.from(lower, reach));
    let output = part.to(output, columns.len() * LANES);
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (pictures.resize)(&ResizeRow { upper, lower, weight, columns, output }) }
}

/// `floats` elements (a multiple of [`LANES`]) through an activation; `from` may be `to`.
pub(crate) fn activate(
    pictures: &Pictures,
    part: &mut Part<'_>,
    from: usize,
    to: usize,
    floats: usize,
    activation: Activation,
) {
    let (from, to) = (part.from(from, floats), part.to(to, floats));
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (pictures.activate)(from, to, floats / LANES, activation) }
}

/// Least and greatest of some floats and of those given.
pub(crate) fn range(kernels: &Kernels, part: &Part<'_>, floats: Range<usize>, range: [f32; 2]) -> [f32; 2] {
    // SAFETY: the table was chosen for this CPU.
    unsafe { (kernels.range)(part.read(floats), range) }
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
pub(crate) fn binary(
    pictures: &Pictures,
    part: &mut Part<'_>,
    op: Binary,
    [a, b]: [Side; 2],
    to: usize,
    floats: usize,
) {
    let side = |side: Side| match side {
        Side::Arena(at) => Operand { from: part.from(at, floats), step: LANES },
        Side::ArenaVector(at) => Operand { from: part.from(at, LANES), step: 0 },
        Side::Vector(values) => {
            assert!(values.len() >= LANES, "a vector is too short");
            Operand { from: values.as_ptr(), step: 0 }
        }
    };
    let (a, b) = (side(a), side(b));
    let to = part.to(to, floats);
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (pictures.binary)(op, a, b, to, floats / LANES) }
}

/// Softmax of [`LANES`] neighbouring columns down `length` rows that lie `stride` floats apart, in place.
pub(crate) fn softmax(kernels: &Kernels, part: &mut Part<'_>, at: usize, length: usize, stride: usize) {
    // what lies between the vectors may be another thread's
    let at = part.pieces(at, [length, stride, LANES], true);
    // SAFETY: the range was checked above; the table was chosen for this CPU.
    unsafe { (kernels.softmax)(at, length, stride) }
}

/// Softmax over `length` neighbouring floats, in place.
pub(crate) fn softmax_row(kernels: &Kernels, part: &mut Part<'_>, at: usize, length: usize) {
    let at = part.to(at, length);
    // SAFETY: the range was checked above; the table was chosen for this CPU.
    unsafe { (kernels.softmax_row)(at, length) }
}

/// Layer normalisation of the `length` floats at `from` into `to`; scale and bias have as many.
pub(crate) fn normalize(
    kernels: &Kernels,
    part: &mut Part<'_>,
    (from, to, length): (usize, usize, usize),
    epsilon: f32,
    [scale, bias]: [Option<&[f32]>; 2],
) {
    assert!(
        [scale, bias].into_iter().flatten().all(|values| values.len() >= length),
        "a scale or bias is too short"
    );
    let pointer = |values: Option<&[f32]>| values.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let row = Normalized {
        from: part.from(from, length),
        to: part.to(to, length),
        length,
        epsilon,
        scale: pointer(scale),
        bias: pointer(bias),
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.normalize)(&row) }
}

/// [`Attended`] in offsets: scores, floats between their blocks, sums.
pub(crate) fn attend(
    kernels: &Kernels,
    part: &mut Part<'_>,
    (scores, block, sums): (usize, usize, usize),
    rows: usize,
    length: usize,
) {
    let job = Attended {
        scores: part.pieces(scores, [length.div_ceil(LANES), block, rows * LANES], true),
        block,
        rows,
        length,
        sums: part.to(sums, rows),
    };
    // SAFETY: the ranges were checked above; the table was chosen for this CPU.
    unsafe { (kernels.attend)(&job) }
}
