"""`iron.backup`: a copy of one moment, whoever writes meanwhile, that is a journal as any other."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.conftest import Lab
from tests.hostile.test_crowds import other_process

NewLab = Callable[[Path], Lab]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place" / "journal.db"


@pytest.fixture
def lab(path: Path, new_lab: NewLab) -> Lab:
    return new_lab(path)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "copies" / "monday.db"


@step
def large(n: int) -> bytes:
    return bytes([n]) * INLINE_LIMIT


@step
def small(n: int) -> int:
    return n


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def test_a_run_that_goes_on_is_one_that_can_be_continued_in_the_copy(lab: Lab, target: Path) -> None:
    gate, entered, performed = threading.Event(), threading.Event(), []

    @step
    def wait(n: int) -> int:
        performed.append(n)
        entered.set()
        gate.wait(20)
        return n

    @flow
    def main() -> int:
        return sum(len(large(n)) for n in range(2)) + wait(3)

    run = main.start()
    entered.wait(20)
    assert iron.backup(target) == target
    gate.set()
    assert run.result(timeout_s=20) == 2 * INLINE_LIMIT + 3
    assert is_sound(target)
    with iron.open(target):
        copied = iron.get_run(run.id)
        assert copied.status == "interrupted"
        assert copied.resume().result(timeout_s=20) == 2 * INLINE_LIMIT + 3
        assert iron.runs()["n_reused"].tolist() == [2]
        assert copied.value("large[1]") == bytes([1]) * INLINE_LIMIT
    assert performed == [3, 3]
    assert run.status == "completed"
    assert len(iron.runs()) == 1


@pytest.mark.slow
def test_a_copy_is_one_moment_however_many_write_meanwhile(lab: Lab, path: Path, tmp_path: Path) -> None:
    @flow
    def busy(n: int) -> int:
        return sum(small(number) for number in range(n))

    busy(1)
    with ExitStack() as entered:
        crowd = [entered.enter_context(other_process("hammer", path, 4, 25)) for _ in range(2)]
        for process in crowd:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        runs = [busy.options(fresh=True).start(40) for _ in range(2)]
        copies = [iron.backup(tmp_path / f"copy {n}.db") for n in range(5)]
        for run in runs:
            run.result(timeout_s=60)
        assert [process.wait(60) for process in crowd] == [0, 0]
    for copy in copies:
        assert is_sound(copy)
        with iron.open(copy, read_only=True):
            events = iron.events()
            assert events["position"].tolist() == list(range(1, len(events) + 1))
            finished = (events["type"] == "StepCompleted").sum()
            assert (iron.steps()["status"] == "completed").sum() == finished


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
def test_nothing_is_overwritten(lab: Lab, target: Path, ending: str) -> None:
    flow(lambda: small(1), name="main")()
    target.parent.mkdir()
    taken = target.with_name(f"{target.name}{ending}")
    taken.write_text("mine")
    with pytest.raises(iron.JournalError, match="is there already, and a copy replaces nothing"):
        iron.backup(target)
    assert taken.read_text() == "mine"
    assert [file.name for file in target.parent.iterdir()] == [taken.name]


def test_the_journal_itself_is_no_place_for_its_copy(lab: Lab, path: Path) -> None:
    flow(lambda: small(1), name="main")()
    with pytest.raises(iron.JournalError, match="is there already"):
        iron.backup(path)


def test_where_there_is_nothing_to_copy_that_is_said(tmp_path: Path) -> None:
    for where, word in ((":memory:", "is in memory"), (tmp_path / "none.db", "does not exist yet")):
        with iron.open(where), pytest.raises(iron.JournalError, match=word):
            iron.backup(tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_the_journal_lost_is_told(
    lab: Lab, path: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow(lambda: len(large(1)), name="main")()
    shutil.rmtree(path.parent / "values")
    with caplog.at_level("WARNING", "ironflow_nb"):
        iron.backup(target)
    assert "lacks a value, as the journal does" in caplog.text
    assert is_sound(target)


def test_a_copy_that_fails_leaves_nothing(lab: Lab, path: Path, target: Path) -> None:
    flow(lambda: len(large(1)), name="main")()
    target.parent.mkdir()
    target.with_name("values").write_text("in the way")
    with pytest.raises(iron.JournalError):
        iron.backup(target)
    assert [file.name for file in target.parent.iterdir()] == ["values"]


def test_a_step_can_take_a_copy(lab: Lab, target: Path) -> None:
    @step
    def copy() -> str:
        return os.fspath(iron.backup(target))

    @flow
    def nightly() -> str:
        small(1)
        return copy()

    assert nightly() == str(target)
    with iron.open(target, read_only=True):
        assert iron.steps()["status"].tolist() == ["completed", "interrupted"]


@pytest.mark.skipif(os.name != "posix", reason="rights are lists there")
def test_only_its_user_can_read_a_copy(lab: Lab, target: Path) -> None:
    flow(lambda: len(large(1)), name="main")()
    before = os.umask(0)
    try:
        iron.backup(target)
    finally:
        os.umask(before)
    for place in (target.parent, *target.parent.rglob("*")):
        assert not stat.S_IMODE(place.stat().st_mode) & 0o077, place
