#!/bin/sh
# Compares weir with Roboflow's own Stream Manager and Stream Management API (inference-cpu, in an environment of its own).
# usage: tests/peer/run.sh [BINARY]      needs python3 with venv and PyPI, 1.5 GB of disk the first time; no model is loaded there
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
venv=$root/target/peer-venv
[ -e "$venv/complete" ] || {
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  "$venv/bin/pip" --quiet --disable-pip-version-check install -r "$here/requirements.txt"
  touch "$venv/complete"
}
exec "$venv/bin/python" "$here/compare.py" "${1:-$root/target/debug/weir}"
