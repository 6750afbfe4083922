"""What a listing costs depends on the rows that it returns, and not on how long the history is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from ironflow_nb.core.events import DomainEvent, RunCompleted
from ironflow_nb.core.identity import RunId, run_id
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus
from ironflow_nb.journal.ports import Durability, QueueItem, QueueSelect, Select
from ironflow_nb.journal.sqlite_file import begin_reading, open_reader
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.journal.sqlite_reader import SqliteReader
from tests.contracts.histories import A, Author, B, value

Ask = Callable[[SqliteReader], Any]
N_FEW: Final = 60
OUTPUT: Final = value(b"out").value_id
NEWEST: Final = Select(name="lab.often", is_full_name=True, limit=1)


def ids() -> list[RunId]:
    return [run_id((number << 48).to_bytes(8, "big")) for number in range(8 * N_FEW)]


def journal_of(path: Path, n_runs: int) -> Path:
    """Write a journal of completed runs of one flow, with the oldest of another flow."""
    journal = SqliteJournal(path)
    author, at = Author(), count(100)
    for number, run in enumerate(ids()[:n_runs]):
        author.start(run, name="lab.often" if number else "lab.once", at=next(at))
        author.begin_step(run, "fetch", at=next(at))
        author.complete_step(run, "fetch", output=OUTPUT)
        author.note(run, RunCompleted(output=OUTPUT), at=next(at))
        journal.append([author.entry(run)], durability=Durability.PROCESS)
    journal.close()
    return path


def journal_of_one_run(path: Path, n_steps: int) -> Path:
    """Write a journal of one run, in which every fifth step was tried twice, after an instance with many events."""
    journal = SqliteJournal(path)
    author = Author()
    author.start(A)
    for number in range(n_steps):
        name, index = ("fetch", "fit[1]")[number % 2], number // 2
        author.begin_step(A, name, index)
        if number % 5 == 0:
            author.fail_step(A, name, index)
            author.begin_step(A, name, index, attempt=2)
        author.complete_step(A, name, index, attempt=2 if number % 5 == 0 else 1, output=OUTPUT)
    author.start(B, kind="decider")
    for _ in range(n_steps):
        author.note(B, DomainEvent(type="orders.Placed"))
    journal.append([author.entry(A), author.entry(B)], durability=Durability.PROCESS)
    journal.close()
    return path


def n_instructions(path: Path, ask: Ask) -> int:
    """Return how many instructions SQLite performs for the answer."""
    with closing(open_reader(path)) as connection:
        begin_reading(connection, path)
        performed = count()
        connection.set_progress_handler(lambda: next(performed) < 0, 1)
        ask(SqliteReader(connection, SqliteJournal(path).files))
        return next(performed)


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("journals")
    return journal_of(folder / "short.db", N_FEW), journal_of(folder / "long.db", 8 * N_FEW)


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: reader.runs(NEWEST),
        lambda reader: reader.runs(replace(NEWEST, kind="flow", limit=10)),
        lambda reader: reader.runs(Select(name="often", limit=5)),
        lambda reader: reader.runs(Select(name="once")),
        lambda reader: reader.runs(Select(limit=10)),
        lambda reader: reader.runs(Select(statuses=[RunStatus.COMPLETED], limit=10)),
        lambda reader: reader.runs(Select(statuses=OWNED | {RunStatus.INTERRUPTED}, since=0)),
        lambda reader: reader.runs(Select(name="often", statuses=OWNED | {RunStatus.INTERRUPTED})),
        lambda reader: reader.runs(Select(name="often", statuses=[RunStatus.FAILED], limit=10)),
        lambda reader: reader.runs(Select(name="once", statuses=[RunStatus.COMPLETED], limit=10)),
        lambda reader: reader.runs(Select(name="once", statuses=[RunStatus.COMPLETED, RunStatus.FAILED])),
        lambda reader: reader.runs(Select(run_prefix=ids()[1][:11])),
        lambda reader: reader.runs(Select(run_ids=[ids()[1], ids()[3]])),
        lambda reader: reader.steps(Select(limit=10)),
        lambda reader: reader.steps(Select(limit=10, is_latest=True, step_statuses=[StepStatus.COMPLETED])),
        lambda reader: reader.steps(Select(run_name="often", limit=10, is_latest=True)),
        lambda reader: reader.steps(Select(run_name="lab.once", is_full_name=True, limit=10)),
        lambda reader: reader.steps(Select(run_ids=[ids()[2]])),
        lambda reader: reader.events(Select(limit=10)),
        lambda reader: list(reader.event_columns(Select(limit=10))),
        lambda reader: reader.events(Select(run_name="lab.once", limit=10)),
        lambda reader: reader.events(Select(run_ids=[ids()[2]])),
    ],
    ids=range(22),
)
def test_a_listing_takes_as_long_in_a_long_history(journals: tuple[Path, Path], ask: Ask) -> None:
    short, long = (n_instructions(path, ask) for path in journals)
    assert long < 1.2 * short


@pytest.mark.parametrize("is_latest", [True, False])
def test_the_first_steps_of_a_run_take_as_long_in_a_long_run(tmp_path: Path, is_latest: bool) -> None:
    select = Select(limit=10, is_latest=is_latest)
    short, long = (journal_of_one_run(tmp_path / f"{n}.db", n) for n in (N_FEW, 8 * N_FEW))
    assert n_instructions(long, lambda reader: reader.steps(select)) < 1.2 * n_instructions(
        short, lambda reader: reader.steps(select)
    )
    with SqliteJournal(long, read_only=True).reading() as reader:
        assert reader.steps(select) == reader.steps(replace(select, limit=None))[:10]
        assert len(reader.steps(replace(select, limit=10_000))) == 8 * N_FEW * (5 if is_latest else 6) // 5


def journal_of_waits(path: Path, n_runs: int) -> Path:
    """Write a journal of runs of which each waits for a far time."""
    journal = SqliteJournal(path)
    author = Author()
    for run in ids()[:n_runs]:
        author.start(run)
        item = QueueItem(run_id=run, kind="sleep", key="iron.sleep[0]", due_at=1 << 60, created_at=1)
        journal.append([replace(author.entry(run), put_work=(item,))], durability=Durability.PROCESS)
    journal.close()
    return path


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: reader.ended_waits(9, 0, 1000),
        lambda reader: reader.next_due_at(9),
        lambda reader: reader.starts(["flow f"]),
        lambda reader: reader.work(QueueSelect(is_dead=True)),
        lambda reader: reader.work(QueueSelect(kind="run", claimable_at=9, alive=["me"], limit=9)),
        lambda reader: reader.runs(Select(statuses=(RunStatus.WAITING,), limit=9)),
    ],
    ids=["ended_waits", "next_due_at", "starts", "dead", "detached", "waiting"],
)
def test_a_look_for_work_takes_as_long_beside_many_waits(tmp_path: Path, ask: Ask) -> None:
    short, long = (n_instructions(journal_of_waits(tmp_path / f"{n}.db", n), ask) for n in (20, 160))
    assert long <= short * 1.3
