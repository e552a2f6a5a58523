"""Options that every command has, and the connection they describe."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from bowerbird.boxes import Region
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.processes import Home, home_directory
from bowerbird.errors import RegionOutOfRange
from bowerbird.rpc.clients import Connection, connect

TARGET_VARIABLE = "BOWERBIRD_TARGET"
TOKEN_VARIABLE = "BOWERBIRD_TOKEN"  # noqa: S105 (the name of a variable)
DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_INDEX = "default"
DEFAULT_TIMEOUT_S = 30.0


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


def add_index_option(parser: argparse.ArgumentParser) -> None:
    """Add --index."""
    parser.add_argument("--index", default=DEFAULT_INDEX, metavar="NAME", help=f"name of the index ({DEFAULT_INDEX})")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def open_connection(arguments: Options) -> Connection:
    """The connection that the global options describe; nothing is sent yet."""
    return connect(
        arguments.target,
        token=arguments.token,
        tls_ca=arguments.tls_ca,
        timeout_s=arguments.timeout or DEFAULT_TIMEOUT_S,
    )


def read_file(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        CommandFailed: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from error


def parse_region(text: str) -> Region:
    """The region `x0,y0,x1,y1`, for argparse."""
    try:
        x_min, y_min, x_max, y_max = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected four numbers x0,y0,x1,y1 in [0, 1], got {text!r}") from error
    try:
        return Region(x_min, y_min, x_max, y_max)
    except RegionOutOfRange as error:
        raise argparse.ArgumentTypeError(error.message) from error


def format_region(region: Region) -> str:
    """The region as --region takes it."""
    return ",".join(f"{side:.3f}" for side in (region.x_min, region.y_min, region.x_max, region.y_max))
