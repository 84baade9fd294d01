//! Copies between row-major tensors: concatenation, slice, transposition, padding, gather.

use super::{At, Machine, part_of};
use crate::infer::cnn::graph::MAX_RANK;

/// Most parts that a walk is cut into: two for each thread of a run.
const MOST_PARTS: usize = 16;
/// Fewest elements of a walk that is cut: copying them takes as long as handing over a part. Tests cut the small
/// tensors of random graphs.
const FEWEST_FLOATS: usize = if cfg!(test) { 64 } else { 8192 };

/// A walk over the elements of a tensor that lie at different distances in several others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::infer::cnn) struct Walk<const N: usize> {
    rank: usize,
    dims: [usize; MAX_RANK],
    /// Distance in floats from one index to the next, for each tensor.
    strides: [[usize; N]; MAX_RANK],
}

impl<const N: usize> Walk<N> {
    /// Joins neighbouring dimensions that lie together in every tensor, and drops those of length 1.
    pub(in crate::infer::cnn) fn new(dims: &[usize], strides: &[[usize; N]]) -> Walk<N> {
        let mut walk = Walk { rank: 0, dims: [1; MAX_RANK], strides: [[0; N]; MAX_RANK] };
        for (&dim, &stride) in dims.iter().zip(strides).filter(|(d, _)| **d != 1) {
            let outer = walk.rank.checked_sub(1);
            let joined = outer.filter(|&o| (0..N).all(|n| walk.strides[o][n] == dim * stride[n]));
            if let Some(outer) = joined {
                walk.dims[outer] *= dim;
                walk.strides[outer] = stride;
            } else if walk.rank < MAX_RANK {
                walk.dims[walk.rank] = dim;
                walk.strides[walk.rank] = stride;
                walk.rank += 1;
            }
        }
        if walk.rank == 0 {
            walk.rank = 1;
            walk.dims[0] = dims.iter().product();
        }
        walk
    }

    /// Into how many parts along its outermost axis it may be cut, so that tensor `written` is written in disjoint
    /// stretches.
    pub(in crate::infer::cnn) fn parts(&self, written: usize) -> usize {
        let floats: usize = self.dims[..self.rank].iter().product();
        let inner = self.span_of(1, written);
        match floats >= FEWEST_FLOATS && self.strides[0][written] >= inner {
            true => self.dims[0].min(MOST_PARTS),
            false => 1,
        }
    }

    /// One of so many parts, and where it begins in each tensor.
    pub(in crate::infer::cnn) fn part(&self, part: usize, parts: usize) -> (Walk<N>, [usize; N]) {
        let rows = part_of(self.dims[0], part, parts);
        let mut walk = *self;
        walk.dims[0] = rows.len();
        (walk, self.strides[0].map(|stride| rows.start * stride))
    }

    /// Floats of a tensor from the first to the last that it visits.
    pub(in crate::infer::cnn) fn span(&self, tensor: usize) -> usize {
        self.span_of(0, tensor)
    }

    /// The same of what lies within one index of the axes before `axis`.
    fn span_of(&self, axis: usize, tensor: usize) -> usize {
        let axes = self.dims[..self.rank].iter().zip(&self.strides).skip(axis);
        axes.map(|(dim, stride)| dim.saturating_sub(1) * stride[tensor]).sum::<usize>() + 1
    }

    /// Calls `f` for each innermost run with the offsets of its start, its length and its strides.
    pub(in crate::infer::cnn) fn runs(&self, mut f: impl FnMut([usize; N], usize, [usize; N])) {
        let inner = self.rank - 1;
        let outer: usize = self.dims[..inner].iter().product();
        let mut index = [0; MAX_RANK];
        for _ in 0..outer {
            let mut start = [0; N];
            for (i, strides) in index[..inner].iter().zip(&self.strides) {
                start.iter_mut().zip(strides).for_each(|(s, stride)| *s += i * stride);
            }
            f(start, self.dims[inner], self.strides[inner]);
            for axis in (0..inner).rev() {
                index[axis] += 1;
                if index[axis] < self.dims[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }
}

impl Walk<2> {
    /// Of a transposition of the first tensor, whose columns are the second's rows: rows and columns of the second, and the
    /// distances of the first's rows and of the second's.
    fn transposed(&self) -> Option<[usize; 4]> {
        match (self.rank, self.strides) {
            (2, [[1, target_row], [source_row, 1], ..]) => {
                Some([self.dims[0], self.dims[1], source_row, target_row])
            }
            _ => None,
        }
    }
}

/// Rows that a transposition writes together: what it reads of them lies in one cache line.
const TRANSPOSED_ROWS: usize = 16;

/// `target[row][column] = source[column][row]`.
fn transpose(
    source: &[f32],
    target: &mut [f32],
    [rows, columns]: [usize; 2],
    [source_row, target_row]: [usize; 2],
) {
    for first in (0..rows).step_by(TRANSPOSED_ROWS) {
        let together = TRANSPOSED_ROWS.min(rows - first);
        for column in 0..columns {
            let from = column * source_row + first;
            let numbers = &source[from..from + together];
            let places = target[first * target_row + column..].iter_mut().step_by(target_row.max(1));
            places.zip(numbers).for_each(|(to, number)| *to = *number);
        }
    }
}

/// Distances between neighbours along each axis of a row-major tensor.
pub(in crate::infer::cnn) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Copies elements from one place to another.
#[derive(Debug)]
pub(in crate::infer::cnn) struct Copy {
    /// Where the first element is read.
    pub from: At,
    pub to: usize,
    /// The way through source and target.
    pub walk: Walk<2>,
    /// The target is filled with this first (padding): start, floats and value.
    pub fill: Option<(usize, usize, f32)>,
}

impl Copy {
    pub(super) fn items(&self) -> usize {
        // what is filled first is filled once
        if self.fill.is_some() { 1 } else { self.walk.parts(1) }
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        if let Some((at, floats, value)) = self.fill {
            machine.arena.write(at..at + floats).fill(value);
        }
        let (walk, [from, to]) = self.walk.part(item, self.items());
        let (from, to, spans) = (self.from.behind(from), self.to + to, [walk.span(0), walk.span(1)]);
        let ([source], [target]) = machine.arena.split([from.arena(spans[0])], [to..to + spans[1]]);
        let source = from.values(source, machine.weights, spans[0]);
        if let Some([rows, columns, source_row, target_row]) = walk.transposed() {
            return transpose(source, target, [rows, columns], [source_row, target_row]);
        }
        walk.runs(|[from, to], length, [from_step, to_step]| {
            if (from_step, to_step) == (1, 1) {
                target[to..to + length].copy_from_slice(&source[from..from + length]);
                return;
            }
            for i in 0..length {
                target[to + i * to_step] = source[from + i * from_step];
            }
        });
    }
}
