//! GatherND, whose negative indices tract takes for huge ones, and OneHot, whose indices outside the range
//! select nothing: tract panics on both.

use super::{Built, axis_of, known, known_integers, original, rewired};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core;
use tract_onnx::tract_core::ops::{array, cast};
use tract_onnx::tract_hir::internal::*;

pub(super) fn gather_nd(_: &ParsingContext, node: &NodeProto) -> Built {
    let batch_dims = node.get_attr_opt::<i64>("batch_dims")?.unwrap_or(0);
    let batch_dims = usize::try_from(batch_dims).context("GatherND with negative batch_dims")?;
    Ok((expand(GatherNd { rules: array::GatherNd { batch_dims } }), vec![]))
}

#[derive(Debug, Clone)]
struct GatherNd {
    /// tract knows which shape comes out.
    rules: array::GatherNd,
}

impl Expansion for GatherNd {
    fn name(&self) -> StaticName {
        "GatherND".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        s.given(&inputs[1].rank, |_, rank| {
            ensure!(rank > 0, "GatherND with indices that have no dimensions");
            Ok(())
        })?;
        self.rules.rules(s, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let whole =
            model.wire_node(format!("{prefix}.whole"), cast::cast(i64::datum_type()), &inputs[1..2])?;
        let op = Selected { batch_dims: self.rules.batch_dims };
        model.wire_node(prefix, op, &[inputs[0], whole[0]])
    }
}

/// Slices of the first operand by the indices in the second, each counted from the end where it is negative.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct Selected {
    batch_dims: usize,
}

impl Op for Selected {
    fn name(&self) -> StaticName {
        "GatherND".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Selected {
    tract_core::op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (data, indices) = args_2!(inputs);
        let mut indices = indices.into_tensor();
        let (dims, depth) = (data.shape(), indices.shape().last().copied().unwrap_or(0));
        let (Some(batch), Some(rest)) = (dims.get(..self.batch_dims), dims.get(self.batch_dims..)) else {
            bail!("GatherND with batch_dims {} of a value of shape {dims:?}", self.batch_dims);
        };
        let fits = indices.rank() > batch.len() && indices.shape().starts_with(batch);
        ensure!(
            fits && depth <= rest.len(),
            "GatherND of shape {dims:?} by indices of shape {:?}",
            indices.shape()
        );
        let mut plain = indices.try_as_plain_ram_mut()?;
        let numbers = plain.as_slice_mut::<i64>()?;
        for place in numbers.chunks_exact_mut(depth.max(1)) {
            for (index, length) in place.iter_mut().zip(rest) {
                let length = *length as i64;
                ensure!((-length..length).contains(index), "GatherND by index {index} of {length}");
                *index = index.rem_euclid(length);
            }
        }
        array::GatherNd { batch_dims: self.batch_dims }.eval(ctx, tvec!(data, indices.into_tvalue()))
    }
}

impl TypedOp for Selected {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        array::GatherNd { batch_dims: self.batch_dims }.output_facts(inputs)
    }

    tract_core::as_op!();
}

pub(super) fn one_hot(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let axis = node.get_attr_opt::<i64>("axis")?.unwrap_or(-1);
    rewired(original(ctx, node), axis, |&axis, name, model, inputs| {
        let rank = model.outlet_fact(inputs[0])?.rank();
        let [depth] = known_integers(model, inputs[1], "the depth of OneHot")?[..] else {
            bail!("OneHot with other than one depth")
        };
        let depth = usize::try_from(depth).context("OneHot with a negative depth")?;
        let values = known(model, inputs[2], "what OneHot gives")?;
        ensure!(values.len() == 2, "OneHot with other than two values");
        let (off, on) = (values.nth(0)?.into_arc_tensor(), values.nth(1)?.into_arc_tensor());
        let whole = model.wire_node(format!("{name}.whole"), cast::cast(i64::datum_type()), &inputs[..1])?;
        model.wire_node(name, Marked { axis: axis_of(axis, rank + 1)?, depth, off, on }, &whole)
    })
}

