//! The end of a graph, rewritten for a few anchors at a time.

use super::view::{Axes, Step, Term, View, origin};
use super::{CHUNK, Level};
use crate::infer::cnn::constant::Constant;
use crate::infer::cnn::graph::{Conv, Graph, Node, Op, ValueId};
use std::collections::HashMap;

/// Where the elements of a chunk's input are gathered from, in the order (others before, anchors, others
/// after).
#[derive(Debug)]
pub(super) struct ChunkSource {
    pub from: Gathered,
    pub view: View,
    /// How many of `view.others`, the slowest, come before the anchors.
    pub outer: usize,
}

/// The tensor behind a [`ChunkSource`].
#[derive(Debug)]
pub(super) enum Gathered {
    /// A value of the graph.
    Value(ValueId),
    Constant(Constant),
}

/// A graph for [`CHUNK`] anchors of one level; `sources` are its inputs.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub graph: Graph,
    pub sources: Vec<ChunkSource>,
}

/// Rewrites what lies between the values marked `full`, which are computed for all anchors, and the outputs
/// of `graph`. `None` where an output does not depend on each anchor by itself.
pub(super) fn build(
    graph: &Graph,
    makers: &[Option<usize>],
    full: &[bool],
    anchor_axis: usize,
    level: Level,
) -> Option<Chunk> {
    let mut builder =
        Builder { graph, makers, full, made: HashMap::new(), depth: 0, chunk: Chunk::default() };
    for &output in &graph.outputs {
        let rank = graph.value(output).shape.len();
        let mut slab = Axes { base: vec![0; rank], anchors: Vec::new(), others: Vec::new() };
        *slab.base.get_mut(anchor_axis)? = level.first;
        slab.anchors.push(Step { axis: anchor_axis, count: level.count, by: 1 });
        let made = builder.value(output, &slab)?;
        builder.chunk.graph.outputs.push(made);
    }
    Some(builder.chunk)
}

/// Deepest chain of nodes that is rewritten; heads have about twenty.
const MAX_DEPTH: usize = 200;

/// Most values of a chunk; heads have about fifty. A graph can be written whose chunk would double with every
/// node.
const MAX_VALUES: usize = 4096;

struct Builder<'a> {
    graph: &'a Graph,
    makers: &'a [Option<usize>],
    full: &'a [bool],
    /// Values of the chunk by what they stand for.
    made: HashMap<(ValueId, Axes), ValueId>,
    depth: usize,
    chunk: Chunk,
}

