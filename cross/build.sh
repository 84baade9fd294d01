#!/usr/bin/env bash
# Builds what is shipped:  cross/build.sh TARGET
#
#   aarch64-unknown-linux-musl       static: Jetson, Raspberry Pi and other 64-bit ARM, any distribution
#   x86_64-unknown-linux-musl        static: PCs and servers
#   armv7-unknown-linux-musleabihf   static: 32-bit ARM with NEON
#   aarch64-unknown-linux-gnu.2.31   dynamic (glibc 2.31 or newer, so JetPack 5 and 6), feature `tensorrt` where there is one
#
# On a Debian or Ubuntu machine with only Rust and git. Installs what it needs itself: system packages through
# scripts/setup.sh, the cross compiler (zig) and cargo-zigbuild from PyPI into target/cross-venv, the target's standard
# library through rustup. Leaves in dist/TARGET/: weir, weir.sha256, sbom.json and, for Linux distributions, packages.
#
# Environment: WEIR_CROSS_NO_PACKAGES=1 stops after the binary.
set -euo pipefail
cd "$(dirname "$0")/.."

# Pinned: the C library headers and the linker come from here.
ZIG_VERSION=0.17.1
ZIGBUILD_VERSION=0.24.0
# What the issue tracker promises users of small boards.
MAX_STATIC_BYTES=$((15 * 1000 * 1000))

target=${1:-}
case $target in
  *-musl | *-musleabihf) linkage=static ;;
  aarch64-unknown-linux-gnu.*) linkage=dynamic ;;
  *) sed -n '2,14p' "$0"; exit 64 ;;
esac
triple=${target%%-gnu.*}
[ "$triple" = "$target" ] || triple=$triple-gnu # rustc's name has no glibc version

say() { printf 'cross: %s\n' "$*"; }

scripts/setup.sh build cross

venv=target/cross-venv
if [ "$("$venv/bin/python" -m ziglang version 2>/dev/null)" != "$ZIG_VERSION" ] \
  || [ "$("$venv/bin/cargo-zigbuild" --version 2>/dev/null)" != "cargo-zigbuild $ZIGBUILD_VERSION" ]; then
  say "installing zig $ZIG_VERSION and cargo-zigbuild $ZIGBUILD_VERSION from PyPI into $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "ziglang==$ZIG_VERSION" "cargo-zigbuild==$ZIGBUILD_VERSION"
fi
PATH=$PWD/$venv/bin:$PATH

features=()
if [ $linkage = dynamic ] && grep -q '^tensorrt *=' Cargo.toml; then
  features=(--features tensorrt) # its libraries are opened at run time, which a static binary cannot do
fi
arguments=(--locked --profile dist --bin weir --target "$target" "${features[@]}")

# The crates' own C code is small (ring); optimise it like the rest. Paths of this machine stay out of the binary.
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"

installed() { [ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; }
if ! installed && command -v rustup >/dev/null; then
  say "installing the standard library for $triple"
  rustup target add "$triple" || say "rustup cannot fetch it"
fi
if installed; then
  cargo zigbuild "${arguments[@]}"
else
  # Without rustup (a distribution's rustc): build the standard library too, from the distribution's sources of exactly
  # this compiler's version. `link-self-contained=no`: zig brings its own crt1.o.
  version=$(rustc -vV | sed -n 's/^release: //p')
  library=/usr/src/rustc-$version/library
  [ -d "$library" ] || library=$(rustc --print sysroot)/lib/rustlib/src/rust/library
  [ -d "$library" ] || { say "no standard library for $triple, and no rust-src of rustc $version (Debian: apt install rust-src)"; exit 69; }
  say "building the standard library from $library"
  RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$library \
    cargo zigbuild "${arguments[@]}" -Z build-std=std,panic_abort --config "target.$triple.rustflags=['-Clink-self-contained=no']"
fi

out=dist/$target
mkdir -p "$out"
install -m 0755 "${CARGO_TARGET_DIR:-target}/$triple/dist/weir" "$out/weir"
(cd "$out" && sha256sum weir > weir.sha256)
cross/sbom.py --target "$triple" "${features[@]}" --binary "$out/weir" > "$out/sbom.json"

size=$(stat -c %s "$out/weir")
file -b "$out/weir"
if [ $linkage = static ]; then
  file -b "$out/weir" | grep -Eq 'statically linked|static-pie' || { say "not static"; exit 70; }
  [ "$size" -le $MAX_STATIC_BYTES ] || { say "$size bytes are more than the $MAX_STATIC_BYTES promised"; exit 70; }
fi
say "$out/weir: $size bytes"

if [ -z "${WEIR_CROSS_NO_PACKAGES:-}" ]; then
  packaging/make-packages.py --target "$target" --out "$out"
fi
ls -l "$out"
