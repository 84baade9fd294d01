#!/usr/bin/env python3
"""Right by the standard: weir's engines against ONNX's own node tests and onnxruntime. `make onnx` runs it.

    compare.py WEIR [--random N] [--seed S] [--graphs N] [--engine auto|cnn|tract] [--only WORD] [--keep DIR] [--verbose]

Every case becomes a graph that a picture can feed: one input [1, 3, S, S], from which the inputs of the operators are cut,
reshaped and cast. `weir bench engine --input --dump` runs it. A case is right when every output has the expected shape and
its numbers are within 1e-3 of the range of the right ones; refused when weir says why; wrong otherwise. Wrong ones must
be none: the exit status says so.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import operators

onnxruntime.set_default_logger_severity(4)
TOLERANCE = 1e-3
TIMEOUT_S = 60
# What a picture's numbers can be cast to without loss.
NUMERIC = {
    TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16,
    TensorProto.INT8: np.int8, TensorProto.INT16: np.int16, TensorProto.INT32: np.int32, TensorProto.INT64: np.int64,
    TensorProto.UINT8: np.uint8, TensorProto.UINT16: np.uint16, TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64, TensorProto.BOOL: np.bool_,
}
MAX_FLOATS = 1 << 20


class Case:
    """A graph with the values of its inputs, and what its outputs are."""

    def __init__(self, name, model, variable, expected=None):
        self.name, self.model, self.variable, self.expected = name, model, variable, expected


def wrap(case):
    """The model fed by a picture, the picture, the outputs' names; None where a picture cannot feed it."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    pieces, nodes, weights = [], [], []
    at = 0

    def constant(name, values):
        weights.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    for value in graph.input:
        if value.name not in case.variable:
            continue
        given = case.variable[value.name]
        kind = value.type.tensor_type.elem_type
        if kind not in NUMERIC or given.size == 0:
            return None
        flat = np.asarray(given).astype(np.float32).ravel()
        if kind not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16) and not np.array_equal(flat.astype(NUMERIC[kind]), np.asarray(given).ravel()):
            return None
        name = f"w_{value.name}"
        pieces.append(flat)
        if opset < 10:
            nodes.append(helper.make_node("Slice", ["w_flat"], [f"{name}_cut"], axes=[0], starts=[at], ends=[at + flat.size]))
        else:
            ends = [constant(f"{name}_start", [at]), constant(f"{name}_end", [at + flat.size])]
            nodes.append(helper.make_node("Slice", ["w_flat", *ends], [f"{name}_cut"]))
        at += flat.size
        last = value.name if kind == TensorProto.FLOAT else f"{name}_float"
        if given.shape == ():
            if opset < 13:
                nodes.append(helper.make_node("Squeeze", [f"{name}_cut"], [last], axes=[0]))
            else:
                nodes.append(helper.make_node("Squeeze", [f"{name}_cut", constant(f"{name}_axes", [0])], [last]))
        else:
            nodes.append(helper.make_node("Reshape", [f"{name}_cut", constant(f"{name}_shape", given.shape)], [last]))
        if last != value.name:
            nodes.append(helper.make_node("Cast", [last], [value.name], to=kind))
    if at > MAX_FLOATS or at == 0:
        return None
    side = 2
    while 3 * side * side < at:
        side += 2
    picture = np.zeros(3 * side * side, np.float32)
    picture[:at] = np.concatenate(pieces)
    nodes.insert(0, helper.make_node("Reshape", ["w_image", constant("w_all", [-1])], ["w_flat"]))
    kept = [value for value in graph.input if value.name not in case.variable]
    del graph.input[:]
    graph.input.extend(kept)
    graph.input.append(helper.make_tensor_value_info("w_image", TensorProto.FLOAT, [1, 3, side, side]))
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + old)
    graph.initializer.extend(weights)
    # outputs as floats
    names = []
    ends = []
    for index, value in enumerate(graph.output):
        kind = value.type.tensor_type.elem_type
        if value.type.WhichOneof("value") != "tensor_type" or (kind not in NUMERIC and kind != 0):
            return None
        if kind in (TensorProto.FLOAT, 0):
            names.append(value.name)
            ends.append(value)
        else:
            graph.node.append(helper.make_node("Cast", [value.name], [f"w_out{index}"], to=TensorProto.FLOAT))
            names.append(f"w_out{index}")
            ends.append(helper.make_tensor_value_info(f"w_out{index}", TensorProto.FLOAT, None))
    del graph.output[:]
    graph.output.extend(ends)
    return model, picture.reshape(1, 3, side, side), names


