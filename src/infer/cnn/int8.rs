//! Which parts of a graph are computed in integers: everything between values that the graph itself brings to 8
//! bits.
//!
//! Nothing is rounded here that the graph does not round: codes take the place of the floats that they stand for,
//! what is done to each number alone becomes a table of 256 codes, and a convolution of codes is exact.

use super::graph::{Coding, Conv, Graph, Int8, Node, Op, Recoding, ValueId};
use super::kernels::arena::{self, Arena};
use super::kernels::int8::{CODES, Table};
use super::kernels::{Activation, Binary, Kernels, Levels};
use std::collections::HashMap;

/// Most products of one sum: so many of the greatest stay within 32 bits.
const MAX_PRODUCTS: usize = 65_000;
/// How far from a whole number of steps a weight may be: what 32-bit floats lose over 128 steps, and ten times
/// that.
const NEAR: f32 = 5e-4;
/// Greatest weight on either side of zero, steps.
const MAX_STEPS: u8 = 128;

/// Finds the convolutions whose weights are 8-bit numbers, where the graph brings any value to 8 bits. Content must
/// be known.
pub(super) fn recognise(graph: &mut Graph) {
    let brings = |node: &Node| match &node.op {
        Op::Conv(conv) => levels_of(conv.activation).is_some(),
        Op::Activate(activation) => levels_of(*activation).is_some(),
        Op::DynamicQuantize => true,
        _ => false,
    };
    if !graph.nodes.iter().any(brings) {
        return;
    }
    for node in &mut graph.nodes {
        if let Op::Conv(conv) = &mut node.op {
            conv.is_int8 = has_steps(conv);
        }
    }
}

fn has_steps(conv: &Conv) -> bool {
    let channels = conv.weights.shape().first().copied().unwrap_or(0);
    let products = conv.weights.len() / channels.max(1);
    let fits = (1..=MAX_PRODUCTS).contains(&products);
    // one channel at a time: what lies in a file is not read whole
    let mut steps = (0..channels).map(|channel| {
        conv.weights
            .floats_in(channel * products..(channel + 1) * products)
            .and_then(|weights| step_of(&weights))
    });
    fits && steps.all(|step| step.is_some())
}

/// The greatest step of which all weights are whole numbers, from −128 to 127; `None` where there is none.
pub(super) fn step_of(weights: &[f32]) -> Option<f32> {
    let greatest = weights.iter().fold(0.0f32, |greatest, weight| greatest.max(weight.abs()));
    if greatest == 0.0 {
        return Some(1.0);
    }
    let is_whole = |step: f32| {
        weights.iter().all(|weight| {
            let steps = weight / step;
            (steps - steps.round()).abs() <= NEAR && steps.round() < f32::from(MAX_STEPS)
        })
    };
    let step = (1..=MAX_STEPS).map(|steps| greatest / f32::from(steps)).find(|step| is_whole(*step))?;
    (step.is_normal() && greatest.is_finite()).then_some(step)
}

/// Levels that an activation leaves, where they fit 8 bits.
pub(super) fn levels_of(activation: Activation) -> Option<Levels> {
    let levels = match activation {
        Activation::Quantized(levels) => levels,
        Activation::QuantizedSilu { before, after, .. } => {
            fits(&before)?;
            after
        }
        _ => return None,
    };
    fits(&levels)
}

fn fits(levels: &Levels) -> Option<Levels> {
    let Levels { scale, low, high, step } = *levels;
    let whole = low.fract() == 0.0 && high.fract() == 0.0 && low >= -255.0 && high <= 255.0;
    let inside = low <= 0.0 && high >= 0.0 && high - low <= 255.0;
    let positive = [scale, scale.recip(), step].into_iter().all(|number| number.is_normal() && number > 0.0);
    (whole && inside && positive).then_some(*levels)
}

/// The code that stands for zero, and the greatest one.
pub(super) fn zero_and_top(levels: &Levels) -> (i32, i32) {
    (-levels.low as i32, (levels.high - levels.low) as i32)
}

