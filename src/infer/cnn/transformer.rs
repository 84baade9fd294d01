//! Folds what transformers are made of: GELU and layer normalisation written as arithmetic, attention,
//! transpositions and scales of products, and what follows a dense layer.

use super::graph::{Attention, Axes, Graph, Linear, MAX_MASKS, Node, Op, Product, Reduction, ValueId};
use super::kernels::{Activation, Binary, LANES, Residual};

/// Fewest columns of a dense layer that something is folded into: narrower ones have a kernel that knows
/// nothing of it.
pub(super) const FEWEST_COLUMNS: usize = LANES / 2;

/// How far a written constant may be from the number it stands for, relatively: exporters write six digits.
const ROUNDING: f32 = 1e-5;

/// Rewrites everything but the followers of dense layers.
pub(super) fn simplify(graph: &mut Graph) {
    gelus(graph);
    norms(graph);
    while operands(graph) {}
    while results(graph) {}
    graph.sweep();
    attention(graph);
    graph.sweep();
}

fn is(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= ROUNDING * expected.abs()
}

/// Which node made each value.
struct Makers<'a> {
    graph: &'a Graph,
    makers: Vec<Option<usize>>,
}

impl<'a> Makers<'a> {
    fn new(graph: &'a Graph) -> Makers<'a> {
        Makers { graph, makers: graph.makers() }
    }

    fn node(&self, id: ValueId) -> Option<&'a Node> {
        self.graph.nodes.get((*self.makers.get(id.0)?)?)
    }

    /// Operands of a value that an element-wise operation made.
    fn binary(&self, id: ValueId, op: Binary) -> Option<[ValueId; 2]> {
        let node = self.node(id)?;
        match (&node.op, &node.inputs[..]) {
            (Op::Binary(found), &[a, b]) if *found == op => Some([a, b]),
            _ => None,
        }
    }

    fn activated(&self, id: ValueId, activation: Activation) -> Option<ValueId> {
        let node = self.node(id)?;
        (matches!(node.op, Op::Activate(found) if found == activation))
            .then(|| node.inputs.first().copied())?
    }

    fn number(&self, id: ValueId) -> Option<f32> {
        self.graph.value(id).uniform()
    }

    /// A value and the number that is added to it.
    fn plus(&self, id: ValueId) -> Option<(ValueId, f32)> {
        let [a, b] = self.binary(id, Binary::Add)?;
        match (self.number(a), self.number(b)) {
            (None, Some(number)) => Some((a, number)),
            (Some(number), None) => Some((b, number)),
            _ => None,
        }
    }

    /// A value as a product of a number and of other values.
    fn factors(&self, id: ValueId) -> (f32, Vec<ValueId>) {
        let (mut number, mut values, mut rest) = (1.0, Vec::new(), vec![id]);
        while let Some(id) = rest.pop() {
            if let Some(factor) = self.number(id) {
                number *= factor;
            } else if let (Some([a, b]), true) =
                (self.binary(id, Binary::Mul), values.len() + rest.len() < MOST_FACTORS)
            {
                rest.extend([a, b]);
            } else if let Some((a, Some(divisor))) =
                self.binary(id, Binary::Div).map(|[a, b]| (a, self.number(b)))
            {
                number /= divisor;
                rest.push(a);
            } else {
                values.push(id);
            }
        }
        (number, values)
    }

    /// What a sum over the last axis and a division by its length are made of.
    fn mean(&self, id: ValueId) -> Option<ValueId> {
        let (number, values) = self.factors(id);
        let &[sum] = &values[..] else { return None };
        let node = self.node(sum)?;
        let from = *node.inputs.first()?;
        let length = *self.graph.value(from).shape.last()? as f32;
        (matches!(node.op, Op::Reduce(Reduction::Sum)) && is(number, 1.0 / length)).then_some(from)
    }
}

/// Factors of a product that is looked at: GELU has three.
const MOST_FACTORS: usize = 4;

