"""Histories for journals: runs written fact by fact, as an engine would write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ironflow_nb.core.event_codec import decode_event
from ironflow_nb.core.events import RecordedEvent, RunEvent, RunStarted, StepCompleted, StepFailed, StepStarted
from ironflow_nb.core.identity import BranchId, Digest, RunId, StepRef, ValueId, step_ref
from ironflow_nb.core.run_state import RunRow, RunState, StepRow, evolve, fold
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.journal.ports import (
    CallKey,
    EventColumns,
    EventRow,
    Lease,
    Reader,
    RunCommit,
    Select,
    StoredDefinition,
)
from ironflow_nb.values.stored_value import StoredValue, value_id

A, B, C, D = (RunId(text) for text in ("0000000000aa", "0000000000bb", "00000cc00000", "zzzzzzzzzzzz"))
STRANGER = RunId("5555555555ss")


def digest(number: int) -> Digest:
    return Digest(b"\x01" + bytes([number]) * 19)


def value(content: bytes, *, codec: str = "tagged", mac: bytes | None = None, preview: str = "a value") -> StoredValue:
    size = len(content)
    return StoredValue(
        value_id(codec, content), codec, content, size, "builtins.bytes", preview, digest(size % 256), mac
    )


def lease(owner: str, *, heartbeat_at: int = 7) -> Lease:
    return Lease(
        owner=owner, host="a host", pid=12, process_started_at="boot/3", heartbeat_at=heartbeat_at, lease_s=15.5
    )


def definition(number: int = 1, *, source: str = "def f(): ...", diagram: str = "{}") -> StoredDefinition:
    return StoredDefinition(definition_id=digest(number), kind="flow", name="pages.f", source=source, diagram=diagram)


class Author:
    """Writes the events of runs and hands them out as entries, with the rows that follow from them."""

    def __init__(self) -> None:
        self.states: dict[RunId, RunState] = {}
        self._events: dict[RunId, list[RecordedEvent]] = {}
        self._before: dict[RunId, dict[tuple[StepRef, int], StepRow]] = {}
        self.now = 1_700_000_000_000_000

    def note(
        self,
        run: RunId,
        event: RunEvent,
        *,
        step: StepRef | None = None,
        attempt: int | None = None,
        at: int | None = None,
    ) -> None:
        """Add the fact to the next entry of the run."""
        self.now = self.now + 1 if at is None else at
        state = self.states.setdefault(run, RunState(run))
        self._before.setdefault(run, dict(state.steps))
        fact = RecordedEvent(state.version + 1, self.now, event, step, attempt)
        evolve(state, fact)
        self._events.setdefault(run, []).append(fact)

    def start(self, run: RunId, *, at: int | None = None, **given: Any) -> None:
        usual: dict[str, Any] = {
            "kind": "flow",
            "name": "pages.report",
            "owner": "me",
            "durability": "process",
            "definition": digest(1),
            "inputs_digest": digest(2),
        }
        self.note(run, RunStarted(**{**usual, **given}), at=at)

    def begin_step(
        self, run: RunId, name: str, index: int = 0, attempt: int = 1, *, at: int | None = None, **given: Any
    ) -> None:
        event = StepStarted(name=name, index=index, identity=digest(3), code=digest(4), **given)
        self.note(run, event, step=step_ref(name, index), attempt=attempt, at=at)

    def complete_step(
        self, run: RunId, name: str, index: int = 0, attempt: int = 1, *, output: ValueId, duration_s: float = 0.5
    ) -> None:
        event = StepCompleted(output=output, duration_s=duration_s)
        self.note(run, event, step=step_ref(name, index), attempt=attempt)

    def fail_step(self, run: RunId, name: str, index: int = 0, attempt: int = 1, *, duration_s: float = 0.25) -> None:
        event = StepFailed(error=digest(9), duration_s=duration_s)
        self.note(run, event, step=step_ref(name, index), attempt=attempt)

    def entry(
        self,
        run: RunId,
        *,
        values: Sequence[StoredValue] = (),
        row_values: Sequence[StoredValue] = (),
        definition: StoredDefinition | None = None,
        taken: Sequence[int] = (),
    ) -> RunCommit:
        """Return all events of the run since its last entry, and what they changed."""
        state = self.states[run]
        before = self._before.pop(run, state.steps)
        changed = tuple(row for place, row in state.steps.items() if before.get(place) != row)
        events = tuple(self._events.pop(run, ()))
        return RunCommit(
            run_id=run,
            events=events,
            run=state.run,
            steps=changed,
            removed=tuple(row.row_key for place, row in before.items() if place not in state.steps),
            values=tuple(values),
            row_values=tuple(row_values),
            definitions=() if definition is None else (definition,),
            taken=tuple(taken),
        )


def one_run(run: RunId, **given: Any) -> RunCommit:
    """Return the entry of a run that has only begun."""
    author = Author()
    author.start(run, **given)
    return author.entry(run)


def folded(rows: Sequence[EventRow], run: RunId) -> RunState:
    """Return the state that the stored events of the run tell of."""
    return fold(
        run,
        (
            RecordedEvent(row.version, row.at, decode_event(row.type, row.data), row.step, row.attempt)
            for row in rows
            if row.run_id == run
        ),
    )


def whole(pieces: Iterable[EventColumns]) -> EventColumns:
    """Return the pieces as one."""
    kept = list(pieces)
    names = EventColumns.__struct_fields__
    return EventColumns(**{name: [value for piece in kept for value in getattr(piece, name)] for name in names})


def answers(reader: Reader, selects: Sequence[Select] = (Select(),)) -> dict[str, object]:
    """Return everything that the reader can tell."""
    everything = Select()
    runs = reader.runs(everything)
    events = reader.events(everything)
    ids = sorted({row.run_id for row in runs} | {row.run_id for row in events} | {A, B, C, D, STRANGER})
    value_ids = sorted(reader.value_ids("tagged") + reader.value_ids("pickle"))
    calls = [
        CallKey(kind=row.kind, name=row.name, inputs_digest=row.inputs_digest, ordinal=row.ordinal, execution=execution)
        for row in runs
        for execution in sorted({row.execution or "" for row in runs} | {"elsewhere"})
    ]
    return {
        "runs": [reader.runs(select) for select in selects],
        "steps": [reader.steps(select) for select in selects],
        "events": [reader.events(select) for select in selects],
        "event columns": [whole(reader.event_columns(select)) for select in selects],
        "keyed": {row.run_id: row.key and reader.run_by_key(row.kind, row.name, row.key) for row in runs},
        "joined": [reader.run_to_join(call) for call in calls],
        "tallies": reader.tallies(ids),
        "memos": {run: list(reader.attempts(run)) for run in ids},
        "heads": {run: reader.head(run) for run in ids},
        "value ids": value_ids,
        "values": [reader.values(value_ids, content_limit=limit) for limit in (None, 0, 3, 1024)],
        "values of runs": [values_of(reader, row) for row in runs],
        "values of steps": [values_of(reader, row, limit) for row in reader.steps(everything) for limit in (None, 3)],
        "definitions": [reader.definition(digest(number)) for number in range(8)],
        "signals": [reader.signals([run]) for run in ids] + [reader.signals(ids)],
        "leases": reader.leases(),
    }


def values_of(reader: Reader, row: RunRow | StepRow, limit: int | None = None) -> dict[ValueId, StoredValue]:
    """Return the inputs and the output of the row, as far as the reader finds them."""
    ids = [key for key in (row.inputs_id, row.output_id) if key is not None]
    return reader.values(ids, of=[row.row_key], content_limit=limit)


def full_run(run: RunId = A) -> RunRow:
    """Return a run whose every column has a value of its own."""
    return RunRow(
        run_id=run, kind="kind", name="näme", status=RunStatus.WAITING, started_at=1, updated_at=2**52,
        durability="power",
        inputs_digest=digest(10), definition_id=digest(11), key="key", inputs_id=value(b"i").value_id,
        output_id=value(b"o").value_id, error_id=value(b"e").value_id, ended_at=3, execution="cell", ordinal=4,
        notebook="n.ipynb", parent_run_id=B, parent_step=StepRef("p[1]"), origin_run_id=C, origin_position=5,
        owner="owner", n_sessions=6, session_version=1, n_reused=8,
    )  # fmt: skip


def full_step(run: RunId = A) -> StepRow:
    """Return an attempt whose every column has a value of its own."""
    return StepRow(
        run_id=run, step=StepRef("näme[12]"), name="näme", index=12, attempt=3, version=1, status=StepStatus.RETRYING,
        identity=digest(20), code=digest(21), started_at=4, branch=BranchId("a/1"), nth=5, reason="retried",
        inputs_id=value(b"si").value_id, output_id=value(b"so").value_id, error_id=value(b"se").value_id, finished_at=6,
        duration_s=0.1, due_at=7, lived_with=True, child_run_id=B, origin_run_id=C,
    )  # fmt: skip
