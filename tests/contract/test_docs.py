"""The pages say what is true: links lead somewhere, commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md"), *ROOT.glob("zoo/*.md")]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    """Every relative link of a page names a file or folder of the repository."""
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    broken = [target for target in targets if not (page.parent / target).exists() and target != "demo.html"]

    assert not broken


def test_make_verbs_named_in_the_pages_exist() -> None:
    """A `make <verb>` in a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {verb for page in PAGES for verb in re.findall(r"`make ([a-z0-9]+)", page.read_text())}
    named |= {
        verb
        for page in PAGES
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(), re.DOTALL)
        for verb in re.findall(r"^\$? ?make ([a-z0-9]+)", block, re.MULTILINE)
    }

    assert named
    assert named <= targets, named - targets


def bowerbird_commands() -> list[str]:
    """Each `bowerbird <verb>` that a shell block of a page shows."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    return sorted(
        {verb for block in blocks for verb in re.findall(r"^\$? ?(?:\.venv/bin/)?bowerbird ([a-z]+)", block, re.M)}
    )


@pytest.mark.parametrize("verb", bowerbird_commands())
def test_bowerbird_commands_named_in_the_pages_exist(verb: str) -> None:
    """A `bowerbird <verb>` in a page answers --help."""
    process = subprocess.run(
        [sys.executable, "-m", "bowerbird.cli", verb, "--help"], capture_output=True, text=True, timeout=60
    )

    assert process.returncode == 0, process.stderr
    assert verb in process.stdout
