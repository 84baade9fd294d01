//! Convolutions of pictures in 8-bit codes.

use super::Machine;
use crate::infer::cnn::graph::{Coding, Conv, Int8};
use crate::infer::cnn::int8::{step_of, zero_and_top};
use crate::infer::cnn::kernels::arena::{self, Int8DepthwiseJob, Int8Job, Stretch, Target};
use crate::infer::cnn::kernels::int8::{self, Coded, Int8Tap, QUAD, TILE_QUADS, Table, WIDE};
use crate::infer::cnn::kernels::{Activation, LANES, Residual};
use crate::infer::cnn::packer::Packer;
use crate::infer::cnn::storage::{Blocks, Nhwc};
use std::ops::Range;

/// Bytes of input that a band of rows may touch: an eighth of the 2 MiB second-level cache of the CPUs that have
/// tiles; weights of up to 1 MiB stay beside them.
const BAND_BYTES: usize = 256 * 1024;
/// Fewest rows of a band: fewer would read the weights from far away too often.
const MIN_BAND_ROWS: usize = 2;
/// Output channels of a job.
const GROUP: usize = 2 * LANES;

/// Where results go.
#[derive(Debug, Clone)]
pub(in crate::infer::cnn) enum Output {
    Codes(Nhwc),
    Floats(Blocks, Option<(Blocks, Residual)>),
}

impl Output {
    fn size(&self) -> [usize; 2] {
        match self {
            Output::Codes(picture) => [picture.height, picture.width],
            Output::Floats(blocks, _) => [blocks.height, blocks.width],
        }
    }
}

/// Some output channels.
#[derive(Debug)]
struct Group {
    channels: Range<usize>,
    weights: Range<usize>,
    /// Of the weights of each channel, as the bits of whole numbers.
    sums: usize,
    scale: usize,
    bias: usize,
}

/// How the sums of a code become a code.
#[derive(Debug)]
struct Recoded {
    activation: Activation,
    /// What a number behind the activation is multiplied with.
    factor: f32,
    zero: i32,
    top: i32,
    table: Option<Box<Table>>,
}

/// A convolution of codes, ready to run.
pub(in crate::infer::cnn) struct Int8Conv {
    kernels: &'static int8::Int8,
    input: Nhwc,
    /// `None`: what stands beside the picture.
    zero: Option<i32>,
    output: Output,
    recoded: Option<Recoded>,
    activation: Activation,
    stride: [usize; 2],
    before: [usize; 2],
    pub depthwise: bool,
    taps: Vec<Int8Tap>,
    /// Of a depthwise convolution.
    single: Vec<u32>,
    reach: usize,
    groups: Vec<Group>,
    band_rows: usize,
    window: [usize; 2],
    /// Multiplications of one run, for profiles.
    pub macs: usize,
}

/// A tap of a dense convolution, and what its bytes are.
struct Stored {
    tap: Int8Tap,
    row: usize,
    /// Column of the window's pixel in which it begins, and byte of that pixel.
    column: usize,
    byte: usize,
}

