"""Death of workers before and after every commit of the detached runs that they execute."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution import REGISTRY, RunWorker
from ironflow_nb.journal.ports import Durability, Journal, QueueSelect, Select
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal, abandon, end_waits, outcome_of, process_on
from tests.crash import async_flows, control_flows, flows
from tests.waits.conftest import until

pytestmark = pytest.mark.crash

DETACHED = [
    flows.parent, flows.with_keys_side_by_side, flows.waits, control_flows.answered_async,
    async_flows.children_side_by_side, async_flows.waits_async,
]  # fmt: skip


def reset() -> None:
    flows.reset()
    control_flows.REPLIES.clear()


def work_on(journal: Journal, clock: SimClock) -> bool:
    """Be a worker until nothing is to be done any more, or it has died; return True if it has."""
    is_dead: Callable[[], bool] = (lambda: journal.is_dead) if isinstance(journal, DyingJournal) else lambda: False
    with process_on(journal, Durability.PROCESS, clock) as engine:
        worker = RunWorker(engine)
        if isinstance(journal, DyingJournal):
            journal.when_dead = lambda: end_waits(engine)

        def is_done() -> bool:
            with suppress(Died):
                worker.look(is_new=True)
                if not any(each.is_open for each in list(engine.sessions.values())):
                    clock.advance(60)  # for a run that waits for a moment, and whose process has died
                with journal.reading() as reader:
                    return all(run.status is RunStatus.COMPLETED for run in reader.runs(Select()))
            return True

        with REGISTRY.replaced(engine):
            until(is_done)
        if is_dead():
            abandon(engine)
            journal.journal.release(engine.owner)  # type: ignore[attr-defined] -- a dead process has no lease
    return is_dead()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("flow", DETACHED, ids=lambda flow: flow.name.rpartition(".")[2])
def test_other_workers_go_on_with_a_run_whose_worker_dies_at_any_commit(flow: flows.Any, moment: str) -> None:
    """Two workers die one after the other, each at the commit of that number, and a third one ends the run."""
    reset()
    with process_on(MemoryJournal(), Durability.PROCESS, SimClock()):
        expected = outcome_of(flow)
    commit, is_over = 0, False
    while not is_over:
        commit += 1
        reset()
        journal, clock = MemoryJournal(), SimClock()
        with process_on(journal, Durability.PROCESS, clock):
            flow.start(detach=True)
        is_over = not work_on(DyingJournal(journal, at_commit=commit, moment=moment), clock)
        work_on(DyingJournal(journal, at_commit=commit, moment=moment), clock)
        assert not work_on(journal, clock)
        where = f"died {moment} commit {commit}"
        assert (flows.ran_again(), flows.other_keys()) == ([], []), where
        with process_on(journal, Durability.PROCESS, clock) as engine, engine.reading() as reader:
            assert flow.last.result() == expected, where
            assert {run.status for run in reader.runs(Select())} == {RunStatus.COMPLETED}, where
            assert reader.work(QueueSelect()) == [], where
    assert commit > 5