/// What a node is to codes.
enum Part {
    /// Takes codes.
    Conv,
    /// Makes codes of floats.
    Quantize(Levels),
    /// Chooses its own scale.
    Dynamic,
    /// What is done to each number of a value in codes.
    Translate(ValueId, Vec<Activation>, Levels),
    /// Makes codes of what the convolution of codes before it makes, which is read here alone: its number.
    Behind(usize, Levels),
    /// Two values in codes.
    Binary(Binary, [ValueId; 2], Levels),
    /// Moves codes, or takes some.
    Move,
}

/// Rewrites what is computed in integers; whether there is anything.
pub(super) fn code(graph: &mut Graph, kernels: &'static Kernels) -> bool {
    before_concatenations(graph);
    let parts = parts(graph);
    let useful = useful(graph, &parts);
    if !parts.iter().any(|part| matches!(part, Some(Part::Conv))) {
        return false;
    }
    let mut same: HashMap<ValueId, ValueId> = HashMap::new();
    for (index, part) in parts.into_iter().enumerate() {
        for slot in 0..graph.nodes[index].inputs.len() {
            let id = graph.nodes[index].inputs[slot];
            graph.nodes[index].inputs[slot] = *same.get(&id).unwrap_or(&id);
        }
        let output = graph.nodes[index].outputs[0];
        let of = |id: ValueId| *same.get(&id).unwrap_or(&id);
        match part {
            Some(Part::Conv) => conv(graph, index, useful[output.0], kernels),
            _ if !useful[output.0] => {}
            Some(Part::Quantize(levels)) => put(graph, index, Op::Quantize(levels), None, levels),
            Some(Part::Behind(maker, levels)) => {
                let made = graph.nodes[index].outputs.clone();
                let node = &mut graph.nodes[maker];
                let Op::Conv(conv) = &mut node.op else { continue };
                let activation = conv.activation;
                let Some(int8) = &mut conv.int8 else { continue };
                int8.output = Some(Recoding { levels, activation, table: None });
                let before = std::mem::replace(&mut node.outputs, made);
                graph.nodes[index].outputs = before;
                graph.values[output.0].coding = Some(Coding::Static(levels));
            }
            Some(Part::Dynamic) => graph.values[output.0].coding = Some(Coding::Dynamic),
            Some(Part::Translate(from, chain, levels)) => {
                let from = of(from);
                let Some(Coding::Static(had)) = graph.value(from).coding else { continue };
                if chain[..] == [Activation::Quantized(levels)] && had == levels {
                    same.insert(output, from);
                    continue;
                }
                let table = Box::new(table(kernels, &had, &chain, &levels));
                put(graph, index, Op::Translate(table), Some(vec![from]), levels);
            }
            Some(Part::Binary(op, sides, levels)) => {
                let inputs = sides.map(of).to_vec();
                put(graph, index, Op::Int8Binary { op, levels }, Some(inputs), levels);
            }
            Some(Part::Move) => {
                let coding = graph.nodes[index].inputs.first().and_then(|id| graph.value(*id).coding);
                graph.values[output.0].coding = coding;
            }
            None => {}
        }
    }
    for id in &mut graph.outputs {
        *id = *same.get(id).unwrap_or(id);
    }
    graph.sweep();
    tables_into_convolutions(graph);
    true
}

fn put(graph: &mut Graph, index: usize, op: Op, inputs: Option<Vec<ValueId>>, levels: Levels) {
    let node = &mut graph.nodes[index];
    node.op = op;
    if let Some(inputs) = inputs {
        node.inputs = inputs;
    }
    graph.values[node.outputs[0].0].coding = Some(Coding::Static(levels));
}

/// Makes a convolution one of codes.
fn conv(graph: &mut Graph, index: usize, is_useful: bool, kernels: &'static Kernels) {
    let Graph { nodes, values, .. } = graph;
    let node = &mut nodes[index];
    let Some(input) = node.inputs.first().and_then(|id| values[id.0].coding) else { return };
    let Op::Conv(conv) = &mut node.op else { return };
    let output = levels_of(conv.activation).filter(|_| is_useful && conv.residual.is_none());
    if conv.groups > 1 && output.is_none() {
        // depthwise loops make codes only
        return;
    }
    let output = output.map(|levels| match conv.activation {
        Activation::QuantizedSilu { before, .. } => {
            let table = table(kernels, &before, &[conv.activation], &levels);
            let activation = Activation::Identity;
            (levels, Recoding { levels: before, activation, table: Some(Box::new(table)) })
        }
        _ => (levels, Recoding { levels, activation: Activation::Identity, table: None }),
    });
    values[node.outputs[0].0].coding = output.as_ref().map(|(levels, _)| Coding::Static(*levels));
    conv.int8 = Some(Int8 { input, output: output.map(|(_, recoding)| recoding) });
}

