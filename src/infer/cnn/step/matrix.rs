//! Matrices laid out for the dense kernel, which computes products as pointwise convolutions: a row is a
//! pixel, a column a channel.
//!
//! The left side of a product is copied, some rows at a time, into blocks of 16 columns (what the kernel
//! reads as pixels that lie side by side); the right side into panels of as many columns as the kernel
//! computes at once. Constant right sides are packed when the plan is made.

use crate::infer::cnn::kernels::arena::{ConvJob, Part, Start, Weights, conv};
use crate::infer::cnn::kernels::{Activation, Kernels, LANES, Residual, Tap};
use crate::infer::cnn::layout::blocks_for;
use std::ops::Range;

/// Floats of a band of rows that stay in the second-level cache while all panels go by: half of 1 MiB.
const BAND_FLOATS: usize = 128 * 1024;

/// What a product adds to where nothing is added.
pub(super) const ZEROS: [f32; 2 * LANES] = [0.0; 2 * LANES];

/// Matrices in the arena, two counters of a batch before them.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) struct Matrices {
    /// Where the first one begins in the arena, floats.
    pub at: usize,
    /// Floats from there on that all of them take.
    pub span: usize,
    /// Floats from one to the next along the batch, rows and columns; 0 where one serves for all.
    pub steps: [usize; 4],
}

impl Matrices {
    /// Offset of a matrix, from `at` on.
    pub(super) fn matrix(&self, batch: [usize; 2]) -> usize {
        batch[0] * self.steps[0] + batch[1] * self.steps[1]
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.at..self.at + self.span
    }
}

/// Rows that the kernel's widest tile takes.
pub(super) fn tile_rows(kernels: &Kernels) -> usize {
    kernels.convolutions.pixels[kernels.convolutions.blocks.clamp(1, 2) - 1].max(1)
}

/// Rows of a band: whole tiles, within the cache, and as many bands for each worker where there are enough
/// rows.
pub(super) fn band_rows(
    kernels: &Kernels,
    workers: usize,
    rows: usize,
    floats_per_row: usize,
    floats: usize,
) -> usize {
    let tile = tile_rows(kernels);
    let most = (floats / floats_per_row.max(1) / tile).max(1) * tile;
    let bands = rows.div_ceil(most).next_multiple_of(workers.max(1));
    rows.div_ceil(bands).next_multiple_of(tile)
}

/// [`band_rows`] of the left side of a product.
pub(super) fn product_rows(kernels: &Kernels, workers: usize, rows: usize, depth: usize) -> usize {
    band_rows(kernels, workers, rows, depth.next_multiple_of(LANES), BAND_FLOATS)
}

/// How the kernel finds a row's `depth` columns: blocks of them lie `block` floats apart.
pub(super) fn taps(depth: usize, block: usize) -> Option<Vec<Tap>> {
    let tap = |b: usize| {
        let (offset, channels) =
            (u32::try_from(b * block).ok()?, u32::try_from((depth - b * LANES).min(LANES)).ok()?);
        Some(Tap { offset, channels })
    };
    (0..blocks_for(depth)).map(tap).collect()
}

/// The right side of a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panels {
    pub depth: usize,
    pub columns: usize,
    /// Blocks of columns in one panel, but for the last: what the kernel takes.
    pub blocks: usize,
}

/// Some blocks of columns, packed one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    /// First block of columns.
    pub first: usize,
    pub blocks: usize,
    /// Floats of packed weights before it.
    pub at: usize,
    pub floats: usize,
}

impl Panel {
    /// The columns that it holds, without those that only fill it up.
    pub(super) fn columns(&self, columns: usize) -> usize {
        (self.blocks * LANES).min(columns - self.first * LANES)
    }
}

impl Panels {
    pub(super) fn floats(&self) -> usize {
        self.depth * blocks_for(self.columns) * LANES
    }

    pub(super) fn each(self) -> impl Iterator<Item = Panel> {
        let count = blocks_for(self.columns);
        (0..count).step_by(self.blocks.max(1)).map(move |first| {
            let blocks = self.blocks.min(count - first);
            Panel { first, blocks, at: self.depth * first * LANES, floats: self.depth * blocks * LANES }
        })
    }

    /// Multiplies each column of a packed matrix by a number.
    pub(super) fn scale(self, factors: &[f32], packed: &mut [f32]) {
        for panel in self.each() {
            let factors = factors.get(panel.first * LANES..).unwrap_or_default();
            let rows = packed.get_mut(panel.at..panel.at + panel.floats).unwrap_or_default();
            for row in rows.chunks_exact_mut(panel.blocks * LANES) {
                row.iter_mut().zip(factors).for_each(|(weight, factor)| *weight *= factor);
            }
        }
    }

