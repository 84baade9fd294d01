//! The engine that runs everything: tract's own plan. Slower than ours, and the oracle of its tests.

use super::onnx::quietly;
use super::{Engine, Run};
use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::model::memory::eval_tmp_memory_usage;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::internal::DimLike;

/// A plan shared by all threads.
pub struct TractEngine {
    plan: Arc<TypedRunnableModel>,
    input_shape: Vec<usize>,
    output_shapes: Vec<Vec<usize>>,
    weights_bytes: usize,
    arena_bytes: usize,
}

/// Compiles a model, decluttered or not.
pub fn compile(model: TypedModel) -> Result<Arc<dyn Engine>> {
    let broken = |cause: TractError| Error::new(Kind::ModelArtefact, "the graph cannot be compiled").because(cause);
    let engine = quietly(move || {
        let model = model.into_decluttered()?;
        // Counted here: optimising packs the weights into the operators, where they no longer show.
        let constants = model.nodes().iter().filter_map(|node| node.op_as::<Const>());
        let weights_bytes = constants.map(|constant| constant.val().len() * constant.val().datum_type().size_of()).sum();
        let model = model.into_optimized()?;
        let input_shape = concrete(model.input_fact(0)?);
        let output_shapes = (0..model.output_outlets()?.len()).map(|index| Ok(concrete(model.output_fact(index)?)));
        let output_shapes = output_shapes.collect::<TractResult<_>>()?;
        let plan = model.into_runnable()?;
        let arena_bytes = peak_bytes(&plan);
        Ok(TractEngine { plan, input_shape, output_shapes, weights_bytes, arena_bytes })
    })
    .map_err(broken)?;
    Ok(Arc::new(engine))
}

/// The shape, 0 where it depends on the data (how many boxes an NMS inside the graph keeps).
fn concrete(fact: &TypedFact) -> Vec<usize> {
    fact.shape.iter().map(|dim| dim.to_usize().unwrap_or(0)).collect()
}

/// Bytes that live at the same time during a run, as tract's own flush order has it. tract allocates each of them anew.
fn peak_bytes(plan: &TypedRunnableModel) -> usize {
    let steps = eval_tmp_memory_usage(plan.model(), plan.order_without_consts(), |node| !node.op_is::<Const>());
    let bytes = |(_, bytes): (usize, TDim)| bytes.to_usize().ok();
    steps.ok().and_then(|steps| steps.into_iter().filter_map(bytes).max()).unwrap_or(0)
}

impl Engine for TractEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        let input = Tensor::zero::<f32>(&self.input_shape)
            .map_err(|cause| Error::new(Kind::Inference, "no memory for the input").because(cause))?;
        let outputs = self.output_shapes.iter().map(|_| Vec::new()).collect();
        Ok(Box::new(TractRun { plan: self.plan.clone(), input: Arc::new(input), outputs }))
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
    outputs: Vec<Vec<f32>>,
}

impl TractRun {
    fn run(&mut self) -> TractResult<()> {
        let results = self.plan.run(tvec!(TValue::from_const(self.input.clone())))?;
        for (kept, result) in self.outputs.iter_mut().zip(&results) {
            kept.clear();
            let floats = result.cast_to::<f32>()?;
            kept.extend_from_slice(floats.try_as_plain_ram()?.as_slice::<f32>()?);
        }
        Ok(())
    }
}

impl Run for TractRun {
    fn input(&mut self) -> &mut [f32] {
        let plane = Arc::make_mut(&mut self.input).to_plain_array_view_mut::<f32>().ok();
        // An f32 tensor of our own making is always contiguous.
        plane.and_then(|plane| plane.into_slice()).unwrap_or_default()
    }
    fn execute(&mut self) -> Result<()> {
        self.run().map_err(|cause| Error::new(Kind::Inference, "the model failed on a frame").because(cause))
    }
    fn output(&self, index: usize) -> &[f32] {
        self.outputs.get(index).map_or(&[], Vec::as_slice)
    }
}
