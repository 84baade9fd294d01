//! Operators of a few nodes.

use super::{Built, axis_of, constant, original, rewired};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::MultiBroadcastTo;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::logic::{Iff, comp_lt};
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
    rewired(original(ctx, node), truncated, |&truncated, name, model, inputs| {
        let types = [model.outlet_fact(inputs[0])?.datum_type, model.outlet_fact(inputs[1])?.datum_type];
        let common = types[0].common_super_type(types[1]).context("Mod of values of different types")?;
        // products of 32-bit numbers do not overflow there
        let work =
            if common.is_integer() || common == TDim::datum_type() { i64::datum_type() } else { common };
        let wires = wire_rank_broadcast(name, model, inputs)?;
        let mut wires = wire_cast(name, model, &wires, work)?;
        let shapes = [&*model.outlet_fact(wires[0])?.shape, &*model.outlet_fact(wires[1])?.shape];
        let shape = tract_onnx::tract_core::broadcast::multi_broadcast(&shapes)?;
        if *shape != *shapes[0] {
            let broadcast = MultiBroadcastTo { shape: shape.into() };
            wires[0] = model.wire_node(format!("{name}.broadcast"), broadcast, &wires[..1])?[0];
        }
        let zero = constant(model, format!("{name}.zero"), 0.0, wires[0])?;
        let rest = model.wire_node(format!("{name}.rem"), math::rem(), &wires)?;
        if truncated {
            return model.wire_node(name, cast::cast(common), &rest);
        }
        // where the signs of remainder and divisor differ
        let signs = model.wire_node(format!("{name}.signs"), math::mul(), &[rest[0], wires[1]])?;
        let differ =
            model.wire_node(format!("{name}.differ"), TypedBinOp(comp_lt(), None), &[signs[0], zero])?;
        let turned = model.wire_node(format!("{name}.turned"), math::add(), &[rest[0], wires[1]])?;
        let result = model.wire_node(format!("{name}.iff"), Iff, &[differ[0], turned[0], rest[0]])?;
        model.wire_node(name, cast::cast(common), &result)
    })
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
