//! Graph and places → steps with offsets and packed weights.

use super::choice::{Algorithm, Target};
use super::constant::Constant;
use super::graph::{Axes, Coding, Conv, Graph, Int8, Linear, Node, Op, ValueId, Window, lengths};
use super::int8::zero_and_top;
use super::kernels::int8::{Int8Binary, Quantizer, Worth};
use super::kernels::{Activation, Format, LANES};
use super::layout::Form;
use super::packer::Packer;
use super::step::conv::{ConvStep, Source, plane_row};
use super::step::strided::{Copy, Walk, row_major};
use super::step::winograd::Winograd;
use super::step::{
    At, ForeignStep, Matrices, Operand, Step, attention, codes, half, int8, linear, picture, plain, product,
    rows, sample,
};
use super::storage::{Blocks, Nhwc, Place, Storage};
use super::transformer::FEWEST_COLUMNS;
use super::unsupported::unsupported;
use crate::error::Result;

/// Floats of scratch space that each node needs while it runs.
pub(super) fn scratch(graph: &Graph, forms: &[Form], target: Target) -> Vec<usize> {
    let of = |node: &Node| match &node.op {
        Op::Conv(conv) if conv.int8.is_some() => 0,
        Op::Activate(_) if forms[node.inputs[0].0] == Form::Int8 => 0,
        Op::Quantize(_) if graph.inputs.contains(&node.inputs[0]) => {
            let picture = graph.value(node.inputs[0]).picture();
            picture.map_or(0, |[channels, _, width]| channels * width * target.workers.max(1))
        }
        Op::Conv(conv) if forms[node.inputs[0].0] == Form::Plain => {
            let output = graph.value(node.outputs[0]).picture();
            let input = graph.value(node.inputs[0]).picture();
            let half = forms[node.outputs[0].0] == Form::Half;
            input.zip(output).map_or(0, |(input, output)| ConvStep::scratch(conv, input, output, half))
        }
        Op::Conv(conv) => {
            let half = target.half.filter(|_| forms[node.outputs[0].0] == Form::Half);
            let loops = target.convolutions(half.map_or(Format::Float32, |half| half.format));
            let output = graph.value(node.outputs[0]).picture();
            match loops.zip(output).map(|(loops, output)| (loops, output, target.way(loops, conv, output))) {
                Some((_, _, Algorithm::Direct)) | None => 0,
                Some((loops, output, way)) => {
                    Winograd::scratch(conv, output, (loops, target.workers, way == Algorithm::Kept))
                }
            }
        }
        Op::Activate(_) => LANES,
        Op::Softmax { axis } => graph.value(node.inputs[0]).shape[*axis] * LANES * target.workers.max(1),
        Op::Linear(linear) if !is_narrow(linear) => {
            let rows = linear.size().map_or(0, |[depth, _]| graph.value(node.inputs[0]).len() / depth.max(1));
            linear::Linear::scratch(linear, rows, (target.kernels, target.workers))
        }
        Op::Product(_) => product_size(graph, node)
            .map_or(0, |size| product::Product::scratch(size, (target.kernels, target.workers))),
        Op::Attention(_) => attention_size(graph, node)
            .map_or(0, |size| attention::Attention::scratch(size, (target.kernels, target.workers))),
        _ => 0,
    };
    graph.nodes.iter().map(of).collect()
}

/// Whether a dense layer has so few columns that vectors of them would be mostly empty.
fn is_narrow(linear: &Linear) -> bool {
    let bare = !linear.bias && linear.scale.is_empty() && linear.residual.is_none() && !linear.transposed;
    bare && linear.activation == Activation::Identity
        && linear.size().is_some_and(|[_, n]| n < FEWEST_COLUMNS)
}

fn product_size(graph: &Graph, node: &Node) -> Option<product::Size> {
    let (Op::Product(product), &[left, _]) = (&node.op, &node.inputs[..]) else { return None };
    let [.., depth] = lengths(&product.left, &graph.value(left).shape)?;
    let [b, c, rows, columns] = lengths(&product.out, &graph.value(node.outputs[0]).shape)?;
    Some(product::Size { batch: [b, c], rows, depth, columns })
}

