"""`docs/errors.md` lists exactly the reasons that the code can send."""

from __future__ import annotations

from pathlib import Path

from bowerbird import errors
from bowerbird.errors import BowerbirdError
from bowerbird.rpc import status

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
KINDS = [kind for kind in status.walk() if issubclass(kind, tuple(status.CODES)) and kind.__module__ == errors.__name__]


def row(kind: type[BowerbirdError]) -> str:
    code = status.code_of(kind)
    meaning = (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return f"| `{status.reason_of(kind)}` | `{kind.__name__}` | {code.name} | {meaning} | {status.advice_of(kind)} |"


def test_the_page_and_the_code_agree() -> None:
    """Every reason has its row with class, code, meaning and advice, and there is no other row."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows == [row(kind) for kind in KINDS]


def test_every_code_in_use_has_advice() -> None:
    """What to do about a code is said once, in the table of the code."""
    assert set(status.ADVICE) == set(status.CODES.values())
