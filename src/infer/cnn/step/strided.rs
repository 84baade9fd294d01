//! Copies between row-major tensors: concatenation, slice, transposition, padding, gather.

use super::{At, Machine};
use crate::infer::cnn::graph::MAX_RANK;

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
    /// Floats that source and target span, from their first element.
    pub spans: [usize; 2],
    /// The way through source and target.
    pub walk: Walk<2>,
    /// The target is filled with this first (padding): start and value; `spans[1]` counts from there too.
    pub fill: Option<(usize, usize, f32)>,
}

impl Copy {
    pub(super) fn run(&self, machine: &mut Machine<'_>) {
        if let Some((at, floats, value)) = self.fill {
            machine.arena.write(at..at + floats).fill(value);
        }
        let (from, to) = (self.from.arena(self.spans[0]), self.to..self.to + self.spans[1]);
        let ([source], [target]) = machine.arena.split([from], [to]);
        let source = self.from.values(source, machine.weights, self.spans[0]);
        self.walk.runs(|[from, to], length, [from_step, to_step]| {
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

/// Floats that a strided tensor spans.
pub(in crate::infer::cnn) fn span(dims: &[usize], strides: &[usize]) -> usize {
    if dims.contains(&0) {
        return 0;
    }
    1 + dims.iter().zip(strides).map(|(d, s)| (d - 1) * s).sum::<usize>()
}
