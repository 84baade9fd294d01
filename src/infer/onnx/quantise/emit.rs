//! Writes a graph in 8 bits: a pair of QuantizeLinear and DequantizeLinear behind each value of the plan, weights and
//! biases as integers with a DequantizeLinear of their own.

use super::Seen;
use super::graph::{Index, floats, keep_needed};
use super::plan::Plan;
use crate::error::Result;
use crate::infer::onnx::{artefact, clean};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// `TensorProto.DataType`.
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;
/// `AttributeProto.AttributeType`.
const INT: i32 = 2;

/// Steps of a value between its lowest and highest number.
const STEPS: f32 = 255.0;
/// Largest weight: −128 is left out, so that the scale is the same on both sides.
const MOST: f32 = 127.0;
/// Largest bias in steps: a quarter of what 32 bits hold, the sums of the products come on top.
const MOST_BIAS: f64 = (1u32 << 29) as f64;
/// Smallest scale that is written: a normal number, whose inverse is finite.
const LEAST_SCALE: f32 = 1e-30;

/// How a value becomes 8 bits: `round(x ÷ scale) + zero`.
#[derive(Debug, Clone, Copy)]
struct Levels {
    scale: f32,
    zero: u8,
}

impl Levels {
    /// Zero is one of the levels: what pads a picture stays exact.
    fn of(low: f32, high: f32) -> Option<Levels> {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / STEPS;
        let is_usable = scale.is_finite() && scale >= LEAST_SCALE;
        is_usable.then(|| Levels { scale, zero: (-low / scale).round().clamp(0.0, STEPS) as u8 })
    }
}

/// The weights of a convolution in 8 bits.
struct Weights {
    /// Of each output channel.
    scales: Vec<f32>,
    values: Vec<i8>,
    /// What rounding adds to each output channel in the mean; taken from its bias.
    shift: Vec<f64>,
}

/// Output channels × what each reads. `means`: of the channels of the picture, where they are known.
fn weights(given: &[f32], dims: [usize; 4], bias: &[f64], input_scale: f32, means: &[f32]) -> Weights {
    let [outputs, channels, height, width] = dims;
    let (area, size) = (height * width, channels * height * width);
    let groups = means.len().checked_div(channels).unwrap_or(1).max(1);
    let mut made = Weights { scales: Vec::new(), values: Vec::new(), shift: Vec::new() };
    for (output, row) in given.chunks_exact(size.max(1)).enumerate() {
        let largest = row.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        // the bias is counted in steps of both scales
        let bias = bias.get(output).copied().unwrap_or_default().abs();
        let least = (bias / (f64::from(input_scale) * MOST_BIAS)) as f32;
        let scale = (largest / MOST).max(least).max(LEAST_SCALE);
        let first = output / (outputs / groups).max(1) * channels;
        let mut shift = 0.0;
        for (channel, weights) in row.chunks_exact(area.max(1)).enumerate() {
            let mean = f64::from(means.get(first + channel).copied().unwrap_or_default());
            for weight in weights {
                let rounded = (weight / scale).round().clamp(-MOST, MOST);
                made.values.push(rounded as i8);
                shift += f64::from(rounded * scale - weight) * mean;
            }
        }
        made.scales.push(scale);
        made.shift.push(if shift.is_finite() { shift } else { 0.0 });
    }
    made
}

/// The graph of the plan in 8 bits. Errors: what was seen is not of this graph, or is no range.
pub(super) fn emit(proto: &ModelProto, plan: &Plan, seen: &[Seen]) -> Result<ModelProto> {
    if seen.len() != plan.values.len() {
        return Err(artefact("ranges of other values than the graph has"));
    }
    let mut made = proto.clone();
    made.producer_name = String::from("weir");
    made.producer_version = String::from(env!("CARGO_PKG_VERSION"));
    let graph = made.graph.take().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
    let index = Index::of(&graph);
    let mut levels = HashMap::new();
    for (value, seen) in plan.values.iter().zip(seen) {
        let found = Levels::of(seen.low, seen.high);
        let found = found.ok_or_else(|| artefact(format!("value {} has no range", clean(&value.name))))?;
        levels.insert(value.name.as_str(), (found, seen));
    }
    let mut writer =
        Writer { index: &index, levels, nodes: Vec::new(), tensors: Vec::new(), names: HashSet::new() };
    // what the graph is given, before all nodes
    for input in &graph.input {
        writer.round(&input.name);
    }
    for (at, node) in graph.node.iter().enumerate() {
        writer.node(node, plan.convolutions.contains(&at))?;
    }
    let Writer { nodes, tensors, .. } = writer;
    let mut graph = GraphProto { node: nodes, ..graph };
    graph.initializer.extend(tensors);
    keep_needed(&mut graph);
    made.graph = Some(graph);
    Ok(made)
}

struct Writer<'a> {
    index: &'a Index<'a>,
    levels: HashMap<&'a str, (Levels, &'a Seen)>,
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    /// Of tensors that were added.
    names: HashSet<String>,
}

