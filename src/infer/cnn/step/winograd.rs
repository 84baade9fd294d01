//! 3×3 convolutions of stride 1 after Winograd, F(4×4, 3×3): a 6×6 window gives 4×4 outputs with 36
//! multiplications per channel pair instead of 144. The products are sums over channels, which the direct
//! convolution's kernel computes.
//!
//! ```text
//! input windows ─▶ products[36][input block][tile][LANES] ─▶ sums[36][output block][tile][LANES] ─▶ output pixels
//!                                   3×3 kernels ─▶ factors ──┘
//! ```
//! A chunk of tiles goes through all stages while it is in cache, a few output blocks at a time. The 36
//! factors of a kernel take four times its room: of small layers they are kept, of large ones made anew for
//! every chunk, which costs less than to read them from beyond the second-level cache.

use super::{Machine, part_of};
use crate::infer::cnn::graph::Conv;
use crate::infer::cnn::kernels::arena::{ConvJob, FREQUENCIES, Start, Weights, WinogradJob, conv};
use crate::infer::cnn::kernels::arena::{winograd_input, winograd_output, winograd_weights};
use crate::infer::cnn::kernels::{Activation, Convolutions, Format, LANES, Residual, Tap};
use crate::infer::cnn::packer::Packer;
use crate::infer::cnn::storage::Blocks;
use std::ops::Range;

/// Pixels of an output tile along one axis.
const TILE: usize = 4;
/// Pixels of an input window along one axis.
const WINDOW: usize = 6;
/// Weights of a kernel.
pub(in crate::infer::cnn) const KERNEL: usize = 9;
/// Floats of products and sums of one chunk: half of a 1 MiB second-level cache; the factors pass through the
/// rest.
const CHUNK_FLOATS: usize = 128 * 1024;
/// Tiles of a chunk: a multiple of the widest register tile (14), so that its rows are cut evenly.
const CHUNK_UNIT: usize = 14;
/// Fewest [`CHUNK_UNIT`]s of a chunk for which factors are made: the more tiles use them, the less they cost.
const SPREAD_UNITS: usize = 2;
/// Input blocks whose factors are made together: with two output blocks 576 KiB.
const SLICE_BLOCKS: usize = 8;

/// A few output blocks that are computed together.
#[derive(Debug)]
struct Group {
    first: usize,
    blocks: usize,
    /// Kept: `[36][input channel][block][LANES]` factors; otherwise `[input channel][block][9][LANES]`
    /// weights.
    weights: usize,
}

/// A convolution, ready to run.
pub(in crate::infer::cnn) struct Winograd {
    pub loops: &'static Convolutions,
    pub input: Blocks,
    pub output: Blocks,
    residual: Option<(Blocks, Residual)>,
    before: [usize; 2],
    activation: Activation,
    groups: Vec<Group>,
    /// Whether the factors are kept.
    kept: bool,
    /// One per input block.
    taps: Vec<Tap>,
    /// Of all output blocks, and a vector of zeros behind it.
    bias: usize,
    tiles: [usize; 2],
    chunk: usize,
    /// See [`Cut`].
    parts: usize,
    /// Where the scratch space starts, and the floats of each thread.
    scratch: (usize, usize),
    /// Multiplications of the direct convolution, for profiles.
    pub macs: usize,
}

/// Numbers of a convolution that decide what it costs.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// Rows and columns of its output.
    pub size: [usize; 2],
}

/// Tiles that cover `[height, width]` pixels.
pub(in crate::infer::cnn) fn tiles(output: [usize; 2]) -> [usize; 2] {
    output.map(|length| length.div_ceil(TILE))
}

/// How a convolution is cut.
pub(in crate::infer::cnn) struct Cut {
    /// Tiles that go through the stages together.
    pub chunk: usize,
    /// How many threads share a chunk, each with some of the output blocks.
    parts: usize,
    /// Floats of scratch space per thread.
    scratch: usize,
}

