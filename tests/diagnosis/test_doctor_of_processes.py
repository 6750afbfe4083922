"""What `doctor` finds of the processes that use a journal, of its own, of the key and of the clock."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.diagnosis import file_checks
from ironflow_nb.diagnosis.file_checks import has_reset_bug
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.diagnosis.doctored import LINUX, files, found, process, report, row, using_sqlite, work

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, time
import ironflow_nb as iron

@iron.step
def work(n):
    return n

@iron.step
def sleep():
    print("ready", flush=True)
    time.sleep(60)

@iron.flow
def other():
    work(1)
    sleep()

other()
"""


# -- SQLite ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 45, 0), True), ((3, 50, 4), True),
        ((3, 50, 7), False), ((3, 51, 0), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 53, 0), False),
    ],
)  # fmt: skip
def test_which_versions_of_sqlite_have_the_bug_of_the_log(version: tuple[int, ...], has_it: bool) -> None:
    assert has_reset_bug(version) is has_it


def test_the_bug_is_told_and_is_no_reason_to_write_from_one_kernel_only(kept: Path) -> None:
    if not has_reset_bug(sqlite3.sqlite_version_info):
        pytest.skip("nothing to see here")
    with process(using_sqlite(kept, "connection.execute('SELECT * FROM runs').fetchall()"), kept):
        state, text, advice = row(found(kept), "version")
    assert (state, advice) == ("ok", "")
    assert "they write the log back only while nobody writes" in text


# -- who uses it -------------------------------------------------------------------------------------------------


def test_runs_of_a_killed_process_are_told_with_how_to_continue_them(path: Path) -> None:
    with process(PROGRAM, path) as other:
        alive = row(found(path), "owners")
        assert alive[0] == "ok"
        assert f"pid {other.pid} is alive" in alive[1]
        assert "(other)" in alive[1]
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    before = {name: content for name, content in files(path.parent).items() if not name.endswith("-shm")}
    state, text, advice = row(found(path), "owners")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        run_id = connection.execute("SELECT run_id FROM runs").fetchone()[0]
    assert state == "warning"
    assert text.startswith(f"{run_id} (other) is interrupted, because pid {other.pid} ended; last sign of life")
    assert advice == f"run the cell again, or iron.resume({run_id!r})"
    assert {name: content for name, content in files(path.parent).items() if not name.endswith("-shm")} == before


@pytest.mark.skipif(not LINUX, reason="only Linux tells who holds locks")
def test_a_long_reader_of_a_large_log_is_named(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_checks, "LARGE_LOG", 200_000)
    reading = using_sqlite(kept, "connection.execute('BEGIN')", "connection.execute('SELECT * FROM runs').fetchone()")
    with process(reading, kept) as other, closing(sqlite3.connect(kept, isolation_level=None)) as writer:
        for _ in range(100):
            writer.execute("UPDATE runs SET updated_at = updated_at + 1")
        state, text, advice = row(found(kept), "log")
        assert state == "warning"
        assert f"pid {other.pid} (python" in text
        assert "close what reads" in advice
        assert f"pid {other.pid} (python" in row(found(kept), "open in")[1]
        other.kill()
        other.wait()
        assert row(found(kept), "log")[0] == "notice"
    assert "log" not in set(found(kept)["what"])


@pytest.mark.skipif(not LINUX, reason="only Linux tells who holds locks")
def test_a_process_that_writes_for_long_is_named(kept: Path) -> None:
    with process(using_sqlite(kept, "connection.execute('BEGIN IMMEDIATE')"), kept) as other:
        state, text, _ = row(found(kept), "write lock")
    assert state == "warning"
    assert f"pid {other.pid} (python" in text


@pytest.mark.skipif(not LINUX, reason="only Linux tells who holds locks")
@pytest.mark.parametrize(
    "alone",
    [("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA user_version=1"), ("PRAGMA journal_mode=DELETE", "BEGIN EXCLUSIVE")],
)
def test_a_journal_that_another_process_keeps_to_itself_is_told(kept: Path, alone: tuple[str, ...]) -> None:
    source = using_sqlite(kept, *(f"connection.execute({statement!r}).fetchall()" for statement in alone))
    with process(source, kept) as other:
        state, text, _ = row(found(kept), "file")
    assert state == "warning"
    assert text.startswith(f"it is locked by pid {other.pid} (python")


@pytest.mark.skipif(not LINUX, reason="only Linux tells who has a file open")
def test_a_journal_that_was_deleted_under_its_engine_is_told(engine: Engine, path: Path) -> None:
    report(1)
    path.unlink()
    state, text, advice = row(iron.doctor(), "lost file")
    assert state == "warning"
    assert "deleted or replaced" in text
    assert "iron.use(" in advice


