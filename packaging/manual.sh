#!/usr/bin/env bash
# Writes what `weir` says of its command line into packaging: the man page and the completions of the shells. A test holds them.
#   packaging/manual.sh [BINARY]        default: target/debug/weir, which must be built
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/debug/weir}
mkdir -p packaging/completions
"$binary" manual >packaging/weir.1
"$binary" completions bash >packaging/completions/weir.bash
"$binary" completions zsh >packaging/completions/_weir
"$binary" completions fish >packaging/completions/weir.fish
