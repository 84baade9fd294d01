//! Operators that take 8 bits and give 8 bits: ONNX's QLinearConv and QLinearMatMul, and onnxruntime's.

use super::constants::is_byte;
use super::{Fit, Known, Levels, Rewriter, input};
use crate::infer::onnx::precision::INT8;
use crate::infer::onnx::refuse;
use tract_onnx::pb::{AttributeProto, NodeProto};

/// First operator set in which softmax is along one axis, and not over all from that axis on.
const SOFTMAX_ALONG_AN_AXIS: i64 = 13;

/// Nothing where the operator is none of these.
pub(super) fn rewrite(r: &mut Rewriter<'_>, node: &NodeProto) -> Option<Fit<()>> {
    let with = |names: &[&str]| {
        let kept = |attribute: &&AttributeProto| names.contains(&attribute.name.as_str());
        node.attribute.iter().filter(kept).cloned().collect::<Vec<_>>()
    };
    const POOL: [&str; 6] = ["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"];
    Some(match node.op_type.as_str() {
        "QLinearConv" => conv(r, node),
        "QLinearMatMul" => mat_mul(r, node),
        "QGemm" => gemm(r, node),
        "QLinearAdd" => two(r, node, "Add"),
        "QLinearMul" => two(r, node, "Mul"),
        "QLinearSigmoid" => one(r, node, "Sigmoid", Vec::new()),
        "QLinearLeakyRelu" => one(r, node, "LeakyRelu", with(&["alpha"])),
        "QLinearAveragePool" => one(r, node, "AveragePool", with(&POOL)),
        "QLinearGlobalAveragePool" => one(r, node, "GlobalAveragePool", Vec::new()),
        "QLinearSoftmax" => softmax(r, node),
        "QLinearConcat" => concat(r, node, with(&["axis"])),
        "QLinearWhere" => choice(r, node),
        "DynamicQuantizeMatMul" => dynamic(r, node),
        "MatMulIntegerToFloat" => to_float(r, node),
        _ => return None,
    })
}

fn conv(r: &mut Rewriter<'_>, node: &NodeProto) -> Fit<()> {
    planes_first(node)?;
    let (x, levels) = operand(r, node, [0, 1, 2])?;
    let (w, scales) = weights(r, node, [3, 4, 5], 0)?;
    let mut inputs = vec![x, w];
    inputs.extend(bias(r, input(node, 8), levels.step, &scales, 0)?);
    let mut attributes = node.attribute.clone();
    attributes.retain(|attribute| attribute.name != "channels_last");
    give(r, node, ("Conv", inputs, attributes), (6, 7))
}

fn mat_mul(r: &mut Rewriter<'_>, node: &NodeProto) -> Fit<()> {
    let (a, _) = operand(r, node, [0, 1, 2])?;
    let b = factor(r, node, [3, 4, 5])?;
    give(r, node, ("MatMul", vec![a, b], Vec::new()), (6, 7))
}

fn gemm(r: &mut Rewriter<'_>, node: &NodeProto) -> Fit<()> {
    let (a, levels) = operand(r, node, [0, 1, 2])?;
    let columns = if refuse::integer(node, "transB", 0) == 0 { 1 } else { 0 };
    let alpha = node.attribute.iter().find(|attribute| attribute.name == "alpha").map_or(1.0, |a| a.f);
    let (b, scales) = if r.stored(input(node, 3)).is_some() {
        weights(r, node, [3, 4, 5], columns)?
    } else {
        operand(r, node, [3, 4, 5]).map(|(b, levels)| (b, vec![levels.step]))?
    };
    let mut inputs = vec![a, b];
    inputs.extend(bias(r, input(node, 6), alpha * levels.step, &scales, -1)?);
    let made = ("Gemm", inputs, node.attribute.clone());
    if input(node, 7).is_empty() {
        return give_floats(r, node, made);
    }
    give(r, node, made, (7, 8))
}

fn one(r: &mut Rewriter<'_>, node: &NodeProto, op: &str, attributes: Vec<AttributeProto>) -> Fit<()> {
    planes_first(node)?;
    let (x, _) = operand(r, node, [0, 1, 2])?;
    give(r, node, (op, vec![x], attributes), (3, 4))
}

fn two(r: &mut Rewriter<'_>, node: &NodeProto, op: &str) -> Fit<()> {
    let (a, _) = operand(r, node, [0, 1, 2])?;
    let (b, _) = operand(r, node, [3, 4, 5])?;
    give(r, node, (op, vec![a, b], Vec::new()), (6, 7))
}

