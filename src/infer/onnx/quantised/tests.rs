#![allow(clippy::unwrap_used)]
use super::*;
use crate::infer::onnx::precision::INT32;
use tract_onnx::pb::ValueInfoProto;

const BUDGET_BYTES: u64 = 1 << 20;

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn node(op: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: format!("make {}", output[0]),
        input: texts(input),
        output: texts(output),
        ..NodeProto::default()
    }
}

fn contributed(node: NodeProto) -> NodeProto {
    NodeProto { domain: CONTRIBUTED_DOMAIN.to_owned(), ..node }
}

fn with(mut node: NodeProto, name: &str, i: i64) -> NodeProto {
    node.attribute.push(AttributeProto { name: name.to_owned(), r#type: 2, i, ..AttributeProto::default() });
    node
}

fn tensor(name: &str, data_type: i32, dims: &[i64], values: &[f32]) -> TensorProto {
    let mut tensor =
        TensorProto { name: name.to_owned(), data_type, dims: dims.to_vec(), ..TensorProto::default() };
    match data_type {
        FLOAT => tensor.float_data = values.to_vec(),
        INT32 => tensor.int32_data = values.iter().map(|value| *value as i32).collect(),
        INT8 => tensor.raw_data = values.iter().map(|value| (*value as i8).cast_unsigned()).collect(),
        _ => tensor.raw_data = values.iter().map(|value| *value as u8).collect(),
    }
    tensor
}

fn graph(node: &[NodeProto], initializer: &[TensorProto], output: &[&str]) -> GraphProto {
    let value = |name: &&str| ValueInfoProto { name: (*name).to_owned(), ..ValueInfoProto::default() };
    GraphProto {
        node: node.to_vec(),
        initializer: initializer.to_vec(),
        input: vec![value(&"x")],
        output: output.iter().map(value).collect(),
        ..GraphProto::default()
    }
}

fn rewritten(mut graph: GraphProto) -> Result<GraphProto> {
    to_floats(&mut graph, 13, BUDGET_BYTES)?;
    Ok(graph)
}

fn operators(graph: &GraphProto) -> Vec<&str> {
    graph.node.iter().map(|node| node.op_type.as_str()).collect()
}

/// The stored input of a node.
fn weights<'a>(graph: &'a GraphProto, op: &str, place: usize) -> &'a TensorProto {
    let node = graph.node.iter().find(|node| node.op_type == op).unwrap();
    graph.initializer.iter().find(|tensor| tensor.name == node.input[place]).unwrap()
}

fn dynamic() -> NodeProto {
    node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"])
}

fn cast() -> NodeProto {
    with(node("Cast", &["acc"], &["f"]), "to", i64::from(FLOAT))
}

fn kernel() -> TensorProto {
    tensor("w", INT8, &[2, 1, 1, 2], &[1.0, -2.0, 3.0, 127.0])
}

#[test]
fn dynamic_convolutions_are_found_however_their_scales_are_multiplied() {
    let conv = || with(node("ConvInteger", &["q", "w", "z"], &["acc"]), "group", 1);
    let ways: [&[NodeProto]; 4] = [
        &[node("Mul", &["s", "ws"], &["m"]), cast(), node("Mul", &["f", "m"], &["y"])],
        &[node("Mul", &["ws", "s"], &["m"]), cast(), node("Mul", &["m", "f"], &["y"])],
        &[cast(), node("Mul", &["f", "s"], &["m"]), node("Mul", &["m", "ws"], &["y"])],
        &[cast(), node("Mul", &["ws", "f"], &["m"]), node("Mul", &["s", "m"], &["y"])],
    ];
    for scales in [&[0.1f32, 0.7][..], &[0.1]] {
        let steps = tensor("ws", FLOAT, &[scales.len() as i64, 1, 1], scales);
        for way in ways {
            let nodes = [&[dynamic(), conv()], way, &[node("Relu", &["y"], &["out"])]].concat();
            let made = rewritten(graph(&nodes, &[kernel(), steps.clone()], &["out"])).unwrap();
            assert_eq!(operators(&made), [DYNAMIC_QUANTIZED, "Conv", "Relu"]);
            assert_eq!(
                (made.node[1].output[0].as_str(), made.node[1].attribute[0].name.as_str()),
                ("y", "group")
            );
            let last = scales.last().unwrap();
            let right = [scales[0], -2.0 * scales[0], 3.0 * last, 127.0 * last];
            assert_eq!(weights(&made, "Conv", 1).float_data, right);
            // what nothing reads any more is not kept
            assert_eq!(made.initializer.len(), 1);
        }
    }
    // along the width: no scales of the channels
    let steps = tensor("ws", FLOAT, &[2], &[0.1, 0.7]);
    let nodes = [&[dynamic(), conv()], ways[0]].concat();
    let made = rewritten(graph(&nodes, &[kernel(), steps], &["y"])).unwrap();
    assert_eq!(operators(&made), ["DynamicQuantizeLinear", "ConvInteger", "Mul", "Cast", "Mul"]);
}

