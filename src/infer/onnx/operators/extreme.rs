//! ReduceMax and ReduceMin: tract begins with the lowest finite number, so that nothing but infinities gives
//! that.

use super::{Built, axis_of, known_integers, modern, rewired};
use std::hash::Hash;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::nn::{Reduce, Reducer};

#[derive(Debug, Clone)]
struct Parameters {
    highest: bool,
    keep: bool,
    /// Without axes nothing is reduced.
    nothing: bool,
}

pub(super) fn build(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let parameters = Parameters {
        highest: node.op_type == "ReduceMax",
        keep: node.get_attr_opt::<i64>("keepdims")?.unwrap_or(1) != 0,
        nothing: node.get_attr_opt::<i64>("noop_with_empty_axes")?.unwrap_or(0) != 0,
    };
    rewired(modern(ctx, node), parameters, wire)
}

fn wire(
    parameters: &Parameters,
    name: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let fact = model.outlet_fact(inputs[0])?;
    let (rank, datum_type) = (fact.rank(), fact.datum_type);
    let given =
        inputs.get(1).map_or(Ok(vec![]), |axes| known_integers(model, *axes, "which axes to reduce"))?;
    let mut axes = given.into_iter().map(|axis| axis_of(axis, rank)).collect::<TractResult<Vec<usize>>>()?;
    if axes.is_empty() && !parameters.nothing {
        axes = (0..rank).collect();
    }
    axes.sort_unstable();
    axes.dedup();
    if datum_type != f32::datum_type() {
        let reducer = if parameters.highest { Reducer::Max } else { Reducer::Min };
        let axes = axes.iter().map(|axis| *axis as i64).collect();
        return Reduce::new(Some(axes), parameters.keep, reducer).wire(name, model, &inputs[..1]);
    }
    let mut wire =
        model.wire_node(name, Extreme { axes: axes.clone(), highest: parameters.highest }, &inputs[..1])?;
    if !parameters.keep {
        for axis in axes.into_iter().rev() {
            wire = model.wire_node(format!("{name}.without{axis}"), AxisOp::Rm(axis), &wire)?;
        }
    }
    Ok(wire)
}

/// The highest or lowest of floats along some axes, which stay as 1. NaN where there is one.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct Extreme {
    axes: Vec<usize>,
    highest: bool,
}

impl Extreme {
    fn shape<D: Clone + From<usize>>(&self, input: &[D]) -> TVec<D> {
        input
            .iter()
            .enumerate()
            .map(|(axis, dim)| if self.axes.contains(&axis) { D::from(1) } else { dim.clone() })
            .collect()
    }

    fn better(&self, kept: f32, value: f32) -> f32 {
        let wins = if self.highest { value > kept } else { value < kept };
        if wins || value.is_nan() { value } else { kept }
    }
}

impl Op for Extreme {
    fn name(&self) -> StaticName {
        if self.highest { "ReduceMax".into() } else { "ReduceMin".into() }
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Extreme {
    tract_core::op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let dims = input.shape().to_vec();
        let values = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let worst = if self.highest { f32::NEG_INFINITY } else { f32::INFINITY };
        let shape = self.shape(&dims);
        let mut reduced = vec![worst; shape.iter().product()];
        // row-major strides of the output; 0 along what is reduced
        let mut strides = vec![0; dims.len()];
        let mut step = 1;
        for axis in (0..dims.len()).rev() {
            if !self.axes.contains(&axis) {
                strides[axis] = step;
                step *= dims[axis];
            }
        }
        let row = dims.last().copied().unwrap_or(1).max(1);
        let along = strides.last().copied().unwrap_or(0);
        let mut place = vec![0; dims.len().saturating_sub(1)];
        for line in values.chunks_exact(row) {
            let at: usize = place.iter().zip(&strides).map(|(index, stride)| index * stride).sum();
            if along == 0 {
                let kept = &mut reduced[at];
                *kept = line.iter().fold(*kept, |kept, value| self.better(kept, *value));
            } else {
                for (kept, value) in reduced[at..at + row].iter_mut().zip(line) {
                    *kept = self.better(*kept, *value);
                }
            }
            for axis in (0..place.len()).rev() {
                place[axis] += 1;
                if place[axis] < dims[axis] {
                    break;
                }
                place[axis] = 0;
            }
        }
        Ok(tvec!(Tensor::from_shape(&shape, &reduced)?.into_tvalue()))
    }
}

impl TypedOp for Extreme {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape: TVec<TDim> = self.shape(&inputs[0].shape.to_tvec());
        Ok(tvec!(inputs[0].datum_type.fact(&*shape)))
    }

    tract_core::as_op!();
}
