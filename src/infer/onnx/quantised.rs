//! Graphs that calculate in 8 bits become graphs of floats between QuantizeLinear and DequantizeLinear, before
//! tract sees them.
//!
//! ```text
//! DynamicQuantizeLinear → ConvInteger → Cast → Mul   ⇒  DynamicQuantized → Conv                      dynamic.rs
//! QLinearConv                                        ⇒  DequantizeLinear → Conv → QuantizeLinear     linear.rs
//! MaxPool of 8 bits                                  ⇒  DequantizeLinear → MaxPool → QuantizeLinear  moved.rs
//! DequantizeLinear of stored weights                 ⇒  weights of floats                            weights.rs
//! ```
//!
//! So there is one form of a quantised graph: floats that are whole numbers of a step, and weights that are
//! 8-bit numbers times a step for each output channel, rounded once. That the numbers are whole is left to
//! be found by whoever has kernels for them.

mod constants;
mod dynamic;
mod linear;
mod live;
mod moved;
mod weights;

use super::operators::DYNAMIC_QUANTIZED;
use super::precision::{FLOAT, INT8, UINT8};
use super::refuse::{self, CONTRIBUTED_DOMAIN};
use super::{artefact, check_nodes};
use crate::error::Result;
use constants::{is_byte, singles, whole};
use std::collections::HashMap;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};
use weights::Weights;

/// What was made of a node, or why its 8 bits cannot become floats.
type Fit<T> = std::result::Result<T, String>;

/// What to do about an operator that is refused.
const REMEDY: &str = "quantise the model with QuantizeLinear and DequantizeLinear instead \
                      (onnxruntime: QuantFormat.QDQ)";

/// Operators of which there is something to make here.
const TRIGGERS: [&str; 6] = [
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "QGemm",
];

fn is_trigger(node: &NodeProto) -> bool {
    TRIGGERS.contains(&node.op_type.as_str()) || node.op_type.starts_with("QLinear")
}

/// Rewrites the outer graph, which lists its nodes in the order of execution. `budget`: the most bytes that
/// its weights may take as floats.
pub(super) fn to_floats(graph: &mut GraphProto, version: i64, budget: u64) -> Result<()> {
    for node in graph.node.iter().flat_map(|node| &node.attribute).flat_map(refuse::graphs_of) {
        refuse_inside(node)?;
    }
    if !graph.node.iter().any(is_trigger) {
        return Ok(());
    }
    constants::store(graph);
    let nodes = std::mem::take(&mut graph.node);
    let mut rewriter = Rewriter::new(&graph.initializer, version);
    for node in nodes {
        rewriter.node(node)?;
    }
    let Rewriter { nodes, small, weights, .. } = rewriter;
    graph.node = nodes;
    graph.initializer.extend(small);
    check_nodes(graph)?;
    let read = live::sweep(graph);
    let made = weights::make(weights, &graph.initializer, |name| read.contains(name), budget)?;
    graph.initializer.extend(made);
    live::forget(graph, &read);
    Ok(())
}

/// Nothing is rewritten inside other nodes, and tract knows no operators of onnxruntime's.
fn refuse_inside(graph: &GraphProto) -> Result<()> {
    for node in &graph.node {
        if node.domain == CONTRIBUTED_DOMAIN && is_trigger(node) {
            return Err(refused(node, "a place inside another node"));
        }
        // protobuf's own nesting limit (100) bounds this recursion
        node.attribute.iter().flat_map(refuse::graphs_of).try_for_each(refuse_inside)?;
    }
    Ok(())
}

fn refused(node: &NodeProto, reason: &str) -> crate::error::Error {
    artefact(format!("{} with {reason} is not supported: {REMEDY}", refuse::named(node)))
}

/// How 8 bits stand for floats: `step · (q − zero)`.
#[derive(Debug, Clone)]
struct Levels {
    /// Names of what the graph stores.
    scale: String,
    /// See `scale`.
    zero: String,
    /// What floats are divided by: the scale, where it can be divided by.
    divisor: String,
    /// Their values.
    step: f32,
    zero_point: i32,
    /// From −128 to 127, not from 0 to 255.
    signed: bool,
}

impl Levels {
    fn same(&self, other: &Levels) -> bool {
        (self.step.to_bits(), self.zero_point, self.signed)
            == (other.step.to_bits(), other.zero_point, other.signed)
    }
}

