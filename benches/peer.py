#!/usr/bin/env python3
"""One run of one peer on one graph, for versus.sh: prints the shortest CPU milliseconds of RUNS runs on one thread.

    peer.py onnxruntime|openvino|openvino-f32|ncnn|ncnn-f32|mnn|mnn-f32 MODEL.onnx [RUNS]

Each at its default precision, and with -f32 in 32-bit floats. ncnn reads what pnnx made of the graph and MNN what mnnconvert did; both
lie beside it afterwards. Exits with 3 where a peer does not take the graph.
"""
import contextlib
import os
import subprocess
import sys
import time

import numpy as np

REFUSED = 3
# Longest conversion of a graph, seconds.
CONVERSION_LIMIT_S = 300


def shape(path):
    import onnx

    dims = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    return [dim.dim_value or 1 for dim in dims]


def onnxruntime(path, picture, full):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: picture})


def openvino(path, picture, full):
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    settings |= {"INFERENCE_PRECISION_HINT": "f32"} if full else {}
    core = ov.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    return lambda: request.infer({0: picture})


def converted(command, made):
    if not os.path.exists(made):
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=CONVERSION_LIMIT_S)
    if not os.path.exists(made):
        raise RuntimeError(f"{command[0]} made nothing")
    return made


def beside(name):
    return os.path.join(os.path.dirname(sys.executable), name)


def ncnn(path, picture, full):
    import ncnn as library

    stem = path.removesuffix(".onnx").replace("-", "_")
    size = str(list(picture.shape)).replace(" ", "")
    command = [beside("pnnx"), path, f"inputshape={size}", "fp16=0"]
    for name in ("param", "bin"):
        command.append(f"ncnn{name}={stem}.ncnn.{name}")
    param = converted(command, f"{stem}.ncnn.param")
    net = library.Net()
    net.opt.num_threads = 1
    if full:
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
    if net.load_param(param) or net.load_model(f"{stem}.ncnn.bin"):
        raise RuntimeError("ncnn does not load it")
    names = list(net.output_names())
    entry = list(net.input_names())[0]

    def run():
        with net.create_extractor() as extractor:
            extractor.input(entry, library.Mat(picture[0]).clone())
            for name in names:
                code, _ = extractor.extract(name)
                if code:
                    raise RuntimeError("ncnn does not run it")

    return run


def mnn(path, picture, full):
    import MNN.expr as expr
    import MNN.nn as nn

    made = converted(
        [beside("mnnconvert"), "-f", "ONNX", "--modelFile", path, "--MNNModel", f"{path}.mnn", "--bizCode", "versus"],
        f"{path}.mnn",
    )
    runtime = nn.create_runtime_manager(
        ({"backend": "CPU", "numThread": 1, "precision": "high" if full else "normal"},)
    )
    net = nn.load_module_from_file(made, [], [], runtime_manager=runtime)
    entry = expr.placeholder(list(picture.shape), expr.NCHW)
    entry.write(picture.ravel().tolist())

    def run():
        outputs = net.forward([entry])
        for output in outputs if isinstance(outputs, (list, tuple)) else [outputs]:
            output.read()

    return run


def main():
    peer, path = sys.argv[1:3]
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    name, _, precision = peer.partition("-")
    picture = np.random.default_rng(0).random(shape(path), dtype=np.float32)
    try:
        # libraries talk: the figure stands alone
        with contextlib.redirect_stdout(sys.stderr):
            run = globals()[name](path, picture, precision == "f32")
            run()
    except Exception as error:
        print(f"{peer}: {str(error)[:200]}", file=sys.stderr)
        sys.exit(REFUSED)
    best = float("inf")
    for _ in range(runs):
        before = time.process_time()
        run()
        best = min(best, time.process_time() - before)
    print(best * 1e3)


if __name__ == "__main__":
    main()
