"""Compensation: when a run has failed for good, its steps and those of its children are undone, the newest first.

All of it is read from the journal, so any process that knows the undos goes on with it after a death. Each undo is a
step of the failed run, told apart by the attempt that it undoes; that attempt is marked in the same commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import CompensationRegistered, CompensationStarted, StepCompensated
from ironflow_nb.core.identity import ROOT_BRANCH, Digest, RunId, StepRef, step_identity
from ironflow_nb.core.plain_text import are
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus
from ironflow_nb.errors import (
    CodeChanged,
    FlowNotDefined,
    IronflowError,
    JournalConflict,
    JournalError,
    OutcomeUnknown,
    RunFailed,
    RunInterrupted,
    ValueUnreadable,
)
from ironflow_nb.execution.definitions.step_spec import StepSpec, undo_spec
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.runs.continuation_plan import is_owned
from ironflow_nb.execution.session.attempts import FAILED_STEP, Attempt, StepCall, Undone, steps_behind
from ironflow_nb.execution.session.replay import Replayer
from ironflow_nb.execution.session.run_phase import RunStopped, StopRequest
from ironflow_nb.execution.session.run_writer import RunWriter
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.undos import Compensation, Registration, UndoKey
from ironflow_nb.execution.steps.context import RunContext
from ironflow_nb.execution.steps.drivers import Driver
from ironflow_nb.execution.steps.fan_out import Submission
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.journal.ports import Durability, Reader, Select
from ironflow_nb.values.failures import errors_in, recorded_error

_OPEN_ENDED: Final = (CodeChanged, OutcomeUnknown, ValueUnreadable, JournalError, RunInterrupted)
"""Errors after which a person has to decide or to repair something; then the run goes on, so nothing is undone."""

_ATTEMPTS: Final = 5
_NAMED: Final = 5


def is_final(session: Session, ended: BaseException) -> bool:
    """Return True if what the run did is to be undone after this failure or stop."""
    if session.replayer.is_check:
        return False
    if isinstance(ended, RunStopped):
        asked = ended.request
        return asked is StopRequest.TIMEOUT or (asked is StopRequest.CANCEL and session.compensates_on_cancel)
    is_open_ended = any(isinstance(each, _OPEN_ENDED) for each in errors_in(ended))
    return session.is_open and session.writer.fatal_error is None and not is_open_ended


def begin_compensation(engine: Engine, session: Session, error: BaseException | None) -> bool:
    """Begin the compensation of a run that failed of the error, or without one was cancelled; False without an undo."""
    if not session.undos.is_any and session.writer.row is not None and session.writer.row.n_sessions == 1:
        return False
    if not _Standing(engine, session.run_id).registrations:
        return False
    pending = PendingEvent(CompensationStarted())
    if error is not None:
        stored, causes = session.storage.store_failure(error), steps_behind(session.run_id, error)
        session.disown(causes)
        pending = PendingEvent(CompensationStarted(error=stored.value_id, caused_by=causes), values=[stored])
    session.compensate(pending, lambda: _memory(engine, session))
    return True


def _memory(engine: Engine, session: Session) -> Replayer:
    with engine.access.current() as reader:
        recorded = list(reader.attempts(session.run_id))
    return Replayer(engine.access, session.run_id, session.name, OnChange.KEEP, recorded)


def interrupted_compensation(reader: Reader, run: RunRow) -> Compensation | None:
    """Return the compensation of the run that an owner had begun and not ended."""
    if run.status is not RunStatus.COMPENSATING:
        return None
    latest = reader.events(Select(run_ids=[run.run_id], name=CompensationStarted.__name__, limit=1))[-1]
    return Compensation(latest.version, decode_as(CompensationStarted, latest.data))


def failure_to_end_with(engine: Engine, session: Session) -> BaseException:
    """Return the error that a run ends with whose compensation was interrupted: that of its failure, or its stop."""
    assert session.compensation is not None
    error_id = session.compensation.event.error
    if error_id is None:
        return RunStopped(StopRequest.CANCEL, "an earlier owner")
    stored = engine.access.value(error_id)
    if stored is None:
        return RunFailed(f"run {session.run_id} of {session.name} failed; its error is missing", run_id=session.run_id)
    return recorded_error(stored, engine.signer, where=f"run {session.run_id}")


async def undo_all(driver: Driver, engine: Engine, session: Session) -> str:
    """Undo everything that was not undone yet, the newest first; return in words what was undone.

    One that fails does not keep the others from being undone.

    Raises:
        FlowNotDefined: an undo is not defined in this process. Nothing was undone by this call.
    """
    standing = _Standing(engine, session.run_id)
    specs = _specs(engine, session, standing.registrations)
    undone: list[str] = []
    left: list[str] = []
    for registration in reversed(standing.registrations):
        is_undone = await _undo(driver, engine, session, registration, specs[registration.key], standing)
        (undone if is_undone else left).append(str(registration))
    failed = f"; {_listed(left)} could not be undone" if left else ""
    return f"{_listed(undone)} {are(len(undone) or 1)} undone{failed}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED]) or 'nothing'}{more}"


async def _undo(
    driver: Driver, engine: Engine, session: Session, registration: Registration, spec: StepSpec, standing: _Standing
) -> bool:
    """Undo one attempt; return False if that failed, now or before."""
    row = registration.row
    try:
        arguments = _arguments(engine, session, registration)
    except ValueUnreadable as error:
        spec, arguments = spec.performed_by(_raising(error), may_retry=lambda _: False), {}
    identity = step_identity(f"undo {row.run_id} {row.step} {row.attempt}", Digest(b""))
    call = StepCall(dict(arguments), *spec.parameters.positional(arguments), (identity, ROOT_BRANCH, 0), site="")
    undone = Undone(row, standing.of_run(row))
    asked = session.resolve_undo(spec, call, undone, continuation=session.replayer)
    if isinstance(asked, Attempt):
        submission = Submission(RunContext(session, continuation=session.replayer), asked, is_limited=False)
        await driver.wait(session, lambda: submission.is_finished() or submission.is_refused)
        session.raise_if_over()
        failure = submission.promise.error
        if failure is not None:
            if not hasattr(failure, FAILED_STEP):  # an interrupt in the undo itself, or the journal is gone
                raise failure
            logger().warning("run %s: %s could not be undone: %r", session.run_id, row.step, failure)
            return False
    elif asked.status is not StepStatus.COMPLETED:  # it was given up by an earlier owner
        return False
    standing.mark(engine, row, asked.step)
    return True


def _raising(error: BaseException) -> Callable[..., Any]:
    def undo(**_arguments: Any) -> Any:
        raise error

    return undo


def _arguments(engine: Engine, session: Session, registration: Registration) -> Mapping[str, Any]:
    live = session.undos.find(registration.key)[1]
    if live is not None:
        return live
    if registration.arguments is None:
        raise ValueUnreadable(
            f"what {registration.undo} needs to undo {registration.row.step} could not be stored, and the process that "
            "had it has ended; undo it by hand",
            run_id=registration.row.run_id,
            step=registration.row.step,
        )
    found: Mapping[str, Any] = engine.access.read(registration.arguments)
    return found


def _specs(engine: Engine, session: Session, registrations: Iterable[Registration]) -> dict[UndoKey, StepSpec]:
    """Return the undo of each attempt, as it is defined now.

    Raises:
        FlowNotDefined: one is not defined here.
    """
    found = {each.key: _spec(engine, session, each) for each in registrations}
    lacking = [each for each in registrations if found[each.key] is None]
    if lacking:
        _define(engine, {each.row.run_id for each in lacking})
        found |= {each.key: _spec(engine, session, each) for each in lacking}
    missing = dict.fromkeys(each.undo for each in lacking if found[each.key] is None)
    if missing:
        raise FlowNotDefined(
            f"run {session.run_id} of {session.name} has failed, and what it did is undone by {', '.join(missing)}, "
            "which is not defined here; run the cell or import the module that defines it, then "
            f'iron.resume("{session.run_id}")',
            run_id=session.run_id,
            name=session.name,
        )
    return {key: spec for key, spec in found.items() if spec is not None}


def _define(engine: Engine, run_ids: Collection[RunId]) -> None:
    """Have the definitions of the runs define their undos, those that only the journal has among them."""
    with engine.access.current() as reader:
        runs = reader.runs(Select(run_ids=run_ids))
    for run in runs:
        with suppress(FlowNotDefined):
            define = getattr(REGISTRY.definition(run, engine), "define_undos", None)
            if define is not None:
                define()


def _spec(engine: Engine, session: Session, registration: Registration) -> StepSpec | None:
    name = registration.undo
    known = session.undos.find(registration.key)[0] or REGISTRY.registered["undo"].get(name) or REGISTRY.step(name)
    if known is not None or registration.function is None:
        return known
    try:
        return undo_spec(engine.access.read(registration.function))
    except IronflowError:
        return None


class _Standing:
    """What a run and its children have done and not undone, the oldest first.

    A child that another process executes has not ended, and is left alone.
    """

    def __init__(self, engine: Engine, run_id: RunId) -> None:
        self._run_id = run_id
        self._ran: dict[RunId, StepRow] = {}
        self._is_marked: set[UndoKey] = set()
        rows: dict[UndoKey, StepRow] = {}
        with engine.access.current() as reader:
            left = [run_id]
            while left:
                found = reader.steps(Select(run_ids=left))
                rows |= {(row.run_id, row.step, row.attempt): row for row in found}
                children = {row.child_run_id: row for row in found if row.child_run_id and row.origin_run_id is None}
                left = _ended(engine, reader, [child for child in children if child not in self._ran])
                self._ran |= children
            noted = reader.events(Select(run_ids=[run_id, *self._ran], name=CompensationRegistered.__name__))
        self.registrations: list[Registration] = []
        for each in noted:
            row = rows.get((each.run_id, each.step or StepRef(""), each.attempt or 0))
            if row is not None and row.status is StepStatus.COMPLETED:
                event = decode_as(CompensationRegistered, each.data)
                self.registrations.append(Registration(row, event.undo, event.arguments, event.function))

    def of_run(self, row: StepRow) -> tuple[StepRow, ...]:
        """Return the attempt of the failed run itself that stands no more: this one, or the child that it is in."""
        return tuple(each for each in self._path(row) if each.run_id == self._run_id)

    def mark(self, engine: Engine, row: StepRow, by: StepRef) -> None:
        """Record in the children, too, that the attempt was undone by that step of the failed run."""
        for each in self._path(row):
            if each.run_id != self._run_id:
                _mark(engine, each, StepCompensated(by=by, by_run_id=self._run_id))
            self._is_marked.add((each.run_id, each.step, each.attempt))

    def _path(self, row: StepRow) -> list[StepRow]:
        """Return the attempt and the children around it, as far as they stand."""
        path = [row]
        while path[-1].run_id != self._run_id:
            path.append(self._ran[path[-1].run_id])
        return [
            each
            for each in path
            if each.status is StepStatus.COMPLETED and (each.run_id, each.step, each.attempt) not in self._is_marked
        ]


def _ended(engine: Engine, reader: Reader, run_ids: Iterable[RunId]) -> list[RunId]:
    runs = reader.runs(Select(run_ids=list(run_ids)))
    return [run.run_id for run in runs if run.status not in OWNED or not is_owned(engine, reader, run)]


def _mark(engine: Engine, row: StepRow, event: StepCompensated) -> None:
    """Add the event to the run of the attempt, which nobody executes."""
    for n_left in reversed(range(_ATTEMPTS)):
        with engine.access.current() as reader:
            head, run = reader.head(row.run_id), reader.runs(Select(run_ids=[row.run_id]))[0]
        assert head is not None
        writer = RunWriter(engine.access, row.run_id, Durability(run.durability))
        writer.go_on_after(*head, run)
        try:
            writer.commit(PendingEvent(event, row.step, row.attempt, row))
        except JournalConflict:
            if not n_left:
                raise
        else:
            return
