"""The native kernels beside who computes the same, one thread each, results compared before any clock starts.

Run: python -m benchmarks.bench_native [--quick] [--json] [KERNEL ...]
A row's ratio is peer / ours of the medians: above 1, ours is faster; of_floor is ours / floor: 1 is the limit of the
machine. BOWERBIRD_SIMD measures another level.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence

from benchmarks import report

# In the order of the table. Each is a module of benchmarks/native with `rows(*, quick)`.
KERNELS = (
    "search",
    "scan",
    "rerank",
    "nms",
    "detection_postprocess",
    "preprocess",
    "roi_align",
    "walk",
)


def main() -> None:
    """Measure, print, write benchmarks/results/native.json unless only some kernels were named."""
    parser = report.make_parser(__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"some of {', '.join(KERNELS)} (all)")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.kernels) - set(KERNELS)):
        parser.error(f"KERNEL: expected some of {', '.join(KERNELS)}, got {', '.join(unknown)}")
    use_one_thread()
    kernels = [kernel for kernel in KERNELS if kernel in (arguments.kernels or KERNELS)]
    measured = rows(kernels, quick=arguments.quick)
    report.publish("native", measured, as_json=arguments.json, keep=not arguments.kernels)


def use_one_thread() -> None:
    """Tell the peers' thread pools, before the libraries that start them are loaded."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(variable, "1")


def rows(kernels: Sequence[str], *, quick: bool) -> Iterator[report.Row]:
    """All measurements of the kernels, one row a peer; `threads` is 1 where the row says nothing else."""
    from bowerbird import native  # loads NumPy, and with it a thread pool

    for kernel in kernels:
        for row in importlib.import_module(f"benchmarks.native.{kernel}").rows(quick=quick):
            yield {"threads": 1, **row, "simd": native.simd_level()}


if __name__ == "__main__":
    main()
