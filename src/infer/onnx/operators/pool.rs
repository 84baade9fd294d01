//! MaxPool and AveragePool: where windows lie, for every way of saying it, as onnxruntime has it.

use super::{Built, fixed_shape, original};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cnn::{MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::math;
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
struct Pool {
    is_max: bool,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    padding: Padding,
    pads: Vec<usize>,
    ceil: bool,
    /// Padding counts as zeros of the mean.
    count_padding: bool,
}

pub(super) fn max(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let pool = read(node, true)?;
    if node.output.get(1).is_none_or(|name| name.is_empty()) {
        return Ok((expand(pool), vec![]));
    }
    // with the places of the maxima: as tract has it, where it is right
    let plain = pool.dilations.iter().all(|d| *d == 1) && !pool.ceil && pool.padding == Padding::Explicit;
    ensure!(plain, "MaxPool with indices and dilations, ceil_mode or auto_pad is not supported");
    original(ctx, node)
}

pub(super) fn average(_: &ParsingContext, node: &NodeProto) -> Built {
    Ok((expand(read(node, false)?), vec![]))
}

fn read(node: &NodeProto, is_max: bool) -> TractResult<Pool> {
    let kernel = node.get_attr_vec::<usize>("kernel_shape")?;
    let rank = kernel.len();
    let list = |name: &str, count: usize, absent: usize| -> TractResult<Vec<usize>> {
        let list = node.get_attr_opt_vec::<usize>(name)?.unwrap_or_else(|| vec![absent; count]);
        ensure!(list.len() == count, "{}: {} numbers in {name}, not {count}", node.op_type, list.len());
        Ok(list)
    };
    let padding = match node.get_attr_opt("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" => Padding::Explicit,
        "VALID" => Padding::Valid,
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        other => bail!("{} with auto_pad {other} is not supported", node.op_type),
    };
    let pool = Pool {
        is_max,
        strides: list("strides", rank, 1)?,
        dilations: list("dilations", rank, 1)?,
        pads: list("pads", 2 * rank, 0)?,
        padding,
        ceil: node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) != 0,
        count_padding: node.get_attr_opt::<i64>("count_include_pad")?.unwrap_or(0) != 0,
        kernel,
    };
    let positive = |list: &[usize]| list.iter().all(|size| *size > 0);
    ensure!(
        positive(&pool.kernel) && positive(&pool.strides) && positive(&pool.dilations),
        "{} with a window of nothing",
        node.op_type
    );
    let same = matches!(padding, Padding::SameUpper | Padding::SameLower);
    // texts and onnxruntime do not agree on how much it takes then
    ensure!(
        !same || pool.dilations.iter().all(|d| *d == 1),
        "{} with dilations and auto_pad SAME is not supported",
        node.op_type
    );
    Ok(pool)
}

/// Padding and window along one axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    before: usize,
    after: usize,
    /// What the last window reaches behind `after`.
    beyond: usize,
    output: usize,
}

impl Pool {
    fn axis(&self, axis: usize, input: usize) -> TractResult<Axis> {
        let (kernel, stride, dilation) = (self.kernel[axis], self.strides[axis], self.dilations[axis]);
        let too_large = "a window that is too large";
        let field =
            dilation.checked_mul(kernel - 1).and_then(|reach| reach.checked_add(1)).context(too_large)?;
        let (before, after) = match self.padding {
            Padding::Valid => (0, 0),
            Padding::Explicit => (self.pads[axis], self.pads[axis + self.kernel.len()]),
            Padding::SameUpper | Padding::SameLower => {
                let windows = input.div_ceil(stride);
                let reach = windows
                    .saturating_sub(1)
                    .checked_mul(stride)
                    .and_then(|n| n.checked_add(kernel))
                    .context(too_large)?;
                let total = reach.saturating_sub(input);
                let half = total / 2;
                if self.padding == Padding::SameUpper { (half, total - half) } else { (total - half, half) }
            }
        };
        let whole = before.checked_add(after).and_then(|pads| pads.checked_add(input)).context(too_large)?;
        let span = whole.checked_sub(field).context("a window that is larger than its input")?;
        let mut output = if self.ceil { span.div_ceil(stride) } else { span / stride } + 1;
        // a window must begin before the padding behind the input
        if self.ceil && (output - 1) * stride >= input + before {
            output -= 1;
        }
        ensure!(output > 0, "no window");
        let beyond = ((output - 1) * stride + field).saturating_sub(whole);
        Ok(Axis { before, after, beyond, output })
    }

