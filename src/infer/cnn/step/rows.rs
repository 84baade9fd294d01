//! What is done row by row: softmax and layer normalisation along the last axis, reductions of it.

use super::Machine;
use crate::infer::cnn::graph::Reduction;
use crate::infer::cnn::kernels::arena;
use std::ops::Range;

/// Floats of an item: enough to be worth a thread's while.
const ITEM_FLOATS: usize = 16 * 1024;

/// Rows of an item.
fn rows_of(item: usize, rows: usize, length: usize) -> Range<usize> {
    let each = (ITEM_FLOATS / length.max(1)).max(1);
    item * each..((item + 1) * each).min(rows)
}

fn items(rows: usize, length: usize) -> usize {
    rows.div_ceil((ITEM_FLOATS / length.max(1)).max(1))
}

/// Softmax of each row of `[rows, length]`.
pub(in crate::infer::cnn) struct Softmax {
    pub from: usize,
    pub to: usize,
    pub rows: usize,
    pub length: usize,
}

impl Softmax {
    pub(super) fn items(&self) -> usize {
        items(self.rows, self.length)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let Machine { arena, kernels, .. } = machine;
        for row in rows_of(item, self.rows, self.length) {
            let (from, to) = (self.from + row * self.length, self.to + row * self.length);
            arena.copy(from..from + self.length, to);
            arena::softmax_row(kernels, arena, to, self.length);
        }
    }
}

/// `(x − mean) / √(variance + epsilon) · scale + bias` of each row of `[rows, length]`.
pub(in crate::infer::cnn) struct Normalize {
    pub from: usize,
    pub to: usize,
    pub rows: usize,
    pub length: usize,
    pub epsilon: f32,
    /// In the plan's weights.
    pub scale: Option<usize>,
    pub bias: Option<usize>,
}

impl Normalize {
    pub(super) fn items(&self) -> usize {
        items(self.rows, self.length)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let Machine { arena, kernels, weights, .. } = machine;
        let numbers = [self.scale, self.bias].map(|at| at.and_then(|at| weights.get(at..at + self.length)));
        for row in rows_of(item, self.rows, self.length) {
            let (from, to) = (self.from + row * self.length, self.to + row * self.length);
            arena::normalize(kernels, arena, (from, to, self.length), self.epsilon, numbers);
        }
    }
}

/// Each row of `[rows, length]` becomes a number.
pub(in crate::infer::cnn) struct Reduce {
    pub from: usize,
    pub to: usize,
    pub rows: usize,
    pub length: usize,
    pub reduction: Reduction,
}

impl Reduce {
    pub(super) fn run(&self, machine: &mut Machine<'_>) {
        let from = self.from..self.from + self.rows * self.length;
        let ([from], [to]) = machine.arena.split([from], [self.to..self.to + self.rows]);
        for (row, to) in from.chunks_exact(self.length.max(1)).zip(to) {
            // several at once, which the compiler makes one vector of
            const SEVERAL: usize = 16;
            let (whole, rest) = row.as_chunks::<SEVERAL>();
            *to = match self.reduction {
                Reduction::Sum => {
                    let mut sums = [0.0; SEVERAL];
                    whole.iter().for_each(|some| sums.iter_mut().zip(some).for_each(|(sum, x)| *sum += x));
                    sums.iter().chain(rest).sum()
                }
                Reduction::Max => {
                    // a NaN stays one
                    let most = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
                    let mut found = [f32::NEG_INFINITY; SEVERAL];
                    whole
                        .iter()
                        .for_each(|some| found.iter_mut().zip(some).for_each(|(a, b)| *a = most(*a, *b)));
                    found
                        .iter()
                        .chain(rest)
                        .copied()
                        .fold(f32::NEG_INFINITY, |a, b| if a.is_nan() { a } else { most(a, b) })
                }
            };
        }
    }
}
