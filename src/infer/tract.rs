//! The engine that runs everything: tract's own plan. Slower than ours, and the oracle of its tests.

mod bytes;
mod softmax;

use super::onnx::quietly;
use super::{Batch, Engine, Run};
use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::model::Rewriter;
use tract_onnx::tract_core::model::memory::eval_tmp_memory_usage;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_hir::internal::DimLike;

/// A plan shared by all threads.
pub struct TractEngine {
    plan: Arc<TypedRunnableModel>,
    input_shape: Vec<usize>,
    /// As if one frame were run, whatever [`TractEngine::frames`] is.
    output_shapes: Vec<Vec<usize>>,
    /// Frames that the graph takes in one run.
    frames: usize,
    weights_bytes: usize,
    arena_bytes: usize,
}

/// Compiles a model, decluttered or not. Its input is `[frames, …]`; of outputs of that many rows each frame
/// has its own.
pub fn compile(model: TypedModel) -> Result<Arc<dyn Engine>> {
    let broken =
        |cause: TractError| Error::new(Kind::ModelArtefact, "the graph cannot be compiled").because(cause);
    let engine = quietly(move || {
        let mut model = model;
        turn_around(&mut model)?;
        bytes::keep_apart(&mut model)?;
        softmax::keep_whole(&mut model)?;
        let model = model.into_decluttered()?;
        // Counted here: optimising packs the weights into the operators, where they no longer show.
        let constants = model.nodes().iter().filter_map(|node| node.op_as::<Const>());
        let weights_bytes =
            constants.map(|constant| constant.val().len() * constant.val().datum_type().size_of()).sum();
        let model = model.into_optimized()?;
        let input_shape = concrete(model.input_fact(0)?);
        let output_shapes =
            (0..model.output_outlets()?.len()).map(|index| Ok(concrete(model.output_fact(index)?)));
        let mut output_shapes = output_shapes.collect::<TractResult<Vec<Vec<usize>>>>()?;
        let frames = input_shape.first().copied().unwrap_or(1).max(1);
        for rows in
            output_shapes.iter_mut().filter_map(|shape| shape.first_mut()).filter(|rows| **rows == frames)
        {
            *rows = 1;
        }
        let plan = model.into_runnable()?;
        let arena_bytes = peak_bytes(&plan);
        Ok(TractEngine { plan, input_shape, output_shapes, frames, weights_bytes, arena_bytes })
    })
    .map_err(broken)?;
    Ok(Arc::new(engine))
}

/// `a − b` → `a + (−b)` and `a ÷ b` → `a · (1 ÷ b)` where `a` holds at most one number per channel.
///
/// tract 0.23.9 folds a binary operation behind a convolution into the convolution's weights. Where the
/// convolution is the right side of a subtraction it forgets their sign, and where it is that of a division
/// it divides by the wrong weights (`Conv::declutter_channel_arithmetic_succ`); random graphs found it. The
/// turned forms are folded correctly or not at all.
fn turn_around(model: &mut TypedModel) -> TractResult<()> {
    let rule = |_: &(), model: &TypedModel, node: &TypedNode, name: &str, op: &TypedBinOp| {
        let turned: (Box<dyn TypedOp>, Box<dyn TypedOp>) = match op.0.name() {
            "Sub" => (Box::new(math::neg()), Box::new(math::add())),
            "Div" => (Box::new(math::recip()), Box::new(math::mul())),
            _ => return Ok(None),
        };
        let &[left, right] = &*node.inputs else { return Ok(None) };
        let (left, right_fact) = (model.outlet_fact(left)?, model.outlet_fact(right)?);
        let long = left.shape.iter().filter(|dim| **dim != 1.to_dim()).count();
        if long > 1 || right_fact.konst.is_some() || right_fact.datum_type != f32::datum_type() {
            return Ok(None);
        }
        let mut patch = TypedModelPatch::default();
        let sides = patch.taps(model, &node.inputs)?;
        let turned_right = patch.wire_node(format!("{name}.turned"), turned.0, &sides[1..])?;
        let result = patch.wire_node(name, turned.1, &[sides[0], turned_right[0]])?;
        patch.shunt_outside(model, node.id.into(), result[0])?;
        Ok(Some(patch))
    };
    Rewriter::default().with_rule_for("turn-around", rule).rewrite(&(), model)
}

/// The shape, 0 where it depends on the data (how many boxes an NMS inside the graph keeps).
pub(super) fn concrete(fact: &TypedFact) -> Vec<usize> {
    fact.shape.iter().map(|dim| dim.to_usize().unwrap_or(0)).collect()
}

/// Bytes that live at the same time during a run, as tract's own flush order has it. tract allocates each of
/// them anew.
fn peak_bytes(plan: &TypedRunnableModel) -> usize {
    let steps =
        eval_tmp_memory_usage(plan.model(), plan.order_without_consts(), |node| !node.op_is::<Const>());
    let bytes = |(_, bytes): (usize, TDim)| bytes.to_usize().ok();
    steps.ok().and_then(|steps| steps.into_iter().filter_map(bytes).max()).unwrap_or(0)
}

