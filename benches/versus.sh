#!/bin/sh
# weir's CPU engine, tract and onnxruntime on the same graphs, taking turns: a noisy moment then hits all of them.
#
#   benches/versus.sh [ROUNDS]          WEIR=path/to/weir (default target/release/weir), ORT=path/to/a/python that has onnxruntime
#
# Prints, for each graph, the median milliseconds per run, and the median over the rounds of the ratio to onnxruntime on as many
# threads. One thread: CPU time, which other processes disturb less; two threads: wall clock, which wants a quiet machine.
# onnxruntime comes from PyPI into an environment of its own under target/versus; graphs.py makes the graphs there.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-5}
weir=${WEIR:-target/release/weir}
dir=target/versus
mkdir -p "$dir"
python=${ORT:-$dir/venv/bin/python}
[ -x "$python" ] || {
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" -q install onnxruntime==1.32.0 onnx==1.23.2 numpy
}
cp assets/nanodet-coco-416.onnx "$dir/nanodet-416.onnx"
for graph in yolov8n-640 yolo11n-640 yolov5s-640 vit-560 rfdetr-384; do
    [ -f "$dir/$graph.onnx" ] || "$python" benches/graphs.py "${graph%-*}" "${graph#*-}" "$dir/$graph.onnx"
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


def ours(path, engine, threads=1, runs=8, cpu="", together=False):
    command = [weir, "bench", "engine", "--model", path, "--engine", engine, "--threads", str(threads), "--runs", str(runs), "--json"]
    command += ["--together"] * together
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "WEIR_CPU": cpu})
    figures = json.loads(done.stdout)
    return figures["cpu_ms_min"], figures["wall_ms_min"]


median = lambda values: sorted(values)[len(values) // 2]
for path in models:
    contenders = {
        "onnxruntime": lambda: reference(path, 1)[0],
        "weir": lambda: ours(path, "cnn")[0],
        "weir, AVX2": lambda: ours(path, "cnn", cpu="avx2")[0],
        "tract": lambda: ours(path, "tract", runs=2)[0],
        "onnxruntime, 2 threads, wall": lambda: reference(path, 2)[1],
        "weir, 1 thread, wall": lambda: ours(path, "cnn")[1],
        "weir, 2 threads on one run, wall": lambda: ours(path, "cnn", 2, together=True)[1],
        "weir, 2 runs at once, wall": lambda: ours(path, "cnn", 2)[1],
    }
    turns = [{name: measure() for name, measure in contenders.items()} for _ in range(rounds)]
    print(os.path.basename(path), flush=True)
    against = {name: "onnxruntime" for name in ("onnxruntime", "weir", "weir, AVX2", "tract")}
    against["weir, 2 threads on one run, wall"] = "onnxruntime, 2 threads, wall"
    for name in contenders:
        ratio = f"{median([turn[name] / turn[against[name]] for turn in turns]):5.2f}" if name in against else ""
        print(f"  {name:34} {median([turn[name] for turn in turns]):8.1f} ms  {ratio}", flush=True)
    alone, together, twice = "weir, 1 thread, wall", "weir, 2 threads on one run, wall", "weir, 2 runs at once, wall"
    print(f"  one run on two threads is {median([t[alone] / t[together] for t in turns]):.2f} times as fast as on one;", end=" ")
    print(f"two at once do {median([2 * t[alone] / t[twice] for t in turns]):.2f} times the work of one", flush=True)
PYTHON
