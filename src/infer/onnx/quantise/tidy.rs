//! A graph in the form that 8 bits are put into: the operator set that knows them, nodes in their order, and zeros
//! around a picture as the padding of the convolution that reads it.

use super::graph::{self, Index, attribute, word};
use crate::error::Result;
use crate::infer::onnx::{artefact, integers, modern, opset_in};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

/// Operator set in which weights may have a scale for each channel.
const PER_CHANNEL: i64 = 13;
/// Oldest one whose operators are brought to that.
const OLDEST: i64 = 11;
/// IR version that belongs to it.
const IR_VERSION: i64 = 7;
/// `AttributeProto.AttributeType`.
const INTS: i32 = 7;

pub(super) fn tidy(proto: &mut ModelProto) -> Result<()> {
    let version = opset_in(&proto.opset_import);
    let graph = proto.graph.as_mut().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
    if version < OLDEST {
        return Err(artefact(format!(
            "the graph uses ONNX operator set {version}: for 8 bits export it with {PER_CHANNEL} or newer"
        )));
    }
    if version < PER_CHANNEL {
        if graph.node.iter().any(changes_its_meaning) {
            return Err(artefact(format!(
                "the graph uses Softmax of ONNX operator set {version}, which means something else from {PER_CHANNEL} on: \
                 for 8 bits export it with {PER_CHANNEL} or newer"
            )));
        }
        modern::to_inputs(graph);
        for import in &mut proto.opset_import {
            if ["", "ai.onnx"].contains(&import.domain.as_str()) {
                import.version = PER_CHANNEL;
            }
        }
    }
    proto.ir_version = proto.ir_version.max(IR_VERSION);
    proto.training_info.clear();
    graph.quantization_annotation.clear();
    // shapes and types of values that will be read otherwise
    graph.value_info.clear();
    let graph = proto.graph.as_mut().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
    graph::sort(graph)?;
    take_in_pads(graph);
    Ok(())
}

/// Softmax over all axes from one on and over that axis alone are the same for the last one.
fn changes_its_meaning(node: &NodeProto) -> bool {
    const LAST_OF_FOUR: i64 = 3;
    let axis = attribute(node, "axis").map_or(1, |axis| axis.i);
    matches!(node.op_type.as_str(), "Softmax" | "LogSoftmax" | "Hardmax") && axis != -1 && axis < LAST_OF_FOUR
}

/// Zeros around a picture become the padding of the convolutions that read it, −∞ that of max-pools: between a
/// picture and its convolution would be 8 bits otherwise.
fn take_in_pads(graph: &mut GraphProto) {
    let index = Index::of(graph);
    // of each node: what it reads instead, and its new padding
    let mut taken: Vec<(usize, String, Vec<i64>)> = Vec::new();
    for node in &graph.node {
        let (Some([top, left, bottom, right]), [source, ..], [made]) =
            (margins(node, &index), &node.input[..], &node.output[..])
        else {
            continue;
        };
        let value = margin_value(node, &index);
        let readers = index.readers(made);
        let padded = |reader: &usize| {
            let node = graph.node.get(*reader)?;
            let takes = match (node.op_type.as_str(), value) {
                ("Conv", Some(0.0)) => true,
                ("MaxPool", Some(value)) => value <= f32::MIN,
                _ => false,
            };
            let auto = word(node, "auto_pad");
            let own = attribute(node, "pads").map_or_else(|| vec![0; 4], |pads| pads.ints.clone());
            let [t, l, b, r] = own[..] else { return None };
            let fits = takes
                && node.input.first() == Some(made)
                && ["", "NOTSET", "VALID"].contains(&auto.as_str())
                && attribute(node, "ceil_mode").is_none_or(|mode| mode.i == 0);
            fits.then(|| (*reader, source.clone(), vec![t + top, l + left, b + bottom, r + right]))
        };
        let found: Option<Vec<_>> = readers.iter().map(padded).collect();
        if let Some(found) = found.filter(|_| !index.outputs.contains(made.as_str())) {
            taken.extend(found);
        }
    }
    for (reader, source, pads) in taken {
        let Some(node) = graph.node.get_mut(reader) else { continue };
        if let Some(first) = node.input.first_mut() {
            *first = source;
        }
        node.attribute.retain(|attribute| !["pads", "auto_pad"].contains(&attribute.name.as_str()));
        let name = String::from("pads");
        node.attribute.push(AttributeProto { name, r#type: INTS, ints: pads, ..AttributeProto::default() });
    }
    graph::keep_needed(graph);
}

/// What a Pad puts around a picture: top, left, bottom, right; `None` for every other node and form.
fn margins(node: &NodeProto, index: &Index<'_>) -> Option<[i64; 4]> {
    if node.op_type != "Pad"
        || !["", "constant"].contains(&word(node, "mode").as_str())
        || node.input.len() > 3
    {
        return None;
    }
    let pads = integers(index.constants.get(node.input.get(1)?.as_str())?);
    let [0, 0, top, left, 0, 0, bottom, right] = pads[..] else { return None };
    // none is larger than a picture may be
    let is_sane = |side: &i64| (0..=i64::from(u16::MAX)).contains(side);
    [top, left, bottom, right].iter().all(is_sane).then_some([top, left, bottom, right])
}

/// The number that it puts there.
fn margin_value(node: &NodeProto, index: &Index<'_>) -> Option<f32> {
    match node.input.get(2).filter(|name| !name.is_empty()) {
        None => Some(0.0),
        Some(name) => graph::floats(index.constants.get(name.as_str())?)?.first().copied(),
    }
}
