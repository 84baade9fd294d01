//! Products with constant weights: the dense layers of transformers.

use super::Machine;
use super::matrix::{Matrices, Multiplied, Output, Panel, Panels, multiply, pack_rows, product_rows, taps};
use crate::infer::cnn::graph;
use crate::infer::cnn::kernels::arena::Weights;
use crate::infer::cnn::kernels::{Activation, Kernels, LANES, Residual, Tap};
use crate::infer::cnn::layout::blocks_for;
use crate::infer::cnn::packer::Packer;

/// `out[m, n] = act(Σk in[m, k] · weights[k, n] + bias[n])`, ready to run.
pub(in crate::infer::cnn) struct Linear {
    from: Matrices,
    to: usize,
    rows: usize,
    panels: Panels,
    /// In the plan's weights, as the bias is.
    weights: usize,
    bias: usize,
    taps: Vec<Tap>,
    activation: Activation,
    residual: Option<(usize, Residual)>,
    band_rows: usize,
    /// Every worker has [`Linear::worker_floats`] of it.
    scratch: usize,
}

/// Operands of a [`Linear`]: where the input and the output begin, rows, and the shortcut.
pub(in crate::infer::cnn) struct Operands {
    pub from: usize,
    pub to: usize,
    pub rows: usize,
    pub residual: Option<usize>,
    pub scratch: usize,
}

impl Linear {
    /// Floats of scratch space for all workers.
    pub(in crate::infer::cnn) fn scratch(
        linear: &graph::Linear,
        rows: usize,
        (kernels, workers): (&Kernels, usize),
    ) -> usize {
        let Some([depth, _]) = linear.size() else { return 0 };
        worker_floats(depth, product_rows(kernels, workers, rows, depth)) * workers.max(1)
    }

    /// Packs the weights. `bias`: as many numbers as there are columns.
    pub(in crate::infer::cnn) fn new(
        linear: &graph::Linear,
        operands: &Operands,
        bias: Option<&[f32]>,
        (kernels, workers): (&Kernels, usize),
        packer: &mut Packer<'_>,
    ) -> Option<Linear> {
        let [depth, columns] = linear.size()?;
        let &Operands { from, to, rows, scratch, .. } = operands;
        let residual = match (linear.residual, operands.residual) {
            // the kernel would read the shortcut beyond its end
            (Some(_), _) if columns % LANES != 0 => return None,
            (Some(order), at) => Some((at?, order)),
            (None, _) => None,
        };
        let panels = Panels { depth, columns, blocks: kernels.conv_blocks };
        let weights = packer.take(panels.floats(), |room| {
            pack(linear, panels, room)?;
            if !linear.scale.is_empty() {
                panels.scale(&linear.scale, room);
            }
            Some(())
        })?;
        let bias = packer.take(blocks_for(columns) * LANES, |room| {
            let scale = linear.scale.iter().copied().chain(std::iter::repeat(1.0));
            room.iter_mut()
                .zip(bias.unwrap_or_default())
                .zip(scale)
                .for_each(|((to, bias), scale)| *to = bias * scale);
            Some(())
        })?;
        let band_rows = product_rows(kernels, workers, rows, depth);
        Some(Linear {
            from: Matrices { at: from, span: rows * depth, steps: [0, 0, depth, 1] },
            to,
            rows,
            panels,
            weights,
            bias,
            taps: taps(depth, band_rows * LANES)?,
            activation: linear.activation,
            residual,
            band_rows,
            scratch,
        })
    }

    /// How many parts threads may take, each a band of rows.
    pub(super) fn items(&self) -> usize {
        self.rows.div_ceil(self.band_rows.max(1))
    }

    /// Multiplications of one run, for profiles.
    pub(in crate::infer::cnn) fn macs(&self) -> usize {
        self.rows * self.panels.depth * self.panels.columns
    }

    /// One band of rows, all columns.
    pub(super) fn run(&self, machine: &mut Machine<'_>, band: usize) {
        let rows = band * self.band_rows..((band + 1) * self.band_rows).min(self.rows);
        let Panels { depth, columns, .. } = self.panels;
        let scratch = self.scratch + machine.worker * worker_floats(depth, self.band_rows);
        let spill = scratch + blocks_for(depth) * self.band_rows * LANES;
        pack_rows(
            &mut machine.arena,
            (&self.from, [0, 0]),
            rows.clone(),
            depth,
            1.0,
            (scratch, self.band_rows * LANES),
        );
        for panel in self.panels.each() {
            let width = panel.blocks * LANES;
            let whole = panel.columns(columns) == width;
            let place = |at: usize| at + rows.start * columns + panel.first * LANES;
            let output = match whole {
                true => Output { at: place(self.to), block: LANES, row: columns },
                false => Output { at: spill, block: LANES, row: width },
            };
            let bias = self.bias + panel.first * LANES;
            let job = Multiplied {
                rows: scratch,
                count: rows.len(),
                taps: &self.taps,
                weights: Weights::Packed(
                    &machine.weights[self.weights + panel.at..self.weights + panel.at + panel.floats],
                ),
                bias: &machine.weights[bias..bias + width],
                blocks: panel.blocks,
                output,
                activation: self.activation,
                residual: self.residual.map(|(at, order)| (place(at), order)),
            };
            multiply(machine.kernels, &mut machine.arena, &job);
            if !whole {
                for r in 0..rows.len() {
                    let from = spill + r * width;
                    machine.arena.copy(from..from + panel.columns(columns), place(self.to) + r * columns);
                }
            }
        }
    }
}

/// Floats of weights that are read and packed together: a megabyte.
const PIECE_FLOATS: usize = 256 * 1024;

/// Lays the weights into panels, piece by piece: all of them may take most of a model's memory.
fn pack(linear: &graph::Linear, panels: Panels, room: &mut [f32]) -> Option<()> {
    let Panels { depth, columns, .. } = panels;
    let part = |panel: &Panel, depth: usize| Panels { depth, columns: panel.columns(columns), ..panels };
    if linear.transposed {
        for panel in panels.each() {
            let first = panel.first * LANES * depth;
            let rows = linear.weights.floats_in(first..first + panel.columns(columns) * depth)?;
            let room = room.get_mut(panel.at..panel.at + panel.floats)?;
            part(&panel, depth).pack(&rows, [1, depth], room)?;
        }
        return Some(());
    }
    let together = (PIECE_FLOATS / columns.max(1)).max(1);
    for first in (0..depth).step_by(together) {
        let count = together.min(depth - first);
        let rows = linear.weights.floats_in(first * columns..(first + count) * columns)?;
        for panel in panels.each() {
            let (width, from) = (panel.blocks * LANES, rows.get(panel.first * LANES..)?);
            let room = room.get_mut(panel.at + first * width..panel.at + (first + count) * width)?;
            part(&panel, count).pack(from, [columns, 1], room)?;
        }
    }
    Some(())
}

/// A band of packed rows, and what is computed of the last panel where columns do not fill it.
fn worker_floats(depth: usize, band_rows: usize) -> usize {
    (blocks_for(depth) + 2) * band_rows * LANES
}

impl std::fmt::Display for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{} by {}", self.rows, self.panels.depth, self.panels.columns)
    }
}
