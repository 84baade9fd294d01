#!/usr/bin/env bash
# Prints the folder of `prometheus` and `promtool`: those of the system, or Debian's package unpacked into target/prometheus.
# Unpacked, because installing it would start a service that nobody here asked for.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v promtool >/dev/null && command -v prometheus >/dev/null; then
  dirname "$(command -v promtool)"
  exit
fi
folder=$PWD/${CARGO_TARGET_DIR:-target}/prometheus
mkdir -p "$folder"
exec 9>"$folder.lock"
flock 9 # two test runs at once must not unpack it twice
if [ ! -x "$folder/usr/bin/promtool" ]; then
  command -v apt-get >/dev/null || { echo "prometheus: neither promtool nor apt-get is there: install Prometheus" >&2; exit 69; }
  # Debian 13 has promtool in a package of its own.
  packages=prometheus
  [ -z "$(apt-cache search --names-only '^promtool$')" ] || packages="prometheus promtool"
  (cd "$folder" && apt-get download -q $packages >&2 && for package in *.deb; do dpkg -x "$package" . && rm "$package"; done)
fi
echo "$folder/usr/bin"
