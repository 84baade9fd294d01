#!/bin/sh
# weir's CPU engine and its peers (onnxruntime, OpenVINO, ncnn through pnnx, MNN; tract) on the same graphs, taking turns: a noisy moment
# then hits all of them.
#
#   benches/versus.sh [ROUNDS]          WEIR=path/to/weir (default target/release/weir), PEERS=path/to/a/python that has them all
#
# Prints a table of the median CPU milliseconds per run on one thread, each in 32-bit floats and at its default precision, weir's in
# full and in half, and the median over the rounds of weir's ratio to the best of the others. Then the same graphs in 8 bits, by those
# peers that run such files. Then two threads: wall clock, which wants a quiet machine. The peers come from PyPI into an environment of their own under target/versus; graphs.py makes the graphs there.
# A peer without a package for this machine, or that refuses a graph, has a dash. Nothing here is of one kind of CPU alone.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-5}
weir=${WEIR:-target/release/weir}
dir=target/versus
mkdir -p "$dir"
python=${PEERS:-$dir/venv/bin/python}
[ -x "$python" ] || {
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" -q install onnxruntime==1.32.0 onnx==1.23.2 numpy
    # pnnx asks for PyTorch, which reading ONNX does not need
    for peer in openvino==2026.4.0 MNN==3.6.1; do "$dir/venv/bin/pip" -q install "$peer" || echo "versus: no $peer here"; done
    "$dir/venv/bin/pip" -q install --no-deps ncnn==1.0.20261020 pnnx==20261020 || echo "versus: no ncnn here"
}
cp assets/nanodet-coco-416.onnx "$dir/nanodet-416.onnx"
for graph in yolov8n-640 yolo11n-640 yolov5s-640 vit-560 rfdetr-384; do
    [ -f "$dir/$graph.onnx" ] || "$python" benches/graphs.py "${graph%-*}" "${graph#*-}" "$dir/$graph.onnx"
done
for graph in nanodet-416 yolov8n-640 yolo11n-640 yolov5s-640; do
    for kind in qdq dynamic; do
        [ -f "$dir/int8/$graph-$kind.onnx" ] || { mkdir -p "$dir/int8" && "$python" benches/quantised.py "$dir/$graph.onnx" "$kind" "$dir/int8/$graph-$kind.onnx"; } || rm -f "$dir/int8/$graph-$kind.onnx"
    done
done
exec "$python" - "$rounds" "$weir" $(ls "$dir"/*.onnx | grep -v pnnx) <<'PYTHON'
import json, os, subprocess, sys, time

rounds, weir, models = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
FULL = ["onnxruntime", "openvino-f32", "ncnn-f32", "mnn-f32"]
DEFAULT = ["openvino", "ncnn", "mnn"]
REFUSED = 3
# Longest turn of a peer, its conversion included, seconds.
LIMIT_S = 600


def peer(name, path, runs=8):
    command = [sys.executable, "benches/peer.py", name, path, str(runs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    # libraries write to the same place, before the figure
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def two_threads(path, threads=2, runs=8):
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    picture = np.random.default_rng(0).random(entry.shape, dtype=np.float32)
    wall = []
    for _ in range(runs):
        before = time.perf_counter()
        session.run(None, {entry.name: picture})
        wall.append(time.perf_counter() - before)
    return min(wall) * 1e3


def ours(path, engine, threads=1, runs=8, cpu="", together=False, precision="full"):
    command = [weir, "bench", "engine", "--model", path, "--engine", engine, "--threads", str(threads), "--runs", str(runs), "--json"]
    command += ["--precision", precision] + ["--together"] * together
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "WEIR_CPU": cpu})
    figures = json.loads(done.stdout)
    return figures["cpu_ms_min"], figures["wall_ms_min"], figures["weights_bytes"] + figures["arena_bytes"]


def median(values):
    values = [value for value in values if value is not None]
    return sorted(values)[len(values) // 2] if values else None


def shown(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}"


def against(turn, name, others):
    others = [turn[other] for other in others if turn[other] is not None]
    return turn[name] / min(others) if others else None


columns = ["weir", "weir half", "weir AVX2", *FULL, *DEFAULT, "tract"]
print("| graph | " + " | ".join(columns) + " | weir ÷ best f32 | half ÷ best default | half ÷ full: time, memory |")
print("|---" * (len(columns) + 4) + "|")
walls = []
for path in models:
    turns = []
    for _ in range(rounds):
        full, half = ours(path, "cnn"), ours(path, "cnn", precision="half")
        turn = {"weir": full[0], "weir half": half[0], "weir AVX2": ours(path, "cnn", cpu="avx2")[0], "memory": half[2] / full[2]}
        turn |= {name: peer(name, path) for name in FULL + DEFAULT} | {"tract": ours(path, "tract", runs=2)[0]}
        turn |= {"alone": full[1], "together": ours(path, "cnn", 2, together=True)[1], "twice": ours(path, "cnn", 2)[1]}
        turn["reference"] = two_threads(path)
        turns.append(turn)
    cells = [shown(median([turn[name] for turn in turns])) for name in columns]
    ratios = [
        median([against(turn, "weir", FULL) for turn in turns]),
        median([against(turn, "weir half", DEFAULT) for turn in turns]),
    ]
    shares = [median([turn["weir half"] / turn["weir"] for turn in turns]), median([turn["memory"] for turn in turns])]
    name = os.path.basename(path).removesuffix(".onnx")
    last = ", ".join(shown(share, 2) for share in shares)
    print(f"| {name} | " + " | ".join(cells) + " | " + " | ".join(shown(ratio, 2) for ratio in ratios) + f" | {last} |", flush=True)
    ratio = lambda over, under: shown(median([turn[over] / turn[under] for turn in turns]), 2)
    walls.append(
        f"{name}: one run on two threads is {ratio('alone', 'together')} times as fast as on one and takes {ratio('together', 'reference')} "
        f"of onnxruntime's on two; two at once do {shown(median([2 * t['alone'] / t['twice'] for t in turns]), 2)} times the work of one"
    )
print("\n| 8 bits | weir | onnxruntime | openvino | weir ÷ best peer | weir ÷ weir on the float graph |")
print("|---" * 6 + "|")
for path in models:
    for kind in ["qdq", "dynamic"]:
        stem = os.path.basename(path).removesuffix(".onnx")
        int8 = os.path.join(os.path.dirname(path), "int8", f"{stem}-{kind}.onnx")
        if not os.path.exists(int8):
            continue
        turns = []
        for _ in range(rounds):
            turn = {"weir": ours(int8, "auto")[0], "float": ours(path, "cnn")[0]}
            turns.append(turn | {name: peer(name, int8) for name in ["onnxruntime", "openvino"]})
        cells = [shown(median([turn[name] for turn in turns])) for name in ["weir", "onnxruntime", "openvino"]]
        ratios = [
            median([against(turn, "weir", ["onnxruntime", "openvino"]) for turn in turns]),
            median([turn["weir"] / turn["float"] for turn in turns]),
        ]
        print(f"| {stem} {kind} | " + " | ".join(cells) + " | " + " | ".join(shown(ratio, 2) for ratio in ratios) + " |", flush=True)
print("\n" + "\n".join(walls))
PYTHON