# -- this process ------------------------------------------------------------------------------------------------


def test_an_engine_that_was_closed_is_told(engine: Engine) -> None:
    report(1)
    engine.close()
    state, text, advice = row(iron.doctor(), "engine")
    assert (state, text) == ("problem", "it can't be used: it was closed")
    assert "iron.use(" in advice


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_is_told(path: Path) -> None:
    source = f"""
import os, warnings
warnings.simplefilter("ignore")
import ironflow_nb as iron
iron.use({str(path)!r})
@iron.flow
def main():
    return 1
main()
if os.fork() == 0:
    report = iron.doctor()
    print(report[report.what == "engine"]["found"].iloc[0], flush=True)
    os._exit(0)
os.wait()
assert main() == 1
"""
    with process(source, path, until="it can't be used: this process was forked from the one that opened it") as other:
        assert other.wait(30) == 0


def test_a_journal_in_memory_is_told_to_be_one() -> None:
    report = iron.doctor(engine=Engine(MemoryJournal()))
    assert row(report, "path")[0] == "notice"
    assert list(dict.fromkeys(report["topic"])) == ["journal", "engine", "versions"]


def test_why_it_is_this_journal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_engine", None)
    assert "the default one of the working directory" in row(iron.doctor(), "path")[1]
    monkeypatch.setenv("IRONFLOW_DB", "late.db")
    assert row(iron.doctor(), "IRONFLOW_DB")[0] == "notice"
    with iron.open("other.db"):
        assert "of the with statement" in row(iron.doctor(), "path")[1]
    monkeypatch.setattr(REGISTRY, "_engine", None)
    report = iron.doctor()
    assert row(report, "path")[1] == f"{tmp_path / 'late.db'}, named by IRONFLOW_DB"
    assert "IRONFLOW_DB" not in set(report["what"])
    monkeypatch.delenv("IRONFLOW_DB")
    assert "chosen by" in row(iron.doctor(), "path")[1]
    assert list(tmp_path.iterdir()) == []


# -- key and clock -----------------------------------------------------------------------------------------------


@iron.flow
def pickling() -> object:
    return work.options(name="pickle").fn is not None and pickle_of(3)


@iron.step
def pickle_of(n: int) -> object:
    return compile(str(n), "here", "eval") if n < 0 else OddOne(n)


class OddOne:
    """Something that only a pickle takes."""

    def __init__(self, n: int) -> None:
        self.n = n


def test_the_signing_key_is_looked_at(engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IRONFLOW_KEY")
    monkeypatch.setenv("XDG_DATA_HOME", str(path.parent / "data"))
    from ironflow_nb.values.signed_pickles import key_path

    if path.parent not in key_path().parents:
        pytest.skip("the key lies elsewhere here")
    assert row(iron.doctor(), "signing key")[:2] == ("ok", f"none yet; the first pickle makes {key_path()}")
    pickling()
    assert row(iron.doctor(), "signing key")[:2] == ("ok", f"{key_path()}, which only you can read")
    key_path().chmod(0o644)
    assert row(iron.doctor(), "signing key")[0] == "warning"
    key_path().write_bytes(b"short")
    assert row(iron.doctor(), "signing key")[0] == "problem"
    key_path().unlink()
    state, text, advice = row(iron.doctor(), "signing key")
    assert (state, "missing" in text, "iron.trust()" in advice) == ("warning", True, True)


def test_a_clock_that_stepped_back_is_told(path: Path) -> None:
    path.parent.mkdir()
    clock = SimClock()
    first = Engine(SqliteJournal(path), clock=clock)
    with REGISTRY.replaced(first):
        report(1)
    first.close()
    assert row(found(path, clock=clock), "clock")[0] == "ok"
    clock.advance(-3720)
    state, text, advice = row(found(path, clock=clock), "clock")
    assert state == "warning"
    assert text.startswith("1 h 2 min behind what is written in the journal")
    assert "set the clocks" in advice
    assert set(found(path)["state"]) <= {"ok", "notice", "warning"}


def test_kernels_that_have_nothing_to_do_are_not_suspected(path: Path) -> None:
    path.parent.mkdir()
    clock = SimClock()
    own, other = (Engine(SqliteJournal(path), clock=clock) for _ in range(2))
    for engine in (own, other):
        with REGISTRY.replaced(engine):
            report(1)
    clock.advance(7200)
    owners = iron.doctor(engine=own).query("what == 'owners'")
    own.close()
    other.close()
    assert owners["state"].tolist() == ["ok", "ok"]
    assert owners["advice"].tolist() == ["", ""]
