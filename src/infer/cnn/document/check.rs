//! Whether a graph makes sense: every value is made once and before it is read, and every shape follows from
//! its operation.
//!
//! What lies behind this check (layout, storage, lowering, the steps themselves) may rely on it; the rules
//! stand here and nowhere else. A graph that breaks one is not refused by the process that has made it, only
//! kept there.

use crate::infer::cnn::graph::{
    Conv, Graph, Linear, MAX_MASKS, MAX_RANK, Node, Op, Taps, ValueId, Window, lengths,
};
use crate::infer::cnn::import::{MAX_ELEMENTS, MAX_WINDOW};
use crate::infer::cnn::kernels::Activation;

/// Longest side of a picture, pixels: sixteen times the longest input.
const MAX_SIDE: usize = 1 << 16;

/// The rule that the graph breaks, with the node that breaks it.
pub(in crate::infer::cnn) fn check(graph: &Graph) -> Result<(), String> {
    let mut made = vec![false; graph.values.len()];
    for (value, made) in graph.values.iter().zip(&mut made) {
        let elements = value.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        let fits = elements.is_some_and(|elements| (1..=MAX_ELEMENTS).contains(&elements));
        if !fits || value.shape.len() > MAX_RANK || value.foreign {
            return Err(format!("a value of shape {:?}", value.shape));
        }
        *made = value.constant.is_some();
    }
    let mut make = |id: &ValueId| made.get_mut(id.0).is_some_and(|made| !std::mem::replace(made, true));
    let [input] = graph.inputs[..] else { return Err("not one input".into()) };
    if !make(&input) {
        return Err("the input is a constant".into());
    }
    let mut checker = Checker { graph, made };
    for node in &graph.nodes {
        checker.node(node).map_err(|rule| format!("node {}: {rule}", node.name))?;
    }
    let computed =
        |id: &ValueId| checker.made.get(id.0) == Some(&true) && graph.value(*id).constant.is_none();
    match !graph.outputs.is_empty() && graph.outputs.iter().all(computed) {
        true => Ok(()),
        false => Err("an output that nothing makes".into()),
    }
}

struct Checker<'a> {
    graph: &'a Graph,
    /// By value: whether it is known by now.
    made: Vec<bool>,
}

impl Checker<'_> {
    fn shape(&self, id: ValueId) -> &[usize] {
        &self.graph.value(id).shape
    }

    fn node(&mut self, node: &Node) -> Result<(), &'static str> {
        let known = |id: &ValueId| self.made.get(id.0) == Some(&true);
        if !node.inputs.iter().all(known) {
            return Err("an operand that nothing makes before it");
        }
        let [output] = node.outputs[..] else { return Err("not one result") };
        if std::mem::replace(&mut self.made[output.0], true) {
            return Err("a result that is made already");
        }
        let inputs: Vec<&[usize]> = node.inputs.iter().map(|id| self.shape(*id)).collect();
        let follows = match follows(&node.op, &inputs, self.shape(output)) {
            Some(follows) => follows,
            None => return Err("operands that its operation cannot have"),
        };
        let constant = |id: &ValueId| self.graph.value(*id).constant.is_some();
        // a shortcut that never changes is no shortcut
        let shortcut = match &node.op {
            Op::Conv(conv) if conv.residual.is_some() => node.inputs.get(1),
            Op::Linear(linear) if linear.residual.is_some() => node.inputs.last(),
            _ => None,
        };
        if shortcut.is_some_and(constant) {
            return Err("a constant shortcut");
        }
        let numbers = match &node.op {
            Op::Linear(linear) => 1..1 + usize::from(linear.bias),
            Op::Normalize { .. } => 1..node.inputs.len(),
            _ => 0..0,
        };
        if !node.inputs.get(numbers).is_some_and(|numbers| numbers.iter().all(constant)) {
            return Err("numbers that are not constant");
        }
        let computed = matches!(
            &node.op,
            Op::Linear(_)
                | Op::Normalize { .. }
                | Op::Reduce(_)
                | Op::Product(_)
                | Op::Attention(_)
                | Op::Sample { .. }
        );
        let operands = match &node.op {
            Op::Linear(_) | Op::Normalize { .. } => 1,
            // masks may be constant
            Op::Attention(_) => 3,
            _ => node.inputs.len(),
        };
        if computed && (node.inputs.is_empty() || node.inputs.iter().take(operands).any(constant)) {
            return Err("an operand that is constant");
        }
        if follows { Ok(()) } else { Err("a shape that does not follow from its operands") }
    }
}

