//! Pictures in half precision: convolutions, conversions, and channels that move between blocks.

use super::{Machine, clear_halo};
use crate::infer::cnn::graph::Conv;
use crate::infer::cnn::kernels::arena::{self, ConvJob, HalfJob, MOST_SOURCES, Start, Weights};
use crate::infer::cnn::kernels::half::{HALF_LANES, Half, TAP_FLOATS, Taken, Tiles};
use crate::infer::cnn::kernels::{Activation, Format, LANES, Residual, Tap};
use crate::infer::cnn::packer::Packer;
use crate::infer::cnn::storage::Blocks;
use std::ops::Range;

/// Floats of input that a band of rows may touch: an eighth of the 2 MiB second-level cache of the CPUs that
/// have tiles; weights of up to 1 MiB stay beside them.
const BAND_FLOATS: usize = 64 * 1024;
/// Fewest rows of a band: fewer would read the weights from far away too often.
const MIN_BAND_ROWS: usize = 2;

/// One block of output channels.
#[derive(Debug)]
struct Group {
    block: usize,
    /// Groups of [`LANES`] channels.
    groups: usize,
    weights: Range<usize>,
    bias: Range<usize>,
    /// Range of the step's taps.
    taps: Range<usize>,
    /// Floats behind the window's first element that the taps reach.
    reach: usize,
}

/// A convolution in half precision, ready to run.
pub(in crate::infer::cnn) struct HalfConv {
    tiles: &'static Tiles,
    format: Format,
    input: Blocks,
    output: Blocks,
    residual: Option<(Blocks, Residual)>,
    stride: [usize; 2],
    before: [usize; 2],
    activation: Activation,
    pub depthwise: bool,
    /// Taps of a dense convolution.
    taps: Vec<u32>,
    /// Of a depthwise one.
    single: Vec<Tap>,
    groups: Vec<Group>,
    band_rows: usize,
    window: [usize; 2],
    /// Multiplications of one run, for profiles.
    pub macs: usize,
}

impl HalfConv {
    /// Plans the loops and packs the weights; `None` where the two do not fit.
    pub(in crate::infer::cnn) fn new(
        conv: &Conv,
        [input, output]: [Blocks; 2],
        residual: Option<(Blocks, Residual)>,
        (half, tiles, workers): (&'static Half, &'static Tiles, usize),
        packer: &mut Packer<'_>,
    ) -> Option<HalfConv> {
        let &[o, per_group, kh, kw] = conv.weights.shape() else { return None };
        let depthwise = per_group == 1 && conv.groups == o && input.channels == o;
        let window = &conv.window;
        let mut step = HalfConv {
            tiles,
            format: half.format,
            input,
            output,
            residual,
            stride: window.stride,
            before: window.before,
            activation: conv.activation,
            depthwise,
            taps: Vec::new(),
            single: Vec::new(),
            groups: Vec::new(),
            band_rows: 0,
            window: window.kernel,
            macs: o * per_group * kh * kw * output.height * output.width,
        };
        let places: Vec<usize> = (0..kh)
            .flat_map(|ky| (0..kw).map(move |kx| (ky, kx)))
            .map(|(ky, kx)| ky * window.dilation[0] * input.row() + kx * window.dilation[1] * LANES)
            .collect();
        for block in 0..output.count() {
            let channels = block * HALF_LANES..((block + 1) * HALF_LANES).min(o);
            let group = match depthwise {
                true => step.pack_depthwise(conv, channels, &places, packer)?,
                false => step.pack(conv, channels, &places, packer)?,
            };
            step.groups.push(group);
        }
        let per_row = step.stride[0] * input.row() * if depthwise { 1 } else { input.count() };
        let rows = (BAND_FLOATS / per_row.max(1)).saturating_sub(kh);
        step.band_rows = rows.clamp(MIN_BAND_ROWS, output.height.max(MIN_BAND_ROWS));
        // as many bands for each worker
        let bands = step.items().next_multiple_of(workers.max(1));
        step.band_rows = output.height.div_ceil(bands).max(1);
        Some(step)
    }

