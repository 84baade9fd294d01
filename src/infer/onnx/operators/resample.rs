//! The operation behind Resize: every output position is a weighted sum of input positions, axis by axis.

use tract_onnx::tract_core;
use tract_onnx::tract_hir::internal::*;

/// For each output position along an axis: input positions and their weights.
pub(in crate::infer) type Taps = Vec<Vec<(u32, f32)>>;

/// Some axes of a tensor, each read by taps of its own.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::infer) struct Resample {
    /// The axes that change their length, each with what its new places are made of.
    pub(in crate::infer) axes: Vec<(usize, Taps)>,
}

// Weights are finite: they are equal to themselves.
impl Eq for Resample {}

impl Resample {
    fn shape(&self, input: &[usize]) -> TVec<usize> {
        let mut shape: TVec<usize> = input.into();
        for (axis, taps) in &self.axes {
            shape[*axis] = taps.len();
        }
        shape
    }
}

/// Resamples one axis of a row-major tensor.
fn along(values: &[f32], shape: &[usize], axis: usize, taps: &Taps) -> Vec<f32> {
    let inner: usize = shape[axis + 1..].iter().product();
    let block = shape[axis] * inner;
    let mut output = Vec::with_capacity(values.len() / shape[axis].max(1) * taps.len());
    for outer in values.chunks_exact(block.max(1)) {
        for taps in taps {
            let begin = output.len();
            output.resize(begin + inner, 0f32);
            for &(position, weight) in taps {
                let from = &outer[position as usize * inner..][..inner];
                for (to, value) in output[begin..].iter_mut().zip(from) {
                    *to += weight * value;
                }
            }
        }
    }
    output
}

impl Op for Resample {
    fn name(&self) -> StaticName {
        "Resize".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Resample {
    tract_core::op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let datum_type = input.datum_type();
        let mut shape: TVec<usize> = input.shape().into();
        let fits = |(axis, taps): &(usize, Taps)| {
            shape.get(*axis).is_some_and(|length| {
                taps.iter().flatten().all(|(position, _)| (*position as usize) < *length)
            })
        };
        ensure!(self.axes.iter().all(fits), "Resize of a value of shape {shape:?}");
        let floats = input.cast_to::<f32>()?;
        let mut values = floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        for (axis, taps) in &self.axes {
            values = along(&values, &shape, *axis, taps);
            shape[*axis] = taps.len();
        }
        let output = Tensor::from_shape(&shape, &values)?;
        Ok(tvec!(output.cast_to_dt(datum_type)?.into_owned().into_tvalue()))
    }
}

impl TypedOp for Resample {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = inputs[0].shape.as_concrete().context("Resize of an open shape")?;
        Ok(tvec!(inputs[0].datum_type.fact(self.shape(shape))))
    }

    tract_core::as_op!();
}
