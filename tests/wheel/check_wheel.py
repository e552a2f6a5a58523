"""Index and search real pictures through an installed wheel: `python check_wheel.py PICTURES SOURCE_TREE`."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import bowerbird

pictures, source_tree = Path(sys.argv[1]), Path(sys.argv[2])
bowerbird_command = Path(sys.executable).with_name("bowerbird")


def run(*arguments: str) -> str:
    """Standard output of the installed `bowerbird` command; a failure shows everything it printed."""
    process = subprocess.run([str(bowerbird_command), *arguments], capture_output=True, text=True, timeout=180)
    if process.returncode:
        sys.exit(f"bowerbird {' '.join(arguments)} exited {process.returncode}:\n{process.stdout}\n{process.stderr}")
    return process.stdout


assert importlib.util.find_spec("torch") is None, "torch must not be needed"
assert source_tree not in Path(bowerbird.__file__).parents, "the installed package must be tested, not the tree"
with tempfile.TemporaryDirectory() as data:
    port = "50961"
    target = ("--target", f"127.0.0.1:{port}")
    run("up", "--data", data, "--port", port)
    try:
        run(*target, "index", str(pictures / "twemoji"))
        query = sorted((pictures / "noto").glob("*.png"))[0]
        hits = json.loads(run(*target, "search", str(query), "--top-k", "5", "--json"))["hits"]
        assert len(hits) == 5, hits
        assert all(-1.01 <= hit["score"] <= 1.01 for hit in hits), hits
    finally:
        run("down", "--data", data)
print(f"wheel: serves; 5 hits for {query.name}, best {hits[0]['item_id']}; 1 passed, 0 failed")
