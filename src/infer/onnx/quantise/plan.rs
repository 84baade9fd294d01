//! Which nodes compute in 8 bits, and which values have them.
//!
//! The last convolutions before the outputs stay in floats, and all behind them: scores, DFL and boxes are as exact as
//! these numbers. So does the first one, as in half precision: it reads three channels, few products, and every
//! error that it makes goes through the whole graph. Everything else between the first convolution and those has 8 bits, where every value is made
//! and read by an operator that has them.
//!
//! Between a convolution and its activation there is no rounding to 8 bits: what a convolution sums has a far wider
//! range than what its activation leaves, and half of the levels would go to numbers that become nearly zero.

use super::graph::{Index, attribute, floats, word};
use super::{Survey, Watched};
use crate::error::Result;
use crate::infer::onnx::{artefact, clean};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

/// What becomes of 8 bits what was 8 bits, number by number.
const ACTIVATIONS: [&str; 16] = [
    "Clip",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "PRelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];
/// What moves numbers, and leaves them as they are.
const MOVERS: [&str; 8] = ["Concat", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Split", "Transpose"];
/// What mixes numbers.
const MIXERS: [&str; 6] = ["Add", "AveragePool", "GlobalAveragePool", "Mul", "Resize", "Upsample"];

/// A value that will have 8 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) name: String,
    /// The first value of those that have the same scale.
    group: usize,
    is_read_by_convolution: bool,
}

/// What will be done to a graph.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) values: Vec<Value>,
    joints: Vec<(usize, usize, bool)>,
    /// Nodes, by their place: convolutions whose weights have 8 bits.
    pub(super) convolutions: HashSet<usize>,
    in_floats: usize,
}

impl Plan {
    /// Of a graph in its order. `in_floats`: how many convolutions stay in floats at its beginning; the one of the picture
    /// does in any case.
    pub(super) fn of(proto: &ModelProto, in_floats: usize) -> Result<Plan> {
        let graph = proto.graph.as_ref().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
        let index = Index::of(graph);
        let candidates: HashSet<usize> =
            (0..graph.node.len()).filter(|at| can_have_8_bits(&graph.node[*at], &index)).collect();
        let last = last_convolutions(graph, &index, &candidates);
        let first = first_convolutions(graph, &candidates, in_floats);
        let convolutions: HashSet<usize> =
            candidates.iter().copied().filter(|at| !last.contains(at) && !first.contains(at)).collect();
        // what the first ones leave has 8 bits where one that computes in them reads it
        let first: HashSet<usize> = first.into_iter().filter(|at| !last.contains(at)).collect();
        let members = members(graph, &index, &convolutions, &first);

        let mut plan = Plan { in_floats: candidates.len() - convolutions.len(), ..Plan::default() };
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (at, node) in graph.node.iter().enumerate() {
            let has_8_bits = members.contains(&at);
            let read = node.input.first().filter(|_| convolutions.contains(&at));
            // what a convolution reads from floats
            if let Some(name) = read.filter(|name| !known.contains_key(name.as_str())) {
                known.insert(name, plan.add(name));
            }
            if let Some(value) = read.and_then(|name| plan.values.get_mut(*known.get(name.as_str())?)) {
                value.is_read_by_convolution = true;
            }
            if !has_8_bits {
                continue;
            }
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                let mut readers = index.readers(name).iter();
                let is_read = readers.any(|reader| members.contains(reader) && !first.contains(reader));
                if is_read && !known.contains_key(name.as_str()) && !is_passing(graph, &index, node, name) {
                    known.insert(name, plan.add(name));
                }
            }
            plan.tie(node, at, &known, &index);
        }
        plan.convolutions = convolutions;
        Ok(plan)
    }

    fn add(&mut self, name: &str) -> usize {
        let group = self.values.len();
        self.values.push(Value { name: name.to_owned(), group, is_read_by_convolution: false });
        group
    }

    /// Values that a node only moves have one scale.
    fn tie(&mut self, node: &NodeProto, at: usize, known: &HashMap<&str, usize>, index: &Index<'_>) {
        let places = |names: &[String]| -> Vec<usize> {
            names.iter().filter_map(|name| known.get(name.as_str()).copied()).collect()
        };
        let (read, made) = (places(&node.input), places(&node.output));
        let Some(&to) = made.first() else { return };
        if node.op_type == "Concat" {
            let alone = |place: &usize| {
                self.values
                    .get(*place)
                    .is_some_and(|value| index.readers(&value.name).iter().all(|reader| *reader == at))
            };
            let joints: Vec<_> = read.iter().map(|from| (to, *from, alone(from))).collect();
            self.joints.extend(joints);
        } else if moves(node) {
            let all: Vec<usize> = read.into_iter().chain(made).collect();
            let groups: Vec<usize> =
                all.iter().filter_map(|place| Some(self.values.get(*place)?.group)).collect();
            let Some(&lowest) = groups.iter().min() else { return };
            for value in self.values.iter_mut().filter(|value| groups.contains(&value.group)) {
                value.group = lowest;
            }
        }
    }

    pub(super) fn survey(&self, longest_name_bytes: usize) -> Survey {
        let values = self.values.iter().map(|value| {
            let name = clean(&value.name);
            Watched {
                name: name.get(..name.floor_char_boundary(longest_name_bytes)).unwrap_or_default().to_owned(),
                group: value.group,
                is_read_by_convolution: value.is_read_by_convolution,
            }
        });
        Survey {
            values: values.collect(),
            joints: self.joints.clone(),
            convolutions: self.convolutions.len(),
            in_floats: self.in_floats,
        }
    }
}

