//! Which values lie in blocks of channels and which row-major, and the conversions between the two.

use super::graph::{Graph, Node, Op, Value, ValueId};
use super::kernels::LANES;
use super::kernels::half::HALF_LANES;
use std::collections::HashMap;

/// How a value lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Row-major: the last dimension is the fastest.
    Plain,
    /// `[channel block][row][column][LANES]`, rows and columns with a border of zeros ("halo").
    Blocks,
    /// The same with twice as many channels a block, in half precision.
    Half,
    /// `[row][column][channel]`, in 8-bit codes, with a border of the code for zero.
    Int8,
    /// A tensor of tract's.
    Foreign,
}

/// Most channels for which a convolution reads row-major planes: blocks would be mostly empty (a camera has
/// 3).
pub(super) const MAX_PLANES: usize = 4;

impl Form {
    /// Channels of a block; codes are pieced together channel by channel.
    pub(super) fn lanes(self) -> usize {
        match self {
            Form::Half => HALF_LANES,
            Form::Int8 => 1,
            _ => LANES,
        }
    }

    /// Whether it is a picture with a border.
    pub(super) fn is_picture(self) -> bool {
        matches!(self, Form::Blocks | Form::Half | Form::Int8)
    }
}

/// Puts in the conversions; returns the form of every value. `half`: pictures may have half precision, but for
/// what the outputs are made of behind the last convolutions, and these themselves.
pub(super) fn lay_out(graph: &mut Graph, half: bool) -> Vec<Form> {
    let full = if half { last_layers(graph) } else { vec![true; graph.values.len()] };
    let foreign = |v: &Value| if v.foreign { Form::Foreign } else { Form::Plain };
    let mut forms: Vec<Form> = graph.values.iter().map(foreign).collect();
    let mut twins: HashMap<(ValueId, Form), ValueId> = HashMap::new();
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        let form = match form_of(graph, &forms, &node) {
            Form::Blocks if node.outputs.iter().all(|output| !full[output.0]) => Form::Half,
            form => form,
        };
        for slot in 0..node.inputs.len() {
            let wanted = match operand_form(graph, &forms, &node, slot, form) {
                Some(wanted) => wanted,
                None => continue,
            };
            node.inputs[slot] = convert(graph, &mut forms, &mut twins, node.inputs[slot], wanted);
        }
        for output in &node.outputs {
            if forms[output.0] != Form::Foreign {
                forms[output.0] = form;
            }
        }
        graph.nodes.push(node);
    }
    for slot in 0..graph.outputs.len() {
        graph.outputs[slot] = convert(graph, &mut forms, &mut twins, graph.outputs[slot], Form::Plain);
    }
    forms
}

/// The value itself, or its twin in the wanted form.
fn convert(
    graph: &mut Graph,
    forms: &mut Vec<Form>,
    twins: &mut HashMap<(ValueId, Form), ValueId>,
    id: ValueId,
    wanted: Form,
) -> ValueId {
    if forms[id.0] == wanted || forms[id.0] == Form::Foreign {
        return id;
    }
    if let Some(&twin) = twins.get(&(id, wanted)) {
        return twin;
    }
    let (name, shape) = (graph.value(id).name.clone(), graph.value(id).shape.clone());
    let twin = graph.add_value(&name, shape);
    forms.push(wanted);
    twins.insert((id, wanted), twin);
    twins.insert((twin, forms[id.0]), id);
    let op = match (forms[id.0].is_picture(), wanted) {
        (true, Form::Plain) => Op::FromBlocks,
        (true, _) => Op::Recast,
        _ => Op::ToBlocks,
    };
    graph.nodes.push(Node { name, op, inputs: vec![id], outputs: vec![twin] });
    twin
}

/// The form in which a node works and leaves its output.
fn form_of(graph: &Graph, forms: &[Form], node: &Node) -> Form {
    if node.outputs.first().is_some_and(|output| graph.value(*output).coding.is_some()) {
        return Form::Int8;
    }
    let blocked = |id: &ValueId| forms[id.0].is_picture();
    let picture = node.outputs.first().is_some_and(|o| graph.value(*o).picture().is_some());
    let blocks = match &node.op {
        Op::Conv(_) | Op::MaxPool(_) | Op::AveragePool { .. } | Op::GlobalSum | Op::Resize { .. } => true,
        Op::DynamicQuantize | Op::Activate(_) | Op::Slice { axis: 1, .. } | Op::Gather { axis: 1, .. } => {
            node.inputs.iter().all(blocked)
        }
        Op::Concat { axis: 1 } => picture && node.inputs.iter().any(blocked),
        Op::Binary(_) => {
            let output = graph.value(node.outputs[0]);
            let side = |id: &ValueId| same_or_channels(graph.value(*id), output);
            picture && node.inputs.iter().any(blocked) && node.inputs.iter().all(side)
        }
        _ => false,
    };
    if blocks { Form::Blocks } else { Form::Plain }
}

/// Whether a value has the output's shape, or one number per channel, or one number.
fn same_or_channels(value: &Value, output: &Value) -> bool {
    value.shape == output.shape
        || matches!(*value.shape.as_slice(), [1, c, 1, 1] if c == 1 && value.constant.is_some() || output.shape.get(1) == Some(&c))
}

/// The form an operand must have, or `None` where it may stay as it is.
fn operand_form(graph: &Graph, forms: &[Form], node: &Node, slot: usize, form: Form) -> Option<Form> {
    let value = graph.value(node.inputs[slot]);
    match &node.op {
        Op::Conv(conv) if slot == 0 && conv.int8.is_some() => Some(Form::Int8),
        Op::Conv(conv) if slot == 0 => {
            let [channels, ..] = value.picture()?;
            let planes = channels <= MAX_PLANES && conv.groups == 1 && forms[node.inputs[0].0] == Form::Plain;
            (!planes || value.constant.is_some()).then_some(form)
        }
        // a camera's planes are read as they are
        Op::Quantize(_) | Op::DynamicQuantize if form == Form::Int8 => {
            let [channels, ..] = value.picture()?;
            let planes = channels <= MAX_PLANES && forms[node.inputs[0].0] == Form::Plain;
            (!planes).then_some(Form::Blocks)
        }
        // constants of one number, or one per channel, are laid out with the weights
        Op::Binary(_) if form.is_picture() && value.constant.is_some() && value.shape[2..] == [1, 1] => None,
        _ => Some(form),
    }
}

/// Which values stay in 32 bits: those that outputs are made from without a convolution between, and the
/// results of the last convolutions. Scores and boxes are as exact as these numbers.
fn last_layers(graph: &Graph) -> Vec<bool> {
    let mut full = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|id| full[id.0] = true);
    for node in graph.nodes.iter().rev() {
        if !matches!(node.op, Op::Conv(_)) && node.outputs.iter().any(|output| full[output.0]) {
            node.inputs.iter().for_each(|input| full[input.0] = true);
        }
    }
    full
}

/// Blocks of floats that hold a number of channels.
pub(super) fn blocks_for(channels: usize) -> usize {
    channels.div_ceil(LANES)
}
