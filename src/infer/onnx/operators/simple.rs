//! Operators of a few nodes.

use super::{Built, axis_of, constant, original, rewired};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core;
use tract_onnx::tract_core::ops::array::MultiBroadcastTo;
use tract_onnx::tract_core::ops::{cast, math};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::activations::Elu;
use tract_onnx::tract_hir::ops::binary::{wire_cast, wire_rank_broadcast};
use tract_onnx::tract_hir::ops::nn::{Reduce, Reducer};

/// `α · elu(x ÷ α)`; tract forgets the factor.
pub(super) fn celu(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let alpha = node.get_attr_opt::<f32>("alpha")?.unwrap_or(1.0);
    rewired(original(ctx, node), alpha, |&alpha, name, model, inputs| {
        let factor = constant(model, format!("{name}.alpha"), alpha, inputs[0])?;
        let scaled = model.wire_node(format!("{name}.scaled"), math::div(), &[inputs[0], factor])?;
        let bent = Elu(1.0).wire(&format!("{name}.elu"), model, &scaled)?;
        model.wire_node(name, math::mul(), &[bent[0], factor])
    })
}

/// `max(x, 0) + ln(1 + exp(−|x|))`, which does not overflow.
pub(super) fn softplus(ctx: &ParsingContext, node: &NodeProto) -> Built {
    rewired(original(ctx, node), (), |(), name, model, inputs| {
        let zero = constant(model, format!("{name}.zero"), 0.0, inputs[0])?;
        let one = constant(model, format!("{name}.one"), 1.0, inputs[0])?;
        let size = model.wire_node(format!("{name}.abs"), math::abs(), inputs)?;
        let negative = model.wire_node(format!("{name}.neg"), math::neg(), &size)?;
        let power = model.wire_node(format!("{name}.exp"), math::exp(), &negative)?;
        let sum = model.wire_node(format!("{name}.plus"), math::add(), &[power[0], one])?;
        let log = model.wire_node(format!("{name}.ln"), math::ln(), &sum)?;
        let positive = model.wire_node(format!("{name}.max"), math::max(), &[inputs[0], zero])?;
        model.wire_node(name, math::add(), &[positive[0], log[0]])
    })
}

/// `x − max − ln Σ exp(x − max)`; tract takes the logarithm of what its softmax has rounded to nothing.
pub(super) fn log_softmax(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let axis = node.get_attr_opt::<i64>("axis")?;
    // before operator set 13 everything from the axis on is one dimension
    let to_the_end = ctx.onnx_operator_set_version < 13;
    let parameters = (axis.unwrap_or(if to_the_end { 1 } else { -1 }), to_the_end);
    rewired(original(ctx, node), parameters, |&(axis, to_the_end), name, model, inputs| {
        let rank = model.outlet_fact(inputs[0])?.rank();
        let first = axis_of(axis, rank)?;
        let axes: Vec<i64> =
            if to_the_end { (first as i64..rank as i64).collect() } else { vec![first as i64] };
        let reduce = |what: Reducer| Reduce::new(Some(axes.clone()), true, what);
        let highest = reduce(Reducer::Max).wire(&format!("{name}.max"), model, inputs)?;
        let shifted = model.wire_node(format!("{name}.shifted"), math::sub(), &[inputs[0], highest[0]])?;
        let power = model.wire_node(format!("{name}.exp"), math::exp(), &shifted)?;
        let sum = reduce(Reducer::Sum).wire(&format!("{name}.sum"), model, &power)?;
        let log = model.wire_node(format!("{name}.ln"), math::ln(), &sum)?;
        model.wire_node(name, math::sub(), &[shifted[0], log[0]])
    })
}

/// `(Σ |x|^p)^(1/p)` over everything behind the channels; tract divides by something.
pub(super) fn global_lp_pool(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let p = node.get_attr_opt::<i64>("p")?.unwrap_or(2);
    rewired(original(ctx, node), p, |&p, name, model, inputs| {
        ensure!(p > 0, "GlobalLpPool with p {p}");
        let rank = model.outlet_fact(inputs[0])?.rank();
        let exponent = constant(model, format!("{name}.p"), p as f32, inputs[0])?;
        let root = constant(model, format!("{name}.root"), 1.0 / p as f32, inputs[0])?;
        let size = model.wire_node(format!("{name}.abs"), math::abs(), inputs)?;
        let power = model.wire_node(format!("{name}.pow"), math::pow(), &[size[0], exponent])?;
        let sum = Reduce::new(Some((2..rank as i64).collect()), true, Reducer::Sum).wire(
            &format!("{name}.sum"),
            model,
            &power,
        )?;
        model.wire_node(name, math::pow(), &[sum[0], root])
    })
}

/// The remainder with the divisor's sign, or with `fmod` the dividend's. tract takes the sides for each other
/// where the left one is the shorter, and has no signs for numbers that it holds for shapes.
pub(super) fn modulo(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let truncated = node.get_attr_opt::<i64>("fmod")? == Some(1);
    rewired(original(ctx, node), truncated, wire_modulo)
}

