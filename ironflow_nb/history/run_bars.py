"""The bars of a timeline, read from the journal: when each attempt of a run began, and when its work ended."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import RunAdmitted, RunContinued, RunInterrupted, RunQueued, StepQueued
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import OWNED, RunStatus, StepReason, StepStatus, derived_step_status
from ironflow_nb.core.wait_rules import is_name_of_wait, is_shown
from ironflow_nb.diagram.gantt import CHILD, QUEUE, STEP, WAIT, Bar
from ironflow_nb.execution import Engine
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.ports import EventRow, Reader, Select

_TAKEN: Final = frozenset({StepReason.REUSED.value, StepReason.INJECTED.value})
_KINDS: Final = (StepQueued, RunQueued, RunAdmitted, RunContinued, RunInterrupted)

_EventsByKind: TypeAlias = Mapping[type, Sequence[EventRow]]


def bars_of(engine: Engine, reader: Reader, runs: Sequence[RunRow]) -> Iterator[Bar]:
    """Yield the bars of the runs, then those of the runs below them."""
    paths: dict[RunId, tuple[str, ...]] = {run.run_id: () for run in runs}
    while runs:
        ids, statuses = [run.run_id for run in runs], statuses_of(engine, reader, runs)
        steps = defaultdict[RunId, list[StepRow]](list)
        events: dict[type, dict[RunId, list[EventRow]]] = {kind: defaultdict(list) for kind in _KINDS}
        for row in reader.steps(Select(run_ids=ids)):
            steps[row.run_id].append(row)
        for kind in _KINDS:
            for event in reader.events(Select(run_ids=ids, name=kind.__name__)):
                events[kind][event.run_id].append(event)
        children = {}
        for run in runs:
            end = _known_end(engine, reader, run, statuses[run.run_id])
            of_run = {kind: found[run.run_id] for kind, found in events.items()}
            yield from _RunBars(run, statuses[run.run_id], steps[run.run_id], of_run, end).all(paths[run.run_id])
            for row in steps[run.run_id]:
                if row.child_run_id is not None and not _is_taken(row) and row.child_run_id not in paths:
                    children[row.child_run_id] = (*paths[run.run_id], row.name)
        paths |= children
        runs = reader.runs(Select(run_ids=list(children))) if children else []


def _known_end(engine: Engine, reader: Reader, run: RunRow, status: RunStatus) -> int:
    """Return the time up to which the run has come: now, its end, or the last heartbeat of its dead owner, if any."""
    if status in OWNED:
        return engine.clock.now()
    lease = None if run.owner is None else reader.leases().get(run.owner)
    return run.ended_at or (0 if lease is None else lease.heartbeat_at)


def _is_taken(row: StepRow) -> bool:
    """Return True if the attempt did no work in this run: its result was taken over or given, or it was skipped."""
    return row.reason in _TAKEN or row.origin_run_id is not None or row.status is StepStatus.SKIPPED


class _RunBars:
    """The bars of one run. An attempt whose process died has no recorded end: it ends with the last sign of that."""

    def __init__(
        self, run: RunRow, status: RunStatus, steps: Sequence[StepRow], events: _EventsByKind, end: int
    ) -> None:
        self._run, self._status, self._steps, self._events = run, status, steps, events
        self._began = [event.version for event in events[RunContinued]]
        self._end = max(end, self._last_sign(len(self._began)))

    def all(self, path: tuple[str, ...]) -> Iterator[Bar]:
        """Yield the bars: those of queues before the attempts that stood in them."""
        yield from self._queues_of_run(path)
        rows = {(row.step, row.attempt): row for row in self._steps if is_shown(row.name)}
        for event in self._events[StepQueued]:
            row = rows.get((event.step or StepRef(""), event.attempt or 0))
            if row is not None:
                until = self._until(row) if row.status is StepStatus.PENDING else row.started_at
                reason = decode_as(StepQueued, event.data).waits_for
                yield self._queue(row.step, row.attempt, reason, event.at, until, (*path, row.name))
        for row in rows.values():
            if row.status is not StepStatus.PENDING:
                yield self._bar(row, (*path, row.name))

    def _queues_of_run(self, path: tuple[str, ...]) -> Iterator[Bar]:
        admitted = [event.at for event in self._events[RunAdmitted]]
        for event in self._events[RunQueued]:
            until = next((at for at in admitted if at >= event.at), self._end)
            reason = decode_as(RunQueued, event.data).waits_for
            yield self._queue(StepRef(""), 1, reason, event.at, until, (*path, ""))

    def _queue(self, step: StepRef, attempt: int, reason: str, began: int, until: int, path: tuple[str, ...]) -> Bar:
        is_over = until < self._end or self._status not in OWNED
        status = StepStatus.COMPLETED if is_over else StepStatus.PENDING
        finished_at = until if is_over else None
        return Bar(self._run.run_id, step, attempt, QUEUE, status, reason, began, finished_at, max(until, began), path)

    def _bar(self, row: StepRow, path: tuple[str, ...]) -> Bar:
        kind = CHILD if row.child_run_id is not None else WAIT if is_name_of_wait(row.name) else STEP
        is_left_behind = row.finished_at is None and self._stretch(row) < len(self._began)
        is_interrupted = is_left_behind and row.status is StepStatus.RUNNING
        status = StepStatus.INTERRUPTED if is_interrupted else derived_step_status(row.status, self._status)
        return Bar(
            row.run_id, row.step, row.attempt, kind, status, row.reason, row.started_at, row.finished_at,
            max(self._until(row), row.started_at), path,
            is_taken=_is_taken(row),
        )  # fmt: skip

    def _until(self, row: StepRow) -> int:
        """Return when the work of the attempt ended; its record was written after that, with those of others."""
        if row.finished_at is None:
            stretch = self._stretch(row)
            return self._end if stretch == len(self._began) else self._last_sign(stretch)
        took = row.finished_at - row.started_at if row.duration_s is None else round(row.duration_s * 1e6)
        return min(row.finished_at, row.started_at + took)

    def _stretch(self, row: StepRow) -> int:
        """Return the number of the continuation that the attempt belongs to; an open wait goes on in the last."""
        goes_on = row.status is StepStatus.WAITING
        return len(self._began) if goes_on else bisect_right(self._began, row.version)

    def _last_sign(self, stretch: int) -> int:
        """Return when the continuation of that number was last known to be at work."""
        following = [*self._events[RunContinued], None][stretch]
        for event in self._events[RunInterrupted]:
            if bisect_right(self._began, event.version) == stretch:
                return event.at
        rows = (each for each in self._steps if not _is_taken(each))
        known = (each for each in rows if following is None or each.version < following.version)
        signs = (sign for each in known for sign in (each.started_at, each.finished_at) if sign is not None)
        return max((sign for sign in signs if following is None or sign <= following.at), default=self._run.started_at)