impl Int8Conv {
    /// Plans the loops and packs the weights; `None` where the two do not fit.
    pub(in crate::infer::cnn) fn new(
        conv: &Conv,
        marked: &Int8,
        (input, output): (Nhwc, Output),
        (kernels, workers): (&'static int8::Int8, usize),
        packer: &mut Packer<'_>,
    ) -> Option<Int8Conv> {
        let &[o, per_group, kh, kw] = conv.weights.shape() else { return None };
        let depthwise = conv.groups > 1;
        let window = &conv.window;
        let (zero, step) = match marked.input {
            Coding::Static(levels) => (Some(zero_and_top(&levels).0), levels.step),
            Coding::Dynamic => (None, 1.0),
        };
        let recoded = marked.output.as_ref().map(|recoding| {
            let (zero, top) = zero_and_top(&recoding.levels);
            let (activation, inverse) = (recoding.activation, recoding.levels.scale.recip());
            // without one the factor is part of what a sum is worth
            let (factor, sums) =
                if activation == Activation::Identity { (1.0, inverse) } else { (inverse, 1.0) };
            (Recoded { activation, factor, zero, top, table: recoding.table.clone() }, sums)
        });
        let (recoded, factor) = match recoded {
            Some((recoded, factor)) => (Some(recoded), factor),
            None => (None, 1.0),
        };
        let [height, width] = output.size();
        let mut made = Int8Conv {
            kernels,
            input,
            zero,
            output,
            recoded,
            activation: conv.activation,
            stride: window.stride,
            before: window.before,
            depthwise,
            taps: Vec::new(),
            single: Vec::new(),
            reach: 0,
            groups: Vec::new(),
            band_rows: 0,
            window: window.kernel,
            macs: o * per_group * kh * kw * height * width,
        };
        if depthwise {
            made.depthwise_taps(window.dilation)?;
            for first in (0..o).step_by(WIDE) {
                let channels = first..(first + WIDE).min(o);
                let group = made.pack_depthwise(conv, channels, [step, factor], packer)?;
                made.groups.push(group);
            }
        } else {
            let stored = made.dense_taps(window.dilation)?;
            made.taps = stored.iter().map(|stored| stored.tap).collect();
            for first in (0..o).step_by(GROUP) {
                let channels = first..(first + GROUP).min(o);
                let group = made.pack(conv, channels, &stored, [step, factor], packer)?;
                made.groups.push(group);
            }
        }
        let rows = (BAND_BYTES / (made.stride[0] * input.row()).max(1)).saturating_sub(kh);
        made.band_rows = rows.clamp(MIN_BAND_ROWS, height.max(MIN_BAND_ROWS));
        // as many bands for each worker
        let bands = made.items().next_multiple_of(workers.max(1));
        made.band_rows = height.div_ceil(bands).max(1);
        Some(made)
    }

    /// The window as stretches of bytes: whole rows where the picture's pixels lie side by side.
    fn dense_taps(&mut self, dilation: [usize; 2]) -> Option<Vec<Stored>> {
        const TILE: usize = QUAD * TILE_QUADS;
        let [kh, kw] = self.window;
        let input = &self.input;
        let joined = input.is_whole() && dilation[1] == 1;
        let (pieces, length) =
            if joined { (1, (kw - 1) * input.pixel + input.channels) } else { (kw, input.channels) };
        let mut stored = Vec::new();
        for (row, column) in (0..kh).flat_map(|row| (0..pieces).map(move |column| (row, column))) {
            for byte in (0..length).step_by(TILE) {
                let bytes = (length - byte).min(TILE);
                let quads = if self.kernels.has_tiles { TILE_QUADS } else { bytes.div_ceil(QUAD) };
                let offset = row * dilation[0] * input.row() + column * dilation[1] * input.pixel + byte;
                self.reach = self.reach.max(offset + quads * QUAD);
                let tap = Int8Tap {
                    offset: u32::try_from(offset).ok()?,
                    quads: u16::try_from(quads).ok()?,
                    bytes: u16::try_from(bytes).ok()?,
                };
                stored.push(Stored { tap, row, column, byte });
            }
        }
        Some(stored)
    }

    fn depthwise_taps(&mut self, dilation: [usize; 2]) -> Option<()> {
        let [kh, kw] = self.window;
        for (row, column) in (0..kh).flat_map(|row| (0..kw).map(move |column| (row, column))) {
            let offset = row * dilation[0] * self.input.row() + column * dilation[1] * self.input.pixel;
            self.single.push(u32::try_from(offset).ok()?);
        }
        // what fills up the last four has weights of zero
        let last = *self.single.last()?;
        self.single.resize(self.single.len().next_multiple_of(QUAD), last);
        Some(())
    }

    /// The weights of some output channels, and what their sums are worth.
    fn pack(
        &self,
        conv: &Conv,
        channels: Range<usize>,
        taps: &[Stored],
        factors: [f32; 2],
        packer: &mut Packer<'_>,
    ) -> Option<Group> {
        let &[_, inputs, kh, kw] = conv.weights.shape() else { return None };
        let groups = channels.len().div_ceil(LANES);
        let quads: usize = taps.iter().map(|stored| usize::from(stored.tap.quads)).sum();
        let length = inputs * kh * kw;
        let pixel = if self.input.is_whole() { self.input.pixel } else { usize::MAX };
        let mut read = None;
        let weights = packer.take_line(quads * groups * LANES, |room| {
            let Whole { weights: whole, .. } = read.insert(Whole::of(conv, channels.clone(), length)?);
            let mut room = room.iter_mut();
            for stored in taps {
                for (group, quad) in (0..groups)
                    .flat_map(|group| (0..usize::from(stored.tap.quads)).map(move |quad| (group, quad)))
                {
                    for lane in 0..LANES {
                        let oc = group * LANES + lane;
                        let weight = |n: usize| {
                            let byte = stored.byte + quad * QUAD + n;
                            let (column, ic) = (stored.column + byte / pixel, byte % pixel);
                            let inside = quad * QUAD + n < usize::from(stored.tap.bytes)
                                && ic < inputs
                                && column < kw
                                && oc < channels.len();
                            let at = oc * length + (ic * kh + stored.row) * kw + column;
                            whole.get(at).copied().filter(|_| inside).unwrap_or(0)
                        };
                        *room.next()? = four(weight);
                    }
                }
            }
            Some(())
        })?;
        let order = |at: usize| at;
        let places = (groups * LANES, length, order);
        let numbers = pack_numbers(conv, &channels, (places, read.as_ref()), factors, packer)?;
        let weights = weights..weights + quads * groups * LANES;
        Some(Group { channels, weights, sums: numbers[0], scale: numbers[1], bias: numbers[2] })
    }

    fn pack_depthwise(
        &self,
        conv: &Conv,
        channels: Range<usize>,
        factors: [f32; 2],
        packer: &mut Packer<'_>,
    ) -> Option<Group> {
        let length = self.window[0] * self.window[1];
        let order =
            |at: usize| self.kernels.order.get(at).map_or(usize::MAX, |channel| usize::from(*channel));
        let floats = self.single.len() * WIDE / QUAD;
        let mut read = None;
        let weights = packer.take_line(floats, |room| {
            let Whole { weights: whole, .. } = read.insert(Whole::of(conv, channels.clone(), length)?);
            for (fours, room) in room.chunks_exact_mut(WIDE).enumerate() {
                for (at, to) in room.iter_mut().enumerate() {
                    let weight = |n: usize| {
                        let tap = fours * QUAD + n;
                        let inside = tap < length && order(at) < channels.len();
                        whole.get(order(at) * length + tap).copied().filter(|_| inside).unwrap_or(0)
                    };
                    *to = four(weight);
                }
            }
            Some(())
        })?;
        let numbers = pack_numbers(conv, &channels, ((WIDE, length, order), read.as_ref()), factors, packer)?;
        let weights = weights..weights + floats;
        Some(Group { channels, weights, sums: numbers[0], scale: numbers[1], bias: numbers[2] })
    }

    /// How many parts threads may take, each a band of rows.
    pub(super) fn items(&self) -> usize {
        self.output.size()[0].div_ceil(self.band_rows.max(1))
    }

    /// One band of rows, all output channels.
    pub(super) fn run(&self, machine: &mut Machine<'_>, band: usize) {
        let height = self.output.size()[0];
        let rows = band * self.band_rows..((band + 1) * self.band_rows).min(height);
        let (zero, step) = match self.zero {
            Some(zero) => (zero, 1.0),
            None => super::codes::chosen(machine, &self.input),
        };
        for group in &self.groups {
            match self.depthwise {
                true => self.depthwise_rows(machine, group, rows.clone(), zero),
                false => self.dense_rows(machine, group, rows.clone(), (zero, step)),
            }
        }
        match &self.output {
            Output::Codes(picture) => picture.fill_border(&mut machine.arena, rows, picture.zero),
            Output::Floats(blocks, _) => {
                for block in 0..blocks.count() {
                    blocks.clear_border(&mut machine.arena, block, rows.clone(), true, true);
                }
            }
        }
    }

    /// Where the window of a row's first pixel begins; its first row and column may lie in the border.
    fn window_at(&self, y: usize) -> usize {
        let start = self.input.pixel_at(0, 0) + y * self.stride[0] * self.input.row();
        start - self.before[0] * self.input.row() - self.before[1] * self.input.pixel
    }

    fn coded(&self) -> Coded<'_> {
        match &self.recoded {
            Some(Recoded { activation, factor, zero, top, table }) => Coded {
                activation: *activation,
                factor: *factor,
                zero: *zero,
                top: *top,
                table: table.as_deref(),
            },
            None => Coded::new(0, 0, None),
        }
    }