impl Cut {
    /// For so many input channels of a format and `[height, width]` output pixels. `group`: output blocks that are
    /// computed together, of which there are `groups`; `kept`: whether the factors are.
    pub(in crate::infer::cnn) fn new(
        format: Format,
        inputs: usize,
        output: [usize; 2],
        (group, groups): (usize, usize),
        workers: usize,
        kept: bool,
    ) -> Cut {
        let per_tile = FREQUENCIES * (format.blocks_for(inputs) + group) * LANES;
        let all: usize = tiles(output).iter().product();
        let fitting =
            (CHUNK_FLOATS / per_tile / CHUNK_UNIT).max(if kept { 1 } else { SPREAD_UNITS }) * CHUNK_UNIT;
        // what is hardly more is one chunk, and the factors are read once
        let fitting = if all * per_tile <= CHUNK_FLOATS + CHUNK_FLOATS / 8 { all.max(1) } else { fitting };
        // chunks of the same size, as many for each worker; a picture too small for that is transformed by each of them, so
        // that the weights, which are far more, are read once
        let fewest = all.div_ceil(fitting).max(1);
        let parts = workers.max(1).div_ceil(fewest);
        let is_shared = parts > 1 && parts <= groups;
        let chunks = if is_shared { fewest } else { fewest.next_multiple_of(workers.max(1)) };
        let (chunk, parts) = (all.div_ceil(chunks), if is_shared { parts } else { 1 });
        let channels = inputs.next_multiple_of(format.unit()).min(SLICE_BLOCKS * format.lanes());
        let factors = if kept { 0 } else { FREQUENCIES * factors_apart(channels, group) };
        Cut { chunk, parts, scratch: chunk * per_tile + WINDOW * WINDOW * LANES + factors }
    }
}

/// Floats from the factors of one product to the next: a power of two would make all of them fall on the same
/// few lines of the first-level cache.
fn factors_apart(channels: usize, blocks: usize) -> usize {
    (channels * blocks + 1) * LANES
}

/// Writes the weights of a few output blocks: see [`Group::weights`].
fn pack(conv: &Conv, loops: &Convolutions, room: &mut [f32], blocks: Range<usize>, kept: bool) -> Option<()> {
    let &[o, inputs, ..] = conv.weights.shape() else { return None };
    let (format, matrix) = (loops.format, loops.points.spread());
    let length = inputs.next_multiple_of(format.unit()) * blocks.len() * LANES;
    let lanes = format.lanes();
    let (first, end) = (blocks.start * lanes, (blocks.end * lanes).min(o));
    let rows = conv.weights.floats_in(first * inputs * KERNEL..end * inputs * KERNEL)?;
    for ic in 0..inputs {
        for (place, block) in blocks.clone().enumerate() {
            let place = ic * blocks.len() + place;
            let channels = block * lanes..((block + 1) * lanes).min(o);
            // of each output channel the kernel and what it is multiplied with
            let kernels: Vec<(&[f32; KERNEL], f32)> = channels
                .map(|oc| {
                    let kernel =
                        rows.get(((oc - first) * inputs + ic) * KERNEL..)?.first_chunk::<KERNEL>()?;
                    Some((kernel, conv.scale.get(oc).copied().unwrap_or(1.0)))
                })
                .collect::<Option<_>>()?;
            if kept {
                let factors: Vec<([f64; FREQUENCIES], f64)> = kernels
                    .iter()
                    .map(|(kernel, scale)| (spread(&matrix, *kernel), f64::from(*scale)))
                    .collect();
                for f in 0..FREQUENCIES {
                    let to = f * length + place * LANES;
                    let number = |lane: usize| {
                        factors.get(lane).map_or(0.0, |(factors, scale)| (factors[f] * scale) as f32)
                    };
                    let vector = room.get_mut(to..to + LANES)?;
                    vector.iter_mut().enumerate().for_each(|(at, to)| *to = format.float(at, number));
                }
            } else {
                let vectors = room.get_mut(place * KERNEL * LANES..(place + 1) * KERNEL * LANES)?;
                for (k, vector) in vectors.chunks_exact_mut(LANES).enumerate() {
                    let number =
                        |lane: usize| kernels.get(lane).map_or(0.0, |(kernel, scale)| kernel[k] * scale);
                    vector.iter_mut().enumerate().for_each(|(at, to)| *to = format.float(at, number));
                }
            }
        }
    }
    Some(())
}

