"""How a command ends: exit codes, and the one exception that carries a message to the user."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


class CommandFailed(Exception):  # noqa: N818 (named as the errors of bowerbird.errors are)
    """The command cannot do what it was asked; the message says why and what to do."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UsageWrong(CommandFailed):
    """An argument has a value that the command line does not allow."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=EXIT_USAGE)