/// What is known about a value of 8 bits.
#[derive(Debug, Clone)]
enum Known {
    /// Its levels are stored.
    Static(Levels),
    /// They are made while the graph runs; so are the floats that it stands for.
    Dynamic { scale: String, zero: String, floats: String },
}

struct Rewriter<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    version: i64,
    nodes: Vec<NodeProto>,
    /// Constants of a few numbers.
    small: Vec<TensorProto>,
    /// Weights to be made where something reads them, with their names.
    weights: HashMap<Weights, String>,
    known: HashMap<String, Known>,
    /// Floats of a value, by the names of value, scale and zero point.
    floats: HashMap<[String; 3], String>,
    /// Floats behind what is quantised dynamically, by the names of what that is.
    dynamic: HashMap<String, String>,
    /// What made the values that integer products are recognised by.
    makers: HashMap<String, dynamic::Maker>,
    count: usize,
}

impl<'a> Rewriter<'a> {
    fn new(stored: &'a [TensorProto], version: i64) -> Rewriter<'a> {
        Rewriter {
            constants: stored.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            version,
            nodes: Vec::new(),
            small: Vec::new(),
            weights: HashMap::new(),
            known: HashMap::new(),
            floats: HashMap::new(),
            dynamic: HashMap::new(),
            makers: HashMap::new(),
            count: 0,
        }
    }

    fn node(&mut self, mut node: NodeProto) -> Result<()> {
        let contributed = node.domain == CONTRIBUTED_DOMAIN;
        self.refuse_infinite(&node)?;
        let done = match node.op_type.as_str() {
            "QuantizeLinear" => self.quantize(&mut node),
            "DequantizeLinear" => self.dequantize(&mut node),
            "DynamicQuantizeLinear" if !contributed => self.dynamically(&node),
            "ConvInteger" | "MatMulInteger" | "Cast" | "Mul" if !contributed => self.product(&node),
            _ => match linear::rewrite(self, &node) {
                Some(done) => done.map(|()| true),
                None => Ok(!contributed && self.moved(&node)),
            },
        };
        match done {
            Ok(true) => Ok(()),
            // tract knows ONNX's own operators, even if slowly
            Ok(false) | Err(_) if !contributed || !is_trigger(&node) => {
                self.nodes.push(node);
                Ok(())
            }
            Ok(false) => Err(refused(&node, "what it is given")),
            Err(reason) => Err(refused(&node, &reason)),
        }
    }

    /// Quantisers that met an infinite number, such as what a pooling is padded with, write scales that make
    /// nothing but NaN.
    fn refuse_infinite(&self, node: &NodeProto) -> Result<()> {
        let of_levels = ["QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"];
        if !of_levels.contains(&node.op_type.as_str()) {
            return Ok(());
        }
        // all floats behind the first input are scales
        let scales = node.input.iter().skip(1).filter_map(|name| singles(self.stored(name)?));
        match scales.flatten().find(|scale| !scale.is_finite()) {
            None => Ok(()),
            Some(scale) => Err(artefact(format!(
                "{} with a scale of {scale} is not supported: the model was quantised around infinite numbers; \
                 leave the operator that makes them out (onnxruntime: nodes_to_exclude)",
                refuse::named(node)
            ))),
        }
    }

    /// A name that nothing else has.
    fn fresh(&mut self, stem: &str) -> String {
        self.count += 1;
        format!("weir/8bit/{}/{stem}", self.count)
    }

    /// Adds a node; gives the name of what it makes.
    fn add(&mut self, op: &str, input: Vec<String>, attribute: Vec<AttributeProto>) -> String {
        let name = self.fresh(op);
        let output = vec![name.clone()];
        self.nodes.push(NodeProto {
            op_type: op.to_owned(),
            name: name.clone(),
            input,
            output,
            attribute,
            ..NodeProto::default()
        });
        name
    }

    /// A constant without dimensions.
    fn constant(&mut self, stem: &str, tensor: TensorProto) -> String {
        let name = self.fresh(stem);
        self.small.push(TensorProto { name: name.clone(), ..tensor });
        name
    }

    fn stored(&self, name: &str) -> Option<&'a TensorProto> {
        self.constants.get(name).copied()
    }

    /// Floats that the graph stores.
    fn scales(&self, name: &str) -> Fit<Vec<f32>> {
        let stored = self.stored(name).and_then(singles).filter(|scales| !scales.is_empty());
        stored.ok_or_else(|| String::from("a scale that is not stored"))
    }

