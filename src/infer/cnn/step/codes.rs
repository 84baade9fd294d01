//! Everything but convolutions on pictures in 8-bit codes.

use super::Machine;
use crate::infer::cnn::graph::{Taps, Window};
use crate::infer::cnn::kernels::LANES;
use crate::infer::cnn::kernels::arena::{self, Stretch};
use crate::infer::cnn::kernels::int8::{Int8, Int8Binary, Quantizer, Table, Worth};
use crate::infer::cnn::storage::{Blocks, Nhwc};
use crate::infer::onnx::operators::DynamicLevels;
use std::ops::Range;

/// Rows of an item.
const ROWS: usize = 16;

/// The rows of an item of a picture.
fn rows(picture: &Nhwc, item: usize) -> Range<usize> {
    item * ROWS..((item + 1) * ROWS).min(picture.height)
}

fn items(picture: &Nhwc) -> usize {
    picture.height.div_ceil(ROWS)
}

/// A row of a picture.
fn stretch(picture: &Nhwc, y: usize) -> Stretch {
    Stretch {
        at: picture.pixel_at(y, 0),
        pixel: picture.pixel,
        channels: picture.channels,
        pixels: picture.width,
    }
}

/// Where floats come from or go to.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) enum Floats {
    Blocks(Blocks),
    /// Row-major planes in the arena.
    Planes(usize),
}

/// Floats → codes.
pub(in crate::infer::cnn) struct Quantize {
    pub int8: &'static Int8,
    pub from: Floats,
    pub output: Nhwc,
    /// `None`: as [`FindRange`] has found.
    pub how: Option<Quantizer>,
    /// Of the model's input: where it is said whether its planes are bytes, and room for a row of each plane for every
    /// worker.
    pub pixels: Option<(usize, usize)>,
}

impl Quantize {
    pub(super) fn items(&self) -> usize {
        items(&self.output)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let how = match self.how {
            Some(how) => how,
            None => {
                let (zero, scale) = chosen(machine, &self.output);
                Quantizer { scale, zero, top: 255 }
            }
        };
        let rows = rows(&self.output, item);
        for y in rows.clone() {
            let to = stretch(&self.output, y);
            match &self.from {
                Floats::Planes(at) => {
                    let (width, plane) = (to.pixels, self.output.height * to.pixels);
                    let mut from = (at + y * width, plane);
                    if let Some((pixels, room)) = self.pixels {
                        let room = room + machine.worker * to.channels * width;
                        for channel in 0..to.channels {
                            let to = room + channel * width..room + (channel + 1) * width;
                            machine.input_row((*at, channel * plane + y * width), to, Some(pixels), channel);
                        }
                        from = (room, width);
                    }
                    arena::quantize_planes(self.int8, &mut machine.arena, from, to, &how);
                }
                Floats::Blocks(blocks) => {
                    for block in 0..blocks.count() {
                        let (first, from) = (block * LANES, blocks.pixel(block, y, 0));
                        let to =
                            Stretch { at: to.at + first, channels: (to.channels - first).min(LANES), ..to };
                        arena::quantize(self.int8, &mut machine.arena, from, to, &how);
                    }
                }
            }
        }
        self.output.fill_border(&mut machine.arena, rows, how.zero as u8);
    }
}

/// The stretches of numbers that lie side by side, where they lie and where they go: `floats` of them where they are
/// row-major.
pub(super) fn stretches(
    from: &Floats,
    to: &Floats,
    floats: usize,
    work: &mut dyn FnMut(usize, usize, usize),
) {
    match (from, to) {
        (Floats::Blocks(from), Floats::Blocks(to)) => {
            for (block, y) in (0..from.count()).flat_map(|block| (0..from.height).map(move |y| (block, y))) {
                let lanes = (from.channels - block * LANES).min(LANES);
                match lanes == LANES {
                    true => work(from.pixel(block, y, 0), to.pixel(block, y, 0), from.width * LANES),
                    // what fills up the last block is no number of the picture's
                    false => (0..from.width)
                        .for_each(|x| work(from.pixel(block, y, x), to.pixel(block, y, x), lanes)),
                }
            }
        }
        (Floats::Planes(from), Floats::Planes(to)) => work(*from, *to, floats),
        _ => {}
    }
}

