#!/usr/bin/env python3
"""Makes tests/onnx/stored/: one small case of each operator, with onnxruntime's outputs, for `make test`.

    store.py        (in the environment of `make onnx`)
"""
import pathlib
import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import compare
import operators

HERE = pathlib.Path(__file__).parent / "stored"
CASES = 6000
# More of operators between 8 bits.
EIGHT_BIT_CASES = 600
# Cases of one operator; those with many ways of being wrong have more.
EACH = {"Resize": 6, "Pad": 5, "MaxPool": 4, "AveragePool": 4, "ConvTranspose": 4, "Slice": 3, "ConvInteger": 2, "Upsample": 2, "Mod": 2, "DynamicConv": 2, "DynamicMatMul": 2, "MovedBytes": 3}
MAX_FLOATS = 600


def inputs():
    """The same small detector with every kind of input: `plain.onnx` and what must give the same on the same picture."""
    folder = HERE.parent / "inputs"
    folder.mkdir(exist_ok=True)
    rng = np.random.RandomState(5)
    w, b = rng.uniform(-0.1, 0.1, (7, 3, 8, 8)).astype(np.float32), rng.uniform(-1, 1, 7).astype(np.float32)
    node, tensor, info = helper.make_node, numpy_helper.from_array, helper.make_tensor_value_info
    F, U8, I64, F16, F64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.DOUBLE

    def save(name, before=(), kind=F, dims=(1, 3, 16, 16), dtype=np.float32, more=(), last=(), functions=(), act="Sigmoid", batch=1, domain=""):
        weights = [tensor(w.astype(dtype), "w"), tensor(b.astype(dtype), "b"), tensor(np.array([batch, 7, 4]), "shape")]
        first = before[-1].output[0] if before else "images"
        nodes = [*before, node("Conv", [first, "w", "b"], ["c"], strides=[8, 8]), node(act, ["c"], ["s"], domain=domain)]
        nodes += [node("Reshape", ["s", "shape"], ["output0" if not last else "r"]), *last]
        graph = helper.make_graph(nodes, name, [info("images", kind, dims), *more], [info("output0", F, None)], weights)
        imports = [helper.make_opsetid("", 13)] + ([helper.make_opsetid("own", 1)] if functions else [])
        model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)
        model.metadata_props.append(onnx.StringStringEntryProto(key="names", value="{0: 'a', 1: 'b', 2: 'c'}"))
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        return model

    save("plain")
    turned = node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2])
    save("interleaved", [turned], dims=(1, 16, 16, 3))
    as_floats = [node("Cast", ["images"], ["f"], to=F), node("Constant", [], ["k"], value_float=255.0), node("Div", ["f", "k"], ["x"])]
    save("bytes", as_floats, U8)
    save("interleaved-bytes", [turned, node("Cast", ["planes"], ["f"], to=F), *as_floats[1:]], U8, (1, 16, 16, 3))
    save("batch", dims=(4, 3, 16, 16), batch=4)
    save("sizes", more=[info("orig_target_sizes", I64, [1, 2]), info("im_shape", F, [1, 2])], last=[
        node("Cast", ["orig_target_sizes"], ["o"], to=F), node("Div", ["o", "im_shape"], ["q"]), node("ReduceMean", ["q"], ["m"], axes=[0, 1], keepdims=0), node("Mul", ["r", "m"], ["output0"])])
    save("half", kind=F16, dtype=np.float16, last=[node("Cast", ["r"], ["output0"], to=F)])
    save("double", [node("Cast", ["images"], ["d"], to=F64)], dtype=np.float64, last=[node("Cast", ["r"], ["output0"], to=F)])
    body = [node("Sigmoid", ["x"], ["y0"]), node("Identity", ["y0"], ["y"])]
    own = helper.make_function("own", "Act", ["x"], ["y"], body, [helper.make_opsetid("", 18)])
    save("function", functions=[own], act="Act", domain="own")
    model = save("external")
    onnx.save_model(model, folder / "external.onnx", save_as_external_data=True, all_tensors_to_one_file=True, location="external.bin", size_threshold=256)