    /// The weights of a block of output channels: for each tap and group, pairs of input channels, each for
    /// every channel of the group.
    fn pack(
        &mut self,
        conv: &Conv,
        channels: Range<usize>,
        places: &[usize],
        packer: &mut Packer<'_>,
    ) -> Option<Group> {
        let &[o, per_group, ..] = conv.weights.shape() else { return None };
        let out_per_group = o / conv.groups;
        let inputs =
            channels.start / out_per_group * per_group..((channels.end - 1) / out_per_group + 1) * per_group;
        let blocks = inputs.start / HALF_LANES..inputs.end.div_ceil(HALF_LANES);
        let groups = if channels.len() <= LANES { 1 } else { 2 };
        // the CPU's sums are even and odd channels where there are two groups
        let channel = |group: usize, lane: usize| {
            let channel = channels.start + if groups == 1 { lane } else { 2 * lane + group };
            channels.contains(&channel).then_some(channel)
        };
        let first = self.taps.len();
        let mut reach = 0;
        for block in blocks.clone() {
            for place in places {
                let offset = block * self.input.block() + place;
                reach = reach.max(offset + LANES);
                self.taps.push(u32::try_from(offset).ok()?);
            }
        }
        let count = self.taps.len() - first;
        let weights = packer.take_line(count * groups * TAP_FLOATS, |room| {
            let format = self.format;
            let length = per_group * places.len();
            let weights = conv.weights.floats_in(channels.start * length..channels.end * length)?;
            // per output channel, what rounding takes from one weight the next is given
            let rounded: Vec<f32> = channels
                .clone()
                .flat_map(|oc| {
                    let scale = conv.scale.get(oc).copied().unwrap_or(1.0);
                    let mut rest = 0.0;
                    weights.iter().skip((oc - channels.start) * length).take(length).map(move |weight| {
                        let wanted = weight * scale + rest;
                        let rounded = format.round(wanted);
                        rest = wanted - rounded;
                        rounded
                    })
                })
                .collect();
            let weight = |oc: usize, ic: usize, place: usize| {
                let own = ic.checked_sub(oc / out_per_group * per_group).filter(|own| *own < per_group);
                let at = own.map(|own| (oc - channels.start) * length + own * places.len() + place);
                at.and_then(|at| rounded.get(at)).copied().unwrap_or(0.0)
            };
            let mut tiles = room.chunks_exact_mut(TAP_FLOATS);
            for block in blocks.clone() {
                for place in 0..places.len() {
                    for group in 0..groups {
                        for (k, row) in tiles.next()?.chunks_exact_mut(LANES).enumerate() {
                            let ic = block * HALF_LANES + 2 * k;
                            for (lane, to) in row.iter_mut().enumerate() {
                                if let Some(oc) = channel(group, lane) {
                                    *to = format.float(0, |n| weight(oc, ic + n, place));
                                }
                            }
                        }
                    }
                }
            }
            Some(())
        })?;
        let bias = packer.take_line(groups * LANES, |room| {
            for (index, to) in room.iter_mut().enumerate() {
                let oc = channel(index / LANES, index % LANES);
                *to = oc.and_then(|oc| conv.bias.get(oc)).copied().unwrap_or(0.0);
            }
            Some(())
        })?;
        let taps = first..self.taps.len();
        Some(Group {
            block: channels.start / HALF_LANES,
            groups,
            weights: weights..weights + count * groups * TAP_FLOATS,
            bias: bias..bias + groups * LANES,
            taps,
            reach,
        })
    }