/// Whether an operation makes `output` of `inputs`. `None`: it cannot have such operands.
fn follows(op: &Op, inputs: &[&[usize]], output: &[usize]) -> Option<bool> {
    let only = || if let [only] = inputs { Some(*only) } else { None };
    Some(match op {
        Op::Conv(conv) => convolution(conv, inputs, output)?,
        Op::MaxPool(window) | Op::AveragePool { window, .. } => {
            let (&[1, c, h, w], &[1, oc, oh, ow]) = (only()?, output) else { return None };
            is_window(window) && c == oc && pooled(window, 0, h, oh) && pooled(window, 1, w, ow)
        }
        Op::GlobalSum => matches!((only()?, output), (&[1, c, _, _], &[1, oc, 1, 1]) if c == oc),
        Op::Resize { rows, columns } => {
            let (&[1, c, h, w], &[1, oc, oh, ow]) = (only()?, output) else { return None };
            c == oc && are_taps(rows, h, oh) && are_taps(columns, w, ow)
        }
        Op::Activate(activation) => is_activation(*activation) && only()? == output,
        Op::DynamicQuantize => only()? == output,
        Op::Binary(_) => {
            let &[a, b] = inputs else { return None };
            let side = |a: usize, b: usize, out: usize| {
                out == a.max(b) && (a == out || a == 1) && (b == out || b == 1)
            };
            let mut dims = a.iter().zip(b).zip(output);
            a.len() == output.len() && b.len() == output.len() && dims.all(|((a, b), out)| side(*a, *b, *out))
        }
        Op::Concat { axis } => {
            let whole = *output.get(*axis)?;
            let along: usize = inputs.iter().filter_map(|input| input.get(*axis)).sum();
            !inputs.is_empty()
                && inputs.iter().all(|input| is_but_for(input, output, *axis, whole))
                && along == whole
        }
        Op::Slice { axis, start, end } => {
            let input = only()?;
            let along = *input.get(*axis)?;
            start < end && *end <= along && is_but_for(input, output, *axis, end - start)
        }
        Op::Gather { axis, indices } => {
            let input = only()?;
            let along = *input.get(*axis)?;
            indices.iter().all(|index| *index < along) && is_but_for(input, output, *axis, indices.len())
        }
        Op::Reshape => only()?.iter().product::<usize>() == output.iter().product::<usize>(),
        Op::Transpose { order } => {
            let input = only()?;
            let mut axes = order.clone();
            axes.sort_unstable();
            axes.into_iter().eq(0..input.len())
                && order.iter().map(|axis| input[*axis]).eq(output.iter().copied())
        }
        Op::Softmax { axis } => *axis < output.len() && only()? == output,
        Op::Linear(linear) => linearly(linear, inputs, output)?,
        Op::Product(product) => {
            let &[left, right] = inputs else { return None };
            let [left, right] = [lengths(&product.left, left)?, lengths(&product.right, right)?];
            multiplies(left, right, lengths(&product.out, output)?) && product.scale.is_finite()
        }
        Op::Attention(attention) => {
            let &[query, key, value, ref masks @ ..] = inputs else { return None };
            let [query, key] = [lengths(&attention.query, query)?, lengths(&attention.key, key)?];
            let [value, out] = [lengths(&attention.value, value)?, lengths(&attention.out, output)?];
            let scores = [query[0].max(key[0]), query[1].max(key[1]), query[2], key[2]];
            let turned = [key[0], key[1], key[3], key[2]];
            if masks.len() != attention.masks.len() || masks.len() > MAX_MASKS {
                return None;
            }
            for (axes, mask) in attention.masks.iter().zip(masks) {
                let sides = lengths(axes, mask)?;
                if !sides.iter().zip(scores).all(|(side, score)| *side == 1 || *side == score) {
                    return None;
                }
            }
            multiplies(query, turned, scores) && multiplies(scores, value, out) && attention.scale.is_finite()
        }
        Op::Normalize { epsilon } => {
            let (input, numbers) = inputs.split_first()?;
            let last = *input.last()?;
            let of_last = |numbers: &&[usize]| numbers.iter().product::<usize>() == last;
            numbers.len() <= 2 && numbers.iter().all(of_last) && *input == output && *epsilon >= 0.0
        }
        Op::Sample { .. } => {
            let &[&[n, c, _, _], &[grids, rows, columns, 2]] = inputs else { return None };
            n == grids && *output == [n, c, rows, columns]
        }
        Op::Reduce(_) => {
            let (_, before) = only()?.split_last()?;
            output.split_last() == Some((&1, before))
        }
        Op::Pad { before, after, .. } => {
            let input = only()?;
            let sides =
                input.iter().zip(before).zip(after).map(|((dim, before), after)| dim + before + after);
            before.len() == input.len() && after.len() == input.len() && sides.eq(output.iter().copied())
        }
        Op::Foreign(_)
        | Op::ToBlocks
        | Op::FromBlocks
        | Op::Recast
        | Op::Quantize(_)
        | Op::Translate(_)
        | Op::Int8Binary { .. } => return None,
    })
}

