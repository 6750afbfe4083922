"""A run that was exported goes on where it is imported; what is no sound export changes nothing."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import JournalConflict, JournalCorrupt, JournalError, JournalTooNew, NotAJournal, UntrustedRun
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.retention.exported_run import all_rows, digest_of_rows
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal, abandon, completed, outcome_of, process_on
from tests.journals import make
from tests.retention import flows
from tests.retention.flows import call, everything

PERFORMED: list[str] = []
BROKEN: list[bool] = []


@step
def paid(n: int) -> int:
    PERFORMED.append(f"paid {n}")
    return n


@step
def breaks(n: int) -> int:
    PERFORMED.append("breaks")
    if BROKEN:
        raise ConnectionError("no line")
    return n


@flow
def inner(n: int) -> int:
    return len(flows.large(n)) + paid(n)


@flow
def in_flight(n: int) -> int:
    first = sum(paid.map(range(n)))
    second = flows.used(flows.middle(n)) + inner(n)
    iron.sleep(0)
    return first + second + breaks(n)


@flow
async def in_flight_too(n: int) -> int:
    first = sum(await paid.map(range(n)))
    second = flows.used(await flows.middle_too(n)) + await flows.child_too(n)
    await iron.aio.sleep(0)
    return first + second + len(flows.large(n)) + breaks(n)


STYLES: dict[str, Any] = {"def": in_flight, "async": in_flight_too}


@pytest.fixture(autouse=True)
def nothing_performed() -> None:
    PERFORMED.clear()
    BROKEN.clear()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Return an exported run that failed at its last step."""
    return failed_and_exported(in_flight, tmp_path)


def failed_and_exported(of: Any, tmp_path: Path) -> Path:
    BROKEN.append(True)
    with iron.open(tmp_path / "here" / "journal.db", durability="process"):
        run = of.start(3)
        run.wait(timeout_s=60)
        assert run.status == "failed"
        path = iron.export(run, tmp_path / "failed.run")
    BROKEN.clear()
    return path


def there(tmp_path: Path) -> Any:
    return iron.open(tmp_path / "there" / "journal.db", durability="process")


@pytest.mark.parametrize("style", STYLES)
def test_a_run_goes_on_where_it_is_imported(tmp_path: Path, style: str) -> None:
    path = failed_and_exported(STYLES[style], tmp_path)
    with iron.open(tmp_path / "here" / "journal.db"):
        before = everything()
    n_performed = len(PERFORMED)
    shutil.rmtree(tmp_path / "here")
    with there(tmp_path):
        call(flows.child, 1)
        run = iron.import_(path)
        assert (run.status, everything().items() >= before.items()) == ("failed", True)
        assert isinstance(run.error, ConnectionError)
        assert "svg" in run._repr_mimebundle_()["image/svg+xml"]
        assert run.resume().result(timeout_s=60) == expected(style)
        assert PERFORMED[n_performed:] == ["breaks"]


def expected(style: str) -> int:
    text = len("3 " * 2000)
    return 3 + text + 100_000 + 3 + (3 if style == "def" else text)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize(("style", "moment"), [*zip(STYLES, MOMENTS, strict=True)])
def test_what_a_dead_process_has_left_can_be_exported_and_goes_on(tmp_path: Path, style: str, moment: str) -> None:
    commit = 0
    is_dead = True
    while is_dead:
        commit += 1
        journal = SqliteJournal(tmp_path / f"{commit}" / "journal.db")
        dying = DyingJournal(journal, at_commit=commit, moment=moment)
        with process_on(dying, Durability.PROCESS) as engine:
            try:
                outcome_of(STYLES[style], (3,), is_dead=lambda dying=dying: dying.is_dead)
            except Died:
                abandon(engine)
        is_dead = dying.is_dead
        with process_on(journal, Durability.PROCESS) as engine:
            if not STYLES[style].runs().empty:
                iron.export(STYLES[style].last, tmp_path / f"{commit}.run")
                steps = STYLES[style].last.steps()
        PERFORMED.clear()
        with process_on(SqliteJournal(tmp_path / f"there{commit}" / "journal.db"), Durability.PROCESS):
            if (tmp_path / f"{commit}.run").exists():
                run = iron.import_(tmp_path / f"{commit}.run")
                assert list(run.steps()["step"]) == list(steps["step"])
                if run.status != "completed":
                    run.resume()
                assert run.result(timeout_s=60) == expected(style)
                done = steps.query("status == 'completed'")["step"].str.contains("paid").sum()
                assert sum(each.startswith("paid") for each in PERFORMED) <= 4 - done
            else:
                assert completed(STYLES[style], (3,)) == expected(style)
    assert commit > 5


@pytest.mark.parametrize("is_path", [True, False])
def test_a_run_is_copied_without_a_file_to_keep(tmp_path: Path, is_path: bool) -> None:
    other = tmp_path / "there" / "journal.db"
    BROKEN.append(True)
    with iron.open(tmp_path / "here" / "journal.db", durability="process"):
        run = in_flight.start(3).wait(60)
        copied = iron.copy(run.id, other if is_path else iron.open(other))
        BROKEN.clear()
        n_performed = len(PERFORMED)
        assert copied.id == run.id
        assert copied.resume().result(60) == expected("def")
        assert PERFORMED[n_performed:] == ["breaks"]
        assert run.status == "failed"
    copied._engine.close()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".ironflow", ".tmp"}]


