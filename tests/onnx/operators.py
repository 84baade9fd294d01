"""Random single operators with all their attributes, and small graphs of them. onnxruntime says what is right."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OLDEST, NEWEST = 7, 25
MICROSOFT = "com.microsoft"


class Builder:
    """A graph in the making: `value` is fed, `weight` is stored."""

    def __init__(self, r, opset):
        self.r, self.opset = r, opset
        self.rng = np.random.RandomState(r.randrange(1 << 31))
        self.nodes, self.weights, self.inputs, self.feeds = [], [], [], {}
        self.count = 0

    def name(self, stem="v"):
        self.count += 1
        return f"{stem}{self.count}"

    def value(self, values):
        values = np.asarray(values)
        name = self.name("x")
        self.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape))
        self.feeds[name] = values
        return name

    def weight(self, values):
        name = self.name("w")
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, op, inputs, outputs=1, **attributes):
        made = [self.name() for _ in range(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op, inputs, made, **attributes))
        return made[0] if outputs == 1 else made

    def floats(self, *shape, low=-2.0, high=2.0):
        return self.rng.uniform(low, high, shape).astype(np.float32)

    def model(self, outputs):
        graph = helper.make_graph(
            self.nodes, "random", self.inputs,
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs], self.weights,
        )
        ir = 8 if self.opset < 19 else 9 if self.opset < 21 else 10
        imports = [helper.make_opsetid("", self.opset)]
        if any(node.domain == MICROSOFT for node in self.nodes):
            imports.append(helper.make_opsetid(MICROSOFT, 1))
        return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def some(r, chance, value):
    return value() if r.random() < chance else None


def shape(r, low=1, high=4, size=6):
    return [r.randint(1, size) for _ in range(r.randint(low, high))]


def picture(r, spatial=2):
    return [r.choice([1, 1, 1, 2]), r.choice([1, 2, 3, 4, 6, 16, 17]), *[r.randint(3, 12) for _ in range(spatial)]]


def window(r, b, dims, kernel_of, pool):
    """kernel, strides, dilations, pads or auto_pad, ceil_mode of a convolution or pooling over `dims`."""
    n = len(dims)
    kernel = kernel_of or [r.randint(1, min(4, d)) for d in dims]
    attributes = {}
    if r.random() < 0.6:
        attributes["strides"] = [r.randint(1, 3) for _ in range(n)]
    if r.random() < 0.4:
        attributes["dilations"] = [r.randint(1, 2) if (kernel[i] - 1) * 2 < dims[i] else 1 for i in range(n)]
    way = r.random()
    if way < 0.5:
        limit = [min(k - 1, 3) if pool else 3 for k in kernel]
        attributes["pads"] = [r.randint(0, l) for l in limit + limit]
    elif way < 0.75:
        attributes["auto_pad"] = r.choice(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
        if attributes["auto_pad"].startswith("SAME") and r.random() < 0.7:
            attributes.pop("dilations", None)
    return kernel, attributes


def conv(r, b):
    spatial = r.choice([1, 2, 2, 2, 2, 3])
    n, c, *dims = picture(r, spatial)
    group = r.choice([g for g in (1, 1, 2, 3, c) if c % g == 0])
    kernel, attributes = window(r, b, dims, None, False)
    out = group * r.randint(1, 5)
    x = b.value(b.floats(n, c, *dims))
    inputs = [x, b.weight(b.floats(out, c // group, *kernel))]
    if r.random() < 0.5:
        inputs.append(b.weight(b.floats(out)))
    if group != 1 or r.random() < 0.3:
        attributes["group"] = group
    if r.random() < 0.7:
        attributes["kernel_shape"] = kernel
    return [(b.add("Conv", inputs, **attributes), FLOAT)]


def conv_transpose(r, b):
    spatial = r.choice([1, 2, 2, 2, 2, 3])
    n, c, *dims = [r.choice([1, 1, 2]), r.choice([1, 2, 3, 4, 6]), *[r.randint(2, 7) for _ in range(spatial)]]
    group = r.choice([g for g in (1, 1, 2, 3, c) if c % g == 0])
    kernel = [r.randint(1, 4) for _ in dims]
    strides = [r.randint(1, 3) for _ in dims]
    dilations = [r.choice([1, 1, 2]) for _ in dims]
    attributes = {"strides": strides}
    if r.random() < 0.4:
        attributes["dilations"] = dilations
    else:
        dilations = [1] * spatial
    way = r.random()
    if way < 0.4:
        attributes["pads"] = [r.randint(0, min(1, k - 1)) for k in kernel + kernel]
    elif way < 0.55:
        attributes["auto_pad"] = r.choice(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
    if r.random() < 0.3:
        attributes["output_padding"] = [r.randint(0, max(0, s - 1)) for s in strides]
    if r.random() < 0.25:
        whole = [s * (d - 1) + (k - 1) * l + 1 for s, d, k, l in zip(strides, dims, kernel, dilations)]
        attributes["output_shape"] = [max(1, w + r.randint(-2, 1)) for w in whole]
        attributes.pop("output_padding", None)
    if group != 1:
        attributes["group"] = group
    if r.random() < 0.7:
        attributes["kernel_shape"] = kernel
    each = r.randint(1, 4)
    inputs = [b.value(b.floats(n, c, *dims)), b.weight(b.floats(c, each, *kernel))]
    if r.random() < 0.5:
        inputs.append(b.weight(b.floats(group * each)))
    return [(b.add("ConvTranspose", inputs, **attributes), FLOAT)]


def pool(r, b):
    spatial = r.choice([1, 2, 2, 2, 2, 3])
    n, c, *dims = picture(r, spatial)
    op = r.choice(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
    x = b.value(b.floats(n, c, *dims))
    if op.startswith("Global"):
        p = {"p": r.randint(1, 3)} if op == "GlobalLpPool" and r.random() < 0.6 else {}
        return [(b.add(op, [x], **p), FLOAT)]
    kernel, attributes = window(r, b, dims, None, True)
    if b.opset < 10 or (op == "AveragePool" and b.opset < 19):
        attributes.pop("dilations", None)
    if b.opset >= 10 and r.random() < 0.4:
        attributes["ceil_mode"] = r.choice([0, 1, 1])
    if op == "AveragePool" and r.random() < 0.5:
        attributes["count_include_pad"] = r.randint(0, 1)
    if op == "MaxPool" and b.opset >= 8 and r.random() < 0.15:
        if r.random() < 0.5:
            attributes["storage_order"] = r.randint(0, 1)
        y, i = b.add(op, [x], 2, kernel_shape=kernel, **attributes)
        return [(y, FLOAT), (i, INT64)]
    return [(b.add(op, [x], kernel_shape=kernel, **attributes), FLOAT)]


def pad(r, b):
    dims = shape(r, 1, 4, 7)
    mode = r.choice(["constant", "constant", "reflect", "edge"] + (["wrap"] if b.opset >= 19 else []))
    low = -1 if mode in ("constant", "edge") else 0
    rank = len(dims)
    pads = [max(r.randint(low, 3) if r.random() < 0.7 else 0, -((d - 1) // 2)) for d in dims + dims]
    if mode in ("reflect", "wrap"):
        pads = [min(p, d - 1) for p, d in zip(pads, dims + dims)]
    x = b.value(b.floats(*dims))
    attributes = {"mode": mode} if mode != "constant" or r.random() < 0.5 else {}
    if b.opset < 11:
        if r.random() < 0.4:
            attributes["value"] = 0.5
        return [(b.add("Pad", [x], pads=pads, **attributes), FLOAT)]
    inputs = [x, b.weight(np.array(pads, np.int64))]
    if r.random() < 0.5:
        inputs.append(b.weight(np.float32(1.5)))
    if b.opset >= 18 and r.random() < 0.4:
        axes = sorted(r.sample(range(rank), r.randint(1, rank)))
        inputs[1] = b.weight(np.array([pads[a] for a in axes] + [pads[rank + a] for a in axes], np.int64))
        inputs += [""] * (3 - len(inputs)) + [b.weight(np.array([a - r.choice([0, rank]) for a in axes], np.int64))]
    return [(b.add("Pad", inputs, **attributes), FLOAT)]


def resize(r, b):
    dims = [1, r.randint(1, 4), r.randint(2, 9), r.randint(2, 9)]
    if b.opset < 10:
        x = b.value(b.floats(*dims))
        scales = [1.0, 1.0, float(r.choice([1, 2, 3, 4, 1.5])), float(r.choice([1, 2, 3, 4, 2.5]))]
        mode = r.choice(["nearest", "nearest", "linear"])
        if b.opset < 9:
            return [(b.add("Upsample", [x], mode=mode, scales=scales), FLOAT)]
        return [(b.add("Upsample", [x, b.weight(np.array(scales, np.float32))], mode=mode), FLOAT)]
    x = b.value(b.floats(*dims))
    scales = [1.0, 1.0, float(r.choice([0.5, 1, 2, 3, 4, 1.5, 0.6])), float(r.choice([0.5, 1, 2, 3, 4, 2.5, 0.7]))]
    if b.opset == 10:
        return [(b.add("Resize", [x, b.weight(np.array(scales, np.float32))], mode=r.choice(["nearest", "linear"])), FLOAT)]
    mode = r.choice(["nearest", "nearest", "linear", "linear", "cubic"])
    attributes = {"mode": mode}
    ways = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    if b.opset < 13:
        ways.append("tf_half_pixel_for_nn")
    if b.opset >= 19:
        ways.append("half_pixel_symmetric")
    if r.random() < 0.8:
        attributes["coordinate_transformation_mode"] = r.choice(ways)
    if mode == "nearest" and r.random() < 0.8:
        attributes["nearest_mode"] = r.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        if r.random() < 0.4:
            attributes["cubic_coeff_a"] = r.choice([-0.5, -0.75, -0.6])
        if r.random() < 0.4:
            attributes["exclude_outside"] = 1
    if b.opset >= 18 and mode != "nearest" and r.random() < 0.25:
        attributes["antialias"] = 1
    roi = b.weight(np.zeros(0, np.float32)) if b.opset < 13 or r.random() < 0.4 else ""
    if b.opset == 11 and roi == "":
        roi = b.weight(np.zeros(0, np.float32))
    if r.random() < 0.5:
        if b.opset >= 18 and r.random() < 0.4:
            attributes["axes"] = [2, 3]
            scales = scales[2:]
        inputs = [x, roi, b.weight(np.array(scales, np.float32))]
    else:
        sizes = [dims[0], dims[1], r.randint(1, 16), r.randint(1, 16)]
        if b.opset >= 18 and r.random() < 0.4:
            attributes["axes"] = [2, 3]
            sizes = sizes[2:]
            if r.random() < 0.5:
                attributes["keep_aspect_ratio_policy"] = r.choice(["stretch", "not_larger", "not_smaller"])
        none = b.weight(np.zeros(0, np.float32)) if b.opset < 13 else ""
        inputs = [x, roi, none, b.weight(np.array(sizes, np.int64))]
    return [(b.add("Resize", inputs, **attributes), FLOAT)]


UNARY = {
    "Abs": 7, "Acos": 7, "Acosh": 9, "Asin": 7, "Asinh": 9, "Atan": 7, "Atanh": 9, "Ceil": 7, "Cos": 7, "Cosh": 9, "Erf": 9, "Exp": 7,
    "Floor": 7, "Identity": 7, "Log": 7, "Neg": 7, "Reciprocal": 7, "Relu": 7, "Round": 11, "Sigmoid": 7, "Sign": 9, "Sin": 7,
    "Sinh": 9, "Softplus": 7, "Softsign": 7, "Sqrt": 7, "Tan": 7, "Tanh": 7, "HardSwish": 14, "Mish": 18,
}


def unary(r, b):
    op = r.choice([op for op, since in UNARY.items() if since <= b.opset])
    low, high = {"Acos": (-1, 1), "Asin": (-1, 1), "Atanh": (-0.9, 0.9), "Acosh": (1, 5), "Log": (0.01, 9), "Sqrt": (0, 9), "Reciprocal": (0.2, 3)}.get(op, (-4, 4))
    values = b.floats(*shape(r), low=low, high=high)
    if op in ("Round", "Floor", "Ceil", "Sign") and r.random() < 0.5:
        values = np.round(values * 2) / 2
    if op == "Softplus" and r.random() < 0.3:
        values = values * 40
    return [(b.add(op, [b.value(values)]), FLOAT)]


def activation(r, b):
    op, since, attributes = r.choice([
        ("Celu", 12, {"alpha": r.choice([0.3, 1.0, 2.5])}), ("Elu", 7, {"alpha": r.choice([0.3, 1.0, 2.5])}),
        ("LeakyRelu", 7, {"alpha": r.choice([0.01, 0.1, -0.2, 1.5])}), ("Selu", 7, {"alpha": r.choice([1.2, 1.6732]), "gamma": r.choice([1.0507, 0.7])}),
        ("HardSigmoid", 7, {"alpha": r.choice([0.2, 1 / 6, 0.4]), "beta": r.choice([0.5, 0.3])}), ("ThresholdedRelu", 10, {"alpha": r.choice([1.0, 0.2])}),
        ("Shrink", 9, {"lambd": r.choice([0.5, 1.5]), "bias": r.choice([0.0, 0.7])}), ("Gelu", 20, {"approximate": r.choice(["none", "tanh"])}),
        ("Swish", 24, {"alpha": r.choice([1.0, 0.5, 2.0])}), ("PRelu", 7, {}),
    ])
    if since > b.opset:
        return None
    dims = shape(r)
    x = b.value(b.floats(*dims, low=-4, high=4))
    if op == "PRelu":
        slope = [d if r.random() < 0.7 else 1 for d in dims][r.choice([0, 0, len(dims) - 1]):]
        return [(b.add(op, [x, b.weight(b.floats(*slope))]), FLOAT)]
    kept = {key: value for key, value in attributes.items() if r.random() < 0.7}
    return [(b.add(op, [x], **kept), FLOAT)]


def broadcast(r, dims):
    small = [d if r.random() < 0.7 else 1 for d in dims]
    return small[r.randint(0, len(small)):] if r.random() < 0.4 else small


def binary(r, b):
    op = r.choice(["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum", "Mod", "Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "Where"])
    dims = shape(r)
    whole = r.random() < 0.35
    low, high = (0.2, 3) if op == "Pow" else (-4, 4)

    def make(dims):
        if whole or op == "Equal":
            kind = r.choice([np.int32, np.int64])
            values = b.rng.randint(-6, 7, dims).astype(kind)
            return np.where(values == 0, 3, values).astype(kind) if op in ("Div", "Mod") else values
        values = b.floats(*dims, low=low, high=high)
        return np.where(np.abs(values) < 0.2, 0.5, values).astype(np.float32) if op in ("Div", "Mod") else values

    first, second = make(dims), make(broadcast(r, dims))
    second = second.astype(first.dtype)
    if r.random() < 0.3 and op not in ("Pow",):
        first, second = second, first
    kind = helper.np_dtype_to_tensor_dtype(first.dtype)
    give = [b.value, b.weight] if r.random() < 0.5 else [b.value, b.value] if r.random() < 0.7 else [b.weight, b.value]
    if op in ("And", "Or", "Xor"):
        return [(b.add(op, [b.value(first > 0), b.value(second > 0)]), BOOL)]
    if op in ("GreaterOrEqual", "LessOrEqual"):
        if b.opset < 12:
            return None
        return [(b.add(op, [give[0](first), give[1](second)]), BOOL)]
    if op in ("Greater", "Less", "Equal"):
        if b.opset < 9 and whole or op == "Equal" and b.opset < 7:
            return None
        return [(b.add(op, [give[0](first), give[1](second)]), BOOL)]
    if op == "Where":
        if b.opset < 9:
            return None
        choice = b.rng.rand(*broadcast(r, dims)) < 0.5
        return [(b.add(op, [b.value(choice), give[0](first), give[1](second)]), kind)]
    if op == "Mod":
        if b.opset < 10:
            return None
        fmod = 1 if kind == FLOAT else r.choice([0, 1])
        return [(b.add(op, [give[0](first), give[1](second)], fmod=fmod), kind)]
    if op in ("Max", "Min", "Mean", "Sum"):
        if kind != FLOAT and (op in ("Mean", "Sum") or b.opset < 12) or b.opset < 8:
            return None
        more = [b.value(make(broadcast(r, dims)).astype(first.dtype))] if r.random() < 0.4 else []
        return [(b.add(op, [give[0](first), give[1](second), *more]), kind)]
    if op == "Pow":
        if kind != FLOAT:
            if b.opset < 12:
                return None
            second = np.abs(second) % 4
        else:
            second = second if r.random() < 0.5 else np.float32(r.choice([2, 3, 0.5, -1]))
    return [(b.add(op, [give[0](first), give[1](second)]), kind)]


def reduce(r, b):
    op = r.choice(["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"])
    dims = shape(r, 1, 5, 5)
    rank = len(dims)
    low = 0.1 if op == "ReduceLogSum" else -2
    values = b.floats(*dims, low=low)
    if op in ("ReduceMax", "ReduceMin") and r.random() < 0.2:
        values = np.where(b.rng.rand(*dims) < 0.7, -np.inf if op == "ReduceMax" else np.inf, values).astype(np.float32)
        values[tuple([0] * rank)] = 0.5
    kind = FLOAT
    if op in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceMean") and np.isfinite(values).all() and r.random() < 0.15 and b.opset >= 12:
        values = (values * 4).astype(np.int32 if op != "ReduceSum" else np.int64)
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    x = b.value(values) if np.isfinite(values).all() else b.add("Where", [b.value(np.isfinite(values)), b.weight(np.where(np.isfinite(values), values, 0)), b.weight(np.float32(-np.inf if op == "ReduceMax" else np.inf))]) if b.opset >= 9 else None
    if x is None:
        return None
    attributes = {"keepdims": r.randint(0, 1)} if r.random() < 0.7 else {}
    axes = r.sample(range(rank), r.randint(1, rank)) if r.random() < 0.8 else None
    if axes is not None and b.opset >= 11:
        axes = [a - r.choice([0, rank]) for a in axes]
    as_input = b.opset >= (13 if op == "ReduceSum" else 18)
    if not as_input:
        return [(b.add(op, [x], axes=axes, **attributes), kind)]
    if r.random() < 0.3:
        attributes["noop_with_empty_axes"] = r.randint(0, 1)
    inputs = [x]
    if axes is not None:
        inputs.append(b.weight(np.array(axes, np.int64)))
    elif r.random() < 0.5:
        inputs.append(b.weight(np.zeros(0, np.int64)))
    return [(b.add(op, inputs, **attributes), kind)]


def arg(r, b):
    op = r.choice(["ArgMax", "ArgMin"])
    dims = shape(r, 1, 4, 5)
    values = b.floats(*dims)
    if r.random() < 0.5:
        values = np.round(values)
    attributes = {"keepdims": r.randint(0, 1), "axis": r.randrange(len(dims)) - (r.choice([0, len(dims)]) if b.opset >= 11 else 0)}
    if b.opset >= 12:
        attributes["select_last_index"] = r.randint(0, 1)
    return [(b.add(op, [b.value(values)], **{k: v for k, v in attributes.items() if r.random() < 0.8}), INT64)]


def softmax(r, b):
    op = r.choice(["Softmax", "LogSoftmax", "Hardmax"])
    dims = shape(r, 1, 4, 6)
    rank = len(dims)
    axis = r.randrange(rank) - (r.choice([0, rank]) if b.opset >= 11 else 0)
    values = b.floats(*dims, low=-6, high=6)
    if r.random() < 0.2:
        values *= 30
    attributes = {} if r.random() < 0.2 and (b.opset >= 13 or rank > 1) else {"axis": axis}
    return [(b.add(op, [b.value(values)], **attributes), FLOAT)]


def shuffle(r, b):
    """What moves numbers about."""
    op = r.choice(["Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Split", "Slice", "Slice", "Tile", "Expand", "DepthToSpace", "SpaceToDepth",
                   "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Trilu", "Compress", "OneHot", "TopK", "CumSum", "EyeLike", "Where", "ConstantOfShape", "Shape", "NonZero", "Range"])
    dims = shape(r, 1, 4, 6)
    rank = len(dims)
    negative = lambda axis, n=rank: axis - (r.choice([0, n]) if b.opset >= 11 else 0)
    values = b.floats(*dims)
    x = b.value(values)
    if op == "Transpose":
        perm = None if r.random() < 0.2 else r.sample(range(rank), rank)
        return [(b.add(op, [x], perm=perm), FLOAT)]
    if op == "Reshape":
        size = values.size
        target = r.choice([[-1], [1, -1], [0, -1] if rank >= 1 else [-1], [size], [size, 1], [0] * rank])
        return [(b.add(op, [x, b.weight(np.array(target, np.int64))]), FLOAT)]
    if op == "Flatten":
        axis = r.randint(0, rank) - (r.choice([0, rank]) if b.opset >= 11 else 0)
        return [(b.add(op, [x], axis=axis), FLOAT)]
    if op == "Squeeze":
        dims = [1 if r.random() < 0.5 else d for d in dims]
        b.inputs.clear(), b.feeds.clear()
        x = b.value(b.floats(*dims))
        ones = [i for i, d in enumerate(dims) if d == 1]
        axes = [negative(a) for a in r.sample(ones, r.randint(1, len(ones)))] if ones and r.random() < 0.8 else None
        if b.opset < 13:
            return [(b.add(op, [x], axes=axes), FLOAT)]
        return [(b.add(op, [x] + ([b.weight(np.array(axes, np.int64))] if axes else [])), FLOAT)]
    if op == "Unsqueeze":
        k = r.randint(1, 2)
        axes = [negative(a, rank + k) for a in r.sample(range(rank + k), k)]
        if b.opset < 13:
            return [(b.add(op, [x], axes=axes), FLOAT)]
        return [(b.add(op, [x, b.weight(np.array(axes, np.int64))]), FLOAT)]
    if op == "Concat":
        axis = r.randrange(rank)
        others = []
        for _ in range(r.randint(0, 2)):
            d = list(dims)
            d[axis] = r.randint(1, 4)
            others.append(r.choice([b.value, b.weight])(b.floats(*d)))
        return [(b.add(op, [x, *others], axis=negative(axis)), FLOAT)]
    if op == "Split":
        axis = r.randrange(rank)
        length = dims[axis]
        if length < 2:
            return None
        parts = 2 if length % 2 else r.choice([2, length])
        if length % parts == 0 and r.random() < 0.4:
            more = {"num_outputs": parts} if b.opset >= 18 else {}
            return [(o, FLOAT) for o in b.add(op, [x], parts, axis=negative(axis), **more)]
        if b.opset >= 18 and r.random() < 0.3:
            parts = r.randint(2, length)
            step = -(-length // parts)
            if step * (parts - 1) >= length:
                return None
            return [(o, FLOAT) for o in b.add(op, [x], parts, axis=negative(axis), num_outputs=parts)]
        cut = r.randint(1, length - 1)
        sizes = [cut, length - cut]
        if b.opset < 13:
            return [(o, FLOAT) for o in b.add(op, [x], 2, axis=negative(axis), split=sizes)]
        return [(o, FLOAT) for o in b.add(op, [x, b.weight(np.array(sizes, np.int64))], 2, axis=negative(axis))]
    if op == "Slice":
        axes = r.sample(range(rank), r.randint(1, rank))
        starts, ends, steps = [], [], []
        for a in axes:
            d = dims[a]
            step = r.choice([1, 1, 2, -1, -2]) if b.opset >= 10 else 1
            lo = r.randint(0, d - 1)
            hi = r.randint(lo + 1, d)
            if step > 0:
                s, e = r.choice([lo, lo - d]), r.choice([hi, hi - d if hi < d else 2**31 - 1])
            else:
                s, e = r.choice([hi - 1, hi - 1 - d, 1000 if hi == d else hi - 1]), (lo - 1 if lo else r.choice([-d - 1, -(2**31)]))
            starts.append(s), ends.append(e), steps.append(step)
        names = [a - r.choice([0, rank]) for a in axes]
        if b.opset < 10:
            every = sorted(axes) == list(range(rank)) and axes == sorted(axes) and r.random() < 0.5
            return [(b.add(op, [x], starts=starts, ends=ends, axes=None if every else names), FLOAT)]
        kind = r.choice([np.int64, np.int32])
        clip = lambda v: np.clip(np.array(v), -(2**31), 2**31 - 1).astype(kind)
        inputs = [x, b.weight(clip(starts)), b.weight(clip(ends)), b.weight(np.array(names, kind))]
        if any(s != 1 for s in steps) or r.random() < 0.3:
            inputs.append(b.weight(np.array(steps, kind)))
        return [(b.add(op, inputs), FLOAT)]
    if op == "Tile":
        return [(b.add(op, [x, b.weight(np.array([r.randint(1, 3) for _ in dims], np.int64))]), FLOAT)]
    if op == "Expand":
        if b.opset < 8:
            return None
        target = [r.randint(1, 3)] * r.randint(0, 1) + [d if d > 1 else r.randint(1, 4) for d in dims]
        target = [1 if r.random() < 0.2 else t for t in target]
        return [(b.add(op, [x, b.weight(np.array(target, np.int64))]), FLOAT)]
    if op in ("DepthToSpace", "SpaceToDepth"):
        k = r.choice([2, 3])
        b.inputs.clear(), b.feeds.clear()
        n, c, h, w = r.randint(1, 2), r.randint(1, 3), r.randint(1, 3), r.randint(1, 3)
        dims = [n, c * k * k, h, w] if op == "DepthToSpace" else [n, c, h * k, w * k]
        mode = {"mode": r.choice(["DCR", "CRD"])} if op == "DepthToSpace" and b.opset >= 11 and r.random() < 0.7 else {}
        return [(b.add(op, [b.value(b.floats(*dims))], blocksize=k, **mode), FLOAT)]
    if op == "Gather":
        axis = r.randrange(rank)
        indices = b.rng.randint(-dims[axis] if b.opset >= 11 else 0, dims[axis], shape(r, 0, 2, 3)).astype(r.choice([np.int64, np.int32]))
        return [(b.add(op, [x, r.choice([b.weight, b.value])(indices)], axis=negative(axis)), FLOAT)]
    if op == "GatherElements":
        if b.opset < 11:
            return None
        axis = r.randrange(rank)
        other = [r.randint(1, d) for d in dims]
        other[axis] = r.randint(1, 5)
        indices = b.rng.randint(-dims[axis], dims[axis], other).astype(np.int64)
        return [(b.add(op, [x, r.choice([b.weight, b.value])(indices)], axis=negative(axis)), FLOAT)]
    if op == "GatherND":
        if b.opset < 11:
            return None
        batch = r.randint(0, rank - 1) if b.opset >= 12 and r.random() < 0.4 else 0
        depth = r.randint(1, rank - batch)
        lead = dims[:batch] + shape(r, 0 if batch else 1, 1, 3)
        indices = np.stack([b.rng.randint(-dims[batch + i], dims[batch + i], lead) for i in range(depth)], -1).astype(np.int64)
        return [(b.add(op, [x, b.weight(indices)], **({"batch_dims": batch} if batch else {})), FLOAT)]
    if op == "ScatterElements":
        if b.opset < 11:
            return None
        axis = r.randrange(rank)
        other = [r.randint(1, d) for d in dims]
        attributes = {"axis": negative(axis)}
        reduction = r.choice(["none", "add", "mul", "max", "min"]) if b.opset >= 18 else r.choice(["none", "add", "mul"]) if b.opset >= 16 else "none"
        if reduction != "none":
            attributes["reduction"] = reduction
            indices = b.rng.randint(-dims[axis], dims[axis], other)
        else:
            indices = np.argsort(b.rng.rand(*[dims[a] if a == axis else other[a] for a in range(rank)]), axis).take(range(other[axis]), axis)
        return [(b.add(op, [x, b.weight(indices.astype(np.int64)), b.value(b.floats(*other))], **attributes), FLOAT)]
    if op == "ScatterND":
        if b.opset < 11:
            return None
        depth = r.randint(1, rank)
        reduction = r.choice(["none", "add", "mul", "max", "min"]) if b.opset >= 18 else r.choice(["none", "add", "mul"]) if b.opset >= 16 else "none"
        count = r.randint(1, 3) if reduction != "none" else 1
        indices = np.stack([b.rng.randint(0, dims[i], count) for i in range(depth)], -1).astype(np.int64)
        attributes = {"reduction": reduction} if reduction != "none" else {}
        return [(b.add(op, [x, b.weight(indices), b.value(b.floats(count, *dims[depth:]))], **attributes), FLOAT)]
    if op == "Trilu":
        if b.opset < 14 or rank < 2:
            return None
        inputs = [x] + ([b.weight(np.int64(r.randint(-2, 3)))] if r.random() < 0.6 else [])
        return [(b.add(op, inputs, **({"upper": r.randint(0, 1)} if r.random() < 0.7 else {})), FLOAT)]
    if op == "Compress":
        if b.opset < 9:
            return None
        axis = r.choice([None, r.randrange(rank)])
        length = values.size if axis is None else dims[axis]
        keep = b.rng.rand(r.randint(1, length)) < 0.6
        keep[0] = True
        return [(b.add(op, [x, b.weight(keep)], axis=axis), FLOAT)]
    if op == "OneHot":
        if b.opset < 9:
            return None
        depth = r.randint(2, 5)
        indices = b.rng.randint(-depth if b.opset >= 11 else 0, depth + (1 if b.opset >= 11 else 0), dims).astype(np.int64)
        b.inputs.clear(), b.feeds.clear()
        out = b.add(op, [b.value(indices), b.weight(np.int64(depth) if r.random() < 0.5 else np.array([depth])), b.weight(np.array([0.5, 2.0], np.float32))], **({"axis": r.randint(-1, rank)} if r.random() < 0.7 else {}))
        return [(out, FLOAT)]
    if op == "TopK":
        axis = r.randrange(rank)
        k = r.randint(1, dims[axis])
        if b.opset < 10:
            y, i = b.add(op, [x], 2, axis=axis, k=k)
        else:
            more = {"largest": r.randint(0, 1)} if b.opset >= 11 and r.random() < 0.6 else {}
            if b.opset >= 11 and r.random() < 0.3:
                more["sorted"] = 1
            y, i = b.add(op, [x, b.weight(np.array([k], np.int64))], 2, axis=negative(axis), **more)
        return [(y, FLOAT), (i, INT64)]
    if op == "CumSum":
        if b.opset < 11:
            return None
        return [(b.add(op, [x, b.weight(np.int64(negative(r.randrange(rank))))], exclusive=r.randint(0, 1), reverse=r.randint(0, 1)), FLOAT)]
    if op == "EyeLike":
        if b.opset < 9 or rank != 2:
            return None
        return [(b.add(op, [x], **({"k": r.randint(-2, 2)} if r.random() < 0.6 else {})), FLOAT)]
    if op == "Shape":
        more = {}
        if b.opset >= 15:
            more = {key: r.randint(-rank - 1, rank + 1) for key in ("start", "end") if r.random() < 0.4}
        return [(b.add(op, [x], **more), INT64)]
    if op == "NonZero":
        if b.opset < 9:
            return None
        b.feeds[x] = np.where(b.rng.rand(*dims) < 0.5, 0, values).astype(np.float32)
        return [(b.add(op, [x]), INT64)]
    if op == "ConstantOfShape":
        if b.opset < 9:
            return None
        c = b.add(op, [b.weight(np.array(dims, np.int64))], value=numpy_helper.from_array(np.array([r.choice([0.5, -1])], np.float32)))
        return [(b.add("Add", [c, x]), FLOAT)]
    if op == "Range":
        if b.opset < 11 or rank != 1:
            return None
        step = r.choice([1.0, 0.5, -0.75])
        start = r.choice([0.0, 2.0])
        c = b.add(op, [b.weight(np.float32(v)) for v in (start, start + step * (dims[0] - 0.5), step)])
        return [(b.add("Add", [c, x]), FLOAT)]
    return None


def normal(r, b):
    op = r.choice(["BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LRN", "LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "Dropout"])
    dims = picture(r, r.choice([1, 2, 2]))
    dims[1] = r.choice([1, 2, 4, 6, 8])
    c, rank = dims[1], len(dims)
    x = b.value(b.floats(*dims))
    eps = {"epsilon": r.choice([1e-5, 1e-3, 0.1])} if r.random() < 0.6 else {}
    if op == "BatchNormalization":
        if b.opset >= 9 or r.random() < 0.7:
            more = {"momentum": 0.8} if r.random() < 0.3 else {}
            ws = [b.weight(b.floats(c)), b.weight(b.floats(c)), b.weight(b.floats(c)), b.weight(b.floats(c, low=0.1))]
            return [(b.add(op, [x, *ws], **eps, **more), FLOAT)]
        return None
    if op == "InstanceNormalization":
        return [(b.add(op, [x, b.weight(b.floats(c)), b.weight(b.floats(c))], **eps), FLOAT)]
    if op in ("LayerNormalization", "RMSNormalization"):
        if b.opset < (17 if op[0] == "L" else 23):
            return None
        axis = r.randrange(rank)
        inputs = [x, b.weight(b.floats(*dims[axis:]))] + ([b.weight(b.floats(*dims[axis:]))] if op[0] == "L" and r.random() < 0.6 else [])
        attributes = {} if axis == rank - 1 and r.random() < 0.3 else {"axis": axis - r.choice([0, rank])}
        return [(b.add(op, inputs, **eps, **attributes), FLOAT)]
    if op == "GroupNormalization":
        if b.opset < 18:
            return None
        groups = r.choice([g for g in (1, 2, c) if c % g == 0])
        n = c if b.opset >= 21 else groups
        return [(b.add(op, [x, b.weight(b.floats(n)), b.weight(b.floats(n))], num_groups=groups, **eps), FLOAT)]
    if op == "LRN":
        more = {key: value for key, value in (("alpha", r.choice([0.0001, 0.02])), ("beta", r.choice([0.75, 0.5])), ("bias", r.choice([1.0, 2.0]))) if r.random() < 0.5}
        return [(b.add(op, [x], size=r.choice([1, 3, 5, 2]), **more), FLOAT)]
    if op == "LpNormalization":
        axis = r.randrange(rank)
        return [(b.add(op, [x], axis=axis - r.choice([0, rank]), p=r.choice([1, 2])), FLOAT)]
    if op == "MeanVarianceNormalization":
        if b.opset < 9:
            return None
        axes = None if r.random() < 0.5 and rank == 4 else sorted(r.sample(range(rank), 2))
        over = [0, 2, 3] if axes is None else axes
        if np.prod([dims[a] for a in over]) < 2:
            return None
        return [(b.add(op, [x], axes=axes), FLOAT)]
    if b.opset < 12:
        return [(b.add(op, [x], **({"ratio": 0.3} if r.random() < 0.5 else {})), FLOAT)]
    return [(b.add(op, [x] + ([b.weight(np.float32(0.3))] if r.random() < 0.5 else [])), FLOAT)]


def product(r, b):
    op = r.choice(["MatMul", "MatMul", "Gemm", "Gemm", "Einsum"])
    m, k, n = r.randint(1, 8), r.randint(1, 8), r.randint(1, 8)
    give = r.choice([b.value, b.weight])
    if op == "MatMul":
        left = shape(r, 0, 2, 3)
        right = broadcast(r, left) if r.random() < 0.6 else []
        a, c = b.floats(*left, m, k), b.floats(*right, k, n)
        if r.random() < 0.2:
            a = b.floats(k)
        elif r.random() < 0.2:
            c = b.floats(k)
        return [(b.add(op, [b.value(a), give(c)]), FLOAT)]
    if op == "Gemm":
        ta, tb = r.randint(0, 1), r.randint(0, 1)
        inputs = [b.value(b.floats(*((k, m) if ta else (m, k)))), give(b.floats(*((n, k) if tb else (k, n))))]
        if b.opset < 11 or r.random() < 0.7:
            inputs.append(b.weight(b.floats(*r.choice([(n,), (1, n), (m, n), (m, 1), (1,), ()]))))
        attributes = {key: value for key, value in (("alpha", r.choice([0.5, 2.0])), ("beta", r.choice([0.0, 0.5, 2.0])), ("transA", ta), ("transB", tb)) if key.startswith("trans") or r.random() < 0.5}
        return [(b.add(op, inputs, **attributes), FLOAT)]
    if b.opset < 12:
        return None
    equation, shapes = r.choice([
        ("ij,jk->ik", [(m, k), (k, n)]), ("bij,bjk->bik", [(2, m, k), (2, k, n)]), ("bhid,bhjd->bhij", [(1, 2, m, k), (1, 2, n, k)]),
        ("ij->ji", [(m, n)]), ("ij->i", [(m, n)]), ("i,j->ij", [(m,), (n,)]), ("...ij,...jk->...ik", [(2, m, k), (2, k, n)]),
        ("bchw,bkc->bkhw", [(1, k, m, n), (1, 3, k)]), ("bi,bi->b", [(m, k), (m, k)]), ("ij,ij->", [(m, n), (m, n)]), ("ij,jk", [(m, k), (k, n)]), ("ii->i", [(m, m)]), ("nchw->nhwc", [(1, k, m, n)]),
    ])
    return [(b.add(op, [b.value(b.floats(*s)) for s in shapes], equation=equation), FLOAT)]


def clip(r, b):
    x = b.value(b.floats(*shape(r), low=-4, high=4))
    low, high = r.choice([None, -1.0, 0.0]), r.choice([None, 1.5, 6.0])
    if b.opset < 11:
        return [(b.add("Clip", [x], min=low, max=high), FLOAT)]
    inputs = [x, "" if low is None else b.weight(np.float32(low)), "" if high is None else b.weight(np.float32(high))]
    while inputs[-1] == "":
        inputs.pop()
    return [(b.add("Clip", inputs), FLOAT)]


def cast(r, b):
    kinds = [TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT16, TensorProto.DOUBLE]
    first, second = r.choice(kinds), r.choice(kinds)
    values = b.floats(*shape(r), low=-6, high=6)
    if TensorProto.UINT8 in (first, second):
        values = np.abs(values)
    x = b.add("Cast", [b.value(values)], to=first)
    if b.opset >= 15 and r.random() < 0.3:
        return [(b.add("CastLike", [x, b.weight(np.ones(1, helper.tensor_dtype_to_np_dtype(second)))]), second)]
    return [(b.add("Cast", [x], to=second), second)]


def logic(r, b):
    dims = shape(r)
    op = r.choice(["Not", "IsNaN", "IsInf"])
    if op == "Not":
        return [(b.add(op, [b.value(b.rng.rand(*dims) < 0.5)]), BOOL)]
    if b.opset < (9 if op == "IsNaN" else 10):
        return None
    x = b.add("Log" if op == "IsNaN" else "Reciprocal", [b.value(np.round(b.floats(*dims)))])
    more = {key: r.randint(0, 1) for key in ("detect_negative", "detect_positive") if op == "IsInf" and r.random() < 0.5}
    return [(b.add(op, [x], **more), BOOL)]


def recurrent(r, b):
    op = r.choice(["RNN", "GRU", "LSTM"])
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    t, n, i, h = r.randint(1, 6), r.randint(1, 2), r.randint(1, 4), r.randint(1, 4)
    direction = r.choice(["forward", "reverse", "bidirectional"])
    d = 2 if direction == "bidirectional" else 1
    attributes = {"hidden_size": h, "direction": direction}
    layout = 0
    x = b.value(b.floats(*((n, t, i) if layout else (t, n, i))))
    inputs = [x, b.weight(b.floats(d, gates * h, i)), b.weight(b.floats(d, gates * h, h))]
    if r.random() < 0.6:
        inputs.append(b.weight(b.floats(d, 2 * gates * h)))
        if r.random() < 0.5:
            inputs += ["", b.weight(b.floats(d, n, h))]
            if op == "LSTM" and r.random() < 0.6:
                inputs.append(b.weight(b.floats(d, n, h)))
                if r.random() < 0.4:
                    inputs.append(b.weight(b.floats(d, 3 * h)))
    if op == "GRU" and r.random() < 0.6:
        attributes["linear_before_reset"] = r.randint(0, 1)
    if r.random() < 0.25:
        names = {"RNN": [r.choice(["Relu", "Tanh", "Sigmoid"])], "GRU": [r.choice(["Sigmoid", "HardSigmoid"]), r.choice(["Tanh", "Relu"])], "LSTM": [r.choice(["Sigmoid", "HardSigmoid"]), r.choice(["Tanh", "Relu"]), "Tanh"]}[op]
        attributes["activations"] = names * d
    if r.random() < 0.15:
        attributes["clip"] = 0.5
    if op == "LSTM" and r.random() < 0.1:
        attributes["input_forget"] = 1
    outs = b.add(op, inputs, 3 if op == "LSTM" else 2, **attributes)
    return [(o, FLOAT) for o in outs]


def quantised(r, b):
    op = r.choice(["DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"])
    if b.opset < (11 if op[0] == "Dy" else 10):
        return None
    kind = r.choice([np.uint8, np.int8])
    info = np.iinfo(kind)
    code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    whole = lambda *dims, k=kind: b.rng.randint(np.iinfo(k).min, np.iinfo(k).max + 1, dims).astype(k)
    scale = lambda *dims: b.floats(*dims, low=0.01, high=0.2)
    zero = lambda: np.asarray(r.randint(int(info.min), int(info.max)), kind)
    if op == "DynamicQuantizeLinear":
        if b.opset < 11:
            return None
        y, s, z = b.add(op, [b.value(b.floats(*shape(r)))], 3)
        return [(y, TensorProto.UINT8), (s, FLOAT), (z, TensorProto.UINT8)]
    if op in ("QuantizeLinear", "DequantizeLinear"):
        dims = shape(r, 2, 4, 5)
        axis, attributes, count = r.randrange(len(dims)), {}, ()
        if b.opset >= 13 and r.random() < 0.4:
            attributes["axis"] = axis - r.choice([0, len(dims)])
            count = (dims[axis],)
        z = whole(*count) if count else zero()
        if op == "QuantizeLinear":
            inputs = [b.value(b.floats(*dims, low=-9, high=9)), b.weight(np.asarray(scale(*count)))]
            if r.random() < 0.7:
                return [(b.add(op, [*inputs, b.weight(z)], **attributes), code)]
            return [(b.add(op, inputs, **attributes), TensorProto.UINT8)]
        inputs = [b.value(whole(*dims)), b.weight(np.asarray(scale(*count)))]
        if r.random() < 0.7:
            inputs.append(b.weight(z))
        return [(b.add(op, inputs, **attributes), FLOAT)]
    if op in ("ConvInteger", "QLinearConv"):
        n, c, *dims = picture(r)
        kernel, attributes = window(r, b, dims, None, False)
        group = r.choice([g for g in (1, 1, 2, c) if c % g == 0])
        out = group * r.randint(1, 4)
        wkind = r.choice([np.uint8, np.int8])
        attributes["group"] = group
        attributes["kernel_shape"] = kernel
        w = b.weight(whole(out, c // group, *kernel, k=wkind))
        wz = np.asarray(r.randint(int(np.iinfo(wkind).min), int(np.iinfo(wkind).max)) if wkind == np.uint8 else 0, wkind)
        x = b.value(whole(n, c, *dims))
        if op == "ConvInteger":
            inputs = [x, w]
            if r.random() < 0.7:
                inputs.append(b.weight(zero()))
                if r.random() < 0.6:
                    inputs.append(b.weight(wz))
            return [(b.add(op, inputs, **attributes), TensorProto.INT32)]
        ws = scale(out) if r.random() < 0.5 else scale()
        wzs = np.full(out, wz, wkind) if np.ndim(ws) else wz
        inputs = [x, b.weight(np.asarray(scale())), b.weight(zero()), w, b.weight(np.asarray(ws)), b.weight(wzs), b.weight(np.float32(r.choice([1.0, 5.0]))), b.weight(zero())]
        if r.random() < 0.5:
            inputs.append(b.weight(b.rng.randint(-900, 900, out).astype(np.int32)))
        return [(b.add(op, inputs, **attributes), code)]
    m, k, n = r.randint(1, 8), r.randint(1, 8), r.randint(1, 8)
    a, w = b.value(whole(m, k)), b.weight(whole(k, n))
    if op == "MatMulInteger":
        inputs = [a, w] + ([b.weight(zero()), b.weight(zero())][: r.randint(0, 2)])
        return [(b.add(op, inputs), TensorProto.INT32)]
    one = lambda: [b.weight(np.asarray(scale())), b.weight(zero())]
    return [(b.add(op, [a, *one(), w, *one(), b.weight(np.float32(r.choice([0.5, 2.0]))), b.weight(zero())]), code)]


def sample(r, b):
    if b.opset < 16:
        return None
    n, c, h, w = r.randint(1, 2), r.randint(1, 3), r.randint(2, 6), r.randint(2, 6)
    modes = ["linear", "nearest", "cubic"] if b.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    attributes = {"mode": r.choice(modes), "padding_mode": r.choice(["zeros", "border", "reflection"]), "align_corners": r.randint(0, 1)}
    attributes = {key: value for key, value in attributes.items() if r.random() < 0.85}
    grid = b.floats(n, r.randint(1, 5), r.randint(1, 5), 2, low=-1.4, high=1.4)
    return [(b.add("GridSample", [b.value(b.floats(n, c, h, w)), b.value(grid)], **attributes), FLOAT)]


def suppression(r, b):
    if b.opset < 10:
        return None
    n, k, c = 1, r.randint(3, 12), r.randint(1, 3)
    centres, sizes = b.floats(n, k, 2, low=0, high=3), b.floats(n, k, 2, low=0.5, high=2)
    attributes = {}
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], -1)
    if r.random() < 0.3:
        boxes, attributes = np.concatenate([centres, sizes], -1), {"center_point_box": 1}
    elif r.random() < 0.3:
        boxes = boxes[..., [2, 3, 0, 1]]
    inputs = [b.value(boxes.astype(np.float32)), b.value(b.floats(n, c, k, low=0, high=1)), b.weight(np.array([r.randint(1, 5)], np.int64))]
    if r.random() < 0.8:
        inputs.append(b.weight(np.array([r.choice([0.0, 0.3, 0.5, 1.0])], np.float32)))
        if r.random() < 0.7:
            inputs.append(b.weight(np.array([r.choice([0.0, 0.3, 0.6])], np.float32)))
    return [(b.add("NonMaxSuppression", inputs, **attributes), INT64)]


class Bytes:
    """Values of 8 bits of one type, with their scales and zero points."""

    def __init__(self, r, b):
        self.r, self.b = r, b
        self.kind = r.choice([np.uint8, np.int8])
        self.code = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))

    def whole(self, *dims, kind=None):
        info = np.iinfo(kind or self.kind)
        return self.b.rng.randint(info.min, info.max + 1, dims).astype(info.dtype)

    def levels(self, scale=None, kind=None):
        info = np.iinfo(kind or self.kind)
        zero = np.asarray(self.r.randint(int(info.min), int(info.max)), info.dtype)
        scale = np.float32(scale or self.r.uniform(0.01, 0.2))
        return [self.b.weight(scale), self.b.weight(zero)]

    def value(self, *dims):
        return [self.b.value(self.whole(*dims)), *self.levels()]

    def either(self, *dims):
        return [self.r.choice([self.b.value, self.b.weight])(self.whole(*dims)), *self.levels()]


def of_bytes(r, b):
    """onnxruntime's own operators on 8 bits."""
    if b.opset < 10:
        return None
    q = Bytes(r, b)
    dims = shape(r)
    add = lambda op, inputs, **attributes: [(b.add(op, inputs, domain=MICROSOFT, **attributes), q.code)]
    op = r.choice(["QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearSoftmax", "QLinearWhere", "QGemm"])
    if op in ("QLinearAdd", "QLinearMul"):
        sides = [q.value(*dims), q.either(*broadcast(r, dims))]
        if r.random() < 0.3:
            sides.reverse()
        return add(op, [*sides[0], *sides[1], *q.levels(0.15 if op == "QLinearAdd" else 1.0)])
    if op == "QLinearSigmoid":
        return add(op, [*q.value(*dims), *q.levels(1 / 256)])
    if op == "QLinearLeakyRelu":
        return add(op, [*q.value(*dims), *q.levels(0.1)], **({"alpha": r.choice([0.1, 0.5])} if r.random() < 0.7 else {}))
    if op == "QLinearConcat":
        axis = r.randrange(len(dims))
        parts = [q.value(*dims)]
        for _ in range(r.randint(0, 2)):
            parts += [q.either(*[r.randint(1, 4) if place == axis else d for place, d in enumerate(dims)])]
        return add(op, [*q.levels(), *sum(parts, [])], axis=axis)
    if op == "QLinearGlobalAveragePool":
        return add(op, [*q.value(*picture(r)), *q.levels(0.05)])
    if op == "QLinearAveragePool":
        n, c, *dims = picture(r)
        kernel, attributes = window(r, b, dims, None, True)
        attributes.pop("dilations", None)
        if r.random() < 0.3:
            attributes["count_include_pad"] = 1
        return add(op, [*q.value(n, c, *dims), *q.levels(0.1)], kernel_shape=kernel, **attributes)
    if op == "QLinearSoftmax":
        scale, zero = q.levels(1 / 256), np.asarray(np.iinfo(q.kind).min, q.kind)
        axis = r.choice([-1, r.randrange(len(dims))])
        return add(op, [*q.value(*dims), scale[0], b.weight(zero)], axis=axis, opset=b.opset)
    if op == "QLinearWhere":
        choice = b.rng.rand(*broadcast(r, dims)) < 0.5
        return add(op, [b.value(choice), *q.value(*dims), *q.either(*broadcast(r, dims)), *q.levels(0.15)])
    m, k, n = r.randint(1, 8), r.randint(1, 8), r.randint(1, 8)
    ta, tb = r.randint(0, 1), r.randint(0, 1)
    inputs = q.value(*((k, m) if ta else (m, k)))
    inputs += [b.weight(q.whole(*((n, k) if tb else (k, n)), kind=np.int8)), *q.levels(kind=np.int8)]
    if r.random() < 0.4:
        inputs[4:] = [b.weight(b.floats(n, low=0.01, high=0.2)), b.weight(np.zeros(n, np.int8))]
    inputs.append(b.weight(b.rng.randint(-900, 900, r.choice([(n,), (1, n)])).astype(np.int32)) if r.random() < 0.6 else "")
    attributes = {"transA": ta, "transB": tb, **({"alpha": 0.5} if r.random() < 0.3 else {})}
    if r.random() < 0.3:
        while not inputs[-1]:
            inputs.pop()
        return [(b.add(op, inputs, domain=MICROSOFT, **attributes), FLOAT)]
    return add(op, [*inputs, *q.levels(0.8)], **attributes)


