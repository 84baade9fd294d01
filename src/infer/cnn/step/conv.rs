//! Convolutions: direct, over blocks of channels or (the first layer) over planes.

use super::{Machine, part_of};
use crate::infer::cnn::graph::Conv;
use crate::infer::cnn::kernels::arena::{ConvJob, Start, Weights, conv, narrow};
use crate::infer::cnn::kernels::half::Half;
use crate::infer::cnn::kernels::{Activation, Convolutions, Format, LANES, Residual, Tap};
use crate::infer::cnn::layout::blocks_for;
use crate::infer::cnn::packer::Packer;
use crate::infer::cnn::storage::Blocks;
use std::ops::Range;

/// Floats of input that a band of rows may touch: half of a 1 MiB second-level cache, the other half is for
/// the weights.
const BAND_FLOATS: usize = 128 * 1024;

/// Where a convolution reads.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) enum Source {
    Blocks(Blocks),
    /// `[channels][height][width]`, no border. The rows of a window are laid out with a border (`row` floats
    /// each) in `scratch` first; every band has a part of it.
    Planes {
        at: usize,
        channels: usize,
        height: usize,
        width: usize,
        row: usize,
        scratch: usize,
        /// Of the model's input: where it is said whether these are bytes.
        pixels: Option<usize>,
    },
}

/// A few output blocks that are computed together.
#[derive(Debug)]
struct Group {
    first: usize,
    blocks: usize,
    weights: usize,
    bias: usize,
    /// Range of [`ConvStep::taps`].
    taps: Range<usize>,
    /// Floats behind the window's first element that the taps reach.
    reach: usize,
}

/// A row of output in scratch space, on its way to half precision.
struct Staged {
    half: &'static Half,
    /// The row's blocks, from 0 on.
    rows: Blocks,
    /// The first band's, and floats from band to band.
    at: usize,
    apart: usize,
    output: Blocks,
}

/// A convolution, ready to run.
pub(in crate::infer::cnn) struct ConvStep {
    loops: &'static Convolutions,
    source: Source,
    output: Blocks,
    /// Where the output goes on to.
    staged: Option<Staged>,
    residual: Option<(Blocks, Residual)>,
    stride: [usize; 2],
    before: [usize; 2],
    activation: Activation,
    pub depthwise: bool,
    taps: Vec<Tap>,
    groups: Vec<Group>,
    /// Into how many bands of rows it is cut, and each of them into how many parts of the output blocks.
    bands: usize,
    parts: usize,
    /// Rows and columns of a window.
    window: [usize; 2],
    dilation_rows: usize,
    /// Multiplications, for profiles.
    pub macs: usize,
}

impl ConvStep {
    /// Floats of scratch space that a convolution over planes needs: a window of rows for each band, and a
    /// row of output before it is in half precision.
    pub(in crate::infer::cnn) fn scratch(
        conv: &Conv,
        [channels, _, width]: [usize; 3],
        [outputs, height, columns]: [usize; 3],
        half: bool,
    ) -> usize {
        let rows = band_floats(conv, channels, plane_row(conv, width));
        let staged = if half { blocks_for(outputs) * columns * LANES } else { 0 };
        height.div_ceil(BAND_PLANE_ROWS) * (rows + staged)
    }

