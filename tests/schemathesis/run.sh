#!/bin/sh
# Runs all checks of schemathesis and of openapi-spec-validator against a weir that this script starts and stops.
# usage: tests/schemathesis/run.sh [BINARY]      needs python3 with venv and PyPI
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
binary=${1:-$root/target/debug/weir}
venv=$root/target/schemathesis
[ -x "$venv/bin/schemathesis" ] || {
  python3 -m venv "$venv"
  "$venv/bin/pip" --quiet install schemathesis==4.* openapi-spec-validator==0.*
}
work=$(mktemp -d)
# The model of the document's example is in the cache; for every other the registry, played by an empty folder, says 404.
model=$work/cache/some/1
mkdir -p "$model" "$work/empty"
cp "$root/tests/assets/toy.onnx" "$model/weights.onnx"
printf '{"project_task_type": "object-detection", "model_type": "yolov8n"}' >"$model/model_type.json"
printf '{"PREPROCESSING": {"resize": {"format": "Stretch to", "width": 320, "height": 320}}}' >"$model/environment.json"
printf 'red\ngreen\nblue' >"$model/class_names.txt"
registry_port=$((20000 + $$ % 10000))
"$venv/bin/python" -m http.server --bind 127.0.0.1 --directory "$work/empty" "$registry_port" >/dev/null 2>&1 &
registry=$!
STREAM_MANAGER_PORT=0 STREAM_MANAGEMENT_API_PORT=0 MODEL_CACHE_DIR="$work/cache" API_BASE_URL="http://127.0.0.1:$registry_port" \
  "$binary" serve --ports-file "$work/ports" 2>"$work/log" &
pid=$!
trap 'kill "$pid" "$registry" 2>/dev/null; wait "$pid" || true; rm -rf "$work"' EXIT
tries=0
until [ -s "$work/ports" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { cat "$work/log" >&2; exit 1; }
  sleep 0.1
done
http=$(sed -n 's/.*"http": "\([^"]*\)".*/\1/p' "$work/ports")
"$venv/bin/openapi-spec-validator" "$root/src/proto/openapi.json"
cd "$work"
# All checks but one: "12" and true pass as numbers and "yes" as a boolean, because the reference takes them so.
"$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "http://$http/openapi.json" \
  --checks all --exclude-checks negative_data_rejection --max-examples "${EXAMPLES:-100}"
