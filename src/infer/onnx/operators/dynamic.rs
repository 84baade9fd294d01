//! Floats through 8 bits whose scale is found in the floats themselves: what DynamicQuantizeLinear and the
//! scales behind an integer product do to the product's operand.

use super::Built;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core;
use tract_onnx::tract_hir::internal::*;

/// Name of the operator, which no file can hold: `refuse.rs` does not list it.
pub(in crate::infer::onnx) const DYNAMIC_QUANTIZED: &str = "weir.DynamicQuantized";

/// `scale · (q − zero)` of the scale, the 8-bit numbers and the zero point that ONNX's DynamicQuantizeLinear
/// gives for floats of any shape.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
pub(in crate::infer) struct DynamicQuantized;

/// How floats become numbers of 8 bits, and back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::infer) struct DynamicLevels {
    /// One step, positive.
    pub(in crate::infer) scale: f32,
    /// What stands for zero: a whole number from 0 to 255.
    pub(in crate::infer) zero: f32,
}

impl DynamicLevels {
    /// For floats within these bounds, which are widened to hold zero. As onnxruntime has it, a step is 1
    /// where all are zero.
    pub(in crate::infer) fn of(lowest: f32, highest: f32) -> DynamicLevels {
        const HIGHEST_LEVEL: f32 = 255.0;
        let (low, high) = (lowest.min(0.0), highest.max(0.0));
        let scale = if low == high { 1.0 } else { (high - low) / HIGHEST_LEVEL };
        let zero = (0.0 - low / scale).clamp(0.0, HIGHEST_LEVEL).round_ties_even();
        DynamicLevels { scale, zero }
    }

    /// What a float is behind its 8 bits.
    pub(in crate::infer) fn quantized(self, value: f32) -> f32 {
        let whole = (value / self.scale).round_ties_even().clamp(-self.zero, 255.0 - self.zero);
        whole * self.scale
    }
}

pub(super) fn build(_: &ParsingContext, _: &NodeProto) -> Built {
    Ok((expand(DynamicQuantized), vec![]))
}

impl Expansion for DynamicQuantized {
    fn name(&self) -> StaticName {
        "DynamicQuantized".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, DynamicQuantized, inputs)
    }
}

impl Op for DynamicQuantized {
    fn name(&self) -> StaticName {
        "DynamicQuantized".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for DynamicQuantized {
    tract_core::op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut made = args_1!(inputs).into_tensor();
        let mut plain = made.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<f32>()?;
        let (lowest, highest) =
            values.iter().fold((0f32, 0f32), |(low, high), value| (low.min(*value), high.max(*value)));
        let levels = DynamicLevels::of(lowest, highest);
        values.iter_mut().for_each(|value| *value = levels.quantized(*value));
        Ok(tvec!(made.into_tvalue()))
    }
}

impl TypedOp for DynamicQuantized {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::datum_type().fact(inputs[0].shape.clone())))
    }

    tract_core::as_op!();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn through(values: &[f32]) -> Vec<f32> {
        let operand = Tensor::from_shape(&[values.len()], values).unwrap().into_tvalue();
        let made = DynamicQuantized.eval_out_of_plan(tvec!(operand)).unwrap().unwrap().remove(0);
        made.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    /// The examples of ONNX's text.
    #[test]
    fn floats_become_whole_numbers_of_a_step_of_their_own() {
        let cases: [(&[f32], f32, f32, &[f32]); 3] = [
            (&[0., 2., -3., -2.5, 1.34, 0.5], 5.0 / 255.0, 153.0, &[153., 255., 0., 26., 221., 179.]),
            (&[-1., -2.1, -1.3, -2.5, -3.34, -4.], 4.0 / 255.0, 255.0, &[191., 121., 172., 96., 42., 0.]),
            (&[1., 2.1, 1.3, 2.5, 3.34, 4.], 4.0 / 255.0, 0.0, &[64., 134., 83., 159., 213., 255.]),
        ];
        for (values, scale, zero, levels) in cases {
            let right: Vec<f32> = levels.iter().map(|level| (level - zero) * scale).collect();
            assert_eq!(through(values), right);
        }
        // ties go to even numbers, the zero point's too: 126.5 becomes 126
        assert_eq!(through(&[-127.0, 128.0, 0.5, 1.5]), [-127.0, 128.0, 0.0, 2.0]);
        assert_eq!(DynamicLevels::of(-253.0, 257.0), DynamicLevels { scale: 2.0, zero: 126.0 });
    }

    #[test]
    fn nothing_is_not_divided_by_nothing() {
        assert_eq!(through(&[0.0, -0.0]), [0.0, 0.0]);
        assert_eq!(through(&[]), [0f32; 0]);
        // tiny ones, and those that are no numbers, do not end the run
        assert!(through(&[f32::MIN_POSITIVE / 8.0, -1e-45]).iter().all(|value| value.abs() < 1e-37));
        assert_eq!(through(&[f32::NAN, 1.0])[1], 1.0);
        assert_eq!(through(&[f32::INFINITY, 1.0]).len(), 2);
        assert_eq!(through(&[f32::NAN]).len(), 1);
    }
}
