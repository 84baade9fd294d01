//! Products of two values that are computed.

use super::Machine;
use super::matrix::{Matrices, Multiplied, Output, Panels, ZEROS, multiply, pack_rows, product_rows, taps};
use crate::infer::cnn::kernels::arena::Weights;
use crate::infer::cnn::kernels::{Activation, Kernels, LANES, Tap};
use crate::infer::cnn::layout::blocks_for;

/// `out[b, c, m, n] = scale · Σk left[b, c, m, k] · right[b, c, k, n]`, ready to run.
pub(in crate::infer::cnn) struct Product {
    left: Matrices,
    right: Matrices,
    out: Matrices,
    batch: [usize; 2],
    rows: usize,
    panels: Panels,
    scale: f32,
    taps: Vec<Tap>,
    band_rows: usize,
    scratch: usize,
}

/// How large a product is.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) struct Size {
    pub batch: [usize; 2],
    pub rows: usize,
    pub depth: usize,
    pub columns: usize,
}

impl Product {
    /// Floats of scratch space for all workers.
    pub(in crate::infer::cnn) fn scratch(size: Size, (kernels, workers): (&Kernels, usize)) -> usize {
        let band = product_rows(kernels, 1, size.rows, size.depth);
        worker_floats(size.depth, size.columns, band) * workers.max(1)
    }

    pub(in crate::infer::cnn) fn new(
        [left, right, out]: [Matrices; 3],
        size: Size,
        scale: f32,
        kernels: &Kernels,
        scratch: usize,
    ) -> Option<Product> {
        let Size { batch, rows, depth, columns } = size;
        let panels = Panels { depth, columns, blocks: kernels.convolutions.blocks };
        let band_rows = product_rows(kernels, 1, rows, depth);
        let taps = taps(depth, band_rows * LANES)?;
        Some(Product { left, right, out, batch, rows, panels, scale, taps, band_rows, scratch })
    }

    /// How many parts threads may take, each one matrix.
    pub(super) fn items(&self) -> usize {
        self.batch[0] * self.batch[1]
    }

    /// Multiplications of one run, for profiles.
    pub(in crate::infer::cnn) fn macs(&self) -> usize {
        self.items() * self.rows * self.panels.depth * self.panels.columns
    }

    /// Multiplies one matrix of the batch.
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let Machine { arena, kernels, worker, .. } = machine;
        let batch = [item / self.batch[1], item % self.batch[1]];
        let Panels { depth, columns, .. } = self.panels;
        let block = self.band_rows * LANES;
        let scratch = self.scratch + *worker * worker_floats(depth, columns, self.band_rows);
        let weights = scratch + blocks_for(depth) * block;
        let spill = weights + self.panels.floats();
        {
            let ([source], [target]) = arena.split([self.right.range()], [weights..spill]);
            let source = source.get(self.right.matrix(batch)..).unwrap_or_default();
            let packed = self.panels.pack(source, [self.right.steps[2], self.right.steps[3]], target);
            debug_assert!(packed.is_some(), "a right side that is too short");
        }
        let [.., row, column] = self.out.steps;
        for start in (0..self.rows).step_by(self.band_rows) {
            let rows = start..(start + self.band_rows).min(self.rows);
            pack_rows(arena, (&self.left, batch), rows.clone(), depth, self.scale, (scratch, block));
            for panel in self.panels.each() {
                let width = panel.blocks * LANES;
                let at = self.out.at + self.out.matrix(batch) + start * row + panel.first * LANES * column;
                let whole = panel.columns(columns) == width && column == 1 && row >= width;
                let output = match whole {
                    true => Output { at, block: LANES, row },
                    false => Output { at: spill, block: LANES, row: width },
                };
                let job = Multiplied {
                    rows: scratch,
                    count: rows.len(),
                    taps: &self.taps,
                    weights: Weights::Made(weights + panel.at, panel.floats),
                    bias: &ZEROS,
                    blocks: panel.blocks,
                    output,
                    activation: Activation::Identity,
                    residual: None,
                };
                multiply(kernels, arena, &job);
                if whole {
                    continue;
                }
                for r in 0..rows.len() {
                    let (from, to) = (spill + r * width, at + r * row);
                    if column == 1 {
                        arena.copy(from..from + panel.columns(columns), to);
                    } else {
                        (0..panel.columns(columns))
                            .for_each(|c| arena.copy(from + c..from + c + 1, to + c * column));
                    }
                }
            }
        }
    }
}

/// A band of packed rows, the packed right side, and what is computed of a panel that is not stored as it is.
fn worker_floats(depth: usize, columns: usize, band_rows: usize) -> usize {
    (blocks_for(depth) + 2) * band_rows * LANES + depth * blocks_for(columns) * LANES
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}x{} by {}", self.items(), self.rows, self.panels.depth, self.panels.columns)
    }
}
