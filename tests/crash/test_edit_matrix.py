"""Death before and after every commit around results given by hand, taken back, and forks."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.system.system import SystemClock, SystemThreads
from ironflow_nb.handles.run import Run
from ironflow_nb.journal.ports import Durability, Journal, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import LIMIT_S, MOMENTS, Died, DyingJournal, abandon, process_on
from tests.contracts.histories import folded

pytestmark = pytest.mark.crash

BODIES: Counter[str] = Counter()


@step
def fetch(n: int) -> int:
    BODIES[f"fetch {n}"] += 1
    return n * 2


@step
def note(what: str) -> str:
    BODIES[f"note {what}"] += 1
    return what


@step
def total(numbers: list[int]) -> int:
    BODIES[f"total {numbers}"] += 1
    return sum(numbers)


@flow
def inner(n: int) -> int:
    return total([fetch(n), fetch(n + 1)])


@flow
def outer() -> int:
    note("begun")
    return inner(1) + total(list(fetch.map([5, 6], concurrency=2)))


KEYED: Any = outer.options(key="the run")


def n_events(run: Run[Any], kind: str) -> int:
    return int((run.events()["type"] == kind).sum())


def finished(run: Run[Any], is_dead: Callable[[], bool]) -> Any:
    """Return the result of a run in the background, or die with it."""
    clock, wakeup = SystemClock(), SystemThreads().wakeup()
    deadline = clock.monotonic() + LIMIT_S
    while run._session is not None and not run._session.completion.is_done and not is_dead():
        clock.wait(wakeup, 0.001)
        assert clock.monotonic() < deadline, "the run hangs"
    if is_dead():
        raise Died
    return run.result(timeout_s=LIMIT_S)


def edited(is_dead: Callable[[], bool]) -> tuple[int, ...]:
    """Do each edit that is not done yet, and return the results between them: whoever dies, calls this again."""
    found = []
    runs = iron.runs(outer).query("key == 'the run'")["run_id"].tolist()
    run: Any = iron.get_run(runs[0]) if runs else None
    if run is None or n_events(run, "OutputInjected") == 0:
        found.append(KEYED())  # 6 + 22
        run = outer.last
        run.inject("fetch[1]", 100, reason="of the map")
    child: Any = iron.get_run(iron.runs(inner).query("parent_run_id == @run.id")["run_id"].iloc[0])
    if n_events(child, "OutputInjected") == 0:
        found.append(KEYED())  # 6 + 110
        child.inject("fetch[0]", 1000, reason="in the child")
    if n_events(run, "InjectionUndone") == 0:
        found.append(KEYED())  # 1004 + 110
        run.undo()
    found.append(KEYED())  # 1004 + 22
    forks = iron.runs().query("origin_run_id == @run.id")["run_id"].tolist()
    fork = iron.get_run(forks[-1]).resume() if forks else run.fork(replace={"fetch[1]": 1})
    found.append(finished(fork, is_dead))  # 1004 + 11
    return tuple(found)


EXPECTED = (28, 116, 1114, 1026, 1015)


def died_and_gone_on(journal: Journal, commit: int, moment: str) -> bool:
    """Die at that commit and go on in another process; return False if there are not so many commits."""
    where = f"died {moment} commit {commit}"
    dying = DyingJournal(journal, at_commit=commit, moment=moment)
    with process_on(dying, Durability.PROCESS) as engine:
        with contextlib.suppress(Died):
            edited(lambda: dying.is_dead)
        owner = engine.owner
        abandon(engine)
    with process_on(journal, Durability.PROCESS) as engine:
        if dying.is_dead:
            engine.journal.release(owner)  # its process is this one, which is alive
            found = edited(lambda: False)
            assert found == EXPECTED[-len(found) :], f"{where}: {found}"
        assert BODIES["note begun"] <= 2, where
        with engine.reading() as reader:
            events = reader.events(Select())
            for run in reader.runs(Select()):
                state = folded(events, run.run_id)
                assert run == state.run, where
                rows = {(row.step, row.attempt): row for row in reader.steps(Select(run_ids=[run.run_id]))}
                assert rows == state.steps, where
    return dying.is_dead


@pytest.mark.sampled(1)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_an_edit_is_there_as_a_whole_or_not_at_all_and_the_run_goes_on(kind: str, moment: str, tmp_path: Path) -> None:
    commit, is_dead = 0, True
    while is_dead:
        commit += 1
        BODIES.clear()
        journal = MemoryJournal() if kind == "memory" else SqliteJournal(tmp_path / str(commit) / "journal.db")
        is_dead = died_and_gone_on(journal, commit, moment)
    assert commit > 15
