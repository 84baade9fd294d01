#!/usr/bin/env bash
# Checks meta-weir without bitbake (which is not packaged, see docs/yocto.md): oelint-adv, and what a linter cannot know.
set -euo pipefail
cd "$(dirname "$0")/.."
layer=yocto/meta-weir
OELINT_VERSION=9.11.2

venv=${CARGO_TARGET_DIR:-target}/oelint
if [ "$("$venv/bin/oelint-adv" --version 2>/dev/null)" != "oelint-adv $OELINT_VERSION" ] && [ ! -e "$venv/$OELINT_VERSION" ]; then
  echo "yocto: installing oelint-adv $OELINT_VERSION from PyPI into $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "oelint-adv==$OELINT_VERSION"
  touch "$venv/$OELINT_VERSION"
fi

# Exceptions, each with its reason; those of one line stand beside it (`nooelint`).
exceptions=(
  oelint.var.mandatoryvar.HOMEPAGE   # there is no public page yet
  oelint.var.suggestedvar.BUGTRACKER # nor a tracker
  oelint.var.suggestedvar.AUTHOR     # a variable of old releases
  oelint.var.bbclassextend           # neither for the build machine nor for an SDK
  oelint.vars.specific               # `tegra` is an override of meta-tegra, which the linter does not see
  oelint.func.specific               # the same
  oelint.vars.mispell                # EXTRA_CARGO_FLAGS is meta-rust-bin's
)
mapfile -t files < <(find $layer -name '*.bb' -o -name '*.bbappend' -o -name '*.inc' -o -name layer.conf)
for release in kirkstone scarthgap; do
  echo "yocto: oelint-adv for $release, ${#files[@]} files"
  "$venv/bin/oelint-adv" --quiet --release $release $(printf -- '--suppress %s ' "${exceptions[@]}") "${files[@]}"
done

failed=0
fail() { echo "yocto: $*"; failed=1; }
# Checksums of the licences.
while read -r file sum; do
  [ "$(md5sum < "$file" | cut -d' ' -f1)" = "$sum" ] || fail "weir.inc has another md5 for $file"
done < <(sed -n 's/.*file:\/\/\([A-Z-]*\);md5=\([0-9a-f]*\).*/\1 \2/p' $layer/recipes-weir/weir/weir.inc)
# The version in file names is the crate's.
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
for recipe in $layer/recipes-weir/weir/weir-bin_*.bb $layer/dynamic-layers/rust-bin-layer/recipes-weir/weir/weir_*.bb; do
  [[ $recipe == *_$version.bb ]] || fail "$recipe is not of version $version"
done
# Every file that the recipes install is one that packages and the source tree have.
for file in weir.service weir-tcp.socket weir-http.socket weir.toml weir.default weir.1 weir-jetson.conf; do
  grep -q "\"$file\"" packaging/make-packages.py || fail "the tar.gz has no $file"
  [ -e packaging/$file ] || fail "packaging/ has no $file"
done
# Literal in the releases this is for: do_install would look for a folder of that name.
! grep -rn '\${UNPACKDIR}' $layer --include='*.bb' --include='*.inc' || fail "UNPACKDIR is not known to kirkstone and scarthgap"
[ $failed = 0 ] && echo "yocto: layer is in order"
exit $failed
