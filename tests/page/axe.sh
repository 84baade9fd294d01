#!/usr/bin/env bash
# Fetches axe-core, which judges accessibility, from the npm registry into target/: pinned by its checksum, and not part of this
# repository (MPL-2.0).
set -euo pipefail
cd "$(dirname "$0")/../.."
version=4.14.1
sum=FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==
folder=${CARGO_TARGET_DIR:-target}/axe
if [ ! -s "$folder/$version.js" ]; then
  mkdir -p "$folder"
  archive=$(mktemp "$folder/XXXXXX.tgz")
  trap 'rm -f "$archive"' EXIT
  curl --fail --silent --show-error --location --max-time 120 -o "$archive" "https://registry.npmjs.org/axe-core/-/axe-core-$version.tgz"
  found=$(openssl dgst -sha512 -binary "$archive" | base64 -w0)
  [ "$found" = "$sum" ] || { echo "axe-core $version is not the one that was looked at: $found" >&2; exit 1; }
  tar -xzOf "$archive" package/axe.min.js > "$folder/$version.js.new"
  mv "$folder/$version.js.new" "$folder/$version.js"
fi
echo "$folder/$version.js"
