#!/usr/bin/env bash
# Run the native tests under AddressSanitizer and UndefinedBehaviorSanitizer. Usage: make asan
#
# The package is built into build/asan beside the normal one and loaded without the site module (-S), whose editable
# finder would put the normal one first. Leak detection is off: the interpreter keeps memory on purpose.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=.venv/bin/python
flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1"
rm -rf build/asan/site build/asan/*.whl
$python -m pip wheel --quiet --no-build-isolation --no-deps -w build/asan \
    -Cbuild-dir=build/asan/cmake "-Ccmake.define.CMAKE_CXX_FLAGS=$flags" -Cinstall.strip=false .
$python -m pip install --quiet --no-deps --target build/asan/site build/asan/*.whl

packages=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
export PYTHONPATH="$PWD/build/asan/site:$packages"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
LD_PRELOAD="$(${CXX:-c++} -print-file-name=libasan.so) $(${CXX:-c++} -print-file-name=libubsan.so)"
export LD_PRELOAD
$python -S - <<'CHECK'
from bowerbird.native import _core
assert "build/asan" in _core.__file__, _core.__file__
CHECK
$python -S -m pytest -q -p no:cacheprovider tests/property/test_native_*.py tests/unit/native/test_arguments.py "$@"