def test_all_runs_are_copied_in_their_order_and_what_is_there_is_left_out(tmp_path: Path) -> None:
    with iron.open(tmp_path / "here" / "journal.db", durability="process") as here:
        first = in_flight(3), in_flight(2)
        fork = in_flight.last.fork().wait(60)
        runs = iron.runs()
        assert runs["parent_run_id"].notna().any(), "nothing shows that children go with their parents"
        with iron.open(tmp_path / "there" / "journal.db") as other:
            copied = iron.copy(runs.iloc[-1:], other, engine=here) + iron.copy(runs, other, engine=here)
            assert [run.result() for run in copied[:2]] == list(first)
            assert len(copied) == len({run.id for run in copied}) == runs["parent_run_id"].isna().sum()
            assert iron.copy([fork, *runs["run_id"][:1]], other, engine=here) == []
            there = iron.runs(engine=other)
            assert there["run_id"].to_list() == runs["run_id"].to_list()
            assert there["output"].to_list() == runs["output"].to_list()
            assert iron.verify(engine=other).ok
            with iron.open(tmp_path / "there" / "third.db") as third:
                BROKEN.append(True)
                with pytest.raises(ConnectionError):
                    in_flight(4)
                with pytest.raises(ValueError, match="several journals"):
                    iron.copy([in_flight.last, copied[0]], third)


def test_a_run_that_waits_goes_on_with_its_signal(tmp_path: Path) -> None:
    @flow
    def patient() -> Any:
        return paid(1), iron.wait_for("go", timeout_s="1d")

    with iron.open(tmp_path / "here" / "journal.db"):
        run = patient.start()
        wait_for(lambda: run.status == "waiting")
        path = iron.export(run, tmp_path / "waits.run")
    with there(tmp_path):
        other = iron.import_(path)
        assert list(iron.work()["signal"]) == ["go"]
        other.signal("go", "now")
        wait_for(lambda: other.status == "completed")
        assert other.result() == (1, "now")
    assert PERFORMED == ["paid 1"]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused(tmp_path: Path, path: Path, kind: type[Exception], message: str = "") -> None:
    """Check that the import is refused with words, and that nothing has changed."""
    with there(tmp_path):
        call(flows.child, 1)
        before = iron.events()
        with pytest.raises(kind, match=message):
            iron.import_(path)
        assert iron.events().equals(before)
        assert "problem" not in set(iron.doctor()["state"])


def test_a_run_is_imported_once(tmp_path: Path, exported: Path) -> None:
    with there(tmp_path):
        run = iron.import_(exported)
        before = iron.events()
        with pytest.raises(JournalConflict, match=r"is there already.*nothing was changed"):
            iron.import_(exported)
        assert iron.events().equals(before)
        run.delete()
        with pytest.raises(JournalConflict, match="was deleted here"):
            iron.import_(exported)
        assert iron.runs().empty


def test_of_one_key_there_is_one_run(tmp_path: Path) -> None:
    with iron.open(tmp_path / "here" / "journal.db"):
        path = iron.export(call(flows.child.options(key="k"), 1), tmp_path / "key.run")
    with there(tmp_path):
        call(flows.child.options(key="k"), 2)
        before = iron.events()
        with pytest.raises(JournalConflict, match="same key"):
            iron.import_(path)
        assert iron.events().equals(before)


