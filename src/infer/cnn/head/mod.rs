//! Heads: the end of a detector's graph, decoded only for anchors whose scores reach what the caller will
//! look at.
//!
//! A detector says something about thousands of anchors, and a handful is looked at. Which, the scores tell,
//! and before their sigmoid as well as after it, for it is monotone. So the graph is cut in two:
//!
//! ```text
//!   body (all anchors) ──▶ logits ──▶ scan: which reach the threshold?
//!        │                                 │ few: gather, CHUNK at a time ─▶ chunk of their level ─▶ outputs of the kept
//!        └───────▶ values the end reads ───┘ many: the rest of the graph, as written ─▶ outputs of all
//! ```
//!
//! `view` follows elements back through reshapes, transpositions, slices and concatenations; `chunk` rewrites
//! the end for [`CHUNK`] anchors, levels (strides) by themselves; `scan` compares logits; `decode` does it
//! all for a run. A graph whose end is not made anchor by anchor has no head, and is always computed in full.

mod chunk;
mod decode;
mod scan;
mod view;

pub(super) use decode::{Head, HeadRun};

use super::graph::{Graph, Node, Op, ValueId};
use super::kernels::Activation;
use crate::infer::Scores;
use chunk::Chunk;
use view::{Origin, Term, View, origin};

/// Anchors that are decoded together: a frame rarely keeps more on a level, and the steps' own cost is spread
/// over them.
const CHUNK: usize = 32;
/// Most levels of anchors; detectors have three or four.
const MAX_LEVELS: usize = 8;
/// Most anchors that are decoded by themselves; with more the end of the graph costs as little.
const MAX_KEPT: usize = 1024;

/// Neighbouring anchors whose outputs are made in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    first: usize,
    count: usize,
}

/// One level of a head, found in a graph.
#[derive(Debug)]
struct Found {
    level: Level,
    scores: Origin,
    chunk: Chunk,
}

/// A head, found in a graph and not yet laid out.
#[derive(Debug)]
pub(super) struct Draft {
    levels: Vec<Found>,
    /// Nodes of the graph that every run needs; they come first.
    pub body: usize,
}

/// Finds the head and puts the nodes that it needs first. Leaves the graph as it is where there is none.
pub(super) fn find(graph: &mut Graph, scores: &Scores) -> Option<Draft> {
    let mut cut = graph.clone();
    let draft = Finder { scores }.find(&mut cut)?;
    *graph = cut;
    Some(draft)
}

struct Finder<'a> {
    scores: &'a Scores,
}

