"""Run benchmarks, each in a process of its own: `python -m benchmarks [--quick] [--json] [NAME ...]`; none named: all.

A name is `native`, `native-gpu`, `rpc`, `search`, `embed`, `index`, `sampled-softmax`, `loader`, `search-by-image`,
`train` or `vit-gpu`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
KNOWN = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def main() -> int:
    """0 after every named benchmark has run; the exit status of the first that failed."""
    switches = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    names = [argument.replace("-", "_") for argument in sys.argv[1:] if argument not in switches] or KNOWN
    if unknown := sorted(set(names) - set(KNOWN)):
        print(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(KNOWN)}", file=sys.stderr)
        return 2
    for name in names:
        if "--json" not in switches:
            print(f"== {name}", flush=True)
        status = subprocess.run([sys.executable, "-m", f"benchmarks.bench_{name}", *switches], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