/// For each code of some levels the code that it has after some activations.
fn table(kernels: &'static Kernels, from: &Levels, chain: &[Activation], to: &Levels) -> Table {
    let mut table = [0; CODES];
    let (zero, _) = zero_and_top(from);
    let (new_zero, top) = zero_and_top(to);
    let Some(mut arena) = Arena::new(CODES) else { return table };
    let mut part = arena.whole();
    for (code, number) in part.write(0..CODES).iter_mut().enumerate() {
        *number = (code as i32 - zero) as f32 * from.step;
    }
    for activation in chain {
        arena::activate(&kernels.pictures, &mut part, 0, 0, CODES, *activation);
    }
    for (code, number) in table.iter_mut().zip(part.read(0..CODES)) {
        let steps = (number / to.step).round_ties_even();
        *code = (steps as i32).saturating_add(new_zero).clamp(0, top) as u8;
    }
    table
}

/// What is brought to 8 bits behind a concatenation is brought there before it: the same numbers, and the pieces can
/// be made in their places.
fn before_concatenations(graph: &mut Graph) {
    let uses = graph.uses();
    let makers = graph.makers();
    let mut moved: HashMap<usize, (usize, Levels)> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (Op::Activate(activation @ Activation::Quantized(_)), &[input]) = (&node.op, &node.inputs[..])
        else {
            continue;
        };
        let (Some(levels), Some(maker)) = (levels_of(*activation), makers[input.0]) else { continue };
        let concat = &graph.nodes[maker];
        let is_picture = concat.inputs.iter().all(|id| {
            let value = graph.value(*id);
            value.picture().is_some() && value.constant.is_none() && !value.foreign
        });
        if matches!(concat.op, Op::Concat { axis: 1 }) && uses[input.0] == 1 && is_picture {
            moved.insert(maker, (index, levels));
        }
    }
    if moved.is_empty() {
        return;
    }
    let gone: HashMap<usize, usize> = moved.iter().map(|(concat, (index, _))| (*index, *concat)).collect();
    let results: HashMap<usize, Vec<ValueId>> =
        moved.iter().map(|(concat, (index, _))| (*concat, graph.nodes[*index].outputs.clone())).collect();
    for (index, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        if gone.contains_key(&index) {
            continue;
        }
        if let (Some((_, levels)), Some(outputs)) = (moved.get(&index), results.get(&index)) {
            for input in &mut node.inputs {
                let (name, shape) = (node.name.clone(), graph.value(*input).shape.clone());
                let made = graph.add_value(&name, shape);
                let op = Op::Activate(Activation::Quantized(*levels));
                graph.nodes.push(Node { name, op, inputs: vec![*input], outputs: vec![made] });
                *input = made;
            }
            node.outputs = outputs.clone();
        }
        graph.nodes.push(node);
    }
}

/// What each node could be, if all that could be in codes were.
fn parts(graph: &Graph) -> Vec<Option<Part>> {
    let edges = Edges::of(graph);
    let mut codings: Vec<Option<Coding>> = vec![None; graph.values.len()];
    let mut parts = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let (part, coding) = match part(graph, node, &codings, &edges) {
            Some((part, coding)) => (Some(part), coding),
            None => (None, None),
        };
        if let Some(output) = node.outputs.first() {
            codings[output.0] = coding;
        }
        parts.push(part);
    }
    parts
}

/// Who makes and who reads each value.
struct Edges {
    makers: Vec<Option<usize>>,
    /// How often it is read, as an output of the graph too.
    uses: Vec<usize>,
    /// Nodes that read it.
    readers: Vec<Vec<usize>>,
}

