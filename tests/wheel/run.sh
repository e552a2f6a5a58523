#!/usr/bin/env bash
# The wheel serves by itself: built from the tree, installed into a clean environment far from the tree, no torch.
# Usage: bash tests/wheel/run.sh   (called by `make wheel`; needs .venv/build-tools)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "wheel: building"
"$root/.venv/bin/python" -m pip wheel --quiet --no-build-isolation --no-deps -w "$work/dist" \
  -Cbuild-dir="$work/build" "$root"
mkdir -p "$root/dist" && rm -f "$root"/dist/*.whl && cp "$work"/dist/*.whl "$root/dist/"
python=$("$root/.venv/bin/python" -c 'import sys; print(sys._base_executable)')
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$work"/dist/*.whl

cp -r "$root/tests/golden/pictures" "$work/pictures"
cp "$root/tests/wheel/check_wheel.py" "$work/check_wheel.py"
cd "$work"
echo "wheel: serving from $(ls dist)"
exec env -u PYTHONPATH "$work/venv/bin/python" check_wheel.py "$work/pictures" "$root"
