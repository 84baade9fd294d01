//! Folds what surrounds a convolution into it: padding, batch norm, activation, the addition of a shortcut.

use super::graph::{Graph, Node, Op, Value, ValueId};
use super::int8;
use super::kernels::{Activation, Binary, Levels, Residual};
use super::transformer;

/// Rewrites the graph until nothing folds any more.
pub(super) fn simplify(graph: &mut Graph) {
    bounds(graph);
    gates(graph);
    quantized_gates(graph);
    quantized_padding(graph);
    padding(graph);
    shuffles(graph);
    transformer::simplify(graph);
    // what was replaced must not count as a reader
    graph.sweep();
    // each pass moves a convolution past one follower; the longest chain is norm, shortcut, activation
    while followers(graph) {}
    graph.sweep();
}

/// `max(x, c)` and `min(x, c)` → clip; a clip of a clip → one.
fn bounds(graph: &mut Graph) {
    let makers = graph.makers();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Op::Binary(op @ (Binary::Max | Binary::Min)) = node.op else { continue };
        let [a, b] = node.inputs[..] else { continue };
        let (x, bound) = match (graph.value(a).uniform(), graph.value(b).uniform()) {
            (None, Some(bound)) => (a, bound),
            (Some(bound), None) => (b, bound),
            _ => continue,
        };
        if graph.value(x).shape != graph.value(node.outputs[0]).shape {
            continue;
        }
        let (mut low, mut high, mut from) = (f32::NEG_INFINITY, f32::INFINITY, x);
        if let Some(Node { op: Op::Activate(Activation::Clip { low: l, high: h }), inputs, .. }) =
            makers[x.0].and_then(|m| graph.nodes.get(m))
        {
            (low, high, from) = (*l, *h, inputs[0]);
        }
        // clamping is ordered: the later bound wins where the two cross
        if op == Binary::Max {
            (low, high) = (low.max(bound), high.max(bound));
        } else {
            (low, high) = (low.min(bound), high.min(bound));
        }
        graph.nodes[index].op = Op::Activate(Activation::Clip { low, high });
        graph.nodes[index].inputs = vec![from];
    }
}

/// `x · sigmoid(x)` → SiLU; `x · clip(x + 3, 0, 6) / 6` → hard swish.
fn gates(graph: &mut Graph) {
    let makers = graph.makers();
    let made_by = |graph: &Graph, id: ValueId| makers[id.0].map(|m| graph.nodes[m].clone());
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Op::Binary(Binary::Mul) = node.op else { continue };
        let [a, b] = node.inputs[..] else { continue };
        for (x, gate) in [(a, b), (b, a)] {
            let Some(maker) = made_by(graph, gate) else { continue };
            if matches!(maker.op, Op::Activate(Activation::Sigmoid)) && maker.inputs[..] == [x] {
                graph.nodes[index].op = Op::Activate(Activation::Silu);
                graph.nodes[index].inputs = vec![x];
                break;
            }
        }
    }
}

/// `x · sigmoid(x)` where all three are brought to 8 bits → one step.
fn quantized_gates(graph: &mut Graph) {
    let makers = graph.makers();
    for index in 0..graph.nodes.len() {
        let maker = |id: ValueId| makers[id.0].and_then(|maker| graph.nodes.get(maker));
        let levels = |id: ValueId| match maker(id) {
            Some(Node { op: Op::Activate(Activation::Quantized(levels)), inputs, .. }) => {
                Some((*levels, *inputs.first()?))
            }
            _ => None,
        };
        let found = || {
            let (after, product) = levels(*graph.nodes[index].outputs.first()?)?;
            let Node { op: Op::Binary(Binary::Mul), inputs, .. } = maker(product)? else { return None };
            let &[a, b] = &inputs[..] else { return None };
            [(a, b), (b, a)].into_iter().find_map(|(x, gated)| {
                let (gate, sigmoid) = levels(gated)?;
                let Node { op: Op::Activate(Activation::Sigmoid), inputs, .. } = maker(sigmoid)? else {
                    return None;
                };
                let (before, from) = levels(x)?;
                let op = Op::Activate(Activation::QuantizedSilu { before, gate, after });
                (inputs[..] == [x]).then_some((op, from))
            })
        };
        if let Some((op, from)) = found() {
            graph.nodes[index].op = op;
            graph.nodes[index].inputs = vec![from];
        }
    }
}