    fn dense_rows(
        &self,
        machine: &mut Machine<'_>,
        group: &Group,
        rows: Range<usize>,
        (zero, step): (i32, f32),
    ) {
        let groups = group.channels.len().div_ceil(LANES);
        let (mut sums, mut scale) = ([0; GROUP], [0.0; GROUP]);
        let begin = self.kernels.offset - zero;
        let weights = &machine.weights[group.sums..group.sums + groups * LANES];
        sums.iter_mut()
            .zip(weights)
            .for_each(|(sum, own)| *sum = own.to_bits().cast_signed().wrapping_mul(begin));
        let scales = &machine.weights[group.scale..group.scale + groups * LANES];
        scale.iter_mut().zip(scales).for_each(|(scale, own)| *scale = own * step);
        let first = group.channels.start;
        let target = match &self.output {
            Output::Codes(picture) => Target::Codes {
                at: picture.pixel_at(rows.start, 0) + first,
                row: picture.row(),
                pixel: picture.pixel,
                channels: group.channels.len(),
                coded: self.coded(),
            },
            Output::Floats(blocks, residual) => {
                let place = |blocks: &Blocks| blocks.pixel(first / LANES, rows.start, 0);
                Target::Floats {
                    at: place(blocks),
                    row: blocks.row(),
                    block: blocks.block(),
                    activation: self.activation,
                    residual: residual
                        .as_ref()
                        .map(|(blocks, order)| (place(blocks), blocks.row(), blocks.block(), *order)),
                }
            }
        };
        let job = Int8Job {
            input: (self.window_at(rows.start), self.stride[0] * self.input.row()),
            pixel_stride: self.stride[1] * self.input.pixel,
            taps: &self.taps,
            reach: self.reach,
            weights: &machine.weights[group.weights.clone()],
            sums: &sums,
            scale: &scale,
            bias: &machine.weights[group.bias..group.bias + groups * LANES],
            rows: rows.len(),
            width: self.output.size()[1],
            groups,
            target,
        };
        arena::int8_conv(self.kernels, &mut machine.arena, &job);
    }

