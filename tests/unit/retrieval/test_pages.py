"""Page tokens."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bowerbird.errors import PageTokenInvalid
from services.retrieval import pages
from services.retrieval.filters import Clause, Filter, Op

KEY = b"k" * 32
WANTED = Filter((Clause("style", Op.EQ, ("noto",)),))


@pytest.mark.parametrize("last_id", ["", "a", "ä/ö?=", "x" * 512])
def test_token_brings_back_the_last_id(last_id: str) -> None:
    """Any id survives, for the same index and filter."""
    assert pages.verify(KEY, "uid", WANTED, pages.sign(KEY, "uid", WANTED, last_id)) == last_id


def test_token_fits_one_request() -> None:
    """Another key, index or filter, a cut or changed token, and noise are refused."""
    token = pages.sign(KEY, "uid", WANTED, "a")
    for key, uid, wanted, text in (
        (b"x" * 32, "uid", WANTED, token),
        (KEY, "other", WANTED, token),
        (KEY, "uid", None, token),
        (KEY, "uid", Filter((Clause("style", Op.EQ, ("noto",), negate=True),)), token),
        (KEY, "uid", WANTED, token[:-4]),
        (KEY, "uid", WANTED, "AAAA" + token[4:]),
        (KEY, "uid", WANTED, "?"),
        (KEY, "uid", WANTED, "ä"),
    ):
        with pytest.raises(PageTokenInvalid):
            pages.verify(key, uid, wanted, text)


def test_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    """Tokens stay good over a restart; a damaged key is replaced."""
    path = tmp_path / "page.key"
    key = pages.load_key(path)
    assert pages.load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    assert len(pages.load_key(path)) == 32
