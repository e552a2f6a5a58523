#!/usr/bin/env bash
# Run the native tests under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer.
# Usage: make asan, or: bash native/tests/run_sanitized.sh [address|thread] [pytest arguments]
#
# The package is built into build/<sanitizer> beside the normal one and loaded without the site module (-S), whose
# editable finder would put the normal one first. Leak detection is off: the interpreter keeps memory on purpose.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$PWD/.venv/bin/python
packages=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
tests=(tests/property/test_native_*.py tests/unit/native/test_arguments.py)

runtime() { ${CXX:-c++} -print-file-name="lib$1.so"; }

build() { # sanitizer flags
    local folder=build/$1
    rm -rf "$folder/site" "$folder"/*.whl
    $python -m pip wheel --quiet --no-build-isolation --no-deps -w "$folder" -Cbuild-dir="$folder/cmake" \
        "-Ccmake.define.CMAKE_CXX_FLAGS=$2 -g -O1" -Cinstall.strip=false .
    $python -m pip install --quiet --no-deps --target "$folder/site" "$folder"/*.whl
}

check() { # sanitizer preloaded-libraries pytest-arguments...
    local folder=build/$1 preload=$2
    shift 2
    # ThreadSanitizer wants the address layout without randomisation. One thread for OpenBLAS: it is not instrumented,
    # and its threads look like races.
    PYTHONPATH="$PWD/$folder/site:$packages" LD_PRELOAD="$preload" OPENBLAS_NUM_THREADS=1 \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 TSAN_OPTIONS=exitcode=66 \
        setarch --addr-no-randomize "$python" -S -c "
import sys, pytest
from bowerbird.native import _core
assert '/$folder/' in _core.__file__, _core.__file__
sys.exit(pytest.main(sys.argv[1:]))" -q -p no:cacheprovider "${tests[@]}" "$@"
}

wanted=both
case ${1:-} in address | thread) wanted=$1 && shift ;; esac
if [ "$wanted" != thread ]; then
    build address "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
    check address "$(runtime asan) $(runtime ubsan)" "$@"
fi
if [ "$wanted" != address ]; then
    build thread "-fsanitize=thread"
    check thread "$(runtime tsan)" "$@"
fi