/// `x · (1 + erf(x / √2)) / 2` and its form with tanh, in any order.
fn gelus(graph: &mut Graph) {
    let mut found = Vec::new();
    let makers = Makers::new(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        let &[output] = &node.outputs[..] else { continue };
        if let Some((x, activation)) = gelu(&makers, output)
            && graph.value(x).shape == graph.value(output).shape
        {
            found.push((index, x, activation));
        }
    }
    for (index, x, activation) in found {
        graph.nodes[index].op = Op::Activate(activation);
        graph.nodes[index].inputs = vec![x];
    }
}

fn gelu(makers: &Makers<'_>, id: ValueId) -> Option<(ValueId, Activation)> {
    makers.binary(id, Binary::Mul)?;
    let (number, values) = makers.factors(id);
    let &[a, b] = &values[..] else { return None };
    if !is(number, 0.5) {
        return None;
    }
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        let (inner, one) = makers.plus(gate)?;
        if one != 1.0 {
            return None;
        }
        if let Some(y) = makers.activated(inner, Activation::Erf) {
            let (scale, from) = makers.factors(y);
            return (from == [x] && is(scale, std::f32::consts::FRAC_1_SQRT_2))
                .then_some((x, Activation::Gelu));
        }
        let (scale, sum) = makers.factors(makers.activated(inner, Activation::Tanh)?);
        let &[sum] = &sum[..] else { return None };
        let [c, d] = makers.binary(sum, Binary::Add)?;
        let cubic = if c == x { d } else { c };
        let (share, cubed) = makers.factors(cubic);
        let cubed = match &cubed[..] {
            &[one] => makers.activated(one, Activation::Cube) == Some(x),
            all => all == [x, x, x],
        };
        let same = (c == x || d == x)
            && cubed
            && is(scale, (2.0 * std::f32::consts::FRAC_1_PI).sqrt())
            && is(share, 0.044_715);
        same.then_some((x, Activation::GeluTanh))
    })
}

/// `(x − mean) / √(variance + epsilon)` over the last axis, and the constants it is multiplied by and added
/// to.
fn norms(graph: &mut Graph) {
    let mut found = Vec::new();
    let makers = Makers::new(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some((x, epsilon)) = node.outputs.first().and_then(|output| norm(&makers, *output)) {
            found.push((index, x, epsilon));
        }
    }
    for (index, x, epsilon) in found {
        graph.nodes[index].op = Op::Normalize { epsilon };
        graph.nodes[index].inputs = vec![x];
    }
    graph.sweep();
    // its scale, then its bias
    for (op, numbers) in [(Binary::Mul, 0), (Binary::Add, 1)] {
        let (uses, makers) = (graph.uses(), graph.makers());
        for index in 0..graph.nodes.len() {
            let node = &graph.nodes[index];
            let &[a, b] = &node.inputs[..] else { continue };
            let normalized = |id: ValueId| {
                makers[id.0].filter(|maker| matches!(graph.nodes[*maker].op, Op::Normalize { .. }))
            };
            let Some((maker, id, other)) =
                normalized(a).map(|maker| (maker, a, b)).or_else(|| normalized(b).map(|maker| (maker, b, a)))
            else {
                continue;
            };
            let length = graph.value(id).shape.last().copied().unwrap_or(0);
            let fits = of_last_axis(graph, other, length)
                && graph.value(node.outputs[0]).shape == graph.value(id).shape;
            let inputs = &graph.nodes[maker].inputs;
            if !matches!(node.op, Op::Binary(found) if found == op)
                || uses[id.0] != 1
                || !fits
                || inputs.len() != 1 + numbers
            {
                continue;
            }
            let inputs = inputs.iter().copied().chain([other]).collect();
            graph.nodes[index].op = graph.nodes[maker].op.clone();
            graph.nodes[index].inputs = inputs;
        }
        graph.sweep();
    }
}

