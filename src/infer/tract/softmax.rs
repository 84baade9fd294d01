//! A softmax through which tract 0.23.9 takes nothing.
//!
//! Its own one calls every axis independent of the others (`AxesMapping::natural`), the summed ones too: a stride of a
//! pointwise convolution behind it is taken before it, and the sums lack what was left out.

use tract_onnx::prelude::*;
use tract_onnx::tract_core;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::model::Rewriter;
use tract_onnx::tract_core::ops::nn::Softmax;

/// Puts it in place of tract's.
pub(super) fn keep_whole(model: &mut TypedModel) -> TractResult<()> {
    let rule = |_: &(), model: &TypedModel, node: &TypedNode, _: &str, op: &Softmax| {
        TypedModelPatch::replace_single_op(model, node, &node.inputs, Whole(op.clone())).map(Some)
    };
    Rewriter::default().with_rule_for("whole-softmax", rule).rewrite(&(), model)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Whole(Softmax);

impl Op for Whole {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Whole {
    tract_core::op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(ctx, inputs)
    }
}

impl TypedOp for Whole {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    tract_core::as_op!();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
    use tract_onnx::tract_core::ops::nn::DataFormat;

    #[test]
    fn a_stride_behind_a_softmax_leaves_its_sums_whole() {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact([1, 1, 1, 4])).unwrap();
        let softmax = Softmax { axes: tvec![3], ..Softmax::default() };
        let shares = model.wire_node("softmax", softmax, &[x]).unwrap()[0];
        let one = |model: &mut TypedModel, name: &str, shape: &[usize], value: f32| {
            model.add_const(name, Tensor::from_shape(shape, &[value]).unwrap()).unwrap()
        };
        let (weights, bias) = (one(&mut model, "w", &[1, 1, 1, 1], 1.0), one(&mut model, "b", &[1], 0.0));
        let (kernel, stride) = (tvec!(1, 1), tvec!(1, 2));
        let pool_spec = PoolSpec::new(DataFormat::NCHW, kernel, PaddingSpec::Valid, None, Some(stride), 1, 1);
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        let made = model.wire_node("conv", conv, &[shares, weights, bias]).unwrap();
        model.select_output_outlets(&made).unwrap();
        keep_whole(&mut model).unwrap();
        let plan = model.into_decluttered().unwrap().into_optimized().unwrap().into_runnable().unwrap();
        let made = plan.run(tvec!(Tensor::from_shape(&[1, 1, 1, 4], &[0.0f32; 4]).unwrap().into())).unwrap();
        let made = made[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        // a quarter each, not half
        assert!(made.iter().all(|share| (share - 0.25).abs() < 1e-6) && made.len() == 2, "{made:?}");
    }
}