#[test]
fn one_value_is_quantised_once_and_both_sides_may_be_computed() {
    let nodes = [
        dynamic(),
        node("DynamicQuantizeLinear", &["x"], &["q2", "s2", "z2"]),
        node("Transpose", &["q2"], &["t"]),
        node("MatMulInteger", &["q", "t", "z", "z2"], &["acc"]),
        cast(),
        node("Mul", &["s", "s2"], &["m"]),
        node("Mul", &["f", "m"], &["y"]),
    ];
    let made = rewritten(graph(&nodes, &[], &["y"])).unwrap();
    assert_eq!(operators(&made), [DYNAMIC_QUANTIZED, "Transpose", "MatMul"]);
}

/// A convolution of 8 bits with levels for input, weights (a step for each channel), output and bias.
fn linear_convolution() -> (NodeProto, Vec<TensorProto>) {
    let names = ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"];
    let stored = vec![
        tensor("xs", FLOAT, &[], &[0.5]),
        tensor("xz", UINT8, &[], &[128.0]),
        kernel(),
        tensor("ws", FLOAT, &[2], &[0.1, 0.3]),
        tensor("wz", INT8, &[2], &[0.0, 1.0]),
        tensor("ys", FLOAT, &[1], &[2.0]),
        tensor("yz", UINT8, &[1], &[3.0]),
        tensor("b", INT32, &[2], &[-100_000.0, 9.0]),
    ];
    (node("QLinearConv", &names, &["y"]), stored)
}

#[test]
fn operators_of_8_bits_stand_between_their_levels() {
    let (conv, mut stored) = linear_convolution();
    stored.push(tensor("w", INT8, &[0], &[]));
    stored.pop();
    let nodes = [
        node("QuantizeLinear", &["x", "xs", "xz"], &["q"]),
        conv,
        node("MaxPool", &["y"], &["pooled"]),
        node("DequantizeLinear", &["pooled", "ys", "yz"], &["out"]),
    ];
    let made = rewritten(graph(&nodes, &stored, &["out"])).unwrap();
    let pair = ["QuantizeLinear", "DequantizeLinear"];
    let right = [&pair[..], &["Conv"], &pair, &["MaxPool"], &pair].concat();
    assert_eq!(operators(&made), right);
    assert_eq!(weights(&made, "Conv", 1).float_data, [0.1, -2.0 * 0.1, 2.0 * 0.3, 126.0 * 0.3]);
    assert_eq!(weights(&made, "Conv", 2).float_data, [-100_000.0 * (0.5 * 0.1), 9.0 * (0.5 * 0.3)]);
    assert_eq!(made.node[2].name, "make y");
}