fn norm(makers: &Makers<'_>, id: ValueId) -> Option<(ValueId, f32)> {
    // times the reciprocal of the deviation, or divided by it
    let (centred, variance) = match (makers.binary(id, Binary::Mul), makers.binary(id, Binary::Div)) {
        (Some([a, b]), _) => [(a, b), (b, a)].into_iter().find_map(|(centred, factor)| {
            let root =
                || makers.activated(makers.activated(factor, Activation::Reciprocal)?, Activation::Sqrt);
            Some((centred, makers.activated(factor, Activation::Rsqrt).or_else(root)?))
        })?,
        (_, Some([a, b])) => (a, makers.activated(b, Activation::Sqrt)?),
        _ => return None,
    };
    let (variance, epsilon) = makers.plus(variance)?;
    let [x, mean] = makers.binary(centred, Binary::Sub)?;
    let [d, e] = makers.binary(makers.mean(variance)?, Binary::Mul)?;
    // the difference may have been written twice
    let same = |id: ValueId| id == centred || makers.binary(id, Binary::Sub) == Some([x, mean]);
    (makers.mean(mean)? == x && same(d) && same(e) && epsilon >= 0.0).then_some((x, epsilon))
}

/// Whether a value holds one constant for each index of an axis of this length that is its last.
fn of_last_axis(graph: &Graph, id: ValueId, length: usize) -> bool {
    let value = graph.value(id);
    let float = value.constant.as_ref().is_some_and(super::constant::Constant::is_float);
    float && !value.foreign && value.len() == length && value.shape.last() == Some(&length)
}

/// Takes a transposition or a number off an operand of a product; whether there was one.
fn operands(graph: &mut Graph) -> bool {
    let makers = graph.makers();
    for index in 0..graph.nodes.len() {
        let Op::Product(product) = &graph.nodes[index].op else { continue };
        for slot in 0..2 {
            let Some(maker) = graph.nodes[index].inputs.get(slot).and_then(|id| makers[id.0]) else {
                continue;
            };
            let (mut product, maker) = (product.clone(), &graph.nodes[maker]);
            let input = match &maker.op {
                Op::Transpose { order } => {
                    let axes = if slot == 0 { &mut product.left } else { &mut product.right };
                    *axes = axes.map(|axis| axis.and_then(|axis| order.get(axis).copied()));
                    maker.inputs[0]
                }
                Op::Binary(_) => match scaled(graph, maker) {
                    Some((input, scale)) => {
                        product.scale *= scale;
                        input
                    }
                    None => continue,
                },
                _ => continue,
            };
            if graph.value(input).foreign || graph.value(input).constant.is_some() {
                continue;
            }
            graph.nodes[index].op = Op::Product(product);
            graph.nodes[index].inputs[slot] = input;
            return true;
        }
    }
    false
}

/// `value · number` of the value's shape.
fn scaled(graph: &Graph, node: &Node) -> Option<(ValueId, f32)> {
    let &[a, b] = &node.inputs[..] else { return None };
    let (value, scale) = match (&node.op, graph.value(a).uniform(), graph.value(b).uniform()) {
        (Op::Binary(Binary::Mul), None, Some(number)) => (a, number),
        (Op::Binary(Binary::Mul), Some(number), None) => (b, number),
        (Op::Binary(Binary::Div), None, Some(number)) => (a, 1.0 / number),
        _ => return None,
    };
    (scale.is_finite() && graph.value(value).shape == graph.value(node.outputs[0]).shape)
        .then_some((value, scale))
}

