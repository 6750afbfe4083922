"""Forks: a new run that goes on from a moment of another one, with other results or arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from ironflow_nb.core.events import OutputInjected
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.moments import Moment
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunKind, StepStatus
from ironflow_nb.errors import NotAllowedInStep, NothingToDo, OutcomeUnknown
from ironflow_nb.execution import REGISTRY, SCOPE, Engine, Fork, GivenResult, injection
from ironflow_nb.handles.run_edits import refuse_secrets_by_hand
from ironflow_nb.handles.snapshot import Snapshot, snapshot_of
from ironflow_nb.history.lookup import resolve_step
from ironflow_nb.history.recorded_values import recorded_arguments
from ironflow_nb.history.run_history import RunHistory
from ironflow_nb.journal.ports import Reader, Select


class ForkedDefinition(Protocol):
    """A definition whose runs can be forked: a flow or a graph."""

    def fork_run(self, engine: Engine, arguments: Mapping[str, Any], fork: Fork) -> RunId:
        """Begin the fork in the background with these arguments; return its id."""


def begin_fork(
    engine: Engine,
    history: RunHistory,
    at: Moment | Snapshot | None,
    replace: Mapping[Any, Any] | None,
    inputs: Mapping[str, Any] | None,
) -> RunId:
    """Begin a fork of the run in the background, and return its id; see `Run.fork`."""
    scope = SCOPE.get()
    if scope is not None:
        where = "a flow" if scope.step is None else f"{scope.step}, which is a step or an item of a map"
        raise NotAllowedInStep(
            f"run {history.run_id} can't be forked inside {where}: a continued run would fork it again; fork it from "
            "outside",
            name=history.run_id,
        )
    refuse_secrets_by_hand(
        engine, history.run_id, {"a result": list((replace or {}).values()), "the arguments": inputs}
    )
    moment = snapshot_of(engine, history, at, None)
    with engine.reading() as reader:
        [run] = reader.runs(Select(run_ids=[history.run_id]))
        if run.kind not in {RunKind.FLOW, RunKind.GRAPH}:
            raise ValueError(f"run {run.run_id} is of {run.kind} {run.name}; runs of flows and graphs can be forked")
        engine.access.refuse_foreign(reader, run)
        _refuse_unknown(reader, moment)
        results = [_result(engine, reader, run, step, value) for step, value in (replace or {}).items()]
    definition = cast("ForkedDefinition", REGISTRY.definition(run, engine))
    arguments = _arguments(engine, run, inputs or {})
    return definition.fork_run(engine, arguments, Fork(run, moment.position, results))


def _refuse_unknown(reader: Reader, moment: Snapshot) -> None:
    """Refuse a moment at which a step that runs once was running, if its outcome is still unknown."""
    begun = moment.steps_of(StepStatus.UNKNOWN)
    now = reader.steps(Select(run_ids=[moment.run_id])) if begun else []
    for ref in begun - {row.step for row in now if row.status is StepStatus.COMPLETED}:
        raise OutcomeUnknown(
            f"{ref} runs once and was at work at version {moment.version} of run {moment.run_id}, and its outcome is "
            f'not known; fork at an earlier moment, or say what it was: run.inject("{ref}", ..., reason=...)',
            run_id=moment.run_id,
            step=ref,
        )


def _result(engine: Engine, reader: Reader, run: RunRow, step: object, value: object) -> GivenResult:
    """Return the result with which the fork begins in place of what its origin has, then or later."""
    rows = reader.steps(Select(run_ids=[run.run_id]))
    ref = resolve_step(rows, step, run.run_id)
    latest = [row for row in rows if row.step == ref][-1]
    if latest.status is StepStatus.SKIPPED:
        raise NothingToDo(f"{ref} of run {run.run_id} was skipped, and has no result to replace", run_id=run.run_id)
    given = injection(engine, reader, latest, value, f"fork of run {run.run_id}")
    assert isinstance(given.event, OutputInjected)
    return GivenResult(given.event, ref, given.values)


def _arguments(engine: Engine, run: RunRow, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recorded arguments with the new ones.

    Raises:
        TypeError: the flow has no parameter of such a name.
        InputsNotStored, ValueUnreadable: the recorded ones can't be read here.
    """
    arguments = recorded_arguments(engine, run)
    if run.kind == RunKind.GRAPH:
        return {"input": {**(arguments.get("input") or {}), **inputs}}
    unknown = inputs.keys() - arguments.keys()
    if unknown:
        names = plain(", ".join(sorted(map(str, unknown))))
        raise TypeError(f"{run.name} was called with {', '.join(arguments) or 'no arguments'}, and not with {names}")
    return {**arguments, **inputs}