/// Finds the scale and the zero that fit the numbers, as ONNX's DynamicQuantizeLinear does.
pub(in crate::infer::cnn) struct FindRange {
    pub from: Floats,
    pub output: Nhwc,
}

impl FindRange {
    pub(super) fn run(&self, machine: &mut Machine<'_>) {
        // zero is always a number that there is
        let mut range = [0.0, 0.0];
        let Nhwc { channels, height, width, scale, .. } = self.output;
        stretches(&self.from, &self.from, channels * height * width, &mut |from, _, floats| {
            range = arena::range(machine.kernels, &machine.arena, from..from + floats, range);
        });
        let levels = fitting(range);
        machine.arena.write(scale..scale + 2).copy_from_slice(&[levels.scale, levels.zero]);
    }
}

/// The scale and the zero of codes for numbers of this range. Of numbers whose scale has no inverse nothing is left
/// but zero.
pub(super) fn fitting([low, high]: [f32; 2]) -> DynamicLevels {
    let levels = DynamicLevels::of(low, high);
    if levels.scale.recip().is_normal() { levels } else { DynamicLevels { scale: 1.0, zero: 0.0 } }
}

/// The zero and the scale that [`FindRange`] has found.
pub(super) fn chosen(machine: &Machine<'_>, picture: &Nhwc) -> (i32, f32) {
    match machine.arena.read(picture.scale..picture.scale + 2) {
        [scale, zero] => (*zero as i32, *scale),
        _ => (0, 1.0),
    }
}

/// Codes → blocks of floats, or planes.
pub(in crate::infer::cnn) struct Dequantize {
    pub int8: &'static Int8,
    pub input: Nhwc,
    pub to: Floats,
    pub worth: Worth,
}

impl Dequantize {
    pub(super) fn items(&self) -> usize {
        self.input.channels.div_ceil(LANES)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, block: usize) {
        let input = &self.input;
        let (first, channels) = (block * LANES, (input.channels - block * LANES).min(LANES));
        for y in 0..input.height {
            let all = stretch(input, y);
            match &self.to {
                Floats::Blocks(blocks) => {
                    let from = Stretch { at: all.at + first, channels, ..all };
                    let to = blocks.pixel(block, y, 0);
                    arena::dequantize(self.int8, &mut machine.arena, from, to, &self.worth);
                }
                Floats::Planes(at) => {
                    let plane = input.height * input.width;
                    for channel in first..first + channels {
                        let from = Stretch { at: all.at + channel, channels: 1, ..all };
                        let to = at + channel * plane + y * input.width;
                        arena::dequantize_plane(&mut machine.arena, from, to, &self.worth);
                    }
                }
            }
        }
        if let Floats::Blocks(blocks) = &self.to {
            super::clear_halo(machine, blocks, block);
        }
    }
}

/// What is done to each code alone.
pub(in crate::infer::cnn) struct Translate {
    pub int8: &'static Int8,
    pub input: Nhwc,
    pub output: Nhwc,
    pub table: Box<Table>,
}

impl Translate {
    pub(super) fn items(&self) -> usize {
        items(&self.output)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let rows = rows(&self.output, item);
        for y in rows.clone() {
            let (from, to) = (stretch(&self.input, y), stretch(&self.output, y));
            arena::translate(self.int8, &mut machine.arena, from, to, &self.table);
        }
        self.output.fill_border(&mut machine.arena, rows, self.output.zero);
    }
}

/// `a op b`.
pub(in crate::infer::cnn) struct Elementwise {
    pub int8: &'static Int8,
    pub sides: [Nhwc; 2],
    pub output: Nhwc,
    pub how: Int8Binary,
}

