"""The journal on PostgreSQL keeps the contract, and what a server adds to it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

import ironflow_nb as iron
from ironflow_nb.errors import JournalBusy, JournalConflict, JournalError, JournalReadOnly, JournalTooNew
from ironflow_nb.journal.ports import Durability, Reader, RunCommit, Select, Signal
from ironflow_nb.journal.postgres_connection import ConnectionLost, RowRefused, postgres_place
from ironflow_nb.journal.postgres_journal import PostgresJournal
from ironflow_nb.journal.sqlite_database import write_commit
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.contracts.histories import A, Author, B, C, digest, one_run, value
from tests.contracts.journal import JournalContract
from tests.contracts.lanes import LaneContract
from tests.contracts.projections import ProjectionContract
from tests.contracts.selections import SelectContract
from tests.contracts.stored_values import ValueContract
from tests.contracts.work import WorkContract
from tests.postgres.server import Server

FAST = Durability.PROCESS
Open = Callable[[], PostgresJournal]


class TestPostgresJournal(
    JournalContract, ValueContract, SelectContract, WorkContract, ProjectionContract, LaneContract,
):  # fmt: skip
    pass


def schema_of(journal: PostgresJournal) -> str:
    return journal.place.schema


def ids(journal: PostgresJournal) -> list[str]:
    with journal.reading() as reader:
        return [row.run_id for row in reader.events(Select())]


# -- positions ---------------------------------------------------------------------------------------------------


def test_who_reads_what_is_new_misses_nothing_however_many_write(opened: Open) -> None:
    """Writers take any time between the first row and the commit; a reader follows the newest position."""
    n_writers, n_commits = 4, 40

    def write(name: str) -> None:
        journal = opened()
        for number in range(n_commits):
            author = Author()
            run = f"{name}{number:011d}"
            author.start(run)  # type: ignore[arg-type]
            entry = author.entry(run)  # type: ignore[arg-type]

            def act(_: Reader, entry: RunCommit = entry, pause_s: float = number % 3 / 1000) -> list[RunCommit]:
                time.sleep(pause_s)
                return [entry]

            journal.exchange(act, durability=FAST)

    reading, seen, at = opened(), [], 0
    with ThreadPoolExecutor(n_writers) as threads:
        writing = [threads.submit(write, name) for name in "abcd"]
        while True:
            is_over = all(each.done() for each in writing)
            with reading.reading() as reader:
                new = reader.events(Select(after=at, limit=7))
                assert reader.last_position() >= at
            seen += [row.position for row in new]
            at = seen[-1] if seen else 0
            if is_over and not new:
                break
        for each in writing:
            each.result()
    assert seen == [*range(1, n_writers * n_commits + 1)]


def test_a_commit_that_was_taken_back_leaves_no_gap(journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    with pytest.raises(JournalConflict):
        journal.append([one_run(B), one_run(A)], durability=FAST)
    journal.append([one_run(C)], durability=FAST)
    with journal.reading() as reader:
        assert [row.position for row in reader.events(Select())] == [1, 2]


def test_conflicts_between_commits_leave_those_after_them_alone(journal: PostgresJournal) -> None:
    """A statement that a refused commit was the first to prepare is not taken for prepared afterwards."""
    journal.append([one_run(A)], durability=FAST)
    author = Author()
    author.start(B)
    for number in range(12):
        with pytest.raises(JournalConflict):
            journal.append([one_run(A), replace(one_run(C), values=(value(b"v"),))], durability=FAST)
        author.begin_step(B, "fetch", number)
        journal.append([author.entry(B, values=[value(b"%d" % number)])], durability=FAST)
    assert len(ids(journal)) == 14


# -- the connection ----------------------------------------------------------------------------------------------


def test_a_commit_after_the_connections_were_cut_is_written_once(server: Server, journal: PostgresJournal) -> None:
    author = Author()
    author.start(A)
    journal.append([author.entry(A)], durability=FAST)
    for number in range(3):
        server.cut_connections()
        author.begin_step(A, "fetch", number)
        journal.append([author.entry(A)], durability=FAST)
    assert ids(journal) == [A] * 4


def test_who_reads_after_the_connections_were_cut_is_answered(server: Server, journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    for read in (journal.current, journal.reading):
        server.cut_connections()
        with read() as reader:
            assert [row.run_id for row in reader.events(Select())] == [A]


def test_a_commit_waits_for_a_server_that_restarts(server: Server, journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    server.stop()
    threading.Timer(1, server.start).start()
    journal.append([one_run(B)], durability=FAST)
    assert ids(journal) == [A, B]


@pytest.mark.parametrize("is_exchange", [True, False])
@pytest.mark.parametrize("is_committed", [True, False])
def test_the_server_says_what_became_of_a_commit_whose_answer_was_lost(
    server: Server, journal: PostgresJournal, monkeypatch: pytest.MonkeyPatch, is_committed: bool, is_exchange: bool
) -> None:
    """The connection is cut right after the server has committed, or right before."""
    journal.append([one_run(A)], durability=FAST)
    connection = journal._connection
    assert connection is not None
    run, n_cuts = connection.run, []

    def cut(query: str, given: object = None) -> object:
        if "COMMIT" not in query or n_cuts:
            return run(query, given)  # type: ignore[arg-type]
        n_cuts.append(1)
        if is_committed:
            run(query)
            run("SELECT 1").fetchone()  # of a pipeline the server has done all until then
        server.cut_connections()
        return run(query)

    monkeypatch.setattr(connection, "run", cut)
    if not is_exchange:
        journal.append([one_run(B)], durability=FAST)
    elif is_committed:
        journal.exchange(lambda _: [one_run(B)], durability=FAST)
    else:  # what was asked may have been kept, and is asked again by who knows
        with pytest.raises(ConnectionLost):
            journal.exchange(lambda _: [one_run(B)], durability=FAST)
    assert n_cuts == [1]
    assert ids(journal) == ([A] if is_exchange and not is_committed else [A, B])


def test_a_commit_that_was_given_up_is_not_committed_later(journal: PostgresJournal) -> None:
    """A server may receive the end of a pipeline long after its client has been cut off."""
    journal.append([one_run(A)], durability=FAST)
    late = journal._connection
    assert late is not None
    late.count_commit()
    assert not late.is_committed()

    def send() -> None:
        with late.pipeline():
            late.execute("BEGIN IMMEDIATE")
            write_commit(late, one_run(B))  # type: ignore[arg-type] # it answers as a connection of SQLite does
            late.execute("COMMIT")

    with pytest.raises((RowRefused, JournalConflict)):  # the refusal of the beginning may come while rows are sent
        send()
    late.raw.close()
    journal.append([one_run(C)], durability=FAST)
    assert ids(journal) == [A, C]


def test_a_commit_that_goes_with_its_server_is_written_again(
    server: Server, journal: PostgresJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies when it has the rows, and before it has the end."""
    journal.append([one_run(A)], durability=FAST)
    connection = journal._connection
    assert connection is not None
    run, n_deaths = connection.run, []

    def die(query: str, given: object = None) -> object:
        if query == "COMMIT" and not n_deaths:
            n_deaths.append(1)
            run("SELECT 1").fetchone()
            server.stop()
            server.start()
        return run(query, given)  # type: ignore[arg-type]

    monkeypatch.setattr(connection, "run", die)
    journal.append([one_run(B)], durability=FAST)
    assert n_deaths == [1]
    assert ids(journal) == [A, B]


