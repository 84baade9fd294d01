//! ConvTranspose: how much of its output is cut off, for every way of saying it.

use super::{Built, fixed_shape};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cnn::{Deconv, KernelFormat, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;
use tract_onnx::tract_hir::internal::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Explicit,
    Valid,
    SameUpper,
    SameLower,
}

#[derive(Debug, Clone)]
struct ConvTranspose {
    padding: Padding,
    pads: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    output_padding: Option<Vec<usize>>,
    output_shape: Option<Vec<usize>>,
    group: usize,
    has_bias: bool,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str| node.get_attr_opt_vec::<usize>(name);
    let padding = match node.get_attr_opt("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" => Padding::Explicit,
        "VALID" => Padding::Valid,
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        other => bail!("ConvTranspose with auto_pad {other} is not supported"),
    };
    let op = ConvTranspose {
        padding,
        pads: list("pads")?,
        strides: list("strides")?,
        dilations: list("dilations")?,
        output_padding: list("output_padding")?,
        output_shape: list("output_shape")?,
        group: node.get_attr_opt::<usize>("group")?.unwrap_or(1),
        has_bias: node.input.get(2).is_some_and(|name| !name.is_empty()),
    };
    ensure!(op.group > 0, "ConvTranspose with no group");
    Ok((expand(op), vec![]))
}

/// What is added and cut along one axis.
struct Axis {
    before: usize,
    after: usize,
    /// Added behind the end.
    extra: usize,
    output: usize,
}

impl ConvTranspose {
    fn axes(&self, input: &[usize], kernel: &[usize]) -> TractResult<Vec<Axis>> {
        let rank = kernel.len();
        for list in [&self.strides, &self.dilations, &self.output_padding].into_iter().flatten() {
            ensure!(list.len() == rank, "ConvTranspose: {} numbers for {rank} axes", list.len());
        }
        ensure!(
            self.pads.as_ref().is_none_or(|pads| pads.len() == 2 * rank),
            "ConvTranspose: pads for other axes"
        );
        // onnxruntime also takes the whole shape, batch and channels included
        let wanted = self
            .output_shape
            .as_ref()
            .map(|shape| shape.get(shape.len().saturating_sub(rank)..).unwrap_or_default());
        ensure!(wanted.is_none_or(|shape| shape.len() == rank), "ConvTranspose: output_shape for other axes");
        ensure!(input.len() == rank, "ConvTranspose: {} axes of a kernel of {rank}", input.len());
        (0..rank)
            .map(|axis| {
                let one = |list: &Option<Vec<usize>>, absent: usize| {
                    list.as_ref().map_or(absent, |list| list[axis])
                };
                let (stride, dilation, extra) =
                    (one(&self.strides, 1), one(&self.dilations, 1), one(&self.output_padding, 0));
                ensure!(input[axis] > 0 && kernel[axis] > 0, "ConvTranspose of nothing");
                let terms = stride.checked_mul(input[axis] - 1).zip(dilation.checked_mul(kernel[axis] - 1));
                let whole = terms.and_then(|(a, b)| a.checked_add(b)?.checked_add(1)?.checked_add(extra));
                let whole = whole.context("ConvTranspose: an output that is too large")?;
                let same = matches!(self.padding, Padding::SameUpper | Padding::SameLower);
                let output = match (wanted, same) {
                    (Some(shape), _) => Some(shape[axis]),
                    // no more than there is
                    (None, true) => input[axis].checked_mul(stride).map(|output| output.min(whole)),
                    (None, false) => None,
                };
                if let Some(output) = output {
                    let total = whole.saturating_sub(output);
                    let half = total / 2;
                    let before = if self.padding == Padding::SameUpper { half } else { total - half };
                    // where more is wanted than there is, the rest is added at the end
                    return Ok(Axis {
                        before,
                        after: total - before,
                        extra: extra + (output + total - whole),
                        output,
                    });
                }
                let pads = self.pads.as_ref().filter(|_| self.padding == Padding::Explicit);
                let (before, after) = pads.map_or((0, 0), |pads| (pads[axis], pads[axis + rank]));
                let output = whole.checked_sub(before + after).filter(|output| *output > 0);
                Ok(Axis {
                    before,
                    after,
                    extra,
                    output: output.context("ConvTranspose: nothing is left of the output")?,
                })
            })
            .collect()
    }
}

impl Expansion for ConvTranspose {
    fn name(&self) -> StaticName {
        "ConvTranspose".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2 + usize::from(self.has_bias))?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].datum_type, &inputs[1].datum_type)?;
        s.equals(&inputs[0].rank, &inputs[1].rank)?;
        s.equals(&inputs[0].rank, &outputs[0].rank)?;
        s.equals(&inputs[0].shape[0], &outputs[0].shape[0])?;
        s.given_2(&inputs[0].shape, &inputs[1].shape, move |s, x, w| {
            let fixed = |shape: TVec<TDim>| {
                shape.iter().map(|dim| dim.to_usize().ok()).collect::<Option<Vec<usize>>>()
            };
            let (Some(x), Some(w)) = (fixed(x), fixed(w)) else { return Ok(()) };
            ensure!(
                x.len() > 2 && w.len() == x.len() && x[1] == w[0],
                "ConvTranspose: weights {w:?} for an input {x:?}"
            );
            ensure!(w[0] % self.group == 0, "ConvTranspose: {} channels in {} groups", w[0], self.group);
            let mut shape: TVec<TDim> = tvec!(x[0].to_dim(), (w[1] * self.group).to_dim());
            shape.extend(self.axes(&x[2..], &w[2..])?.iter().map(|axis| axis.output.to_dim()));
            s.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let input = fixed_shape(model, inputs[0])?;
        let weights = fixed_shape(model, inputs[1])?;
        let axes = self.axes(input.get(2..).unwrap_or_default(), weights.get(2..).unwrap_or_default())?;
        // [I, O/G, …] becomes [O/G · G …] as tract has its kernels: groups apart, then outputs before inputs
        let apart = AxisOp::wire_split_axis(model, format!("{prefix}.groups"), inputs[1], 0, self.group)?;
        let moved = model.wire_node(format!("{prefix}.outputs"), AxisOp::Move(1, 2), &apart)?;
        let kernel = AxisOp::wire_collapse_axis(model, format!("{prefix}.kernel"), moved[0], 0)?;
        let bias = if self.has_bias {
            inputs[2]
        } else {
            let zero = Tensor::zero_scalar_dt(model.outlet_fact(inputs[0])?.datum_type)?;
            model.add_const(format!("{prefix}.bias"), zero)?
        };
        let padding = PaddingSpec::Explicit(
            axes.iter().map(|a| a.before).collect(),
            axes.iter().map(|a| a.after).collect(),
        );
        let (inner, outer) = (weights[0], weights[1] * self.group);
        let list = |list: &Option<Vec<usize>>| list.as_ref().map(|list| TVec::from_slice(list));
        let (dilations, strides) = (list(&self.dilations), list(&self.strides));
        let spec =
            PoolSpec::new(DataFormat::NCHW, weights[2..].into(), padding, dilations, strides, inner, outer);
        let extra = axes.iter().map(|axis| axis.extra).collect();
        model.wire_node(
            prefix,
            Deconv::new(spec, KernelFormat::OIHW, extra, self.group),
            &[inputs[0], kernel[0], bias],
        )
    }
}
