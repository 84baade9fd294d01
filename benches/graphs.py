#!/usr/bin/env python3
"""Writes ONNX graphs with the layer shapes of well-known detectors and random weights, for speed comparisons.

    graphs.py yolov8n|yolov8s|yolov8x|yolo11n|yolov5s|vit|rfdetr SIZE OUT.onnx

The shapes come from the published architectures (channels, depths, kernel sizes); the code is our own, and so are the
weights: a seeded generator scaled so that activations stay of order one. Needs numpy and onnx from PyPI.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import transformers

CLASSES = 80
BINS = 16  # of the distribution from which box sides are decoded


class Net:
    """Collects nodes; a tensor is (name, channels, side)."""

    def __init__(self, size):
        self.nodes, self.inits, self.count = [], [], 0
        self.random = np.random.default_rng(0)
        self.input = ("images", 3, size)

    def add(self, op, inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"{op.lower()}{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def const(self, array):
        self.count += 1
        name = f"const{self.count}"
        self.inits.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def ints(self, *values):
        return self.const(np.array(values, dtype=np.int64))

    def raw(self, x, out, k=1, s=1, groups=1, bias=True):
        name, channels, side = x
        fan_in = channels // groups * k * k
        weights = self.random.standard_normal((out, channels // groups, k, k), dtype=np.float32) * (1.6 / fan_in**0.5)
        inputs = [name, self.const(weights)]
        if bias:
            inputs.append(self.const(self.random.standard_normal(out, dtype=np.float32) * 0.1))
        pad = (k - 1) // 2  # 6×6 with stride 2 has 2
        made = self.add("Conv", inputs, kernel_shape=[k, k], strides=[s, s], pads=[pad] * 4, group=groups)
        return made, out, (side + 2 * pad - k) // s + 1

    def conv(self, x, out, k=1, s=1, groups=1, act=True):
        x = self.raw(x, out, k, s, groups)
        if not act:
            return x
        return self.add("Mul", [x[0], self.add("Sigmoid", [x[0]])]), x[1], x[2]

    def plus(self, a, b):
        return self.add("Add", [a[0], b[0]]), a[1], a[2]

    def concat(self, parts):
        return self.add("Concat", [p[0] for p in parts], axis=1), sum(p[1] for p in parts), parts[0][2]

    def halves(self, x):
        split = self.ints(x[1] // 2, x[1] // 2)
        return [(n, x[1] // 2, x[2]) for n in self.add("Split", [x[0], split], 2, axis=1)]

    def pool(self, x, k=5):
        made = self.add("MaxPool", [x[0]], kernel_shape=[k, k], strides=[1, 1], pads=[k // 2] * 4)
        return made, x[1], x[2]

    def double(self, x):
        scales = self.const(np.array([1, 1, 2, 2], dtype=np.float32))
        made = self.add("Resize", [x[0], "", scales], mode="nearest", nearest_mode="floor",
                        coordinate_transformation_mode="asymmetric")
        return made, x[1], x[2] * 2

    def bottleneck(self, x, out, shortcut, kernels=(3, 3), expand=1.0):
        y = self.conv(self.conv(x, int(out * expand), kernels[0]), out, kernels[1])
        return self.plus(x, y) if shortcut and x[1] == out else y

    def c3(self, x, out, n, shortcut, kernels=(1, 3), expand=1.0):
        """Two branches, one through bottlenecks, joined by a pointwise convolution."""
        y, side = self.conv(x, out // 2), self.conv(x, out // 2)
        for _ in range(n):
            y = self.bottleneck(y, out // 2, shortcut, kernels, expand)
        return self.conv(self.concat([y, side]), out)

    def c2f(self, x, out, n, shortcut, inner=None):
        """Every bottleneck's output is kept and joined."""
        hidden = inner[1] if inner else out // 2
        parts = self.halves(self.conv(x, 2 * hidden))
        for _ in range(n):
            if inner and inner[0]:
                parts.append(self.c3(parts[-1], hidden, 2, True, (3, 3)))
            else:
                parts.append(self.bottleneck(parts[-1], hidden, shortcut, expand=0.5 if inner else 1.0))
        return self.conv(self.concat(parts), out)

    def sppf(self, x, out):
        parts = [self.conv(x, x[1] // 2)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.conv(self.concat(parts), out)

    def attention(self, x, heads):
        """Self-attention over pixels with a depthwise positional term."""
        name, channels, side = x
        dim = channels // heads
        key = dim // 2
        qkv = self.conv(x, channels + key * heads * 2, act=False)
        flat = self.add("Reshape", [qkv[0], self.ints(1, heads, key * 2 + dim, side * side)])
        q, k, v = self.add("Split", [flat, self.ints(key, key, dim)], 3, axis=2)
        scores = self.add("MatMul", [self.add("Transpose", [q], perm=[0, 1, 3, 2]), k])
        scores = self.add("Mul", [scores, self.const(np.float32(key**-0.5))])
        scores = self.add("Transpose", [self.add("Softmax", [scores], axis=3)], perm=[0, 1, 3, 2])
        mixed = self.add("Reshape", [self.add("MatMul", [v, scores]), self.ints(1, channels, side, side)])
        place = self.add("Reshape", [v, self.ints(1, channels, side, side)])
        place = self.conv((place, channels, side), channels, 3, groups=channels, act=False)
        return self.conv(self.plus((mixed, channels, side), place), channels, act=False)

    def c2psa(self, x, n):
        keep, y = self.halves(self.conv(x, x[1]))
        for _ in range(n):
            y = self.plus(y, self.attention(y, max(y[1] // 64, 1)))
            y = self.plus(y, self.conv(self.conv(y, y[1] * 2), y[1], act=False))
        return self.conv(self.concat([keep, y]), x[1])

    def anchors(self, levels, size):
        """Centres of all cells, in cells, and their strides."""
        points, strides = [], []
        for _, _, side in levels:
            at = np.arange(side, dtype=np.float32) + 0.5
            ys, xs = np.meshgrid(at, at, indexing="ij")
            points.append(np.stack([xs.ravel(), ys.ravel()]))
            strides.append(np.full(side * side, size / side, dtype=np.float32))
        return np.concatenate(points, 1)[None], np.concatenate(strides)[None, None]

    def anchor_free_head(self, levels, depthwise):
        size = self.input[2]
        box, scores = max(16, levels[0][1] // 4, 4 * BINS), max(levels[0][1], min(CLASSES, 100))
        rows = []
        for x in levels:
            b = self.raw(self.conv(self.conv(x, box, 3), box, 3), 4 * BINS)
            if depthwise:
                c = self.conv(self.conv(x, x[1], 3, groups=x[1]), scores)
                c = self.conv(self.conv(c, scores, 3, groups=scores), scores)
            else:
                c = self.conv(self.conv(x, scores, 3), scores, 3)
            both = self.concat([b, self.raw(c, CLASSES)])
            rows.append(self.add("Reshape", [both[0], self.ints(1, 4 * BINS + CLASSES, -1)]))
        count = sum(side * side for _, _, side in levels)
        box, scores = self.add("Split", [self.add("Concat", rows, axis=2), self.ints(4 * BINS, CLASSES)], 2, axis=1)
        box = self.add("Transpose", [self.add("Reshape", [box, self.ints(1, 4, BINS, count)])], perm=[0, 2, 1, 3])
        bins = self.const(np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1))
        box = self.add("Conv", [self.add("Softmax", [box], axis=1), bins], kernel_shape=[1, 1])
        box = self.add("Reshape", [box, self.ints(1, 4, count)])
        before, after = self.add("Split", [box, self.ints(2, 2)], 2, axis=1)
        points, strides = self.anchors(levels, size)
        points = self.const(points)
        first, last = self.add("Sub", [points, before]), self.add("Add", [points, after])
        centre = self.add("Div", [self.add("Add", [first, last]), self.const(np.float32(2))])
        box = self.add("Concat", [centre, self.add("Sub", [last, first])], axis=1)
        box = self.add("Mul", [box, self.const(strides)])
        return self.add("Concat", [box, self.add("Sigmoid", [scores])], axis=1), [1, 4 + CLASSES, count]

    def anchor_head(self, levels):
        """Three anchors per cell; rows of box, objectness, classes."""
        size, rows, total = self.input[2], [], 0
        for x in levels:
            side = x[2]
            y = self.raw(x, 3 * (5 + CLASSES))
            y = self.add("Reshape", [y[0], self.ints(1, 3, 5 + CLASSES, side, side)])
            y = self.add("Sigmoid", [self.add("Transpose", [y], perm=[0, 1, 3, 4, 2])])
            xy, wh, rest = self.add("Split", [y, self.ints(2, 2, 1 + CLASSES)], 3, axis=4)
            at = np.arange(side, dtype=np.float32) - 0.5
            grid = np.stack(np.meshgrid(at, at, indexing="xy"), -1)[None, None].repeat(3, 1)
            sizes = np.ones((1, 3, side, side, 2), dtype=np.float32) * (size / side * 3)
            two = self.const(np.float32(2))
            xy = self.add("Mul", [self.add("Add", [self.add("Mul", [xy, two]), self.const(grid.astype(np.float32))]),
                                  self.const(np.float32(size / side))])
            wh = self.add("Mul", [self.add("Pow", [self.add("Mul", [wh, two]), two]), self.const(sizes)])
            y = self.add("Concat", [xy, wh, rest], axis=4)
            rows.append(self.add("Reshape", [y, self.ints(1, 3 * side * side, 5 + CLASSES)]))
            total += 3 * side * side
        return self.add("Concat", rows, axis=1), [1, total, 5 + CLASSES]

    def save(self, output, shape, path):
        """`output`: one value, or several with their names and shapes."""
        size, made = self.input[2], []
        for name, value, dims in [("output0", output, shape)] if isinstance(output, str) else output:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
            made.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        graph = helper.make_graph(
            self.nodes, "shapes", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])], made, self.inits)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        entry = model.metadata_props.add()
        entry.key, entry.value = "names", str({i: f"class{i}" for i in range(CLASSES)})
        onnx.checker.check_model(model)
        onnx.save(model, path)


def yolov8(net, width, depth=1, most=1024):
    c = [int(min(w, most) * width) for w in (64, 128, 256, 512, 1024)]
    x = net.conv(net.conv(net.input, c[0], 3, 2), c[1], 3, 2)
    x = net.c2f(x, c[1], depth, True)
    p3 = net.c2f(net.conv(x, c[2], 3, 2), c[2], 2 * depth, True)
    p4 = net.c2f(net.conv(p3, c[3], 3, 2), c[3], 2 * depth, True)
    p5 = net.sppf(net.c2f(net.conv(p4, c[4], 3, 2), c[4], depth, True), c[4])
    up4 = net.c2f(net.concat([net.double(p5), p4]), c[3], depth, False)
    out3 = net.c2f(net.concat([net.double(up4), p3]), c[2], depth, False)
    out4 = net.c2f(net.concat([net.conv(out3, c[2], 3, 2), up4]), c[3], depth, False)
    out5 = net.c2f(net.concat([net.conv(out4, c[3], 3, 2), p5]), c[4], depth, False)
    return net.anchor_free_head([out3, out4, out5], False)


def yolov8x(net, width):
    return yolov8(net, width, 3, 512)


def yolo11(net, width):
    c = [int(w * width) for w in (64, 128, 256, 512, 1024)]
    thin = lambda x, out, expand: net.c2f(x, out, 1, True, (False, int(out * expand)))
    thick = lambda x, out: net.c2f(x, out, 1, True, (True, out // 2))
    x = thin(net.conv(net.conv(net.input, c[0], 3, 2), c[1], 3, 2), c[2], 0.25)
    p3 = thin(net.conv(x, c[2], 3, 2), c[3], 0.25)
    p4 = thick(net.conv(p3, c[3], 3, 2), c[3])
    p5 = net.c2psa(net.sppf(thick(net.conv(p4, c[4], 3, 2), c[4]), c[4]), 1)
    up4 = thin(net.concat([net.double(p5), p4]), c[3], 0.5)
    out3 = thin(net.concat([net.double(up4), p3]), c[2], 0.5)
    out4 = thin(net.concat([net.conv(out3, c[2], 3, 2), up4]), c[3], 0.5)
    out5 = thick(net.concat([net.conv(out4, c[3], 3, 2), p5]), c[4])
    return net.anchor_free_head([out3, out4, out5], True)


def yolov5(net, width):
    c = [int(w * width) for w in (64, 128, 256, 512, 1024)]
    x = net.conv(net.conv(net.input, c[0], 6, 2), c[1], 3, 2)
    x = net.c3(x, c[1], 1, True)
    p3 = net.c3(net.conv(x, c[2], 3, 2), c[2], 2, True)
    p4 = net.c3(net.conv(p3, c[3], 3, 2), c[3], 3, True)
    p5 = net.sppf(net.c3(net.conv(p4, c[4], 3, 2), c[4], 1, True), c[4])
    top5 = net.conv(p5, c[3])
    up4 = net.conv(net.c3(net.concat([net.double(top5), p4]), c[3], 1, False), c[2])
    out3 = net.c3(net.concat([net.double(up4), p3]), c[2], 1, False)
    out4 = net.c3(net.concat([net.conv(out3, c[2], 3, 2), up4]), c[3], 1, False)
    out5 = net.c3(net.concat([net.conv(out4, c[3], 3, 2), top5]), c[4], 1, False)
    return net.anchor_head([out3, out4, out5])


MODELS = {"yolov8n": (yolov8, 0.25), "yolov8s": (yolov8, 0.5), "yolov8x": (yolov8x, 1.25), "yolo11n": (yolo11, 0.25),
          "yolov5s": (yolov5, 0.5), "vit": (transformers.vit, 384), "rfdetr": (transformers.rfdetr, 384)}

if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in MODELS:
        sys.exit(__doc__)
    build, width = MODELS[sys.argv[1]]
    net = Net(int(sys.argv[2]))
    net.save(*build(net, width), sys.argv[3])
