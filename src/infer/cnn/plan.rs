//! A compiled model: steps, weights, and where input and outputs lie.

use super::choice::Target;
use super::graph::ValueId;
use super::import::{import, unsupported};
use super::layout::lay_out;
use super::lower::{lower, scratch};
use super::run::CnnRun;
use super::simplify::simplify;
use super::step::Step;
use super::storage::{Place, plan as place};
use crate::error::Result;
use crate::infer::{Engine, Run};
use std::sync::Arc;
use tract_onnx::prelude::TypedModel;

/// What all threads share.
pub(super) struct Plan {
    pub target: Target,
    /// With the names of their nodes.
    pub steps: Vec<(String, Step)>,
    pub weights: Vec<f32>,
    /// Floats of an arena.
    pub floats: usize,
    /// Tensors between foreign nodes.
    pub tensors: usize,
    /// Float offset and length.
    pub input: (usize, usize),
    pub outputs: Vec<(usize, usize)>,
    pub output_shapes: Vec<Vec<usize>>,
}

impl Plan {
    pub(super) fn new(model: &TypedModel, target: Target) -> Result<Plan> {
        let mut graph = import(model)?;
        simplify(&mut graph);
        let forms = lay_out(&mut graph);
        let storage = place(&graph, &forms, &scratch(&graph, &forms, target))?;
        let mut lowered = lower(&graph, &storage, target)?;
        lowered.weights.shrink_to_fit();
        let plain = |id: ValueId| match storage.places[id.0] {
            Place::Plain(at) => Ok((at, graph.value(id).len())),
            _ => Err(unsupported(&graph.value(id).name, "an output that is a constant or not 32-bit float")),
        };
        let input = graph.input.ok_or_else(|| unsupported("graph", "no input"))?;
        Ok(Plan {
            target,
            steps: lowered.steps,
            weights: lowered.weights,
            floats: storage.floats,
            tensors: storage.tensors,
            input: plain(input)?,
            outputs: graph.outputs.iter().map(|&id| plain(id)).collect::<Result<_>>()?,
            output_shapes: graph.outputs.iter().map(|&id| graph.value(id).shape.clone()).collect(),
        })
    }
}

/// A [`Plan`] behind the engine's interface.
pub(super) struct CnnEngine(pub Arc<Plan>);

impl Engine for CnnEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        Ok(Box::new(CnnRun::new(self.0.clone())?))
    }
    fn name(&self) -> &'static str {
        "cnn"
    }
    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.0.output_shapes
    }
    fn weights_bytes(&self) -> usize {
        self.0.weights.len() * size_of::<f32>()
    }
    fn arena_bytes(&self) -> usize {
        self.0.floats * size_of::<f32>()
    }
}
