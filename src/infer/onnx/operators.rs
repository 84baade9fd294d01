//! Operators that tract 0.23.9 builds wrongly, built by us: right by ONNX's text and by onnxruntime, which
//! `tests/onnx` compares.
//!
//! tract's own builder still says which shapes and types come out where it is right about them ([`Rewired`]).

mod deconvolution;
mod dynamic;
mod extreme;
mod pad;
mod pool;
mod resample;
mod resize;
mod select;
mod simple;

pub(super) use dynamic::DYNAMIC_QUANTIZED;
pub(in crate::infer) use dynamic::{DynamicLevels, DynamicQuantized};
pub(in crate::infer) use resample::{Resample, Taps};

use std::fmt::Debug;
use std::sync::OnceLock;
use tract_onnx::Onnx;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// What a builder gives: the operation, and names of values that it takes from the graph around it.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// What makes an operation of a node.
type Builder = fn(&ParsingContext, &NodeProto) -> Built;

/// An importer with our builders in place of tract's wrong ones.
pub(super) fn importer() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    let ours: [(&'static str, Builder); 30] = [
        ("AveragePool", pool::average),
        ("Cast", simple::cast),
        ("Celu", simple::celu),
        ("Clip", modern),
        ("ConvTranspose", deconvolution::build),
        ("GatherND", select::gather_nd),
        ("GlobalLpPool", simple::global_lp_pool),
        ("LogSoftmax", simple::log_softmax),
        ("MaxPool", pool::max),
        ("Pad", pad::build),
        ("Mod", simple::modulo),
        ("OneHot", select::one_hot),
        ("ReduceL1", modern),
        ("ReduceL2", modern),
        ("ReduceLogSum", modern),
        ("ReduceLogSumExp", modern),
        ("ReduceMax", extreme::build),
        ("ReduceMean", modern),
        ("ReduceMin", extreme::build),
        ("ReduceProd", modern),
        ("ReduceSum", modern),
        ("ReduceSumSquare", modern),
        ("Resize", resize::build),
        ("Slice", modern),
        ("Softplus", simple::softplus),
        ("Split", modern),
        ("Squeeze", modern),
        ("TopK", modern),
        ("Unsqueeze", modern),
        (DYNAMIC_QUANTIZED, dynamic::build),
    ];
    for (name, builder) in ours {
        onnx.op_register.insert(name, builder);
    }
    onnx
}

/// Operator set that `modern.rs` brings the operators to which took attributes before and take inputs now.
const MODERN: i64 = 18;

/// The node as tract's own builder makes it.
fn original(ctx: &ParsingContext, node: &NodeProto) -> Built {
    static REGISTER: OnceLock<OnnxOpRegister> = OnceLock::new();
    let register = REGISTER.get_or_init(|| tract_onnx::onnx().op_register);
    let builder = register
        .0
        .get(&node.op_type)
        .with_context(|| format!("operator {} is not supported", node.op_type))?;
    builder(ctx, node)
}

/// tract's own builder, for a node in its newest form.
fn modern(ctx: &ParsingContext, node: &NodeProto) -> Built {
    original(
        &ParsingContext {
            onnx_operator_set_version: ctx.onnx_operator_set_version.max(MODERN),
            ..ctx.clone()
        },
        node,
    )
}

/// How an operation becomes nodes of a typed model.
type Wire<P> = fn(&P, &str, &mut TypedModel, &[OutletId]) -> TractResult<TVec<OutletId>>;

/// Shapes and types as tract has them, nodes as we have them.
#[derive(Debug, Clone)]
struct Rewired<P: Clone + Debug> {
    rules: Box<dyn Expansion>,
    parameters: P,
    wire: Wire<P>,
}

/// Keeps what tract's builder says about shapes and types, and replaces the rest.
fn rewired<P: Clone + Debug + Send + Sync + 'static>(built: Built, parameters: P, wire: Wire<P>) -> Built {
    let (op, closures) = built?;
    let rules = op
        .as_op()
        .downcast_ref::<Box<dyn Expansion>>()
        .context("tract builds this operator in another way")?
        .clone();
    Ok((expand(Rewired { rules, parameters, wire }), closures))
}

impl<P: Clone + Debug + Send + Sync + 'static> Expansion for Rewired<P> {
    fn name(&self) -> StaticName {
        self.rules.as_ref().name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.rules.as_ref().nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.rules.as_ref().rules(s, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        (self.wire)(&self.parameters, prefix, model, inputs)
    }
}

/// The value of an input that is known while the graph is compiled.
fn known(model: &TypedModel, outlet: OutletId, what: &str) -> TractResult<Arc<Tensor>> {
    model.outlet_fact(outlet)?.konst.clone().with_context(|| format!("{what} is not constant"))
}

/// The same as whole numbers.
fn known_integers(model: &TypedModel, outlet: OutletId, what: &str) -> TractResult<Vec<i64>> {
    let tensor = known(model, outlet, what)?;
    let integers = tensor.cast_to::<i64>()?;
    Ok(integers.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// The dimensions of a value, all of which must be fixed.
fn fixed_shape(model: &TypedModel, outlet: OutletId) -> TractResult<TVec<usize>> {
    model.outlet_fact(outlet)?.shape.as_concrete().map(TVec::from_slice).context("a shape that is not fixed")
}

/// A constant of the type of `like`, of as many dimensions.
fn constant(model: &mut TypedModel, name: String, value: f32, like: OutletId) -> TractResult<OutletId> {
    let fact = model.outlet_fact(like)?;
    let tensor = tensor0(value).cast_to_dt(fact.datum_type)?.into_owned().broadcast_into_rank(fact.rank())?;
    model.add_const(name, tensor)
}

/// An axis counted from the end where it is negative.
fn axis_of(axis: i64, rank: usize) -> TractResult<usize> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    ensure!((0..rank as i64).contains(&counted), "axis {axis} of a value of {rank} dimensions");
    Ok(counted as usize)
}
