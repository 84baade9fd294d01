//! 3×3 convolutions of stride 1 after Winograd, F(4×4, 3×3): a 6×6 window gives 4×4 outputs with 36 multiplications per
//! channel pair instead of 144. The products are sums over channels, which the direct convolution's kernel computes.
//!
//! ```text
//! input windows ─▶ products[36][input block][tile][LANES] ─▶ sums[36][output block][tile][LANES] ─▶ output pixels
//! ```
//! A chunk of tiles goes through all three stages while it is in cache.

use super::Machine;
use crate::infer::cnn::graph::{Conv, floats};
use crate::infer::cnn::kernels::arena::{ConvJob, FREQUENCIES, WinogradJob, conv, winograd_input, winograd_output};
use crate::infer::cnn::kernels::{Activation, LANES, Residual, Tap};
use crate::infer::cnn::layout::blocks_for;
use crate::infer::cnn::storage::Blocks;
use std::ops::Range;

/// Pixels of an output tile along one axis.
const TILE: usize = 4;
/// Pixels of an input window along one axis.
const WINDOW: usize = 6;
/// Floats of products and sums of one chunk: half of a 1 MiB second-level cache; the transformed weights pass through the rest.
const CHUNK_FLOATS: usize = 128 * 1024;
/// Tiles of a chunk: a multiple of the widest register tile (14), so that its rows are cut evenly.
const CHUNK_UNIT: usize = 14;
/// Fewest input and output channels for which the transforms pay.
const MIN_CHANNELS: usize = 8;

