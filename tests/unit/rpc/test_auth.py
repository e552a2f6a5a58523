"""Tokens and roles."""

import hashlib
from pathlib import Path

import pytest

from bowerbird.errors import ConfigInvalid, PermissionDenied, Unauthenticated
from bowerbird.rpc.auth import Authoriser
from bowerbird.rpc.service import Role


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def entry(name: str, token: str, role: str) -> str:
    return f'[[tokens]]\nname = "{name}"\nsha256 = "{digest(token)}"\nrole = "{role}"\n'


@pytest.fixture
def authoriser(tmp_path: Path) -> Authoriser:
    path = tmp_path / "tokens.toml"
    path.write_text("".join(entry(role, f"{role}-token", role) for role in ("read", "write", "admin")))
    return Authoriser.from_file(path)


@pytest.mark.parametrize(
    ("token", "needed", "allowed"),
    [
        ("read", "read", True),
        ("read", "write", False),
        ("read", "admin", False),
        ("write", "read", True),
        ("write", "write", True),
        ("write", "admin", False),
        ("admin", "read", True),
        ("admin", "write", True),
        ("admin", "admin", True),
    ],
)
def test_a_role_includes_the_lower_ones(authoriser: Authoriser, token: str, needed: Role, allowed: bool) -> None:
    """read < write < admin."""
    header = f"Bearer {token}-token"
    if allowed:
        assert authoriser.check(header, needed, "/a/B") == token
    else:
        with pytest.raises(PermissionDenied, match=f"/a/B needs the role {needed}"):
            authoriser.check(header, needed, "/a/B")


@pytest.mark.parametrize("header", [None, "", "read-token", "Basic cmVhZA==", "Bearer ", "Bearer wrong", "bearer x"])
def test_a_missing_or_unknown_token_is_refused(authoriser: Authoriser, header: str | None) -> None:
    """Without a token that the file knows, nothing is allowed, and the token is not repeated."""
    with pytest.raises(Unauthenticated) as caught:
        authoriser.check(header, "read", "/a/B")
    assert "wrong" not in caught.value.message


GOOD = entry("a", "t", "read")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "one or more"),
        ("tokens = []", "one or more"),
        ("tokens = 3", "one or more"),
        (GOOD + "[other]\n", "nothing else"),
        ("[[tokens", "not valid TOML"),
        (GOOD.replace('role = "read"', 'role = "root"'), "read, write or admin"),
        (GOOD.replace('name = "a"', 'name = ""'), "name must be"),
        (GOOD.replace(digest("t"), "t"), "64 hex digits"),
        (GOOD + "extra = 1\n", "expected the keys"),
        ('[[tokens]]\nname = "a"\n', "expected the keys"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """Every mistake in the tokens file is named at start, with the file."""
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid, match=problem) as caught:
        Authoriser.from_file(path)
    assert "tokens.toml" in caught.value.message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A tokens file that is not there never means an open server."""
    with pytest.raises(ConfigInvalid, match="cannot read"):
        Authoriser.from_file(tmp_path / "absent.toml")
