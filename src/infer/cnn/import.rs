//! tract's graph → ours.
//!
//! The model must be typed and **not** decluttered: decluttering turns pointwise convolutions into einsums
//! and takes concatenations apart, which suits tract's kernels and not ours.

use super::constant::{Constant, floats};
use super::foreign::Foreign;
use super::graph::{
    Axes, Conv, Graph, Linear, MAX_RANK, Node, Op, Product, Reduction, Value, ValueId, Window,
};
use super::kernels::{Activation, Binary, Levels};
use super::resample;
use super::unsupported::{tract, unsupported};
use crate::error::Result;
use crate::infer::onnx::Stored;
use crate::infer::onnx::operators::{DynamicQuantized, Resample};
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops;
use tract_onnx::tract_core::ops::cnn::{
    Conv as TractConv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool,
};
use tract_onnx::tract_core::ops::nn::{DataFormat, GridSample, InterpolationMode, PaddingMode, Reducer};
use tract_onnx::tract_core::ops::quant::{DequantizeLinearF32, QuantizeLinearI8, QuantizeLinearU8};

/// Most nodes of a graph; the largest detector we know (RF-DETR 2XL) has about 4 000.
const MAX_NODES: usize = 100_000;
/// Most elements of one tensor (1 GiB of floats): also keeps every offset within 32 bits.
pub(super) const MAX_ELEMENTS: usize = 1 << 28;

/// Imports a model with one input. Further inputs stand for weights of that name.
pub(super) fn import(model: &TypedModel, stored: &HashMap<String, Stored>) -> Result<Graph> {
    if model.nodes().len() > MAX_NODES {
        return Err(unsupported("graph", "more nodes than any detector has"));
    }
    let mut importer =
        Importer { model, stored, graph: Graph::default(), ids: HashMap::new(), quantized: HashMap::new() };
    let order =
        model.eval_order().map_err(|e| unsupported("graph", "no order of execution").because(tract(e)))?;
    for index in order {
        importer.node(model.node(index))?;
    }
    let outputs = model.output_outlets().map_err(|e| unsupported("graph", "no outputs").because(tract(e)))?;
    for outlet in outputs {
        let id = importer.id(*outlet).ok_or_else(|| unsupported("graph", "an output that nothing makes"))?;
        importer.graph.outputs.push(id);
    }
    Ok(importer.graph)
}

struct Importer<'a> {
    model: &'a TypedModel,
    stored: &'a HashMap<String, Stored>,
    graph: Graph,
    ids: HashMap<OutletId, ValueId>,
    /// Values of 8 bits by what they are: whole numbers of so much of a float value.
    quantized: HashMap<ValueId, Quantized>,
}

/// How 8 bits were made of a float value: `clip(round(x · factor) + zero, lowest, highest)`.
#[derive(Clone, Copy)]
struct Quantized {
    of: ValueId,
    factor: f32,
    zero: i32,
    lowest: i32,
    highest: i32,
}