#[test]
fn levels_of_padding_and_of_signed_numbers_without_a_zero_point_are_what_they_stand_for() {
    let stored = [
        tensor("s", FLOAT, &[], &[0.5]),
        tensor("z", INT8, &[], &[-10.0]),
        tensor("value", INT8, &[], &[6.0]),
        tensor("pads", 7, &[0], &[]),
    ];
    let quantize = node("QuantizeLinear", &["x", "s", "z"], &["q"]);
    let padded = |inputs: &[&str]| {
        let nodes = [quantize.clone(), node("Pad", inputs, &["y"])];
        rewritten(graph(&nodes, &stored, &["y"])).unwrap()
    };
    assert_eq!(weights(&padded(&["q", "pads", "value"]), "Pad", 2).float_data, [8.0]);
    // nothing said: the number 0, not the zero point
    assert_eq!(weights(&padded(&["q", "pads"]), "Pad", 2).float_data, [5.0]);

    let nodes = [with(node("QuantizeLinear", &["x", "s"], &["y"]), "output_dtype", i64::from(INT8))];
    let made = rewritten(graph(&nodes, &stored, &["y"])).unwrap();
    assert_eq!(weights(&made, "QuantizeLinear", 2).data_type, INT8);
}

#[test]
fn stored_weights_are_floats_once() {
    let stored = [
        kernel(),
        tensor("s", FLOAT, &[2], &[0.1, 0.3]),
        tensor("z", INT8, &[2], &[0.0, 0.0]),
        tensor("one", FLOAT, &[], &[0.5]),
    ];
    let nodes = [
        with(node("DequantizeLinear", &["w", "s", "z"], &["a"]), "axis", 0),
        with(node("DequantizeLinear", &["w", "s", "z"], &["b"]), "axis", -4),
        node("DequantizeLinear", &["w", "one"], &["c"]),
        node("Conv", &["x", "a"], &["y"]),
        node("Conv", &["y", "b"], &["y2"]),
        node("Conv", &["y2", "c"], &["out"]),
    ];
    let made = rewritten(graph(&nodes, &stored, &["out"])).unwrap();
    assert_eq!(operators(&made), ["Identity", "Conv", "Conv", "Conv"]);
    assert_eq!(weights(&made, "Conv", 1).float_data, [0.1, -0.2, 3.0 * 0.3, 127.0 * 0.3]);
    assert_eq!(made.initializer.len(), 2);
    let mut large = graph(&nodes, &stored, &["out"]);
    assert!(to_floats(&mut large, 13, 31).unwrap_err().message().contains("weights"));
}

