#!/bin/sh
# Runs all checks of schemathesis, and openapi-spec-validator on the document as it is served, against a weir that this
# script starts and stops.
# What it generates follows from SEED (without one: from chance, and a failure names it), so that `make test` does the same
# for the same document every time and `make fuzz` does not.
# usage: [EXAMPLES=N] [SEED=N] tests/schemathesis/run.sh [BINARY]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
target=${CARGO_TARGET_DIR:-$root/target}
binary=${1:-$target/debug/weir}
"$root/scripts/venv.sh" schemathesis "$here/requirements.txt"
bin=$target/schemathesis/bin
work=$(mktemp -d)
# The model of the document's example is in the cache; for every other the registry, played by an empty folder, says 404.
model=$work/cache/some/1
mkdir -p "$model" "$work/empty"
cp "$root/tests/assets/toy.onnx" "$model/weights.onnx"
printf '{"project_task_type": "object-detection", "model_type": "yolov8n"}' >"$model/model_type.json"
printf '{"PREPROCESSING": {"resize": {"format": "Stretch to", "width": 320, "height": 320}}}' >"$model/environment.json"
printf 'red\ngreen\nblue' >"$model/class_names.txt"
# Python writes its port into a pipe before it serves; a port of our own choosing could be taken.
mkfifo "$work/registry"
"$bin/python" -u -c '
import functools, http.server, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=sys.argv[1]))
print(server.server_port)
sys.stdout.close()
server.serve_forever()' "$work/empty" >"$work/registry" &
registry=$!
trap 'kill "$registry" 2>/dev/null; rm -rf "$work"' EXIT
read -r registry_port <"$work/registry"
# Generated requests name other machines: none of them is ever connected to.
printf '[sources]\nhosts = ["127.0.0.1"]\n' >"$work/weir.toml"
mkfifo "$work/log"
STREAM_MANAGER_PORT=0 STREAM_MANAGEMENT_API_PORT=0 MODEL_CACHE_DIR="$work/cache" LOG_LEVEL=ERROR \
  API_BASE_URL="http://127.0.0.1:$registry_port" TRANSIENT_ROBOFLOW_API_ERRORS_RETRIES=0 "$binary" serve --config "$work/weir.toml" 2>"$work/log" &
pid=$!
trap 'kill "$pid" "$registry" 2>/dev/null; wait "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
exec 3<"$work/log"
# The two lines it says when both listeners are open; an early end closes the pipe.
http=
while [ -z "$http" ] && read -r line <&3; do
  case $line in http=*) http=${line#http=} ;; esac
done
[ -n "$http" ] || { echo "weir did not start" >&2; exit 1; }
cat <&3 >"$work/log.txt" &
"$bin/python" -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' \
  "http://$http/openapi.json" >"$work/openapi.json"
"$bin/openapi-spec-validator" "$work/openapi.json"
# Its caches and reports belong into the folder that goes.
cd "$work"
SCHEMATHESIS_HOOKS="$here/hooks.py" PYTHONDONTWRITEBYTECODE=1 "$bin/schemathesis" --config-file "$here/schemathesis.toml" run "http://$http/openapi.json" \
  --checks all --max-examples "${EXAMPLES:-100}" ${SEED:+--seed "$SEED"} || { cat "$work/log.txt" >&2; exit 1; }
# Whatever it was asked: it still runs and has nothing to complain about itself.
kill -0 "$pid"
