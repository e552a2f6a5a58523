"""One module a kernel: `rows(*, quick)` compares the outputs with those of the peers, then yields `report.compare`.

The table of all is `python -m benchmarks.bench_native`; with names of kernels, theirs alone. Peers run on one thread:
bench_native tells OpenMP, the BLAS libraries and OpenCV before they are loaded.
"""
