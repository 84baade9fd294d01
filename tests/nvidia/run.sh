#!/usr/bin/env bash
# NVIDIA's own libraries under our GPU path, as far as they go without a GPU.
#
#   tests/nvidia/run.sh
#
# TensorRT for RTX in each version that PyPI has in a package of onnxruntime's: version, logger, runtime, parser, builder, plans,
# refusals. TensorRT 10 and 11: PyPI has their lean runtimes, which are the runtime without the builder: version, logger, runtime,
# refusals. The packages (two gigabytes) go to target/nvidia, nothing of them into the tree.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/nvidia
mkdir -p "$target"

packed() { # FOLDER PACKAGE: as PyPI has it
  [ -e "$target/$1/whole" ] || {
    rm -rf "${target:?}/$1"
    python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action ignore --target "$target/$1" "$2"
    touch "$target/$1/whole"
  }
}

cargo test --locked --features tensorrt --test nvidia --no-run

# The package's version, and what it holds.
for pair in 0.3.0=1.5.0 0.4.0=1.6.1 0.5.0=1.7.1; do
  version=${pair#*=}
  packed "rtx-$version" "onnxruntime-ep-nv-tensorrt-rtx-cu12==${pair%=*}"
  echo "TensorRT for RTX $version"
  export WEIR_NVIDIA_LIBRARIES=$target/rtx-$version/onnxruntime_ep_nv_tensorrt_rtx WEIR_NVIDIA_TITLE="TensorRT for RTX $version"
  WEIR_NVIDIA_BUILDS=1 cargo test --quiet --locked --lib tensorrt::tests::nvidia
  cargo test --quiet --locked --features tensorrt --test nvidia
done

for pair in 10.15.1.29=10.15.1 10.16.0.72=10.16.0 11.2.1.2=11.2.1 11.4.0.106=11.4.0; do
  package=${pair%=*} version=${pair#*=}
  major=${version%%.*}
  packed "lean-$version" "tensorrt-lean-cu12-libs==$package"
  folder=$target/lean-$version/as-whole
  mkdir -p "$folder"
  ln -sfn "../tensorrt_lean_libs/libnvinfer_lean.so.$major" "$folder/libnvinfer.so.$major"
  echo "TensorRT $version (lean runtime)"
  export WEIR_NVIDIA_LIBRARIES=$folder WEIR_NVIDIA_TITLE="TensorRT $version"
  cargo test --quiet --locked --lib tensorrt::tests::nvidia
  cargo test --quiet --locked --features tensorrt --test nvidia check_names_the_library
done
echo "nvidia: all passed"