    /// The weights of a block of a depthwise convolution: for each tap the even channels, then the odd ones.
    fn pack_depthwise(
        &mut self,
        conv: &Conv,
        channels: Range<usize>,
        places: &[usize],
        packer: &mut Packer<'_>,
    ) -> Option<Group> {
        if self.single.is_empty() {
            for place in places {
                let (offset, channels) = (u32::try_from(*place).ok()?, u32::try_from(LANES).ok()?);
                self.single.push(Tap { offset, channels });
            }
        }
        let channel = |lane: usize| {
            let channel = channels.start + lane % LANES * 2 + lane / LANES;
            channels.contains(&channel).then_some(channel)
        };
        let weights = packer.take_line(places.len() * HALF_LANES, |room| {
            let first = channels.start * places.len();
            let weights = conv.weights.floats_in(first..channels.end * places.len())?;
            for (place, vector) in room.chunks_exact_mut(HALF_LANES).enumerate() {
                for (lane, to) in vector.iter_mut().enumerate() {
                    if let Some(c) = channel(lane) {
                        let scale = conv.scale.get(c).copied().unwrap_or(1.0);
                        *to = weights.get((c - channels.start) * places.len() + place)? * scale;
                    }
                }
            }
            Some(())
        })?;
        let bias = packer.take_line(HALF_LANES, |room| {
            for (lane, to) in room.iter_mut().enumerate() {
                *to = channel(lane).and_then(|c| conv.bias.get(c)).copied().unwrap_or(0.0);
            }
            Some(())
        })?;
        Some(Group {
            block: channels.start / HALF_LANES,
            groups: 2,
            weights: weights..weights + places.len() * HALF_LANES,
            bias: bias..bias + HALF_LANES,
            taps: 0..self.single.len(),
            reach: places.iter().max()? + LANES,
        })
    }

    /// How many parts threads may take, each a band of rows.
    pub(super) fn items(&self) -> usize {
        self.output.height.div_ceil(self.band_rows.max(1))
    }

    /// One band of rows, all output blocks.
    pub(super) fn run(&self, machine: &mut Machine<'_>, band: usize) {
        let rows = band * self.band_rows..((band + 1) * self.band_rows).min(self.output.height);
        for group in &self.groups {
            match self.depthwise {
                true => rows.clone().for_each(|y| self.depthwise_row(machine, group, y)),
                false => self.dense_rows(machine, group, rows.clone()),
            }
            self.output.clear_border(&mut machine.arena, group.block, rows.clone(), true, true);
        }
    }

    /// Where the window of a row's first pixel begins; its first row and column may lie in the border.
    fn window_at(&self, block: usize, y: usize) -> usize {
        let start = self.input.pixel(block, 0, 0) + y * self.stride[0] * self.input.row();
        start - self.before[0] * self.input.row() - self.before[1] * LANES
    }

    fn dense_rows(&self, machine: &mut Machine<'_>, group: &Group, rows: Range<usize>) {
        let residual = self.residual.as_ref();
        let job = HalfJob {
            input: (self.window_at(0, rows.start), self.stride[0] * self.input.row()),
            pixel_stride: self.stride[1] * LANES,
            taps: &self.taps[group.taps.clone()],
            reach: group.reach,
            weights: &machine.weights[group.weights.clone()],
            bias: &machine.weights[group.bias.clone()],
            output: (self.output.pixel(group.block, rows.start, 0), self.output.row()),
            rows: rows.len(),
            width: self.output.width,
            groups: group.groups,
            activation: self.activation,
            residual: residual
                .map(|(blocks, order)| (blocks.pixel(group.block, rows.start, 0), blocks.row(), *order)),
        };
        arena::half_conv(self.tiles, &mut machine.arena, &job);
    }

    fn depthwise_row(&self, machine: &mut Machine<'_>, group: &Group, y: usize) {
        let place = |blocks: &Blocks| blocks.pixel(group.block, y, 0);
        let job = ConvJob {
            input: self.window_at(group.block, y),
            pixel_stride: self.stride[1] * LANES,
            taps: &self.single[group.taps.clone()],
            reach: group.reach,
            weights: Weights::Packed(&machine.weights[group.weights.clone()]),
            start: Start::Bias(&machine.weights[group.bias.clone()]),
            output: place(&self.output),
            output_block: self.output.block(),
            output_pixel: LANES,
            width: self.output.width,
            blocks: 1,
            activation: self.activation,
            residual: self.residual.as_ref().map(|(blocks, order)| (place(blocks), blocks.block(), *order)),
        };
        arena::half_depthwise(self.tiles, &mut machine.arena, &job);
    }
}

