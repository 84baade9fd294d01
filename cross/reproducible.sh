#!/usr/bin/env bash
# Whether two builds give the same bytes:  cross/reproducible.sh TARGET
#
# Builds the last commit twice, in two folders of different names and from empty target folders, with cross/build.sh, and compares
# every file of dist/TARGET/. Twice ten CPU minutes and 4 GB, which go again. Needs a git checkout without changes.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-}
[ -n "$target" ] || { sed -n '2,6p' "$0"; exit 64; }
[ -z "$(git status --porcelain)" ] || { echo "reproducible: there are changes that no commit has"; exit 65; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/weir-reproducible.XXXXXX")
trap 'rm -rf "$work"' EXIT
commit=$(git rev-parse --short HEAD)
for name in first another-name; do git clone --quiet . "$work/$name"; done
for name in first another-name; do
  (cd "$work/$name" && env -u CARGO_TARGET_DIR cross/build.sh "$target") >"$work/$name.log" 2>&1 ||
    { tail -n 30 "$work/$name.log"; echo "reproducible: the build in $name failed"; exit 70; }
  rm -rf "$work/$name/target"
done
sums() { (cd "$work/$1/dist/$target" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }
if ! diff <(sums first) <(sums another-name); then
  echo "reproducible: the files above differ"
  exit 1
fi
sums first
echo "reproducible: two builds of $commit for $target gave the same $(sums first | wc -l) files"