/// What is brought to 8 bits behind a pad of zeros is brought there before it: zero stays zero, and the pad may become
/// a convolution's.
fn quantized_padding(graph: &mut Graph) {
    // the 8 bits themselves, which nobody reads any more, must not count as a reader
    graph.sweep();
    let (makers, uses) = (graph.makers(), graph.uses());
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Activate(Activation::Quantized(levels)), &[padded]) = (&node.op, &node.inputs[..]) else {
            continue;
        };
        let (activation, holds_zero) =
            (Activation::Quantized(*levels), levels.low <= 0.0 && levels.high >= 0.0);
        let Some(pad) = makers[padded.0].filter(|_| uses[padded.0] == 1 && holds_zero) else { continue };
        let Node { op: Op::Pad { value: 0.0, .. }, inputs, .. } = &graph.nodes[pad] else { continue };
        let &[source] = &inputs[..] else { continue };
        if graph.value(source).foreign || graph.value(source).constant.is_some() {
            continue;
        }
        let (name, shape) = (graph.nodes[index].name.clone(), graph.value(source).shape.clone());
        let made = graph.add_value(&name, shape);
        let op = std::mem::replace(&mut graph.nodes[pad].op, Op::Activate(activation));
        graph.nodes[pad].outputs = vec![made];
        graph.nodes[index].op = op;
        graph.nodes[index].inputs = vec![made];
    }
}

/// A pad of zeros → the padding of the convolutions that read it; of −∞ → of the max-pools.
fn padding(graph: &mut Graph) {
    let makers = graph.makers();
    for index in 0..graph.nodes.len() {
        let Some(&source) = graph.nodes[index].inputs.first() else { continue };
        let Some(Node { op: Op::Pad { before, after, value }, inputs, .. }) =
            makers[source.0].map(|m| graph.nodes[m].clone())
        else {
            continue;
        };
        let ([0, 0, top, left], [0, 0, bottom, right]) = (&before[..], &after[..]) else { continue };
        let node = &mut graph.nodes[index];
        let window = match &mut node.op {
            Op::Conv(conv) if value == 0.0 => &mut conv.window,
            Op::MaxPool(window) if value == f32::NEG_INFINITY => window,
            _ => continue,
        };
        window.before = [window.before[0] + top, window.before[1] + left];
        window.after = [window.after[0] + bottom, window.after[1] + right];
        node.inputs[0] = inputs[0];
    }
}

/// Reshape → transpose → reshape that only reorders channels (ShuffleNet) → gather.
fn shuffles(graph: &mut Graph) {
    let makers = graph.makers();
    for index in 0..graph.nodes.len() {
        if !matches!(graph.nodes[index].op, Op::Reshape) {
            continue;
        }
        let output = graph.value(graph.nodes[index].outputs[0]).shape.clone();
        let (mut from, mut orders) = (graph.nodes[index].inputs[0], Vec::new());
        // exporters write the transposition as one or several moves
        while let Some(Node { op: Op::Transpose { order }, inputs, .. }) =
            makers[from.0].map(|m| &graph.nodes[m])
        {
            orders.push(order.clone());
            from = inputs[0];
        }
        let Some(Node { op: Op::Reshape, inputs, .. }) = makers[from.0].map(|m| &graph.nodes[m]) else {
            continue;
        };
        let (middle, input) = (graph.value(from).shape.clone(), inputs[0]);
        let swapped = orders.into_iter().rev().fold((0..middle.len()).collect::<Vec<_>>(), |axes, order| {
            order.iter().map(|&a| axes[a]).collect()
        });
        let (&[1, g, n, h, w], &[1, c, oh, ow]) = (&middle[..], &output[..]) else { continue };
        let same = graph.value(input).shape == output && (h, w) == (oh, ow) && g * n == c;
        if same && swapped == [0, 2, 1, 3, 4] {
            let indices = (0..c).map(|i| (i % g) * n + i / g).collect();
            graph.nodes[index].op = Op::Gather { axis: 1, indices };
            graph.nodes[index].inputs = vec![input];
        }
    }
}

/// Folds the one reader of a convolution's or dense layer's output into it; whether anything was folded.
fn followers(graph: &mut Graph) -> bool {
    let (uses, makers) = (graph.uses(), graph.makers());
    for index in 0..graph.nodes.len() {
        for slot in 0..graph.nodes[index].inputs.len() {
            let id = graph.nodes[index].inputs[slot];
            let Some(maker) = makers[id.0] else { continue };
            if uses[id.0] == 1 && maker < index && fold(graph, maker, index, slot, &makers) {
                return true;
            }
        }
    }
    false
}

