#!/usr/bin/env python3
"""Small models that end as the exports of well-known detectors do: makes *.onnx of this folder.

    python3 -m venv V && V/bin/pip install onnx numpy && V/bin/python tests/heads/generate.py

A stem of one convolution gives pictures of 8×8, 4×4 and 2×2 pixels; what follows has the operators of the real heads, with
fewer channels. Weights are seeded noise, biases spread the scores.
"""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
SIDE, STRIDES, CHANNELS, CLASSES, BINS = 64, (8, 16, 32), 8, 20, 16


class Net:
    def __init__(self):
        self.nodes, self.weights, self.count, self.random = [], [], 0, np.random.default_rng(3)

    def add(self, op, inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"{op}_{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def const(self, values, dtype=np.float32):
        self.count += 1
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), f"c{self.count}"))
        return f"c{self.count}"

    def shape(self, *dims):
        return self.const(dims, np.int64)

    def conv(self, x, inputs, outputs, kernel=1, stride=1, spread=0.3):
        scale = 2.0 / (inputs * kernel * kernel) ** 0.5
        weights = self.random.standard_normal((outputs, inputs, kernel, kernel)) * scale
        bias = self.random.standard_normal(outputs) * spread
        pads = [kernel // 2] * 4
        return self.add("Conv", [x, self.const(weights), self.const(bias)], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def relu(self, x):
        return self.add("Relu", [x])

    def pictures(self):
        """(name, side) of three levels."""
        x, channels, made = "images", 3, []
        for _ in range(5):
            x, channels = self.relu(self.conv(x, channels, CHANNELS, 3, 2)), CHANNELS
            made.append(x)
        return [(x, SIDE // stride) for x, stride in zip(made[2:], STRIDES)]

    def save(self, file, outputs):
        names = ["output0", "output1"][: len(outputs)]
        for (made, _), name in zip(outputs, names):
            self.nodes.append(helper.make_node("Identity", [made], [name]))
        graph = helper.make_graph(
            self.nodes, "head", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, (_, shape) in zip(names, outputs)], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        entry = model.metadata_props.add()
        entry.key, entry.value = "names", str({i: f"class{i}" for i in range(CLASSES)})
        onnx.checker.check_model(model)
        (HERE / file).write_bytes(model.SerializeToString(deterministic=True))


def centres(net):
    points = [np.stack(np.meshgrid(np.arange(SIDE // s) + 0.5, np.arange(SIDE // s) + 0.5), 0).reshape(2, -1) for s in STRIDES]
    strides = [np.full((SIDE // s) ** 2, s) for s in STRIDES]
    return np.concatenate(points, 1)[None], np.concatenate(strides)[None, None]


def boxes(net, logits, count):
    """Sides as the expectation over bins, then centre and size: distribution focal loss, as Ultralytics exports it."""
    x = net.add("Transpose", [net.add("Reshape", [logits, net.shape(1, 4, BINS, count)])], perm=[0, 2, 1, 3])
    bins = net.const(np.arange(BINS).reshape(1, BINS, 1, 1))
    x = net.add("Conv", [net.add("Softmax", [x], axis=1), bins], kernel_shape=[1, 1])
    before, after = net.add("Split", [net.add("Reshape", [x, net.shape(1, 4, count)]), net.shape(2, 2)], 2, axis=1)
    points, strides = centres(net)
    points = net.const(points)
    first, last = net.add("Sub", [points, before]), net.add("Add", [points, after])
    centre = net.add("Div", [net.add("Add", [first, last]), net.const(2.0)])
    return net.add("Mul", [net.add("Concat", [centre, net.add("Sub", [last, first])], axis=1), net.const(strides)])


def yolov8():
    """Levels joined before the split into boxes and scores; depth 16 of the last convolutions."""
    net, rows, count = Net(), [], 0
    for x, side in net.pictures():
        box = net.conv(net.relu(net.conv(x, CHANNELS, 16, 3)), 16, 4 * BINS)
        score = net.conv(net.relu(net.conv(x, CHANNELS, 16, 3)), 16, CLASSES, spread=1.5)
        both = net.add("Concat", [box, score], axis=1)
        rows.append(net.add("Reshape", [both, net.shape(1, 4 * BINS + CLASSES, -1)]))
        count += side * side
    box, score = net.add("Split", [net.add("Concat", rows, axis=2), net.shape(4 * BINS, CLASSES)], 2, axis=1)
    output = net.add("Concat", [boxes(net, box, count), net.add("Sigmoid", [score])], axis=1)
    net.save("yolov8.onnx", [(output, [1, 4 + CLASSES, count])])


def yolov5():
    """Three anchors per cell, everything through one sigmoid, levels joined at the end."""
    net, rows, total, values = Net(), [], 0, 5 + CLASSES
    for (x, side), stride in zip(net.pictures(), STRIDES):
        y = net.conv(x, CHANNELS, 3 * values, spread=1.0)
        y = net.add("Reshape", [y, net.shape(1, 3, values, side, side)])
        y = net.add("Sigmoid", [net.add("Transpose", [y], perm=[0, 1, 3, 4, 2])])
        xy, wh, rest = net.add("Split", [y, net.shape(2, 2, 1 + CLASSES)], 3, axis=4)
        grid = np.stack(np.meshgrid(np.arange(side) - 0.5, np.arange(side) - 0.5), -1)[None, None].repeat(3, 1)
        sizes = np.broadcast_to(np.array([[1, 2], [2, 1], [3, 3]]).reshape(1, 3, 1, 1, 2) * stride, (1, 3, side, side, 2))
        two = net.const(2.0)
        xy = net.add("Mul", [net.add("Add", [net.add("Mul", [xy, two]), net.const(grid)]), net.const(float(stride))])
        wh = net.add("Mul", [net.add("Pow", [net.add("Mul", [wh, two]), two]), net.const(sizes)])
        y = net.add("Concat", [xy, wh, rest], axis=4)
        rows.append(net.add("Reshape", [y, net.shape(1, 3 * side * side, values)]))
        total += 3 * side * side
    net.save("yolov5.onnx", [(net.add("Concat", rows, axis=1), [1, total, values])])


def nanodet():
    """One convolution for scores and bins of a level, split and transposed; levels joined last; `[1, 4+C, N]` by a transposition."""
    net, rows, count = Net(), [], 0
    for (x, side), stride in zip(net.pictures(), STRIDES):
        y = net.conv(net.relu(net.conv(x, CHANNELS, CHANNELS, 3)), CHANNELS, CLASSES + 4 * BINS, spread=1.5)
        score, box = net.add("Split", [y, net.shape(CLASSES, 4 * BINS)], 2, axis=1)
        flat = lambda t, n: net.add("Transpose", [net.add("Reshape", [t, net.shape(1, n, side * side)])], perm=[0, 2, 1])
        score = flat(net.add("Sigmoid", [score]), CLASSES)
        box = net.add("Softmax", [net.add("Reshape", [flat(box, 4 * BINS), net.shape(1, side * side, 4, BINS)])], axis=3)
        box = net.add("MatMul", [box, net.const(np.arange(BINS).reshape(BINS, 1) * stride)])
        box = net.add("Reshape", [box, net.shape(1, side * side, 4)])
        before, after = net.add("Split", [box, net.shape(2, 2)], 2, axis=2)
        at = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(1, -1, 2) + 0.5) * stride
        at = net.const(at)
        first, last = net.add("Sub", [at, before]), net.add("Add", [at, after])
        middle = net.add("Mul", [net.add("Add", [first, last]), net.const(0.5)])
        rows.append(net.add("Concat", [middle, net.add("Sub", [last, first]), score], axis=2))
        count += side * side
    output = net.add("Transpose", [net.add("Concat", rows, axis=1)], perm=[0, 2, 1])
    net.save("nanodet.onnx", [(output, [1, 4 + CLASSES, count])])


def yolo_nas():
    """Boxes and scores are two outputs, joined and transposed by themselves."""
    net, box_rows, score_rows, count = Net(), [], [], 0
    for (x, side), stride in zip(net.pictures(), STRIDES):
        box = net.relu(net.conv(net.relu(net.conv(x, CHANNELS, CHANNELS, 3)), CHANNELS, 4))
        score = net.add("Sigmoid", [net.conv(net.relu(net.conv(x, CHANNELS, CHANNELS, 3)), CHANNELS, CLASSES, spread=1.5)])
        for t, n, into in [(box, 4, box_rows), (score, CLASSES, score_rows)]:
            into.append(net.add("Reshape", [t, net.shape(1, n, side * side)]))
        count += side * side
    rows = [net.add("Transpose", [net.add("Concat", r, axis=2)], perm=[0, 2, 1]) for r in (box_rows, score_rows)]
    before, after = net.add("Split", [rows[0], net.shape(2, 2)], 2, axis=2)
    points, strides = centres(net)
    points, strides = net.const(points.transpose(0, 2, 1)), net.const(strides.transpose(0, 2, 1))
    corners = net.add("Concat", [net.add("Sub", [points, before]), net.add("Add", [points, after])], axis=2)
    net.save("yolo_nas.onnx", [(net.add("Mul", [corners, strides]), [1, count, 4]), (rows[1], [1, count, CLASSES])])


if __name__ == "__main__":
    yolov8(), yolov5(), nanodet(), yolo_nas()