    /// Zero points that the graph stores; 0 where `name` is empty.
    fn zeros(&self, name: &str) -> Fit<Vec<i32>> {
        if name.is_empty() {
            return Ok(vec![0]);
        }
        let stored = self.stored(name).and_then(whole).ok_or("a zero point that is not stored")?;
        Ok(stored.to_vec())
    }

    /// One scale and zero point. `signed`: where there is no zero point, what it would be.
    fn levels(&mut self, scale: &str, zero: &str, signed: Option<bool>) -> Fit<Levels> {
        let [step] = self.scales(scale)?[..] else {
            return Err(String::from("a scale for each channel of a computed value"));
        };
        if !step.is_finite() || step.is_sign_negative() {
            return Err(format!("a scale of {step}"));
        }
        let mut zero = zero.to_owned();
        let signed = match self.stored(&zero) {
            Some(tensor) if is_byte(tensor.data_type) => tensor.data_type == INT8,
            Some(_) => return Err(String::from("numbers other than of 8 bits")),
            None if zero.is_empty() => signed.ok_or("neither a zero point nor a known type")?,
            None => return Err(String::from("a zero point that is not stored")),
        };
        let [zero_point] = self.zeros(&zero)?[..] else {
            return Err(String::from("other than one zero point"));
        };
        if zero.is_empty() && signed {
            zero = self.signed_zeros(1);
        }
        let divisor = self.divisor(scale, step);
        Ok(Levels { scale: scale.to_owned(), zero, divisor, step, zero_point, signed })
    }

    /// A scale to divide by. That of a value which has always been zero is 0 in some files: every level of it
    /// stands for 0, but nothing divided by nothing is no number.
    fn divisor(&mut self, scale: &str, step: f32) -> String {
        if step.is_normal() {
            return scale.to_owned();
        }
        let float_data = vec![f32::MIN_POSITIVE];
        self.constant("scale", TensorProto { data_type: FLOAT, float_data, ..TensorProto::default() })
    }

    /// Zero points of numbers with a sign, which tract takes for unsigned ones without them.
    fn signed_zeros(&mut self, count: usize) -> String {
        let dims = if count == 1 { Vec::new() } else { vec![count as i64] };
        let tensor =
            TensorProto { dims, data_type: INT8, int32_data: vec![0; count], ..TensorProto::default() };
        self.constant("zero", tensor)
    }

    /// Weights that the graph stores, as floats; `axis`: of the scales where there are several.
    fn weights(&mut self, name: &str, scales: &[f32], zeros: &[i32], axis: i64) -> Fit<String> {
        let tensor = self.stored(name).ok_or("weights that are not stored")?;
        let weights = Weights::of(tensor, scales, zeros, axis)?;
        if let Some(made) = self.weights.get(&weights) {
            return Ok(made.clone());
        }
        let made = self.fresh("weights");
        self.weights.insert(weights, made.clone());
        Ok(made)
    }

    /// The floats of a value of 8 bits with these levels.
    fn floats(&mut self, value: &str, levels: &Levels) -> Fit<String> {
        if self.stored(value).is_some() {
            return self.weights(value, &[levels.step], &[levels.zero_point], 0);
        }
        let key = [value, &levels.scale, &levels.zero].map(str::to_owned);
        if let Some(made) = self.floats.get(&key) {
            return Ok(made.clone());
        }
        let mut inputs = key.to_vec();
        inputs.retain(|name| !name.is_empty());
        let made = self.add("DequantizeLinear", inputs, Vec::new());
        self.floats.insert(key, made.clone());
        Ok(made)
    }

    /// Weights of a product of matrices, whose scales and zero points are those of columns.
    fn columns(&mut self, name: &str, scales: &[f32], zeros: &[i32]) -> Fit<String> {
        let is_vector = self.stored(name).is_some_and(|tensor| tensor.dims.len() < 2);
        if is_vector && scales.len().max(zeros.len()) > 1 {
            return Err(String::from("several scales of one column"));
        }
        self.weights(name, scales, zeros, -1)
    }

