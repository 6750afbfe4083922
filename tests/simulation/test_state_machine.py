"""A kernel that is used in any order, against a model that fits in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ironflow_nb import RunCancelled, flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import EngineClosed
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import abandon, process_on
from tests.conftest import FULL_PROOF
from tests.contracts.histories import folded

pytestmark = pytest.mark.slow

N_STEPS = 5
BODIES: Counter[int] = Counter()
TROUBLE: dict[int, Callable[[], None]] = {}


@step
def work(n: int) -> int:
    if n in TROUBLE:
        TROUBLE.pop(n)()
    BODIES[n] += 1
    return n


@flow
def one_by_one() -> int:
    return sum(work(n) for n in range(N_STEPS))


@flow
def mapped() -> int:
    return sum(work.map(range(N_STEPS), concurrency=1))


FLOWS: dict[str, Any] = {"one by one": one_by_one, "mapped": mapped}
PLACES = st.integers(0, N_STEPS - 1)


def fail() -> None:
    raise KeyError("as the model wants it")


class Kernels(RuleBasedStateMachine):
    """One kernel after the other on one journal; the model knows which steps of the open run are recorded."""

    flow: Any

    def __init__(self) -> None:
        super().__init__()
        self.journal = MemoryJournal()
        self.clock = SimClock()
        self.recorded: set[int] = set()
        self.status: RunStatus | None = None
        self.n_runs = 0
        self.n_cells = 0
        self.begin_process()

    def begin_process(self) -> None:
        self.process = process_on(self.journal, Durability.PROCESS, self.clock)
        self.engine: Engine = self.process.__enter__()
        self.begin_cell()

    def begin_cell(self) -> None:
        self.n_cells += 1
        execution = f"cell {self.n_cells}"
        self.engine.execution = lambda: execution

    @property
    def is_open(self) -> bool:
        """Tell whether there is a run that a call would continue."""
        return self.status not in {None, RunStatus.COMPLETED, RunStatus.CANCELLED}

    def expect(self, n_steps: int) -> None:
        """Note in the model that the flow is called and gets to that step; check which bodies run for it."""
        if not self.is_open:
            self.n_runs += 1
            self.recorded = set()
        assert {n for n, count in BODIES.items() if count} == set(range(n_steps)) - self.recorded
        assert set(BODIES.values()) <= {1}
        self.recorded |= set(range(n_steps))

    @rule()
    def call(self) -> None:
        BODIES.clear()
        self.begin_cell()
        assert self.flow() == sum(range(N_STEPS))
        self.expect(N_STEPS)
        self.status = RunStatus.COMPLETED

    @rule(place=PLACES)
    def call_with_a_failure(self, place: int) -> None:
        if place in self.recorded and self.is_open:
            return  # the body that is to fail would not run
        BODIES.clear()
        self.begin_cell()
        TROUBLE[place] = fail
        with pytest.raises(KeyError):
            self.flow()
        self.expect(place)
        self.status = RunStatus.FAILED

    @rule(place=PLACES)
    def call_and_die(self, place: int) -> None:
        if place in self.recorded and self.is_open:
            return
        BODIES.clear()
        self.begin_cell()
        TROUBLE[place] = self.die
        with suppress(SystemExit, EngineClosed):  # in the thread that dies, and in one that wanted to record something
            self.flow()
        if self.flow is one_by_one:
            self.expect(place)
        else:  # what a map had handed in, and not committed yet, is lost with the process
            newest = [run.run_id for run in self.runs()[:1]]
            with self.journal.reading() as reader:
                rows = reader.steps(Select(run_ids=newest))
            is_new = not self.is_open
            self.recorded = {row.index for row in rows if row.output_id is not None}
            self.n_runs += is_new and len(self.runs()) > self.n_runs
        if RunStatus.RUNNING in [run.status for run in self.runs()]:
            self.status = RunStatus.INTERRUPTED
        elif not self.is_open:
            # It died before the first commit: there is no trace of the run.
            self.n_runs = len(self.runs())
            self.recorded = set()
        self.begin_process()

    def die(self) -> None:
        owner = self.engine.owner
        self.engine.access.close("it was killed", abandon=True)
        self.engine.sessions.clear()
        self.journal.release(owner)
        raise SystemExit

    @precondition(lambda self: self.is_open)
    @rule()
    def resume(self) -> None:
        BODIES.clear()
        assert self.flow.resume().result() == sum(range(N_STEPS))
        self.expect(N_STEPS)
        self.status = RunStatus.COMPLETED

    @precondition(lambda self: self.is_open)
    @rule()
    def cancel(self) -> None:
        self.flow.last.cancel()
        self.status = RunStatus.CANCELLED
        with pytest.raises(RunCancelled):
            self.flow.last.result()

    @rule()
    def restart(self) -> None:
        self.process.__exit__(None, None, None)
        self.begin_process()

    def runs(self) -> list[Any]:
        with self.journal.reading() as reader:
            return reader.runs(Select())

    @invariant()
    def the_journal_is_what_the_model_says(self) -> None:
        with self.journal.reading() as reader:
            runs, events = reader.runs(Select()), reader.events(Select())
        assert len(runs) == self.n_runs
        assert [run for run in runs if folded(events, run.run_id).run != run] == []
        if self.status is not None and self.n_runs:
            assert self.flow.last.status is self.status

    def teardown(self) -> None:
        TROUBLE.clear()
        abandon(self.engine)
        self.process.__exit__(None, None, None)


class OneByOne(Kernels):
    """Steps one after the other."""

    flow = staticmethod(one_by_one)


class Mapped(Kernels):
    """Steps of a map."""

    flow = staticmethod(mapped)


TestOneByOne = OneByOne.TestCase
TestOneByOne.settings = settings(max_examples=500 if FULL_PROOF else 30, stateful_step_count=20)
TestMapped = Mapped.TestCase
TestMapped.settings = settings(max_examples=500 if FULL_PROOF else 30, stateful_step_count=20)
