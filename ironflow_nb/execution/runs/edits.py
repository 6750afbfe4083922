"""Edits of runs that nobody executes: results that are given by hand, and taken back."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import msgspec

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import ChildEdited, InjectionUndone, OutputInjected, RecordedEvent
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.run_state import RunRow, StepRow, evolve_step
from ironflow_nb.core.wait_rules import parse_work_key
from ironflow_nb.errors import JournalConflict
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recording.journal_access import PendingEvent, RunStorage
from ironflow_nb.execution.runs.continuation_plan import is_owned
from ironflow_nb.execution.runs.idle_runs import refuse_changed
from ironflow_nb.execution.system.process_identity import ACTOR
from ironflow_nb.journal.ports import Durability, Reader, RunCommit, Select


def injection(engine: Engine, reader: Reader, row: StepRow, value: object, reason: str) -> PendingEvent:
    """Return the edit by which the step, whose latest attempt is given, has that result.

    Raises:
        ValueNotStorable: no codec takes the value.
    """
    values = RunStorage(engine.codecs).encode_result(value).values
    event = OutputInjected(
        output=values[-1].value_id, reason=reason, name=row.name, index=row.index, identity=row.identity,
        branch=row.branch, nth=row.nth, old=row.output_id or row.error_id, edited_by=_editor(engine),
        site=_site(reader, row),
    )  # fmt: skip
    return PendingEvent(event, row.step, row.attempt + 1, values=values)


def latest_injection(engine: Engine, reader: Reader, run: RunRow, reason: str | None) -> PendingEvent | None:
    """Return the edit that takes back the latest result given by hand in the run; None if there is none."""
    edits = [
        (row.version, row.step, row.attempt, kind is OutputInjected)
        for kind in (OutputInjected, InjectionUndone)
        for row in reader.events(Select(run_ids=[run.run_id], name=kind.__name__))
    ]
    stands: dict[tuple[StepRef | None, int | None], int] = {}
    for version, step, attempt, is_given in sorted(edits):
        stands.pop((step, attempt), None)
        if is_given:
            stands[step, attempt] = version
    if not stands:
        return None
    (step, attempt), version = list(stands.items())[-1]
    [given] = reader.events(Select(run_ids=[run.run_id], after_version=version - 1, until_version=version))
    event = decode_as(OutputInjected, given.data)
    undone = InjectionUndone(reason=reason, output=event.output, old=event.old, edited_by=_editor(engine))
    rows = reader.steps(Select(run_ids=[run.run_id], name=event.name))
    before = next(row for row in rows if (row.step, row.attempt) == (step, attempt))
    return PendingEvent(undone, step, attempt, before)


def record_edit(engine: Engine, run: RunRow, make: Callable[[Reader], PendingEvent]) -> PendingEvent:
    """Record an edit of a run that nobody executes, and in the runs above it that a child was edited, at once.

    That the next version of each is free proves that nobody works on it, or has edited it since `make` looked.

    Raises:
        JournalConflict: somebody does, or has.
    """
    session = engine.sessions.get(run.run_id)
    with nullcontext() if session is None else session.lock:
        if session is not None:
            session.flush()
        with engine.access.current() as reader:
            refuse_changed(reader, run)
            told = [_next(engine, reader, each.run_id, event) for each, event in _above(engine, reader, run)]
            head = reader.head(run.run_id) or (0, 0)  # before the edit is made, because it is an event of this version
            edit = make(reader)
            commits = [_commit(engine, reader, run, edit, head), *told]
        engine.access.append(commits, Durability(run.durability))
        for commit in commits:  # bodies that an ended stretch has left behind still commit through its writer
            ended = engine.sessions.get(commit.run_id)
            if ended is not None and ended.writer.row is not None:
                last = commit.events[-1]
                ended.writer.go_on_after(last.version, last.at, ended.writer.row)
    return edit


def _commit(engine: Engine, reader: Reader, run: RunRow, edit: PendingEvent, head: tuple[int, int]) -> RunCommit:
    recorded = _recorded(engine, head, edit)
    row = evolve_step(run.run_id, edit.before, recorded)
    assert edit.step is not None
    waits = [item for item in reader.waits_of(run.run_id) if parse_work_key(item.key)[0] == edit.step]
    return RunCommit(
        run_id=run.run_id,
        events=(recorded,),
        steps=() if row is None else (row,),
        values=tuple(edit.values),  # not in the row, which goes when the edit is taken back
        done_work=tuple((item.kind, item.key) for item in waits),
        removed=() if edit.before is None else (edit.before.row_key,),
    )


def _above(engine: Engine, reader: Reader, run: RunRow) -> Iterator[tuple[RunRow, PendingEvent]]:
    """Yield the runs above the edited one with what they are told: the steps that are its runs run again.

    Raises:
        JournalConflict: somebody executes one of them, or the run itself.
    """
    while True:
        if is_owned(engine, reader, run):
            raise JournalConflict(f"somebody executes run {run.run_id}", run_id=run.run_id)
        parents = [] if run.parent_run_id is None else reader.runs(Select(run_ids=[run.parent_run_id]))
        if not parents:
            return
        yield parents[0], PendingEvent(ChildEdited(child_run_id=run.run_id), run.parent_step)
        [run] = parents


def _next(engine: Engine, reader: Reader, run_id: RunId, pending: PendingEvent) -> RunCommit:
    return RunCommit(run_id=run_id, events=(_recorded(engine, reader.head(run_id) or (0, 0), pending),))


def _recorded(engine: Engine, head: tuple[int, int], pending: PendingEvent) -> RecordedEvent:
    version, at = head
    return RecordedEvent(version + 1, max(engine.clock.now(), at), pending.event, pending.step, pending.attempt)


def _editor(engine: Engine) -> str:
    """Return who edits: for whom this process acts, else its user, if there is a name, and the owner of its runs."""
    actor = ACTOR.get()
    if actor is not None:
        return actor
    with suppress(OSError, KeyError, ImportError):
        return f"{getpass.getuser()} ({engine.owner})"
    return engine.owner


def _site(reader: Reader, row: StepRow) -> str:
    """Return where the attempt was called, so that the next one is shown at the same place."""
    began = reader.events(Select(run_ids=[row.run_id], after_version=row.version - 1, until_version=row.version))
    data: dict[str, Any] = msgspec.json.decode(began[0].data) if began else {}
    return str(data.get("site", ""))
