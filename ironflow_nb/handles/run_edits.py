"""Edits of runs: results given by hand, and taken back, whether the run has ended or goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, cast

from ironflow_nb.core.events import InjectionUndone
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import OWNED, RunKind, RunStatus, StepReason, StepStatus, derived_step_status
from ironflow_nb.errors import IronflowError, JournalConflict, NotAllowedInStep, NothingToDo, RunFinished
from ironflow_nb.execution import (
    REGISTRY,
    SCOPE,
    Engine,
    PendingEvent,
    RunStorage,
    StopRequest,
    injection,
    latest_injection,
    record_edit,
    say,
)
from ironflow_nb.handles.stop_requests import ask_to_stop
from ironflow_nb.history.lookup import resolve_step
from ironflow_nb.history.run_status import is_detached, run_and_status, wait_ended
from ironflow_nb.journal.ports import Reader, Select

MakeEdit = Callable[[RunRow, RunStatus, Reader], PendingEvent]

_EDITABLE: Final = frozenset({
    StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.UNKNOWN, StepStatus.WAITING,
    StepStatus.INTERRUPTED, StepStatus.RETRYING,
})  # fmt: skip


class _Searching(Protocol):
    """A definition with secrets: a graph."""

    def searched(self, storage: RunStorage) -> RunStorage:
        """Return a storage around that one which also searches for the secrets."""


def refuse_secrets_by_hand(engine: Engine, run_id: RunId, given: Mapping[str, object]) -> None:
    """Refuse to keep what is given to a run by hand, by its name in messages, if a secret of a graph is in it.

    It is one of the graph itself, or of one that has called the run, as far as this process knows it. An edit stays as
    it is, where a signal or an answer is searched when the run takes it.

    Raises:
        ValueNotStorable: there is one.
    """
    engine.flush()
    with engine.reading() as reader:
        runs, above = [], reader.runs(Select(run_ids=[run_id]))
        while above:
            runs += above
            parent = above[0].parent_run_id
            above = [] if parent is None else reader.runs(Select(run_ids=[parent]))
    storage = RunStorage(engine.codecs)
    for run in runs:
        if run.kind == RunKind.GRAPH:
            with suppress(IronflowError):  # one that can't be read here has no secrets here
                storage = cast("_Searching", REGISTRY.definition(run, engine)).searched(storage)
    for what, value in given.items():
        storage.refuse_secrets(f"{what} of run {run_id}", value)


def inject(engine: Engine, run_id: RunId, step: object, value: object, reason: str) -> None:
    """Give a step a result by hand; see `Run.inject`."""
    refuse_secrets_by_hand(engine, run_id, {"the result": value, "the reason": reason})

    def edit(run: RunRow, status: RunStatus, reader: Reader) -> PendingEvent:
        return injection(engine, reader, editable_step(reader, run, status, step), value, reason)

    found = _recorded(engine, run_id, edit)
    _say_type(engine, run_id, found)


def undo(engine: Engine, run_id: RunId, reason: str | None) -> None:
    """Take the latest result back that was given by hand; see `Run.undo`."""
    refuse_secrets_by_hand(engine, run_id, {"the reason": reason})

    def edit(run: RunRow, _status: RunStatus, reader: Reader) -> PendingEvent:
        found = latest_injection(engine, reader, run, reason)
        if found is None:
            raise NothingToDo(f"run {run_id} has no result that was given by hand, or all are undone", run_id=run_id)
        return found

    _recorded(engine, run_id, edit)


def editable_step(reader: Reader, run: RunRow, status: RunStatus, step: object) -> StepRow:
    """Return the latest attempt of a step that can be given a result.

    Raises:
        StepNotFound, AmbiguousStep: it names no step of the run, or several.
        NothingToDo: it is running, was skipped or undone, or is not begun.
    """
    rows = reader.steps(Select(run_ids=[run.run_id]))
    ref = resolve_step(rows, step, run.run_id)
    latest = [row for row in rows if row.step == ref][-1]
    if is_editable(latest, status):
        return latest
    now = derived_step_status(latest.status, status)
    advice = "wait for its end, or pause() the run" if now is StepStatus.RUNNING else "only what has run has a result"
    raise NothingToDo(
        f"{ref} of run {run.run_id} is {now.value}, and can't be given a result; {advice}", run_id=run.run_id
    )


def is_editable(latest: StepRow, status: RunStatus) -> bool:
    """Return True if a step with that latest attempt, in a run of that status, can be given a result."""
    return derived_step_status(latest.status, status) in _EDITABLE and latest.reason != StepReason.COMPENSATION


def _recorded(engine: Engine, run_id: RunId, make: MakeEdit) -> PendingEvent:
    """Record the edit. A run that goes on is paused before its next step, and continued with the edit."""
    scope, definition = SCOPE.get(), None
    if scope is not None:
        raise NotAllowedInStep("a run is edited from outside of flows and steps, not by one of them", name=run_id)
    while True:
        engine.flush()
        run, status = run_and_status(engine, run_id)
        if run is None:
            continue
        _refuse(engine, run, status)
        top, top_status = _top(engine, run)
        with engine.reading() as reader:
            make(run, status, reader)  # what can't be edited is refused before anything is paused
        if _goes_on(engine, top, top_status):
            definition = REGISTRY.definition(top, engine)
            ask_to_stop(engine, top.run_id, StopRequest.PAUSE)
            wait_ended(engine, top.run_id)
            continue
        try:
            edit = record_edit(engine, run, partial(make, run, status))
        except JournalConflict:  # another process has just continued it: look again
            continue
        if definition is not None and top_status in {RunStatus.PAUSED, RunStatus.COMPLETED}:
            definition.continue_run(engine, top)
        return edit


def _refuse(engine: Engine, run: RunRow, status: RunStatus) -> None:
    if run.kind not in {RunKind.FLOW, RunKind.GRAPH}:
        raise ValueError(f"run {run.run_id} is of {run.kind} {run.name}; results of flows and graphs can be edited")
    if status in {RunStatus.CANCELLED, RunStatus.COMPENSATING}:
        now = "was cancelled" if status is RunStatus.CANCELLED else "is being undone"
        raise RunFinished(f"run {run.run_id} {now}, so nothing continues it with an edit", run_id=run.run_id)
    with engine.reading() as reader:
        engine.access.refuse_foreign(reader, run)


def _top(engine: Engine, run: RunRow) -> tuple[RunRow, RunStatus]:
    """Return the run that is no child and that this one is a part of, with its status."""
    status = run_and_status(engine, run.run_id)[1]
    while run.parent_run_id is not None:
        parent, parent_status = run_and_status(engine, run.parent_run_id)
        if parent is None:
            break
        run, status = parent, parent_status
    return run, status


def _goes_on(engine: Engine, run: RunRow, status: RunStatus) -> bool:
    return status in OWNED and not (status is RunStatus.PENDING and is_detached(engine, run.run_id))


def _say_type(engine: Engine, run_id: RunId, edit: PendingEvent) -> None:
    """Say that the result is of another type than the one before it."""
    event = edit.event
    if isinstance(event, InjectionUndone) or not hasattr(event, "old") or event.old is None:
        return
    with engine.reading() as reader:
        rows = reader.steps(Select(run_ids=[run_id]))
        before = [row for row in rows if row.step == edit.step and row.output_id == event.old]
        old = reader.values([event.old], of=[row.row_key for row in before]).get(event.old) if before else None
    new = edit.values[-1]
    if old is not None and old.type_name != new.type_name:
        say(f"run {run_id}: {edit.step} was {old.type_name} and is {new.type_name} now")
