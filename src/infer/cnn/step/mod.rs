//! The steps of a plan. A step is cut into items that touch disjoint parts of its output, so that several
//! threads may work on it; one thread alone does them in order.

pub(super) mod attention;
pub(super) mod codes;
pub(super) mod conv;
pub(super) mod half;
pub(super) mod int8;
pub(super) mod linear;
mod matrix;
pub(super) mod picture;
pub(super) mod plain;
pub(super) mod product;
pub(super) mod rows;
pub(super) mod sample;
pub(super) mod strided;
pub(super) mod winograd;

use super::foreign::Foreign;
use super::kernels::Kernels;
use super::kernels::arena::Part;
use super::storage::PIXELS_FLOATS;
pub(super) use matrix::Matrices;
use std::ops::Range;

/// Part `part` of `length` things that are cut into so many as equal parts as may be.
fn part_of(length: usize, part: usize, parts: usize) -> Range<usize> {
    let at = |part: usize| part * length / parts.max(1);
    at(part)..at(part + 1)
}

/// What an item of a step works on.
pub(super) struct Machine<'a> {
    pub kernels: &'static Kernels,
    pub arena: Part<'a>,
    /// Packed weights and constants of the whole plan.
    pub weights: &'a [f32],
    /// Which of the threads that work on this run it is: picks its part of the scratch space.
    pub worker: usize,
}

impl Machine<'_> {
    /// A row of the model's input, `from` numbers behind its start at `input`, to `to`: `pixels` says whether they are
    /// bytes of plane `plane` ([`super::storage::Storage::pixels`]); `None`: this is another picture.
    fn input_row(
        &mut self,
        (input, from): (usize, usize),
        to: Range<usize>,
        pixels: Option<usize>,
        plane: usize,
    ) {
        let told = pixels.map(|at| self.arena.read(at..at + PIXELS_FLOATS));
        let worth = told
            .filter(|told| told.first() != Some(&0.0))
            .and_then(|told| told.get(1 + 2 * plane..3 + 2 * plane));
        match worth {
            Some(&[factor, offset]) => {
                self.arena.widen_bytes(input * size_of::<f32>() + from, to, (factor, offset));
            }
            _ => self.arena.copy(input + from..input + from + to.len(), to.start),
        }
    }
}

/// One step of a plan: what it reads, computes and writes is laid down.
pub(super) enum Step {
    Conv(conv::ConvStep),
    HalfConv(half::HalfConv),
    Int8Conv(int8::Int8Conv),
    Quantize(codes::Quantize),
    FindRange(codes::FindRange),
    Dequantize(codes::Dequantize),
    Translate(codes::Translate),
    Int8Binary(codes::Elementwise),
    Int8MaxPool(codes::MaxPool),
    Int8Resize(codes::Resize),
    MoveChannels(codes::MoveChannels),
    DynamicQuantize(plain::DynamicQuantize),
    Recast(half::Recast),
    Shuffle(half::Shuffle),
    Winograd(winograd::Winograd),
    Pool(picture::Pool),
    GlobalSum(picture::GlobalSum),
    Resize(picture::Resize),
    Activate(picture::Activate),
    Binary(picture::Elementwise),
    CopyChannels(picture::CopyChannels),
    ToBlocks(picture::ToBlocks),
    FromBlocks(picture::FromBlocks),
    PlainActivate(plain::Activate),
    PlainBinary(plain::Elementwise),
    Copy(strided::Copy),
    Softmax(plain::Softmax),
    MatMul(plain::MatMul),
    Linear(linear::Linear),
    Product(product::Product),
    Attention(Box<attention::Attention>),
    Normalize(rows::Normalize),
    Reduce(rows::Reduce),
    Sample(sample::Sample),
    SoftmaxRows(rows::Softmax),
    Foreign(ForeignStep),
}

/// A node that tract runs; see `run.rs`.
pub(super) struct ForeignStep {
    pub foreign: Foreign,
    pub inputs: Vec<Operand>,
    pub outputs: Vec<Operand>,
}

/// Where a value lies that may be known while compiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// From this float of the arena on.
    Arena(usize),
    /// A constant, from this float of the weights on.
    Weights(usize),
}

impl At {
    /// So many floats further on.
    pub(super) fn behind(self, floats: usize) -> At {
        match self {
            At::Arena(at) => At::Arena(at + floats),
            At::Weights(at) => At::Weights(at + floats),
        }
    }

    /// The range of the arena that `floats` of it take; empty for a constant.
    fn arena(self, floats: usize) -> std::ops::Range<usize> {
        match self {
            At::Arena(at) => at..at + floats,
            At::Weights(_) => 0..0,
        }
    }

    /// Those floats: of the arena, which were read already, or of the weights.
    fn values<'a>(self, read: &'a [f32], weights: &'a [f32], floats: usize) -> &'a [f32] {
        match self {
            At::Arena(_) => read,
            At::Weights(at) => weights.get(at..at + floats).unwrap_or_default(),
        }
    }
}

/// An operand of a foreign node.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    /// Row-major in the arena.
    Plain { at: usize, shape: Vec<usize> },
    /// A tensor of tract's.
    Tensor(usize),
}