    /// Plans the loops and packs the weights.
    pub(in crate::infer::cnn) fn new(
        conv: &Conv,
        source: Source,
        (output, staged): (Blocks, Option<&'static Half>),
        residual: Option<(Blocks, Residual)>,
        (loops, workers): (&'static Convolutions, usize),
        packer: &mut Packer<'_>,
    ) -> Option<ConvStep> {
        let &[o, per_group, ..] = conv.weights.shape() else { return None };
        let depthwise =
            per_group == 1 && conv.groups == o && matches!(source, Source::Blocks(b) if b.channels == o);
        let window = &conv.window;
        // what half precision is made from has blocks of floats
        let (staged, output) = match (staged, source) {
            (Some(half), Source::Planes { channels, row, scratch, .. }) if residual.is_none() => {
                let window = band_floats(conv, channels, row);
                let rows = Blocks { at: 0, halo: 0, format: Format::Float32, height: 1, ..output };
                let apart = window + rows.count() * rows.block();
                let at = scratch + window;
                (Some(Staged { half, rows, at, apart, output }), Blocks { format: Format::Float32, ..output })
            }
            (Some(_), _) => return None,
            (None, _) => (None, output),
        };
        let (lanes, unit) = (loops.format.lanes(), loops.format.unit());
        let mut step = ConvStep {
            loops,
            source,
            output,
            staged,
            residual,
            stride: window.stride,
            before: window.before,
            activation: conv.activation,
            depthwise,
            taps: Vec::new(),
            groups: Vec::new(),
            bands: 1,
            parts: 1,
            window: window.kernel,
            dilation_rows: window.dilation[0],
            macs: o * per_group * window.kernel[0] * window.kernel[1] * output.height * output.width,
        };
        let [kh, kw] = window.kernel;
        let out_per_group = o / conv.groups;
        let mut first = 0;
        while first < output.count() {
            let blocks = if depthwise { 1 } else { loops.blocks.min(output.count() - first) };
            let channels = first * lanes..((first + blocks) * lanes).min(o);
            // input channels that any of these output channels reads, in whole units of the loops
            let inputs = (channels.start / out_per_group * per_group) / unit * unit
                ..(((channels.end - 1) / out_per_group + 1) * per_group).next_multiple_of(unit);
            let taps_start = step.taps.len();
            let mut reach = 0;
            let mut push = |taps: &mut Vec<Tap>, offset: usize, length: usize| -> Option<()> {
                taps.push(Tap { offset: u32::try_from(offset).ok()?, channels: u32::try_from(length).ok()? });
                reach =
                    reach.max(offset + if depthwise { length } else { length / loops.format.per_float() });
                Some(())
            };
            match source {
                Source::Blocks(input) if depthwise => {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let offset =
                                ky * window.dilation[0] * input.row() + kx * window.dilation[1] * LANES;
                            push(&mut step.taps, offset, LANES)?;
                        }
                    }
                }
                Source::Blocks(input) => {
                    for block in inputs.start / lanes..inputs.end.div_ceil(lanes) {
                        let from = inputs.start.max(block * lanes);
                        let to = inputs.end.min((block + 1) * lanes);
                        for ky in 0..kh {
                            for kx in 0..kw {
                                let place =
                                    ky * window.dilation[0] * input.row() + kx * window.dilation[1] * LANES;
                                push(
                                    &mut step.taps,
                                    block * input.block() + place + from % lanes / loops.format.per_float(),
                                    to - from,
                                )?;
                            }
                        }
                    }
                }
                Source::Planes { channels, row, .. } => {
                    for ic in 0..channels {
                        for ky in 0..kh {
                            let offset = (ic * kh + ky) * row;
                            // neighbouring columns look to the kernel like neighbouring channels
                            if window.dilation[1] == 1 {
                                push(&mut step.taps, offset, kw)?;
                            } else {
                                (0..kw).try_for_each(|kx| {
                                    push(&mut step.taps, offset + kx * window.dilation[1], 1)
                                })?;
                            }
                        }
                    }
                }
            }
            let packing = Packing {
                conv,
                format: loops.format,
                first,
                blocks,
                depthwise,
                planes: matches!(source, Source::Planes { .. }),
            };
            let vectors = if depthwise { kh * kw } else { inputs.len() * kh * kw };
            let weights = packer.take(vectors * blocks * LANES, |room| packing.write(room, inputs))?;
            let bias = packer.take(blocks * LANES, |room| {
                let number = |lane| conv.bias.get(first * lanes + lane).copied().unwrap_or(0.0);
                room.iter_mut().enumerate().for_each(|(at, to)| *to = loops.format.float(at, number));
                Some(())
            })?;
            let taps = taps_start..step.taps.len();
            step.groups.push(Group { first, blocks, weights, bias, taps, reach });
            first += blocks;
        }
        let (height, workers) = (output.height.max(1), workers.max(1));
        step.bands = height.div_ceil(step.rows_per_band(window.kernel[0]).max(1));
        if let Source::Blocks(_) = source {
            // as many rows for each worker, or as many output blocks where that is more even
            let of_one = |count: usize| count.div_ceil(workers) * workers;
            match of_one(step.groups.len()) * height < of_one(height) * step.groups.len() {
                true => step.parts = workers.min(step.groups.len()),
                false => step.bands = step.bands.next_multiple_of(workers).min(height),
            }
        }
        Some(step)
    }