    fn axes(&self, input: &[usize]) -> TractResult<Vec<Axis>> {
        ensure!(
            input.len() == self.kernel.len(),
            "a window of {} axes on an input of {}",
            self.kernel.len(),
            input.len()
        );
        input.iter().enumerate().map(|(axis, size)| self.axis(axis, *size)).collect()
    }

    /// How many elements each window has along an axis, what lies beyond the padding left out.
    fn counts(&self, axis: usize, input: usize, place: Axis) -> Vec<f32> {
        let end = input + place.before + place.after;
        let taps = |window: usize| {
            (0..self.kernel[axis]).map(move |tap| window * self.strides[axis] + tap * self.dilations[axis])
        };
        (0..place.output).map(|window| taps(window).filter(|at| *at < end).count() as f32).collect()
    }
}

impl Expansion for Pool {
    fn name(&self) -> StaticName {
        if self.is_max { "MaxPool".into() } else { "AveragePool".into() }
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].rank, &outputs[0].rank)?;
        s.given(&inputs[0].shape, move |s, shape| {
            let sizes = shape.iter().skip(2).map(|dim| dim.to_usize().ok()).collect::<Option<Vec<usize>>>();
            let Some(sizes) = sizes else { return Ok(()) };
            let mut output: TVec<TDim> = shape.iter().take(2).cloned().collect();
            output.extend(self.axes(&sizes)?.iter().map(|axis| axis.output.to_dim()));
            s.equals(&outputs[0].shape, output)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape = fixed_shape(model, inputs[0])?;
        ensure!(shape.len() > 2, "a window on a value of {} dimensions", shape.len());
        let axes = self.axes(&shape[2..])?;
        let before: TVec<usize> = axes.iter().map(|axis| axis.before).collect();
        let after: TVec<usize> = axes.iter().map(|axis| axis.after + axis.beyond).collect();
        let list = |list: &[usize]| Some(TVec::from_slice(list));
        let pool_spec = PoolSpec::new(
            DataFormat::NCHW,
            TVec::from_slice(&self.kernel),
            PaddingSpec::Explicit(before, after),
            list(&self.dilations),
            list(&self.strides),
            shape[1],
            shape[1],
        );
        if self.is_max {
            return model.wire_node(prefix, MaxPool { pool_spec, with_index_outputs: None }, inputs);
        }
        if !self.count_padding || axes.iter().all(|axis| axis.beyond == 0) {
            return model.wire_node(
                prefix,
                SumPool { pool_spec, count_include_pad: self.count_padding, normalize: true },
                inputs,
            );
        }
        // padding counts, and what lies beyond it does not: each window is divided by its own number of
        // elements
        let sum = SumPool { pool_spec, count_include_pad: true, normalize: false };
        let sum = model.wire_node(format!("{prefix}.sum"), sum, inputs)?;
        let mut divisor = vec![1f32];
        for (axis, place) in axes.iter().enumerate() {
            let counts = self.counts(axis, shape[axis + 2], *place);
            divisor =
                divisor.iter().flat_map(|outer| counts.iter().map(move |count| outer * count)).collect();
        }
        let dims: Vec<usize> = [1, 1].into_iter().chain(axes.iter().map(|axis| axis.output)).collect();
        let divisor = Tensor::from_shape(&dims, &divisor)?;
        let divisor = model.add_const(format!("{prefix}.counts"), divisor)?;
        model.wire_node(prefix, math::div(), &[sum[0], divisor])
    }
}
