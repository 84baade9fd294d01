#!/bin/sh
# Prints the name under which rustup has the version of rust-toolchain.toml, where that is another one (`stable`, as of that
# day): rustup goes by names, so it would fetch the same compiler again, or end with "not installed" where it may not. Make and
# cross/build.sh put it into RUSTUP_TOOLCHAIN. Prints nothing where rustup finds it by itself, has none, or is not there.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
command -v rustup >/dev/null || exit 0
# Asked beside the file, rustup would fetch what it names before it answers.
export RUSTUP_AUTO_INSTALL=0
cd /
names=$(rustup toolchain list 2>/dev/null | cut -d' ' -f1)
for name in $names; do
  case $name in "$version" | "$version"-*) exit 0 ;; esac
done
for name in $names; do
  case $(rustup run "$name" rustc --version 2>/dev/null) in "rustc $version "*) echo "$name" && exit 0 ;; esac
done