fn attention_size(graph: &Graph, node: &Node) -> Option<attention::Size> {
    let (Op::Attention(attention), &[_, key, _, ..]) = (&node.op, &node.inputs[..]) else { return None };
    let [_, _, keys, depth] = lengths(&attention.key, &graph.value(key).shape)?;
    let [b, c, rows, columns] = lengths(&attention.out, &graph.value(node.outputs[0]).shape)?;
    Some(attention::Size { batch: [b, c], rows, keys, depth, columns })
}

/// Steps of a plan with the names of their nodes.
pub(super) struct Lowered {
    pub steps: Vec<(String, Step)>,
    /// First step of each node.
    pub starts: Vec<usize>,
}

/// Lowers every node; their weights go into `packer`.
pub(super) fn lower(
    graph: &Graph,
    storage: &Storage,
    target: Target,
    packer: &mut Packer<'_>,
) -> Result<Lowered> {
    let lowered = Lowered { steps: Vec::new(), starts: Vec::new() };
    let mut lowering = Lowering { graph, storage, target, lowered, packer };
    for (index, node) in graph.nodes.iter().enumerate() {
        lowering.lowered.starts.push(lowering.lowered.steps.len());
        if lowering.node(node, storage.scratch[index]).is_none() {
            return Err(unsupported(&node.name, &format!("op {:?} on these shapes", discriminant(&node.op))));
        }
    }
    Ok(lowering.lowered)
}

