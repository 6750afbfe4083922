"""Forks: a new run that goes on from a moment of another one, with other results or arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, cast

from ironflow_nb.core.events import OutputInjected, RecordedEvent, RunCancelled
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.moments import Moment
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow, evolve_run
from ironflow_nb.core.status import RunKind, RunStatus, StepStatus
from ironflow_nb.errors import JournalConflict, NotAllowedInStep, NothingToDo, OutcomeUnknown
from ironflow_nb.execution import REGISTRY, SCOPE, Engine, Fork, GivenResult, injection
from ironflow_nb.handles.run_edits import refuse_secrets_by_hand
from ironflow_nb.handles.snapshot import Snapshot, snapshot_of
from ironflow_nb.history.lookup import resolve_step
from ironflow_nb.history.recorded_values import recorded_arguments
from ironflow_nb.history.run_history import RunHistory
from ironflow_nb.journal.ports import Reader, RunCommit, Select
from ironflow_nb.retention.exported_run import export_run
from ironflow_nb.retention.imported_run import import_run


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


def copy_for_fork(
    engine: Engine, history: RunHistory, at: Moment | Snapshot | None, into: Engine
) -> tuple[RunHistory, int]:
    """Copy the run into another journal, unless it is there; return its history there, and the version of the moment.

    The copy goes on nowhere: one of a run that has not ended is cancelled.

    Raises:
        JournalConflict: the run is there already, and had not come so far when it was copied; or it was deleted there.
    """
    if not isinstance(into, Engine):
        raise TypeError(f"into= is an engine, with iron.open(path) as other: run.fork(into=other), and not {into!r}")
    engine.flush()
    version = snapshot_of(engine, history, at, None).version
    with into.reading() as reader:
        head = reader.head(history.run_id)
    if head is None:
        with TemporaryDirectory(prefix="ironflow-fork-") as folder:
            path = Path(folder) / "run.ironflow"
            export_run(engine, history.run_id, path)
            import_run(into, path, is_idle=True)
        _cancel_copy(engine, into, history.run_id)
    elif head[0] < version:
        raise JournalConflict(
            f"run {history.run_id} was copied into {into.journal.location} when it was at version {head[0]}, and a "
            f"fork at version {version} needs more of it; fork into a journal without that copy",
            run_id=history.run_id,
        )
    return RunHistory(into, history.run_id), version


def _cancel_copy(engine: Engine, into: Engine, run_id: RunId) -> None:
    with into.reading() as reader:
        [run] = reader.runs(Select(run_ids=[run_id]))
        head = reader.head(run_id)
    assert head is not None
    if run.status in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}:
        return
    cancelled = RunCancelled(reason=f"it is a copy for a fork; the run itself is in {engine.journal.location}")
    recorded = RecordedEvent(head[0] + 1, max(into.clock.now(), head[1]), cancelled)
    row = evolve_run(run_id, run, recorded)
    into.access.append([RunCommit(run_id=run_id, events=(recorded,), run=row)], into.durability)


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