fn wire_modulo(
    truncated: &bool,
    name: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let types = [model.outlet_fact(inputs[0])?.datum_type, model.outlet_fact(inputs[1])?.datum_type];
    let common = types[0].common_super_type(types[1]).context("Mod of values of different types")?;
    let work = if common.is_float() { f32::datum_type() } else { i64::datum_type() };
    let wires = wire_rank_broadcast(name, model, inputs)?;
    let mut wires = wire_cast(name, model, &wires, work)?;
    let shapes = [&*model.outlet_fact(wires[0])?.shape, &*model.outlet_fact(wires[1])?.shape];
    let shape: ShapeFact = tract_core::broadcast::multi_broadcast(&shapes)?.into();
    for (side, wire) in wires.iter_mut().enumerate() {
        if model.outlet_fact(*wire)?.shape != shape {
            let broadcast = MultiBroadcastTo { shape: shape.clone() };
            *wire = model.wire_node(format!("{name}.broadcast{side}"), broadcast, &[*wire])?[0];
        }
    }
    let rest = model.wire_node(format!("{name}.rest"), Remainder { truncated: *truncated }, &wires)?;
    model.wire_node(name, cast::cast(common), &rest)
}

/// What is left of a division, of values of one shape.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct Remainder {
    /// With the dividend's sign.
    truncated: bool,
}

impl Op for Remainder {
    fn name(&self) -> StaticName {
        "Mod".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Remainder {
    tract_core::op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (left, right) = args_2!(inputs);
        ensure!(left.shape() == right.shape(), "Mod of shapes {:?} and {:?}", left.shape(), right.shape());
        let mut made = left.into_tensor();
        let mut plain = made.try_as_plain_ram_mut()?;
        if right.datum_type() == f32::datum_type() {
            let divisors = right.try_as_plain_ram()?.as_slice::<f32>()?;
            for (value, divisor) in plain.as_slice_mut::<f32>()?.iter_mut().zip(divisors) {
                let rest = *value % divisor;
                let turned = !self.truncated && rest != 0.0 && (rest < 0.0) != (*divisor < 0.0);
                *value = if turned { rest + divisor } else { rest };
            }
        } else {
            let divisors = right.try_as_plain_ram()?.as_slice::<i64>()?;
            for (value, divisor) in plain.as_slice_mut::<i64>()?.iter_mut().zip(divisors) {
                ensure!(*divisor != 0, "Mod by 0");
                let rest = value.wrapping_rem(*divisor);
                let turned = !self.truncated && rest != 0 && (rest < 0) != (*divisor < 0);
                *value = if turned { rest + divisor } else { rest };
            }
        }
        Ok(tvec!(made.into_tvalue()))
    }
}

impl TypedOp for Remainder {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].datum_type.fact(inputs[0].shape.clone())))
    }

    tract_core::as_op!();
}

/// A cast to 64-bit integers gives those. tract makes of every one a value of the type in which it counts
/// shapes, which is no number to calculate with: it has no sign for a remainder, and other operators refuse
/// it.
pub(super) fn cast(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let (op, closures) = original(ctx, node)?;
    if node.get_attr::<DatumType>("to")? != i64::datum_type() {
        return Ok((op, closures));
    }
    Ok((expand(ToIntegers), closures))
}

#[derive(Debug, Clone)]
struct ToIntegers;

impl ToIntegers {
    /// Shapes stay what they are.
    fn output_type(input: DatumType) -> DatumType {
        if input == TDim::datum_type() { input } else { i64::datum_type() }
    }
}

impl Expansion for ToIntegers {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.given(&inputs[0].datum_type, |s, input| {
            s.equals(&outputs[0].datum_type, Self::output_type(input))
        })?;
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let to = Self::output_type(model.outlet_fact(inputs[0])?.datum_type);
        model.wire_node(prefix, cast::cast(to), inputs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What tract makes of it once it has optimised.
    fn remainders<T: Datum + Copy>(
        left: (&[usize], &[T]),
        right: (&[usize], &[T]),
        truncated: bool,
    ) -> Vec<T> {
        let mut model = TypedModel::default();
        let x = model.add_source("x", T::fact(left.0)).unwrap();
        let y = model.add_const("y", Tensor::from_shape(right.0, right.1).unwrap()).unwrap();
        let made = wire_modulo(&truncated, "mod", &mut model, &[x, y]).unwrap();
        model.select_output_outlets(&made).unwrap();
        let plan = model.into_decluttered().unwrap().into_optimized().unwrap().into_runnable().unwrap();
        let made = plan.run(tvec!(Tensor::from_shape(left.0, left.1).unwrap().into())).unwrap();
        made[0].try_as_plain_ram().unwrap().as_slice::<T>().unwrap().to_vec()
    }

    #[test]
    fn remainders_have_the_sign_that_is_asked_for_whichever_side_is_broadcast() {
        let (short, long) =
            ((&[1, 2][..], &[5.5f32, -5.5][..]), (&[2, 2][..], &[3.0f32, 3.0, -3.0, -2.0][..]));
        assert_eq!(remainders(short, long, true), [2.5, -2.5, 2.5, -1.5]);
        assert_eq!(remainders(short, long, false), [2.5, 0.5, -0.5, -1.5]);
        assert_eq!(remainders(long, short, true), [3.0, 3.0, -3.0, -2.0]);
        let (short, long) = ((&[1][..], &[7i32][..]), (&[2, 2][..], &[3i32, -3, 7, 8][..]));
        assert_eq!(remainders(short, long, true), [1, 1, 0, 7]);
        assert_eq!(remainders(short, long, false), [1, -2, 0, 7]);
        assert_eq!(remainders(long, short, false), [3, 4, 0, 1]);
    }
}
