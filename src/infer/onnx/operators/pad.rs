//! Pad: tract counts negative numbers as huge ones, and fills with the constant input whatever the mode.

use super::{Built, axis_of, fixed_shape, known, known_integers, modern, rewired};
use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::{Pad, PadMode, Slice, TypedConcat};
use tract_onnx::tract_hir::internal::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

#[derive(Debug, Clone)]
struct Parameters {
    mode: Mode,
    /// Which inputs say what to fill with, and which axes are meant.
    value: Option<usize>,
    axes: Option<usize>,
}

pub(super) fn build(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let mode = match node.get_attr_opt("mode")?.unwrap_or("constant") {
        "constant" => Mode::Constant,
        "reflect" => Mode::Reflect,
        "edge" => Mode::Edge,
        "wrap" => Mode::Wrap,
        other => bail!("Pad with mode {other} is not supported"),
    };
    let mut inputs = optional_inputs(node).skip(2);
    let parameters = Parameters { mode, value: inputs.next().flatten(), axes: inputs.next().flatten() };
    // tract does not know the mode `wrap`; the shapes are the same in all
    let mut plain = node.clone();
    plain.attribute.retain(|attribute| attribute.name != "mode");
    rewired(modern(ctx, &plain), parameters, wire)
}

fn wire(
    parameters: &Parameters,
    name: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let shape = fixed_shape(model, inputs[0])?;
    let rank = shape.len();
    let given = known_integers(model, inputs[1], "how much to pad")?;
    let axes = match parameters.axes {
        None => (0..rank).collect(),
        Some(input) => {
            let axes = known_integers(model, inputs[input], "which axes to pad")?;
            axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<TractResult<Vec<usize>>>()?
        }
    };
    ensure!(given.len() == 2 * axes.len(), "Pad with {} numbers for {} axes", given.len(), axes.len());
    let mut pads = vec![(0i64, 0i64); rank];
    for (at, &axis) in axes.iter().enumerate() {
        pads[axis] = (given[at], given[at + axes.len()]);
    }
    let mut wire: TVec<OutletId> = tvec!(inputs[0]);
    // what is taken off goes first: the other modes look at what is left
    for (axis, &(before, after)) in pads.iter().enumerate() {
        let (start, end) = ((-before).max(0) as usize, shape[axis] as i64 - (-after).max(0));
        ensure!(end >= start as i64, "Pad takes more off axis {axis} than there is");
        if start > 0 || end < shape[axis] as i64 {
            wire =
                model.wire_node(format!("{name}.cut{axis}"), Slice::new(axis, start, end as usize), &wire)?;
        }
    }
    let pads: Vec<(usize, usize)> =
        pads.iter().map(|(before, after)| ((*before).max(0) as usize, (*after).max(0) as usize)).collect();
    if pads.iter().all(|pad| *pad == (0, 0)) {
        return model.wire_node(name, tract_onnx::tract_core::ops::identity::Identity, &wire);
    }
    let left = fixed_shape(model, wire[0])?;
    let longest = match parameters.mode {
        Mode::Constant => None,
        Mode::Reflect => Some(1),
        Mode::Edge | Mode::Wrap => Some(0),
    };
    if let Some(taken) = longest {
        let fits = |axis: usize| {
            let (before, after) = pads[axis];
            let room =
                if parameters.mode == Mode::Edge { usize::MAX } else { left[axis].saturating_sub(taken) };
            (before.max(after) == 0) || (left[axis] > 0 && before.max(after) <= room)
        };
        ensure!((0..rank).all(fits), "Pad with mode {:?} by more than there is", parameters.mode);
    }
    let mode = match parameters.mode {
        Mode::Wrap => return wrap(name, model, wire[0], &pads),
        Mode::Reflect => PadMode::Reflect,
        Mode::Edge => PadMode::Edge,
        Mode::Constant => {
            let datum_type = model.outlet_fact(wire[0])?.datum_type;
            let value = match parameters.value {
                None => tensor0(0f32),
                Some(input) => known(model, inputs[input], "what to pad with")?.into_tensor(),
            };
            ensure!(value.len() == 1, "Pad with {} values to fill with", value.len());
            PadMode::Constant(value.nth(0)?.cast_to_dt(datum_type)?.into_owned().into_arc_tensor())
        }
    };
    model.wire_node(name, Pad { mode, pads }, &wire)
}

/// What goes over one side comes in from the other.
fn wrap(
    name: &str,
    model: &mut TypedModel,
    input: OutletId,
    pads: &[(usize, usize)],
) -> TractResult<TVec<OutletId>> {
    let mut wire = tvec!(input);
    for (axis, &(before, after)) in pads.iter().enumerate() {
        let length = fixed_shape(model, wire[0])?[axis];
        let mut parts = tvec!();
        if before > 0 {
            let slice = Slice::new(axis, length - before, length);
            parts.push(model.wire_node(format!("{name}.before{axis}"), slice, &wire)?[0]);
        }
        parts.push(wire[0]);
        if after > 0 {
            parts.push(model.wire_node(format!("{name}.after{axis}"), Slice::new(axis, 0, after), &wire)?[0]);
        }
        if parts.len() > 1 {
            wire = model.wire_node(format!("{name}.wrap{axis}"), TypedConcat::new(axis), &parts)?;
        }
    }
    Ok(wire)
}