/// First word of an operation's debug form.
fn discriminant(op: &Op) -> String {
    let all = format!("{op:?}");
    all.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Lays a constant among the weights as it is; where.
pub(super) fn pack(packer: &mut Packer<'_>, constant: &Constant) -> Option<usize> {
    packer.take(constant.len(), |room| {
        room.copy_from_slice(constant.floats().as_deref().filter(|values| values.len() == room.len())?);
        Some(())
    })
}

struct Lowering<'a, 'room> {
    graph: &'a Graph,
    storage: &'a Storage,
    target: Target,
    lowered: Lowered,
    packer: &'a mut Packer<'room>,
}

impl Lowering<'_, '_> {
    fn blocks(&self, id: ValueId) -> Option<Blocks> {
        match self.storage.places[id.0] {
            Place::Blocks(blocks) => Some(blocks),
            _ => None,
        }
    }

    /// Where it is said what the model's input holds, if that is the value.
    fn pixels(&self, id: ValueId) -> Option<usize> {
        self.graph.inputs.first().filter(|input| **input == id).map(|_| self.storage.pixels)
    }

    fn codes(&self, id: ValueId) -> Option<Nhwc> {
        match self.storage.places[id.0] {
            Place::Int8(codes) => Some(codes),
            _ => None,
        }
    }

    /// Where floats lie.
    fn floats(&self, id: ValueId) -> Option<codes::Floats> {
        let planes = || self.plain(id).map(codes::Floats::Planes);
        self.blocks(id).map(codes::Floats::Blocks).or_else(planes)
    }

    fn plain(&self, id: ValueId) -> Option<usize> {
        match self.storage.places[id.0] {
            Place::Plain(at) => Some(at),
            _ => None,
        }
    }

    /// Where a row-major operand starts: in the arena, or (constants are put there now) in the weights.
    fn origin(&mut self, id: ValueId) -> Option<At> {
        if let Some(constant) = &self.graph.value(id).constant {
            return pack(self.packer, constant).map(At::Weights);
        }
        self.plain(id).map(At::Arena)
    }

    fn push(&mut self, node: &Node, step: Step) -> Option<()> {
        self.lowered.steps.push((node.name.clone(), step));
        Some(())
    }

    fn node(&mut self, node: &Node, scratch: usize) -> Option<()> {
        let output = *node.outputs.first()?;
        if self.codes(output).is_some() || node.inputs.iter().any(|id| self.codes(*id).is_some()) {
            return self.in_codes(node, scratch);
        }
        match &node.op {
            Op::Conv(conv) => self.convolution(node, conv, scratch),
            Op::MaxPool(window) => self.pool(node, window, None),
            Op::AveragePool { window, include_padding } => self.pool(node, window, Some(*include_padding)),
            Op::GlobalSum => {
                let step =
                    picture::GlobalSum { input: self.blocks(node.inputs[0])?, output: self.blocks(output)? };
                self.push(node, Step::GlobalSum(step))
            }
            Op::Resize { rows, columns } => {
                let (input, output) = (self.blocks(node.inputs[0])?, self.blocks(output)?);
                let (rows, columns) = (rows.clone(), columns.clone());
                let pictures = self.target.pictures(output);
                let step = picture::Resize { input, output, rows, columns, pictures };
                self.push(node, Step::Resize(step))
            }
            Op::Activate(activation) => {
                let activation = *activation;
                if let Some(output) = self.blocks(output) {
                    let input = self.blocks(node.inputs[0])?;
                    let pictures = self.target.pictures(output);
                    let step = picture::Activate { input, output, activation, pictures };
                    return self.push(node, Step::Activate(step));
                }
                let (from, to) = (self.plain(node.inputs[0])?, self.plain(output)?);
                let floats = self.graph.value(output).len();
                self.push(
                    node,
                    Step::PlainActivate(plain::Activate { from, to, floats, activation, scratch }),
                )
            }
            Op::Binary(_) => self.binary(node),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Slice { axis, start, end } => self.gather(node, *axis, &(*start..*end).collect::<Vec<_>>()),
            Op::Gather { axis, indices } => self.gather(node, *axis, indices),
            Op::Reshape => {
                // a view, unless the operand is a constant
                (self.graph.value(node.inputs[0]).constant.is_none()).then_some(())
            }
            Op::Transpose { order } => {
                let shape = &self.graph.value(node.inputs[0]).shape;
                let strides = row_major(shape);
                let dims: Vec<usize> = order.iter().map(|&a| shape[a]).collect();
                let from: Vec<usize> = order.iter().map(|&a| strides[a]).collect();
                let to = row_major(&dims);
                self.copy(node, node.inputs[0], 0, self.plain(output)?, &dims, [&from, &to], None)
            }
            Op::Softmax { axis } => {
                let shape = &self.graph.value(output).shape;
                let (outer, inner) = (shape[..*axis].iter().product(), shape[axis + 1..].iter().product());
                let (from, to, length) = (self.plain(node.inputs[0])?, self.plain(output)?, shape[*axis]);
                if inner == 1 && length >= 2 * LANES {
                    return self
                        .push(node, Step::SoftmaxRows(rows::Softmax { from, to, rows: outer, length }));
                }
                self.push(node, Step::Softmax(plain::Softmax { from, to, outer, length, inner, scratch }))
            }
            Op::Linear(linear) => self.linear(node, linear, scratch),
            Op::Product(product) => {
                let size = product_size(self.graph, node)?;
                let of = |id: ValueId, axes: &Axes| self.matrices(id, axes);
                let sides = [
                    of(node.inputs[0], &product.left)?,
                    of(node.inputs[1], &product.right)?,
                    of(output, &product.out)?,
                ];
                let step = product::Product::new(sides, size, product.scale, self.target.kernels, scratch)?;
                self.push(node, Step::Product(step))
            }
            Op::Attention(attention) => {
                let size = attention_size(self.graph, node)?;
                let (of, &[query, key, value, ref masks @ ..]) =
                    (|id: ValueId, axes: &Axes| self.matrices(id, axes), &node.inputs[..])
                else {
                    return None;
                };
                let sides = [
                    of(query, &attention.query)?,
                    of(key, &attention.key)?,
                    of(value, &attention.value)?,
                    of(output, &attention.out)?,
                ];
                let mut added = Vec::with_capacity(masks.len());
                for (&id, axes) in masks.iter().zip(&attention.masks) {
                    let (steps, floats) = (self.steps(id, axes), self.graph.value(id).len());
                    added.push(attention::Mask { from: self.origin(id)?, floats, steps });
                }
                let target = (self.target.kernels, self.target.workers);
                let step = attention::Attention::new(sides, added, size, attention.scale, target, scratch)?;
                self.push(node, Step::Attention(Box::new(step)))
            }
            Op::Normalize { epsilon } => {
                let length = *self.graph.value(output).shape.last()?;
                let (from, to) = (self.plain(node.inputs[0])?, self.plain(output)?);
                let rows = self.graph.value(output).len() / length;
                let mut numbers = node.inputs[1..]
                    .iter()
                    .map(|id| pack(self.packer, self.graph.value(*id).constant.as_ref()?));
                let numbers =
                    [numbers.next(), numbers.next()].map(|at| at.map_or(Some(None), |at| at.map(Some)));
                let [scale, bias] = [numbers[0]?, numbers[1]?];
                let step = rows::Normalize { from, to, rows, length, epsilon: *epsilon, scale, bias };
                self.push(node, Step::Normalize(step))
            }
            Op::Sample { align_corners } => {
                let &[n, channels, height, width] = &self.graph.value(node.inputs[0]).shape[..] else {
                    return None;
                };
                let &[.., rows, columns] = &self.graph.value(output).shape[..] else { return None };
                let (from, grid, to) =
                    (self.plain(node.inputs[0])?, self.plain(*node.inputs.get(1)?)?, self.plain(output)?);
                let (size, places, align_corners) =
                    ([n, channels, height, width], rows * columns, *align_corners);
                self.push(node, Step::Sample(sample::Sample { from, grid, to, size, places, align_corners }))
            }
            Op::Reduce(reduction) => {
                let length = *self.graph.value(node.inputs[0]).shape.last()?;
                let (from, to) = (self.plain(node.inputs[0])?, self.plain(output)?);
                let rows = self.graph.value(output).len();
                self.push(node, Step::Reduce(rows::Reduce { from, to, rows, length, reduction: *reduction }))
            }
            Op::Pad { before, value, .. } => {
                let (dims, to) = (self.graph.value(node.inputs[0]).shape.clone(), self.plain(output)?);
                let (from, strides) = (row_major(&dims), row_major(&self.graph.value(output).shape));
                let start = to + before.iter().zip(&strides).map(|(b, s)| b * s).sum::<usize>();
                let fill = Some((to, self.graph.value(output).len(), *value));
                self.copy(node, node.inputs[0], 0, start, &dims, [&from, &strides], fill)
            }
            Op::ToBlocks => {
                let output = self.blocks(output)?;
                let from = self.origin(node.inputs[0])?;
                self.push(node, Step::ToBlocks(picture::ToBlocks { from, output }))
            }
            Op::FromBlocks => {
                let (input, to) = (self.blocks(node.inputs[0])?, self.plain(output)?);
                self.push(node, Step::FromBlocks(picture::FromBlocks { input, to }))
            }
            Op::Recast => {
                let (half, input, output) =
                    (self.target.half?, self.blocks(node.inputs[0])?, self.blocks(output)?);
                self.push(node, Step::Recast(half::Recast { half, input, output }))
            }
            Op::DynamicQuantize => {
                let (from, to) = (self.floats(node.inputs[0])?, self.floats(output)?);
                let floats = self.graph.value(output).len();
                self.push(node, Step::DynamicQuantize(plain::DynamicQuantize { from, to, floats }))
            }
            Op::Quantize(_) | Op::Translate(_) | Op::Int8Binary { .. } => None, // their results are codes
            Op::Foreign(foreign) => {
                let operand = |id: &ValueId| match self.storage.places[id.0] {
                    Place::Plain(at) => {
                        Some(Operand::Plain { at, shape: self.graph.value(*id).shape.clone() })
                    }
                    Place::Foreign(slot) => Some(Operand::Tensor(slot)),
                    _ => None,
                };
                let inputs = node.inputs.iter().map(operand).collect::<Option<_>>()?;
                let outputs = node.outputs.iter().map(operand).collect::<Option<_>>()?;
                self.push(node, Step::Foreign(ForeignStep { foreign: (**foreign).clone(), inputs, outputs }))
            }
        }
    }

    /// A node that reads or makes 8-bit codes.
    fn in_codes(&mut self, node: &Node, scratch: usize) -> Option<()> {
        let (first, result, int8) = (*node.inputs.first()?, *node.outputs.first()?, self.target.int8?);
        let levels = |id: ValueId| match self.graph.value(id).coding {
            Some(Coding::Static(levels)) => Some(levels),
            _ => None,
        };
        let step = match &node.op {
            Op::Conv(conv) => return self.int8_convolution(node, conv, conv.int8.as_ref()?),
            Op::Quantize(levels) => {
                let (zero, top) = zero_and_top(levels);
                let how = Some(Quantizer { scale: levels.scale, zero, top });
                let (from, output) = (self.floats(first)?, self.codes(result)?);
                let pixels = self.pixels(first).map(|pixels| (pixels, scratch));
                Step::Quantize(codes::Quantize { int8, from, output, how, pixels })
            }
            Op::DynamicQuantize => {
                let (from, output) = (self.floats(first)?, self.codes(result)?);
                self.push(node, Step::FindRange(codes::FindRange { from, output }))?;
                Step::Quantize(codes::Quantize { int8, from, output, how: None, pixels: None })
            }
            Op::Recast | Op::FromBlocks => {
                let levels = levels(first)?;
                let (input, to) = (self.codes(first)?, self.floats(result)?);
                let worth = Worth { zero: zero_and_top(&levels).0, step: levels.step };
                Step::Dequantize(codes::Dequantize { int8, input, to, worth })
            }
            Op::Translate(table) => {
                let (input, output) = (self.codes(first)?, self.codes(result)?);
                Step::Translate(codes::Translate { int8, input, output, table: table.clone() })
            }
            Op::Int8Binary { op, levels: made } => {
                let second = *node.inputs.get(1)?;
                let (a, b) = (levels(first)?, levels(second)?);
                let (zero, top) = zero_and_top(made);
                let factors = match op {
                    super::kernels::Binary::Mul => [a.step * b.step / made.scale, 1.0],
                    _ => [a.step / made.scale, b.step / made.scale],
                };
                let zeros = [zero_and_top(&a).0, zero_and_top(&b).0];
                let how = Int8Binary { op: *op, zeros, factors, zero, top };
                let sides = [self.codes(first)?, self.codes(second)?];
                Step::Int8Binary(codes::Elementwise { int8, sides, output: self.codes(result)?, how })
            }
            Op::MaxPool(window) => {
                let (window, input, output) = (window.clone(), self.codes(first)?, self.codes(result)?);
                Step::Int8MaxPool(codes::MaxPool { int8, window, input, output })
            }
            Op::Resize { rows, columns } => {
                let (input, output) = (self.codes(first)?, self.codes(result)?);
                let (rows, columns) = (rows.clone(), columns.clone());
                Step::Int8Resize(codes::Resize { input, output, rows, columns })
            }
            Op::Concat { axis: 1 } => {
                let (mut moves, mut at) = (Vec::new(), 0);
                for &input in &node.inputs {
                    let source = self.codes(input)?;
                    moves.push((source, 0, at, source.channels));
                    at += source.channels;
                }
                return self.move_codes(node, moves);
            }
            Op::Slice { axis: 1, start, end } => {
                let source = self.codes(first)?;
                return self.move_codes(node, vec![(source, *start, 0, end - start)]);
            }
            Op::Gather { axis: 1, indices } => {
                let source = self.codes(first)?;
                let moves = indices.iter().enumerate().map(|(to, from)| (source, *from, to, 1)).collect();
                return self.move_codes(node, moves);
            }
            _ => return None,
        };
        self.push(node, step)
    }

    /// Copies channels of codes to other places, but for those that were made there.
    fn move_codes(&mut self, node: &Node, moves: Vec<(Nhwc, usize, usize, usize)>) -> Option<()> {
        let output = self.codes(*node.outputs.first()?)?;
        let elsewhere = |(source, from, to, _): &(Nhwc, usize, usize, usize)| {
            source.at + from != output.at + to || (source.pixel, source.halo) != (output.pixel, output.halo)
        };
        let moves: Vec<_> = moves.into_iter().filter(elsewhere).collect();
        if moves.is_empty() {
            return Some(());
        }
        self.push(node, Step::MoveChannels(codes::MoveChannels { moves, output }))
    }

    fn int8_convolution(&mut self, node: &Node, conv: &Conv, marked: &Int8) -> Option<()> {
        let output = match &marked.output {
            Some(_) => int8::Output::Codes(self.codes(*node.outputs.first()?)?),
            None => {
                let residual = match (conv.residual, node.inputs.get(1)) {
                    (Some(order), Some(&id)) => Some((self.blocks(id)?, order)),
                    _ => None,
                };
                int8::Output::Floats(self.blocks(*node.outputs.first()?)?, residual)
            }
        };
        let target = (self.target.int8?, self.target.workers);
        let places = (self.codes(*node.inputs.first()?)?, output);
        let step = int8::Int8Conv::new(conv, marked, places, target, self.packer)?;
        self.push(node, Step::Int8Conv(step))
    }

    fn linear(&mut self, node: &Node, linear: &Linear, scratch: usize) -> Option<()> {
        let output = node.outputs[0];
        let [k, n] = linear.size()?;
        let m = self.graph.value(output).len() / n;
        let (from, to) = (self.plain(node.inputs[0])?, self.plain(output)?);
        if is_narrow(linear) {
            let weights = pack(self.packer, &linear.weights)?;
            return self.push(node, Step::MatMul(plain::MatMul { from, to, m, k, n, weights }));
        }
        let graph = self.graph;
        let bias = match linear.bias {
            true => Some(graph.value(*node.inputs.get(1)?).constant.as_ref()?),
            false => None,
        };
        // known only where the weights are
        let bias = bias.and_then(Constant::floats);
        let residual = match linear.residual {
            Some(_) => Some(self.plain(*node.inputs.last()?)?),
            None => None,
        };
        let operands = linear::Operands { from, to, rows: m, residual, scratch };
        let target = (self.target.kernels, self.target.workers);
        let step = linear::Linear::new(linear, &operands, bias.as_deref(), target, self.packer)?;
        self.push(node, Step::Linear(step))
    }

    /// A value as matrices.
    fn matrices(&self, id: ValueId, axes: &Axes) -> Option<Matrices> {
        Some(Matrices { at: self.plain(id)?, span: self.graph.value(id).len(), steps: self.steps(id, axes) })
    }

    /// Floats from one index of each axis to the next; 0 where one serves for all.
    fn steps(&self, id: ValueId, axes: &Axes) -> [usize; 4] {
        let shape = &self.graph.value(id).shape;
        let strides = row_major(shape);
        let step = |axis: &Option<usize>| {
            axis.filter(|axis| shape.get(*axis) != Some(&1)).and_then(|axis| strides.get(axis).copied())
        };
        [&axes[0], &axes[1], &axes[2], &axes[3]].map(|axis| step(axis).unwrap_or(0))
    }

    fn convolution(&mut self, node: &Node, conv: &Conv, scratch: usize) -> Option<()> {
        let source = match self.storage.places[node.inputs[0].0] {
            Place::Blocks(blocks) => Source::Blocks(blocks),
            Place::Plain(at) => {
                let [channels, height, width] = self.graph.value(node.inputs[0]).picture()?;
                let row = plane_row(conv, width);
                let pixels = self.pixels(node.inputs[0]);
                Source::Planes { at, channels, height, width, row, scratch, pixels }
            }
            _ => return None,
        };
        let output = self.blocks(node.outputs[0])?;
        let residual = match (conv.residual, node.inputs.get(1)) {
            (Some(order), Some(&id)) => Some((self.blocks(id)?, order)),
            _ => None,
        };
        let (target, half) = (self.target, self.target.half.filter(|_| output.is_half()));
        let workers = target.workers;
        if let (Source::Blocks(input), Some((half, tiles))) =
            (source, half.and_then(|h| Some((h, h.tiles()?))))
        {
            let target = (half, tiles, workers);
            let step = half::HalfConv::new(conv, [input, output], residual, target, self.packer)?;
            return self.push(node, Step::HalfConv(step));
        }
        // planes are read in 32 bits
        let (format, staged) = match source {
            Source::Blocks(_) => (output.format, None),
            Source::Planes { .. } => (Format::Float32, half),
        };
        let loops = target.convolutions(format)?;
        let way = target.way(loops, conv, [output.channels, output.height, output.width]);
        if let (Source::Blocks(input), Algorithm::Kept | Algorithm::Remade) = (source, way) {
            let limits = (loops, workers, way == Algorithm::Kept, scratch);
            let step = Winograd::new(conv, input, output, residual, limits, self.packer)?;
            return self.push(node, Step::Winograd(step));
        }
        let step = ConvStep::new(conv, source, (output, staged), residual, (loops, workers), self.packer)?;
        self.push(node, Step::Conv(step))
    }

    fn pool(&mut self, node: &Node, window: &Window, average: Option<bool>) -> Option<()> {
        let (input, output) = (self.blocks(node.inputs[0])?, self.blocks(node.outputs[0])?);
        let pictures = self.target.pictures(output);
        self.push(node, Step::Pool(picture::Pool::new(window, [input, output], average, pictures)))
    }

    fn binary(&mut self, node: &Node) -> Option<()> {
        let Op::Binary(op) = node.op else { return None };
        let output = node.outputs[0];
        if let Some(output) = self.blocks(output) {
            let terms = [self.term(node.inputs[0], output)?, self.term(*node.inputs.get(1)?, output)?];
            let pictures = self.target.pictures(output);
            return self.push(node, Step::Binary(picture::Elementwise { op, terms, output, pictures }));
        }
        let shape = self.graph.value(output).shape.clone();
        let mut sides = [At::Arena(0); 2];
        let mut strides = vec![[0, 0, 0]; shape.len()];
        for (n, &id) in node.inputs.iter().enumerate().take(2) {
            let dims = self.graph.value(id).shape.clone();
            for (axis, stride) in row_major(&dims).into_iter().enumerate() {
                strides[axis][n] = if dims[axis] == 1 { 0 } else { stride };
            }
            sides[n] = self.origin(id)?;
        }
        for (stride, own) in strides.iter_mut().zip(row_major(&shape)) {
            stride[2] = own;
        }
        let (to, walk) = (self.plain(output)?, Walk::new(&shape, &strides));
        self.push(node, Step::PlainBinary(plain::Elementwise { op, sides, to, walk }))
    }

    /// An operand of an element-wise operation on pictures.
    fn term(&mut self, id: ValueId, output: Blocks) -> Option<picture::Term> {
        if let Some(constant) = &self.graph.value(id).constant {
            let at = self.packer.take(output.count() * LANES, |room| {
                let values = constant.floats()?;
                let value = |channel: usize| match *values {
                    [one] => one,
                    _ => values.get(channel).copied().unwrap_or(0.0),
                };
                for (index, to) in room.iter_mut().enumerate() {
                    *to = output.format.float(index, value);
                }
                Some(())
            })?;
            return Some(picture::Term::Channels(at));
        }
        let blocks = self.blocks(id)?;
        let same = (blocks.height, blocks.width) == (output.height, output.width);
        let pixel = (blocks.height, blocks.width) == (1, 1);
        if blocks.channels != output.channels {
            return None;
        }
        if same {
            Some(picture::Term::Picture(blocks))
        } else {
            pixel.then_some(picture::Term::Pixel(blocks))
        }
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Option<()> {
        let output = node.outputs[0];
        if let Some(output) = self.blocks(output) {
            let (mut moves, mut cleared) = (Vec::new(), Vec::new());
            let (mut at, lanes) = (0, output.lanes());
            for &input in &node.inputs {
                let source = self.blocks(input)?;
                let aligned = at % lanes == 0;
                // a piece that already lies in its place was made there
                if !(aligned
                    && source.at == output.at + at / lanes * output.block()
                    && source.halo == output.halo)
                {
                    moves.extend((0..source.channels).map(|c| (source, c, at + c)));
                    cleared.extend(at / lanes..(at + source.channels).div_ceil(lanes));
                }
                at += source.channels;
            }
            cleared.sort_unstable();
            cleared.dedup();
            return self.move_channels(node, moves, output, cleared);
        }
        let to = self.plain(output)?;
        let shape = self.graph.value(output).shape.clone();
        let strides = row_major(&shape);
        let mut at = to;
        for &input in &node.inputs {
            let dims = self.graph.value(input).shape.clone();
            if self.plain(input) != Some(at) || dims[..axis].iter().any(|&d| d != 1) {
                self.copy(node, input, 0, at, &dims, [&row_major(&dims), &strides], None)?;
            }
            at += dims[axis] * strides[axis];
        }
        Some(())
    }

    /// Picks indices of an axis; a slice is the case of neighbouring ones.
    fn gather(&mut self, node: &Node, axis: usize, indices: &[usize]) -> Option<()> {
        let (input, output) = (node.inputs[0], node.outputs[0]);
        if let Some(target) = self.blocks(output) {
            let source = self.blocks(input)?;
            let first = *indices.first()?;
            let lanes = target.lanes();
            let view = first % lanes == 0 && target.at == source.at + first / lanes * source.block();
            if matches!(node.op, Op::Slice { .. }) && view && target.halo == source.halo {
                return Some(());
            }
            let moves = indices.iter().enumerate().map(|(to, &from)| (source, from, to)).collect();
            return self.move_channels(node, moves, target, (0..target.count()).collect());
        }
        let shape = self.graph.value(input).shape.clone();
        let (from, to) = (row_major(&shape), row_major(&self.graph.value(output).shape));
        let target = self.plain(output)?;
        let mut done = 0;
        while let Some(&first) = indices.get(done) {
            // neighbouring indices go together
            let length = indices[done..].iter().enumerate().take_while(|(i, x)| **x == first + i).count();
            let start = first * from[axis];
            let at = target + done * to[axis];
            done += length;
            let in_place =
                shape[..axis].iter().all(|&d| d == 1) && self.plain(input).is_some_and(|p| p + start == at);
            if matches!(node.op, Op::Slice { .. }) && in_place {
                continue;
            }
            let mut dims = shape.clone();
            dims[axis] = length;
            self.copy(node, input, start, at, &dims, [&from, &to], None)?;
        }
        Some(())
    }

    /// Copies channels to other places; `cleared`: the blocks that they go to.
    fn move_channels(
        &mut self,
        node: &Node,
        moves: Vec<(Blocks, usize, usize)>,
        output: Blocks,
        cleared: Vec<usize>,
    ) -> Option<()> {
        if moves.is_empty() {
            return Some(());
        }
        if output.is_half() {
            let step = half::Shuffle::new(self.target.half?, output, &moves, &cleared)?;
            return self.push(node, Step::Shuffle(step));
        }
        self.push(node, Step::CopyChannels(picture::CopyChannels { moves, output, cleared }))
    }

    /// Copies `dims` elements from `input + start` to `to`.
    #[allow(clippy::too_many_arguments)]
    fn copy(
        &mut self,
        node: &Node,
        input: ValueId,
        start: usize,
        to: usize,
        dims: &[usize],
        [from, into]: [&[usize]; 2],
        fill: Option<(usize, usize, f32)>,
    ) -> Option<()> {
        let origin = self.origin(input)?.behind(start);
        let strides: Vec<[usize; 2]> = from.iter().zip(into).map(|(&a, &b)| [a, b]).collect();
        self.push(node, Step::Copy(Copy { from: origin, to, walk: Walk::new(dims, &strides), fill }))
    }
}
