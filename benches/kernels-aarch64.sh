#!/bin/sh
# Runs the unit tests of the CPU engine's kernels as an aarch64 program under qemu-user: the folder needs nothing else of weir,
# so no cross compiler is wanted. Needs the Rust target aarch64-unknown-linux-musl and qemu-aarch64-static.
set -eu
kernels=$(cd "$(dirname "$0")/../src/infer/cnn/kernels" && pwd)
crate=$(mktemp -d)
trap 'rm -rf "$crate"' EXIT
mkdir -p "$crate/src" "$crate/.cargo"
printf '[package]\nname = "kernels"\nversion = "0.1.0"\nedition = "2024"\n[profile.test]\nopt-level = 3\n' > "$crate/Cargo.toml"
printf '#![allow(dead_code)]\n#[path = "%s/mod.rs"]\nmod kernels;\n' "$kernels" > "$crate/src/lib.rs"
printf '[target.aarch64-unknown-linux-musl]\nlinker = "rust-lld"\nrunner = "qemu-aarch64-static"\n' > "$crate/.cargo/config.toml"
cd "$crate"
cargo test --target aarch64-unknown-linux-musl
