//! Attention: two products with a softmax between them, some rows at a time, so that the scores of all rows
//! are never there together.

use super::matrix::{Matrices, Multiplied, Output, Panels, ZEROS, band_rows, multiply, pack_rows, taps};
use super::{At, Machine, part_of};
use crate::infer::cnn::kernels::arena::{Weights, attend};
use crate::infer::cnn::kernels::{Activation, Kernels, LANES, Tap};
use crate::infer::cnn::layout::blocks_for;
use std::ops::Range;

/// Floats of scores that are computed together: they stay in the second-level cache, beside keys and values.
const SCORES_FLOATS: usize = 96 * 1024;

/// How large an attention is.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) struct Size {
    pub batch: [usize; 2],
    pub rows: usize,
    pub keys: usize,
    /// Columns of queries and keys.
    pub depth: usize,
    /// Columns of the values, and so of the result.
    pub columns: usize,
}

/// Numbers that are added to the scores.
#[derive(Debug, Clone, Copy)]
pub(in crate::infer::cnn) struct Mask {
    pub from: At,
    /// How many there are.
    pub floats: usize,
    /// Floats from one to the next along the batch, rows and keys; 0 where one serves for all.
    pub steps: [usize; 4],
}

/// Attention, ready to run.
pub(in crate::infer::cnn) struct Attention {
    query: Matrices,
    key: Matrices,
    value: Matrices,
    out: Matrices,
    masks: Vec<Mask>,
    size: Size,
    scale: f32,
    /// Rows of each matrix are cut into so many items.
    parts: usize,
    scratch: usize,
    layout: Layout,
    keys: Panels,
    values: Panels,
    key_taps: Vec<Tap>,
    value_taps: Vec<Tap>,
}

/// A worker's scratch space: offsets from its start.
#[derive(Debug, Clone, Copy)]
struct Layout {
    band_rows: usize,
    keys: usize,
    values: usize,
    queries: usize,
    scores: usize,
    made: usize,
    sums: usize,
    floats: usize,
}

impl Layout {
    fn new(size: Size, kernels: &Kernels) -> Layout {
        let band_rows = band_rows(kernels, 1, size.rows, size.keys.next_multiple_of(LANES), SCORES_FLOATS);
        let mut end = 0;
        let mut take = |floats: usize| {
            let at = end;
            end += floats.next_multiple_of(LANES);
            at
        };
        let block = band_rows * LANES;
        Layout {
            band_rows,
            keys: take(size.depth * blocks_for(size.keys) * LANES),
            values: take(size.keys * blocks_for(size.columns) * LANES),
            queries: take(blocks_for(size.depth) * block),
            scores: take(blocks_for(size.keys) * score_block(band_rows)),
            made: take(blocks_for(size.columns) * block),
            sums: take(band_rows),
            floats: end,
        }
    }
}

/// Floats from one block of scores to the next: not a power of two, or a row's blocks would displace each
/// other from the cache.
fn score_block(band_rows: usize) -> usize {
    (band_rows | 1) * LANES
}

impl Attention {
    /// Floats of scratch space for all workers.
    pub(in crate::infer::cnn) fn scratch(size: Size, (kernels, workers): (&Kernels, usize)) -> usize {
        Layout::new(size, kernels).floats * workers.max(1)
    }

    pub(in crate::infer::cnn) fn new(
        [query, key, value, out]: [Matrices; 4],
        masks: Vec<Mask>,
        size: Size,
        scale: f32,
        (kernels, workers): (&Kernels, usize),
        scratch: usize,
    ) -> Option<Attention> {
        let layout = Layout::new(size, kernels);
        let blocks = kernels.convolutions.blocks;
        let bands = size.rows.div_ceil(layout.band_rows);
        // each part packs keys and values again: no more of them than the workers need
        let parts =
            if workers < 2 { 1 } else { (2 * workers).div_ceil(size.batch[0] * size.batch[1]).min(bands) };
        Some(Attention {
            query,
            key,
            value,
            out,
            masks,
            size,
            scale,
            parts,
            scratch,
            layout,
            keys: Panels { depth: size.depth, columns: size.keys, blocks },
            values: Panels { depth: size.keys, columns: size.columns, blocks },
            key_taps: taps(size.depth, layout.band_rows * LANES)?,
            value_taps: taps(size.keys, score_block(layout.band_rows))?,
        })
    }

    /// Parts of the rows of all matrices.
    pub(super) fn items(&self) -> usize {
        self.size.batch[0] * self.size.batch[1] * self.parts
    }