def quantized():
    """Two convolutions, SiLU and a shortcut between 8 bits, as exporters write them (QDQ): weights per channel, biases of 32 bits.

    The right values are those of the operators one by one (onnxruntime without its optimisations, which round once less)."""
    import onnxruntime

    node, tensor, info = helper.make_node, numpy_helper.from_array, helper.make_tensor_value_info
    random_numbers = np.random.default_rng(19)
    weights, nodes = [], []

    def constant(name, values):
        weights.append(tensor(np.asarray(values), name))
        return name

    def between(name, scale, zero, signed=False):
        """The value through 8 bits."""
        kind = np.int8 if signed else np.uint8
        sides = [constant(f"{name}.scale", np.float32(scale)), constant(f"{name}.zero", kind(zero))]
        nodes.append(node("QuantizeLinear", [name, *sides], [f"{name}.q"]))
        nodes.append(node("DequantizeLinear", [f"{name}.q", *sides], [f"{name}.d"]))
        return f"{name}.d"

    def convolution(name, source, scale, shape, **attributes):
        channels = shape[0]
        steps = (random_numbers.random(channels) * 0.01 + 0.002).astype(np.float32)
        w = constant(f"{name}.w", random_numbers.integers(-127, 128, shape).astype(np.int8))
        b = constant(f"{name}.b", random_numbers.integers(-2000, 2000, channels).astype(np.int32))
        sides = [constant(f"{name}.w.scale", steps), constant(f"{name}.w.zero", np.zeros(channels, np.int8))]
        nodes.append(node("DequantizeLinear", [w, *sides], [f"{name}.wd"], axis=0))
        sides = [constant(f"{name}.b.scale", (steps * np.float32(scale)).astype(np.float32)), constant(f"{name}.b.zero", np.zeros(channels, np.int32))]
        nodes.append(node("DequantizeLinear", [b, *sides], [f"{name}.bd"], axis=0))
        nodes.append(node("Conv", [source, f"{name}.wd", f"{name}.bd"], [name], **attributes))
        return name

    def gated(name, scale):
        x = between(name, scale, 110)
        nodes.append(node("Sigmoid", [x], [f"{name}.sigmoid"]))
        nodes.append(node("Mul", [x, between(f"{name}.sigmoid", 1 / 255, 0)], [f"{name}.silu"]))
        return between(f"{name}.silu", scale / 2, 12)

    picture = between("w_image", 1 / 127, 0, signed=True)
    first = gated(convolution("one", picture, 1 / 127, (20, 3, 3, 3), pads=[1, 1, 1, 1]), 0.05)
    second = gated(convolution("two", first, 0.025, (20, 20, 3, 3), pads=[1, 1, 1, 1]), 0.21)
    nodes.append(node("Add", [first, second], ["sum"]))
    nodes.append(node("Identity", [between("sum", 0.11, 3)], ["output0"]))
    graph = helper.make_graph(nodes, "quantized", [info("w_image", TensorProto.FLOAT, (1, 3, 8, 8))], [info("output0", TensorProto.FLOAT, (1, 20, 8, 8))], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = random_numbers.random((1, 3, 8, 8), dtype=np.float32) * 2 - 1
    right = session.run(None, {"w_image": values})[0]
    (HERE / "Quantized-1.onnx").write_bytes(model.SerializeToString(deterministic=True))
    np.concatenate([values.ravel(), right.ravel()]).tofile(HERE / "Quantized-1.f32")


def quantised_by_onnxruntime():
    """A small net of what detectors have, as onnxruntime's own quantisers write it: `quantize_dynamic` (ConvInteger and MatMulInteger between
    floats) and `quantize_static` with QuantFormat.QOperator (8 bits from end to end), weights per channel and not."""
    import tempfile

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

    b = operators.Builder(random.Random(29), 13)
    b.inputs.append(helper.make_tensor_value_info("w_image", TensorProto.FLOAT, (1, 3, 16, 16)))

    def conv(x, out, channels, kernel, **attributes):
        weights = b.floats(out, channels, kernel, kernel, low=-1, high=1) * np.float32(1.7 / (channels * kernel**2) ** 0.5)
        return b.add("Conv", [x, b.weight(weights), b.weight(b.floats(out, low=-0.3, high=0.3))], pads=[kernel // 2] * 4, **attributes)

    def silu(x):
        return b.add("Mul", [x, b.add("Sigmoid", [x])])

    first = silu(conv("w_image", 12, 3, 3, strides=[2, 2]))
    second = b.add("Add", [first, silu(conv(first, 12, 12, 3))])
    left, right = b.add("Split", [second, b.weight(np.array([5, 7]))], 2, axis=1)
    pooled = b.add("MaxPool", [right], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    joined = b.add("Concat", [left, pooled, b.add("LeakyRelu", [conv(second, 4, 12, 1)], alpha=0.1)], axis=1)
    smaller = b.add("AveragePool", [joined], kernel_shape=[2, 2], strides=[2, 2])
    larger = b.add("Resize", [smaller, "", b.weight(np.array([1, 1, 2, 2], np.float32))], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    b.nodes.append(helper.make_node("Identity", [conv(larger, 6, 16, 3)], ["output0"]))
    rows = b.add("Transpose", [b.add("Reshape", [joined, b.weight(np.array([1, 16, 64]))])], perm=[0, 2, 1])
    rows = b.add("Softmax", [b.add("MatMul", [rows, b.weight(b.floats(16, 5, low=-0.7, high=0.7))])], axis=-1)
    b.nodes.append(helper.make_node("Identity", [rows], ["output1"]))
    for number, made in enumerate(b.nodes):
        made.name = f"node{number}"
    model = b.model([("output0", TensorProto.FLOAT), ("output1", TensorProto.FLOAT)])
    values = b.floats(1, 3, 16, 16, low=0, high=1)

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.left = [{"w_image": values}, {"w_image": b.floats(1, 3, 16, 16, low=0, high=1)}]

        def get_next(self):
            return self.left.pop() if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        # their functions change the model that they are given
        given, place = pathlib.Path(folder) / "given.onnx", pathlib.Path(folder) / "made.onnx"
        given.write_bytes(model.SerializeToString())
        ways = {
            "Dynamic-1": lambda: quantize_dynamic(given, place),
            "QOperator-1": lambda: quantize_static(given, place, Pictures(), quant_format=QuantFormat.QOperator, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True),
            "QOperator-2": lambda: quantize_static(given, place, Pictures(), quant_format=QuantFormat.QOperator, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8),
        }
        for stem, way in ways.items():
            way()
            made = onnx.load(place)
            right = compare.by_onnxruntime(made, {"w_image": values})
            (HERE / f"{stem}.onnx").write_bytes(made.SerializeToString(deterministic=True))
            np.concatenate([values.ravel(), *[r.ravel() for r in right]]).tofile(HERE / f"{stem}.f32")


def masked():
    """Attention of a shifted window as Swin has it: a bias for each head, then a mask that does not let every token see every other, with
    a change of shape around it; and one more attention whose mask is computed."""
    node, tensor, info = helper.make_node, numpy_helper.from_array, helper.make_tensor_value_info
    numbers = np.random.default_rng(23)
    windows, heads, tokens, dim = 2, 2, 6, 8
    weights, nodes = [], []

    def constant(values):
        weights.append(tensor(np.asarray(values), f"k{len(weights)}"))
        return weights[-1].name

    def add(op, *operands, **attributes):
        nodes.append(node(op, operands, [f"n{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def attention(x, masks):
        def part(perm):
            made = add("MatMul", x, constant(numbers.uniform(-0.6, 0.6, (heads * dim, heads * dim)).astype(np.float32)))
            return add("Transpose", add("Reshape", made, constant(np.array([windows, tokens, heads, dim]))), perm=perm)

        query, key, value = part([0, 2, 1, 3]), part([0, 2, 3, 1]), part([0, 2, 1, 3])
        scores = masks(add("Mul", add("MatMul", query, key), constant(np.float32(dim**-0.5))))
        made = add("Transpose", add("MatMul", add("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        return add("Add", x, add("Reshape", made, constant(np.array([windows, tokens, heads * dim]))))

    def shifted(scores):
        bias = constant(numbers.uniform(-1, 1, (1, heads, tokens, tokens)).astype(np.float32))
        unseen = np.where(numbers.random((1, windows, 1, tokens, tokens)) < 0.3, -np.inf, 0).astype(np.float32)
        unseen[..., np.arange(tokens), np.arange(tokens)] = 0
        scores = add("Reshape", add("Add", scores, bias), constant(np.array([1, windows, heads, tokens, tokens])))
        return add("Reshape", add("Add", scores, constant(unseen)), constant(np.array([windows, heads, tokens, tokens])))

    x = add("Reshape", "w_image", constant(np.array([windows, tokens, heads * dim])))
    x = attention(x, shifted)
    of_keys = add("MatMul", x, constant(numbers.uniform(-1, 1, (heads * dim, 1)).astype(np.float32)))
    of_keys = add("Reshape", of_keys, constant(np.array([windows, 1, 1, tokens])))
    x = attention(x, lambda scores: add("Add", of_keys, scores))
    nodes.append(node("Identity", [x], ["output0"]))
    graph = helper.make_graph(nodes, "masked", [info("w_image", TensorProto.FLOAT, (1, 3, 8, 8))], [info("output0", TensorProto.FLOAT, (windows, tokens, heads * dim))], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    values = numbers.random((1, 3, 8, 8), dtype=np.float32) * 2 - 1
    right = compare.by_onnxruntime(model, {"w_image": values})[0]
    assert np.isfinite(right).all()
    (HERE / "Masked-1.onnx").write_bytes(model.SerializeToString(deterministic=True))
    np.concatenate([values.ravel(), right.ravel()]).tofile(HERE / "Masked-1.f32")


def eight_bits(model):
    """What a case of 8 bits is about."""
    operators = {node.op_type for node in model.graph.node}
    if "ConvInteger" in operators:
        return "DynamicConv"
    if "MatMulInteger" in operators:
        return "DynamicMatMul"
    if "QuantizeLinear" in operators:
        return "MovedBytes"
    return model.graph.node[-1].op_type


def main():
    inputs()
    HERE.mkdir(exist_ok=True)
    for old in HERE.glob("*"):
        old.unlink()
    quantized()
    quantised_by_onnxruntime()
    masked()
    kept = {}
    for seed in range(CASES + EIGHT_BIT_CASES):
        kinds = operators.KINDS if seed < CASES else operators.EIGHT_BITS
        name, model, feeds = operators.single(random.Random(seed), kinds)
        operator = name.split("-")[0] if seed < CASES else eight_bits(model)
        if kept.get(operator, 0) >= EACH.get(operator, 1) or operator in ("RNN", "GRU", "LSTM", "Compress"):
            continue
        wrapped = compare.wrap(compare.Case(name, model, feeds))
        if wrapped is None:
            continue
        model, picture, _ = wrapped
        try:
            right = compare.by_onnxruntime(model, {"w_image": picture})
        except Exception:
            continue
        if picture.size + sum(r.size for r in right) > MAX_FLOATS or not all(np.isfinite(r).all() for r in right) or model.ByteSize() > 4000:
            continue
        kept[operator] = kept.get(operator, 0) + 1
        stem = f"{operator}-{kept[operator]}"
        (HERE / f"{stem}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        # the picture, then every output
        np.concatenate([picture.ravel(), *[np.asarray(r, np.float32).ravel() for r in right]]).tofile(HERE / f"{stem}.f32")
    print(sum(kept.values()), "cases of", len(kept), "operators")


if __name__ == "__main__":
    main()
