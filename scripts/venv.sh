#!/usr/bin/env bash
# Makes a virtual environment: that of the Python tests (tests/python/requirements.txt, in target/venv), or another.
#
#   scripts/venv.sh [NAME REQUIREMENTS]
#
# Cached: it is made again only when the requirements or the Python change.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-venv}
requirements=${2:-tests/python/requirements.txt}
venv=${CARGO_TARGET_DIR:-target}/$name
# The system's own Python: another one may be first in PATH and go away.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
stamp=$("$python" --version; cat "$requirements")
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9 # two test runs at once must not make it twice
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
  echo "venv: installing $requirements from PyPI into $venv"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
  printf '%s' "$stamp" > "$venv/stamp"
fi
