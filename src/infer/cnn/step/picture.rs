//! Everything but convolutions on pictures in blocks of channels.

use super::{At, Machine, clear_halo, part_of};
use crate::infer::cnn::graph::{Taps, Window};
use crate::infer::cnn::kernels::arena::{self, Side};
use crate::infer::cnn::kernels::half::HALF_LANES;
use crate::infer::cnn::kernels::{Activation, Binary, LANES, Pictures};
use crate::infer::cnn::storage::Blocks;

/// Windows of one axis: for each output position the first input position inside the picture and how many
/// follow.
fn windows(window: &Window, axis: usize, length: usize, outputs: usize) -> Vec<(u32, u32)> {
    let (kernel, stride, before) = (window.kernel[axis], window.stride[axis], window.before[axis]);
    let range = |o: usize| {
        let first = (o * stride).saturating_sub(before).min(length);
        let end = (o * stride + kernel).saturating_sub(before).min(length);
        (first as u32, end.saturating_sub(first) as u32)
    };
    (0..outputs).map(range).collect()
}

/// Maximum or average over windows.
pub(in crate::infer::cnn) struct Pool {
    input: Blocks,
    output: Blocks,
    rows: Vec<(u32, u32)>,
    columns: Vec<(u32, u32)>,
    average: Option<u32>,
    pictures: &'static Pictures,
}

impl Pool {
    pub(in crate::infer::cnn) fn new(
        window: &Window,
        [input, output]: [Blocks; 2],
        average: Option<bool>,
        pictures: &'static Pictures,
    ) -> Pool {
        let size = (window.kernel[0] * window.kernel[1]) as u32;
        Pool {
            rows: windows(window, 0, input.height, output.height),
            columns: windows(window, 1, input.width, output.width),
            average: average.map(|include_padding| if include_padding { size } else { 0 }),
            input,
            output,
            pictures,
        }
    }
    pub(super) fn items(&self) -> usize {
        self.output.count()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, block: usize) {
        let (input, output) = (&self.input, &self.output);
        for (y, &(first, rows)) in self.rows.iter().enumerate() {
            let from = (input.pixel(block, first as usize, 0), rows as usize, input.row());
            arena::pool(
                self.pictures,
                &mut machine.arena,
                from,
                &self.columns,
                output.pixel(block, y, 0),
                self.average,
            );
        }
        clear_halo(machine, output, block);
    }
}

/// Sum of each channel.
pub(in crate::infer::cnn) struct GlobalSum {
    pub input: Blocks,
    pub output: Blocks,
}

impl GlobalSum {
    pub(super) fn run(&self, machine: &mut Machine<'_>) {
        for block in 0..self.input.count() {
            let mut sum = [0.0f64; HALF_LANES];
            for y in 0..self.input.height {
                let from = self.input.pixel(block, y, 0);
                for pixel in machine.arena.read(from..from + self.input.width * LANES).chunks_exact(LANES) {
                    let numbers = (0..self.input.lanes()).zip(
                        pixel
                            .iter()
                            .flat_map(|float| std::iter::repeat_n(float, self.input.format.per_float())),
                    );
                    sum.iter_mut()
                        .zip(numbers)
                        .for_each(|(s, (c, p))| *s += f64::from(self.input.number(c, *p)));
                }
            }
            clear_halo(machine, &self.output, block);
            let to = self.output.pixel(block, 0, 0);
            let target = machine.arena.write(to..to + LANES);
            let number = |channel: usize| sum.get(channel).map_or(0.0, |sum| *sum as f32);
            let format = self.output.format;
            target.iter_mut().enumerate().for_each(|(index, t)| *t = format.float(index, number));
        }
    }
}

/// Nearest or linear resize.
pub(in crate::infer::cnn) struct Resize {
    pub input: Blocks,
    pub output: Blocks,
    pub rows: Taps,
    pub columns: Taps,
    pub pictures: &'static Pictures,
}

impl Resize {
    pub(super) fn items(&self) -> usize {
        self.output.count()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, block: usize) {
        let line = |y: u32| self.input.pixel(block, y as usize, 0);
        for (y, &(upper, lower, weight)) in self.rows.iter().enumerate() {
            let lines = (line(upper), line(lower), weight);
            arena::resize(
                self.pictures,
                &mut machine.arena,
                lines,
                &self.columns,
                self.output.pixel(block, y, 0),
            );
        }
        clear_halo(machine, &self.output, block);
    }
}

/// An activation that could not be folded into the step before.
pub(in crate::infer::cnn) struct Activate {
    pub input: Blocks,
    pub output: Blocks,
    pub activation: Activation,
    pub pictures: &'static Pictures,
}

impl Activate {
    pub(super) fn items(&self) -> usize {
        self.output.count()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, block: usize) {
        for y in 0..self.input.height {
            let (from, to) = (self.input.pixel(block, y, 0), self.output.pixel(block, y, 0));
            let floats = self.input.width * LANES;
            arena::activate(self.pictures, &mut machine.arena, from, to, floats, self.activation);
        }
        clear_halo(machine, &self.output, block);
    }
}

/// An operand of an element-wise operation.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) enum Term {
    /// Same shape as the output.
    Picture(Blocks),
    /// One pixel: a number per channel, computed (squeeze and excitation).
    Pixel(Blocks),
    /// A number per channel, constant: whole blocks from this float of the weights on.
    Channels(usize),
}