def by_onnxruntime(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def quantum(model):
    """What a number of 8 bits may be off: one step, where an operator rounds what it has computed."""
    return 1.0 if any(node.op_type.startswith("QLinear") or node.op_type == "QGemm" for node in model.graph.node) else 0.0


def same(found, right, quantum=0.0):
    of_bytes = np.asarray(right).dtype in (np.uint8, np.int8)
    right = np.asarray(right).astype(np.float32)
    if tuple(found.shape) != tuple(right.shape):
        return f"shape {found.shape}, not {right.shape}"
    if right.size == 0:
        return None
    finite = np.isfinite(right)
    if not np.array_equal(np.isfinite(found), finite) or not np.array_equal(np.isnan(found), np.isnan(right)):
        return f"other numbers are finite: {found.ravel()[:8]}, not {right.ravel()[:8]}"
    if not np.array_equal(found[~finite & ~np.isnan(right)], right[~finite & ~np.isnan(right)]):
        return "infinities differ"
    if not finite.any():
        return None
    span = max(float(np.max(right[finite]) - np.min(right[finite])), float(np.max(np.abs(right[finite]))), 1e-6)
    worst = float(np.max(np.abs(found[finite] - right[finite])))
    if worst > max(TOLERANCE * span, quantum if of_bytes else 0.0):
        at = int(np.argmax(np.abs(np.where(finite, found - right, 0)).ravel()))
        return f"{worst / span:.2e} of the range off at {at}: {found.ravel()[at]}, not {right.ravel()[at]}"
    return None


def judge(case, weir, engine, folder):
    """(verdict, words)"""
    try:
        wrapped = wrap(case)
    except Exception as error:
        return "unfit", f"{type(error).__name__}: {error}"
    if wrapped is None:
        return "unfit", "no picture can feed it"
    model, picture, names = wrapped
    right = case.expected
    if right is None:
        try:
            right = by_onnxruntime(model, {"w_image": picture})
            # as they were before the cast that wrap() adds
            kinds = [value.type.tensor_type.elem_type for value in case.model.graph.output]
            right = [r.astype(NUMERIC[kind]) if kind in (TensorProto.UINT8, TensorProto.INT8) else r for r, kind in zip(right, kinds)]
        except Exception as error:
            return "unfit", f"onnxruntime: {str(error).splitlines()[0][:200]}"
    place = pathlib.Path(tempfile.mkdtemp(dir=folder))
    (place / "m.onnx").write_bytes(model.SerializeToString())
    picture.tofile(place / "x.f32")
    command = [weir, "bench", "engine", "--model", place / "m.onnx", "--input", place / "x.f32", "--dump", place / "out", "--engine", engine]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "wrong", f"no end in {TIMEOUT_S} s: {place}"
    words = done.stderr.strip().splitlines()
    if done.returncode < 0:
        return "wrong", f"died of signal {-done.returncode}: {place}"
    if done.returncode != 0:
        shutil.rmtree(place)
        return "refused", words[-1] if words else f"status {done.returncode} without a word"
    try:
        shapes = json.loads((place / "out" / "shapes.json").read_text())
        for name, values in zip(names, right):
            file = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "_" for c in name)
            found = np.fromfile(place / "out" / f"{file}.f32", np.float32).reshape(shapes[name])
            fault = same(found, values, quantum(case.model))
            if fault:
                return "wrong", f"{name}: {fault} ({place})"
    except (KeyError, ValueError, OSError) as error:
        return "wrong", f"{type(error).__name__}: {error} ({place})"
    shutil.rmtree(place)
    return "right", ""


