//! What is refused by name, because it would be something else than what the file says.
//!
//! [`OPERATORS`] is the whole of what is supported: each operator that `tests/onnx` has compared with
//! onnxruntime, with the attributes that are honoured. An attribute that is not in the list would be ignored
//! by whoever builds the operator.

use super::precision::{FLOAT16, INT64};
use super::{artefact, clean};
use crate::error::Result;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// Operators of ONNX's own domain and their attributes.
const OPERATORS: &[(&str, &str)] = &[
    ("Abs", ""),
    ("Acos", ""),
    ("Acosh", ""),
    ("Add", ""),
    ("And", ""),
    ("ArgMax", "axis keepdims select_last_index"),
    ("ArgMin", "axis keepdims select_last_index"),
    ("Asin", ""),
    ("Asinh", ""),
    ("Atan", ""),
    ("Atanh", ""),
    ("AveragePool", "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides"),
    ("BatchNormalization", "epsilon momentum spatial training_mode"),
    ("BitShift", "direction"),
    ("BitwiseAnd", ""),
    ("BitwiseNot", ""),
    ("BitwiseOr", ""),
    ("BitwiseXor", ""),
    ("BlackmanWindow", "output_datatype periodic"),
    ("Cast", "round_mode saturate to"),
    ("CastLike", "round_mode saturate"),
    ("Ceil", ""),
    ("Celu", "alpha"),
    ("Clip", "max min"),
    ("Concat", "axis"),
    ("Constant", "value value_float value_floats value_int value_ints"),
    ("ConstantOfShape", "value"),
    ("Conv", "auto_pad dilations group kernel_shape pads strides"),
    ("ConvInteger", "auto_pad dilations group kernel_shape pads strides"),
    ("ConvTranspose", "auto_pad dilations group kernel_shape output_padding output_shape pads strides"),
    ("Cos", ""),
    ("Cosh", ""),
    ("CumSum", "exclusive reverse"),
    ("DFT", "axis inverse onesided"),
    ("DepthToSpace", "blocksize mode"),
    ("DequantizeLinear", "axis block_size output_dtype"),
    ("Div", ""),
    ("Dropout", "ratio seed"),
    ("DynamicQuantizeLinear", ""),
    ("Einsum", "equation"),
    ("Elu", "alpha"),
    ("Equal", ""),
    ("Erf", ""),
    ("Exp", ""),
    ("Expand", ""),
    ("EyeLike", "dtype k"),
    ("Flatten", "axis"),
    ("Floor", ""),
    ("GRU", "activations direction hidden_size layout linear_before_reset"),
    ("Gather", "axis"),
    ("GatherElements", "axis"),
    ("GatherND", "batch_dims"),
    ("Gelu", "approximate"),
    ("Gemm", "alpha beta transA transB"),
    ("GlobalAveragePool", ""),
    ("GlobalLpPool", "p"),
    ("GlobalMaxPool", ""),
    ("Greater", ""),
    ("GreaterOrEqual", ""),
    ("GridSample", "align_corners mode padding_mode"),
    ("GroupNormalization", "epsilon num_groups stash_type"),
    ("HammingWindow", "output_datatype periodic"),
    ("HannWindow", "output_datatype periodic"),
    ("HardSigmoid", "alpha beta"),
    ("HardSwish", ""),
    ("Hardmax", "axis"),
    ("Identity", ""),
    ("If", "else_branch then_branch"),
    ("InstanceNormalization", "epsilon"),
    ("IsInf", "detect_negative detect_positive"),
    ("IsNaN", ""),
    ("LRN", "alpha beta bias size"),
    ("LSTM", "activations direction hidden_size layout"),
    ("LayerNormalization", "axis epsilon stash_type"),
    ("LeakyRelu", "alpha"),
    ("Less", ""),
    ("LessOrEqual", ""),
    ("Log", ""),
    ("LogSoftmax", "axis"),
    ("LpNormalization", "axis p"),
    ("MatMul", ""),
    ("MatMulInteger", ""),
    ("Max", ""),
    ("MaxPool", "auto_pad ceil_mode dilations kernel_shape pads storage_order strides"),
    ("Mean", ""),
    ("MeanVarianceNormalization", "axes"),
    ("MelWeightMatrix", "output_datatype"),
    ("Min", ""),
    ("Mish", ""),
    ("Mod", "fmod"),
    ("Mul", ""),
    ("Neg", ""),
    ("NonMaxSuppression", "center_point_box"),
    ("NonZero", ""),
    ("Not", ""),
    ("OneHot", "axis"),
    ("Or", ""),
    ("PRelu", ""),
    ("Pad", "mode pads value"),
    ("Pow", ""),
    ("QLinearConv", "auto_pad dilations group kernel_shape pads strides"),
    ("QLinearMatMul", ""),
    ("QuantizeLinear", "axis block_size output_dtype precision saturate"),
    ("RMSNormalization", "axis epsilon stash_type"),
    ("RNN", "activations direction hidden_size layout"),
    ("Range", "stash_type"),
    ("Reciprocal", ""),
    ("ReduceL1", "axes keepdims noop_with_empty_axes"),
    ("ReduceL2", "axes keepdims noop_with_empty_axes"),
    ("ReduceLogSum", "axes keepdims noop_with_empty_axes"),
    ("ReduceLogSumExp", "axes keepdims noop_with_empty_axes"),
    ("ReduceMax", "axes keepdims noop_with_empty_axes"),
    ("ReduceMean", "axes keepdims noop_with_empty_axes"),
    ("ReduceMin", "axes keepdims noop_with_empty_axes"),
    ("ReduceProd", "axes keepdims noop_with_empty_axes"),
    ("ReduceSum", "axes keepdims noop_with_empty_axes"),
    ("ReduceSumSquare", "axes keepdims noop_with_empty_axes"),
    ("Relu", ""),
    ("Reshape", "allowzero"),
    (
        "Resize",
        "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value \
         keep_aspect_ratio_policy mode nearest_mode",
    ),
    ("RotaryEmbedding", "interleaved num_heads rotary_embedding_dim"),
    ("Round", ""),
    ("STFT", "onesided"),
    (
        "Scan",
        "body num_scan_inputs scan_input_axes scan_input_directions scan_output_axes scan_output_directions",
    ),
    ("Scatter", "axis"),
    ("ScatterElements", "axis reduction"),
    ("ScatterND", "reduction"),
    ("Selu", "alpha gamma"),
    ("Shape", "end start"),
    ("Shrink", "bias lambd"),
    ("Sigmoid", ""),
    ("Sign", ""),
    ("Sin", ""),
    ("Sinh", ""),
    ("Size", ""),
    ("Slice", "axes ends starts"),
    ("Softmax", "axis"),
    ("Softplus", ""),
    ("Softsign", ""),
    ("SpaceToDepth", "blocksize mode"),
    ("Split", "axis num_outputs split"),
    ("Sqrt", ""),
    ("Squeeze", "axes"),
    ("Sub", ""),
    ("Sum", ""),
    ("Swish", "alpha"),
    ("Tan", ""),
    ("Tanh", ""),
    ("ThresholdedRelu", "alpha"),
    ("Tile", ""),
    ("TopK", "axis k largest sorted"),
    ("Transpose", "perm"),
    ("Trilu", "upper"),
    ("Unsqueeze", "axes"),
    ("Upsample", "mode scales"),
    ("Where", ""),
    ("Xor", ""),
];

