//! Arithmetic on row-major tensors: mostly the tails of detection heads.

use super::codes::{Floats, fitting, stretches};
use super::strided::Walk;
use super::{At, Machine, clear_halo, part_of};
use crate::infer::cnn::kernels::arena;
use crate::infer::cnn::kernels::{Activation, Binary, LANES, Levels};

/// Floats of an item, a multiple of [`LANES`]: handing one over takes some microseconds less. Tests cut the small
/// tensors of random graphs.
const PART: usize = if cfg!(test) { 4 * LANES } else { 16 * 1024 };
/// Most items of what is cut otherwise: two for each thread of a run.
const MOST_ITEMS: usize = 16;

/// An activation over a whole tensor.
pub(in crate::infer::cnn) struct Activate {
    pub from: usize,
    pub to: usize,
    pub floats: usize,
    pub activation: Activation,
    /// [`LANES`] floats for the last, incomplete vector.
    pub scratch: usize,
}

impl Activate {
    pub(super) fn items(&self) -> usize {
        self.floats.div_ceil(PART).max(1)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let Machine { arena, kernels, .. } = machine;
        let whole = self.floats / LANES * LANES;
        let (first, end) = ((item * PART).min(whole), ((item + 1) * PART).min(whole));
        let (from, to) = (self.from + first, self.to + first);
        arena::activate(&kernels.pictures, arena, from, to, end - first, self.activation);
        let rest = self.floats - whole;
        if rest > 0 && item + 1 == self.items() {
            arena.copy(self.from + whole..self.from + self.floats, self.scratch);
            arena::activate(&kernels.pictures, arena, self.scratch, self.scratch, LANES, self.activation);
            arena.copy(self.scratch..self.scratch + rest, self.to + whole);
        }
    }
}

/// `a op b` with numpy's broadcasting.
pub(in crate::infer::cnn) struct Elementwise {
    pub op: Binary,
    pub sides: [At; 2],
    pub to: usize,
    /// The two sides and the output.
    pub walk: Walk<3>,
}

impl Elementwise {
    pub(super) fn items(&self) -> usize {
        self.walk.parts(2)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let (walk, [x, y, to]) = self.walk.part(item, self.items());
        let (left, right, to) = (self.sides[0].behind(x), self.sides[1].behind(y), self.to + to);
        let [left_span, right_span, floats] = [walk.span(0), walk.span(1), walk.span(2)];
        let reads = [left.arena(left_span), right.arena(right_span)];
        let ([a, b], [target]) = machine.arena.split(reads, [to..to + floats]);
        let (a, b) =
            (left.values(a, machine.weights, left_span), right.values(b, machine.weights, right_span));
        walk.runs(|[x, y, to], length, [step_a, step_b, step]| {
            macro_rules! each {
                (|$x:ident, $y:ident| $result:expr) => {
                    match (step_a, step_b, step) {
                        // the common cases as plain loops, which the compiler turns into vector instructions
                        (1, 1, 1) => {
                            let sides = a[x..x + length].iter().zip(&b[y..y + length]);
                            target[to..to + length]
                                .iter_mut()
                                .zip(sides)
                                .for_each(|(t, (&$x, &$y))| *t = $result);
                        }
                        (1, 0, 1) => {
                            let $y = b[y];
                            target[to..to + length]
                                .iter_mut()
                                .zip(&a[x..x + length])
                                .for_each(|(t, &$x)| *t = $result);
                        }
                        (0, 1, 1) => {
                            let $x = a[x];
                            target[to..to + length]
                                .iter_mut()
                                .zip(&b[y..y + length])
                                .for_each(|(t, &$y)| *t = $result);
                        }
                        _ => {
                            for i in 0..length {
                                let ($x, $y) = (a[x + i * step_a], b[y + i * step_b]);
                                target[to + i * step] = $result;
                            }
                        }
                    }
                };
            }
            match self.op {
                Binary::Add => each!(|x, y| x + y),
                Binary::Sub => each!(|x, y| x - y),
                Binary::Mul => each!(|x, y| x * y),
                Binary::Div => each!(|x, y| x / y),
                Binary::Max => each!(|x, y| if x > y { x } else { y }),
                Binary::Min => each!(|x, y| if x < y { x } else { y }),
            }
        });
    }
}

/// Softmax along one axis of `[outer, length, inner]`, in place on a copy.
pub(in crate::infer::cnn) struct Softmax {
    pub from: usize,
    pub to: usize,
    pub outer: usize,
    pub length: usize,
    pub inner: usize,
    /// `length · LANES` floats for each worker.
    pub scratch: usize,
}

impl Softmax {
    /// Vectors of columns, where these are what is cut.
    fn columns(&self) -> Option<usize> {
        (self.outer == 1 && self.inner.is_multiple_of(LANES)).then_some(self.inner / LANES)
    }