impl Edges {
    fn of(graph: &Graph) -> Edges {
        let mut readers = vec![Vec::new(); graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|id| readers[id.0].push(index));
        }
        Edges { makers: graph.makers(), uses: graph.uses(), readers }
    }
}

fn part(
    graph: &Graph,
    node: &Node,
    codings: &[Option<Coding>],
    edges: &Edges,
) -> Option<(Part, Option<Coding>)> {
    let (&first, &output) = (node.inputs.first()?, node.outputs.first()?);
    graph.value(output).picture()?;
    graph.value(first).picture()?;
    let levels = |id: ValueId| match codings[id.0] {
        Some(Coding::Static(levels)) => Some(levels),
        _ => None,
    };
    match &node.op {
        Op::Conv(conv) => {
            codings[first.0]?;
            let made = levels_of(conv.activation).filter(|_| conv.residual.is_none());
            if !takes_codes(graph, conv, first)
                || (conv.groups > 1 && (made.is_none() || levels(first).is_none()))
            {
                return None;
            }
            Some((Part::Conv, made.map(Coding::Static)))
        }
        Op::DynamicQuantize => {
            let mut readers = edges.readers[output.0].iter().filter_map(|reader| graph.nodes.get(*reader));
            let all = readers.all(|node| match &node.op {
                Op::Conv(conv) => {
                    conv.groups == 1
                        && node.inputs.first() == Some(&output)
                        && takes_codes(graph, conv, output)
                }
                _ => false,
            });
            let read_elsewhere = graph.outputs.contains(&output) || graph.kept.contains(&output);
            (all && !read_elsewhere).then_some((Part::Dynamic, Some(Coding::Dynamic)))
        }
        Op::Activate(activation) => {
            let made = levels_of(*activation)?;
            // back to codes, past what is done to each number alone
            let (mut from, mut chain) = (first, vec![*activation]);
            while levels(from).is_none() {
                let maker = edges.makers[from.0].and_then(|maker| graph.nodes.get(maker));
                match maker.map(|maker| (&maker.op, &maker.inputs[..])) {
                    Some((Op::Activate(before), &[input])) if edges.uses[from.0] == 1 => {
                        chain.push(*before);
                        from = input;
                    }
                    _ => break,
                }
            }
            let part = if let (Activation::Quantized(levels), Some(maker)) =
                (activation, float_convolution(graph, first, codings, edges))
            {
                Part::Behind(maker, *levels)
            } else if levels(from).is_some() {
                chain.reverse();
                Part::Translate(from, chain, made)
            } else if let (Activation::Quantized(_), Some(sides)) =
                (activation, sum(graph, first, codings, edges))
            {
                Part::Binary(sides.0, sides.1, made)
            } else if matches!(activation, Activation::Quantized(_)) {
                Part::Quantize(made)
            } else {
                return None;
            };
            Some((part, Some(Coding::Static(made))))
        }
        Op::MaxPool(_) | Op::Slice { axis: 1, .. } | Op::Gather { axis: 1, .. } => {
            Some((Part::Move, Some(Coding::Static(levels(first)?))))
        }
        Op::Resize { rows, columns } => {
            let is_nearest = rows.iter().chain(columns).all(|tap| tap.2 == 0.0);
            is_nearest.then_some((Part::Move, Some(Coding::Static(levels(first)?))))
        }
        Op::Concat { axis: 1 } => {
            let common = levels(first)?;
            let all = node.inputs.iter().all(|id| levels(*id) == Some(common));
            all.then_some((Part::Move, Some(Coding::Static(common))))
        }
        _ => None,
    }
}

/// The convolution of codes that makes these floats, where they are read once.
fn float_convolution(graph: &Graph, of: ValueId, codings: &[Option<Coding>], edges: &Edges) -> Option<usize> {
    let maker = edges.makers[of.0]?;
    let node = graph.nodes.get(maker)?;
    let (Op::Conv(conv), &[input]) = (&node.op, &node.inputs[..]) else { return None };
    let is_read_once = edges.uses[of.0] == 1 && !graph.kept.contains(&of);
    let takes = codings[input.0].is_some() && conv.groups == 1 && takes_codes(graph, conv, input);
    (is_read_once && takes && conv.residual.is_none()).then_some(maker)
}