/// A convolution of pictures whose weights are constant floats.
fn can_have_8_bits(node: &NodeProto, index: &Index<'_>) -> bool {
    let constant = |place: usize, rank: usize| {
        let tensor = node.input.get(place).and_then(|name| index.constants.get(name.as_str()));
        tensor.is_some_and(|tensor| tensor.dims.len() == rank && floats(tensor).is_some_and(|f| is_sound(&f)))
    };
    let has_bias = node.input.get(2).is_some_and(|name| !name.is_empty());
    node.op_type == "Conv"
        && constant(1, 4)
        && (!has_bias || constant(2, 1))
        && node.input.first().is_some_and(|name| !index.constants.contains_key(name.as_str()))
}

fn is_sound(floats: &[f32]) -> bool {
    !floats.is_empty() && floats.iter().all(|value| value.is_finite())
}

/// Convolutions of the picture itself, before which there is no other one, and the first `count` of all.
fn first_convolutions(graph: &GraphProto, candidates: &HashSet<usize>, count: usize) -> HashSet<usize> {
    let (mut behind, mut first): (HashSet<&str>, _) = (HashSet::new(), HashSet::new());
    for (at, node) in graph.node.iter().enumerate() {
        let is_behind = node.input.iter().any(|name| behind.contains(name.as_str()));
        if candidates.contains(&at) && (!is_behind || first.len() < count) {
            first.insert(at);
        }
        if is_behind || node.op_type == "Conv" {
            behind.extend(node.output.iter().map(String::as_str).filter(|name| !name.is_empty()));
        }
    }
    first
}

/// Convolutions from which an output is reached without another convolution in between.
fn last_convolutions(graph: &GraphProto, index: &Index<'_>, candidates: &HashSet<usize>) -> HashSet<usize> {
    let mut reaches: HashSet<&str> = index.outputs.clone();
    let mut last = HashSet::new();
    for (at, node) in graph.node.iter().enumerate().rev() {
        if !node.output.iter().any(|name| reaches.contains(name.as_str())) {
            continue;
        }
        if candidates.contains(&at) && !is_behind_softmax(graph, index, at) {
            last.insert(at);
        } else {
            reaches.extend(node.input.iter().map(String::as_str));
        }
    }
    // and all that stand behind a softmax
    last.extend(candidates.iter().copied().filter(|at| is_behind_softmax(graph, index, *at)));
    last
}

/// Whether what a convolution reads was made by a softmax and only moved since: then it is DFL's expectation, whose
/// weights are 0, 1, 2 … and stay so.
fn is_behind_softmax(graph: &GraphProto, index: &Index<'_>, at: usize) -> bool {
    /// Nodes between the two, at most.
    const FARTHEST: usize = 4;
    let mut name = graph.node.get(at).and_then(|node| node.input.first());
    for _ in 0..FARTHEST {
        let maker = name.and_then(|name| graph.node.get(index.maker(name)?));
        match maker {
            Some(node) if node.op_type == "Softmax" => return true,
            Some(node) if ["Reshape", "Transpose", "Identity"].contains(&node.op_type.as_str()) => {
                name = node.input.first();
            }
            _ => return false,
        }
    }
    false
}