    /// Makes `value` of floats.
    fn bytes(&mut self, floats: String, levels: Levels, value: &str) {
        let mut input = vec![floats, levels.divisor.clone(), levels.zero.clone()];
        input.retain(|name| !name.is_empty());
        let (name, output) = (self.fresh("QuantizeLinear"), vec![value.to_owned()]);
        let op_type = String::from("QuantizeLinear");
        self.nodes.push(NodeProto { op_type, name, input, output, ..NodeProto::default() });
        self.known.insert(value.to_owned(), Known::Static(levels));
    }

    /// Remembers the levels; a type without a zero point, which tract does not look at, gets one.
    fn quantize(&mut self, node: &mut NodeProto) -> Fit<bool> {
        let contributed = node.domain == CONTRIBUTED_DOMAIN;
        let dtype = refuse::integer(node, "output_dtype", i64::from(UINT8));
        let signed = match i32::try_from(dtype) {
            Ok(INT8) => true,
            // without a word about it: of the type of the zero point
            Ok(0 | UINT8) => false,
            _ => return Err(String::from("numbers other than of 8 bits")),
        };
        if input(node, 2).is_empty() && signed {
            let count = self.scales(input(node, 1))?.len();
            node.input.truncate(2);
            node.input.push(self.signed_zeros(count));
        }
        let (scale, zero) = (input(node, 1), input(node, 2));
        let bytes = self.stored(zero).is_none_or(|zero| is_byte(zero.data_type));
        // those of onnxruntime's domain are the same where the numbers are of 8 bits
        if contributed && !bytes {
            return Err(String::from("numbers other than of 8 bits"));
        }
        if let Ok(levels) = self.levels(scale, zero, Some(signed)) {
            node.input[1].clone_from(&levels.divisor);
            self.known.extend(node.output.first().map(|value| (value.clone(), Known::Static(levels))));
        }
        node.domain.clear();
        self.nodes.push(std::mem::take(node));
        Ok(true)
    }

    /// What is stored becomes floats, and so does what was quantised dynamically.
    fn dequantize(&mut self, node: &mut NodeProto) -> Fit<bool> {
        let (value, scale, zero) = (input(node, 0), input(node, 1), input(node, 2));
        let Some(output) = node.output.first().cloned() else { return Ok(false) };
        if let Some(Known::Dynamic { scale: made, zero: made_zero, floats }) = self.known.get(value)
            && (made.as_str(), made_zero.as_str()) == (scale, zero)
        {
            let input = vec![floats.clone()];
            let (op_type, name) = (String::from("Identity"), node.name.clone());
            self.nodes.push(NodeProto { op_type, name, input, output: vec![output], ..NodeProto::default() });
            return Ok(true);
        }
        let plain = refuse::integer(node, "block_size", 0) == 0
            && [0, i64::from(FLOAT)].contains(&refuse::integer(node, "output_dtype", 0));
        if let Some(tensor) = self.stored(value)
            && plain
            && let Ok(scales) = self.scales(scale)
            && let Ok(zeros) = self.zeros(zero)
            && let Ok(weights) = Weights::of(tensor, &scales, &zeros, refuse::integer(node, "axis", 1))
        {
            match self.weights.get(&weights).cloned() {
                None => {
                    self.weights.insert(weights, output);
                }
                Some(made) => {
                    let (op_type, name, output) = (String::from("Identity"), node.name.clone(), vec![output]);
                    self.nodes.push(NodeProto {
                        op_type,
                        name,
                        input: vec![made],
                        output,
                        ..NodeProto::default()
                    });
                }
            }
            return Ok(true);
        }
        if node.domain == CONTRIBUTED_DOMAIN {
            let types = [value, zero].map(|name| self.stored(name).map(|tensor| tensor.data_type));
            if types.into_iter().flatten().any(|data_type| !is_byte(data_type)) {
                return Err(String::from("numbers other than of 8 bits"));
            }
            node.domain.clear();
        }
        self.nodes.push(std::mem::take(node));
        Ok(true)
    }

    /// The floats behind a dynamically quantised value `of`.
    fn dynamic_floats(&mut self, of: &str) -> String {
        if let Some(made) = self.dynamic.get(of) {
            return made.clone();
        }
        let made = self.add(DYNAMIC_QUANTIZED, vec![of.to_owned()], Vec::new());
        self.dynamic.insert(of.to_owned(), made.clone());
        made
    }
}

/// The name of an input; empty where it is left out.
fn input(node: &NodeProto, place: usize) -> &str {
    node.input.get(place).map_or("", String::as_str)
}

#[cfg(test)]
mod tests;