/// `a op b` on pictures.
pub(in crate::infer::cnn) struct Elementwise {
    pub op: Binary,
    pub terms: [Term; 2],
    pub output: Blocks,
    pub pictures: &'static Pictures,
}

impl Elementwise {
    pub(super) fn items(&self) -> usize {
        self.output.count()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, block: usize) {
        for y in 0..self.output.height {
            let side = |term: &Term| match term {
                Term::Picture(blocks) => Side::Arena(blocks.pixel(block, y, 0)),
                Term::Pixel(blocks) => Side::ArenaVector(blocks.pixel(block, 0, 0)),
                Term::Channels(at) => {
                    Side::Vector(machine.weights.get(at + block * LANES..).unwrap_or_default())
                }
            };
            let sides = [side(&self.terms[0]), side(&self.terms[1])];
            let (to, floats) = (self.output.pixel(block, y, 0), self.output.width * LANES);
            arena::binary(self.pictures, &mut machine.arena, self.op, sides, to, floats);
        }
        clear_halo(machine, &self.output, block);
    }
}

/// Copies channels to other places: concatenation, slice and shuffle where blocks do not line up.
pub(in crate::infer::cnn) struct CopyChannels {
    /// For each channel that is copied: source picture and channel there, channel of the output.
    pub moves: Vec<(Blocks, usize, usize)>,
    pub output: Blocks,
    /// Blocks of the output whose border is cleared here.
    pub cleared: Vec<usize>,
}

impl CopyChannels {
    pub(super) fn items(&self) -> usize {
        self.cleared.len()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let Some(&block) = self.cleared.get(item) else { return };
        let (height, width) = (self.output.height, self.output.width);
        for &(source, from, to) in self.moves.iter().filter(|m| m.2 / LANES == block) {
            let (from, to) = (source.channel(from), self.output.channel(to));
            for y in 0..height {
                let (from, to) = (from + y * source.row(), to + y * self.output.row());
                let length = (width - 1) * LANES + 1;
                let ([source], [target]) = machine.arena.split([from..from + length], [to..to + length]);
                target.iter_mut().step_by(LANES).zip(source.iter().step_by(LANES)).for_each(|(t, s)| *t = *s);
            }
        }
        clear_halo(machine, &self.output, block);
    }
}

/// Row-major planes → blocks.
pub(in crate::infer::cnn) struct ToBlocks {
    pub from: At,
    pub output: Blocks,
}

/// Pixels of an item of [`ToBlocks`], about.
const PIXELS: usize = 4096;

impl ToBlocks {
    fn bands(&self) -> usize {
        let (height, width) = (self.output.height, self.output.width);
        (height * width).div_ceil(PIXELS).clamp(1, height.max(1))
    }
    pub(super) fn items(&self) -> usize {
        self.output.count() * self.bands()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let output = &self.output;
        let (block, band) = (item / self.bands(), item % self.bands());
        let rows = part_of(output.height, band, self.bands());
        let (plane, floats) = (output.height * output.width, output.channels * output.height * output.width);
        output.clear_border(&mut machine.arena, block, rows.clone(), true, true);
        let channels = block * output.lanes()..((block + 1) * output.lanes()).min(output.channels);
        for y in rows {
            let to = output.pixel(block, y, 0);
            let ([source], [target]) =
                machine.arena.split([self.from.arena(floats)], [to..to + output.width * LANES]);
            let source = self.from.values(source, machine.weights, floats);
            let row = |channel: usize| {
                let from = channel * plane + y * output.width;
                source.get(from..from + output.width).filter(|_| channel < channels.end).unwrap_or_default()
            };
            target.fill(0.0);
            if output.is_half() {
                for lane in 0..LANES {
                    let (first, second) =
                        (row(channels.start + 2 * lane), row(channels.start + 2 * lane + 1));
                    for (x, to) in target.iter_mut().skip(lane).step_by(LANES).enumerate() {
                        let number = |row: &[f32]| row.get(x).copied().unwrap_or(0.0);
                        *to = output.format.float(0, |n| number(if n == 0 { first } else { second }));
                    }
                }
                continue;
            }
            for channel in channels.clone() {
                let lanes = target.iter_mut().skip(channel % LANES).step_by(LANES);
                lanes.zip(row(channel)).for_each(|(t, s)| *t = *s);
            }
        }
    }
}

/// Blocks → row-major planes.
pub(in crate::infer::cnn) struct FromBlocks {
    pub input: Blocks,
    pub to: usize,
}

impl FromBlocks {
    pub(super) fn items(&self) -> usize {
        self.input.count()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, block: usize) {
        let input = &self.input;
        let plane = input.height * input.width;
        let channels = block * input.lanes()..((block + 1) * input.lanes()).min(input.channels);
        let start = self.to + channels.start * plane;
        for y in 0..input.height {
            let from = input.pixel(block, y, 0);
            let (from, to) = (from..from + input.width * LANES, start..start + channels.len() * plane);
            let ([source], [target]) = machine.arena.split([from], [to]);
            for (lane, target) in target.chunks_exact_mut(plane).enumerate() {
                let row = &mut target[y * input.width..(y + 1) * input.width];
                let floats = source.iter().skip(lane / input.format.per_float()).step_by(LANES);
                row.iter_mut().zip(floats).for_each(|(t, s)| *t = input.number(lane, *s));
            }
        }
    }
}