    /// Rows whose input stays in cache while all output blocks are computed.
    fn rows_per_band(&self, kernel_rows: usize) -> usize {
        let Source::Blocks(input) = self.source else { return BAND_PLANE_ROWS.min(self.output.height) };
        let per_row = self.stride[0] * input.row() * if self.depthwise { 1 } else { input.count() };
        (BAND_FLOATS / per_row.max(1))
            .saturating_sub(kernel_rows)
            .clamp(MIN_BAND_ROWS, self.output.height.max(MIN_BAND_ROWS))
    }

    /// Bands of rows, as equal as may be, and parts of the output blocks of each.
    pub(super) fn items(&self) -> usize {
        self.bands * self.parts
    }

    /// One band of rows, some of the output blocks.
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let (part, band) = (item % self.parts, item / self.parts);
        let rows = part_of(self.output.height, band, self.bands);
        match self.source {
            Source::Blocks(input) => {
                for group in self.groups.get(part_of(self.groups.len(), part, self.parts)).unwrap_or_default()
                {
                    let block = if self.depthwise { group.first } else { 0 };
                    for y in rows.clone() {
                        // the window's first row and column may lie in the border
                        let start = input.pixel(block, 0, 0) + y * self.stride[0] * input.row();
                        let start = start - self.before[0] * input.row() - self.before[1] * LANES;
                        self.row(machine, group, (y, band), start, self.stride[1] * LANES);
                    }
                    self.clear_border(machine, group, rows.clone());
                }
            }
            Source::Planes { channels, row, scratch, .. } => {
                let window = channels * self.window[0] * row;
                let apart = self.staged.as_ref().map_or(window, |staged| staged.apart);
                let scratch = scratch + band * apart;
                for y in rows.clone() {
                    self.gather_rows(machine, y, scratch);
                    for group in &self.groups {
                        self.row(machine, group, (y, band), scratch, self.stride[1]);
                    }
                    if let Some(staged) = &self.staged {
                        staged.narrow(machine, y, band);
                    }
                }
                match &self.staged {
                    Some(Staged { output, .. }) => (0..output.count()).for_each(|block| {
                        output.clear_border(&mut machine.arena, block, rows.clone(), true, true);
                    }),
                    None => {
                        for group in &self.groups {
                            self.clear_border(machine, group, rows.clone());
                        }
                    }
                }
            }
        }
    }

    /// One row of output pixels of one group of blocks.
    fn row(
        &self,
        machine: &mut Machine<'_>,
        group: &Group,
        (y, band): (usize, usize),
        input: usize,
        pixel_stride: usize,
    ) {
        let place = |blocks: &Blocks| blocks.pixel(group.first, y, 0);
        let (output, output_block) = match &self.staged {
            Some(staged) => {
                (staged.at + band * staged.apart + staged.rows.pixel(group.first, 0, 0), staged.rows.block())
            }
            None => (place(&self.output), self.output.block()),
        };
        let job = ConvJob {
            input,
            pixel_stride,
            taps: &self.taps[group.taps.clone()],
            reach: group.reach,
            weights: Weights::Packed(&machine.weights[group.weights..group.bias]),
            start: Start::Bias(&machine.weights[group.bias..group.bias + group.blocks * LANES]),
            output,
            output_block,
            output_pixel: LANES,
            width: self.output.width,
            blocks: group.blocks,
            activation: self.activation,
            residual: self.residual.as_ref().map(|(blocks, order)| (place(blocks), blocks.block(), *order)),
        };
        conv(self.loops, &mut machine.arena, &job, self.depthwise);
    }

    /// Lays the input rows of one output row into the scratch space, with zeros around.
    fn gather_rows(&self, machine: &mut Machine<'_>, y: usize, scratch: usize) {
        let Source::Planes { at, channels, height, width, row, pixels, .. } = self.source else { return };
        let rows = channels * self.window[0];
        for index in 0..rows {
            let to = scratch + index * row;
            let (channel, ky) = (index / self.window[0], index % self.window[0]);
            let source = (y * self.stride[0] + ky * self.dilation_rows)
                .checked_sub(self.before[0])
                .filter(|&r| r < height);
            machine.arena.write(to..to + row).fill(0.0);
            if let Some(source) = source {
                let (from, to) = ((channel * height + source) * width, to + self.before[1]);
                machine.input_row((at, from), to..to + width, pixels, channel);
            }
        }
    }

    /// Zeros around the band's rows.
    fn clear_border(&self, machine: &mut Machine<'_>, group: &Group, rows: Range<usize>) {
        for block in group.first..group.first + group.blocks {
            self.output.clear_border(&mut machine.arena, block, rows.clone(), true, true);
        }
    }
}