/// Folds node `index` into convolution `maker`, whose output is its operand `slot`. The convolution takes the
/// node's place, so that a shortcut is there before it runs.
fn fold(graph: &mut Graph, maker: usize, index: usize, slot: usize, makers: &[Option<usize>]) -> bool {
    if let Op::Linear(linear) = &graph.nodes[maker].op {
        let available = |id: ValueId| makers[id.0].is_none_or(|m| m < index);
        let Some((op, inputs)) =
            transformer::follow(graph, linear, &graph.nodes[maker].inputs, (index, slot), available)
        else {
            return false;
        };
        let (name, outputs) = (graph.nodes[maker].name.clone(), graph.nodes[index].outputs.clone());
        graph.nodes[index] = Node { name, op, inputs, outputs };
        graph.nodes.remove(maker);
        return true;
    }
    let Op::Conv(conv) = &graph.nodes[maker].op else { return false };
    let node = &graph.nodes[index];
    let output = graph.value(node.outputs[0]);
    let mut conv = conv.clone();
    let mut inputs = graph.nodes[maker].inputs.clone();
    let bare = conv.activation == Activation::Identity;
    match node.op {
        Op::Activate(activation) if bare && conv.residual != Some(Residual::AfterActivation) => {
            conv.activation = activation;
        }
        Op::Activate(Activation::Quantized(levels)) if conv.residual != Some(Residual::AfterActivation) => {
            let Some(levels) = bounded(conv.activation, levels) else { return false };
            conv.activation = Activation::Quantized(levels);
        }
        Op::Binary(op) => {
            let Some(&other) = node.inputs.get(1 - slot) else { return false };
            let value = graph.value(other);
            if output.shape != graph.value(graph.nodes[maker].outputs[0]).shape {
                return false;
            }
            if let Some(factors) = per_channel(value, conv.bias.len()) {
                if !bare || conv.residual.is_some() || !affine(&mut conv, op, slot, &factors) {
                    return false;
                }
            } else {
                // a shortcut: of the same shape, and no constant
                let available =
                    makers[other.0].is_none_or(|m| m < index) && value.constant.is_none() && !value.foreign;
                // what is brought to 8 bits before stays so
                let in_codes = conv.is_int8 && int8::levels_of(conv.activation).is_some();
                if in_codes
                    || op != Binary::Add
                    || conv.residual.is_some()
                    || value.shape != output.shape
                    || !available
                {
                    return false;
                }
                conv.residual =
                    Some(if bare { Residual::BeforeActivation } else { Residual::AfterActivation });
                inputs.push(other);
            }
        }
        _ => return false,
    }
    let name = graph.nodes[maker].name.clone();
    let outputs = graph.nodes[index].outputs.clone();
    graph.nodes[index] = Node { name, op: Op::Conv(conv), inputs, outputs };
    graph.nodes.remove(maker);
    true
}

/// The levels that are left of a clip brought to 8 bits: both only grow with their number, so their order is all one.
fn bounded(activation: Activation, levels: Levels) -> Option<Levels> {
    let Activation::Clip { low, high } = activation else { return None };
    let level = |bound: f32| (bound / levels.scale).round_ties_even().max(levels.low).min(levels.high);
    Some(Levels { low: level(low), high: level(high), ..levels })
}

/// The constant as one number per channel of `[1, C, H, W]`.
fn per_channel(value: &Value, channels: usize) -> Option<Vec<f32>> {
    let numbers = value.numbers()?;
    match (&*numbers, value.shape.as_slice()) {
        ([one], _) => Some(vec![*one; channels]),
        (all, &[1, c, 1, 1]) if c == channels => Some(all.to_vec()),
        _ => None,
    }
}

/// Folds `conv op factors` (or `factors op conv` when `slot` is 1) into scale and bias.
fn affine(conv: &mut super::graph::Conv, op: Binary, slot: usize, factors: &[f32]) -> bool {
    let mut scale = |f: &dyn Fn(f32) -> f32, also: &dyn Fn(f32, f32) -> f32| {
        if conv.scale.is_empty() {
            conv.scale = vec![1.0; conv.bias.len()];
        }
        for ((s, b), &factor) in conv.scale.iter_mut().zip(&mut conv.bias).zip(factors) {
            *s *= f(factor);
            *b = also(*b, factor);
        }
    };
    match (op, slot) {
        (Binary::Mul, _) => scale(&|f| f, &|b, f| b * f),
        (Binary::Div, 0) => scale(&|f| 1.0 / f, &|b, f| b / f),
        (Binary::Add, _) => scale(&|_| 1.0, &|b, f| b + f),
        (Binary::Sub, 0) => scale(&|_| 1.0, &|b, f| b - f),
        (Binary::Sub, _) => scale(&|_| -1.0, &|b, f| f - b),
        _ => return false,
    }
    true
}