def node_tests():
    """ONNX's node tests, and those that were converted from PyTorch: each with one input from the picture, and with all."""
    import onnx.backend.test
    from onnx.backend.test.case.node import collect_testcases

    def stored(kind):
        for folder in sorted((pathlib.Path(onnx.backend.test.__file__).parent / "data" / kind).glob("test_*")):
            data = folder / "test_data_set_0"
            try:
                model = onnx.load(folder / "model.onnx")
                given = [numpy_helper.to_array(onnx.load_tensor(data / f"input_{i}.pb")) for i in range(len(list(data.glob("input_*.pb"))))]
                right = [numpy_helper.to_array(onnx.load_tensor(data / f"output_{i}.pb")) for i in range(len(model.graph.output))]
            except Exception:
                continue
            yield f"{kind}/{folder.name}", model, given, right

    def made():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tests = collect_testcases(None)
        for test in tests:
            if test.model is not None and test.data_sets:
                given, right = test.data_sets[0]
                yield f"node/{test.name}", test.model, given, right

    for tests in (made(), stored("pytorch-converted"), stored("pytorch-operator"), stored("simple")):
        for name, model, given, right in tests:
            if len(right) != len(model.graph.output) or any(o.type.WhichOneof("value") != "tensor_type" for o in model.graph.output):
                continue
            weights = {w.name for w in model.graph.initializer}
            inputs = [v for v in model.graph.input if v.name not in weights]
            values = {v.name: g for v, g in zip(inputs, given)}
            floats = [v.name for v in inputs if v.type.tensor_type.elem_type in (1, 10, 11)]
            ways = [floats[:1] or [v.name for v in inputs[:1]], floats, [v.name for v in inputs]]
            seen = set()
            for way, names in zip(("first", "floats", "all"), ways):
                if not names or tuple(names) in seen:
                    continue
                seen.add(tuple(names))
                fixed = onnx.ModelProto()
                fixed.CopyFrom(model)
                try:
                    for value in inputs:
                        if value.name not in names:
                            fixed.graph.initializer.append(numpy_helper.from_array(np.asarray(values[value.name]), value.name))
                except Exception:
                    continue
                kept = [v for v in fixed.graph.input if v.name in names]
                del fixed.graph.input[:]
                fixed.graph.input.extend(kept)
                yield Case(f"{name}:{way}", fixed, {n: values[n] for n in names}, right)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weir")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--graphs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--only", default="")
    parser.add_argument("--no-node-tests", action="store_true")
    parser.add_argument("--bytes", action="store_true", help="random operators of 8 bits only")
    parser.add_argument("--keep", help="folder for what went wrong")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="also what is refused, with its reason")
    wanted = parser.parse_args()
    folder = pathlib.Path(wanted.keep or tempfile.mkdtemp(prefix="weir-onnx-"))
    folder.mkdir(parents=True, exist_ok=True)

    def cases():
        if not wanted.no_node_tests:
            yield from node_tests()
        for number in range(wanted.random):
            kinds = operators.EIGHT_BITS if number % 6 == 5 or wanted.bytes else operators.KINDS
            name, model, feeds = operators.single(random.Random(wanted.seed + number), kinds)
            yield Case(f"random/{name}:{wanted.seed + number}", model, feeds)
        for number in range(wanted.graphs):
            make = operators.transformer if number % 4 == 3 else operators.graph
            name, model, feeds = make(random.Random(wanted.seed + number))
            yield Case(f"graph/{name}:{wanted.seed + number}", model, feeds)

    count = collections.Counter()
    reasons = collections.Counter()
    wrong = []
    with concurrent.futures.ThreadPoolExecutor(wanted.jobs) as pool:
        running = collections.deque()

        def finish():
            name, future = running.popleft()
            verdict, words = future.result()
            count[verdict] += 1
            if verdict == "wrong":
                wrong.append(name)
                print("WRONG", name, words, flush=True)
            elif verdict != "right":
                reasons[f"{verdict}: {words}"] += 1
                if wanted.verbose:
                    print(verdict, name, words, flush=True)

        for case in cases():
            if wanted.only and wanted.only not in case.name:
                continue
            running.append((case.name, pool.submit(judge, case, wanted.weir, wanted.engine, folder)))
            if len(running) > 4 * wanted.jobs:
                finish()
        while running:
            finish()
    print(dict(count))
    if not wanted.keep and not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if wrong or not count["right"] else 0)


if __name__ == "__main__":
    main()