#[test]
fn what_cannot_be_floats_is_refused_by_name_where_nobody_else_knows_it() {
    let refusal = |node: NodeProto, stored: &[TensorProto]| {
        let error = rewritten(graph(&[node], stored, &["y"])).unwrap_err();
        error.message().to_owned()
    };
    let (conv, stored) = linear_convolution();
    let last = with(contributed(conv.clone()), "channels_last", 1);
    let text = refusal(last, &stored);
    assert!(text.contains("com.microsoft.QLinearConv (node make y) with channels_last"), "{text}");
    assert!(text.contains("QuantFormat.QDQ"), "{text}");
    // ONNX's own stays for tract
    for missing in ["xs", "w", "ws", "wz", "ys"] {
        let left: Vec<TensorProto> = stored.iter().filter(|tensor| tensor.name != missing).cloned().collect();
        let made = rewritten(graph(std::slice::from_ref(&conv), &left, &["y"])).unwrap();
        assert!(operators(&made).contains(&"QLinearConv"), "{missing}");
        let text = refusal(contributed(conv.clone()), &left);
        assert!(text.contains("com.microsoft.QLinearConv (node make y)"), "{text}");
    }
    // steps that are none, too few inputs, numbers of other sizes
    for scale in [-1.0, f32::NAN, f32::INFINITY] {
        let stored = [tensor("s", FLOAT, &[], &[scale]), tensor("z", UINT8, &[], &[0.0])];
        let sigmoid = node("QLinearSigmoid", &["x", "s", "z", "s", "z"], &["y"]);
        assert!(
            refusal(contributed(sigmoid), &stored).contains("QLinearSigmoid (node make y) with a scale of")
        );
    }
    let infinite = [tensor("s", FLOAT, &[], &[f32::INFINITY]), tensor("z", UINT8, &[], &[0.0])];
    for op in ["QuantizeLinear", "DequantizeLinear"] {
        let text = refusal(node(op, &["x", "s", "z"], &["y"]), &infinite);
        assert!(text.contains(&format!("{op} (node make y) with a scale of inf")), "{text}");
    }
    let odd = [
        "QGemm",
        "QLinearAdd",
        "QLinearMul",
        "QLinearConcat",
        "QLinearWhere",
        "QLinearSoftmax",
        "QLinearLeakyRelu",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
    ];
    for op in odd {
        for inputs in [&[][..], &["x"], &["x", "x", "x", "x", "x", "x", "x", "x", "x"]] {
            assert!(
                refusal(contributed(node(op, inputs, &["y"])), &[])
                    .contains(&format!("com.microsoft.{op} (node"))
            );
        }
    }
    let wide = [tensor("s", FLOAT, &[], &[0.1]), tensor("z", INT32, &[], &[0.0])];
    let text = refusal(contributed(node("QuantizeLinear", &["x", "s", "z"], &["y"])), &wide);
    assert!(text.contains("numbers other than of 8 bits"), "{text}");
    // inside another node
    let inner = graph(&[contributed(node("QLinearAdd", &["x"], &["y"]))], &[], &["y"]);
    let mut outer = node("If", &["x"], &["y"]);
    outer.attribute.push(AttributeProto {
        name: String::from("then_branch"),
        g: Some(inner),
        ..AttributeProto::default()
    });
    assert!(refusal(outer, &[]).contains("com.microsoft.QLinearAdd (node make y) with a place inside"));
}

/// onnxruntime's quantiser writes a scale of 0 for what has always been zero.
#[test]
fn nothing_is_divided_by_a_scale_of_0() {
    let stored = [tensor("s", FLOAT, &[], &[0.0]), tensor("z", UINT8, &[], &[7.0])];
    let nodes = [
        node("QuantizeLinear", &["x", "s", "z"], &["q"]),
        contributed(node("QLinearSigmoid", &["q", "s", "z", "s", "z"], &["y"])),
        node("DequantizeLinear", &["y", "s", "z"], &["out"]),
    ];
    let made = rewritten(graph(&nodes, &stored, &["out"])).unwrap();
    let pair = ["QuantizeLinear", "DequantizeLinear"];
    assert_eq!(operators(&made), [&pair[..], &["Sigmoid"], &pair].concat());
    for node in &made.node {
        let right = match node.op_type.as_str() {
            "QuantizeLinear" => f32::MIN_POSITIVE,
            "DequantizeLinear" => 0.0,
            _ => continue,
        };
        let scale = made.initializer.iter().find(|tensor| tensor.name == node.input[1]).unwrap();
        assert_eq!(scale.float_data, [right]);
    }
}

/// Tensors that are not what they claim are no weights, and nothing panics over them.
#[test]
fn tensors_that_lie_are_left_alone() {
    let (conv, stored) = linear_convolution();
    let liars = [
        TensorProto { dims: vec![-1], ..kernel() },
        TensorProto { dims: vec![i64::MAX, i64::MAX], ..kernel() },
        TensorProto { dims: vec![], ..kernel() },
        TensorProto { raw_data: Vec::new(), int32_data: vec![1, 2, 3, 400], ..kernel() },
        TensorProto { raw_data: Vec::new(), float_data: vec![1.0; 4], ..kernel() },
        TensorProto { data_type: FLOAT, ..kernel() },
    ];
    for liar in liars {
        let mut stored = stored.clone();
        stored[2] = liar;
        let made = rewritten(graph(std::slice::from_ref(&conv), &stored, &["y"])).unwrap();
        assert_eq!(operators(&made), ["QLinearConv"]);
    }
}
