//! A compiled model: steps, weights, and where input and outputs lie.

use super::choice::Target;
use super::graph::{Graph, Node, Op, ValueId};
use super::head::{self, Head};
use super::import::import;
use super::int8;
use super::kernels::Format;
use super::layout::{Form, lay_out};
use super::lower::{lower, scratch};
use super::packer::{Lines, Packer, Weights};
use super::simplify::simplify;
use super::step::Step;
use super::storage::{Place, plan as place};
use super::unsupported::unsupported;
use crate::error::{Error, Kind, Result};
use crate::infer::Scores;
use crate::infer::onnx::Stored;
use std::collections::HashMap;
use tract_onnx::prelude::TypedModel;

/// What all threads share.
pub(super) struct Plan {
    pub target: Target,
    /// With the names of their nodes.
    pub steps: Vec<(String, Step)>,
    pub weights: Weights,
    /// Floats of an arena.
    pub floats: usize,
    /// Tensors between foreign nodes.
    pub tensors: usize,
    /// Float offset and length.
    pub input: (usize, usize),
    /// Where it is said what the input holds, if that may be bytes ([`super::storage::Storage::pixels`]).
    pub pixels: Option<usize>,
    pub outputs: Vec<(usize, usize)>,
    pub output_shapes: Vec<Vec<usize>>,
    /// How to do without the steps after the body.
    pub head: Option<Head>,
    /// Steps that every run needs; they come first.
    pub body: usize,
}

/// Everything that a plan is made of.
#[derive(Clone)]
pub(super) struct Draft {
    /// Simplified, and not yet laid out.
    pub graph: Graph,
    pub target: Target,
    pub scores: Option<Scores>,
}

impl Draft {
    pub(super) fn new(
        model: &TypedModel,
        stored: &HashMap<String, Stored>,
        target: Target,
        scores: Option<Scores>,
    ) -> Result<Draft> {
        let mut graph = import(model, stored)?;
        int8::recognise(&mut graph);
        simplify(&mut graph);
        graph.compact();
        Ok(Draft { graph, target, scores })
    }

    /// A plan without weights, which `packer` counts or writes.
    pub(super) fn lay_out(&self, packer: &mut Packer<'_>) -> Result<Plan> {
        let (mut graph, target, scores) = (self.graph.clone(), self.target, self.scores.as_ref());
        let draft = scores.and_then(|scores| head::find(&mut graph, scores));
        // laying out puts conversions between the nodes: the body ends after the node that ends it now
        let last =
            draft.as_ref().and_then(|d| graph.nodes.get(d.body.checked_sub(1)?)?.outputs.first().copied());
        let in_codes = target.int8.is_some() && int8::code(&mut graph, target.kernels);
        // a model that chose its precision itself keeps it
        let target = Target { half: target.half.filter(|_| !in_codes), ..target };
        let forms = lay_out(&mut graph, target.half.is_some());
        let half = target.half.map_or(Format::Float32, |half| half.format);
        let storage = place(&graph, &forms, &scratch(&graph, &forms, target), half)?;
        let lowered = lower(&graph, &storage, target, packer)?;
        let last = last.and_then(|id| graph.nodes.iter().position(|node| node.outputs.contains(&id)));
        let head = draft
            .zip(scores)
            .and_then(|(d, s)| Head::new(d, (&graph, &storage), target, s.anchor_axis, packer));
        let steps = lowered.steps.len();
        let plain = |id: ValueId| match storage.places[id.0] {
            Place::Plain(at) => Ok((at, graph.value(id).len())),
            _ => Err(unsupported(&graph.value(id).name, "an output that is a constant or not 32-bit float")),
        };
        let input = graph.inputs.first().copied().ok_or_else(|| unsupported("graph", "no input"))?;
        Ok(Plan {
            target,
            steps: lowered.steps,
            weights: Weights::Own(Lines::default()),
            floats: storage.floats,
            tensors: storage.tensors,
            input: plain(input)?,
            pixels: takes_pixels(&graph, &forms, input).then_some(storage.pixels),
            outputs: graph.outputs.iter().map(|&id| plain(id)).collect::<Result<_>>()?,
            output_shapes: graph.outputs.iter().map(|&id| graph.value(id).shape.clone()).collect(),
            body: last
                .and_then(|node| lowered.starts.get(node + 1).copied())
                .filter(|_| head.is_some())
                .unwrap_or(steps),
            head,
        })
    }

    /// A plan with weights of its own.
    pub(super) fn into_plan(self) -> Result<Plan> {
        let mut counted = Packer::counting();
        self.lay_out(&mut counted)?;
        let no_memory = || Error::new(Kind::Exhausted, "no memory for the weights of the model");
        let mut weights = Lines::new(counted.floats()).ok_or_else(no_memory)?;
        let plan = self.lay_out(&mut Packer::into(weights.as_mut_slice()))?;
        Ok(Plan { weights: Weights::Own(weights), ..plan })
    }
}

/// Whether all that reads the input reads planes row by row, and so may find bytes there.
fn takes_pixels(graph: &Graph, forms: &[Form], input: ValueId) -> bool {
    let by_rows = |node: &Node| match &node.op {
        Op::Conv(conv) => node.inputs[1..].iter().all(|id| *id != input) && conv.int8.is_none(),
        Op::Quantize(_) => true,
        _ => false,
    };
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&input));
    let elsewhere = graph.outputs.contains(&input) || graph.kept.contains(&input);
    let is_colour = matches!(graph.value(input).picture(), Some([3, ..]));
    is_colour && !elsewhere && forms[input.0] == Form::Plain && readers.all(by_rows)
}

impl Plan {
    /// Bytes of weights, those included that nodes of tract's hold.
    pub(super) fn weights_bytes(&self) -> usize {
        let foreign = self
            .steps
            .iter()
            .map(|(_, step)| if let Step::Foreign(step) = step { step.foreign.constant_bytes } else { 0 });
        foreign.fold(size_of_val(&*self.weights), usize::saturating_add)
    }

    /// Bytes that each run holds.
    pub(super) fn arena_bytes(&self) -> usize {
        (self.floats + self.head.as_ref().map_or(0, Head::run_floats)).saturating_mul(size_of::<f32>())
    }
}
