"""What SQLite is asked to do for a step: counted, for time on a shared machine proves nothing."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal import write_ahead_log
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.process_death import process_on
from tests.deciders.counters import Add, counters

FAIL: list[bool] = []
TICKS: list[list[str]] = []


@step
def work(n: int) -> dict[str, int]:
    return {"n": n}


@flow
def sequential(n_steps: int) -> int:
    total = sum(work(n)["n"] for n in range(n_steps))
    if FAIL:
        raise RuntimeError
    return total


@flow
def mapped(n_steps: int) -> int:
    return sum(result["n"] for result in work.map(range(n_steps), concurrency=10))


@contextmanager
def traced(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements of the connection that writes."""
    journal = engine.journal
    assert isinstance(journal, SqliteJournal)
    found: list[str] = []
    connection = journal._writer()
    connection.set_trace_callback(found.append)
    try:
        yield found
    finally:
        connection.set_trace_callback(None)


@contextmanager
def counted(engine: Engine) -> Iterator[Counter[str]]:
    """Count the statements of the connection that writes, by their first words."""
    found: Counter[str] = Counter()
    with traced(engine) as statements:
        yield found
    found.update(map(first_words, statements))


def first_words(statement: str) -> str:
    """Return what the statement does; of an insertion also its table."""
    words = re.findall(r"\w+", statement)
    return " ".join(words[:3] if words[0] == "INSERT" else words[:1])


@pytest.fixture(params=list(Durability))
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine without its worker, which commits by time, and whose log is never long enough to be written back."""
    for most in ("CHANGES_BETWEEN", "CHANGES_BETWEEN_SYNCED"):
        monkeypatch.setattr(write_ahead_log, most, 10**9)
    with process_on(SqliteJournal(tmp_path / "journal.db"), request.param) as made:
        sequential.options(fresh=True)(1)
        yield made


def test_a_step_is_one_transaction_of_five_statements(engine: Engine) -> None:
    with counted(engine) as few:
        sequential.options(fresh=True)(10)
    with counted(engine) as many:
        sequential.options(fresh=True)(110)
    many.subtract(few)
    assert {what: n / 100 for what, n in many.items() if n} == {
        "BEGIN": 1,
        "INSERT INTO events": 2,
        "INSERT INTO steps": 1,
        "COMMIT": 1,
    }


def test_the_last_step_of_a_run_costs_no_more_statements_than_the_first(engine: Engine) -> None:
    totals = []
    for n_steps in (50, 100, 150):
        with counted(engine) as found:
            sequential.options(fresh=True)(n_steps)
        totals.append(found.total())
    assert totals[2] - totals[1] == totals[1] - totals[0]


def test_a_map_shares_commits_and_asks_no_more_of_the_file_than_a_loop(engine: Engine) -> None:
    with counted(engine) as found:
        mapped.options(fresh=True)(200)
    assert found["COMMIT"] < 200
    assert found.total() <= 5 * 200 + 20
    assert found["INSERT INTO events"] == 2 * 200 + 3  # and one that says how many items there are


@step
async def look(n: int) -> int:
    await asyncio.sleep(0)
    if n == 9:  # the others have ended, and their results are queued
        engine = REGISTRY.engine()
        for _ in range(2):
            with traced(engine) as statements:
                engine._background._tick()
            TICKS.append(statements)
    return n


@flow
async def gathered() -> list[int]:
    return await asyncio.gather(*map(look, range(10)))


def test_what_a_loop_is_about_to_commit_is_left_to_it_once_by_the_background_thread(engine: Engine) -> None:
    TICKS.clear()
    assert gathered.options(fresh=True).start().result() == list(range(10))
    assert ["COMMIT" in statements for statements in TICKS] == [False, True]


@step
async def tick(n: int) -> int:
    await asyncio.sleep(0)
    if n % 2:  # the other has ended, and its result is queued
        REGISTRY.engine()._background._tick()
    return n


@step(retries=iron.Retry(attempts=2, delay_s=0.0))
async def fail_once(n: int) -> int:
    FAIL.append(True)
    if len(FAIL) == 1:
        raise RuntimeError
    return n


@flow
async def retried() -> int:
    again = fail_once.submit(9)
    while not FAIL:
        await asyncio.sleep(0)
    for n in range(10):  # at each tick a commit is coming
        await asyncio.gather(tick(2 * n), tick(2 * n + 1))
        if len(FAIL) == 2:
            return await again
    raise AssertionError


def test_what_is_due_begins_at_a_tick_also_while_a_loop_is_about_to_commit(engine: Engine) -> None:
    FAIL.clear()
    assert retried.options(fresh=True).start().result() == 9
    FAIL.clear()


def test_the_end_of_a_run_writes_only_the_columns_that_it_changes(engine: Engine) -> None:
    with traced(engine) as statements:
        sequential.options(fresh=True)(3)
    (update,) = (statement for statement in statements if statement.startswith("UPDATE"))
    changed = re.findall(r'"(\w+)" =', update.partition("WHERE")[0])
    assert changed == ["status", "updated_at", "output_id", "ended_at", "owner", "output"]


def test_a_command_reads_little_and_writes_one_column_of_its_run(engine: Engine) -> None:
    counter = counters()
    counter.send(Add("a"))
    with traced(engine) as statements:
        counter.send(Add("a"))
    assert list(map(first_words, statements)) == [
        "BEGIN", "SELECT", "SELECT", "INSERT INTO events", "UPDATE", "INSERT INTO observations", "COMMIT",
    ]  # fmt: skip
    (update,) = (statement for statement in statements if statement.startswith("UPDATE"))
    assert re.findall(r'"(\w+)" =', update) == ["updated_at"]


def test_a_command_writes_six_pages_or_fewer(engine: Engine) -> None:
    counter, log = counters(), Path(f"{engine.journal.location}-wal")
    for n in range(10):
        counter.send(Add(f"c-{n}"))
    before = log.stat().st_size
    for n in range(200):
        counter.send(Add(f"c-{n % 10}"))
    frame = 4096 + 24  # a page in the log has a header
    assert (log.stat().st_size - before) / frame / 200 <= 6


def test_a_replay_asks_the_file_a_number_of_times_that_does_not_depend_on_its_length(engine: Engine) -> None:
    totals = []
    for n_steps in (10, 200):
        FAIL.append(True)
        with pytest.raises(RuntimeError):
            sequential.options(key=str(n_steps))(n_steps)
        FAIL.clear()
        with counted(engine) as found:
            sequential.options(key=str(n_steps))(n_steps)
        totals.append(found.total())
        assert len(iron.steps(run=sequential.last)) == n_steps  # type: ignore[arg-type]
    assert totals[0] == totals[1] < 40


def test_the_log_is_written_back_once_in_a_hundred_steps_or_less(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with counted(engine) as found:
        sequential.options(fresh=True)(500)
    assert 0 < found["ROLLBACK"] <= 5


@pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1)])
def test_a_commit_syncs_as_the_durability_says(durability: str, synchronous: int, tmp_path: Path) -> None:
    with iron.open(tmp_path / "journal.db", durability=durability) as engine:
        assert REGISTRY.engine() is engine
        sequential(1)
        journal = engine.journal
        assert isinstance(journal, SqliteJournal)
        assert journal._writer().execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert journal._writer().execute("PRAGMA fullfsync").fetchone() == (1,)
        assert journal._writer().execute("PRAGMA journal_mode").fetchone() == ("wal",)
