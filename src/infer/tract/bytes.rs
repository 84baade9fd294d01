//! QuantizeLinear and DequantizeLinear that tract 0.23.9 leaves as they are.
//!
//! Its own ones look for each other: everything from a DequantizeLinear to the next QuantizeLinear becomes a
//! table of 256 numbers where tract holds it for element by element, and it holds a softmax for that. Its
//! QuantizeLinear of a float beyond 2³¹ steps gives the other end of the range.

use tract_onnx::prelude::*;
use tract_onnx::tract_core;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::model::Rewriter;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::quant::{DequantizeLinearF32, QuantizeLinearI8, QuantizeLinearU8};

/// Puts them in place of tract's.
pub(super) fn keep_apart(model: &mut TypedModel) -> TractResult<()> {
    let floats = |_: &(), model: &TypedModel, node: &TypedNode, _: &str, op: &DequantizeLinearF32| {
        let op = ToFloats { scale: op.scale, zero_point: op.zero_point };
        TypedModelPatch::replace_single_op(model, node, &node.inputs, op).map(Some)
    };
    let bytes = |_: &(), model: &TypedModel, node: &TypedNode, _: &str, op: &ElementWiseOp| {
        let op = if let Some(op) = op.0.downcast_ref::<QuantizeLinearU8>() {
            ToBytes { factor: op.scale, zero_point: i32::from(op.zero_point), signed: false }
        } else if let Some(op) = op.0.downcast_ref::<QuantizeLinearI8>() {
            ToBytes { factor: op.scale, zero_point: i32::from(op.zero_point), signed: true }
        } else {
            return Ok(None);
        };
        if model.node_input_facts(node.id)?[0].datum_type != f32::datum_type() {
            return Ok(None);
        }
        TypedModelPatch::replace_single_op(model, node, &node.inputs, op).map(Some)
    };
    let rules = Rewriter::default().with_rule_for("to-floats", floats).with_rule_for("to-bytes", bytes);
    rules.rewrite(&(), model)
}

/// `scale · (q − zero_point)`
#[derive(Debug, Clone, PartialEq)]
struct ToFloats {
    scale: f32,
    zero_point: i32,
}

// One that is no number is equal to nothing, which costs at most an optimisation.
impl Eq for ToFloats {}

impl Op for ToFloats {
    fn name(&self) -> StaticName {
        "DequantizeLinear".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for ToFloats {
    tract_core::op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        DequantizeLinearF32::new(self.scale, self.zero_point).eval(ctx, inputs)
    }
}

impl TypedOp for ToFloats {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::datum_type().fact(inputs[0].shape.clone())))
    }

    tract_core::as_op!();
}

/// `clip(round(x · factor) + zero_point)`, ties to even.
#[derive(Debug, Clone, PartialEq)]
struct ToBytes {
    factor: f32,
    zero_point: i32,
    /// From −128 to 127, not from 0 to 255.
    signed: bool,
}

// As above.
impl Eq for ToBytes {}

impl ToBytes {
    fn datum_type(&self) -> DatumType {
        if self.signed { i8::datum_type() } else { u8::datum_type() }
    }

    /// Clipped as a float, which holds every whole number of that size.
    fn whole(&self, value: f32, low: f32, high: f32) -> f32 {
        ((value * self.factor).round_ties_even() + self.zero_point as f32).clamp(low, high)
    }
}

impl Op for ToBytes {
    fn name(&self) -> StaticName {
        "QuantizeLinear".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for ToBytes {
    tract_core::op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let values = input.try_as_plain_ram()?;
        let values = values.as_slice::<f32>()?.iter();
        let made = if self.signed {
            let bytes: Vec<i8> = values.map(|value| self.whole(*value, -128.0, 127.0) as i8).collect();
            Tensor::from_shape(input.shape(), &bytes)?
        } else {
            let bytes: Vec<u8> = values.map(|value| self.whole(*value, 0.0, 255.0) as u8).collect();
            Tensor::from_shape(input.shape(), &bytes)?
        };
        Ok(tvec!(made.into_tvalue()))
    }
}

impl TypedOp for ToBytes {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(self.datum_type().fact(inputs[0].shape.clone())))
    }

    tract_core::as_op!();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tract_onnx::tract_core::ops::nn::Softmax;
    use tract_onnx::tract_core::ops::quant::{quantize_linear_i8, quantize_linear_u8};

    /// What tract makes of the model once it has optimised, from `[1, 3]` floats.
    fn found(values: [f32; 3], wire: impl Fn(&mut TypedModel, OutletId) -> OutletId) -> Vec<i32> {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact([1, 3])).unwrap();
        let made = wire(&mut model, x);
        model.select_output_outlets(&[made]).unwrap();
        keep_apart(&mut model).unwrap();
        let plan = model.into_decluttered().unwrap().into_optimized().unwrap().into_runnable().unwrap();
        let made = plan.run(tvec!(Tensor::from_shape(&[1, 3], &values).unwrap().into())).unwrap();
        let whole = made[0].cast_to::<i32>().unwrap();
        whole.try_as_plain_ram().unwrap().as_slice::<i32>().unwrap().to_vec()
    }

    #[test]
    fn a_softmax_between_bytes_is_no_table_of_bytes() {
        let levels = found([0.0, 1.0, 2.0], |model, x| {
            let wire = |model: &mut TypedModel, name: &str, op: Box<dyn TypedOp>, x| {
                model.wire_node(name, op, &[x]).unwrap()[0]
            };
            let bytes = wire(model, "q", Box::new(quantize_linear_u8(4.0, 3)), x);
            let floats = wire(model, "d", Box::new(DequantizeLinearF32::new(0.25, 3)), bytes);
            let softmax = Softmax { axes: tvec![1], ..Softmax::default() };
            let shares = wire(model, "softmax", Box::new(softmax), floats);
            wire(model, "out", Box::new(quantize_linear_u8(255.0, 0)), shares)
        });
        // exp(0), exp(1) and exp(2) of their sum
        assert_eq!(levels, [23, 62, 170]);
    }

    #[test]
    fn huge_floats_are_the_last_level() {
        let huge = [1e30, -1e30, f32::INFINITY];
        let unsigned =
            |model: &mut TypedModel, x| model.wire_node("q", quantize_linear_u8(2.0, 100), &[x]).unwrap()[0];
        assert_eq!(found(huge, unsigned), [255, 0, 255]);
        let signed =
            |model: &mut TypedModel, x| model.wire_node("q", quantize_linear_i8(2.0, -100), &[x]).unwrap()[0];
        assert_eq!(found(huge, signed), [127, -128, 127]);
        // ties to even
        assert_eq!(found([0.25, 0.75, -0.25], unsigned), [100, 102, 100]);
    }
}
