"""Train a model on your own pictures; needs the extra `train`.

`embedder` learns one embedding for many tasks from a table of pictures and their labels or words. What is learnt, from
what and for how long stands in a TOML file; services/embedder/configs has examples, docs/training.md explains them.

examples:
  bowerbird train embedder my.toml
  bowerbird train embedder my.toml --resume                 go on after Ctrl-C, a crash or a reboot
  bowerbird train embedder my.toml --processes 2 --set optimizer.steps=500
  bowerbird train embedder --help                           all options
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from bowerbird.cli.options import Options
from bowerbird.cli.outcome import CommandFailed

PROGRAMS = {"embedder": "services.embedder.train"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    parser.add_argument("what", choices=sorted(PROGRAMS), help="what to train")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="CONFIG ...", help="configuration, and its options")


def run(arguments: Options) -> int:
    """Become the training program: it gets every signal at first hand, and its exit code is ours.

    Raises:
        CommandFailed: torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise CommandFailed("training needs more packages than serving; install them: pip install 'bowerbird[train]'")
    sys.stdout.flush()
    # -P keeps a folder called `services` in the working directory out of it
    os.execv(sys.executable, [sys.executable, "-P", "-m", PROGRAMS[arguments.what], *arguments.rest])  # noqa: S606
