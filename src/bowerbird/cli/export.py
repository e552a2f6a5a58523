"""Put a trained model into the zoo, as the services load it. Needs the extra [train].

examples:
  bowerbird export embedder runs/embedder --name my-vit --zoo zoo
  bowerbird export embedder --help
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from bowerbird.cli.options import Options
from bowerbird.cli.outcome import CommandFailed

NEEDED = ("torch", "onnx", "onnxscript", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    parser.add_argument("kind", choices=["embedder"], metavar="embedder", help="what was trained")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="see `bowerbird export embedder --help`")


def run(arguments: Options) -> int:
    """Become the exporter: it needs torch, which a client of the services does not.

    Raises:
        CommandFailed: a package is not installed.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise CommandFailed(f"exporting needs {', '.join(missing)}: pip install 'bowerbird[train]'")
    sys.stdout.flush()
    # -P keeps a folder called `services` in the working directory out of it
    program = f"services.{arguments.kind}.export"
    os.execv(sys.executable, [sys.executable, "-P", "-m", program, *arguments.rest])  # noqa: S606
