"""Options that every command has, and the connection they describe."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.processes import Home, home_directory

TARGET_VARIABLE = "BOWERBIRD_TARGET"
TOKEN_VARIABLE = "BOWERBIRD_TOKEN"  # noqa: S105 (the name of a variable)
DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_INDEX = "default"


class Options(argparse.Namespace):
    """What the command line says; the attributes that every command has are declared here."""

    command: str
    target: str
    token: str | None
    tls_ca: Path | None
    timeout: float | None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the command line has no option {name!r}")


def add_global_options(parser: argparse.ArgumentParser, defaults: Options | None = None) -> None:
    """Add --target, --token, --tls-ca and --timeout; they may stand before or after the command."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--target",
        metavar="HOST:PORT",
        default=defaults.target if defaults else default_target(),
        help=f"where the services are (${TARGET_VARIABLE}; else what `up` started here; else {DEFAULT_TARGET})",
    )
    group.add_argument(
        "--token",
        default=defaults.token if defaults else os.environ.get(TOKEN_VARIABLE),
        help=f"bearer token (better: ${TOKEN_VARIABLE}, which no process list shows)",
    )
    group.add_argument(
        "--tls-ca",
        type=Path,
        metavar="FILE",
        default=defaults.tls_ca if defaults else None,
        help="PEM file of the authority that signed the server's certificate; turns TLS on",
    )
    group.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        default=defaults.timeout if defaults else None,
        help="for one call; the default depends on the command",
    )


def default_target() -> str:
    """The address in the environment, else that of the services started here, else the standard one."""
    if given := os.environ.get(TARGET_VARIABLE):
        return given
    try:
        running = Home(home_directory()).running()
    except CommandFailed:  # half-started services: `up` and `down` say so, others try the standard address
        running = None
    return running.target if running else DEFAULT_TARGET