def test_a_run_of_somebody_else_is_shown_and_does_nothing_until_it_is_trusted(
    tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRONFLOW_KEY", "the key of somebody else")
    n_performed = len(PERFORMED)
    with there(tmp_path) as engine:
        run = iron.import_(exported)
        assert "not written by you" in repr(run)
        assert run.value(flows.middle) == "3 " * 2000
        with pytest.raises(UntrustedRun):
            run.resume()
        assert len(PERFORMED) == n_performed
        iron.trust(engine.journal.location)
        assert run.resume().result(timeout_s=60) == expected("def")


def test_a_foreign_signature_does_not_replace_one_s_own(
    tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with there(tmp_path):
        BROKEN.append(True)
        run = in_flight.start(3)
        run.wait(timeout_s=60)
        BROKEN.clear()
    with closing(sqlite3.connect(exported)) as connection, connection:
        connection.execute('UPDATE "values" SET mac = zeroblob(32) WHERE mac IS NOT NULL')
        sign(connection)
    with there(tmp_path):
        iron.import_(exported)
        assert iron.get_run(run.id).resume().result(timeout_s=60) == expected("def")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, exported: Path, share: float) -> None:
    content = exported.read_bytes()
    exported.write_bytes(content[: int(len(content) * share)])
    refused(tmp_path, exported, JournalError, "damaged|no exported run")


@pytest.mark.slow
def test_a_file_with_other_bytes_is_refused_or_is_as_it_was(tmp_path: Path, exported: Path) -> None:
    content, chance = exported.read_bytes(), random.Random(0)
    with there(tmp_path):
        for _ in range(60):
            place = chance.randrange(len(content))
            exported.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
            try:
                run = iron.import_(exported)
            except JournalError:
                assert iron.runs().empty
            else:  # the byte is part of no row
                assert run.value(flows.middle) == "3 " * 2000
                run.delete()
                break


def test_what_is_no_export_says_what_it_is(tmp_path: Path, exported: Path) -> None:
    refused(tmp_path, tmp_path / "missing.run", JournalError, "there is no file")
    (tmp_path / "text.run").write_text("hello " * 1000)
    refused(tmp_path, tmp_path / "text.run", NotAJournal, "no exported run")
    with closing(sqlite3.connect(tmp_path / "other.run")) as connection, connection:
        connection.execute("CREATE TABLE x (a)")
    refused(tmp_path, tmp_path / "other.run", NotAJournal, "something else")
    refused(tmp_path, tmp_path / "here" / "journal.db", NotAJournal, r"is a journal.*iron\.open\(")
    with iron.open(exported), pytest.raises(NotAJournal):  # and an export is no journal
        iron.runs()


@pytest.mark.parametrize("change", ["PRAGMA user_version = 99", "UPDATE manifest SET value = 99 WHERE name = 'format'"])
def test_an_export_of_a_newer_version_is_refused(tmp_path: Path, exported: Path, change: str) -> None:
    with closing(sqlite3.connect(exported)) as connection, connection:
        connection.execute(change)
    refused(tmp_path, exported, JournalTooNew, "upgrade ironflow-nb")


def sign(connection: sqlite3.Connection) -> None:
    """Make the manifest fit the rows, as somebody does who wants his file to be taken."""
    digest = digest_of_rows(all_rows(connection))
    connection.execute("UPDATE manifest SET value = ? WHERE name = 'digest'", (digest,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE runs SET status = 'completed'", "not those that were exported"),
        ("UPDATE runs SET kind = 'decider'", "not of flows and graphs"),
        ("UPDATE runs SET parent_run_id = 'another'", "does not have"),
        ("UPDATE steps SET run_id = 'another' WHERE name LIKE '%used'", "does not have"),
        ("UPDATE runs SET origin_run_id = 'another', origin_position = 1", "does not have"),
        ("UPDATE \"values\" SET data = CAST('x' AS BLOB) WHERE codec = 'json'", "other bytes"),
        ("DROP TABLE manifest", "damaged"),
        ("DELETE FROM manifest", "damaged"),
    ],
)
def test_rows_that_no_export_has_are_refused(tmp_path: Path, exported: Path, change: str, message: str) -> None:
    with closing(sqlite3.connect(exported)) as connection, connection:
        connection.execute("DROP TRIGGER events_refuse_update")
        connection.execute(change)
        if "not those" not in message and "manifest" not in change:
            sign(connection)
    refused(tmp_path, exported, JournalCorrupt, message)


def test_an_export_replaces_nothing_and_takes_a_child_with_its_parent_only(tmp_path: Path) -> None:
    with iron.open(tmp_path / "here" / "journal.db"):
        run = call(flows.whole, 1)
        (tmp_path / "taken").write_text("mine")
        with pytest.raises(JournalError, match="is there already"):
            iron.export(run, tmp_path / "taken")
        child = iron.runs(flows.child)["run_id"][0]
        with pytest.raises(ValueError, match="is a child"):
            iron.export(child, tmp_path / "child.run")
    assert (tmp_path / "taken").read_text() == "mine"
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))


def test_a_fork_comes_with_its_origin_and_leaves_it_at_the_same_event(tmp_path: Path) -> None:
    with iron.open(tmp_path / "here" / "journal.db") as engine:
        one, other = call(flows.child, 1), call(flows.child, 2)
        left_at = one.events().iloc[2]
        with closing(sqlite3.connect(engine.journal.location)) as connection, connection:
            query = "UPDATE runs SET origin_run_id = ?, origin_position = ? WHERE run_id = ?"
            connection.execute(query, (one.id, int(left_at["position"]), other.id))
        path = iron.export(other, tmp_path / "fork.run")
    with there(tmp_path) as engine:
        for n in range(5):
            call(flows.child, n)
        iron.import_(path)
        position = iron.sql("SELECT origin_position AS at FROM runs WHERE run_id = ?", [other.id])["at"][0]
        events = iron.events(run=one.id)
        found = events[events["position"] == position].iloc[0]
        assert (found["version"], found["type"]) == (left_at["version"], left_at["type"])


def test_a_run_of_an_older_journal_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONFLOW_KEY", make.KEY)
    old = shutil.copy(Path(make.__file__).parent / "schema_1.db", tmp_path / "old.db")
    with iron.open(old):
        first = iron.get_run(iron.runs()["run_id"].iloc[-1])
        path = iron.export(first, tmp_path / "old.run")
    with there(tmp_path):
        assert iron.import_(path).result() == 0.375
