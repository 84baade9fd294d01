#!/usr/bin/env bash
# Builds what is shipped:  cross/build.sh TARGET
#
#   aarch64-unknown-linux-musl       static: Jetson, Raspberry Pi and other 64-bit ARM, any distribution
#   x86_64-unknown-linux-musl        static: PCs and servers
#   aarch64-unknown-linux-gnu.2.31   dynamic (glibc 2.31 or newer, so JetPack 5 and 6), feature `tensorrt` where there is one
#
# On a Debian or Ubuntu machine with only Rust (by rustup) and git. Installs what it needs itself: system packages through
# scripts/setup.sh, zig from PyPI into target/cross-venv, the target's standard library through rustup or, where that cannot
# be reached, compiled from its source (WEIR_RUST_SRC). Leaves in dist/TARGET/: weir, weir.sha256, sbom.json and the packages.
# Takes about ten CPU minutes: link-time optimisation of everything.
#
# There is no 32-bit ARM: the crate that makes the worker's system-call filter knows x86-64, arm64 and riscv64 only, and a worker
# without its filter is not what the documentation promises.
#
# Environment: WEIR_CROSS_NO_PACKAGES=1 stops after the binary; WEIR_CROSS_SYMBOLS=1 keeps symbols (no limit of size then).
# WEIR_RUST_SRC=FOLDER: Rust's source of exactly rustc's version (Debian's package rust-src, unpacked or installed:
# /usr/src/rustc-VERSION), to compile the standard library from.
set -euo pipefail
cd "$(dirname "$0")/.."

# The C compiler and headers for all targets, and the linker of the dynamic one. Pinned: the same sources, the same binary.
ZIG_VERSION=0.17.1
# What users of small boards are promised.
MAX_STATIC_BYTES=$((18000 * 1000))
# The same code on x86-64, whose instructions for copying structures have two to three times the bytes of arm64's, with kernels
# for AVX2 and AVX-512 (docs/measurements.md).
MAX_STATIC_BYTES_X86_64=$((26 * 1000 * 1000))

target=${1:-}
case $target in
  aarch64-unknown-linux-musl | x86_64-unknown-linux-musl) linkage=static triple=$target ;;
  # rustc's name has no version of glibc.
  aarch64-unknown-linux-gnu.2.31) linkage=dynamic triple=aarch64-unknown-linux-gnu ;;
  *) sed -n '2,18p' "$0"; exit 64 ;;