fn softmax(r: &mut Rewriter<'_>, node: &NodeProto) -> Fit<()> {
    let along = |version: i64| version >= SOFTMAX_ALONG_AN_AXIS;
    let axis = refuse::integer(node, "axis", -1);
    // of the last axis both are the same
    if along(refuse::integer(node, "opset", r.version)) != along(r.version) && axis != -1 {
        return Err(String::from("the meaning of another operator set"));
    }
    const INT: i32 = 2;
    let name = String::from("axis");
    let axis = AttributeProto { name, r#type: INT, i: axis, ..AttributeProto::default() };
    one(r, node, "Softmax", vec![axis])
}

fn concat(r: &mut Rewriter<'_>, node: &NodeProto, attributes: Vec<AttributeProto>) -> Fit<()> {
    let places = (2..node.input.len()).step_by(3);
    let parts = places.map(|at| Ok(operand(r, node, [at, at + 1, at + 2])?.0)).collect::<Fit<Vec<_>>>()?;
    if parts.is_empty() {
        return Err(String::from("nothing to put together"));
    }
    give(r, node, ("Concat", parts, attributes), (0, 1))
}

fn choice(r: &mut Rewriter<'_>, node: &NodeProto) -> Fit<()> {
    let (x, _) = operand(r, node, [1, 2, 3])?;
    let (y, _) = operand(r, node, [4, 5, 6])?;
    give(r, node, ("Where", vec![input(node, 0).to_owned(), x, y], Vec::new()), (7, 8))
}

fn dynamic(r: &mut Rewriter<'_>, node: &NodeProto) -> Fit<()> {
    let a = r.dynamic_floats(input(node, 0));
    let b = factor(r, node, [1, 2, 3])?;
    give_sum(r, node, vec![a, b], input(node, 4))
}

fn to_float(r: &mut Rewriter<'_>, node: &NodeProto) -> Fit<()> {
    let side = |r: &mut Rewriter<'_>, places: [usize; 3]| match r.known.get(input(node, places[0])) {
        Some(Known::Dynamic { scale, zero, floats })
            if (scale.as_str(), zero.as_str()) == (input(node, places[1]), input(node, places[2])) =>
        {
            Ok(floats.clone())
        }
        _ => factor(r, node, places),
    };
    let sides = [side(r, [0, 2, 4])?, side(r, [1, 3, 5])?];
    give_sum(r, node, sides.to_vec(), input(node, 6))
}

/// The floats of the value, scale and zero point at these places.
fn operand(r: &mut Rewriter<'_>, node: &NodeProto, places: [usize; 3]) -> Fit<(String, Levels)> {
    let [value, scale, zero] = places.map(|place| input(node, place));
    if value.is_empty() {
        return Err(String::from("too few inputs"));
    }
    let signed = signed(r, node);
    let levels = r.levels(scale, zero, signed)?;
    Ok((r.floats(value, &levels)?, levels))
}

/// The floats of stored weights, and their scales.
fn weights(r: &mut Rewriter<'_>, node: &NodeProto, places: [usize; 3], axis: i64) -> Fit<(String, Vec<f32>)> {
    let [value, scale, zero] = places.map(|place| input(node, place));
    let scales = r.scales(scale)?;
    let zeros = r.zeros(zero)?;
    Ok((r.weights(value, &scales, &zeros, axis)?, scales))
}

/// One side of a product of matrices: stored weights, or a computed value.
fn factor(r: &mut Rewriter<'_>, node: &NodeProto, places: [usize; 3]) -> Fit<String> {
    let [value, scale, zero] = places.map(|place| input(node, place));
    if r.stored(value).is_none() {
        return operand(r, node, places).map(|(floats, _)| floats);
    }
    let (scales, zeros) = (r.scales(scale)?, r.zeros(zero)?);
    r.columns(value, &scales, &zeros)
}

/// A bias of 32 bits in steps of `step` times the scales of the weights.
fn bias(r: &mut Rewriter<'_>, name: &str, step: f32, scales: &[f32], axis: i64) -> Fit<Option<String>> {
    if name.is_empty() {
        return Ok(None);
    }
    let steps: Vec<f32> = scales.iter().map(|scale| step * scale).collect();
    r.weights(name, &steps, &[0], axis).map(Some)
}

/// Whether the bytes of an operator have a sign, where a zero point is left out: as others that it has, or
/// as its operands were made.
fn signed(r: &Rewriter<'_>, node: &NodeProto) -> Option<bool> {
    let stored = |name: &String| r.stored(name).filter(|tensor| is_byte(tensor.data_type));
    node.input.iter().find_map(|name| match r.known.get(name) {
        Some(Known::Static(levels)) => Some(levels.signed),
        _ => stored(name).map(|tensor| tensor.data_type == INT8),
    })
}

fn planes_first(node: &NodeProto) -> Fit<()> {
    match refuse::integer(node, "channels_last", 0) {
        0 => Ok(()),
        _ => Err(String::from("channels_last (onnxruntime's own optimisation)")),
    }
}

/// An operator, its inputs and its attributes.
type Floats<'a> = (&'a str, Vec<String>, Vec<AttributeProto>);

/// Adds the operator of floats, and makes 8 bits of what it gives; `places`: of their scale and zero point.
fn give(
    r: &mut Rewriter<'_>,
    node: &NodeProto,
    (op, inputs, attributes): Floats<'_>,
    places: (usize, usize),
) -> Fit<()> {
    let [output] = &node.output[..] else { return Err(String::from("other than one output")) };
    let signed = signed(r, node);
    let levels = r.levels(input(node, places.0), input(node, places.1), signed)?;
    let made = r.add(op, inputs, attributes);
    if let Some(added) = r.nodes.last_mut().filter(|_| !node.name.is_empty()) {
        added.name.clone_from(&node.name);
    }
    r.bytes(made, levels, output);
    Ok(())
}

/// Adds an operator of floats that gives floats.
fn give_floats(r: &mut Rewriter<'_>, node: &NodeProto, (op, input, attribute): Floats<'_>) -> Fit<()> {
    let (op_type, name, output) = (op.to_owned(), node.name.clone(), node.output.clone());
    r.nodes.push(NodeProto { op_type, name, input, output, attribute, ..NodeProto::default() });
    Ok(())
}

/// A product of matrices, and a bias of floats where there is one.
fn give_sum(r: &mut Rewriter<'_>, node: &NodeProto, sides: Vec<String>, bias: &str) -> Fit<()> {
    if bias.is_empty() {
        return give_floats(r, node, ("MatMul", sides, Vec::new()));
    }
    let product = r.add("MatMul", sides, Vec::new());
    give_floats(r, node, ("Add", vec![product, bias.to_owned()], Vec::new()))
}
