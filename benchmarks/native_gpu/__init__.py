"""One module a CUDA kernel: `rows(*, quick)` compares outputs with those of the peers, then yields `clock.compare`."""
