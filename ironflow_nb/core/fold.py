"""The fold: the whole read model of a run from its facts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.events import Fact, RunFailed, StepChange, StepCompleted, StepStarted
from ironflow_nb.core.ids import RunId, StepRef
from ironflow_nb.core.rows import RunRow, StepRow, evolve_run, evolve_step
from ironflow_nb.core.status import StepStatus
from ironflow_nb.errors import JournalCorrupt


class RunState(msgspec.Struct):
    """A run after its newest version, and the attempts of its steps in order of their first facts."""

    run_id: RunId
    version: int = 0
    run: RunRow | None = None
    steps: dict[tuple[StepRef, int], StepRow] = msgspec.field(default_factory=dict)
    n_attempts: dict[StepRef, int] = msgspec.field(default_factory=dict)

    def latest(self, step: StepRef) -> StepRow | None:
        """Return the latest attempt of the step, if there is one."""
        return self.steps.get((step, self.n_attempts.get(step, 0)))


def evolve(state: RunState, fact: Fact) -> None:
    """Take the fact into the state.

    Raises:
        JournalCorrupt: no run can have such a history.
    """
    if fact.version != state.version + 1:
        raise JournalCorrupt(
            f"run {state.run_id} goes on with version {fact.version} after {state.version}", run_id=state.run_id
        )
    state.version = fact.version
    state.run = evolve_run(state.run_id, state.run, fact)
    if isinstance(fact.event, StepChange):
        _change_attempt(state, fact)
    for step, lived_with in verdicts(fact):
        latest = state.latest(step)
        if latest is not None:
            state.steps[step, latest.attempt] = replace(latest, lived_with=lived_with)


def _change_attempt(state: RunState, fact: Fact) -> None:
    place = fact.step or StepRef(""), fact.attempt or 0
    row = evolve_step(state.run_id, state.steps.get(place), fact)
    if row is None:
        return
    state.steps[place] = row
    step, attempt = row.step, row.attempt
    if attempt > state.n_attempts.get(step, 0):
        state.n_attempts[step] = attempt
    before = state.steps.get((step, attempt - 1)) if attempt > 1 else None
    if before is not None and before.status is StepStatus.RETRYING:
        state.steps[step, attempt - 1] = replace(before, status=StepStatus.FAILED)


def verdicts(fact: Fact) -> list[tuple[StepRef, bool]]:
    """Return the failures that the fact proves the flow lived with (True), or did not survive (False)."""
    match fact.event:
        case StepCompleted():  # which half of all facts are
            return []
        case StepStarted(lived_with=steps):
            return [(step, True) for step in steps]
        case RunFailed(caused_by=steps):
            return [(step, False) for step in steps]
    return []


def fold(run_id: RunId, facts: Iterable[Fact]) -> RunState:
    """Return the state of the run after all of `facts`, which come in order of version.

    Raises:
        JournalCorrupt: no run can have such a history.
    """
    state = RunState(run_id)
    for fact in facts:
        evolve(state, fact)
    return state