impl Importer<'_> {
    fn id(&self, outlet: OutletId) -> Option<ValueId> {
        self.ids.get(&outlet).copied()
    }

    /// The content of a constant.
    fn tensor(&self, id: ValueId) -> Option<Arc<Tensor>> {
        self.graph.value(id).constant.as_ref()?.tensor()
    }

    /// Makes a value for an outlet of tract's graph.
    fn declare(&mut self, node: &TypedNode, slot: usize) -> Result<ValueId> {
        let Some(outlet) = node.outputs.get(slot) else {
            return Err(unsupported(&node.name, "an output that does not exist"));
        };
        let shape = outlet.fact.shape.as_concrete().map(<[usize]>::to_vec);
        let float = outlet.fact.datum_type == f32::datum_type();
        let elements = shape.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
        if elements.is_some_and(|n| n > MAX_ELEMENTS) {
            return Err(unsupported(&node.name, "a tensor that is too large"));
        }
        if shape.is_none() && float {
            return Err(unsupported(&node.name, "a shape that is not fixed"));
        }
        let shape = shape.unwrap_or_default();
        let foreign = !float || shape.len() > MAX_RANK || shape.contains(&0);
        self.graph.values.push(Value {
            name: node.name.clone(),
            shape,
            constant: None,
            foreign,
            coding: None,
        });
        let id = ValueId(self.graph.values.len() - 1);
        self.ids.insert(OutletId::new(node.id, slot), id);
        Ok(id)
    }

    fn node(&mut self, node: &TypedNode) -> Result<()> {
        let inputs: Vec<ValueId> = node
            .inputs
            .iter()
            .map(|i| self.id(*i).ok_or_else(|| unsupported(&node.name, "an input that nothing makes")))
            .collect::<Result<_>>()?;
        if node.op_is::<ops::source::TypedSource>() {
            let id = self.declare(node, 0)?;
            if let Some(stored) = self.stored.get(&node.name) {
                let value = &mut self.graph.values[id.0];
                if value.foreign || value.len() != stored.len() {
                    return Err(unsupported(&node.name, "weights of another shape"));
                }
                value.constant = Some(Constant::Stored(stored.clone(), value.shape.as_slice().into()));
                return Ok(());
            }
            if self.graph.value(id).foreign || !self.graph.inputs.is_empty() {
                return Err(unsupported(&node.name, "not one input of 32-bit floats"));
            }
            self.graph.inputs.push(id);
            return Ok(());
        }
        if self.fold(node, &inputs)? || self.pass_through(node, &inputs)? {
            return Ok(());
        }
        if let (Some(quantized), [_]) =
            (inputs.first().and_then(|id| self.quantize(node, *id)), &node.outputs[..])
        {
            // nothing is computed here: whoever makes floats of it does it all, others have it made below
            let made = self.declare(node, 0)?;
            self.quantized.insert(made, quantized);
            return self.foreign(node, inputs, vec![made]);
        }
        let outputs =
            (0..node.outputs.len()).map(|slot| self.declare(node, slot)).collect::<Result<Vec<_>>>()?;
        let ours = |id: &ValueId| !self.graph.value(*id).foreign;
        let known = if outputs.iter().all(ours) { self.translate(node, &inputs, &outputs) } else { None };
        let (op, inputs) = match known {
            Some(known) => known,
            None => return self.foreign(node, inputs, outputs),
        };
        self.graph.nodes.push(Node { name: node.name.clone(), op, inputs, outputs });
        Ok(())
    }

    /// A node that tract runs.
    fn foreign(&mut self, node: &TypedNode, inputs: Vec<ValueId>, outputs: Vec<ValueId>) -> Result<()> {
        let constants: Vec<_> = inputs.iter().map(|i| self.tensor(*i)).collect();
        let op = Op::Foreign(Box::new(Foreign::new(self.model, node, &constants)?));
        let variable = inputs.into_iter().zip(constants).filter(|(_, c)| c.is_none()).map(|(i, _)| i);
        self.graph.nodes.push(Node { name: node.name.clone(), op, inputs: variable.collect(), outputs });
        Ok(())
    }

    /// What a node makes 8 bits of, and how, where it does that to floats of ours.
    fn quantize(&self, node: &TypedNode, of: ValueId) -> Option<Quantized> {
        let op = node.op_as::<ops::element_wise::ElementWiseOp>()?;
        let (factor, zero, lowest, highest) = if let Some(op) = op.0.downcast_ref::<QuantizeLinearU8>() {
            (op.scale, i32::from(op.zero_point), 0, i32::from(u8::MAX))
        } else {
            let op = op.0.downcast_ref::<QuantizeLinearI8>()?;
            (op.scale, i32::from(op.zero_point), i32::from(i8::MIN), i32::from(i8::MAX))
        };
        (!self.graph.value(of).foreign).then_some(Quantized { of, factor, zero, lowest, highest })
    }

    /// Evaluates what depends on constants only.
    fn fold(&mut self, node: &TypedNode, inputs: &[ValueId]) -> Result<bool> {
        let results: TVec<TValue> = if let Some(constant) = node.op_as::<ops::konst::Const>() {
            tvec!(constant.val().clone().into_tvalue())
        } else {
            let constants: Option<TVec<TValue>> =
                inputs.iter().map(|i| self.tensor(*i).map(IntoTValue::into_tvalue)).collect();
            match constants {
                Some(constants) if !constants.is_empty() => match node.op.eval_out_of_plan(constants) {
                    Ok(Some(results)) => results,
                    _ => return Ok(false),
                },
                _ => return Ok(false),
            }
        };
        for (slot, result) in results.into_iter().enumerate().take(node.outputs.len()) {
            let id = self.declare(node, slot)?;
            self.graph.values[id.0].constant = Some(result.into_arc_tensor().into());
        }
        Ok(true)
    }

    /// Nodes that change nothing for us.
    fn pass_through(&mut self, node: &TypedNode, inputs: &[ValueId]) -> Result<bool> {
        let same = |slot: usize| {
            let (Some(input), Some(output)) = (inputs.first(), node.outputs.get(slot)) else { return false };
            let value = self.graph.value(*input);
            !value.foreign
                && output.fact.datum_type == f32::datum_type()
                && output.fact.shape.as_concrete() == Some(value.shape.as_slice())
        };
        let nothing = node.op_is::<ops::identity::Identity>() || node.op_is::<ops::cast::Cast>();
        if nothing && node.outputs.len() == 1 && same(0) {
            self.ids.insert(OutletId::new(node.id, 0), inputs[0]);
            return Ok(true);
        }
        Ok(false)
    }

    /// Our operation for a node whose outputs are all ours, with the operands that remain.
    fn translate(
        &self,
        node: &TypedNode,
        inputs: &[ValueId],
        outputs: &[ValueId],
    ) -> Option<(Op, Vec<ValueId>)> {
        let (&first, &output) = (inputs.first()?, outputs.first()?);
        let input = self.graph.value(first);
        let output = self.graph.value(output);
        if let (Some(op), Some(made)) = (node.op_as::<DequantizeLinearF32>(), self.quantized.get(&first)) {
            let zero = op.zero_point;
            let bound = |limit: i32| (limit - made.zero) as f32;
            let (low, high) = (bound(made.lowest), bound(made.highest));
            // tract keeps the inverse of the one scale and the other itself: one number in every graph
            let scale = if op.scale.recip() == made.factor { op.scale } else { made.factor.recip() };
            let levels = Levels { scale, low, high, step: op.scale };
            let op = Op::Activate(Activation::Quantized(levels));
            return (zero == made.zero).then(|| (op, vec![made.of]));
        }
        if input.foreign || outputs.len() != 1 {
            return None;
        }
        let only_first = vec![first];
        if let Some(op) = node.op_as::<TractConv>() {
            return Some((self.convolution(op, inputs)?, only_first));
        }
        if let Some(op) = node.op_as::<MaxPool>() {
            let window = undilated(window(&op.pool_spec, input)?)?;
            return Some((op.with_index_outputs.is_none().then_some(Op::MaxPool(window))?, only_first));
        }
        if let Some(op) = node.op_as::<SumPool>() {
            let window = undilated(window(&op.pool_spec, input)?)?;
            let ceiling = matches!(op.pool_spec.padding, PaddingSpec::ExplicitOnnxPool(_, _, true));
            // windows that leave even the padding count differently
            if op.count_include_pad && ceiling {
                return None;
            }
            let op =
                op.normalize.then_some(Op::AveragePool { window, include_padding: op.count_include_pad })?;
            return Some((op, only_first));
        }
        if let Some(op) = node.op_as::<ops::binary::TypedBinOp>() {
            let &second = inputs.get(1)?;
            let other = self.graph.value(second);
            let ranks = [input, other].iter().all(|v| !v.foreign && v.shape.len() == output.shape.len());
            if op.0.name() == "Pow" {
                let exponent = other.constant.as_ref().and_then(Constant::floats);
                let power = |power: f32| {
                    exponent.as_ref().is_some_and(|exponent| exponent.iter().all(|e| *e == power))
                };
                let op = match input.shape == output.shape {
                    true if power(2.0) => (Op::Binary(Binary::Mul), vec![first, first]),
                    true if power(3.0) => (Op::Activate(Activation::Cube), only_first),
                    true if power(0.5) => (Op::Activate(Activation::Sqrt), only_first),
                    _ => return None,
                };
                return Some(op);
            }
            let op = match op.0.name() {
                "Add" => Binary::Add,
                "Sub" => Binary::Sub,
                "Mul" => Binary::Mul,
                "Div" => Binary::Div,
                "Max" => Binary::Max,
                "Min" => Binary::Min,
                _ => return None,
            };
            return ranks.then_some((Op::Binary(op), vec![first, second]));
        }
        if let Some(op) = node.op_as::<ops::array::TypedConcat>() {
            let ours = inputs.iter().all(|i| !self.graph.value(*i).foreign);
            return ours.then(|| (Op::Concat { axis: op.axis }, inputs.to_vec()));
        }
        if let Some(op) = node.op_as::<ops::array::Slice>() {
            let (start, end) = (position(&op.start)?, position(&op.end)?);
            let inside = start < end && end <= *input.shape.get(op.axis)?;
            return inside.then_some((Op::Slice { axis: op.axis, start, end }, only_first));
        }
        if let Some(op) = node.op_as::<ops::array::Gather>() {
            let indices = self.tensor(*inputs.get(1)?)?;
            let length = *input.shape.get(op.axis)? as i64;
            let indices = indices.cast_to::<i64>().ok()?;
            let indices = indices.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.to_vec();
            let indices = indices.into_iter().map(|i| if i < 0 { i + length } else { i });
            let indices = indices
                .map(|i| (0..length).contains(&i).then_some(i as usize))
                .collect::<Option<Vec<_>>>()?;
            // one index tensor of rank 1 keeps the rank; others are left to tract
            let same_rank = output.shape.len() == input.shape.len() && output.shape[op.axis] == indices.len();
            return same_rank.then_some((Op::Gather { axis: op.axis, indices }, only_first));
        }
        if let Some(op) = node.op_as::<ops::change_axes::AxisOp>() {
            use ops::change_axes::AxisOp;
            let op = match op {
                AxisOp::Move(from, to) => {
                    let mut order: Vec<usize> = (0..input.shape.len()).collect();
                    let axis = (*from < order.len() && *to < order.len()).then(|| order.remove(*from))?;
                    order.insert(*to, axis);
                    Op::Transpose { order }
                }
                AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..) => Op::Reshape,
            };
            return (input.len() == output.len()).then_some((op, only_first));
        }
        if let Some(op) = node.op_as::<ops::nn::Softmax>() {
            let plain = op.kind == ops::nn::SoftmaxKind::Softmax && op.quant_output_dt.is_none();
            return match *op.axes.as_slice() {
                [axis] if plain && axis < input.shape.len() => Some((Op::Softmax { axis }, only_first)),
                _ => None,
            };
        }
        if let Some(op) = node.op_as::<ops::nn::Reduce>() {
            let global =
                op.axes.as_slice() == [2, 3] && op.reducer == Reducer::Sum && input.picture().is_some();
            if global {
                return Some((Op::GlobalSum, only_first));
            }
            let reduction = match op.reducer {
                Reducer::Sum => Reduction::Sum,
                Reducer::Max => Reduction::Max,
                _ => return None,
            };
            let last = input.shape.len().checked_sub(1)?;
            return (op.axes.as_slice() == [last]).then_some((Op::Reduce(reduction), only_first));
        }
        if let Some(op) = node.op_as::<ops::array::Pad>() {
            let ops::array::PadMode::Constant(value) = &op.mode else { return None };
            let value = *floats(value)?.first()?;
            let (before, after) = op.pads.iter().copied().unzip();
            return Some((Op::Pad { before, after, value }, only_first));
        }
        if node.op_is::<DynamicQuantized>() {
            return Some((Op::DynamicQuantize, only_first));
        }
        if let Some(op) = node.op_as::<ops::element_wise::ElementWiseOp>() {
            if op.0.name() == "Square" {
                return Some((Op::Binary(Binary::Mul), vec![first, first]));
            }
            return Some((Op::Activate(activation(&*op.0)?), only_first));
        }
        if let Some(op) = node.op_as::<ops::einsum::EinSum>() {
            return self.product(op, inputs, output);
        }
        if let Some(op) = node.op_as::<GridSample>() {
            let &second = inputs.get(1)?;
            let computed =
                |id: &ValueId| !self.graph.value(*id).foreign && self.graph.value(*id).constant.is_none();
            let known = op.mode == InterpolationMode::Bilinear
                && op.padding_mode == PaddingMode::Zeros
                && input.shape.len() == 4;
            let op = Op::Sample { align_corners: op.align_corners };
            return (known && [first, second].iter().all(computed)).then_some((op, vec![first, second]));
        }
        if let Some(op) = node.op_as::<Resample>() {
            let (rows, columns) = resample::taps(op, input)?;
            return Some((Op::Resize { rows, columns }, only_first));
        }
        None
    }

    fn convolution(&self, op: &TractConv, inputs: &[ValueId]) -> Option<Op> {
        let (input, weights, bias) = (inputs.first()?, inputs.get(1)?, inputs.get(2)?);
        let input = self.graph.value(*input);
        if op.q_params.is_some() || op.kernel_fmt != KernelFormat::OIHW || op.group == 0 {
            return None;
        }
        let weights = self.graph.value(*weights).constant.clone().filter(Constant::is_float)?;
        let &[o, i, kh, kw] = weights.shape() else { return None };
        let window = window(&op.pool_spec, input)?;
        let [channels, ..] = input.picture()?;
        let fits = window.kernel == [kh, kw]
            && i.checked_mul(op.group)? == channels
            && o.checked_rem(op.group)? == 0;
        let bias = match &*self.graph.value(*bias).constant.as_ref()?.floats()? {
            [one] => vec![*one; o],
            all if all.len() == o => all.to_vec(),
            _ => return None,
        };
        fits.then(|| {
            Op::Conv(Box::new(Conv {
                window,
                groups: op.group,
                weights,
                scale: Vec::new(),
                bias,
                activation: Activation::Identity,
                residual: None,
                is_int8: false,
                int8: None,
            }))
        })
    }

    /// A product of matrices: of two values, or of one and constant weights.
    fn product(
        &self,
        op: &ops::einsum::EinSum,
        inputs: &[ValueId],
        output: &Value,
    ) -> Option<(Op, Vec<ValueId>)> {
        let &[left, right] = inputs else { return None };
        if op.q_params.is_some() || op.operating_dt != f32::datum_type() {
            return None;
        }
        let values = [self.graph.value(left), self.graph.value(right)];
        if values.iter().any(|value| value.foreign) {
            return None;
        }
        let none: Axes = [None; 4];
        let (mut product, mut batch) = (Product { left: none, right: none, out: none, scale: 1.0 }, 0);
        for axis in op.axes.iter_all_axes() {
            let at = |axes: &[usize]| match axes {
                [] => Some(None),
                [one] => Some(Some(*one)),
                _ => None,
            };
            let (a, b, c) = (at(&axis.inputs[0])?, at(&axis.inputs[1])?, at(&axis.outputs[0])?);
            let length = |value: &Value, axis: Option<usize>| {
                axis.map_or(1, |axis| value.shape.get(axis).copied().unwrap_or(1))
            };
            if length(values[0], a) * length(values[1], b) * length(output, c) == 1 {
                continue;
            }
            match (a, b, c) {
                (Some(_), Some(_), Some(_)) => {
                    let (left, right, out) = (
                        product.left.get_mut(batch)?,
                        product.right.get_mut(batch)?,
                        product.out.get_mut(batch)?,
                    );
                    (*left, *right, *out) = (a, b, c);
                    batch += 1;
                    if batch > 2 {
                        return None;
                    }
                }
                (Some(_), None, Some(_)) if product.left[2].is_none() => {
                    (product.left[2], product.out[2]) = (a, c)
                }
                (None, Some(_), Some(_)) if product.right[3].is_none() => {
                    (product.right[3], product.out[3]) = (b, c)
                }
                (Some(_), Some(_), None) if product.left[3].is_none() => {
                    (product.left[3], product.right[2]) = (a, b)
                }
                // several axes of rows: they lie together where the weights are constant
                (Some(_), None, Some(_)) => return self.linear(op, inputs, output),
                _ => return None,
            }
        }
        self.linear(op, inputs, output).or_else(|| {
            let constant = values.iter().any(|value| value.constant.is_some());
            (!constant).then(|| (Op::Product(Box::new(product)), inputs.to_vec()))
        })
    }

    /// `[.., m, k] × [k, n]` (or `[n, k]`) with constant right side.
    fn linear(
        &self,
        op: &ops::einsum::EinSum,
        inputs: &[ValueId],
        output: &Value,
    ) -> Option<(Op, Vec<ValueId>)> {
        let &[first, right] = inputs else { return None };
        let left = self.graph.value(first);
        let weights = self.graph.value(right).constant.clone().filter(Constant::is_float)?;
        let rank = left.shape.len();
        // the last axis of the left is summed against an axis of the right; all others stay in place
        let natural = |depth: usize| {
            op.axes.iter_all_axes().all(|axis| {
                let (a, b, c) = (&axis.inputs[0], &axis.inputs[1], &axis.outputs[0]);
                match (a.as_slice(), b.as_slice(), c.as_slice()) {
                    (&[x], &[], &[y]) => x == y && x < rank - 1,
                    (&[x], &[y], &[]) => x == rank - 1 && y == depth,
                    (&[], &[x], &[y]) => x == 1 - depth && y == rank - 1,
                    _ => false,
                }
            })
        };
        let transposed = match rank >= 2 && output.shape.len() == rank && weights.shape().len() == 2 {
            true if natural(0) => false,
            true if natural(1) => true,
            _ => return None,
        };
        let linear = Linear {
            weights,
            transposed,
            scale: Vec::new(),
            bias: false,
            activation: Activation::Identity,
            residual: None,
        };
        let [k, n] = linear.size()?;
        let fits = left.shape.split_last() == Some((&k, &output.shape[..rank - 1]))
            && output.shape.last() == Some(&n);
        fits.then(|| (Op::Linear(Box::new(linear)), vec![first]))
    }
}