impl Staged {
    /// Row `y` of the output from the band's row of floats.
    fn narrow(&self, machine: &mut Machine<'_>, y: usize, band: usize) {
        for block in 0..self.output.count() {
            let first = block * 2;
            let blocks = (self.rows.count() - first).min(2);
            let from = self.at + band * self.apart + self.rows.pixel(first, 0, 0);
            let (from, to) = ((from, self.rows.block(), blocks), self.output.pixel(block, y, 0));
            narrow(self.half, &mut machine.arena, from, to, self.output.width);
        }
    }
}

/// Floats of the rows of a window over planes.
fn band_floats(conv: &Conv, channels: usize, row: usize) -> usize {
    channels * conv.window.kernel[0] * row
}

/// How the weights of one group of output blocks are laid: a vector per block, channel and place of the
/// window, in the order of the taps.
struct Packing<'a> {
    conv: &'a Conv,
    format: Format,
    /// First output block.
    first: usize,
    blocks: usize,
    depthwise: bool,
    planes: bool,
}

impl Packing<'_> {
    /// Writes the weights of `inputs`, the input channels that any of the group's output channels reads.
    fn write(&self, room: &mut [f32], inputs: Range<usize>) -> Option<()> {
        let conv = self.conv;
        let &[o, per_group, kh, kw] = conv.weights.shape() else { return None };
        let (places, out_per_group, per_block) = (kh * kw, o / conv.groups, self.format.lanes());
        let (first, length) = (self.first * per_block, per_group * places);
        let end = ((self.first + self.blocks) * per_block).min(o);
        let weights = conv.weights.floats_in(first * length..end * length)?;
        // per lane: where the weights of its output channel begin, its first input channel, and its scale
        let lanes: Vec<_> = (first..end)
            .map(|oc| {
                let row = weights.get((oc - first) * length..(oc - first + 1) * length)?;
                Some((row, oc / out_per_group * per_group, conv.scale.get(oc).copied().unwrap_or(1.0)))
            })
            .collect::<Option<_>>()?;
        let mut vectors = room.chunks_exact_mut(self.blocks * LANES);
        let mut write = |ic: Option<usize>, place: usize| {
            let Some(vector) = vectors.next() else { return };
            let number = |lane: usize| {
                let Some((row, base, scale)) = lanes.get(lane) else { return 0.0 };
                // a depthwise channel reads its own; others leave out what their group does not read
                let own = ic.map_or(Some(0), |ic| ic.checked_sub(*base)).filter(|own| *own < per_group);
                own.and_then(|own| row.get(own * places + place)).map_or(0.0, |weight| weight * scale)
            };
            vector.iter_mut().enumerate().for_each(|(at, to)| *to = self.format.float(at, number));
        };
        if self.depthwise {
            (0..places).for_each(|place| write(None, place));
        } else if self.planes {
            inputs.for_each(|ic| (0..places).for_each(|place| write(Some(ic), place)));
        } else {
            for block in inputs.start / per_block..inputs.end.div_ceil(per_block) {
                let channels = inputs.start.max(block * per_block)..inputs.end.min((block + 1) * per_block);
                (0..places).for_each(|place| channels.clone().for_each(|ic| write(Some(ic), place)));
            }
        }
        Some(())
    }
}

/// Fewest rows of a band: fewer would read the weights from far away too often.
const MIN_BAND_ROWS: usize = 2;
/// Rows of a band of the first layer.
const BAND_PLANE_ROWS: usize = 16;

/// Floats of one row of a plane with its border.
pub(in crate::infer::cnn) fn plane_row(conv: &Conv, width: usize) -> usize {
    width + conv.window.before[1] + conv.window.after[1]
}

impl std::fmt::Display for ConvStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let channels = match self.source {
            Source::Blocks(blocks) => blocks.channels,
            Source::Planes { channels, .. } => channels,
        };
        let (output, [rows, columns]) = (&self.output, self.window);
        write!(f, "{channels}→{} {rows}x{columns}", output.channels)?;
        if self.stride != [1, 1] {
            write!(f, " stride {}", self.stride[0])?;
        }
        write!(f, " at {}x{}", output.height, output.width)
    }
}
