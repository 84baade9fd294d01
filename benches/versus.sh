#!/bin/sh
# weir's CPU engine, tract and onnxruntime on the same graphs, taking turns: a noisy moment then hits all of them.
#
#   benches/versus.sh [ROUNDS]          WEIR=path/to/weir (default target/release/weir)
#
# Prints, for each graph, the shortest CPU milliseconds per run on one thread (and wall on two), and the ratio to onnxruntime.
# onnxruntime comes from PyPI into an environment of its own under target/versus; graphs.py makes the graphs there.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-5}
weir=${WEIR:-target/release/weir}
dir=target/versus
mkdir -p "$dir"
[ -x "$dir/venv/bin/python" ] || {
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" -q install onnxruntime onnx numpy
}
python="$dir/venv/bin/python"
cp assets/nanodet-coco-416.onnx "$dir/nanodet-416.onnx"
for name in yolov8n yolo11n yolov5s; do
    [ -f "$dir/$name-640.onnx" ] || "$python" benches/graphs.py "$name" 640 "$dir/$name-640.onnx"
done
exec "$python" - "$rounds" "$weir" "$dir"/*.onnx <<'PYTHON'
import json, os, subprocess, sys, time
import numpy as np
import onnxruntime

rounds, weir, models = int(sys.argv[1]), sys.argv[2], sys.argv[3:]


def reference(path, threads, runs=8):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    picture = np.random.default_rng(0).random(entry.shape, dtype=np.float32)
    cpu, wall = [], []
    for _ in range(runs):
        c, w = time.process_time(), time.perf_counter()
        session.run(None, {entry.name: picture})
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    return min(cpu) * 1e3, min(wall) * 1e3


def ours(path, engine, threads, runs=8, cpu=""):
    command = [weir, "bench", "engine", "--model", path, "--engine", engine, "--threads", str(threads), "--runs", str(runs), "--json"]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True, env={**os.environ, "WEIR_CPU": cpu}).stdout)
    return figures["cpu_ms_min"], figures["wall_ms_min"]


for path in models:
    contenders = {
        "onnxruntime": lambda: reference(path, 1)[0],
        "weir": lambda: ours(path, "cnn", 1)[0],
        "weir, AVX2": lambda: ours(path, "cnn", 1, cpu="avx2")[0],
        "tract": lambda: ours(path, "tract", 1, 3)[0],
        "onnxruntime, 2 threads, wall": lambda: reference(path, 2)[1],
    }
    best = {name: float("inf") for name in contenders}
    ratios = []
    for _ in range(rounds):
        turn = {name: measure() for name, measure in contenders.items()}
        best = {name: min(best[name], turn[name]) for name in turn}
        ratios.append(turn["weir"] / turn["onnxruntime"])
    print(os.path.basename(path), f"median of weir / onnxruntime: {sorted(ratios)[len(ratios) // 2]:.2f}")
    for name, value in best.items():
        print(f"  {name:30} {value:8.1f} ms  {value / best['onnxruntime']:5.2f}")
PYTHON
