#!/usr/bin/env python3
"""Small models of every family, and what they must find: makes *.onnx and expected.jsonl of this folder.

    python3 -m venv V && V/bin/pip install onnx numpy && V/bin/python tests/families/generate.py

Each graph averages its 32x32 input over a 4x4 grid: the three channels of a cell are the scores of classes 0, 1, 2 of one
of 16 anchors, whose boxes are constants. So what comes out depends on every pixel, on the order of the channels and on the
normalisation. The expected detections are computed here from the formulas of the reference's description, in numpy, without
looking at the Rust code.
"""
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
SIDE, CELLS, CLASSES = 32, 16, 3
CENTRES = np.random.RandomState(7).uniform(4, 28, (CELLS, 2)).astype(np.float32)
SIZES = np.random.RandomState(8).uniform(3, 14, (CELLS, 2)).astype(np.float32)
CORNERS = np.concatenate([CENTRES - SIZES / 2, CENTRES + SIZES / 2], 1)
NAMES = {0: "red", 1: "green", 2: "blue"}


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def save(file, nodes, outputs, weights, dims=(1, 3, SIDE, SIDE), half=False):
    """A graph that begins with the grid: `scores` [1, 3, 16] and `rows` [1, 16, 3] are there for `nodes`."""
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    begin = [
        helper.make_node("AveragePool", ["images"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["grid", "scores_shape"], ["scores"]),
        helper.make_node("Transpose", ["scores"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("ReduceMax", ["rows"], ["best"], axes=[2], keepdims=1),
        helper.make_node("ArgMax", ["rows"], ["class_index"], axis=2, keepdims=1),
        helper.make_node("Cast", ["class_index"], ["class"], to=kind),
    ]
    weights = [constant(w.name, numpy_helper.to_array(w), dtype) if w.data_type == TensorProto.FLOAT else w for w in weights]
    weights.append(constant("scores_shape", [1, CLASSES, CELLS], np.int64))
    # Only what leads to an output stays.
    wanted, nodes = {name for name, _, _ in outputs}, begin + nodes
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.insert(0, node)
    graph = helper.make_graph(
        kept, "family",
        [helper.make_tensor_value_info("images", kind, list(dims))],
        [helper.make_tensor_value_info(name, t or kind, shape) for name, t, shape in outputs],
        [w for w in weights if w.name in wanted],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.metadata_props.append(onnx.StringStringEntryProto(key="names", value=str(NAMES)))
    onnx.checker.check_model(model)
    (HERE / file).write_bytes(model.SerializeToString(deterministic=True))


def convolutions():
    """A small detector as they are built: convolutions with SiLU and LeakyRelu, padding by a node of its own, a shortcut, pooling,
    concatenation, resizing, a head whose last convolution gives scores and sides. What it finds means nothing."""
    random, side, anchors = np.random.RandomState(23), 64, 64
    node, weights, nodes = helper.make_node, [], []

    def conv(name, source, inputs, outputs, size, **attributes):
        scale = 1.6 / np.sqrt(inputs * size * size)
        weights.append(constant(f"{name}.w", random.normal(0, scale, (outputs, inputs, size, size))))
        weights.append(constant(f"{name}.b", random.normal(0, 0.2, outputs)))
        nodes.append(node("Conv", [source, f"{name}.w", f"{name}.b"], [name], name=name, **attributes))
        return name

    def silu(name):
        nodes.extend([node("Sigmoid", [name], [f"{name}.gate"]), node("Mul", [name, f"{name}.gate"], [f"{name}.silu"])])
        return f"{name}.silu"

    def leaky(name):
        nodes.append(node("LeakyRelu", [name], [f"{name}.leaky"], alpha=0.1))
        return f"{name}.leaky"

    one = silu(conv("one", "images", 3, 8, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    two = silu(conv("two", one, 8, 8, 3, pads=[1, 1, 1, 1]))
    nodes.append(node("Add", [one, two], ["sum"]))
    nodes.append(node("Pad", ["sum", "margin"], ["padded"]))
    three = leaky(conv("three", "padded", 8, 16, 3, strides=[2, 2]))
    nodes.append(node("MaxPool", [three], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]))
    four = leaky(conv("four", "pooled", 16, 16, 1))
    nodes.append(node("Resize", [four, "", "twice"], ["larger"], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"))
    nodes.append(node("Concat", [three, "larger"], ["both"], axis=1))
    five = silu(conv("five", "both", 16, 16, 3, strides=[2, 2], pads=[1, 1, 1, 1], group=2))
    last = conv("last", five, 16, CLASSES + 4, 1)
    weights.extend([
        constant("margin", [0, 0, 1, 1, 0, 0, 1, 1], np.int64), constant("twice", [1, 1, 2, 2]),
        constant("shape", [1, CLASSES + 4, anchors], np.int64), constant("split", [4, CLASSES], np.int64),
        constant("boxes", np.stack([*np.meshgrid(np.arange(4, side, 8), np.arange(4, side, 8)), np.full((8, 8), 24), np.full((8, 8), 24)]).reshape(1, 4, anchors)),
    ])
    nodes.extend([
        node("Reshape", [last, "shape"], ["flat"]), node("Split", ["flat", "split"], ["sides", "logits"], axis=1),
        node("Sigmoid", ["logits"], ["scores"]), node("Add", ["sides", "boxes"], ["placed"]), node("Concat", ["placed", "scores"], ["output0"], axis=1),
    ])
    graph = helper.make_graph(
        nodes, "convolutions", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, CLASSES + 4, anchors])], weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.metadata_props.append(onnx.StringStringEntryProto(key="names", value=str(NAMES)))
    onnx.checker.check_model(model)
    (HERE / "convolutions.onnx").write_bytes(model.SerializeToString(deterministic=True))


def bad(file, nodes, weights=(), inputs=("images",), opset=13):
    """A graph from `inputs` to `output0` that must be refused, or find nothing."""
    graph = helper.make_graph(
        nodes, "bad",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, SIDE, SIDE]) for name in inputs],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)], list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.metadata_props.append(onnx.StringStringEntryProto(key="names", value=str(NAMES)))
    (HERE / f"bad-{file}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def bad_models():
    identity = helper.make_node("Identity", ["images"], ["output0"])
    bad("operator", [helper.make_node("Teleport", ["images"], ["output0"], name="beam")])
    bad("layout", [identity])
    bad("opset", [identity], opset=99)
    bad("inputs", [helper.make_node("Add", ["images", "more"], ["output0"])], inputs=("images", "more"))
    four_gigabytes = constant("shape", [1, 1024, 1024, 1024], np.int64)
    fill = helper.make_node("ConstantOfShape", ["shape"], ["huge"], name="fill")
    bad("constant", [fill, helper.make_node("ReduceMax", ["huge"], ["one"]), helper.make_node("Add", ["images", "one"], ["output0"])],
        [four_gigabytes])
    # Each step doubles a constant: 2^20 times 12 KiB.
    seed = constant("step0", np.zeros((1, 3, SIDE, SIDE)))
    steps = [helper.make_node("Concat", [f"step{i}"] * 2, [f"step{i + 1}"], axis=1) for i in range(20)]
    bad("doubling", [*steps, helper.make_node("Concat", ["images", "step20"], ["output0"], axis=1)], [seed])
    bad("activation", [helper.make_node("Tile", ["images", "times"], ["output0"])], [constant("times", [1, 1, 2048, 2048], np.int64)])
    lying = constant("lie", np.zeros(4))
    lying.dims[:] = [1 << 40]
    bad("tensor", [helper.make_node("Add", ["images", "lie"], ["output0"])], [lying])
    outside = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../../../etc/passwd")
    bad("external", [helper.make_node("Add", ["images", "far"], ["output0"])], [outside])
    bad("circle", [helper.make_node("Add", ["images", "b"], ["a"], name="first"), helper.make_node("Identity", ["a"], ["b"]), helper.make_node("Identity", ["b"], ["output0"])])
    bad("missing", [helper.make_node("Add", ["images", "nowhere"], ["output0"], name="sum")])
    # Right in every way, but its boxes are no numbers.
    broken = np.full((1, 4, CELLS), np.nan)
    broken[0, :, 1::2] = np.inf
    save("bad-numbers.onnx", [concat("boxes", "scores", axis=1)], [("output0", None, [1, 7, CELLS])], [constant("boxes", broken)])


def concat(*names, axis):
    return helper.make_node("Concat", list(names), ["output0"], axis=axis)


LOGIT_GAIN = 3.0
# Stride 8 has 16 cells, 16 has 4, 32 has one.
YOLOX_CELLS = 21


def models():
    centred = np.concatenate([CENTRES, SIZES], 1)
    boxes8 = constant("boxes", centred.T[None])
    v8 = ([concat("boxes", "scores", axis=1)], [("output0", None, [1, 7, CELLS])], [boxes8])
    save("yolov8.onnx", *v8)
    save("yolov8-dynamic.onnx", *v8, dims=("batch", 3, "height", "width"))
    save("yolov8-f16.onnx", *v8, half=True)
    save("yolov5.onnx", [concat("boxes", "best", "rows", axis=2)], [("output0", None, [1, CELLS, 8])], [constant("boxes", centred[None])])
    corners = constant("boxes", CORNERS[None])
    save("yolo_nas.onnx", [helper.make_node("Identity", ["boxes"], ["boxes_out"]), helper.make_node("Identity", ["rows"], ["scores_out"])],
         [("boxes_out", None, [1, CELLS, 4]), ("scores_out", None, [1, CELLS, CLASSES])], [corners])
    save("end_to_end.onnx", [concat("boxes", "best", "class", axis=2)], [("output0", None, [1, CELLS, 6])], [corners])
    save("rfdetr.onnx",
         [helper.make_node("Mul", ["rows", "gain"], ["labels"]), helper.make_node("Identity", ["boxes"], ["dets"])],
         [("dets", None, [1, CELLS, 4]), ("labels", None, [1, CELLS, CLASSES])],
         [constant("boxes", centred[None] / SIDE), constant("gain", [LOGIT_GAIN])])
    raw = np.zeros((1, YOLOX_CELLS, 4), np.float32)
    raw[0, :, :2] = np.random.RandomState(9).uniform(0, 1, (YOLOX_CELLS, 2))
    raw[0, :, 2:] = np.random.RandomState(10).uniform(-0.5, 0.7, (YOLOX_CELLS, 2))
    save("yolox.onnx",
         [helper.make_node("Gather", ["rows", "cells"], ["some"], axis=1), helper.make_node("Mul", ["some", "byte"], ["parts"]),
          concat("boxes", "sure", "parts", axis=2)],
         [("output0", None, [1, YOLOX_CELLS, 8])],
         [constant("boxes", raw), constant("sure", np.full((1, YOLOX_CELLS, 1), 0.9)), constant("byte", [1 / 255]),
          constant("cells", [i % CELLS for i in range(YOLOX_CELLS)], np.int64)])
    save("nms_in_graph.onnx",
         [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["picked"]),
          helper.make_node("Gather", ["picked", "two"], ["anchor2"], axis=1), helper.make_node("Gather", ["picked", "one"], ["label2"], axis=1),
          helper.make_node("Squeeze", ["anchor2", "one"], ["anchor"]),
          helper.make_node("Squeeze", ["boxes", "zero"], ["flat_boxes"]), helper.make_node("Gather", ["flat_boxes", "anchor"], ["picked_boxes"], axis=0),
          helper.make_node("Squeeze", ["best", "zero"], ["flat_best"]), helper.make_node("Gather", ["flat_best", "anchor"], ["picked_scores"], axis=0),
          helper.make_node("Cast", ["label2"], ["picked_labels"], to=TensorProto.FLOAT), helper.make_node("Mul", ["picked_labels", "none"], ["picture"]),
          concat("picture", "picked_boxes", "picked_labels", "picked_scores", axis=1)],
         [("output0", None, ["kept", 7])],
         [corners, constant("most", [16], np.int64), constant("iou", [0.5]), constant("least", [0.5]), constant("zero", [0], np.int64),
          constant("one", [1], np.int64), constant("two", [2], np.int64), constant("none", [0])])
    return raw[0]


# -- the pictures, and the way in

def frame(width, height):
    """Blocks of 10x10 pixels; the Rust side has the same formula."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    mixed = (x // 10 * 73856093) ^ (y // 10 * 19349663) ^ (c * 83492791)
    return ((mixed * 2654435761) % 2**32 >> 24).astype(np.uint8)


def resize(picture, width, height):
    def axis(to, size):
        at = np.clip((np.arange(to) + 0.5) * size / to - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, size - 1), at - low
    y0, y1, py = axis(height, picture.shape[0])
    x0, x1, px = axis(width, picture.shape[1])
    px, py, p = px[None, :, None], py[:, None, None], picture.astype(np.float64)
    upper = p[y0][:, x0] * (1 - px) + p[y0][:, x1] * px
    lower = p[y1][:, x0] * (1 - px) + p[y1][:, x1] * px
    return np.floor(upper * (1 - py) + lower * py + 0.5)


def way_in(picture, format, crop):
    """The 8-bit RGB picture of 32x32, and the mask of what is picture."""
    height, width = picture.shape[:2]
    if crop:
        x0, x1, y0, y1 = (int(p / 100 * s) for p, s in zip(crop, (width, width, height, height)))
        picture = picture[y0:y1, x0:x1]
        height, width = picture.shape[:2]
    if not format.startswith("Fit"):
        return resize(picture, SIDE, SIDE), np.ones((SIDE, SIDE), bool)
    ratio = min(SIDE / width, SIDE / height)
    w, h = int(width * ratio), int(height * ratio)
    x, y = (SIDE - w) // 2, (SIDE - h) // 2
    laid = np.full((SIDE, SIDE, 3), {"black": 0, "white": 255, "grey": 114}[format.split("(")[1].split()[0]], np.float64)
    laid[y:y + h, x:x + w] = resize(picture, w, h)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[y:y + h, x:x + w] = True
    return laid, inside


# -- the way out

def back(box, frame_size, format, crop, whole):
    """Corners in the frame, from corners in the input: before they are rounded to whole pixels."""
    result = []
    sizes, shifts = list(frame_size), [0, 0]
    if crop:
        for axis in range(2):
            low, high = crop[2 * axis] / 100, crop[2 * axis + 1] / 100
            shifts[axis], sizes[axis] = round(low * frame_size[axis]), round((high - low) * frame_size[axis])
    ratio = min(SIDE / sizes[0], SIDE / sizes[1])
    for index, value in enumerate(box):
        axis = index % 2
        if format.startswith("Fit"):
            laid = round(sizes[axis] * ratio) if whole else int(sizes[axis] * ratio)
            value = (float(value) - (SIDE - laid) / 2) / ratio
        else:
            value = float(value) * sizes[axis] / SIDE
        value = min(max(value, 0), sizes[axis])
        result.append(value + shifts[axis])
    return result


def suppress(found, iou, agnostic, most):
    """`found`: (corners, score, class); the overlap is a part of the lower-scored box, sides count one pixel more."""
    kept = []
    for box, score, label in sorted(found, key=lambda f: -f[1]):
        covered = False
        for other, _, other_label in kept:
            if not agnostic and other_label != label:
                continue
            w = max(0, min(box[2], other[2]) - max(box[0], other[0]) + 1)
            h = max(0, min(box[3], other[3]) - max(box[1], other[1]) + 1)
            covered |= w * h / ((box[2] - box[0] + 1) * (box[3] - box[1] + 1)) > iou
        if not covered:
            kept.append((box, score, label))
    return kept[:most]


def grid(planes):
    """[3, 32, 32] → [16, 3]."""
    return planes.reshape(3, 4, 8, 4, 8).mean((2, 4)).reshape(3, CELLS).T


def true_iou_nms(cells):
    """What the operator NonMaxSuppression keeps, class by class: indices by falling score, IoU above 0.5 goes, 0.5 and less is left out."""
    kept = []
    for label in range(CLASSES):
        mine = []
        for anchor in sorted(range(CELLS), key=lambda a: -cells[a, label]):
            a = CORNERS[anchor]
            def iou(b):
                w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
                shared = max(w, 0) * max(h, 0)
                return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
            if cells[anchor, label] > 0.5 and all(iou(CORNERS[other]) <= 0.5 for other in mine):
                mine.append(anchor)
        kept += [(CORNERS[anchor], cells[anchor].max(), label) for anchor in mine]
    return kept


def detect(case, yolox_raw):
    picture = frame(*case["frame"])
    laid, inside = way_in(picture, case["format"], case.get("crop"))
    planes = laid.transpose(2, 0, 1) / 255
    family, least, most = case["family"], case["confidence"], case["max_detections"]
    # The boxes as the 16-bit file holds them.
    centred = np.concatenate([CENTRES, SIZES], 1).astype(np.float16 if case["file"].endswith("-f16") else np.float32).astype(np.float64)
    corners = np.concatenate([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2], 1)
    def nms(found):
        return suppress([f for f in found if f[1] >= least], case["iou"], case["agnostic"], most)
    cells = grid(planes)
    if family == "rfdetr":
        # Blue gets the constants of red; edges are raw.
        mean, deviation = np.array([0.406, 0.456, 0.485]), np.array([0.225, 0.224, 0.229])
        normal = (planes - mean[:, None, None]) / deviation[:, None, None]
        normal = np.where(inside[None], normal, laid.transpose(2, 0, 1))
        # The reference computes these in 32 bits, where many are exactly 1: then the order of the output decides.
        scores = 1 / (1 + np.exp(-(grid(normal) * LOGIT_GAIN).astype(np.float32).clip(-80, 80)))
        pairs = sorted(((scores[q, c], q, c) for q in range(CELLS) for c in range(CLASSES)), key=lambda p: -p[0])[:most]
        background = case.get("background")
        found = [(CORNERS[q], s, c) for s, q, c in pairs if s > least and c != background]
        if background is not None:
            found = [(b, s, c - (c > background)) for b, s, c in found]
    elif family == "end_to_end":
        found = [(CORNERS[n], cells[n].max(), int(cells[n].argmax())) for n in range(CELLS) if cells[n].max() > least]
        found = found[:most] if case.get("limited", True) else found
    elif family == "yolox":
        # BGR, 0..255, divided in the graph.
        scores = grid(planes[::-1])
        found = []
        for row, (stride, x, y) in enumerate([(s, x, y) for s in (8, 16, 32) for y in range(SIDE // s) for x in range(SIDE // s)]):
            dx, dy, lw, lh = yolox_raw[row].astype(np.float64)
            cx, cy, w, h = (dx + x) * stride, (dy + y) * stride, np.exp(lw) * stride, np.exp(lh) * stride
            cell = scores[row % CELLS]
            found.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0.9 * cell.max(), int(cell.argmax())))
        found = nms(found)
    elif family == "nms_in_graph":
        found = [f for f in true_iou_nms(cells) if f[1] >= least][:most]
    else:
        # YOLOv5 reports its objectness, which this graph makes the best score: the three families agree.
        found = nms([(corners[n], cells[n].max(), int(cells[n].argmax())) for n in range(CELLS)])
    whole = family != "rfdetr"
    return [
        [*(float(v) for v in back(box, case["frame"], case["format"], case.get("crop"), whole)), float(score), int(label)]
        for box, score, label in found
    ]


def cases():
    stretch, black, white, grey = "Stretch to", "Fit (black edges) in", "Fit (white edges) in", "Fit (grey edges) in"
    base = {"frame": [96, 70], "format": stretch, "confidence": 0.6, "iou": 0.3, "agnostic": False, "max_detections": 300}
    crop = [10, 90, 20, 80]
    for file, family, model_type in [
        ("yolov8", "yolov8", "yolov8n"), ("yolov8", "yolov8", "yolov9"), ("yolov8", "yolov8", "yolov11s"), ("yolov8", "yolov8", "yolov12x"),
        ("yolov8-dynamic", "yolov8", "yolov8n"), ("yolov8-f16", "yolov8", "yolov8n"), ("yolov5", "yolov5", "yolov5v2s"),
        ("yolo_nas", "yolo_nas", "yolo_nas_s"), ("end_to_end", "end_to_end", "yolov10n"), ("rfdetr", "rfdetr", "rfdetr-base"),
        ("yolox", "yolox", None), ("nms_in_graph", "nms_in_graph", None),
    ]:
        case = {**base, "file": file, "family": family, "model_type": model_type}
        yield case
        yield {**case, "format": black, "frame": [120, 47], "confidence": 0.2}
        # With white edges some scores are equal, and the operator NonMaxSuppression does not say which comes first.
        yield {**case, "format": black if family == "nms_in_graph" else white, "frame": [47, 120], "crop": crop if family != "rfdetr" else None}
        yield {**case, "format": grey, "max_detections": 3}
        yield {**case, "agnostic": True, "iou": 0.1, "confidence": 0.5, "frame": [333, 200], "crop": crop if family != "rfdetr" else None}
    yield {**base, "file": "end_to_end", "family": "end_to_end", "model_type": "yolo26n", "limited": False, "max_detections": 2}
    yield {**base, "file": "rfdetr", "family": "rfdetr", "model_type": "rfdetr-nano", "background": 0, "max_detections": 12}
    yield {**base, "file": "rfdetr", "family": "rfdetr", "model_type": "rfdetr-nano", "background": 1}


if __name__ == "__main__":
    yolox_raw = models()
    bad_models()
    convolutions()
    with (HERE / "expected.jsonl").open("w") as out:
        for case in cases():
            # What is reported is these corners rounded to whole pixels, a half to either side; RF-DETR's stay as they are.
            out.write(json.dumps({**case, "whole": case["family"] != "rfdetr", "detections": detect(case, yolox_raw)}) + "\n")