def dynamically(r, b):
    """Integer products of values that are quantised while the graph runs, as `quantize_dynamic` and onnxruntime's optimiser write them."""
    if b.opset < 11:
        return None
    way = r.choice(["conv", "conv", "matmul", "matmul", "both", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"])
    kind = r.choice([np.uint8, np.int8])
    info = np.iinfo(kind)
    whole = lambda *dims: b.rng.randint(info.min, info.max + 1, dims).astype(kind)
    zero = lambda *dims: b.weight(b.rng.randint(info.min, info.max, dims).astype(kind) if kind == np.uint8 else np.zeros(dims, kind))
    spread = lambda *dims: b.floats(*dims, low=-r.choice([0, 1, 3]), high=r.choice([0.5, 2]))

    def multiplied(product, scale, others):
        """The scales, multiplied in some order."""
        product = b.add("Cast", [product], to=FLOAT)
        turned = lambda *sides: b.add("Mul", list(sides) if r.random() < 0.5 else list(sides[::-1]))
        if r.random() < 0.6:
            return turned(product, turned(scale, others))
        return turned(turned(product, scale), others) if r.random() < 0.5 else turned(turned(product, others), scale)

    if way == "conv":
        n, c, *dims = picture(r)
        kernel, attributes = window(r, b, dims, None, False)
        group = r.choice([g for g in (1, 1, 2, c) if c % g == 0])
        out = group * r.randint(1, 4)
        q, s, z = b.add("DynamicQuantizeLinear", [b.value(spread(n, c, *dims))], 3)
        inputs = [q, b.weight(whole(out, c // group, *kernel)), z]
        if r.random() < 0.7:
            inputs.append(zero())
        product = b.add("ConvInteger", inputs, group=group, kernel_shape=kernel, **attributes)
        scale = b.weight(b.floats(*r.choice([(out, 1, 1), (1, out, 1, 1), (), (1,)]), low=0.01, high=0.2))
        made = multiplied(product, s, scale)
        if r.random() < 0.5:
            made = b.add("Add", [made, b.weight(b.floats(1, out, 1, 1))])
        return [(made, FLOAT)]
    m, k, n = r.randint(1, 8), r.randint(1, 8), r.randint(1, 8)
    left = [r.randint(1, 3) for _ in range(r.randint(0, 2))]
    x = b.value(spread(*left, m, k))
    per_column = r.random() < 0.4
    scale = b.weight(b.floats(*((n,) if per_column else ()), low=0.01, high=0.2))
    if way == "DynamicQuantizeMatMul":
        inputs = [x, b.weight(whole(k, n)), scale, zero(*((n,) if per_column else ())), b.weight(b.floats(n))][: r.choice([3, 4, 5])]
        return [(b.add(way, inputs, domain=MICROSOFT), FLOAT)]
    q, s, z = b.add("DynamicQuantizeLinear", [x], 3)
    if way == "both":
        q2, s2, z2 = b.add("DynamicQuantizeLinear", [b.value(spread(n, k))], 3)
        turned = b.add("Transpose", [q2], perm=[1, 0])
        return [(multiplied(b.add("MatMulInteger", [q, turned, z, z2]), s, s2), FLOAT)]
    if way == "MatMulIntegerToFloat":
        inputs = [q, b.weight(whole(k, n)), s, scale, z, zero(*((n,) if per_column else ())), b.weight(b.floats(n))][: r.choice([5, 6, 7])]
        return [(b.add(way, inputs, domain=MICROSOFT), FLOAT)]
    inputs = [q, b.weight(whole(k, n)), z] + ([zero()] if r.random() < 0.7 else [])
    return [(multiplied(b.add("MatMulInteger", inputs), s, scale), FLOAT)]


def moved_bytes(r, b):
    """Values of 8 bits that are moved or chosen between QuantizeLinear and DequantizeLinear."""
    if b.opset < 13:
        return None
    q = Bytes(r, b)
    dims = picture(r)
    levels = q.levels()
    x = b.add("QuantizeLinear", [b.value(b.floats(*dims, low=-9, high=9)), *levels])
    several = [x]
    for _ in range(r.randint(1, 3)):
        op = r.choice(["MaxPool", "Resize", "Concat", "Slice", "Split", "Transpose", "Reshape", "Squeeze", "Gather", "Pad", "ReduceMax", "Flatten", "Tile", "TopK"])
        if op == "MaxPool":
            several = [b.add(op, [x], kernel_shape=[2, 2], pads=[1, 0, 1, 0])]
            dims = [*dims[:2], dims[2] + 1, dims[3] - 1]
        elif op == "Resize":
            several = [b.add(op, [x, "", b.weight(np.array([1, 1, 2, 1.5], np.float32))], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")]
            dims = [*dims[:2], dims[2] * 2, dims[3] * 3 // 2]
        elif op == "Concat":
            other = b.add("QuantizeLinear", [b.value(b.floats(*dims, low=-9, high=9)), *levels])
            several = [b.add(op, [x, other], axis=1)]
            dims = [dims[0], 2 * dims[1], *dims[2:]]
        elif op == "Slice":
            several = [b.add(op, [x, *[b.weight(np.array([v])) for v in (1, dims[3], 3)]])]
            dims = [*dims[:3], dims[3] - 1]
        elif op == "Split":
            several = b.add(op, [x, b.weight(np.array([1, dims[2] - 1]))], 2, axis=2)
            x, dims = several[1], [*dims[:2], dims[2] - 1, dims[3]]
        elif op == "Transpose":
            several = [b.add(op, [x], perm=[0, 1, 3, 2])]
            dims = [*dims[:2], dims[3], dims[2]]
        elif op == "Pad":
            more = [b.weight(np.asarray(7, q.kind))] if r.random() < 0.5 else []
            several = [b.add(op, [x, b.weight(np.array([0, 0, 1, 2, 0, 0, 0, 1])), *more])]
            dims = [*dims[:2], dims[2] + 1, dims[3] + 3]
        elif op == "Squeeze":
            several = [b.add(op, [b.add("Unsqueeze", [x, b.weight(np.array([1]))]), b.weight(np.array([1]))])]
        elif op == "Gather":
            several = [b.add(op, [x, b.weight(np.array([dims[2] - 1, 0, 1]))], axis=2)]
            dims = [*dims[:2], 3, dims[3]]
        elif op == "Reshape":
            several = [b.add(op, [x, b.weight(np.array([dims[0], dims[1], dims[3], -1]))])]
            dims = [*dims[:2], dims[3], dims[2]]
        elif op == "ReduceMax":
            several = [b.add(op, [x, b.weight(np.array([1]))] if b.opset >= 18 else [x], **({} if b.opset >= 18 else {"axes": [1]}))]
            dims = [dims[0], 1, *dims[2:]]
        elif op == "Tile":
            several = [b.add(op, [x, b.weight(np.array([1, 1, 1, 2]))])]
            dims = [*dims[:3], 2 * dims[3]]
        elif op == "TopK":
            several = [b.add(op, [x, b.weight(np.array([2]))], 2, axis=3)[0]]
            dims = [*dims[:3], 2]
        else:
            several = [b.add(op, [x], axis=2)]
            return [(b.add("DequantizeLinear", [one, *levels]), FLOAT) for one in several]
        x = several[-1]
        if min(dims[2:]) < 3:
            break
    return [(b.add("DequantizeLinear", [one, *levels]), FLOAT) if r.random() < 0.7 else (one, q.code) for one in several]


EIGHT_BITS = [of_bytes, of_bytes, dynamically, moved_bytes]

KINDS = [conv, conv, conv_transpose, conv_transpose, pool, pool, pool, pad, pad, resize, resize, resize, unary, activation, binary, binary, reduce, reduce, arg, softmax, shuffle, shuffle,
         shuffle, shuffle, normal, product, clip, cast, logic, recurrent, quantised, quantised, sample, suppression]


def single(r, kinds=KINDS):
    while True:
        b = Builder(r, r.randint(OLDEST, NEWEST))
        kind = r.choice(kinds)
        outputs = kind(r, b)
        if outputs and b.inputs:
            return f"{b.nodes[-1].op_type}-{b.opset}", b.model(outputs), b.feeds


def graph(r):
    """A chain over a picture, as the engine's own passes see them: what is folded, fused or done without must not matter."""
    b = Builder(r, r.randint(11, NEWEST))
    c, h, w = r.choice([3, 8, 16, 20]), r.randint(6, 14), r.randint(6, 14)
    x = b.value(b.floats(1, c, h, w))
    known = [(x, (c, h, w))]
    for _ in range(r.randint(3, 9)):
        y, (c, h, w) = r.choice(known[-3:])
        way = r.choice(["conv", "conv", "act", "bn", "pool", "resize", "binary", "concat", "slice", "pad", "scale", "transpose", "convt", "softmax", "mean"])
        if way == "conv":
            k, d = r.choice([1, 3, 3, 5]), r.choice([1, 1, 1, 2])
            s = r.choice([1, 1, 2])
            p = (k - 1) * d // 2
            o = r.choice([4, 8, 16, 17])
            group = 1
            if r.random() < 0.25:
                group, o = c, c
            inputs = [y, b.weight(b.floats(o, c // group, k, k, low=-0.3, high=0.3))] + ([b.weight(b.floats(o))] if r.random() < 0.7 else [])
            y = b.add("Conv", inputs, pads=[p] * 4, strides=[s, s], dilations=[d, d], group=group)
            c, h, w = o, (h - 1) // s + 1, (w - 1) // s + 1
        elif way == "act":
            op = r.choice(["Relu", "Sigmoid", "LeakyRelu", "HardSwish", "HardSigmoid", "Tanh", "Clip", "silu", "Elu", "Celu", "gelu"])
            if op == "silu":
                y = b.add("Mul", [y, b.add("Sigmoid", [y])])
            elif op == "gelu":
                e = b.add("Add", [b.add("Erf", [b.add("Div", [y, b.weight(np.float32(2**0.5))])]), b.weight(np.float32(1))])
                y = b.add("Mul", [b.add("Mul", [y, e]), b.weight(np.float32(0.5))])
            elif op == "Clip":
                y = b.add(op, [y, b.weight(np.float32(0)), b.weight(np.float32(6))])
            elif op == "HardSwish" and b.opset < 14 or op == "Celu" and b.opset < 12:
                y = b.add("Relu", [y])
            else:
                y = b.add(op, [y], **({"alpha": 0.2} if op in ("LeakyRelu", "Elu", "Celu") else {}))
        elif way == "bn":
            ws = [b.weight(b.floats(c)), b.weight(b.floats(c)), b.weight(b.floats(c)), b.weight(b.floats(c, low=0.2))]
            y = b.add("BatchNormalization", [y, *ws])
        elif way == "pool" and min(h, w) > 5:
            op = r.choice(["MaxPool", "AveragePool"])
            k, s = r.choice([2, 3, 5]), r.choice([1, 2])
            p = k // 2 if r.random() < 0.6 else 0
            more = {"ceil_mode": r.randint(0, 1)}
            if op == "AveragePool":
                more["count_include_pad"] = r.randint(0, 1)
            d = r.choice([1, 1, 2]) if op == "MaxPool" or b.opset >= 19 else 1
            if d > 1:
                more["dilations"] = [d, d]
                more["ceil_mode"] = 0
            y = b.add(op, [y], kernel_shape=[k, k], strides=[s, s], pads=[p] * 4, **more)
            e = (k - 1) * d + 1
            size = lambda n: (-(-(n + 2 * p - e) // s) if more["ceil_mode"] else (n + 2 * p - e) // s) + 1
            nh, nw = size(h), size(w)
            if more["ceil_mode"]:
                nh -= (nh - 1) * s >= h + p
                nw -= (nw - 1) * s >= w + p
            if nh < 1 or nw < 1:
                return graph(r)
            h, w = nh, nw
        elif way == "resize" and max(h, w) < 20:
            y = b.add("Resize", [y, b.weight(np.zeros(0, np.float32)), b.weight(np.array([1, 1, 2, 2], np.float32))], mode=r.choice(["nearest", "linear"]),
                      coordinate_transformation_mode=r.choice(["asymmetric", "half_pixel"]), nearest_mode="floor")
            h, w = 2 * h, 2 * w
        elif way == "binary":
            other = [o for o, s in known if s == (c, h, w) and o != y]
            z = r.choice(other) if other else b.weight(b.floats(*r.choice([(1, c, 1, 1), (1, 1, 1, 1), (1, c, h, w)])))
            op = r.choice(["Add", "Sub", "Mul", "Max", "Min"])
            y = b.add(op, r.choice([[y, z], [z, y]]))
        elif way == "concat":
            other = [(o, s) for o, s in known if s[1:] == (h, w)]
            o, s = r.choice(other)
            y = b.add("Concat", [y, o], axis=r.choice([1, -3]))
            c += s[0]
        elif way == "slice" and c > 2:
            cut = r.randint(1, c - 1)
            y = b.add("Slice", [y, b.weight(np.array([0])), b.weight(np.array([cut])), b.weight(np.array([1]))])
            c = cut
        elif way == "pad":
            mode = r.choice(["constant", "edge", "reflect"])
            p = [r.randint(0, 2) for _ in range(4)]
            y = b.add("Pad", [y, b.weight(np.array([0, 0, p[0], p[1], 0, 0, p[2], p[3]], np.int64))] + ([b.weight(np.float32(0.5))] if r.random() < 0.4 else []), mode=mode)
            h, w = h + p[0] + p[2], w + p[1] + p[3]
        elif way == "scale":
            op = r.choice(["Mul", "Add", "Div", "Sub"])
            z = b.weight(b.floats(*r.choice([(1, c, 1, 1), (1,), (c, 1, 1)]), low=0.5))
            y = b.add(op, r.choice([[y, z], [z, y]]) if op != "Div" else [y, z])
        elif way == "transpose":
            y = b.add("Transpose", [y], perm=[0, 1, 3, 2])
            h, w = w, h
        elif way == "convt" and max(h, w) < 20:
            o = r.choice([4, 8])
            y = b.add("ConvTranspose", [y, b.weight(b.floats(c, o, 2, 2, low=-0.3, high=0.3))], strides=[2, 2])
            c, h, w = o, 2 * h, 2 * w
        elif way == "softmax":
            y = b.add("Softmax", [y], axis=r.choice([1, -1] if b.opset >= 13 else [3]))
        elif way == "mean":
            m = b.add("GlobalAveragePool", [y])
            y = b.add("Mul", [y, b.add("Sigmoid", [m])])
        known.append((y, (c, h, w)))
    ends = {known[-1][0]} | ({known[-2][0]} if r.random() < 0.5 else set())
    ends.discard(x)
    if not ends:
        return graph(r)
    return f"{len(b.nodes)}-nodes-{b.opset}", b.model([(e, FLOAT) for e in sorted(ends)]), b.feeds


def transformer(r):
    """Layers of a transformer as different exporters write them: layer normalisation, attention in several layouts, GELU."""
    b = Builder(r, r.randint(13, NEWEST))
    heads, dim = r.choice([1, 2, 3]), r.choice([4, 8, 16, 20])
    batch, tokens, channels = r.choice([1, 1, 1, 3]), r.choice([1, 2, 7, 16, 37, 64]), heads * dim
    number = lambda value: b.weight(np.float32(value))
    sizes = lambda *values: b.weight(np.array(values, np.int64))

    def linear(x, inner, out):
        w = b.floats(inner, out, low=-(3 / inner) ** 0.5, high=(3 / inner) ** 0.5)
        way = r.choice(["matmul", "matmul", "turned", "gemm"])
        if way == "gemm":
            flat = b.add("Reshape", [x, sizes(-1, inner)])
            flat = b.add("Gemm", [flat, b.weight(np.ascontiguousarray(w.T)), b.weight(b.floats(out))], transB=1)
            return b.add("Reshape", [flat, sizes(batch, tokens, out)])
        w = b.add("Transpose", [b.weight(np.ascontiguousarray(w.T))], perm=[1, 0]) if way == "turned" else b.weight(w)
        y = b.add("MatMul", [x, w])
        if r.random() < 0.2:
            return y
        bias = b.weight(b.floats(out))
        return b.add("Add", r.choice([[y, bias], [bias, y]]))

    def mean(x):
        return b.add("ReduceMean", [x, sizes(-1)]) if b.opset >= 18 else b.add("ReduceMean", [x], axes=[-1])

    def norm(x):
        scale, bias, epsilon = b.weight(b.floats(channels)), b.weight(b.floats(channels)), r.choice([1e-5, 1e-3])
        if b.opset >= 17 and r.random() < 0.6:
            return b.add("LayerNormalization", [x, scale, bias], axis=-1, epsilon=epsilon)
        centred = b.add("Sub", [x, mean(x)])
        variance = mean(b.add("Pow", [centred, number(2)]) if r.random() < 0.5 else b.add("Mul", [centred, centred]))
        y = b.add("Div", [centred, b.add("Sqrt", [b.add("Add", [variance, number(epsilon)])])])
        y = b.add("Mul", [y, scale]) if r.random() < 0.9 else y
        return b.add("Add", [y, bias]) if r.random() < 0.9 else y

    def gelu(x):
        if b.opset >= 20 and r.random() < 0.4:
            return b.add("Gelu", [x], approximate=r.choice(["none", "tanh"]))
        if r.random() < 0.5:
            gate = b.add("Erf", [b.add("Div", [x, number(2**0.5)]) if r.random() < 0.5 else b.add("Mul", [x, number(0.5**0.5)])])
        else:
            cube = b.add("Pow", [x, number(3)])
            gate = b.add("Mul", [b.add("Add", [x, b.add("Mul", [cube, number(0.044715)])]), number((2 / np.pi) ** 0.5)])
            gate = b.add("Tanh", [gate])
        gate = b.add("Add", [gate, number(1)])
        if r.random() < 0.5:
            return b.add("Mul", [b.add("Mul", [x, gate]), number(0.5)])
        return b.add("Mul", [b.add("Mul", [x, number(0.5)]), gate])

    def attention(x):
        q, k, v = (b.add("Reshape", [linear(x, channels, channels), sizes(batch, tokens, heads, dim)]) for _ in range(3))
        scale = dim**-0.5
        way = r.choice(["early", "late", "both", "divided", "masked", "turned", "none"])
        q, v = b.add("Transpose", [q], perm=[0, 2, 1, 3]), b.add("Transpose", [v], perm=[0, 2, 1, 3])
        k = b.add("Transpose", [k], perm=[0, 2, 3, 1])
        if way == "early":
            q = b.add("Mul", [q, number(scale)])
        if way == "both":
            q, k = b.add("Mul", [q, number(scale**0.5)]), b.add("Mul", [number(scale**0.5), k])
        scores = b.add("MatMul", [q, k])
        if way in ("late", "masked"):
            scores = b.add("Mul", [scores, number(scale)])
        if way == "divided":
            scores = b.add("Div", [scores, number(1 / scale)])
        if way == "masked":
            for _ in range(r.choice([1, 1, 2])):
                mask = b.floats(*r.choice([[1, 1], [1, heads], [batch, 1]]), r.choice([1, tokens]), tokens)
                if r.random() < 0.4:
                    mask[..., 1:][b.rng.rand(*mask[..., 1:].shape) < 0.3] = r.choice([-np.inf, -100.0, np.finfo(np.float32).min])
                mask = b.weight(mask) if r.random() < 0.6 or not np.isfinite(mask).all() else b.value(mask)
                shape = [batch, heads, tokens, tokens]
                inside = r.random() < 0.2
                scores = b.add("Reshape", [scores, sizes(1, *shape)]) if inside else scores
                scores = b.add("Add", r.choice([[scores, mask], [mask, scores]]))
                scores = b.add("Reshape", [scores, sizes(*shape)]) if inside else scores
        weights = b.add("Softmax", [scores], axis=-1)
        if way == "turned":
            y = b.add("MatMul", [b.add("Transpose", [v], perm=[0, 1, 3, 2]), b.add("Transpose", [weights], perm=[0, 1, 3, 2])])
            y = b.add("Transpose", [y], perm=[0, 3, 1, 2])
        else:
            y = b.add("Transpose", [b.add("MatMul", [weights, v])], perm=[0, 2, 1, 3])
        return linear(b.add("Reshape", [y, sizes(batch, tokens, channels)]), channels, channels)

    x = b.value(b.floats(batch, tokens, channels))
    for _ in range(r.randint(1, 2)):
        share = lambda y: b.add("Mul", [y, b.weight(b.floats(channels))]) if r.random() < 0.3 else y
        y = share(attention(norm(x)))
        x = b.add("Add", r.choice([[x, y], [y, x]]))
        wide = channels * r.choice([1, 2, 4])
        x = b.add("Add", [x, share(linear(gelu(linear(norm(x), channels, wide)), wide, channels))])
    return f"transformer-{b.opset}", b.model([(x, FLOAT)]), b.feeds
