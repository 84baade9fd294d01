//! What decoders work with.

use crate::infer::Run;
use crate::infer::candidate::Candidate;

/// What decoding needs and keeps between frames, so that a frame allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What the family found, above the threshold.
    pub(crate) candidates: Vec<Candidate>,
    /// Best score of each anchor.
    pub(super) best: Vec<f32>,
    /// Class of that score.
    pub(super) class: Vec<u32>,
}

impl Scratch {
    /// Takes a candidate whose numbers are numbers.
    pub(super) fn push(&mut self, candidate: Candidate) {
        if candidate.is_finite() {
            self.candidates.push(candidate);
        }
    }
}

/// The outputs of a run with their shapes.
#[derive(Clone, Copy)]
pub(crate) struct Outputs<'a> {
    /// Dimensions of each output: [`crate::infer::Engine::output_shapes`].
    pub(crate) shapes: &'a [Vec<usize>],
    /// The run that has just ended.
    pub(crate) run: &'a dyn Run,
    /// Width of the engine's input, pixels.
    pub(crate) width: u32,
    /// Height of the engine's input, pixels.
    pub(crate) height: u32,
}

impl<'a> Outputs<'a> {
    /// Output `index` and its shape; empty when there is none.
    pub(super) fn get(&self, index: usize) -> (&'a [f32], &'a [usize]) {
        self.shapes.get(index).map_or((&[], &[]), |shape| (self.run.output(index), shape.as_slice()))
    }

    /// How many of `all` anchors the outputs hold.
    pub(super) fn held(&self, all: usize) -> usize {
        self.run.kept().map_or(all, <[u32]>::len)
    }

    /// The anchors that the outputs hold, in their order: all, or those that the engine kept.
    pub(super) fn anchors(&self) -> impl Iterator<Item = usize> + 'a {
        let kept = self.run.kept();
        let all = if kept.is_some() { 0 } else { usize::MAX };
        kept.unwrap_or_default().iter().map(|anchor| *anchor as usize).chain(0..all)
    }

    /// The rows of output `index`, whose last dimension is one row.
    pub(super) fn rows(&self, index: usize) -> std::slice::ChunksExact<'a, f32> {
        let (values, shape) = self.get(index);
        // A row of nothing: one chunk size is as good as another for no values.
        values.chunks_exact(shape.last().copied().unwrap_or(1).max(1))
    }
}

/// The highest of some scores and its place; the first of equals, as argmax has it. NaN is never the highest.
pub(super) fn best_of(scores: &[f32]) -> Option<(u32, f32)> {
    let mut best = None;
    for (class_id, score) in (0u32..).zip(scores) {
        if !score.is_nan() && best.is_none_or(|(_, highest)| *score > highest) {
            best = Some((class_id, *score));
        }
    }
    best
}

/// A class id that came as a number; `None` for negative ones and for what is no number.
pub(super) fn class_of(value: f32) -> Option<u32> {
    (value >= 0.0 && value <= u32::MAX as f32).then_some(value as u32)
}
