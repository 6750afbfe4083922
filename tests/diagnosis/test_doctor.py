"""What `doctor` finds of a journal file and its place, on real journals at good and at bad places."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.diagnosis import file_checks
from ironflow_nb.diagnosis.findings import in_bytes
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY, make_engine
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.testing.clock import SimClock
from tests.diagnosis.doctored import LARGE, LINUX, files, found, process, report, row, using_sqlite, work
from tests.waits.conftest import until

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
TOPICS = ["journal", "place", "sqlite", "use", "engine", "values", "clock", "versions"]


# -- the frame ---------------------------------------------------------------------------------------------------


def test_a_sound_journal_is_told_in_a_fixed_order_with_nothing_to_worry_about(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = kept.with_name("mounts")
    mounts.write_text("1 1 0:1 / / rw - ext4 x rw\n")  # the files of tests lie in memory, of which the doctor warns
    monkeypatch.setattr(file_checks, "_MOUNTS", mounts)
    report = found(kept)
    assert list(report.columns) == ["topic", "what", "found", "state", "advice"]
    assert (report.dtypes == "string").all()
    assert list(dict.fromkeys(report["topic"])) == TOPICS
    assert set(report["state"]) <= {"ok", "notice"}
    assert (report.query("state == 'ok'")["advice"] == "").all()
    assert "with 1 run, 3 steps, 8 events" in row(report, "file")[1]
    assert row(report, "large values")[1] == "1 file in values/, 100 kB"
    assert row(report, "schema")[1].startswith(f"{SCHEMA_VERSION},")
    assert row(report, "integrity")[1].startswith("sound")
    assert "power" in row(report, "durability")[1]
    assert "ms" in row(report, "sync")[1]
    assert row(report, "signing key") == ("ok", "from IRONFLOW_KEY", "")
    assert "python 3." in row(report, "installed")[1]


def test_nothing_is_said_to_be_wrong_without_what_to_do(kept: Path) -> None:
    (kept.parent / "values").rename(kept.parent / "elsewhere")
    report = found(kept)
    assert (report.query("state in ('warning', 'problem')")["advice"] != "").all()


def test_the_report_shows_its_texts_in_full_and_stays_a_frame(kept: Path) -> None:
    report = found(kept)
    text, html = repr(report), report._repr_html_()
    assert text.startswith("ironflow doctor: ")
    assert f"{kept}," in " ".join(text.split())
    assert f"{kept}," in html
    assert "..." not in text
    only = report[report["topic"] == "place"]
    assert "writable" in repr(only)
    assert "integrity" not in repr(only)
    assert repr(only[["what", "state"]]).split()[:2] == ["what", "state"]
    assert "<table" in only[["what", "state"]]._repr_html_()
    assert repr(report.head(0)) == "ironflow doctor: nothing found"
    assert repr(report.assign(state="green")).split()[0] == "topic"


def test_what_is_found_is_escaped(tmp_path: Path) -> None:
    assert "<b>x" not in found(tmp_path / "<b>x" / "journal.db")._repr_html_()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (4096, "4.1 kB"), (12_345_678, "12 MB"), (5e15, "5,000 TB")],
)
def test_sizes_are_said_as_people_say_them(size: float, text: str) -> None:
    assert in_bytes(size) == text


# -- nothing changes ---------------------------------------------------------------------------------------------


def test_where_there_is_no_journal_none_is_made(tmp_path: Path) -> None:
    report = found(tmp_path / "not" / "there" / "journal.db")
    assert row(report, "file")[:2] == ("ok", "there is none yet; the first step makes it")
    assert row(report, "sync")[0] == "notice"
    assert list(tmp_path.iterdir()) == []


def test_a_journal_at_rest_stays_byte_for_byte_as_it_was(kept: Path) -> None:
    before = files(kept.parent)
    assert row(found(kept), "open in")[0] == "ok"
    assert files(kept.parent) == before


def test_an_open_journal_keeps_its_log(engine: Engine, path: Path) -> None:
    report(3)
    before = {name: content for name, (content, _) in files(path.parent).items() if not name.endswith("-shm")}
    assert row(iron.doctor(), "journal mode")[1].startswith("write-ahead log (WAL)")
    assert {name: content for name, (content, _) in files(path.parent).items() if not name.endswith("-shm")} == before
    assert report(3) == LARGE + 10  # its connection still has its locks


def test_a_rollback_journal_is_read_without_a_trace(kept: Path) -> None:
    with closing(sqlite3.connect(kept)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    before = files(kept.parent)
    assert "rollback journal (delete)" in row(found(kept), "journal mode")[1]
    assert "synchronous=EXTRA" in row(found(kept), "durability")[1]
    assert files(kept.parent) == before


def test_a_log_without_its_index_is_left_to_who_uses_the_journal(kept: Path) -> None:
    with process(using_sqlite(kept, "connection.execute('PRAGMA user_version=1')"), kept) as other:
        other.kill()
    kept.with_name("journal.db-shm").unlink()
    before = files(kept.parent)
    state, text, advice = row(found(kept), "file")
    assert (state, "-shm" in text, "iron.runs()" in advice) == ("problem", True, True)
    assert files(kept.parent) == before


def test_it_works_while_a_flow_of_this_process_runs(engine: Engine) -> None:
    has_begun, go_on = engine.threads.wakeup(), engine.threads.wakeup()

    @iron.step
    def wait(n: int) -> int:
        has_begun.set()
        return n if go_on.take(30) else -1

    @iron.flow
    def waiting() -> int:
        return wait(len(work(1)))

    run = waiting.start()
    assert has_begun.take(30)
    report = iron.doctor()
    go_on.set()
    assert run.result(timeout_s=30) == len(work(1))
    assert row(report, "engine")[1] == "open; 1 run going on in this process"
    assert f"works on {run.id} (" in row(report, "owners")[1]
    if LINUX:
        assert row(report, "open in")[1] == f"pid {os.getpid()} (this process)"


# -- bad files ---------------------------------------------------------------------------------------------------


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 36)


def other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE runs (theirs TEXT); PRAGMA user_version=1")


def too_new(path: Path) -> None:
    engine = make_engine(path)
    engine.journal.write_lease(engine.access.lease)
    engine.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")


@pytest.mark.parametrize(
    ("make", "text", "advice"),
    [
        (noise, "is not a SQLite database", "give the path of a journal"),
        (other_application, "but not a journal of ironflow_nb", "give another path"),
        (too_new, f"has schema {SCHEMA_VERSION + 1}", "upgrade ironflow-nb"),
        (Path.mkdir, "is not an ordinary file", "give the path of a journal file"),
        pytest.param(
            lambda path: os.mkfifo(path), "is not an ordinary file", "give the path",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes"),
        ),
    ],
)  # fmt: skip
def test_what_is_no_journal_is_a_problem_and_is_left_alone(
    path: Path, make: Callable[[Path], None], text: str, advice: str
) -> None:
    path.parent.mkdir()
    make(path)
    before = sorted(path.parent.iterdir())
    state, what, to_do = row(found(path), "file")
    assert state == "problem"
    assert text in what
    assert advice in to_do
    assert sorted(path.parent.iterdir()) == before


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert row(found(path), "file")[0] == "ok"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
    assert row(found(path), "file")[0] == "ok"


@pytest.mark.parametrize("place", ["file/journal.db", "file/below/journal.db"])
def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    report = found(tmp_path / place)
    assert row(report, "file")[0] == "ok"
    assert row(report, "sync")[0] == "notice"


def test_damage_is_told_in_the_words_of_sqlite(kept: Path) -> None:
    with closing(sqlite3.connect(kept)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'runs_by_start'")
        connection.commit()
    state, text, advice = row(found(kept), "integrity")
    assert state == "problem"
    assert "never used" in text
    assert "copy the folder first" in advice


def test_pages_of_noise_are_a_problem(kept: Path) -> None:
    with kept.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(kept.stat().st_size - 4096))
    state, text, advice = row(found(kept), "file")
    assert state == "problem"
    assert "damaged" in text
    assert "restore it from a copy" in advice


def test_a_large_file_is_not_checked_page_by_page(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ironflow_nb.diagnosis.inspection.CHECKED_BYTES", 10_000)
    assert row(found(kept), "integrity")[0] == "notice"


def test_what_can_not_be_counted_in_time_is_not_counted(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ironflow_nb.diagnosis.inspection.LIMIT_S", -1.0)
    monkeypatch.setattr("ironflow_nb.diagnosis.inspection._STEPS_BETWEEN_LOOKS", 1)
    report = found(kept)
    assert "too much to count" in row(report, "file")[1]
    assert row(report, "large values")[0] == "notice"
    assert row(report, "integrity")[0] == "ok"


def test_lost_values_are_a_problem(kept: Path) -> None:
    (file,) = [file for file in (kept.parent / "values").rglob("*") if file.is_file()]
    file.write_bytes(b"short")
    state, text, advice = row(found(kept), "large values")
    assert (state, text) == ("problem", "1 of 1 file in values/ missing or cut short")
    assert "put back the folder" in advice


# -- the place ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_problem(kept: Path) -> None:
    kept.parent.chmod(0o555)
    try:
        report = found(kept)
    finally:
        kept.parent.chmod(0o755)
    assert row(report, "writable")[0] == "problem"
    assert row(report, "sync")[0] == "notice"
    assert "3 steps" in row(report, "file")[1]


@pytest.mark.skipif(AS_ROOT, reason="root may look everywhere")
def test_a_folder_that_may_not_be_looked_into_is_a_problem(kept: Path) -> None:
    kept.parent.chmod(0)
    try:
        assert row(found(kept), "file")[0] == "problem"
    finally:
        kept.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("kind", "state"),
    [("ext4", "ok"), ("nfs4", "warning"), ("9p", "warning"), ("tmpfs", "warning"), ("overlay", "notice")],
)
def test_the_file_system_is_judged(kept: Path, kind: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = kept.parent / "mounts"
    mounts.write_text(f"1 1 0:1 / / rw - {kind} x rw\n")
    monkeypatch.setattr(file_checks, "_MOUNTS", mounts)
    report = found(kept)
    assert row(report, "file system")[0] == state
    assert kind in row(report, "file system")[1]
    with closing(sqlite3.connect(kept)) as connection:
        connection.execute("SELECT * FROM runs").fetchall()
        assert row(found(kept), "file system")[0] == ("problem" if kind in {"nfs4", "9p"} else state)
    mounts.unlink()
    assert row(found(kept), "file system")[0] == "notice"


def test_little_space_is_told(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_checks, "LITTLE_SPACE", 1e18)
    assert row(found(kept), "free space")[0] == "warning"
    monkeypatch.setattr(file_checks, "NO_SPACE", 1e18)
    assert row(found(kept), "free space")[0] == "problem"


def test_a_sync_that_is_slow_or_none_is_told(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_checks, "SLOW_SYNC_S", 0.0)
    monkeypatch.setattr(file_checks, "NO_SYNC_S", 0.0)
    assert 'durability="process"' in row(found(kept), "sync")[2]
    monkeypatch.setattr(file_checks, "NO_SYNC_S", 1e9)
    assert "no disk is that fast" in row(found(kept), "sync")[1]


# -- what starts runs ----------------------------------------------------------------------------------------------


def test_an_event_of_a_flow_that_nobody_defines_any_more_is_named_with_what_to_do(engine: Engine, path: Path) -> None:
    fulfil = flow(on="order.placed", name="fulfil")(lambda n: n)
    fulfil.subscribe(engine)
    REGISTRY.forget("flow", "fulfil")
    iron.emit("order.placed", 1)
    iron.emit("order.placed", 2)
    assert iron.work()["state"].tolist() == ["waits for its notebook"] * 2
    assert "queue of work" not in set(found(path)["what"])
    an_hour_later = SimClock(engine.clock.now() + 3_600_000_000)
    state, told, advice = row(found(path, clock=an_hour_later), "queue of work")
    assert (state, told) == ("warning", "2 events for flow fulfil: due for 1 h, and no process that is open does it")
    assert "python -m ironflow_nb work FILE" in advice


def test_dead_letters_of_events_are_named_with_what_to_do(engine: Engine, path: Path) -> None:
    flow(on="order.placed", where="length(@) > `0`", name="fulfil")(lambda n: n)
    iron.emit("order.placed", 1)
    until(lambda: iron.work()["state"].tolist() == ["dead"])
    REGISTRY.forget("flow", "fulfil")
    state, told, advice = row(found(path), "dead letters")
    assert (state, told) == ("warning", "1 event for flow fulfil: given up after the last attempt")
    assert "requeue()" in advice
