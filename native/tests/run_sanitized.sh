#!/usr/bin/env bash
# Run the native tests under AddressSanitizer with UndefinedBehaviorSanitizer, those of the CUDA kernels on the emulated
# device likewise, and the native tests under ThreadSanitizer.
# Usage: make asan, or: bash native/tests/run_sanitized.sh [address|emulated|thread] [pytest arguments]
#
# The package is built into build/<kind> beside the normal one and loaded without the site module (-S), whose editable
# finder would put the normal one first. Leak detection is off: the interpreter keeps memory on purpose.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$PWD/.venv/bin/python
packages=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
native=(tests/property/test_native_*.py tests/unit/native/test_arguments.py)

runtime() { ${CXX:-c++} -print-file-name="lib$1.so"; }

build() { # kind flags cuda
    local folder=build/$1
    rm -rf "$folder/site" "$folder"/*.whl
    $python -m pip wheel --quiet --no-build-isolation --no-deps -w "$folder" -Cbuild-dir="$folder/cmake" \
        "-Ccmake.define.CMAKE_CXX_FLAGS=$2 -g -O1" "-Ccmake.define.BOWERBIRD_CUDA=$3" -Cinstall.strip=false .
    $python -m pip install --quiet --no-deps --target "$folder/site" "$folder"/*.whl
}

check() { # kind preloaded-libraries pytest-arguments...
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
sys.exit(pytest.main(sys.argv[1:]))" -q -p no:cacheprovider "$@"
}

wanted=all
case ${1:-} in address | emulated | thread) wanted=$1 && shift ;; esac
address="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
if [[ $wanted == address || $wanted == all ]]; then
    build address "$address" OFF
    check address "$(runtime asan) $(runtime ubsan)" "${native[@]}" "$@"
fi
if [[ $wanted == emulated || $wanted == all ]]; then
    build emulated "$address" EMULATED
    check emulated "$(runtime asan) $(runtime ubsan)" tests/device --timeout=0 "$@"
fi
if [[ $wanted == thread || $wanted == all ]]; then
    build thread "-fsanitize=thread" OFF
    check thread "$(runtime tsan)" "${native[@]}" "$@"
fi
