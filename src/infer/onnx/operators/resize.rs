//! Resize and Upsample: which input positions each output position reads, with onnxruntime's arithmetic in
//! 32-bit floats, for half a rounding decides which neighbour is the nearest.

use super::resample::{Resample, Taps};
use super::{Built, axis_of, fixed_shape, known, known_integers};
use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// As before operator set 11: down where the picture grows, up where it shrinks.
    Simple,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aspect {
    Stretch,
    NotLarger,
    NotSmaller,
}

#[derive(Debug, Clone)]
struct Resize {
    mode: Mode,
    coordinates: Coordinates,
    rounding: Rounding,
    cubic: f32,
    exclude_outside: bool,
    aspect: Aspect,
    axes: Option<Vec<i64>>,
    /// Which inputs are there.
    scales: Option<usize>,
    sizes: Option<usize>,
}

pub(super) fn build(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let old = ctx.onnx_operator_set_version < 11;
    let word = |name: &str, absent: &'static str| {
        Ok::<_, TractError>(node.get_attr_opt::<String>(name)?.unwrap_or_else(|| absent.to_owned()))
    };
    let mode = match word("mode", "nearest")?.as_str() {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" if !old => Mode::Cubic,
        other => bail!("Resize with mode {other} is not supported"),
    };
    let coordinates =
        match word("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?.as_str()
        {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_half_pixel_for_nn" => Coordinates::TfHalfPixel,
            other => bail!("Resize with coordinate_transformation_mode {other} is not supported"),
        };
    let rounding = match word("nearest_mode", if old { "simple" } else { "round_prefer_floor" })?.as_str() {
        "simple" if old => Rounding::Simple,
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => bail!("Resize with nearest_mode {other} is not supported"),
    };
    let aspect = match word("keep_aspect_ratio_policy", "stretch")?.as_str() {
        "stretch" => Aspect::Stretch,
        "not_larger" => Aspect::NotLarger,
        "not_smaller" => Aspect::NotSmaller,
        other => bail!("Resize with keep_aspect_ratio_policy {other} is not supported"),
    };
    ensure!(
        node.get_attr_opt::<i64>("antialias")?.unwrap_or(0) == 0,
        "Resize with antialias is not supported"
    );
    let mut inputs = optional_inputs(node).skip(if old { 1 } else { 2 });
    let op = Resize {
        mode,
        coordinates,
        rounding,
        cubic: node.get_attr_opt::<f32>("cubic_coeff_a")?.unwrap_or(-0.75),
        exclude_outside: node.get_attr_opt::<i64>("exclude_outside")?.unwrap_or(0) != 0,
        aspect,
        axes: node.get_attr_opt_vec("axes")?,
        scales: inputs.next().flatten(),
        sizes: inputs.next().flatten().filter(|_| !old),
    };
    ensure!(op.scales.is_some() || op.sizes.is_some(), "Resize with neither scales nor sizes");
    Ok((expand(op), vec![]))
}

/// Scale and output length of every axis.
type Sizes = Vec<(f32, usize)>;

impl Resize {
    /// `scales` and `sizes` as given; empty counts as not given.
    fn sizes(&self, input: &[usize], scales: Option<&Tensor>, sizes: Option<&Tensor>) -> TractResult<Sizes> {
        let axes = match &self.axes {
            None => (0..input.len()).collect::<Vec<usize>>(),
            Some(axes) => axes.iter().map(|axis| axis_of(*axis, input.len())).collect::<TractResult<_>>()?,
        };
        let mut result: Sizes = input.iter().map(|length| (1.0, *length)).collect();
        if let Some(scales) = scales.filter(|scales| scales.len() > 0) {
            let scales = scales.cast_to::<f32>()?;
            let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?;
            ensure!(
                scales.len() == axes.len(),
                "Resize with {} scales for {} axes",
                scales.len(),
                axes.len()
            );
            for (&axis, &scale) in axes.iter().zip(scales) {
                ensure!(scale > 0.0 && scale.is_finite(), "Resize by a factor of {scale}");
                let exact = input[axis] as f32 * scale;
                let length = exact.floor();
                // ONNX's text counts the fraction of the last pixel, onnxruntime does not
                let agreed = self.coordinates != Coordinates::AlignCorners || exact == length || scale == 1.0;
                ensure!(
                    agreed,
                    "Resize with align_corners and a factor that gives no whole length is not supported"
                );
                ensure!(length <= MAX_LENGTH, "Resize to a length of {length}");
                result[axis] = (scale, length as usize);
            }
        } else {
            let sizes =
                sizes.filter(|sizes| sizes.len() > 0).context("Resize with neither scales nor sizes")?;
            let sizes = sizes.cast_to::<i64>()?;
            let sizes = sizes.try_as_plain_ram()?.as_slice::<i64>()?;
            ensure!(sizes.len() == axes.len(), "Resize with {} sizes for {} axes", sizes.len(), axes.len());
            let ratios = axes.iter().zip(sizes).map(|(axis, size)| *size as f32 / input[*axis] as f32);
            let common = match self.aspect {
                Aspect::Stretch => None,
                Aspect::NotLarger => ratios.reduce(f32::min),
                Aspect::NotSmaller => ratios.reduce(f32::max),
            };
            for (&axis, &size) in axes.iter().zip(sizes) {
                ensure!(
                    size > 0 && size as f32 <= MAX_LENGTH && input[axis] > 0,
                    "Resize to a length of {size}"
                );
                result[axis] = match common {
                    None => (size as f32 / input[axis] as f32, size as usize),
                    Some(scale) => (scale, (scale * input[axis] as f32).round() as usize),
                };
            }
        }
        ensure!(result.iter().all(|(_, length)| *length > 0), "Resize to nothing");
        Ok(result)
    }