    fn depthwise_rows(&self, machine: &mut Machine<'_>, group: &Group, rows: Range<usize>, zero: i32) {
        let Output::Codes(picture) = &self.output else { return };
        let mut sums = [0; WIDE];
        let begin = self.kernels.offset - zero;
        let weights = &machine.weights[group.sums..group.sums + WIDE];
        sums.iter_mut()
            .zip(weights)
            .for_each(|(sum, own)| *sum = own.to_bits().cast_signed().wrapping_mul(begin));
        for y in rows {
            let job = Int8DepthwiseJob {
                input: self.window_at(y) + group.channels.start,
                pixel_stride: self.stride[1] * self.input.pixel,
                taps: &self.single,
                weights: &machine.weights[group.weights.clone()],
                sums: &sums,
                scale: &machine.weights[group.scale..group.scale + WIDE],
                bias: &machine.weights[group.bias..group.bias + WIDE],
                output: Stretch {
                    at: picture.pixel_at(y, 0) + group.channels.start,
                    pixel: picture.pixel,
                    channels: group.channels.len(),
                    pixels: picture.width,
                },
                coded: self.coded(),
            };
            arena::int8_depthwise(self.kernels, &mut machine.arena, &job);
        }
    }
}

/// The weights of some output channels, channel by channel, and the step of each.
struct Whole {
    weights: Vec<i8>,
    steps: Vec<f32>,
}

impl Whole {
    fn of(conv: &Conv, channels: Range<usize>, length: usize) -> Option<Whole> {
        let weights = conv.weights.floats_in(channels.start * length..channels.end * length)?;
        let mut whole = Whole { weights: Vec::with_capacity(weights.len()), steps: Vec::new() };
        for own in weights.chunks_exact(length.max(1)) {
            let step = step_of(own)?;
            whole.steps.push(step);
            whole.weights.extend(own.iter().map(|weight| (weight / step).round() as i8));
        }
        Some(whole)
    }
}

/// For each of `count` places: the sum of its channel's weights, what one step of a sum is worth, and the bias.
/// `order` says which of the channels a place has.
fn pack_numbers(
    conv: &Conv,
    channels: &Range<usize>,
    ((count, length, order), read): ((usize, usize, impl Fn(usize) -> usize), Option<&Whole>),
    [step, factor]: [f32; 2],
    packer: &mut Packer<'_>,
) -> Option<[usize; 3]> {
    let own = |at: usize| Some(order(at)).filter(|own| *own < channels.len());
    let sums = packer.take_line(count, |room| {
        let whole = read?;
        for (at, to) in room.iter_mut().enumerate() {
            let Some(own) = own(at) else { continue };
            let weights = whole.weights.get(own * length..(own + 1) * length)?;
            let sum: i32 = weights.iter().map(|weight| i32::from(*weight)).sum();
            *to = f32::from_bits(sum.cast_unsigned());
        }
        Some(())
    })?;
    let scale = packer.take_line(count, |room| {
        let whole = read?;
        for (at, to) in room.iter_mut().enumerate() {
            let Some(own) = own(at) else { continue };
            let folded = conv.scale.get(channels.start + own).copied().unwrap_or(1.0);
            *to = whole.steps.get(own)? * folded * step * factor;
        }
        Some(())
    })?;
    let bias = packer.take_line(count, |room| {
        for (at, to) in room.iter_mut().enumerate() {
            let bias = own(at).and_then(|own| conv.bias.get(channels.start + own));
            *to = bias.copied().unwrap_or(0.0) * factor;
        }
        Some(())
    })?;
    Some([sums, scale, bias])
}

/// Four weights in the place of a float.
fn four(weight: impl Fn(usize) -> i8) -> f32 {
    f32::from_bits(u32::from_le_bytes([0, 1, 2, 3].map(|n| weight(n).cast_unsigned())))
}

impl std::fmt::Display for Int8Conv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([height, width], [rows, columns]) = (self.output.size(), self.window);
        let channels = self.groups.last().map_or(0, |group| group.channels.end);
        write!(f, "{}→{channels} {rows}x{columns}", self.input.channels)?;
        if self.stride != [1, 1] {
            write!(f, " stride {}", self.stride[0])?;
        }
        write!(f, " at {height}x{width} int8")
    }
}