    /// Multiplications of one run, for profiles.
    pub(in crate::infer::cnn) fn macs(&self) -> usize {
        let Size { batch, rows, keys, depth, columns } = self.size;
        batch[0] * batch[1] * rows * keys * (depth + columns)
    }

    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let (matrix, part) = (item / self.parts, item % self.parts);
        let batch = [matrix / self.size.batch[1], matrix % self.size.batch[1]];
        let Layout { band_rows, keys, values, .. } = self.layout;
        let scratch = self.scratch + machine.worker * self.layout.floats;
        let mut pack = |from: &Matrices, steps: [usize; 2], panels: Panels, to: usize| {
            let ([source], [target]) = machine.arena.split([from.range()], [to..to + panels.floats()]);
            let packed = panels.pack(source.get(from.matrix(batch)..).unwrap_or_default(), steps, target);
            debug_assert!(packed.is_some(), "a matrix that is too short");
        };
        // the keys are the rows of their matrix, and the columns of the product
        pack(&self.key, [self.key.steps[3], self.key.steps[2]], self.keys, scratch + keys);
        pack(&self.value, [self.value.steps[2], self.value.steps[3]], self.values, scratch + values);
        let bands = self.size.rows.div_ceil(band_rows);
        for band in part_of(bands, part, self.parts) {
            self.band(machine, batch, scratch, band);
        }
    }

    fn band(&self, machine: &mut Machine<'_>, batch: [usize; 2], scratch: usize, band: usize) {
        let Machine { arena, kernels, weights, .. } = machine;
        let Layout { band_rows, keys, values, queries, scores, made, sums, .. } = self.layout;
        let rows = band * band_rows..((band + 1) * band_rows).min(self.size.rows);
        let (block, score_block) = (band_rows * LANES, score_block(band_rows));
        pack_rows(
            arena,
            (&self.query, batch),
            rows.clone(),
            self.size.depth,
            self.scale,
            (scratch + queries, block),
        );
        for panel in self.keys.each() {
            let job = Multiplied {
                rows: scratch + queries,
                count: rows.len(),
                taps: &self.key_taps,
                weights: Weights::Made(scratch + keys + panel.at, panel.floats),
                bias: &ZEROS,
                blocks: panel.blocks,
                output: Output {
                    at: scratch + scores + panel.first * score_block,
                    block: score_block,
                    row: LANES,
                },
                activation: Activation::Identity,
                residual: None,
            };
            multiply(kernels, arena, &job);
        }
        for mask in &self.masks {
            let target = scratch + scores..scratch + scores + blocks_for(self.size.keys) * score_block;
            let (source, target) = match mask.from {
                At::Arena(at) => {
                    let ([source], [target]) = arena.split([at..at + mask.floats], [target]);
                    (source, target)
                }
                At::Weights(at) => {
                    let ([], [target]) = arena.split([], [target]);
                    (weights.get(at..at + mask.floats).unwrap_or_default(), target)
                }
            };
            mask.add(source, (batch, rows.clone(), self.size.keys), (target, score_block));
        }
        attend(kernels, arena, (scratch + scores, score_block, scratch + sums), rows.len(), self.size.keys);
        for panel in self.values.each() {
            let job = Multiplied {
                rows: scratch + scores,
                count: rows.len(),
                taps: &self.value_taps,
                weights: Weights::Made(scratch + values + panel.at, panel.floats),
                bias: &ZEROS,
                blocks: panel.blocks,
                output: Output { at: scratch + made + panel.first * block, block, row: LANES },
                activation: Activation::Identity,
                residual: None,
            };
            multiply(kernels, arena, &job);
        }
        let [.., row, column] = self.out.steps;
        let columns = self.size.columns;
        let reads = [
            scratch + made..scratch + made + blocks_for(columns) * block,
            scratch + sums..scratch + sums + rows.len(),
        ];
        for (r, row_index) in rows.enumerate() {
            let at = self.out.at + self.out.matrix(batch) + row_index * row;
            if column != 1 {
                for c in 0..columns {
                    let ([made, sums], [to]) =
                        arena.split(reads.clone(), [at + c * column..at + c * column + 1]);
                    to.fill(made[c / LANES * block + r * LANES + c % LANES] / sums[r]);
                }
                continue;
            }
            let ([made, sums], [to]) = arena.split(reads.clone(), [at..at + columns]);
            let share = 1.0 / sums[r];
            for (b, to) in to.chunks_mut(LANES).enumerate() {
                let from = &made[b * block + r * LANES..];
                to.iter_mut().zip(from).for_each(|(to, value)| *to = value * share);
            }
        }
    }
}

impl Mask {
    /// Adds the numbers of some rows to scores in blocks of keys, `block` floats each.
    fn add(
        &self,
        source: &[f32],
        (batch, rows, keys): ([usize; 2], Range<usize>, usize),
        (scores, block): (&mut [f32], usize),
    ) {
        let [outer, inner, row, key] = self.steps;
        for (r, index) in rows.enumerate() {
            let source = source.get(batch[0] * outer + batch[1] * inner + index * row..).unwrap_or_default();
            for (b, first) in (0..keys).step_by(LANES).enumerate() {
                let at = b * block + r * LANES;
                let scores = scores.get_mut(at..at + LANES.min(keys - first)).unwrap_or_default();
                let numbers = source.get(first * key..).unwrap_or_default();
                match key {
                    0 => scores.iter_mut().for_each(|score| *score += numbers.first().unwrap_or(&0.0)),
                    1 => scores.iter_mut().zip(numbers).for_each(|(score, number)| *score += number),
                    _ => {
                        let numbers = numbers.iter().step_by(key);
                        scores.iter_mut().zip(numbers).for_each(|(score, number)| *score += number);
                    }
                }
            }
        }
    }
}

impl std::fmt::Display for Attention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Size { batch, rows, keys, depth, .. } = self.size;
        write!(f, "{} of {rows}x{depth} over {keys}", batch[0] * batch[1])
    }
}