impl Builder<'_> {
    /// The chunk's value for the anchors of `slab` (axes without a counter are taken whole).
    fn value(&mut self, id: ValueId, slab: &Axes) -> Option<ValueId> {
        let key = (id, slab.clone());
        if let Some(&made) = self.made.get(&key) {
            return Some(made);
        }
        let value = self.graph.value(id);
        let whole = |axis: usize| slab.base[axis] == 0 || slab.anchors.iter().any(|s| s.axis == axis);
        if value.foreign
            || slab.anchors.is_empty()
            || !(0..value.shape.len()).all(whole)
            || self.depth == MAX_DEPTH
            || self.made.len() == MAX_VALUES
        {
            return None;
        }
        self.depth += 1;
        let made = match &value.constant {
            Some(constant) => self.constant(id, constant.clone(), slab),
            None if self.full[id.0] => self.gather(id, slab),
            None => self.computed(id, slab),
        };
        self.depth -= 1;
        self.made.insert(key, made?);
        made
    }

    /// Shape of a chunk's value: the fastest counter of the anchors runs over the chunk, the others stand
    /// still.
    fn shape(&self, shape: &[usize], slab: &Axes) -> Vec<usize> {
        let carrier = slab.anchors.last().map(|s| s.axis);
        let side = |(axis, &dim): (usize, &usize)| match slab.anchors.iter().any(|s| s.axis == axis) {
            true if Some(axis) == carrier => CHUNK,
            true => 1,
            false => dim,
        };
        shape.iter().enumerate().map(side).collect()
    }

    fn add_value(&mut self, id: ValueId, shape: Vec<usize>) -> ValueId {
        let name = self.graph.value(id).name.clone();
        self.chunk.graph.add_value(&name, shape)
    }

    /// A constant that differs between anchors becomes an input.
    fn constant(&mut self, id: ValueId, constant: Constant, slab: &Axes) -> Option<ValueId> {
        if !constant.is_float() {
            return None;
        }
        let dims = &self.graph.value(id).shape;
        let moves = |step: &Step| dims[step.axis] > 1;
        if !slab.anchors.iter().any(moves) {
            let made = self.add_value(id, dims.clone());
            self.chunk.graph.values[made.0].constant = Some(constant);
            return Some(made);
        }
        // what it has one of along an axis counts for every index there
        let mut view = self.with_others(dims, slab).view(dims);
        for (term, _) in view.anchors.iter_mut().zip(&slab.anchors).filter(|(_, step)| !moves(step)) {
            *term = Term { stride: 0, ..*term };
        }
        let shape = self.shape(dims, slab);
        let source = ChunkSource { from: Gathered::Constant(constant), view, outer: self.outer(slab) };
        Some(self.push(id, shape, source))
    }

    /// The slab with counters over everything that is taken whole.
    fn with_others(&self, dims: &[usize], slab: &Axes) -> Axes {
        let free = |axis: &usize| !slab.anchors.iter().any(|s| s.axis == *axis);
        let others = (0..dims.len()).filter(free).map(|axis| Step { axis, count: dims[axis], by: 1 });
        let base =
            slab.base.iter().zip(dims).map(|(&index, &dim)| if dim == 1 { 0 } else { index }).collect();
        Axes { base, anchors: slab.anchors.clone(), others: others.collect() }
    }

    /// An input of the chunk, from a value that is computed for all anchors.
    fn gather(&mut self, id: ValueId, slab: &Axes) -> Option<ValueId> {
        let dims = &self.graph.value(id).shape;
        let shape = self.shape(dims, slab);
        let view = self.with_others(dims, slab).view(dims);
        let outer = self.outer(slab);
        let elements: usize = view.others.iter().take(outer).map(|t| t.count).product();
        let origin = origin(self.graph, self.makers, id, view, false).ok()?;
        let value = self.graph.value(origin.value);
        if value.foreign || value.constant.is_some() {
            return None;
        }
        // counters may have been cut on the way: the same ones come before the anchors as did
        let (mut outer, mut before) = (0, 1);
        while before < elements {
            before *= origin.view.others.get(outer)?.count;
            outer += 1;
        }
        let source = ChunkSource { from: Gathered::Value(origin.value), view: origin.view, outer };
        (before == elements).then(|| self.push(id, shape, source))
    }

    fn push(&mut self, id: ValueId, shape: Vec<usize>, source: ChunkSource) -> ValueId {
        let made = self.add_value(id, shape);
        self.chunk.graph.inputs.push(made);
        self.chunk.sources.push(source);
        made
    }

    /// Axes that are taken whole and come before the one that runs over the chunk.
    fn outer(&self, slab: &Axes) -> usize {
        let carrier = slab.anchors.last().map_or(0, |s| s.axis);
        (0..carrier).filter(|axis| !slab.anchors.iter().any(|s| s.axis == *axis)).count()
    }

    /// A node of the chunk, with the same operation on fewer anchors.
    fn node(&mut self, from: &Node, slab: &Axes, op: Op, inputs: Vec<ValueId>) -> Option<ValueId> {
        let id = *from.outputs.first()?;
        let shape = self.shape(&self.graph.value(id).shape, slab);
        let output = self.add_value(id, shape);
        self.chunk.graph.nodes.push(Node { name: from.name.clone(), op, inputs, outputs: vec![output] });
        Some(output)
    }

    fn computed(&mut self, id: ValueId, slab: &Axes) -> Option<ValueId> {
        let graph = self.graph;
        let node = graph.nodes.get(self.makers[id.0]?)?;
        let free = |axis: usize| !slab.anchors.iter().any(|s| s.axis == axis);
        let last = slab.base.len().checked_sub(1)?;
        match &node.op {
            Op::Activate(_) => self.same(node, slab),
            Op::Softmax { axis } if free(*axis) => self.same(node, slab),
            Op::Linear(linear) if free(last) && !linear.bias && linear.residual.is_none() => {
                self.same(node, slab)
            }
            Op::Conv(conv) if free(0) && free(1) && is_pointwise(conv) => self.same(node, slab),
            Op::Binary(_) => {
                let inputs =
                    node.inputs.iter().map(|&input| self.side(id, input, slab)).collect::<Option<_>>()?;
                self.node(node, slab, node.op.clone(), inputs)
            }
            Op::Concat { axis } if free(*axis) => self.same(node, slab),
            Op::Concat { axis } => {
                let mut slab = slab.clone();
                for &piece in &node.inputs {
                    let length = *graph.value(piece).shape.get(*axis)?;
                    if slab.base[*axis] < length {
                        return if slab.end(*axis) <= length { self.value(piece, &slab) } else { None };
                    }
                    slab.base[*axis] -= length;
                }
                None
            }
            Op::Slice { axis, .. } | Op::Gather { axis, .. } if free(*axis) => self.same(node, slab),
            Op::Slice { axis, start, .. } => {
                let mut slab = slab.clone();
                slab.base[*axis] += start;
                self.value(node.inputs[0], &slab)
            }
            Op::Transpose { order } => {
                let input = self.value(node.inputs[0], &slab.permuted(|axis| order[axis]))?;
                self.node(node, slab, node.op.clone(), vec![input])
            }
            Op::Reshape => match self.before_reshape(node, slab) {
                Some(before) => {
                    let input = self.value(node.inputs[0], &before)?;
                    let made = self.node(node, slab, Op::Reshape, vec![input])?;
                    let floats = |id: ValueId| self.chunk.graph.value(id).len();
                    (floats(input) == floats(made)).then_some(made)
                }
                None => self.gather(id, slab),
            },
            _ => self.gather(id, slab),
        }
    }

    /// A node whose operands have the shape of its output in all that concerns anchors.
    fn same(&mut self, node: &Node, slab: &Axes) -> Option<ValueId> {
        let inputs = node.inputs.iter().map(|&input| self.value(input, slab)).collect::<Option<_>>()?;
        self.node(node, slab, node.op.clone(), inputs)
    }

    /// An operand of an element-wise operation, which may have one element for all along an axis.
    fn side(&mut self, output: ValueId, input: ValueId, slab: &Axes) -> Option<ValueId> {
        let (value, dims) = (self.graph.value(input), &self.graph.value(output).shape);
        let broadcast = slab.anchors.iter().any(|s| value.shape[s.axis] != dims[s.axis]);
        (value.constant.is_some() || !broadcast).then(|| self.value(input, slab))?
    }

    /// The slab in a reshape's operand. `None` where one of its axes counts anchors and something else.
    fn before_reshape(&self, node: &Node, slab: &Axes) -> Option<Axes> {
        let (input, output) = (self.graph.value(node.inputs[0]), self.graph.value(node.outputs[0]));
        let view = self.with_others(&output.shape, slab).view(&output.shape);
        let axes = view.axes(&input.shape)?;
        let covered = |axis: usize| {
            let anchors = axes.anchors.iter().any(|s| s.axis == axis);
            let others: usize = axes.others.iter().filter(|s| s.axis == axis).map(|s| s.count).product();
            if anchors { others == 1 } else { others == input.shape[axis] && axes.base[axis] == 0 }
        };
        let Axes { base, anchors, .. } = &axes;
        (0..input.shape.len()).all(covered).then(|| Axes {
            base: base.clone(),
            anchors: anchors.clone(),
            others: Vec::new(),
        })
    }
}

/// Whether every pixel of the output comes from that pixel of the input alone.
fn is_pointwise(conv: &Conv) -> bool {
    let window = &conv.window;
    window.kernel == [1, 1] && window.stride == [1, 1] && window.before == [0, 0] && window.after == [0, 0]
}