impl Winograd {
    /// What decides about its costs.
    pub(in crate::infer::cnn) fn layer(&self) -> Layer {
        let (inputs, outputs) = (self.input.channels, self.output.channels);
        Layer { inputs, outputs, size: [self.output.height, self.output.width] }
    }

    /// Whether a convolution can be done this way; `choice.rs` says whether it should.
    pub(in crate::infer::cnn) fn can(conv: &Conv) -> bool {
        let window = &conv.window;
        let ones = window.stride == [1, 1] && window.dilation == [1, 1] && window.kernel == [3, 3];
        let padding = window.before.iter().chain(&window.after).all(|&p| p <= 1);
        ones && padding && conv.groups == 1
    }

    /// Floats of scratch space for all threads.
    pub(in crate::infer::cnn) fn scratch(
        conv: &Conv,
        [_, height, width]: [usize; 3],
        (loops, workers, kept): (&Convolutions, usize, bool),
    ) -> usize {
        let &[o, i, ..] = conv.weights.shape() else { return 0 };
        let blocks = loops.format.blocks_for(o);
        let group = loops.blocks.min(blocks);
        let groups = blocks.div_ceil(group.max(1));
        workers * Cut::new(loops.format, i, [height, width], (group, groups), workers, kept).scratch
    }

    /// Plans the loops and packs the weights.
    pub(in crate::infer::cnn) fn new(
        conv: &Conv,
        input: Blocks,
        output: Blocks,
        residual: Option<(Blocks, Residual)>,
        (loops, workers, kept, scratch): (&'static Convolutions, usize, bool, usize),
        packer: &mut Packer<'_>,
    ) -> Option<Winograd> {
        let (inputs, outputs) = (input.channels, output.channels);
        let size = [output.height, output.width];
        let (format, conv_blocks) = (loops.format, loops.blocks.min(output.count()));
        let count = output.count().div_ceil(conv_blocks.max(1));
        let cut = Cut::new(format, inputs, size, (conv_blocks, count), workers, kept);
        // in whole units of the loops
        let padded = inputs.next_multiple_of(format.unit());
        let mut groups = Vec::new();
        let mut first = 0;
        while first < output.count() {
            let blocks = conv_blocks.min(output.count() - first);
            let per_kernel = if kept { FREQUENCIES } else { KERNEL };
            let length = padded * blocks * LANES;
            let weights = packer
                .take(per_kernel * length, |room| pack(conv, loops, room, first..first + blocks, kept))?;
            groups.push(Group { first, blocks, weights });
            first += blocks;
        }
        let bias = packer.take((output.count() + conv_blocks) * LANES, |room| {
            let number = |channel: usize| conv.bias.get(channel).copied().unwrap_or(0.0);
            room.iter_mut().enumerate().for_each(|(at, to)| *to = format.float(at, number));
            Some(())
        })?;
        let taps = (0..input.count()).map(|block| {
            let channels = format.lanes().min(padded - block * format.lanes()) as u32;
            Some(Tap { offset: u32::try_from(block * cut.chunk * LANES).ok()?, channels })
        });
        Some(Winograd {
            loops,
            input,
            output,
            residual,
            before: conv.window.before,
            activation: conv.activation,
            groups,
            kept,
            taps: taps.collect::<Option<_>>()?,
            bias,
            tiles: tiles(size),
            chunk: cut.chunk,
            parts: cut.parts,
            scratch: (scratch, cut.scratch),
            macs: KERNEL * inputs * outputs * output.height * output.width,
        })
    }

    /// How many parts threads may take, each a chunk of tiles for some of the output blocks.
    pub(super) fn items(&self) -> usize {
        (self.tiles[0] * self.tiles[1]).div_ceil(self.chunk.max(1)) * self.parts
    }

    /// One chunk of tiles through all stages.
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let all = self.tiles[0] * self.tiles[1];
        let (part, item) = (item % self.parts, item / self.parts);
        let chunk = item * self.chunk..((item + 1) * self.chunk).min(all);
        let groups = part_of(self.groups.len(), part, self.parts);
        let block = self.chunk * LANES;
        let widest = self.groups.first().map_or(0, |g| g.blocks);
        let window = self.scratch.0 + machine.worker * self.scratch.1;
        let products = window + WINDOW * WINDOW * LANES;
        let sums = products + FREQUENCIES * self.input.count() * block;
        let factors = sums + FREQUENCIES * widest * block;
        for run in self.runs(chunk.clone()) {
            let place = products + (run.first - chunk.start) * LANES;
            self.transform(machine, &run, place, window);
        }
        for group in self.groups.get(groups).unwrap_or_default() {
            self.multiply(machine, group, chunk.len(), [products, sums, factors]);
            for run in self.runs(chunk.clone()) {
                self.finish(machine, &run, group, sums + (run.first - chunk.start) * LANES);
            }
        }
    }