impl Elementwise {
    pub(super) fn items(&self) -> usize {
        items(&self.output)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let rows = rows(&self.output, item);
        for y in rows.clone() {
            let sides = [stretch(&self.sides[0], y), stretch(&self.sides[1], y)];
            arena::int8_binary(self.int8, &mut machine.arena, sides, stretch(&self.output, y), &self.how);
        }
        self.output.fill_border(&mut machine.arena, rows, self.output.zero);
    }
}

/// The greatest code of each window.
pub(in crate::infer::cnn) struct MaxPool {
    pub int8: &'static Int8,
    pub window: Window,
    pub input: Nhwc,
    pub output: Nhwc,
}

impl MaxPool {
    pub(super) fn items(&self) -> usize {
        items(&self.output)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let (input, output, window) = (&self.input, &self.output, &self.window);
        let inside = |axis: usize, length: usize, at: usize| {
            let (first, before) = (at * window.stride[axis], window.before[axis]);
            let range = first.saturating_sub(before).min(length)
                ..(first + window.kernel[axis]).saturating_sub(before).min(length);
            if range.is_empty() { 0..0 } else { range }
        };
        let rows = rows(output, item);
        for (y, x) in rows.clone().flat_map(|y| (0..output.width).map(move |x| (y, x))) {
            let to = Stretch { at: output.pixel_at(y, x), pixels: 1, ..stretch(output, y) };
            let mut is_first = true;
            for y in inside(0, input.height, y) {
                for x in inside(1, input.width, x) {
                    let from = Stretch { at: input.pixel_at(y, x), pixels: 1, ..stretch(input, y) };
                    match std::mem::take(&mut is_first) {
                        true => arena::copy_codes(&mut machine.arena, from, to),
                        false => arena::int8_max(self.int8, &mut machine.arena, from, to),
                    }
                }
            }
        }
        output.fill_border(&mut machine.arena, rows, output.zero);
    }
}

/// Nearest resize.
pub(in crate::infer::cnn) struct Resize {
    pub input: Nhwc,
    pub output: Nhwc,
    pub rows: Taps,
    pub columns: Taps,
}

impl Resize {
    pub(super) fn items(&self) -> usize {
        items(&self.output)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let (input, output) = (&self.input, &self.output);
        let rows = rows(output, item);
        for y in rows.clone() {
            let from = self.rows.get(y).map_or(0, |tap| tap.0 as usize);
            for (x, tap) in self.columns.iter().enumerate().take(output.width) {
                let from =
                    Stretch { at: input.pixel_at(from, tap.0 as usize), pixels: 1, ..stretch(input, 0) };
                let to = Stretch { at: output.pixel_at(y, x), pixels: 1, ..stretch(output, y) };
                arena::copy_codes(&mut machine.arena, from, to);
            }
        }
        output.fill_border(&mut machine.arena, rows, output.zero);
    }
}

/// Channels that go to other places: concatenation, slice and shuffle that are no views.
pub(in crate::infer::cnn) struct MoveChannels {
    /// Source, first channel there, first channel of the output, how many.
    pub moves: Vec<(Nhwc, usize, usize, usize)>,
    pub output: Nhwc,
}

impl MoveChannels {
    pub(super) fn items(&self) -> usize {
        items(&self.output)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let rows = rows(&self.output, item);
        for y in rows.clone() {
            for (source, from, to, channels) in &self.moves {
                let (left, right) = (stretch(source, y), stretch(&self.output, y));
                let left = Stretch { at: left.at + from, channels: *channels, ..left };
                let right = Stretch { at: right.at + to, channels: *channels, ..right };
                arena::copy_codes(&mut machine.arena, left, right);
            }
        }
        // pieces that lie in their places have filled their own border: with the same code
        self.output.fill_border(&mut machine.arena, rows, self.output.zero);
    }
}