/// Takes in a transposition of a product's result, or a number it is multiplied by, where nobody else reads
/// it.
fn results(graph: &mut Graph) -> bool {
    let (uses, makers) = (graph.uses(), graph.makers());
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (input, scale) = match &node.op {
            Op::Transpose { .. } => (node.inputs[0], 1.0),
            Op::Binary(_) => match scaled(graph, node) {
                Some(scaled) => scaled,
                None => continue,
            },
            _ => continue,
        };
        let Some(maker) = makers[input.0].filter(|_| uses[input.0] == 1) else { continue };
        let Op::Product(product) = &graph.nodes[maker].op else { continue };
        let mut product = product.clone();
        product.scale *= scale;
        if let Op::Transpose { order } = &node.op {
            product.out = product.out.map(|axis| order.iter().position(|from| Some(*from) == axis));
        }
        graph.nodes[maker].op = Op::Product(product);
        graph.nodes[maker].outputs = graph.nodes[index].outputs.clone();
        graph.nodes.remove(index);
        return true;
    }
    false
}

/// The other way round: `(a · b)ᵀ = bᵀ · aᵀ`.
fn turned(product: &Product) -> Product {
    let turn = |[a, b, c, d]: Axes| [a, b, d, c];
    Product {
        left: turn(product.right),
        right: turn(product.left),
        out: turn(product.out),
        scale: product.scale,
    }
}

/// product → masks that are added → softmax → product.
fn attention(graph: &mut Graph) {
    let (uses, makers) = (graph.uses(), graph.makers());
    for index in 0..graph.nodes.len() {
        let Op::Product(second) = &graph.nodes[index].op else { continue };
        for slot in 0..2 {
            let weights = graph.nodes[index].inputs[slot];
            let Some(softmax) =
                makers[weights.0].filter(|_| uses[weights.0] == 1).map(|maker| &graph.nodes[maker])
            else {
                continue;
            };
            let Op::Softmax { axis } = softmax.op else { continue };
            let found = Scores::of(graph, (&uses, &makers), softmax.inputs[0], MOST_BETWEEN);
            let Some(Scores { product: maker, out, mut masks }) = found else { continue };
            let Op::Product(first) = &maker.op else { continue };
            let first = Product { out, ..(**first).clone() };
            let (mut second, value) = match slot {
                0 => ((**second).clone(), graph.nodes[index].inputs[1]),
                _ => (turned(second), graph.nodes[index].inputs[0]),
            };
            // the softmax goes over the first's columns, which are the second's depth
            let (first, [query, key]) = match first.out[3] == Some(axis) {
                true => (first, [maker.inputs[0], maker.inputs[1]]),
                false => {
                    masks.iter_mut().for_each(|(_, axes)| axes.swap(2, 3));
                    (turned(&first), [maker.inputs[1], maker.inputs[0]])
                }
            };
            if second.left[..2] != first.out[..2] {
                [&mut second.left, &mut second.right, &mut second.out]
                    .into_iter()
                    .for_each(|axes| axes.swap(0, 1));
            }
            if first.out[3] != Some(axis) || second.left != first.out || second.scale != 1.0 {
                continue;
            }
            let [b, c, depth, keys] = first.right;
            let inputs = [query, key, value].into_iter().chain(masks.iter().map(|(id, _)| *id)).collect();
            let attention = Attention {
                query: first.left,
                key: [b, c, keys, depth],
                value: second.right,
                out: second.out,
                scale: first.scale,
                masks: masks.into_iter().map(|(_, axes)| axes).collect(),
            };
            graph.nodes[index].op = Op::Attention(Box::new(attention));
            graph.nodes[index].inputs = inputs;
            break;
        }
    }
}

/// Most nodes between a product and its softmax that are looked at: Swin has two masks, and two changes of
/// shape around the second.
const MOST_BETWEEN: usize = 6;

/// What a softmax goes over.
struct Scores<'a> {
    product: &'a Node,
    /// As [`Product::out`], of the value that the softmax reads.
    out: Axes,
    /// What was added to the product.
    masks: Vec<(ValueId, Axes)>,
}