/// The window of a two-dimensional NCHW convolution or pooling over a picture.
fn window(spec: &PoolSpec, input: &Value) -> Option<Window> {
    let [channels, height, width] = input.picture()?;
    if spec.data_format != DataFormat::NCHW || spec.rank() != 2 || spec.input_channels != channels {
        return None;
    }
    let pads = spec.computed_padding(&[height, width]);
    let pair = |f: &dyn Fn(usize) -> usize| [f(0), f(1)];
    let window = Window {
        kernel: pair(&|a| spec.kernel_shape[a]),
        stride: pair(&|a| spec.stride(a)),
        dilation: pair(&|a| spec.dilation(a)),
        before: pair(&|a| pads[a].pad_before),
        after: pair(&|a| pads[a].pad_after),
    };
    let positive = |v: &[usize; 2]| v.iter().all(|&x| x > 0 && x <= MAX_WINDOW);
    (positive(&window.kernel) && positive(&window.stride) && positive(&window.dilation)).then_some(window)
}

/// Our pooling kernels know no dilation.
fn undilated(window: Window) -> Option<Window> {
    (window.dilation == [1, 1]).then_some(window)
}

/// Largest kernel size, stride or dilation, in pixels, that we run ourselves; real ones stay below 32.
pub(super) const MAX_WINDOW: usize = 1024;

/// The activation of one of tract's element-wise operations.
fn activation(op: &dyn ops::element_wise::ElementWiseMiniOp) -> Option<Activation> {
    if let Some(leaky) = op.downcast_ref::<ops::nn::LeakyRelu>() {
        return Some(Activation::Leaky { slope: leaky.alpha });
    }
    Some(match op.name().as_str() {
        "Sigmoid" => Activation::Sigmoid,
        "Silu" => Activation::Silu,
        "HardSwish" => Activation::HardSwish,
        "Tanh" => Activation::Tanh,
        "Exp" => Activation::Exp,
        "Erf" => Activation::Erf,
        "Sqrt" => Activation::Sqrt,
        "Rsqrt" => Activation::Rsqrt,
        "Recip" => Activation::Reciprocal,
        _ => return None,
    })
}

/// A fixed position along an axis.
fn position(dim: &TDim) -> Option<usize> {
    usize::try_from(dim.to_i64().ok()?).ok()
}
