//! A compiled model: steps, weights, and where input and outputs lie.

use super::choice::Target;
use super::graph::ValueId;
use super::head::{self, Head};
use super::import::import;
use super::layout::lay_out;
use super::lower::{lower, scratch};
use super::simplify::simplify;
use super::step::Step;
use super::storage::{Place, plan as place};
use super::unsupported::unsupported;
use crate::error::Result;
use crate::infer::Scores;
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
    /// How to do without the steps after the body.
    pub head: Option<Head>,
    /// Steps that every run needs; they come first.
    pub body: usize,
}

impl Plan {
    pub(super) fn new(model: &TypedModel, target: Target, scores: Option<&Scores>) -> Result<Plan> {
        let mut graph = import(model)?;
        simplify(&mut graph);
        let draft = scores.and_then(|scores| head::find(&mut graph, scores));
        // laying out puts conversions between the nodes: the body ends after the node that ends it now
        let last = draft.as_ref().and_then(|d| graph.nodes.get(d.body.checked_sub(1)?)?.outputs.first().copied());
        let forms = lay_out(&mut graph);
        let storage = place(&graph, &forms, &scratch(&graph, &forms, target))?;
        let mut lowered = lower(&graph, &storage, target)?;
        let last = last.and_then(|id| graph.nodes.iter().position(|node| node.outputs.contains(&id)));
        let head = draft.zip(scores).and_then(|(d, s)| Head::new(d, &graph, &storage, target, s.anchor_axis));
        lowered.weights.shrink_to_fit();
        let steps = lowered.steps.len();
        let plain = |id: ValueId| match storage.places[id.0] {
            Place::Plain(at) => Ok((at, graph.value(id).len())),
            _ => Err(unsupported(&graph.value(id).name, "an output that is a constant or not 32-bit float")),
        };
        let input = graph.inputs.first().copied().ok_or_else(|| unsupported("graph", "no input"))?;
        Ok(Plan {
            target,
            steps: lowered.steps,
            weights: lowered.weights,
            floats: storage.floats,
            tensors: storage.tensors,
            input: plain(input)?,
            outputs: graph.outputs.iter().map(|&id| plain(id)).collect::<Result<_>>()?,
            output_shapes: graph.outputs.iter().map(|&id| graph.value(id).shape.clone()).collect(),
            body: last.and_then(|node| lowered.starts.get(node + 1).copied()).filter(|_| head.is_some()).unwrap_or(steps),
            head,
        })
    }
}