impl<'a> Scores<'a> {
    /// Finds the product that a value is made of, which nobody else reads.
    fn of(
        graph: &'a Graph,
        (uses, makers): (&[usize], &[Option<usize>]),
        id: ValueId,
        most: usize,
    ) -> Option<Scores<'a>> {
        let node = graph.nodes.get(makers[id.0].filter(|_| uses[id.0] == 1)?)?;
        let shape = &graph.value(id).shape;
        let inner = |id: ValueId| Scores::of(graph, (uses, makers), id, most.checked_sub(1)?);
        match (&node.op, &node.inputs[..]) {
            (Op::Product(product), _) => Some(Scores { product: node, out: product.out, masks: Vec::new() }),
            (Op::Binary(Binary::Add), &[a, b]) => [(a, b), (b, a)].into_iter().find_map(|(scores, mask)| {
                let of_mask = graph.value(mask);
                let float = of_mask.constant.as_ref().is_none_or(super::constant::Constant::is_float);
                if graph.value(scores).shape != *shape || of_mask.foreign || !float {
                    return None;
                }
                let mut found = inner(scores)?;
                // what has length 1 serves for all
                let long = |axis: &usize| of_mask.shape.get(*axis).is_some_and(|length| *length != 1);
                found.masks.push((mask, found.out.map(|axis| axis.filter(long))));
                (found.masks.len() <= MAX_MASKS).then_some(found)
            }),
            (Op::Reshape, &[before]) => {
                let mut found = inner(before)?;
                // only axes of length 1 come and go
                let long = |shape: &[usize]| -> Vec<usize> {
                    (0..shape.len()).filter(|axis| shape[*axis] != 1).collect()
                };
                let of_before = &graph.value(before).shape;
                let (from, to) = (long(of_before), long(shape));
                let same = from.iter().map(|axis| of_before[*axis]).eq(to.iter().map(|axis| shape[*axis]));
                found.out = found.out.map(|axis| {
                    from.iter().zip(&to).find(|(from, _)| Some(**from) == axis).map(|(_, to)| *to)
                });
                same.then_some(found)
            }
            _ => None,
        }
    }
}

/// A dense layer with node `index` folded into it, whose operand `slot` it makes; and its operands then.
pub(super) fn follow(
    graph: &Graph,
    linear: &Linear,
    inputs: &[ValueId],
    (index, slot): (usize, usize),
    available: impl Fn(ValueId) -> bool,
) -> Option<(Op, Vec<ValueId>)> {
    let (node, [_, columns]) = (&graph.nodes[index], linear.size()?);
    let (mut linear, mut inputs) = (linear.clone(), inputs.to_vec());
    let output = graph.value(*node.outputs.first()?);
    let bare = linear.activation == Activation::Identity;
    if columns < FEWEST_COLUMNS || output.shape != graph.value(*node.inputs.get(slot)?).shape {
        return None;
    }
    match node.op {
        Op::Activate(activation) if bare && linear.residual.is_none() => linear.activation = activation,
        Op::Binary(op) => {
            let other = *node.inputs.get(1 - slot)?;
            let value = graph.value(other);
            let numbers = of_last_axis(graph, other, columns);
            match op {
                Binary::Add
                    if numbers
                        && bare
                        && !linear.bias
                        && linear.scale.is_empty()
                        && linear.residual.is_none() =>
                {
                    linear.bias = true;
                    inputs.push(other);
                }
                // what a layer's share in a residual is multiplied by
                Binary::Mul if numbers && bare && linear.scale.is_empty() && linear.residual.is_none() => {
                    linear.scale = value.numbers()?.to_vec();
                }
                Binary::Add
                    if linear.residual.is_none()
                        && columns % LANES == 0
                        && value.shape == output.shape
                        && value.constant.is_none()
                        && !value.foreign
                        && available(other) =>
                {
                    linear.residual =
                        Some(if bare { Residual::BeforeActivation } else { Residual::AfterActivation });
                    inputs.push(other);
                }
                _ => return None,
            }
        }
        _ => return None,
    }
    Some((Op::Linear(Box::new(linear)), inputs))
}