/// Whether a convolution can take codes.
fn takes_codes(graph: &Graph, conv: &Conv, input: ValueId) -> bool {
    let channels = graph.value(input).picture().map_or(0, |[channels, ..]| channels);
    let &[o, per_group, ..] = conv.weights.shape() else { return false };
    let depthwise = per_group == 1 && conv.groups == o && o == channels;
    let products = conv.weights.len() / o.max(1);
    conv.is_int8 && (1..=MAX_PRODUCTS).contains(&products) && (conv.groups == 1 || depthwise)
}

/// A sum or product of two values in codes, read once.
fn sum(
    graph: &Graph,
    of: ValueId,
    codings: &[Option<Coding>],
    edges: &Edges,
) -> Option<(Binary, [ValueId; 2])> {
    let maker = graph.nodes.get(edges.makers[of.0]?)?;
    let (Op::Binary(op @ (Binary::Add | Binary::Mul)), &[a, b]) = (&maker.op, &maker.inputs[..]) else {
        return None;
    };
    let shape = &graph.value(of).shape;
    let coded =
        |id: ValueId| matches!(codings[id.0], Some(Coding::Static(_))) && graph.value(id).shape == *shape;
    (edges.uses[of.0] == 1 && coded(a) && coded(b)).then_some((*op, [a, b]))
}

/// Which values a convolution of codes is made from: others gain nothing.
fn useful(graph: &Graph, parts: &[Option<Part>]) -> Vec<bool> {
    let mut useful = vec![false; graph.values.len()];
    for (node, part) in graph.nodes.iter().zip(parts).rev() {
        let is_useful = node.outputs.first().is_some_and(|output| useful[output.0]);
        match part {
            Some(Part::Conv) => useful[node.inputs[0].0] = true,
            Some(Part::Translate(from, ..)) if is_useful => useful[from.0] = true,
            Some(Part::Binary(_, sides, _)) if is_useful => sides.iter().for_each(|id| useful[id.0] = true),
            Some(Part::Move) if is_useful => node.inputs.iter().for_each(|id| useful[id.0] = true),
            _ => {}
        }
    }
    useful
}

/// A table behind a convolution that nobody else reads becomes the convolution's.
fn tables_into_convolutions(graph: &mut Graph) {
    let (uses, makers) = (graph.uses(), graph.makers());
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Translate(table), &[input]) = (&node.op, &node.inputs[..]) else { continue };
        let (table, output) = (table.clone(), node.outputs[0]);
        let Some(maker) = makers[input.0].filter(|_| uses[input.0] == 1) else { continue };
        let Op::Conv(conv) = &mut graph.nodes[maker].op else { continue };
        let Some(recoding) = conv.int8.as_mut().and_then(|int8| int8.output.as_mut()) else { continue };
        recoding.table = Some(match recoding.table.take() {
            None => table,
            Some(mut first) => {
                first.iter_mut().for_each(|code| *code = table[usize::from(*code)]);
                first
            }
        });
        graph.nodes[maker].outputs = vec![output];
        // nothing reads what it made before
        graph.nodes[index].outputs = vec![input];
    }
    graph.sweep();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_8_bits_are_recognised_by_their_step() {
        for step in [1.0, 0.003_71, 1e-6, 250.0] {
            let weights: Vec<f32> = [-128, 3, 77, 127, 0, -1].iter().map(|n| *n as f32 * step).collect();
            let found = step_of(&weights).unwrap();
            assert!((found / step - 1.0).abs() < 1e-6, "{found} instead of {step}");
        }
        // the step is the greatest: 2 and 4 are as many steps as 1 and 2
        assert_eq!(step_of(&[2.0, -4.0]), Some(2.0));
        assert_eq!(step_of(&[0.0, 0.0]), Some(1.0));
        assert_eq!(step_of(&[]), Some(1.0));
        for other in [
            &[0.123_456, 0.345_67, -0.871_2][..],
            &[128.0, 1.0],
            &[f32::NAN, 1.0],
            &[f32::INFINITY],
            &[1e-39, 1e-41],
        ] {
            assert_eq!(step_of(other), None, "{other:?}");
        }
    }
}
