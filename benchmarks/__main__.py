"""Run benchmarks: `python -m benchmarks [native|rpc|search|embed|index|search_by_image ...]`; none named: all."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
KNOWN = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def main() -> int:
    """0 after every named benchmark has run."""
    names, sys.argv = sys.argv[1:] or KNOWN, sys.argv[:1]
    unknown = sorted(set(names) - set(KNOWN))
    if unknown:
        print(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(KNOWN)}", file=sys.stderr)
        return 2
    for name in names:
        print(f"== {name}")
        runpy.run_module(f"benchmarks.bench_{name}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