    /// Products of a chunk of tiles → sums of a group of output blocks.
    fn multiply(
        &self,
        machine: &mut Machine<'_>,
        group: &Group,
        tiles: usize,
        [products, sums, factors]: [usize; 3],
    ) {
        let block = self.chunk * LANES;
        let bias = self.bias + self.output.count() * LANES;
        let slice_blocks = if self.kept { self.taps.len() } else { SLICE_BLOCKS };
        for (slice, taps) in self.taps.chunks(slice_blocks.max(1)).enumerate() {
            let channels = taps.iter().map(|t| t.channels as usize).sum::<usize>();
            let length = channels * group.blocks * LANES;
            let apart = factors_apart(channels, group.blocks);
            if !self.kept {
                let kernels = group.blocks * KERNEL * LANES;
                let first = group.weights + slice * SLICE_BLOCKS * self.loops.format.lanes() * kernels;
                let weights = &machine.weights[first..first + channels * kernels];
                winograd_weights(self.loops, &mut machine.arena, weights, (factors, apart));
            }
            for frequency in 0..FREQUENCIES {
                let output = sums + frequency * group.blocks * block;
                let job = ConvJob {
                    input: products + frequency * self.input.count() * block,
                    pixel_stride: LANES,
                    taps,
                    reach: (slice * slice_blocks + taps.len() - 1) * block + LANES,
                    weights: if self.kept {
                        let from = group.weights + frequency * length;
                        Weights::Packed(&machine.weights[from..from + length])
                    } else {
                        Weights::Made(factors + frequency * apart, length)
                    },
                    // later slices are added to the earlier ones
                    start: if slice == 0 {
                        Start::Bias(&machine.weights[bias..bias + group.blocks * LANES])
                    } else {
                        Start::Output
                    },
                    output,
                    output_block: block,
                    output_pixel: LANES,
                    width: tiles,
                    blocks: group.blocks,
                    activation: Activation::Identity,
                    residual: None,
                };
                conv(self.loops, &mut machine.arena, &job, false);
            }
        }
    }

    /// The parts of a chunk that lie in one row of tiles.
    fn runs(&self, chunk: Range<usize>) -> impl Iterator<Item = TileRun> + use<> {
        let across = self.tiles[1].max(1);
        let mut first = chunk.start;
        std::iter::from_fn(move || {
            let (row, column) = (first / across, first % across);
            let tiles = (across - column).min(chunk.end.checked_sub(first).filter(|&n| n > 0)?);
            let run = TileRun { first, row, column, tiles };
            first += tiles;
            Some(run)
        })
    }