    /// Lays a matrix with these floats between its rows and columns, from the beginning of `source` on, into
    /// `target`.
    pub(super) fn pack(self, source: &[f32], [row, column]: [usize; 2], target: &mut [f32]) -> Option<()> {
        for panel in self.each() {
            let target = target.get_mut(panel.at..panel.at + panel.floats)?;
            let width = panel.blocks * LANES;
            let columns = panel.columns(self.columns);
            let first = panel.first * LANES * column;
            if column == 1 {
                for (k, to) in target.chunks_exact_mut(width).enumerate() {
                    let from = source.get(first + k * row..first + k * row + columns)?;
                    let ((blocks, rest), (to, _)) = (from.as_chunks::<LANES>(), to.as_chunks_mut::<LANES>());
                    to.iter_mut().zip(blocks).for_each(|(to, from)| *to = *from);
                    if let Some(last) = to.get_mut(blocks.len()) {
                        *last = std::array::from_fn(|i| rest.get(i).copied().unwrap_or(0.0));
                    }
                }
                continue;
            }
            for (block, first) in (0..panel.blocks).zip((0..).map(|block| first + block * LANES * column)) {
                let columns = (columns - block * LANES).min(LANES);
                // checked once, for the loops below are long
                let source =
                    source.get(first..first + (columns - 1) * column + (self.depth - 1) * row + 1)?;
                for (k, to) in target.chunks_exact_mut(width).enumerate() {
                    let to = &mut to[block * LANES..(block + 1) * LANES];
                    for (lane, to) in to.iter_mut().enumerate() {
                        *to = if lane < columns { source[lane * column + k * row] } else { 0.0 };
                    }
                }
            }
        }
        Some(())
    }
}

/// Lays some rows of a matrix into blocks of columns, `block` floats each, from `to` on, times `scale`.
pub(super) fn pack_rows(
    part: &mut Part<'_>,
    (from, batch): (&Matrices, [usize; 2]),
    rows: Range<usize>,
    columns: usize,
    scale: f32,
    (to, block): (usize, usize),
) {
    let ([source], [target]) = part.split([from.range()], [to..to + blocks_for(columns) * block]);
    let [.., step, column] = from.steps;
    for (r, row) in rows.enumerate() {
        let start = from.matrix(batch) + row * step;
        if column != 1 {
            for c in 0..columns {
                target[c / LANES * block + r * LANES + c % LANES] = source[start + c * column] * scale;
            }
            continue;
        }
        let (whole, rest) = source[start..start + columns].as_chunks::<LANES>();
        for (b, values) in whole.iter().enumerate() {
            if let Some((to, _)) = target[b * block + r * LANES..].split_first_chunk_mut::<LANES>() {
                *to = values.map(|value| value * scale);
            }
        }
        let last = whole.len() * block + r * LANES;
        target.get_mut(last..).into_iter().flatten().zip(rest).for_each(|(to, value)| *to = value * scale);
    }
}

/// Where a product is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub at: usize,
    /// Floats from one block of columns to the next.
    pub block: usize,
    /// Floats from one row to the next.
    pub row: usize,
}

/// Some packed rows times a panel.
pub(super) struct Multiplied<'a> {
    /// Where the packed rows begin.
    pub rows: usize,
    pub count: usize,
    pub taps: &'a [Tap],
    pub weights: Weights<'a>,
    pub bias: &'a [f32],
    pub blocks: usize,
    pub output: Output,
    pub activation: Activation,
    /// From this offset on, laid like the output.
    pub residual: Option<(usize, Residual)>,
}

pub(super) fn multiply(kernels: &Kernels, part: &mut Part<'_>, job: &Multiplied<'_>) {
    let Output { at, block, row } = job.output;
    let job = ConvJob {
        input: job.rows,
        pixel_stride: LANES,
        taps: job.taps,
        reach: job.taps.last().map_or(0, |tap| tap.offset as usize + tap.channels as usize),
        weights: job.weights,
        start: Start::Bias(job.bias),
        output: at,
        output_block: block,
        output_pixel: row,
        width: job.count,
        blocks: job.blocks,
        activation: job.activation,
        residual: job.residual.map(|(at, order)| (at, block, order)),
    };
    conv(&kernels.convolutions, part, &job, false);
}