    /// Where output position `x` of `output` lies in an input of length `input`.
    fn position(&self, x: usize, scale: f32, input: usize, output: usize) -> f32 {
        let x = x as f32;
        match self.coordinates {
            Coordinates::Asymmetric => x / scale,
            Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel if output <= 1 => 0.0,
            Coordinates::PytorchHalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::TfHalfPixel => (x + 0.5) / scale,
            Coordinates::AlignCorners if output <= 1 => 0.0,
            Coordinates::AlignCorners => x * (input as f32 - 1.0) / (output as f32 - 1.0),
            Coordinates::HalfPixelSymmetric => {
                let adjustment = output as f32 / (scale * input as f32);
                let centre = input as f32 / 2.0;
                centre * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
            }
        }
    }

    fn taps(&self, scale: f32, input: usize, output: usize) -> Taps {
        let last = input as f32 - 1.0;
        let at = |position: f32| position.clamp(0.0, last) as u32;
        let one = |x: usize| -> Vec<(u32, f32)> {
            let position = self.position(x, scale, input, output);
            match self.mode {
                Mode::Nearest => vec![(at(self.round(position, scale)), 1.0)],
                Mode::Linear => {
                    let position = position.clamp(0.0, last);
                    let first = position.floor();
                    let share = position - first;
                    if share == 0.0 {
                        vec![(at(first), 1.0)]
                    } else {
                        vec![(at(first), 1.0 - share), (at(first + 1.0), share)]
                    }
                }
                Mode::Cubic => {
                    let first = position.floor();
                    let weights = cubic(position - first, self.cubic);
                    let places = [first - 1.0, first, first + 1.0, first + 2.0];
                    let mut taps: Vec<(u32, f32)> = Vec::new();
                    for (place, weight) in places.into_iter().zip(weights) {
                        if !self.exclude_outside || (0.0..=last).contains(&place) {
                            taps.push((at(place), weight));
                        }
                    }
                    let sum: f32 = taps.iter().map(|(_, weight)| weight).sum();
                    if self.exclude_outside && sum != 0.0 {
                        taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
                    }
                    taps
                }
            }
        };
        (0..output).map(one).collect()
    }

    fn round(&self, position: f32, scale: f32) -> f32 {
        match self.rounding {
            Rounding::Floor => position.floor(),
            Rounding::Ceil => position.ceil(),
            // onnxruntime takes what is a rounding away from the middle for the middle, here and not above
            Rounding::PreferCeil => (f64::from(position) + 0.5 + 1e-6).floor() as f32,
            Rounding::PreferFloor if position == position.trunc() + 0.5 => position.floor(),
            Rounding::PreferFloor => position.round(),
            Rounding::Simple if scale < 1.0 => position.ceil(),
            Rounding::Simple => position.trunc(),
        }
    }
}

/// Longest axis that comes out: beyond it a float does not hold every position.
const MAX_LENGTH: f32 = 16_777_216.0;

/// Weights of the four neighbours of a position `share` behind the second of them, with Keys' parameter `a`.
fn cubic(share: f32, a: f32) -> [f32; 4] {
    let near = |d: f32| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    [far(share + 1.0), near(share), near(1.0 - share), far(2.0 - share)]
}

impl Expansion for Resize {
    fn name(&self) -> StaticName {
        "Resize".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].rank, &outputs[0].rank)?;
        let finish =
            move |s: &mut Solver<'r>, shape: &[TDim], scales: Option<&Tensor>, sizes: Option<&Tensor>| {
                let shape = shape.iter().map(|dim| dim.to_usize().ok()).collect::<Option<Vec<usize>>>();
                let Some(shape) = shape else { return Ok(()) };
                let output: TVec<TDim> =
                    self.sizes(&shape, scales, sizes)?.iter().map(|(_, length)| length.to_dim()).collect();
                s.equals(&outputs[0].shape, output)
            };
        s.given(&inputs[0].shape, move |s, shape| match (self.scales, self.sizes) {
            (Some(scales), sizes) => s.given(&inputs[scales].value, move |s, scales| {
                let shape = shape.clone();
                match sizes {
                    Some(sizes) if scales.len() == 0 => {
                        s.given(&inputs[sizes].value, move |s, sizes| finish(s, &shape, None, Some(&sizes)))
                    }
                    _ => finish(s, &shape, Some(&scales), None),
                }
            }),
            (None, Some(sizes)) => {
                s.given(&inputs[sizes].value, move |s, sizes| finish(s, &shape, None, Some(&sizes)))
            }
            (None, None) => Ok(()),
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let input = fixed_shape(model, inputs[0])?;
        let scales =
            self.scales.map(|index| known(model, inputs[index], "the scales of Resize")).transpose()?;
        let sizes = self
            .sizes
            .map(|index| known_integers(model, inputs[index], "the sizes of Resize"))
            .transpose()?;
        let sizes = sizes.map(|sizes| tensor1(&sizes));
        let result = self.sizes(&input, scales.as_deref(), sizes.as_ref())?;
        let mut axes = Vec::new();
        for (axis, &(scale, output)) in result.iter().enumerate() {
            if scale != 1.0 || output != input[axis] {
                axes.push((axis, self.taps(scale, input[axis], output)));
            }
        }
        if axes.is_empty() {
            return model.wire_node(prefix, tract_onnx::tract_core::ops::identity::Identity, &inputs[..1]);
        }
        model.wire_node(prefix, Resample { axes }, &inputs[..1])
    }
}
