#!/bin/sh
# Runs the unit tests of the CPU engine's kernels as a program of their own: the folder needs nothing else of weir, so it builds in
# seconds and without a cross compiler.
#
#   benches/kernels.sh aarch64     under qemu-user, on CPUs with and without FP16 arithmetic, dot products and I8MM; needs the Rust target
#                                  aarch64-unknown-linux-musl and qemu-aarch64-static
#   benches/kernels.sh valgrind    every load and store checked; needs valgrind, which knows AVX2 but not AVX-512
set -eu
case ${1:-} in
    aarch64) target=aarch64-unknown-linux-musl runner='"qemu-aarch64-static"' linker='linker = "rust-lld"' ;;
    valgrind)
        target=x86_64-unknown-linux-gnu linker=
        runner='["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]' ;;
    *) sed -n '2,8p' "$0" && exit 64 ;;
esac
kernels=$(cd "$(dirname "$0")/../src/infer/cnn/kernels" && pwd)
crate=$(mktemp -d)
trap 'rm -rf "$crate"' EXIT
mkdir -p "$crate/src" "$crate/.cargo"
printf '[package]\nname = "kernels"\nversion = "0.1.0"\nedition = "2024"\n[profile.test]\nopt-level = 3\n' > "$crate/Cargo.toml"
# the folder's macros name it by its place in weir
printf '#![allow(dead_code)]\nmod infer {\n pub(crate) mod cnn {\n  #[path = "%s/mod.rs"]\n  pub(crate) mod kernels;\n }\n}\n' \
    "$kernels" > "$crate/src/lib.rs"
printf '[target.%s]\n%s\nrunner = %s\n' "$target" "$linker" "$runner" > "$crate/.cargo/config.toml"
cd "$crate"
case $1 in
    aarch64) for cpu in max neoverse-n1 cortex-a72; do QEMU_CPU=$cpu cargo test --lib --target "$target"; done ;;
    *) cargo test --lib --target "$target" ;;
esac
