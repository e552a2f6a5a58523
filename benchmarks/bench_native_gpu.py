"""The CUDA kernels beside torch, random data, results compared before any clock starts; CUDA events, medians.

Run: python -m benchmarks.bench_native_gpu [--quick] [--json] [KERNEL ...]
Rows are those of bench_native; the floor is the share of a copy in device memory, measured in the same run. Where there
is no CUDA device it says so and measures nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence

from benchmarks import report
from benchmarks.native_gpu import clock
from bowerbird import native

# In the order of the table. Each is a module of benchmarks/native_gpu with `rows(*, quick)`.
KERNELS: tuple[str, ...] = ("scan", "rerank", "nms", "detection_postprocess", "walk", "preprocess", "roi_align")


def main() -> None:
    """Measure, print, write benchmarks/results/native_gpu.json unless only some kernels were named."""
    parser = report.make_parser(__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"some of {', '.join(KERNELS)} (all)")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.kernels) - set(KERNELS)):
        parser.error(f"KERNEL: expected some of {', '.join(KERNELS)}, got {', '.join(unknown)}")
    reason = clock.why_not() or (None if native.cuda_device_count() else "the native module has no CUDA in it")
    if reason is not None:
        print(f"{reason}: nothing measured", file=sys.stderr if arguments.json else sys.stdout)
        return
    kernels = [kernel for kernel in KERNELS if kernel in (arguments.kernels or KERNELS)]
    measured = rows(kernels, quick=arguments.quick)
    keep = not arguments.kernels
    report.publish("native_gpu", measured, as_json=arguments.json, keep=keep, device=clock.describe_device())


def rows(kernels: Sequence[str], *, quick: bool) -> Iterator[report.Row]:
    """All measurements of the kernels, one row a peer."""
    for kernel in kernels:
        yield from importlib.import_module(f"benchmarks.native_gpu.{kernel}").rows(quick=quick)


if __name__ == "__main__":
    main()