impl std::fmt::Display for HalfConv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (output, [rows, columns]) = (&self.output, self.window);
        write!(f, "{}→{} {rows}x{columns}", self.input.channels, output.channels)?;
        if self.stride != [1, 1] {
            write!(f, " stride {}", self.stride[0])?;
        }
        write!(f, " at {}x{} half", output.height, output.width)
    }
}

/// Between a picture of floats and one in half precision.
pub(in crate::infer::cnn) struct Recast {
    pub half: &'static Half,
    pub input: Blocks,
    pub output: Blocks,
}

impl Recast {
    /// Blocks in half precision.
    pub(super) fn items(&self) -> usize {
        self.input.count().min(self.output.count())
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, block: usize) {
        let (input, output) = (&self.input, &self.output);
        let float = if input.is_half() { output } else { input };
        let first = 2 * block;
        let blocks = (float.count() - first).min(2);
        for y in 0..output.height {
            let apart = (float.pixel(first, y, 0), float.block(), blocks);
            match input.is_half() {
                true => {
                    let from = input.pixel(block, y, 0);
                    arena::widen(self.half, &mut machine.arena, from, apart, output.width);
                }
                false => {
                    let to = output.pixel(block, y, 0);
                    arena::narrow(self.half, &mut machine.arena, apart, to, output.width);
                }
            }
        }
        match input.is_half() {
            true => (first..first + blocks).for_each(|block| clear_halo(machine, output, block)),
            false => clear_halo(machine, output, block),
        }
    }
}

/// Channels in half precision that move between blocks: concatenation, slice and shuffle where blocks do not
/// line up.
pub(in crate::infer::cnn) struct Shuffle {
    half: &'static Half,
    output: Blocks,
    blocks: Vec<Made>,
}

/// A block of the output that is made here.
struct Made {
    block: usize,
    sources: Vec<Piece>,
}

/// A block that channels come from.
struct Piece {
    picture: Blocks,
    block: usize,
    taken: Taken,
}

impl Shuffle {
    /// `moves`: for each channel its source picture, channel there, and channel of the output; `made`: blocks
    /// of the output. Blocks that are partly made elsewhere keep what is there.
    pub(in crate::infer::cnn) fn new(
        half: &'static Half,
        output: Blocks,
        moves: &[(Blocks, usize, usize)],
        made: &[usize],
    ) -> Option<Shuffle> {
        let mut blocks = Vec::new();
        for &block in made {
            let mut sources: Vec<Piece> = Vec::new();
            for &(picture, from, to) in moves.iter().filter(|m| m.2 / HALF_LANES == block) {
                let at = from / HALF_LANES;
                let known = sources.iter().position(|piece| (piece.picture, piece.block) == (picture, at));
                let known = known.unwrap_or_else(|| {
                    sources.push(Piece { picture, block: at, taken: Taken::NOTHING });
                    sources.len() - 1
                });
                sources.get_mut(known)?.taken.take(from % HALF_LANES, to % HALF_LANES);
            }
            let covered = sources.iter().fold(0, |mask, piece| mask | piece.taken.mask);
            let channels = (output.channels - block * HALF_LANES).min(HALF_LANES);
            let whole = u32::MAX >> (HALF_LANES - channels);
            if covered & whole != whole {
                // the rest was made in place
                let mut taken = Taken::NOTHING;
                let rest = (0..channels).filter(|c| covered & 1 << c == 0);
                rest.for_each(|c| taken.take(c, c));
                sources.push(Piece { picture: output, block, taken });
            }
            if sources.len() > MOST_SOURCES {
                return None;
            }
            blocks.push(Made { block, sources });
        }
        Some(Shuffle { half, output, blocks })
    }

    pub(super) fn items(&self) -> usize {
        self.blocks.len()
    }
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let Some(Made { block, sources }) = self.blocks.get(item) else { return };
        for y in 0..self.output.height {
            let rows = sources.iter().map(|piece| (piece.picture.pixel(piece.block, y, 0), &piece.taken));
            let to = self.output.pixel(*block, y, 0);
            arena::shuffle(self.half, &mut machine.arena, rows, to, self.output.width);
        }
        clear_halo(machine, &self.output, *block);
    }
}