impl Writer<'_> {
    /// A value that has just been made goes through 8 bits.
    fn round(&mut self, name: &str) {
        let Some((levels, _)) = self.levels.get(name).copied() else { return };
        let scale = self.tensor(&format!("{name}/scale"), FLOATS, &[], levels.scale.to_le_bytes().to_vec());
        let zero = self.tensor(&format!("{name}/zero_point"), UINT8, &[], vec![levels.zero]);
        let (inside, rounded) = (format!("{name}/8bit"), rounded(name));
        self.nodes.push(node("QuantizeLinear", &[name, &scale, &zero], &inside, None));
        self.nodes.push(node("DequantizeLinear", &[&inside, &scale, &zero], &rounded, None));
    }

    fn node(&mut self, given: &NodeProto, has_8_bits: bool) -> Result<()> {
        let mut node = given.clone();
        if has_8_bits {
            self.convolution(&mut node)?;
        }
        for name in &mut node.input {
            if self.levels.contains_key(name.as_str()) {
                *name = rounded(name);
            }
        }
        self.nodes.push(node);
        for name in &given.output {
            self.round(name);
        }
        Ok(())
    }

    fn convolution(&mut self, node: &mut NodeProto) -> Result<()> {
        let broken = || artefact(format!("convolution {} cannot have 8 bits", clean(&node.name)));
        let constant =
            |place: usize| node.input.get(place).and_then(|name| self.index.constants.get(name.as_str()));
        let tensor = constant(1).ok_or_else(broken)?;
        let dims: Vec<usize> = tensor.dims.iter().filter_map(|dim| usize::try_from(*dim).ok()).collect();
        let dims: [usize; 4] = dims.try_into().map_err(|_| broken())?;
        let given = floats(tensor).ok_or_else(broken)?;
        let bias: Vec<f64> = match constant(2) {
            None => vec![0.0; dims[0]],
            Some(tensor) => floats(tensor).ok_or_else(broken)?.into_iter().map(f64::from).collect(),
        };
        let input = node.input.first().and_then(|name| self.levels.get(name.as_str())).copied();
        let (input, seen) = input.ok_or_else(broken)?;
        let (w, b) = match (node.input.get(1), node.output.first()) {
            (Some(weights), Some(made)) => (weights.clone(), made.clone()),
            _ => return Err(broken()),
        };
        let Weights { scales, values, shift } = weights(&given, dims, &bias, input.scale, &seen.means);

        let channels = [dims[0] as i64];
        let steps: Vec<f32> = scales.iter().map(|scale| scale * input.scale).collect();
        let rounded_bias = bias.iter().zip(&shift).zip(&steps).map(|((bias, shift), step)| {
            ((bias - shift) / f64::from(*step)).round().clamp(-2.0 * MOST_BIAS, 2.0 * MOST_BIAS) as i32
        });
        let bytes = rounded_bias.flat_map(i32::to_le_bytes).collect();
        // several convolutions may share weights, and have different scales where their biases ask for them
        let values = values.into_iter().map(i8::cast_unsigned).collect();
        let scales = scales.into_iter().flat_map(f32::to_le_bytes).collect();
        let own = format!("{b}/{w}");
        let tensors = [
            self.tensor(&format!("{own}/8bit"), INT8, &tensor.dims, values),
            self.tensor(&format!("{own}/scale"), FLOATS, &channels, scales),
            self.tensor(&format!("{own}/zero_point"), INT8, &channels, vec![0; dims[0]]),
        ];
        let bias = [
            self.tensor(&format!("{b}/bias/32bit"), INT32, &channels, bytes),
            self.tensor(
                &format!("{b}/bias/scale"),
                FLOATS,
                &channels,
                steps.into_iter().flat_map(f32::to_le_bytes).collect(),
            ),
            self.tensor(&format!("{b}/bias/zero_point"), INT32, &channels, vec![0; 4 * dims[0]]),
        ];
        let (w, b) = (format!("{own}/floats"), format!("{b}/bias/floats"));
        let along =
            || Some(AttributeProto { name: "axis".into(), r#type: INT, i: 0, ..AttributeProto::default() });
        self.nodes.push(self::node("DequantizeLinear", &tensors.each_ref().map(String::as_str), &w, along()));
        self.nodes.push(self::node("DequantizeLinear", &bias.each_ref().map(String::as_str), &b, along()));
        node.input.truncate(1);
        node.input.extend([w, b]);
        Ok(())
    }

    /// A constant, under a name that is not there yet.
    fn tensor(&mut self, name: &str, data_type: i32, dims: &[i64], raw_data: Vec<u8>) -> String {
        let mut name = name.to_owned();
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        self.tensors.push(TensorProto {
            name: name.clone(),
            dims: dims.to_vec(),
            data_type,
            raw_data,
            ..TensorProto::default()
        });
        name
    }
}

const FLOATS: i32 = crate::infer::onnx::precision::FLOAT;

/// What a value is called once it has been 8 bits.
fn rounded(name: &str) -> String {
    format!("{name}/rounded")
}

fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Option<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: format!("{output}/{op_type}"),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attribute.into_iter().collect(),
        ..NodeProto::default()
    }
}