def test_an_exchange_that_was_cut_is_not_decided_a_second_time(server: Server, journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    n_asked = []

    def act(_: Reader) -> list[RunCommit]:
        n_asked.append(1)
        server.cut_connections()
        return [one_run(B)]

    with pytest.raises(ConnectionLost, match="can't be reached"):
        journal.exchange(act, durability=FAST)
    assert n_asked == [1]
    assert ids(journal) == [A]


def test_who_stands_still_in_a_commit_is_cut_off(
    server: Server, journal: PostgresJournal, other_handle: PostgresJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen machine must not keep all others from writing."""
    monkeypatch.setattr("ironflow_nb.journal.postgres_connection.BUSY_TIMEOUT_S", 1)
    other_handle.append([one_run(A)], durability=FAST)

    def stand_still(_: Reader) -> list[RunCommit]:
        journal.append([one_run(B)], durability=FAST)  # waits until the server has cut off who stands still
        return [one_run(C)]

    with pytest.raises(ConnectionLost):
        other_handle.exchange(stand_still, durability=FAST)
    assert ids(journal) == [A, B]


def test_who_waits_too_long_for_the_others_is_told(server: Server, journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    with psycopg.connect(server.url()) as other:
        other.execute(f"SELECT pg_advisory_xact_lock({journal.place.lock})")
        assert journal._connection is not None
        journal._connection.raw.execute("SET lock_timeout = '50ms'")
        with pytest.raises(JournalBusy, match="let nobody write"):
            journal.append([one_run(B)], durability=FAST)
    journal.append([one_run(B)], durability=FAST)
    assert ids(journal) == [A, B]


# -- opening -----------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    journal = PostgresJournal(f"postgresql://me:secret@/db?host={tmp_path}")
    with pytest.raises(JournalError, match="check that it runs") as caught:
        journal.append([one_run(A)], durability=FAST)
    assert "secret" not in str(caught.value)
    assert "secret" not in journal.location


@pytest.mark.parametrize("bad", ["postgresql://me@/db?schema=My-Schema", "postgresql://me@/db?no_such_option=1"])
def test_a_url_that_cant_be_read_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"schema=|can't be read"):
        postgres_place(bad)


def test_many_who_open_a_new_journal_at_once_make_one(opened: Open) -> None:
    author = Author()
    entries = []
    for run in (A, B, C):
        author.start(run)
        entries.append(author.entry(run))
    journals = [opened() for _ in entries]
    with ThreadPoolExecutor(3) as threads:
        for each in [threads.submit(j.append, [e], durability=FAST) for j, e in zip(journals, entries, strict=True)]:
            each.result()
    assert sorted(ids(journals[0])) == sorted([A, B, C])


def test_a_journal_of_a_newer_version_is_refused(server: Server, journal: PostgresJournal, opened: Open) -> None:
    journal.append([one_run(A)], durability=FAST)
    server.execute(f"UPDATE {schema_of(journal)}.schema_version SET version = 99")
    for read in (opened().reading, opened().current):
        with pytest.raises(JournalTooNew, match="upgrade ironflow-nb"), read():
            pass


def test_a_journal_of_an_older_version_gets_the_tables_that_it_lacks(
    server: Server, journal: PostgresJournal, opened: Open
) -> None:
    journal.append([one_run(A)], durability=FAST)
    schema = schema_of(journal)
    server.execute(f"DROP TABLE {schema}.access_keys; UPDATE {schema}.schema_version SET version = 6")
    newer = opened()
    newer.append([one_run(B)], durability=FAST)
    assert server.execute(f"SELECT count(*) FROM {schema}.access_keys") == [(0,)]
    assert ids(newer) == [A, B]


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ironflow_nb.journal.postgres_journal", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ironflow-nb\[postgres\]'"):
        iron.open("postgresql://me@/db")


def test_two_schemas_of_one_database_are_two_journals(server: Server, journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    other = PostgresJournal(server.new_url())
    assert not other.exists()
    other.append([one_run(B)], durability=FAST)
    assert (ids(journal), ids(other)) == ([A], [B])
    other.close()


# -- rights ------------------------------------------------------------------------------------------------------


def test_a_role_that_may_only_read_reads_and_writes_nothing(server: Server, journal: PostgresJournal) -> None:
    large = value(b"l" * INLINE_LIMIT)
    journal.append([replace(one_run(A), values=(large,))], durability=FAST)
    schema = schema_of(journal)
    server.execute(f"CREATE ROLE {schema} LOGIN")
    server.execute(
        f"GRANT USAGE ON SCHEMA {schema} TO {schema}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {schema}"
    )
    reader_only = PostgresJournal(server.url(schema, user=schema))
    with reader_only.reading() as reader:
        assert [run.run_id for run in reader.runs(Select())] == [A]
        assert reader.values([large.value_id]) == {large.value_id: large}
    with pytest.raises(JournalReadOnly, match="ask its owner"):
        reader_only.append([one_run(B)], durability=FAST)
    reader_only.close()


def test_a_role_that_may_make_no_tables_is_told(server: Server, url: str) -> None:
    schema = postgres_place(url).schema
    server.execute(f"CREATE ROLE {schema} LOGIN")
    stranger = PostgresJournal(server.url(schema, user=schema))
    assert not stranger.exists()
    with pytest.raises(JournalReadOnly, match="ask its owner"):
        stranger.append([one_run(A)], durability=FAST)
    stranger.close()


def test_a_journal_that_was_opened_to_read_writes_nothing(url: str, journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    reading = PostgresJournal(url, read_only=True)
    with pytest.raises(JournalReadOnly, match="read_only"):
        reading.append([one_run(B)], durability=FAST)
    with reading.current() as reader:
        assert reader.last_position() == 1
    before = reading.change_token()
    journal.append([one_run(B)], durability=FAST)
    until = time.monotonic() + 10
    while reading.change_token() == before:
        assert time.monotonic() < until
    reading.close()


def test_events_can_be_neither_changed_nor_deleted(server: Server, journal: PostgresJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    for change in ("UPDATE {0}.events SET data = '{{}}'", "DELETE FROM {0}.events"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            server.execute(change.format(schema_of(journal)))
    assert ids(journal) == [A]


# -- values ------------------------------------------------------------------------------------------------------


def test_a_large_value_is_in_the_database_in_pieces(
    journal: PostgresJournal, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironflow_nb.journal.postgres_values._PIECE", 1000)
    large = value(bytes(range(256)) * (INLINE_LIMIT // 256 + 5))
    for run in (A, B):
        journal.append([replace(one_run(run), values=(large,))], durability=FAST)
    with opened().reading() as reader:
        assert reader.values([large.value_id]) == {large.value_id: large}
    journal.files.remove(large.value_id)
    with journal.reading() as reader:
        found = reader.values([large.value_id])[large.value_id]
    assert found.content is None
    assert "is missing" in str(found.read_error)


def test_a_null_character_of_a_text_is_shown_by_its_picture(journal: PostgresJournal) -> None:
    journal.send(Signal(run_id=A, name="a\0b", sent_at=1))
    with journal.reading() as reader:
        assert [signal.name for signal in reader.signals([A])] == ["a\u2400b"]


def test_the_views_show_instants(server: Server, journal: PostgresJournal) -> None:
    author = Author()
    author.start(A, at=1_700_000_000_000_001)
    author.begin_step(A, "fetch", at=1_700_000_000_500_000)
    author.complete_step(A, "fetch", output=digest(1))
    journal.append([author.entry(A)], durability=FAST)
    schema = schema_of(journal)
    found = server.execute(f"SELECT run_id, started_at FROM {schema}.run_history")
    assert found == [(A, "2023-11-14T22:13:20.000001Z")]
    assert server.execute(f"SELECT step FROM {schema}.step_history") == [("fetch[0]",)]
    assert len(server.execute(f"SELECT * FROM {schema}.event_history")) == 3


def test_a_url_opens_an_engine(url: str) -> None:
    @iron.step
    def double(n: int) -> int:
        return 2 * n

    @iron.flow
    def main() -> int:
        return sum(double.map([1, 2, 3])) + double(10)

    with iron.open(url) as engine:
        assert main() == 32
        assert main.last.status.value == "completed"
        assert len(iron.steps()) == 4
        engine.close()
