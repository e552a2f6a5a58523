"""Parses the command line in two steps, runs one command, and turns what goes wrong into a message and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import bowerbird
from bowerbird.cli import outcome
from bowerbird.cli.options import Options, add_global_options
from bowerbird.cli.outcome import CommandFailed
from bowerbird.errors import BowerbirdError, ConfigInvalid, Unauthenticated, Unavailable

# Each command is the module of its name, with `add_arguments(parser)` and `run(arguments) -> exit code`. Only the
# module of the command that runs is imported.
COMMANDS = {
    "up": "start all services in the background",
    "down": "stop them",
    "status": "health of the services, indexes and models",
    "index": "make pictures searchable",
    "reembed": "embed the pictures of an index again, with the model served now",
    "search": "find what looks like a picture, a part of it, or an item",
    "detect": "find the objects in a picture",
    "embed": "print or save the vector of a picture",
    "items": "list what is in an index",
    "delete": "delete items",
    "snapshot": "save an index to a snapshot, list or delete snapshots",
    "restore": "load a snapshot into a new index",
    "eval": "measure how good retrieval is",
    "train": "train a model on your own pictures",
    "export": "put a trained model into the zoo",
}
EXAMPLES = """examples:
  bowerbird up                                   start the services
  bowerbird index ~/Pictures                     make a folder searchable
  bowerbird search cat.jpg --html result.html    what looks like this picture
  bowerbird search cat.jpg --region 0.1,0.2,0.6,0.9
  bowerbird down

exit codes: 0 ok, 1 failed, 2 wrong usage, 3 server unreachable, 130 interrupted
`bowerbird COMMAND --help` explains a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line `argv` (None: that of the process)."""
    module, arguments = parse(sys.argv[1:] if argv is None else argv)
    try:
        return int(module.run(arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", outcome.EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left, as `| head` does
        return outcome.EXIT_OK
    except CommandFailed as error:
        return _fail(str(error), error.exit_code)
    except BowerbirdError as error:
        return _fail(*_explain(error, arguments.target))


def parse(argv: Sequence[str]) -> tuple[ModuleType, Options]:
    """The module of the command, and its options.

    Raises:
        SystemExit: the command line is wrong, or asks for help only; the message is printed.
    """
    first, rest = _parse_globals(argv)
    module = importlib.import_module(f"bowerbird.cli.{first.command}")
    return module, _parse_command(module, first, rest)


def _parse_globals(argv: Sequence[str]) -> tuple[Options, list[str]]:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="bowerbird",
        description="Visual search over your pictures.",
        usage="bowerbird [options] COMMAND ...",
        epilog=f"commands:\n{listing}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_global_options(parser)
    parser.add_argument("--version", action="version", version=f"bowerbird {bowerbird.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parsed = parser.parse_args(argv, Options())
    rest = parsed.rest
    del parsed.rest
    return parsed, rest


def _parse_command(module: ModuleType, first: Options, rest: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog=f"bowerbird {first.command}",
        description=(module.__doc__ or "").partition("\n\n")[0],
        epilog=(module.__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    add_global_options(parser, defaults=first)
    return parser.parse_args(rest, first)


def _explain(error: BowerbirdError, target: str) -> tuple[str, int]:
    """The message and the exit code for a fault that a service, or the way to it, reported."""
    if isinstance(error, Unavailable):
        advice = (
            "Start the services with `bowerbird up`, or name another address with --target; "
            "if they speak TLS, give --tls-ca."
        )
        return f"no service answers at {target}: {error.message}\n{advice}", outcome.EXIT_UNREACHABLE
    if isinstance(error, Unauthenticated):
        return f"{error.message}\nGive a token with --token or the variable BOWERBIRD_TOKEN.", outcome.EXIT_FAILED
    if isinstance(error, ConfigInvalid):
        return f"configuration: {error.message}", outcome.EXIT_FAILED
    return f"{error.message} [{type(error).reason}]", outcome.EXIT_FAILED


def _fail(message: str, exit_code: int) -> int:
    print(f"bowerbird: {message}", file=sys.stderr)
    return exit_code