impl Finder<'_> {
    fn find(&self, graph: &mut Graph) -> Option<Draft> {
        let all = self.anchors(graph)?;
        let mut levels = Vec::new();
        self.split(graph, Level { first: 0, count: all }, &mut levels, 0)?;
        let origins =
            levels.iter().map(|level| self.origin(graph, *level).ok()).collect::<Option<Vec<_>>>()?;
        bare(graph, &origins);
        let origins =
            levels.iter().map(|level| self.origin(graph, *level).ok()).collect::<Option<Vec<_>>>()?;

        let makers = graph.makers();
        let full = ancestors(graph, origins.iter().map(|o| o.value));
        let mut found = Vec::new();
        for (level, scores) in levels.into_iter().zip(origins) {
            let chunk = chunk::build(graph, &makers, &full, self.scores.anchor_axis, level)?;
            found.push(Found { level, scores, chunk });
        }
        let gathered =
            found.iter().flat_map(|f| f.chunk.gathered()).chain(found.iter().map(|f| f.scores.value));
        graph.kept = gathered.collect();
        let body = body_first(graph);
        Some(Draft { levels: found, body })
    }

    /// How many anchors there are; all outputs must have so many along the axis.
    fn anchors(&self, graph: &Graph) -> Option<usize> {
        let Scores { output, anchor_axis, first, count } = *self.scores;
        let shapes: Vec<&[usize]> =
            graph.outputs.iter().map(|&id| graph.value(id).shape.as_slice()).collect();
        let &[1, a, b] = *shapes.get(output)? else { return None };
        let (anchors, values) = if anchor_axis == 1 { (a, b) } else { (b, a) };
        let same =
            shapes.iter().all(|shape| shape.len() == 3 && shape[0] == 1 && shape[anchor_axis] == anchors);
        let computed =
            graph.outputs.iter().all(|&id| !graph.value(id).foreign && graph.value(id).constant.is_none());
        (same && computed && matches!(anchor_axis, 1 | 2) && count > 0 && first.checked_add(count)? <= values)
            .then_some(anchors)
    }

    /// Where the scores of a level come from.
    fn origin<'a>(&self, graph: &'a Graph, level: Level) -> Result<Origin, view::Junction<'a>> {
        let Scores { output, anchor_axis, first, count } = *self.scores;
        let output = graph.outputs[output];
        let strides = super::step::strided::row_major(&graph.value(output).shape);
        let (anchor, value) = (strides[anchor_axis], strides[3 - anchor_axis]);
        let view = View {
            base: level.first * anchor + first * value,
            anchors: vec![Term { count: level.count, stride: anchor }],
            others: vec![Term { count, stride: value }],
        };
        origin(graph, &graph.makers(), output, view, true)
    }

    /// Splits a range of anchors where a concatenation puts it together.
    fn split(&self, graph: &Graph, level: Level, levels: &mut Vec<Level>, depth: usize) -> Option<()> {
        // each concatenation inside another holds one level at least
        if depth > MAX_LEVELS {
            return None;
        }
        let Err(view::Junction { node, axes }) = self.origin(graph, level) else {
            levels.push(level);
            return (levels.len() <= MAX_LEVELS).then_some(());
        };
        let Op::Concat { axis } = node.op else { return None };
        // the anchors alone run along the axis, one by one
        let [step] = axes.anchors[..] else { return None };
        if step.axis != axis || step.by != 1 || axes.others.iter().any(|s| s.axis == axis) {
            return None;
        }
        let (from, to) = (axes.base[axis], axes.base[axis] + level.count);
        let mut start = 0;
        for &piece in &node.inputs {
            let end = start + *graph.value(piece).shape.get(axis)?;
            let (low, high) = (start.max(from), end.min(to));
            if low < high {
                let part = Level { first: level.first + low - from, count: high - low };
                if part == level {
                    return None;
                }
                self.split(graph, part, levels, depth + 1)?;
            }
            start = end;
        }
        Some(())
    }
}

/// Takes the sigmoid out of convolutions that make scores: their logits will do.
fn bare(graph: &mut Graph, origins: &[Origin]) {
    let makers = graph.makers();
    let mut convolutions: Vec<usize> =
        origins.iter().filter(|o| !o.sigmoid).filter_map(|o| makers[o.value.0]).collect();
    convolutions.sort_unstable();
    convolutions.dedup();
    for index in convolutions.into_iter().rev() {
        let output = graph.nodes[index].outputs[0];
        let (name, shape) = (graph.value(output).name.clone(), graph.value(output).shape.clone());
        let Op::Conv(conv) = &mut graph.nodes[index].op else { continue };
        if conv.activation != Activation::Sigmoid || conv.residual.is_some() {
            continue;
        }
        conv.activation = Activation::Identity;
        let logits = graph.add_value(&name, shape);
        graph.nodes[index].outputs = vec![logits];
        let op = Op::Activate(Activation::Sigmoid);
        graph.nodes.insert(index + 1, Node { name, op, inputs: vec![logits], outputs: vec![output] });
    }
}

/// Values that are needed for some, these included.
fn ancestors(graph: &Graph, of: impl Iterator<Item = ValueId>) -> Vec<bool> {
    let mut needed = vec![false; graph.values.len()];
    of.for_each(|id| needed[id.0] = true);
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|o| needed[o.0]) {
            node.inputs.iter().for_each(|i| needed[i.0] = true);
        }
    }
    needed
}

/// Puts the nodes that make the kept values first; how many they are.
fn body_first(graph: &mut Graph) -> usize {
    let needed = ancestors(graph, graph.kept.iter().copied());
    let nodes = std::mem::take(&mut graph.nodes);
    let (body, rest): (Vec<Node>, Vec<Node>) =
        nodes.into_iter().partition(|n| n.outputs.iter().any(|o| needed[o.0]));
    let count = body.len();
    graph.nodes = body.into_iter().chain(rest).collect();
    count
}