esac
cpu=${triple%%-*} libc=${target##*-}
[ "$cpu" != x86_64 ] || MAX_STATIC_BYTES=$MAX_STATIC_BYTES_X86_64

say() { printf 'cross: %s\n' "$*"; }

: "${RUSTUP_TOOLCHAIN:=$(scripts/toolchain.sh)}"
[ -z "$RUSTUP_TOOLCHAIN" ] || export RUSTUP_TOOLCHAIN
scripts/setup.sh build cross

venv=target/cross-venv
if [ "$("$venv/bin/python" -m ziglang version 2>/dev/null)" != "$ZIG_VERSION" ]; then
  say "installing zig $ZIG_VERSION from PyPI into $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "ziglang==$ZIG_VERSION"
fi
PATH=$PWD/$venv/bin:$PATH

std=()
if [ -n "${WEIR_RUST_SRC:-}" ]; then
  version=$(rustc --version | cut -d' ' -f2)
  source_version=$(cat "$WEIR_RUST_SRC/src/version")
  [ "$source_version" = "$version" ] || { say "$WEIR_RUST_SRC is Rust $source_version, rustc is $version"; exit 69; }
  say "compiling the standard library from $WEIR_RUST_SRC"
  # Unstable, so a stable cargo wants to be asked twice; where the source lies is a variable of cargo's own tests.
  export RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$WEIR_RUST_SRC/library
  std=(-Z build-std=std)
elif [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; then
  say "installing the standard library for $triple"
  rustup target add "$triple" || { say "no standard library for $triple: install one, or set WEIR_RUST_SRC"; exit 69; }
fi

# C and assembly of dependencies (ring, tract's kernels).
export ZIG_TARGET=$cpu-linux-$libc
export "CC_${triple//-/_}=$PWD/cross/zig-cc" "AR_${triple//-/_}=$PWD/cross/zig-ar"
# Headers of the target for the bindings of V4L2, which a clang without a target's C library makes.
headers=$(python -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / "lib/libc/include")')
export "BINDGEN_EXTRA_CLANG_ARGS_${triple//-/_}=--target=$cpu-linux-${libc%%.*} -nostdlibinc \
  -isystem $headers/$cpu-linux-${libc%%.*} -isystem $headers/generic-${libc/gnu*/glibc} \
  -isystem $headers/${cpu/x86_64/x86}-linux-any -isystem $headers/any-linux-any"

# The date that the program takes for its own: a clock that stands before it was never set.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

# Paths of this machine stay out of the binary and of what decides about it.
export RUSTC_WRAPPER=$PWD/cross/rustc WEIR_SOURCE=$PWD
# Not -Clinker in RUSTFLAGS, which are part of every crate's name: the linker's path has the folder in it.
linker=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$triple")_LINKER
flags=
features=()
if [ $linkage = static ] && [ ${#std[@]} -gt 0 ]; then
  # Start files and musl are zig's: Rust's own copies come with its compiled standard library.
  flags=-Clink-self-contained=no
  export "$linker=$PWD/cross/zig-cc"
elif [ $linkage = static ]; then
  # Rust's own linker and its own copy of musl. It folds functions that came out the same, of generic code many, and
  # packs the relocations of position-independent executables, which musl unpacks since 1.2.4.
  flags="-Clink-arg=--icf=all -Clink-arg=-zpack-relative-relocs"
  export "$linker=rust-lld"
else
  export "$linker=$PWD/cross/zig-cc" # it knows every symbol's version in glibc
  if grep -q '^tensorrt *=' Cargo.toml; then
    features=(--features tensorrt) # its libraries are opened at run time, which a static binary cannot do
  fi
fi
[ -z "${WEIR_CROSS_SYMBOLS:-}" ] || export CARGO_PROFILE_DIST_STRIP=debuginfo
# A folder of its own: another set of flags would build everything again, here and there in turn.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cross RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }$flags"
cargo build --locked --profile dist --bin weir --target "$triple" "${std[@]}" "${features[@]}"

out=dist/$target
mkdir -p "$out"
install -m 0755 "$CARGO_TARGET_DIR/$triple/dist/weir" "$out/weir"
(cd "$out" && sha256sum weir > weir.sha256)
cross/sbom.py --target "$triple" "${features[@]}" --binary "$out/weir" > "$out/sbom.json"

size=$(stat -c %s "$out/weir")
file -b "$out/weir"
if [ $linkage = static ]; then
  file -b "$out/weir" | grep -Eq 'statically linked|static-pie' || { say "not static"; exit 70; }
  if [ -z "${WEIR_CROSS_SYMBOLS:-}" ] && [ "$size" -gt $MAX_STATIC_BYTES ]; then
    say "$size bytes are more than the $MAX_STATIC_BYTES promised"
    exit 70
  fi
else
  promised=GLIBC_${target##*gnu.}
  newest=$(readelf --version-info "$out/weir" | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -1)
  say "needs $newest or newer, and of libraries:$(readelf --dynamic "$out/weir" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/ \1/p' | tr -d '\n')"
  [ "$(printf '%s\n' "$newest" "$promised" | sort -V | tail -1)" = "$promised" ] || { say "$promised was promised"; exit 70; }
fi
say "$out/weir: $size bytes"

if [ -z "${WEIR_CROSS_NO_PACKAGES:-}" ]; then
  packaging/make-packages.py --target "$target" --out "$out"
  packaging/check.sh "$out"
fi
ls -l "$out"