/// Nodes that make values of 8 bits: `convolutions`, those of `first` (which compute in floats) that one of them reads, and
/// what lies between them.
fn members(
    graph: &GraphProto,
    index: &Index<'_>,
    convolutions: &HashSet<usize>,
    first: &HashSet<usize>,
) -> HashSet<usize> {
    let mut found: HashSet<usize> = convolutions.union(first).copied().collect();
    let mut made: HashSet<&str> = HashSet::new();
    for (at, node) in graph.node.iter().enumerate() {
        let others = || {
            node.input.iter().filter(|name| !name.is_empty() && !index.constants.contains_key(name.as_str()))
        };
        let can = found.contains(&at)
            || is_known(node)
                && others().next().is_some()
                && others().all(|name| made.contains(name.as_str()));
        if can {
            found.insert(at);
            made.extend(node.output.iter().map(String::as_str));
        }
    }
    // what no convolution reads in the end would be rounded for nothing
    for (at, node) in graph.node.iter().enumerate().rev() {
        let mut readers = node.output.iter().flat_map(|name| index.readers(name));
        let mut is_read = || readers.any(|reader| found.contains(reader) && !first.contains(reader));
        if found.contains(&at) && !convolutions.contains(&at) && !is_read() {
            found.remove(&at);
        }
    }
    found
}

fn is_known(node: &NodeProto) -> bool {
    let op = node.op_type.as_str();
    let one = node.output.iter().filter(|name| !name.is_empty()).count() == 1;
    ["", "ai.onnx"].contains(&node.domain.as_str())
        && (ACTIVATIONS.contains(&op) || MIXERS.contains(&op) || MOVERS.contains(&op))
        && (one || op == "Split")
}

/// Whether a node leaves the numbers as they are.
fn moves(node: &NodeProto) -> bool {
    let mode = word(node, "mode");
    match node.op_type.as_str() {
        "Resize" | "Upsample" => ["", "nearest"].contains(&mode.as_str()),
        // other numbers than those that are there
        "Pad" => ["reflect", "edge"].contains(&mode.as_str()),
        op => MOVERS.contains(&op) && attribute(node, "storage_order").is_none_or(|order| order.i == 0),
    }
}

/// Whether a value lies between a convolution and the end of its activation, and is read by nothing else.
fn is_passing(graph: &GraphProto, index: &Index<'_>, maker: &NodeProto, name: &str) -> bool {
    let readers: Vec<&NodeProto> =
        index.readers(name).iter().filter_map(|reader| graph.node.get(*reader)).collect();
    let is_gate =
        |node: &NodeProto| ["Sigmoid", "HardSigmoid", "Tanh", "Softplus"].contains(&node.op_type.as_str());
    let gated = |node: &NodeProto| node.op_type == "Mul";
    match maker.op_type.as_str() {
        // x · sigmoid(x), and x · tanh(softplus(x)), too
        "Conv" => {
            let (products, others): (Vec<&NodeProto>, Vec<&NodeProto>) =
                readers.iter().copied().partition(|node| gated(node));
            let activated = others.iter().all(|node| ACTIVATIONS.contains(&node.op_type.as_str()));
            match products[..] {
                [] => activated && !others.is_empty(),
                [product] => {
                    activated
                        && matches!(others[..], [gate] if is_gate(gate) && leads_to(graph, index, gate, product))
                }
                _ => false,
            }
        }
        "Sigmoid" | "HardSigmoid" | "Tanh" | "Softplus" => {
            matches!(readers[..], [reader] if gated(reader) || reader.op_type == "Tanh")
        }
        _ => false,
    }
}

/// Whether a gate's result, through one more function at most, is a factor of `product`.
fn leads_to(graph: &GraphProto, index: &Index<'_>, gate: &NodeProto, product: &NodeProto) -> bool {
    let reads = |node: &NodeProto| gate.output.iter().any(|name| node.input.contains(name));
    let behind = || {
        let readers =
            gate.output.iter().flat_map(|name| index.readers(name)).filter_map(|at| graph.node.get(*at));
        readers.into_iter().any(|node| {
            ACTIVATIONS.contains(&node.op_type.as_str())
                && node.output.iter().any(|name| product.input.contains(name))
        })
    };
    reads(product) || behind()
}
