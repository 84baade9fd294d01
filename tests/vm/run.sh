#!/usr/bin/env bash
# weir in a whole machine: Debian's kernel in qemu, its test cameras, the static binary.
#
#   tests/vm/run.sh x86_64|aarch64 [BINARY]
#
# Without BINARY, cross/build.sh makes the one that is shipped. The test is tests/process/vm.rs; `make test` runs it too, with the
# binary of the dev profile. Nothing is left behind: the emulator ends with its test, the guest after 15 minutes at most.
set -euo pipefail
cd "$(dirname "$0")/../.."

arch=${1:-}
binary=${2:-}
case $arch in
  x86_64 | aarch64) ;;
  *) sed -n '2,8p' "$0"; exit 64 ;;
esac

scripts/setup.sh build vm
if [ -z "$binary" ]; then
  WEIR_CROSS_NO_PACKAGES=1 cross/build.sh "$arch-unknown-linux-musl"
  binary=dist/$arch-unknown-linux-musl/weir
fi
cargo test --locked --test process --no-run # outside the limit of time
WEIR_VM_ARCH=$arch WEIR_VM_BINARY=$(realpath "$binary") timeout 600 cargo test --locked --test process vm:: -- --nocapture