/// Operators that onnxruntime adds when it optimises or quantises a file.
const CONTRIBUTED: &[(&str, &str)] = &[
    ("BiasGelu", ""),
    ("DequantizeLinear", "axis"),
    ("DynamicQuantizeMatMul", ""),
    ("FastGelu", ""),
    ("Gelu", ""),
    ("MatMulIntegerToFloat", ""),
    ("QGemm", "alpha transA transB"),
    ("QLinearAdd", ""),
    ("QLinearAveragePool", "auto_pad ceil_mode channels_last count_include_pad kernel_shape pads strides"),
    ("QLinearConcat", "axis"),
    ("QLinearConv", "auto_pad channels_last dilations group kernel_shape pads strides"),
    ("QLinearGlobalAveragePool", "channels_last"),
    ("QLinearLeakyRelu", "alpha"),
    ("QLinearMul", ""),
    ("QLinearSigmoid", ""),
    ("QLinearSoftmax", "axis opset"),
    ("QLinearWhere", ""),
    ("QuantizeLinear", "axis"),
    ("QuickGelu", "alpha"),
];
/// The domain of those.
pub(super) const CONTRIBUTED_DOMAIN: &str = "com.microsoft";

/// Numbers of floats of 8 and 4 bits and of other kinds that nothing here calculates with.
const TEXT: i64 = 8;
const BFLOAT16: i64 = 16;