/// How the weights of one kernel spread over the 36 products: `G·g·Gᵀ`.
const SPREAD: [[f64; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// A few output blocks that are computed together.
#[derive(Debug)]
struct Group {
    first: usize,
    blocks: usize,
    /// Weights of the first product; the others follow at a distance of [`Group::length`].
    weights: usize,
    length: usize,
}

/// A convolution, ready to run.
#[derive(Debug)]
pub(in crate::infer::cnn) struct Winograd {
    pub input: Blocks,
    pub output: Blocks,
    residual: Option<(Blocks, Residual)>,
    before: [usize; 2],
    activation: Activation,
    groups: Vec<Group>,
    taps: Vec<Tap>,
    /// Of all output blocks, and a vector of zeros behind it.
    bias: usize,
    tiles: [usize; 2],
    chunk: usize,
    scratch: usize,
    /// Multiplications of the direct convolution, for profiles.
    pub macs: usize,
}

/// Tiles that cover `[height, width]` pixels.
fn tiles(output: [usize; 2]) -> [usize; 2] {
    output.map(|length| length.div_ceil(TILE))
}

/// Tiles that go through the stages together.
fn chunk([inputs, outputs]: [usize; 2], output: [usize; 2], workers: usize) -> usize {
    let per_tile = FREQUENCIES * (blocks_for(inputs) + blocks_for(outputs)) * LANES;
    let all: usize = tiles(output).iter().product();
    let fitting = (CHUNK_FLOATS / per_tile / CHUNK_UNIT).max(1) * CHUNK_UNIT;
    // chunks of the same size, as many for each worker
    let chunks = all.div_ceil(fitting).max(1).next_multiple_of(workers.max(1));
    all.div_ceil(chunks)
}

impl Winograd {
    /// Whether a convolution can and should be done this way.
    pub(in crate::infer::cnn) fn suits(conv: &Conv, output: [usize; 3]) -> bool {
        let window = &conv.window;
        let &[o, i, ..] = conv.weights.shape() else { return false };
        let ones = window.stride == [1, 1] && window.dilation == [1, 1] && window.kernel == [3, 3];
        let padding = window.before.iter().chain(&window.after).all(|&p| p <= 1);
        if !(ones && padding && conv.groups == 1 && i.min(o) >= MIN_CHANNELS) {
            return false;
        }
        // tiles at the edge compute pixels that nobody wants; below this the direct convolution wins
        let [_, height, width] = output;
        let done: usize = tiles([height, width]).iter().map(|t| t * TILE).product();
        done * WASTE[1] <= height * width * WASTE[0]
    }

    /// Floats of scratch space for all threads.
    pub(in crate::infer::cnn) fn scratch(conv: &Conv, [_, height, width]: [usize; 3], workers: usize) -> usize {
        let &[o, i, ..] = conv.weights.shape() else { return 0 };
        let per_tile = FREQUENCIES * (blocks_for(i) + blocks_for(o)) * LANES;
        workers * (chunk([i, o], [height, width], workers) * per_tile + WINDOW * WINDOW * LANES)
    }

    /// Transforms the weights behind `weights`.
    pub(in crate::infer::cnn) fn new(
        conv: &Conv,
        input: Blocks,
        output: Blocks,
        residual: Option<(Blocks, Residual)>,
        (conv_blocks, workers, scratch): (usize, usize, usize),
        weights: &mut Vec<f32>,
    ) -> Option<Winograd> {
        let given = floats(&conv.weights)?;
        let (inputs, outputs) = (input.channels, output.channels);
        let size = [output.height, output.width];
        let chunk = chunk([inputs, outputs], size, workers);
        let mut groups = Vec::new();
        let mut first = 0;
        while first < output.count() {
            let blocks = conv_blocks.min(output.count() - first);
            let (start, length) = (weights.len(), inputs * blocks * LANES);
            weights.resize(start + FREQUENCIES * length, 0.0);
            for lane in 0..blocks * LANES {
                let oc = first * LANES + lane;
                let Some(rows) = given.get(oc * inputs * 9..(oc + 1) * inputs * 9) else { break };
                let scale = f64::from(conv.scale.get(oc).copied().unwrap_or(1.0));
                for (ic, kernel) in rows.chunks_exact(9).enumerate() {
                    for (f, value) in spread(kernel).into_iter().enumerate() {
                        weights[start + f * length + ic * blocks * LANES + lane] = (value * scale) as f32;
                    }
                }
            }
            groups.push(Group { first, blocks, weights: start, length });
            first += blocks;
        }
        let bias = weights.len();
        let whole = output.count() * LANES;
        weights.extend((0..whole).map(|oc| conv.bias.get(oc).copied().unwrap_or(0.0)));
        weights.extend(std::iter::repeat_n(0.0, conv_blocks * LANES));
        let taps = (0..input.count()).map(|block| {
            let channels = LANES.min(inputs - block * LANES) as u32;
            Some(Tap { offset: u32::try_from(block * chunk * LANES).ok()?, channels })
        });
        Some(Winograd {
            input,
            output,
            residual,
            before: conv.window.before,
            activation: conv.activation,
            groups,
            taps: taps.collect::<Option<_>>()?,
            bias,
            tiles: tiles(size),
            chunk,
            scratch,
            macs: 9 * inputs * outputs * output.height * output.width,
        })
    }

    /// Chunks of tiles.
    pub(super) fn items(&self) -> usize {
        (self.tiles[0] * self.tiles[1]).div_ceil(self.chunk.max(1))
    }

    /// Floats of scratch space per thread, as [`Winograd::scratch`].
    fn scratch_floats(&self) -> usize {
        self.chunk * FREQUENCIES * (self.input.count() + self.output.count()) * LANES + WINDOW * WINDOW * LANES
    }

    /// One chunk of tiles through all stages.
    pub(super) fn run(&self, machine: &Machine, item: usize) {
        let all = self.tiles[0] * self.tiles[1];
        let chunk = item * self.chunk..((item + 1) * self.chunk).min(all);
        let block = self.chunk * LANES;
        let products = self.scratch + machine.worker * self.scratch_floats();
        let sums = products + FREQUENCIES * self.input.count() * block;
        let window = sums + FREQUENCIES * self.output.count() * block;
        for run in self.runs(chunk.clone()) {
            let place = products + (run.first - chunk.start) * LANES;
            self.transform(machine, &run, place, window);
        }
        let bias = self.bias + self.output.count() * LANES;
        for frequency in 0..FREQUENCIES {
            for group in &self.groups {
                let weights = group.weights + frequency * group.length;
                let job = ConvJob {
                    input: products + frequency * self.input.count() * block,
                    pixel_stride: LANES,
                    taps: &self.taps,
                    reach: (self.input.count() - 1) * block + LANES,
                    weights: &machine.weights[weights..weights + group.length],
                    bias: &machine.weights[bias..bias + group.blocks * LANES],
                    output: sums + (frequency * self.output.count() + group.first) * block,
                    output_block: block,
                    width: chunk.len(),
                    blocks: group.blocks,
                    activation: Activation::Identity,
                    residual: None,
                };
                conv(machine.kernels, machine.arena, &job, false);
            }
        }
        for run in self.runs(chunk.clone()) {
            self.finish(machine, &run, sums + (run.first - chunk.start) * LANES);
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
    fn transform(&self, machine: &Machine, run: &TileRun, products: usize, window: usize) {
        let input = &self.input;
        let block_floats = self.chunk * LANES;
        let frequency = input.count() * block_floats;
        // windows that reach beyond the border are copied into one with zeros
        let whole = |tile: usize, axis: usize, length: usize| tile * TILE + WINDOW <= length + self.before[axis] + input.halo;
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
                winograd_input(machine.kernels, machine.arena, (corner, input.row()), (to, frequency), inside);
            }
            for tile in inside..run.tiles {
                self.copy_window(machine, block, [run.row, run.column + tile], window);
                let from = (window, WINDOW * LANES);
                winograd_input(machine.kernels, machine.arena, from, (to + tile * LANES, frequency), 1);
            }
        }
    }

    /// One window with zeros where it leaves the picture.
    fn copy_window(&self, machine: &Machine, block: usize, [row, column]: [usize; 2], window: usize) {
        let input = &self.input;
        let target = machine.arena.write(window..window + WINDOW * WINDOW * LANES);
        target.fill(0.0);
        for (dy, target) in target.chunks_exact_mut(WINDOW * LANES).enumerate() {
            let y = (row * TILE + dy).checked_sub(self.before[0]).filter(|&y| y < input.height);
            let Some(y) = y else { continue };
            for (dx, target) in target.chunks_exact_mut(LANES).enumerate() {
                let x = (column * TILE + dx).checked_sub(self.before[1]).filter(|&x| x < input.width);
                let Some(x) = x else { continue };
                let from = input.pixel(block, y, x);
                target.copy_from_slice(machine.arena.read(from..from + LANES));
            }
        }
    }

    /// Output transform of a run, all blocks, and the border around it.
    fn finish(&self, machine: &Machine, run: &TileRun, sums: usize) {
        let output = &self.output;
        let block_floats = self.chunk * LANES;
        let (y, x) = (run.row * TILE, run.column * TILE);
        let rows = TILE.min(output.height - y);
        let width = (run.tiles * TILE).min(output.width - x);
        for block in 0..output.count() {
            let bias = self.bias + block * LANES;
            let job = WinogradJob {
                input: sums + block * block_floats,
                frequency: output.count() * block_floats,
                tiles: run.tiles,
                bias: &machine.weights[bias..bias + LANES],
                output: output.pixel(block, y, x),
                row_stride: output.row(),
                rows,
                width,
                activation: self.activation,
                residual: self.residual.as_ref().map(|(blocks, order)| (blocks.pixel(block, y, x), blocks.row(), *order)),
            };
            winograd_output(machine.kernels, machine.arena, &job);
            output.clear_border(machine.arena, block, y..y + rows, x == 0, x + width == output.width);
        }
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
fn spread(kernel: &[f32]) -> [f64; FREQUENCIES] {
    let mut result = [0.0; FREQUENCIES];
    for (f, value) in result.iter_mut().enumerate() {
        let (down, across) = (SPREAD[f / WINDOW], SPREAD[f % WINDOW]);
        *value = kernel.iter().enumerate().map(|(i, &g)| f64::from(g) * down[i / 3] * across[i % 3]).sum();
    }
    result
}

/// Most pixels computed per pixel wanted, as a fraction: at 13×13 it is 1.51, and Winograd still wins by a third.
const WASTE: [usize; 2] = [2, 1];
