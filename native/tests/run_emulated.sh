#!/usr/bin/env bash
# Run the tests of the CUDA kernels on the emulated device (native/cuda_emulator), without a GPU and without nvcc.
# Usage: make cuda, or: bash native/tests/run_emulated.sh [pytest arguments]
#
# The package is built into build/cuda-emulated beside the normal one and loaded without the site module (-S), whose
# editable finder would put the normal one first.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$PWD/.venv/bin/python
folder=build/cuda-emulated
packages=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

rm -rf "$folder/site" "$folder"/*.whl
$python -m pip wheel --quiet --no-build-isolation --no-deps -w "$folder" -Cbuild-dir="$folder/cmake" \
    -Ccmake.define.BOWERBIRD_CUDA=EMULATED .
$python -m pip install --quiet --no-deps --target "$folder/site" "$folder"/*.whl

PYTHONPATH="$PWD/$folder/site:$packages" $python -S -c "
import sys, pytest
from bowerbird.native import _core
assert '/$folder/' in _core.__file__, _core.__file__
assert _core.cuda_device_names() == ['CUDA emulator'], _core.cuda_device_names()
sys.exit(pytest.main(sys.argv[1:]))" -q -p no:cacheprovider tests/device "$@"
