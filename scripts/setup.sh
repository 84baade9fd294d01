#!/usr/bin/env bash
# Installs the system packages that building, testing or packaging needs. Debian 12/13 and Ubuntu 22.04 or newer.
#
#   scripts/setup.sh build|test|page|bench|cross|package|vm|m2m|nspawn|bare ...
#
# Says what it will do before it does it, installs only what is missing, and does nothing the second time.
# Works as root and through sudo. On another distribution it names what it would have installed and goes on.
set -euo pipefail

# build: the C compiler is for `ring` (TLS).
BUILD=(build-essential ca-certificates)
# test: curl for the lines of README.md, a real RTSP server, and Python clients in a virtual environment of their own (libgl1 is for OpenCV there).
TEST=(curl openssl mosquitto mosquitto-clients man-db groff zsh fish systemd python3 libgl1 python3-venv python3-gi gir1.2-gst-rtsp-server-1.0 ffmpeg tshark
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav)
# test, too: a machine of this architecture, with cameras of a real kernel (tests/process/vm.rs).
case $(uname -m) in
  x86_64) TEST+=(qemu-system-x86) ;;
  aarch64) TEST+=(qemu-system-arm) ;;
esac
# page: a browser and its driver.
PAGE=(chromium chromium-driver curl openssl python3)
# vm: machines of both architectures.
VM=(qemu-system-x86 qemu-system-arm python3)
# m2m: modules for the guest's kernel, and a clip for it.
M2M=(make gcc binutils dpkg-dev xz-utils python3 ffmpeg)
# bench: an HTTP load generator.
BENCH=(wrk python3 ffmpeg)
# cross: the cross compiler itself (zig) comes from PyPI, see cross/build.sh.
CROSS=(python3 python3-venv curl file xz-utils qemu-user-static)
# package: making and checking packages.
PACKAGE=(dpkg-dev lintian minisign skopeo systemd python3 python3-venv)
# nspawn: a Debian in a container, to run the service under a real systemd.
NSPAWN=(systemd-container mmdebstrap dpkg-dev binutils python3)

# bare: a Debian with nothing in it.
BARE=(mmdebstrap util-linux)

say() { printf 'setup: %s\n' "$*"; }

[ $# -gt 0 ] || { sed -n '2,7p' "$0"; exit 64; }
command -v cargo >/dev/null || { say "cargo is missing: install Rust first (https://rustup.rs)"; exit 69; }

wanted=()
for set in "$@"; do
  case $set in
    build) wanted+=("${BUILD[@]}") ;;
    test) wanted+=("${TEST[@]}") ;;
    page) wanted+=("${PAGE[@]}") ;;
    bench) wanted+=("${BENCH[@]}") ;;
    cross) wanted+=("${CROSS[@]}") ;;
    package) wanted+=("${PACKAGE[@]}") ;;
    vm) wanted+=("${VM[@]}") ;;
    m2m) wanted+=("${M2M[@]}") ;;
    nspawn) wanted+=("${NSPAWN[@]}") ;;
    bare) wanted+=("${BARE[@]}") ;;
    *) say "unknown set: $set"; exit 64 ;;
  esac
done

if command -v apt-get >/dev/null; then
  missing=()
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" != 0 ]; then
      command -v sudo >/dev/null || { say "neither root nor sudo; please install: ${missing[*]}"; exit 69; }
      as_root=(sudo)
    fi
    say "installing with apt: ${missing[*]}"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  else
    say "$*: all packages are there"
  fi
else
  say "no apt here; this expects the equivalent of: ${wanted[*]}"
fi

# The lints and the formatter come with the toolchain of rust-toolchain.toml, unless somebody installed that without them: rustup's
# commands of these names are there then, and fail.
for component in clippy rustfmt; do
  case $component in clippy) tool=cargo-clippy ;; *) tool=cargo-fmt ;; esac
  if ! "$tool" --version >/dev/null 2>&1 && command -v rustup >/dev/null; then
    say "installing the Rust component $component"
    rustup component add "$component"
  fi
done
