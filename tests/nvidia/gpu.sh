#!/usr/bin/env bash
# weir on an NVIDIA GPU: whether it gets the numbers of the CPU, and how fast it is.
#
#   tests/nvidia/gpu.sh WEIR LIBRARIES MODEL.onnx ...
#
# WEIR: a release build with the feature `tensorrt`. LIBRARIES: a folder with TensorRT for RTX or TensorRT and its parser. Prints one
# line a figure, for docs/measurements.md; wants python3 with numpy, and a machine that does nothing else.
set -u
cd "$(dirname "$0")/../.."
weir=$1 libraries=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} TENSORRT_CACHE_PATH=$work/plans
mkdir -p "$work/plans"

nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader
lscpu | grep -E '^(Model name|CPU\(s\))'
for library in libnvcuvid libnvinfer libcuda; do
  echo "$library: $(ldconfig -p | grep -o "$library\.so\.[0-9]*" | sort -u | tr '\n' ' ')"
done
"$weir" check

for model; do
  name=$(basename "$model" .onnx)
  python3 - "$model" "$work/input.f32" <<'P'
import sys, numpy, onnx
shape = [d.dim_value for d in onnx.load(sys.argv[1]).graph.input[0].type.tensor_type.shape.dim]
numpy.random.default_rng(1).random(shape, dtype=numpy.float32).tofile(sys.argv[2])
P
  for engine in cnn tensorrt; do
    begun=$SECONDS
    mkdir -p "$work/$name-$engine"
    "$weir" bench engine --model "$model" --engine $engine --input "$work/input.f32" --dump "$work/$name-$engine" >"$work/dump.log" 2>&1 ||
      { echo "$name $engine: $(tail -n 3 "$work/dump.log")"; continue 2; }
    echo "$name $engine: loaded and run once in $((SECONDS - begun)) s"
  done
  ls -l "$(dirname "$model")"/*.plan
  python3 - "$name" "$work/$name-cnn" "$work/$name-tensorrt" <<'P'
import os, sys, numpy
name, ours, theirs = sys.argv[1:]
for file in sorted(os.listdir(ours)):
    if not file.endswith(".f32"):
        continue
    a, b = (numpy.fromfile(os.path.join(folder, file), dtype=numpy.float32) for folder in (ours, theirs))
    same = a.shape == b.shape
    print(name, file, a.shape, "largest value", float(abs(a).max()), "largest difference", float(abs(a - b).max()) if same else b.shape)
P
  for threads in 1 2 4 8; do
    echo "$name engine alone, $threads threads: $("$weir" bench engine --model "$model" --engine tensorrt --threads $threads --runs 300 --json 2>&1 | tail -n 1)"
  done
  for sources in 1 4 16; do
    echo "$name pipelines: $("$weir" bench pipeline --engine tensorrt --model "$model" --video assets/sample.mp4 --sources $sources --threads 4 --seconds 5 --json 2>&1 | tail -n 1)"
  done
done
