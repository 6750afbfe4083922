"""How long the write-ahead log of a journal becomes: a synced commit is cheap where the file does not grow."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal.sqlite_file import LOG_LIMIT

MEGABYTE = 1024 * 1024


@step
def double(number: int) -> int:
    return 2 * number


@flow
def work(n_steps: int) -> int:
    return sum(double(number) for number in range(n_steps))


def length_of_log(path: Path, durability: str) -> int:
    """Return the bytes of the log after 1,500 steps."""
    with iron.open(path, durability=durability):
        work(1500)
        return path.with_name(f"{path.name}-wal").stat().st_size


def test_the_log_of_synced_commits_is_soon_used_again(tmp_path: Path) -> None:
    assert MEGABYTE < length_of_log(tmp_path / "journal.db", "power") < 4 * MEGABYTE


def test_the_log_of_other_commits_is_written_back_seldom(tmp_path: Path) -> None:
    assert 8 * MEGABYTE < length_of_log(tmp_path / "journal.db", "process") < LOG_LIMIT


def test_others_write_while_the_log_is_synced_before_it_is_written_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    n_free, sync = 0, os.fsync

    def fsync(file: int) -> None:
        nonlocal n_free
        with closing(sqlite3.connect(path, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
            n_free += 1
        sync(file)

    with iron.open(path, durability="process"):
        work(10)
        monkeypatch.setattr(os, "fsync", fsync)
        work(700)
    assert n_free == 1