impl Step {
    /// Into how many items it is cut.
    pub(super) fn items(&self) -> usize {
        match self {
            Step::Conv(step) => step.items(),
            Step::HalfConv(step) => step.items(),
            Step::Int8Conv(step) => step.items(),
            Step::Quantize(step) => step.items(),
            Step::Dequantize(step) => step.items(),
            Step::Translate(step) => step.items(),
            Step::Int8Binary(step) => step.items(),
            Step::Int8MaxPool(step) => step.items(),
            Step::Int8Resize(step) => step.items(),
            Step::MoveChannels(step) => step.items(),
            Step::Recast(step) => step.items(),
            Step::Shuffle(step) => step.items(),
            Step::Winograd(step) => step.items(),
            Step::Pool(step) => step.items(),
            Step::Resize(step) => step.items(),
            Step::Activate(step) => step.items(),
            Step::Binary(step) => step.items(),
            Step::FromBlocks(step) => step.items(),
            Step::ToBlocks(step) => step.items(),
            Step::CopyChannels(step) => step.items(),
            Step::Linear(step) => step.items(),
            Step::Product(step) => step.items(),
            Step::Attention(step) => step.items(),
            Step::Normalize(step) => step.items(),
            Step::Sample(step) => step.items(),
            Step::SoftmaxRows(step) => step.items(),
            Step::PlainActivate(step) => step.items(),
            Step::PlainBinary(step) => step.items(),
            Step::Copy(step) => step.items(),
            Step::Softmax(step) => step.items(),
            Step::MatMul(step) => step.items(),
            _ => 1,
        }
    }

    /// Computes one of its items.
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        match self {
            Step::Conv(step) => step.run(machine, item),
            Step::HalfConv(step) => step.run(machine, item),
            Step::Int8Conv(step) => step.run(machine, item),
            Step::Quantize(step) => step.run(machine, item),
            Step::FindRange(step) => step.run(machine),
            Step::Dequantize(step) => step.run(machine, item),
            Step::Translate(step) => step.run(machine, item),
            Step::Int8Binary(step) => step.run(machine, item),
            Step::Int8MaxPool(step) => step.run(machine, item),
            Step::Int8Resize(step) => step.run(machine, item),
            Step::MoveChannels(step) => step.run(machine, item),
            Step::DynamicQuantize(step) => step.run(machine),
            Step::Recast(step) => step.run(machine, item),
            Step::Shuffle(step) => step.run(machine, item),
            Step::Winograd(step) => step.run(machine, item),
            Step::Pool(step) => step.run(machine, item),
            Step::GlobalSum(step) => step.run(machine),
            Step::Resize(step) => step.run(machine, item),
            Step::Activate(step) => step.run(machine, item),
            Step::Binary(step) => step.run(machine, item),
            Step::CopyChannels(step) => step.run(machine, item),
            Step::ToBlocks(step) => step.run(machine, item),
            Step::FromBlocks(step) => step.run(machine, item),
            Step::PlainActivate(step) => step.run(machine, item),
            Step::PlainBinary(step) => step.run(machine, item),
            Step::Copy(step) => step.run(machine, item),
            Step::Softmax(step) => step.run(machine, item),
            Step::MatMul(step) => step.run(machine, item),
            Step::Linear(step) => step.run(machine, item),
            Step::Product(step) => step.run(machine, item),
            Step::Attention(step) => step.run(machine, item),
            Step::Normalize(step) => step.run(machine, item),
            Step::Reduce(step) => step.run(machine),
            Step::Sample(step) => step.run(machine, item),
            Step::SoftmaxRows(step) => step.run(machine, item),
            Step::Foreign(_) => {} // needs the run's tensors: `run.rs`
        }
    }

    /// What profiles call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::Conv(step) if step.depthwise => "depthwise",
            Step::HalfConv(step) if step.depthwise => "depthwise",
            Step::Int8Conv(step) if step.depthwise => "depthwise",
            Step::Conv(_) | Step::HalfConv(_) | Step::Int8Conv(_) => "conv",
            Step::Quantize(_) => "quantize",
            Step::FindRange(_) => "find-range",
            Step::Dequantize(_) => "dequantize",
            Step::Translate(_) => "translate",
            Step::DynamicQuantize(_) => "dynamic-quantize",
            Step::Recast(_) => "recast",
            Step::Shuffle(_) => "shuffle",
            Step::Winograd(_) => "winograd",
            Step::Pool(_) | Step::Int8MaxPool(_) => "pool",
            Step::GlobalSum(_) => "global-sum",
            Step::Resize(_) | Step::Int8Resize(_) => "resize",
            Step::Activate(_) | Step::PlainActivate(_) => "activate",
            Step::Binary(_) | Step::PlainBinary(_) | Step::Int8Binary(_) => "binary",
            Step::CopyChannels(_) | Step::MoveChannels(_) => "copy-channels",
            Step::ToBlocks(_) => "to-blocks",
            Step::FromBlocks(_) => "from-blocks",
            Step::Copy(_) => "copy",
            Step::Softmax(_) | Step::SoftmaxRows(_) => "softmax",
            Step::MatMul(_) => "matmul",
            Step::Linear(_) => "linear",
            Step::Product(_) => "product",
            Step::Attention(_) => "attention",
            Step::Normalize(_) => "normalize",
            Step::Reduce(_) => "reduce",
            Step::Sample(_) => "sample",
            Step::Foreign(_) => "tract",
        }
    }
}

/// Sets the border of zeros around a whole block of a picture.
fn clear_halo(machine: &mut Machine<'_>, blocks: &super::storage::Blocks, block: usize) {
    blocks.clear_border(&mut machine.arena, block, 0..blocks.height, true, true);
}