    pub(super) fn items(&self) -> usize {
        let floats = self.outer * self.length * self.inner;
        let most = self.columns().unwrap_or(self.outer);
        floats.div_ceil(PART).clamp(1, MOST_ITEMS).min(most.max(1))
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let Machine { arena, kernels, worker, .. } = machine;
        let (length, inner) = (self.length, self.inner);
        if let Some(columns) = self.columns() {
            let columns = part_of(columns, item, self.items());
            let (first, end) = (columns.start * LANES, columns.end * LANES);
            for row in (0..length).map(|i| i * inner) {
                arena.copy(self.from + row + first..self.from + row + end, self.to + row + first);
            }
            for column in (first..end).step_by(LANES) {
                arena::softmax(kernels, arena, self.to + column, length, inner);
            }
            return;
        }
        let outer = part_of(self.outer, item, self.items());
        let (first, outer) = (outer.start * length * inner, outer.len());
        let (from, to) = (self.from + first, self.to + first);
        let scratch = self.scratch + *worker * length * LANES;
        let floats = outer * length * inner;
        arena.copy(from..from + floats, to);
        let whole = inner / LANES * LANES;
        for outer in 0..outer {
            for column in (0..whole).step_by(LANES) {
                arena::softmax(kernels, arena, to + outer * length * inner + column, length, inner);
            }
        }
        // columns that do not fill a vector are collected: across `outer` too, for the last axis has only one
        // column each
        let rest = inner - whole;
        let all = outer * rest;
        let place = |index: usize| to + index / rest * length * inner + whole + index % rest;
        for first in (0..all).step_by(LANES) {
            let columns = LANES.min(all - first);
            let ranges = || [scratch..scratch + length * LANES, to..to + floats];
            let ([], [room, tensor]) = arena.split([], ranges());
            for lane in 0..columns {
                let start = place(first + lane) - to;
                for i in 0..length {
                    room[i * LANES + lane] = tensor[start + i * inner];
                }
            }
            arena::softmax(kernels, arena, scratch, length, LANES);
            let ([], [room, tensor]) = arena.split([], ranges());
            for lane in 0..columns {
                let start = place(first + lane) - to;
                for i in 0..length {
                    tensor[start + i * inner] = room[i * LANES + lane];
                }
            }
        }
    }
}

/// `out[m, n] = Σk in[m, k] · weights[k, n]`.
pub(in crate::infer::cnn) struct MatMul {
    pub from: usize,
    pub to: usize,
    pub m: usize,
    pub k: usize,
    pub n: usize,
    /// Row-major, in the plan's weights.
    pub weights: usize,
}

impl MatMul {
    pub(super) fn items(&self) -> usize {
        (self.m * self.k).div_ceil(PART).clamp(1, MOST_ITEMS).min(self.m.max(1))
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let rows = part_of(self.m, item, self.items());
        let from = self.from + rows.start * self.k..self.from + rows.end * self.k;
        let to = self.to + rows.start * self.n..self.to + rows.end * self.n;
        let ([source], [target]) = machine.arena.split([from], [to]);
        let Some(weights) = machine.weights.get(self.weights..self.weights + self.k * self.n) else { return };
        for (row, out) in source.chunks_exact(self.k).zip(target.chunks_exact_mut(self.n)) {
            out.fill(0.0);
            for (x, weights) in row.iter().zip(weights.chunks_exact(self.n)) {
                out.iter_mut().zip(weights).for_each(|(o, w)| *o += x * w);
            }
        }
    }
}

/// The greatest of 8-bit codes.
const TOP: f32 = 255.0;

/// To 8 bits and back, with a scale that fits the numbers that there are.
pub(in crate::infer::cnn) struct DynamicQuantize {
    pub from: Floats,
    pub to: Floats,
    /// Numbers, where they are row-major.
    pub floats: usize,
}

impl DynamicQuantize {
    pub(super) fn run(&self, machine: &mut Machine<'_>) {
        let mut range = [0.0f32, 0.0f32];
        stretches(&self.from, &self.to, self.floats, &mut |from, _, floats| {
            range = arena::range(machine.kernels, &machine.arena, from..from + floats, range);
        });
        let levels = fitting(range);
        let (scale, low) = (levels.scale, -levels.zero);
        let quantized = Activation::Quantized(Levels { scale, low, high: low + TOP, step: scale });
        stretches(&self.from, &self.to, self.floats, &mut |from, to, floats| {
            let whole = floats / LANES * LANES;
            arena::activate(&machine.kernels.pictures, &mut machine.arena, from, to, whole, quantized);
            let (from, to) = (from + whole..from + floats, to + whole..to + floats);
            let ([from], [to]) = machine.arena.split([from], [to]);
            to.iter_mut().zip(from).for_each(|(to, number)| *to = levels.quantized(*number));
        });
        if let Floats::Blocks(blocks) = &self.to {
            let last = blocks.count() - 1;
            let lanes = blocks.channels - last * LANES;
            for (y, x) in (0..blocks.height).flat_map(|y| (0..blocks.width).map(move |x| (y, x))) {
                let at = blocks.pixel(last, y, x);
                machine.arena.write(at + lanes..at + LANES).fill(0.0);
            }
            (0..blocks.count()).for_each(|block| clear_halo(machine, blocks, block));
        }
    }
}
