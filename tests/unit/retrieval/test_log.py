"""Damage in the write-ahead log against a torn end."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from bowerbird.errors import StoreCorrupt
from services.retrieval.log import check_log

COMMITS = 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A database with six commits in its log, as a killed process leaves it."""
    path = tmp_path / "live" / "a.db"
    path.parent.mkdir()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (x)")
    for number in range(COMMITS - 1):
        connection.execute("INSERT INTO t VALUES (?)", (f"{number}" * 6000,))
    copy = tmp_path / "killed"
    shutil.copytree(path.parent, copy)
    connection.close()
    return copy / "a.db"


def log_of(path: Path) -> Path:
    return path.with_name("a.db-wal")


def test_whole_log_passes(killed: Path) -> None:
    """A log as SQLite left it is sound, and so is none at all."""
    check_log(killed)
    log_of(killed).unlink()
    check_log(killed)


def test_torn_end_passes(killed: Path) -> None:
    """A log cut anywhere is what a crash leaves; SQLite drops the torn transaction."""
    raw = log_of(killed).read_bytes()
    for size in range(0, len(raw), 1031):
        log_of(killed).write_bytes(raw[:size])
        check_log(killed)
    log_of(killed).write_bytes(raw[:-10] + b"\0" * 10)
    check_log(killed)


def test_log_of_zeros_passes(killed: Path) -> None:
    """Space that was allocated and never synced held no acknowledged write."""
    log_of(killed).write_bytes(b"\0" * 9000)
    check_log(killed)


def test_damage_before_later_commits_is_refused(killed: Path) -> None:
    """A flipped byte anywhere in the first commits would drop acknowledged writes: the log is named and refused."""
    raw = log_of(killed).read_bytes()
    page = int.from_bytes(raw[8:12], "big")
    for position in [*range(80), *range(80, 3 * (page + 24), 97)]:
        log_of(killed).write_bytes(raw[:position] + bytes([raw[position] ^ 0x40]) + raw[position + 1 :])
        with pytest.raises(StoreCorrupt, match=r"a\.db-wal"):
            check_log(killed)


def test_frames_of_an_older_generation_pass(killed: Path) -> None:
    """After a checkpoint the log is written from its start again; what is left behind of before is no damage."""
    connection = sqlite3.connect(killed, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    connection.execute("INSERT INTO t VALUES ('new')")
    copy = killed.parent.with_name("copy")
    shutil.copytree(killed.parent, copy)
    connection.close()
    check_log(copy / "a.db")
