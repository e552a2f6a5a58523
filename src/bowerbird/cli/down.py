"""Stop the services that `bowerbird up` started from this directory, after they finished the calls under way.

examples:
  bowerbird down
  bowerbird down --data ~/birds
"""

from __future__ import annotations

import argparse

from bowerbird.cli import processes
from bowerbird.cli.options import Options
from bowerbird.cli.outcome import EXIT_OK, CommandFailed
from bowerbird.cli.processes import Home

STOP_TIMEOUT_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `down`."""
    parser.add_argument("--data", metavar="DIR", help="the directory given to `up`")


def run(arguments: Options) -> int:
    """Exit code 0 when nothing runs any more, also when nothing did."""
    home = Home(processes.home_directory(arguments.data))
    running = home.running()
    if running is None:
        print(f"no services run from {home.directory}")
        return EXIT_OK
    if not processes.terminate(home, running, arguments.timeout or STOP_TIMEOUT_S):
        raise CommandFailed(
            f"process {running.pid} still finishes its calls; wait and try again, or end it at once with "
            f"`kill {running.pid}`"
        )
    home.state_file.unlink(missing_ok=True)
    print(f"stopped process {running.pid}; its data stays in {home.directory}")
    return EXIT_OK