    /// Input transform of a run, all blocks.
    fn transform(&self, machine: &mut Machine<'_>, run: &TileRun, products: usize, window: usize) {
        let input = &self.input;
        let block_floats = self.chunk * LANES;
        let frequency = input.count() * block_floats;
        // windows that reach beyond the border are copied into one with zeros
        let whole = |tile: usize, axis: usize, length: usize| {
            tile * TILE + WINDOW <= length + self.before[axis] + input.halo
        };
        let inside = if whole(run.row, 0, input.height) {
            (0..run.tiles).take_while(|t| whole(run.column + t, 1, input.width)).count()
        } else {
            0
        };
        for block in 0..input.count() {
            let to = products + block * block_floats;
            let corner = input.pixel(block, 0, 0) + run.row * TILE * input.row() + run.column * TILE * LANES;
            let corner = corner - self.before[0] * input.row() - self.before[1] * LANES;
            if inside > 0 {
                winograd_input(
                    self.loops,
                    &mut machine.arena,
                    (corner, input.row()),
                    (to, frequency),
                    inside,
                );
            }
            for tile in inside..run.tiles {
                self.copy_window(machine, block, [run.row, run.column + tile], window);
                let from = (window, WINDOW * LANES);
                winograd_input(self.loops, &mut machine.arena, from, (to + tile * LANES, frequency), 1);
            }
        }
    }

    /// One window with zeros where it leaves the picture.
    fn copy_window(&self, machine: &mut Machine<'_>, block: usize, [row, column]: [usize; 2], window: usize) {
        let input = &self.input;
        machine.arena.write(window..window + WINDOW * WINDOW * LANES).fill(0.0);
        for dy in 0..WINDOW {
            let y = (row * TILE + dy).checked_sub(self.before[0]).filter(|&y| y < input.height);
            let Some(y) = y else { continue };
            for dx in 0..WINDOW {
                let x = (column * TILE + dx).checked_sub(self.before[1]).filter(|&x| x < input.width);
                let Some(x) = x else { continue };
                let from = input.pixel(block, y, x);
                machine.arena.copy(from..from + LANES, window + (dy * WINDOW + dx) * LANES);
            }
        }
    }

    /// Output transform of a run, one group of blocks, and the border around it.
    fn finish(&self, machine: &mut Machine<'_>, run: &TileRun, group: &Group, sums: usize) {
        let output = &self.output;
        let block_floats = self.chunk * LANES;
        let (y, x) = (run.row * TILE, run.column * TILE);
        let rows = TILE.min(output.height - y);
        let width = (run.tiles * TILE).min(output.width - x);
        for (index, block) in (group.first..group.first + group.blocks).enumerate() {
            let bias = self.bias + block * LANES;
            let job = WinogradJob {
                input: sums + index * block_floats,
                frequency: group.blocks * block_floats,
                tiles: run.tiles,
                bias: &machine.weights[bias..bias + LANES],
                output: output.pixel(block, y, x),
                row_stride: output.row(),
                rows,
                width,
                activation: self.activation,
                residual: self
                    .residual
                    .as_ref()
                    .map(|(blocks, order)| (blocks.pixel(block, y, x), blocks.row(), *order)),
            };
            winograd_output(self.loops, &mut machine.arena, &job);
            output.clear_border(&mut machine.arena, block, y..y + rows, x == 0, x + width == output.width);
        }
    }
}

impl std::fmt::Display for Winograd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (&self.input, &self.output);
        write!(f, "{}→{} 3x3 at {}x{}", from.channels, to.channels, to.height, to.width)
    }
}

/// Neighbouring tiles of one row of tiles.
struct TileRun {
    /// Index of the first tile, row by row.
    first: usize,
    row: usize,
    column: usize,
    tiles: usize,
}

/// The 36 factors of a 3×3 kernel.
fn spread(matrix: &[[f64; 3]; WINDOW], kernel: &[f32]) -> [f64; FREQUENCIES] {
    let mut result = [0.0; FREQUENCIES];
    for (f, value) in result.iter_mut().enumerate() {
        let (down, across) = (matrix[f / WINDOW], matrix[f % WINDOW]);
        *value = kernel.iter().enumerate().map(|(i, &g)| f64::from(g) * down[i / 3] * across[i % 3]).sum();
    }
    result
}