/// Whether matrices of `[batch, batch, rows, depth]` and `[batch, batch, depth, columns]` make such ones.
fn multiplies([a0, a1, m, k]: [usize; 4], [b0, b1, depth, n]: [usize; 4], out: [usize; 4]) -> bool {
    let side =
        |a: usize, b: usize, out: usize| out == a.max(b) && (a == out || a == 1) && (b == out || b == 1);
    k == depth && side(a0, b0, out[0]) && side(a1, b1, out[1]) && [m, n] == out[2..]
}

fn linearly(linear: &Linear, inputs: &[&[usize]], output: &[usize]) -> Option<bool> {
    let ((&input, others), [k, n]) = (inputs.split_first()?, linear.size()?);
    let (last, before) = input.split_last()?;
    let mut others = others.iter();
    let bias = !linear.bias || others.next()?.iter().product::<usize>() == n;
    let residual = linear.residual.is_none() || *others.next()? == output;
    let fits = k >= 1 && n >= 1 && k.checked_mul(n)? <= MAX_ELEMENTS && !before.is_empty();
    let follows = *last == k && output.split_last() == Some((&n, before));
    Some(fits && follows && bias && residual && others.next().is_none() && is_activation(linear.activation))
}

/// The same shape, except that `axis` has `length`.
fn is_but_for(input: &[usize], output: &[usize], axis: usize, length: usize) -> bool {
    let dims = input.iter().enumerate().map(|(index, dim)| if index == axis { length } else { *dim });
    dims.eq(output.iter().copied())
}

fn convolution(conv: &Conv, inputs: &[&[usize]], output: &[usize]) -> Option<bool> {
    let (&input, rest) = inputs.split_first()?;
    let (&[1, c, h, w], &[1, oc, oh, ow]) = (input, output) else { return None };
    let &[o, i, kh, kw] = conv.weights.shape() else { return None };
    let elements = [o, i, kh, kw].into_iter().try_fold(1usize, |product, dim| product.checked_mul(dim))?;
    let shortcut = match (conv.residual, rest) {
        (None, []) => true,
        (Some(_), [shortcut]) => *shortcut == output,
        _ => false,
    };
    let numbers = |numbers: &[f32]| numbers.is_empty() || numbers.len() == o;
    Some(
        shortcut
            && (1..=MAX_ELEMENTS).contains(&elements)
            && is_window(&conv.window)
            && is_activation(conv.activation)
            && conv.window.kernel == [kh, kw]
            && (o, i.checked_mul(conv.groups)?, o.checked_rem(conv.groups)?) == (oc, c, 0)
            && numbers(&conv.scale)
            && numbers(&conv.bias)
            && convolved(&conv.window, 0, h) == Some(oh)
            && convolved(&conv.window, 1, w) == Some(ow),
    )
}

/// Sizes that a window may have. Padding is bounded by what it is added to: a picture's side.
fn is_window(window: &Window) -> bool {
    let positive = |pair: &[usize; 2]| pair.iter().all(|side| (1..=MAX_WINDOW).contains(side));
    let padding = window.before.iter().chain(&window.after).all(|side| *side <= MAX_SIDE);
    positive(&window.kernel) && positive(&window.stride) && positive(&window.dilation) && padding
}

/// How far windows along an axis can move.
fn room(window: &Window, axis: usize, length: usize) -> Option<usize> {
    let reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
    (length <= MAX_SIDE).then_some(length + window.before[axis] + window.after[axis])?.checked_sub(reach)
}

/// Outputs of a convolution along an axis.
fn convolved(window: &Window, axis: usize, length: usize) -> Option<usize> {
    Some(room(window, axis, length)? / window.stride[axis] + 1)
}

/// Whether a pooling has so many outputs along an axis: the last window may reach beyond the padding
/// (ceil_mode).
fn pooled(window: &Window, axis: usize, length: usize, outputs: usize) -> bool {
    let Some(room) = room(window, axis, length) else { return false };
    let floor = room / window.stride[axis] + 1;
    outputs == floor || outputs == room.div_ceil(window.stride[axis]) + 1
}

fn are_taps(taps: &Taps, length: usize, outputs: usize) -> bool {
    let inside = |position: u32| (position as usize) < length;
    let is_tap = |(first, second, weight): &(u32, u32, f32)| {
        inside(*first) && inside(*second) && (0.0..=1.0).contains(weight)
    };
    taps.len() == outputs && length.max(outputs) <= MAX_SIDE && taps.iter().all(is_tap)
}

/// No number that would make an order of numbers meaningless.
fn is_activation(activation: Activation) -> bool {
    match activation {
        Activation::Clip { low, high } => low <= high,
        Activation::Quantized(levels) => levels.low <= levels.high,
        Activation::QuantizedSilu { before, gate, after } => {
            [before, gate, after].iter().all(|levels| levels.low <= levels.high)
        }
        Activation::Leaky { slope } => !slope.is_nan(),
        _ => true,
    }
}
