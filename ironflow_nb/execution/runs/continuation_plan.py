"""What a continuation of a run would do, found without doing any of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from ironflow_nb.core.events import RunContinued, SessionEnded, decode_as
from ironflow_nb.core.identity import Digest, StepRef
from ironflow_nb.core.plan import Action, Current, Planned, discarded, plan
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import StepStatus
from ironflow_nb.execution.definitions.step_spec import StepSpec, why_changed
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Reader, Select


def plan_of_run(reader: Reader, run: RunRow, on_change: OnChange) -> list[Planned]:
    """Return what would happen to each recorded step of the run, with the steps as they are defined here now."""
    return _planned(reader, run, [row for row, _ in reader.attempts(run.run_id)], on_change)


def plan_after(reader: Reader, run: RunRow, older: Callable[[], list[StepRow]], on_change: OnChange) -> list[Planned]:
    """Return the same for a run that is built on it, which has what the `older` runs completed, where one is edited."""
    rows = [row for row, _ in reader.attempts(run.run_id)]
    planned = _planned(reader, run, rows, on_change)
    is_edited = any(each.action in {Action.REDO, Action.STOP} for each in planned)
    return _planned(reader, run, rows, on_change, older()) if is_edited else planned


def plan_of_edits(reader: Reader, run: RunRow, rows: list[StepRow], on_change: OnChange) -> list[Planned]:
    """Return what would happen to each of the recorded steps, if the code of one is another now; else nothing."""
    code = {name: spec.code for name, spec in _specs(rows).items()}
    is_edited = any(row.code != code.get(row.name, row.code) for row in rows if row.status is StepStatus.COMPLETED)
    return _planned(reader, run, rows, on_change) if is_edited else []


def _specs(rows: list[StepRow]) -> dict[str, StepSpec]:
    return {name: spec for name in {row.name for row in rows} if (spec := REGISTRY.step(name)) is not None}


def _planned(
    reader: Reader, run: RunRow, rows: list[StepRow], on_change: OnChange, older: Sequence[StepRow] = ()
) -> list[Planned]:
    specs = _specs(rows)
    memo = RecordedSteps(rows, discarded=discarded(continuations(reader, run)))
    memo.learn_older(older)

    @cache  # thousands of steps of a map have one code
    def why(name: str, code: Digest) -> str:
        return why_changed(reader.definition, code, specs[name])

    return plan(memo, {name: _current(spec, rows) for name, spec in specs.items()}, on_change, why)


def _current(spec: StepSpec, rows: list[StepRow]) -> Current:
    tracked = spec.tracked
    recorded = {row.code for row in rows if row.name == spec.name}
    # Journals older than dependency tracking know only the function's own code.
    is_older = tracked.digest not in recorded and tracked.own in recorded
    return Current(tracked.own if is_older else tracked.digest, spec.once, spec.on_change)


def unused_steps(reader: Reader, run: RunRow) -> tuple[StepRef, ...]:
    """Return the recorded steps that the latest continuation of an ended run had no use for."""
    ends = reader.events(Select(run_ids=[run.run_id], name=SessionEnded.__name__)) if run.n_sessions > 1 else []
    return decode_as(SessionEnded, ends[-1].data).not_asked_for if ends else ()


def continuations(reader: Reader, run: RunRow) -> list[tuple[int, RunContinued]]:
    """Return how the run was continued, with versions, oldest first."""
    if run.n_sessions == 1:
        return []
    rows = reader.events(Select(run_ids=[run.run_id], name=RunContinued.__name__))
    return [(row.version, decode_as(RunContinued, row.data)) for row in rows]