/// `on` at each index along a new axis of `depth`, `off` elsewhere; negative indices count from the end, and
/// others that do not exist select nothing.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct Marked {
    axis: usize,
    depth: usize,
    off: Arc<Tensor>,
    on: Arc<Tensor>,
}

impl Op for Marked {
    fn name(&self) -> StaticName {
        "OneHot".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Marked {
    tract_core::op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut indices = args_1!(inputs).into_tensor();
        let depth = self.depth as i64;
        for index in indices.try_as_plain_ram_mut()?.as_slice_mut::<i64>()? {
            // one place more, for what selects nothing
            *index = if (-depth..depth).contains(index) { index.rem_euclid(depth) } else { depth };
        }
        let (off, on) = (self.off.clone(), self.on.clone());
        let longer = array::OneHot { axis: self.axis, dim: self.depth + 1, off, on };
        let marked = args_1!(longer.eval(ctx, tvec!(indices.into_tvalue()))?);
        Ok(tvec!(marked.slice(self.axis, 0, self.depth)?.into_tvalue()))
    }
}

impl TypedOp for Marked {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        ensure!(self.axis <= shape.len(), "OneHot along axis {} of {shape:?}", self.axis);
        shape.insert(self.axis, self.depth.to_dim());
        Ok(tvec!(self.off.datum_type().fact(&*shape)))
    }

    tract_core::as_op!();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn floats(op: &dyn TypedOp, operands: TVec<TValue>) -> TractResult<(TVec<usize>, Vec<f32>)> {
        let made = op.eval_out_of_plan(operands)?.context("an operation that needs its plan")?.remove(0);
        Ok((made.shape().into(), made.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
    }

    #[test]
    fn slices_are_found_from_either_end() {
        let data = || Tensor::from_shape(&[2, 3, 2], &[0f32, 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.]);
        let found = |batch_dims: usize, shape: &[usize], indices: &[i64]| {
            let indices = Tensor::from_shape(shape, indices).unwrap();
            let operands = tvec!(data().unwrap().into_tvalue(), indices.into_tvalue());
            floats(&Selected { batch_dims }, operands)
        };
        assert_eq!(found(0, &[2, 2], &[-1, 0, 0, -2]).unwrap(), (tvec![2, 2], vec![6., 7., 2., 3.]));
        assert_eq!(found(0, &[1, 3], &[-2, -3, -1]).unwrap(), (tvec![1], vec![1.]));
        assert_eq!(found(1, &[2, 1], &[-1, 1]).unwrap(), (tvec![2, 2], vec![4., 5., 8., 9.]));
        for (batch_dims, shape, indices) in [
            (0, &[1, 2][..], &[0, 3][..]),
            (0, &[1, 1], &[-3]),
            (0, &[1, 4], &[0, 0, 0, 0]),
            (1, &[1, 1], &[0]),
            (2, &[2], &[0, 0]),
            (4, &[1, 1], &[0]),
        ] {
            let error = found(batch_dims, shape, indices).unwrap_err();
            assert!(error.to_string().contains("GatherND"), "{error}");
        }
    }

    #[test]
    fn what_is_outside_selects_nothing() {
        let (off, on) = (tensor0(0.5f32).into_arc_tensor(), tensor0(2f32).into_arc_tensor());
        let indices = || Tensor::from_shape(&[4], &[0i64, -1, 3, -4]).unwrap().into_tvalue();
        let marked = |axis| {
            let op = Marked { axis, depth: 3, off: off.clone(), on: on.clone() };
            floats(&op, tvec!(indices())).unwrap()
        };
        let (none, rows) = ([0.5; 3], [[2., 0.5, 0.5], [0.5, 0.5, 2.]]);
        assert_eq!(marked(1), (tvec![4, 3], [rows[0], rows[1], none, none].concat()));
        let columns = [[2., 0.5, 0.5, 0.5], [0.5; 4], [0.5, 2., 0.5, 0.5]];
        assert_eq!(marked(0), (tvec![3, 4], columns.concat()));
    }
}