impl Engine for TractEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        let input = Tensor::zero::<f32>(&self.input_shape)
            .map_err(|cause| Error::new(Kind::Inference, "no memory for the input").because(cause))?;
        let outputs = self.output_shapes.iter().map(|_| Vec::new()).collect();
        let shapes = self.output_shapes.clone();
        let (plan, frames) = (self.plan.clone(), self.frames);
        Ok(Box::new(TractRun { plan, input: Arc::new(input), frames, selected: 0, outputs, shapes }))
    }
    fn batch(&self) -> Batch {
        Batch { frames: self.frames, ..Batch::ONE }
    }
    fn name(&self) -> &'static str {
        "tract"
    }
    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }
    fn weights_bytes(&self) -> usize {
        self.weights_bytes
    }
    fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }
}

struct TractRun {
    plan: Arc<TypedRunnableModel>,
    /// Exclusive between runs: tract's references to it end with the run.
    input: Arc<Tensor>,
    /// Frames of a run, those that nobody filled included.
    frames: usize,
    /// The one that input and outputs mean.
    selected: usize,
    outputs: Vec<Vec<f32>>,
    /// Of the last run.
    shapes: Vec<Vec<usize>>,
}

impl TractRun {
    fn run(&mut self) -> TractResult<()> {
        let results = self.plan.run(tvec!(TValue::from_const(self.input.clone())))?;
        for ((kept, shape), result) in self.outputs.iter_mut().zip(&mut self.shapes).zip(&results) {
            kept.clear();
            shape.clear();
            shape.extend_from_slice(result.shape());
            let floats = result.cast_to::<f32>()?;
            kept.extend_from_slice(floats.try_as_plain_ram()?.as_slice::<f32>()?);
        }
        Ok(())
    }
}

impl Run for TractRun {
    fn select_frame(&mut self, frame: usize) {
        self.selected = frame;
    }
    fn input(&mut self) -> &mut [f32] {
        let planes = Arc::make_mut(&mut self.input).to_plain_array_view_mut::<f32>().ok();
        // An f32 tensor of our own making is always contiguous.
        let planes = planes.and_then(|planes| planes.into_slice()).unwrap_or_default();
        let length = planes.len() / self.frames;
        planes.chunks_exact_mut(length.max(1)).nth(self.selected).unwrap_or_default()
    }
    fn execute(&mut self) -> Result<()> {
        self.run().map_err(|cause| Error::new(Kind::Inference, "the model failed on a frame").because(cause))
    }
    fn output_shape(&self, index: usize) -> Option<&[usize]> {
        self.shapes.get(index).map(Vec::as_slice)
    }
    fn output(&self, index: usize) -> &[f32] {
        let all = self.outputs.get(index).map_or(&[][..], Vec::as_slice);
        if self.frames == 1 || self.shapes.get(index).and_then(|shape| shape.first()) != Some(&self.frames) {
            return all;
        }
        all.chunks_exact((all.len() / self.frames).max(1)).nth(self.selected).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
    use tract_onnx::tract_core::ops::nn::DataFormat;

    /// `left op conv(x)` with as many numbers on the left as there are channels, or one.
    fn behind_a_convolution(op: TypedBinOp, side: usize, kernel: usize, numbers: usize) -> TypedModel {
        const CHANNELS: usize = 4;
        let tensor = |shape: &[usize], first: f32| {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|i| first + (i % 7) as f32 * 0.25).collect();
            Tensor::from_shape(shape, &values).unwrap()
        };
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact([1, CHANNELS, side, side])).unwrap();
        let weights = model.add_const("weights", tensor(&[CHANNELS, CHANNELS, kernel, kernel], 0.5)).unwrap();
        let bias = model.add_const("bias", tensor(&[CHANNELS], 1.0)).unwrap();
        let shape = tvec!(kernel, kernel);
        let pool_spec =
            PoolSpec::new(DataFormat::NCHW, shape, PaddingSpec::Valid, None, None, CHANNELS, CHANNELS);
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        let made = model.wire_node("conv", conv, &[x, weights, bias]).unwrap();
        let left = model.add_const("left", tensor(&[1, numbers, 1, 1], 3.0)).unwrap();
        let result = model.wire_node("result", op, &[left, made[0]]).unwrap();
        model.select_output_outlets(&result).unwrap();
        model
    }

    #[test]
    fn a_convolution_on_the_right_of_a_subtraction_or_division_keeps_its_sign_and_place() {
        for (name, op) in [("sub", math::sub()), ("div", math::div())] {
            for (side, kernel, numbers) in [(5, 3, 4), (5, 3, 1), (5, 1, 4), (5, 1, 1), (3, 3, 4), (1, 1, 4)]
            {
                let model = behind_a_convolution(op.clone(), side, kernel, numbers);
                let engine = compile(model.clone()).unwrap();
                let mut run = engine.new_run().unwrap();
                run.input().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 11) as f32 * 0.5 - 1.0);
                let input = Tensor::from_shape(&[1, 4, side, side], run.input()).unwrap();
                run.execute().unwrap();
                // node by node, as it was wired: nothing is folded
                let plan = model.into_runnable().unwrap();
                let expected = plan.run(tvec!(input.into())).unwrap();
                let expected = expected[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap();
                let what = format!("{name} of {numbers} numbers, {kernel}x{kernel} on {side}x{side}");
                for (found, expected) in run.output(0).iter().zip(expected) {
                    assert!(
                        (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                        "{what}: {found}, not {expected}"
                    );
                }
            }
        }
    }
}