/// Looks at every node of the graph and of those inside it.
pub(super) fn check(graph: &GraphProto) -> Result<()> {
    for node in &graph.node {
        if let Some(reason) = refusal(node) {
            return Err(artefact(reason));
        }
        for inner in node.attribute.iter().flat_map(graphs_of) {
            // protobuf's own nesting limit (100) bounds this recursion
            check(inner)?;
        }
    }
    Ok(())
}

/// Graphs inside a node.
pub(super) fn graphs_of(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
}

/// What a node is, for people.
pub(super) fn named(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
    let domain = match node.domain.as_str() {
        "" | "ai.onnx" => String::new(),
        other => format!("{}.", clean(other)),
    };
    format!("operator {domain}{} (node {})", clean(&node.op_type), clean(name))
}

fn refusal(node: &NodeProto) -> Option<String> {
    let what = named(node);
    let list = match node.domain.as_str() {
        "" | "ai.onnx" => OPERATORS,
        CONTRIBUTED_DOMAIN => CONTRIBUTED,
        _ => return Some(format!("{what} is not supported")),
    };
    let Some((_, attributes)) = list.iter().find(|(known, _)| *known == node.op_type) else {
        return Some(format!("{what} is not supported"));
    };
    let unknown = node
        .attribute
        .iter()
        .find(|given| !attributes.split_ascii_whitespace().any(|known| known == given.name));
    if let Some(unknown) = unknown {
        return Some(format!("{what} with attribute {} is not supported", clean(&unknown.name)));
    }
    peculiar(node).map(|how| format!("{what} with {how} is not supported"))
}

fn given<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

pub(super) fn integer(node: &NodeProto, name: &str, absent: i64) -> i64 {
    given(node, name).map_or(absent, |attribute| attribute.i)
}

pub(super) fn word<'a>(node: &'a NodeProto, name: &str, absent: &'a str) -> std::borrow::Cow<'a, str> {
    given(node, name).map_or(absent.into(), |attribute| String::from_utf8_lossy(&attribute.s))
}

/// What is built wrongly, or not at all, though the operator and its attributes are known.
fn peculiar(node: &NodeProto) -> Option<String> {
    let when = |odd: bool, how: &str| odd.then(|| how.to_owned());
    match node.op_type.as_str() {
        "Cast" => match integer(node, "to", 1) {
            TEXT => Some(String::from("texts")),
            to @ BFLOAT16.. => Some(format!("numbers of type {to}")),
            _ => None,
        },
        "RNN" | "GRU" | "LSTM" => {
            let usual: &[&str] = match node.op_type.as_str() {
                "RNN" => &["Tanh"],
                "GRU" => &["Sigmoid", "Tanh"],
                _ => &["Sigmoid", "Tanh", "Tanh"],
            };
            let names = given(node, "activations").map(|list| list.strings.as_slice()).unwrap_or_default();
            let other = names.iter().zip(usual.iter().cycle()).any(|(name, usual)| name != usual.as_bytes());
            let direction = word(node, "direction", "forward");
            when(other, "other activations")
                .or_else(|| when(direction != "forward", &format!("direction {}", clean(&direction))))
                .or_else(|| when(integer(node, "layout", 0) != 0, "layout 1"))
        }
        "BatchNormalization" => when(integer(node, "training_mode", 0) != 0, "training_mode"),
        "Dropout" => when(node.output.get(1).is_some_and(|mask| !mask.is_empty()), "its mask as an output"),
        "GridSample" => {
            let mode = word(node, "mode", "linear");
            let cubic = mode == "cubic" || mode == "bicubic";
            when(cubic && word(node, "padding_mode", "zeros") != "zeros", "cubic weights and a padding_mode")
        }
        "Swish" => when(given(node, "alpha").is_some_and(|alpha| alpha.f != 1.0), "an alpha other than 1"),
        "QuantizeLinear" | "DequantizeLinear" => {
            let dtype = integer(node, "output_dtype", 0);
            when(integer(node, "block_size", 0) != 0, "blocks")
                .or_else(|| when(dtype > i64::from(INT64), "that output_dtype"))
        }
        "SpaceToDepth" => when(word(node, "mode", "DCR") != "DCR", "a mode other than DCR"),
        "TopK" => when(integer(node, "sorted", 1) == 0, "sorted 0"),
        "Constant" => when(node.attribute.len() != 1, "other than one value"),
        "EyeLike" => when(integer(node, "dtype", 1) > i64::from(FLOAT16), "that dtype"),
        _ => None,
    }
}
