"""Rows of the journal file and the values that stand for them, and the statements that write them."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from ironflow_nb.core.events import Fact, encode_event, event_type
from ironflow_nb.core.ids import RunId
from ironflow_nb.core.rows import RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.errors import JournalCorrupt
from ironflow_nb.journal.ports import Cached, Definition, EventRow, Lease, Signal
from ironflow_nb.values.stored import INLINE_LIMIT, StoredValue, value_id

S = TypeVar("S", RunStatus, StepStatus)

_RUN: Final = RunRow.__struct_fields__
_STEP: Final = StepRow.__struct_fields__
_STATUS, _STARTED_AT, _BRANCH, _DURATION, _LIVED_WITH = map(
    _STEP.index, ("status", "started_at", "branch", "duration_s", "lived_with")
)
_WRITTEN_STEP: Final = tuple(name for name in _STEP if name != "step")  # SQLite makes it of name and index
_DURATIONS: Final = frozenset({float, type(None)})
_VALUE: Final = ("value_id", "codec", "data", "size", "type", "preview", "digest", "mac")


def columns(names: tuple[str, ...], table: str = "") -> str:
    """Return the columns as SQL; some are called like words of SQL."""
    return ", ".join(f'{table}"{name}"' for name in names)


def insert(table: str, names: tuple[str, ...], key: tuple[str, ...], *, update: tuple[str, ...] = ()) -> str:
    """Return the statement that adds a row, or changes those columns of the row that has its key."""
    marks = ", ".join("?" * len(names))
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in update)
    if not key:
        return f'INSERT INTO "{table}" ({columns(names)}) VALUES ({marks})'  # noqa: S608 -- made of names only
    conflict = f"ON CONFLICT ({columns(key)}) DO {f'UPDATE SET {changes}' if update else 'NOTHING'}"
    return f'INSERT INTO "{table}" ({columns(names)}) VALUES ({marks}) {conflict}'  # noqa: S608 -- made of names only


# A call of an enum costs ten times as much, and a replay makes one for every step.
_STEP_STATUSES: Final = {status.value: status for status in StepStatus}
_RUN_STATUSES: Final = {status.value: status for status in RunStatus}

RUN_COLUMNS: Final = columns(_RUN)
STEP_COLUMNS: Final = columns(_STEP, "s.")
VALUE_COLUMNS: Final = columns(_VALUE, "v.")
EVENT_COLUMNS: Final = columns(EventRow.__struct_fields__)
DEFINITION_COLUMNS: Final = columns(Definition.__struct_fields__)
LEASE_COLUMNS: Final = columns(Lease.__struct_fields__)

ADD_EVENT: Final = "INSERT INTO events (run_id, version, at, type, step, attempt, data) VALUES (?, ?, ?, ?, ?, ?, ?)"
EVENT_OF_VERSION: Final = (
    "SELECT run_id, version, at, type, step, attempt, data FROM events WHERE run_id = ? AND version = ?"
)
PUT_RUN: Final = insert("runs", _RUN, ("run_id",), update=_RUN[1:])
PUT_STEP: Final = insert(
    "steps", _WRITTEN_STEP, ("run_id", "name", "index", "attempt"), update=("version", *_WRITTEN_STEP[5:])
)
# Content that was damaged, and a signature that was another user's, are mended by storing the value again.
PUT_VALUE: Final = (
    f"{insert('values', _VALUE, ('value_id',), update=('data', 'mac'))} "
    "WHERE data IS NOT excluded.data OR mac IS NOT excluded.mac"
)
# Names that a flow could not see at its first run may exist by now; the newer diagram knows more.
PUT_DEFINITION: Final = insert(
    "definitions", Definition.__struct_fields__, ("definition_id",), update=("source", "diagram")
)
PUT_LEASE: Final = insert("leases", Lease.__struct_fields__, ("owner",), update=Lease.__struct_fields__[1:])
SIGNAL_COLUMNS: Final = columns(Signal.__struct_fields__)
SEND_SIGNAL: Final = "INSERT INTO signals (run_id, name, sent_at, sent_by, payload_id) VALUES (?, ?, ?, ?, ?)"
CACHED_COLUMNS: Final = columns(Cached.__struct_fields__)
PUT_CACHED: Final = insert(
    "cached", Cached.__struct_fields__, ("identity", "code"), update=Cached.__struct_fields__[2:]
)
GIVE_BACK: Final = "DELETE FROM cached WHERE identity = ? AND code = ? AND run_id = ? AND owner = ?"
SIGN_VALUE: Final = 'UPDATE "values" SET mac = ? WHERE value_id = ? AND codec = ?'


def sound(stored: StoredValue) -> StoredValue:
    """Return the value without its content if that is not what was once written."""
    is_sound = stored.content is not None and value_id(stored.codec, stored.content) == stored.value_id
    if is_sound:
        return stored
    trouble = "its content in the journal is missing or has other bytes than were written"
    return replace(stored, content=None, trouble=trouble)


def event_values(run_id: RunId, fact: Fact) -> tuple[Any, ...]:
    """Return the parameters of `ADD_EVENT`."""
    event = fact.event
    return run_id, fact.version, fact.at, event_type(event), fact.step, fact.attempt, encode_event(event)


def run_values(row: RunRow) -> tuple[Any, ...]:
    """Return the parameters of `PUT_RUN`."""
    return tuple(value.value if type(value) is RunStatus else value for value in _items(row))


def step_values(row: StepRow) -> tuple[Any, ...]:
    """Return the parameters of `PUT_STEP`."""
    return (
        row.run_id, row.name, row.index, row.attempt, row.version, row.status.value, row.identity, row.code,
        row.started_at, row.branch, row.nth, row.reason, row.inputs_id, row.output_id, row.error_id, row.finished_at,
        row.duration_s, row.due_at, row.lived_with, row.child_run_id, row.origin_run_id,
    )  # fmt: skip


def value_values(value: StoredValue) -> tuple[Any, ...]:
    """Return the parameters of `PUT_VALUE`; large content lies in its file."""
    content = value.content if value.size < INLINE_LIMIT else None
    return value.value_id, value.codec, content, value.size, value.type_name, value.preview, value.digest, value.mac


def definition_values(row: Definition) -> tuple[Any, ...]:
    """Return the parameters of `PUT_DEFINITION`."""
    return _items(row)


def lease_values(lease: Lease) -> tuple[Any, ...]:
    """Return the parameters of `PUT_LEASE`."""
    return _items(lease)


def signal_values(signal: Signal) -> tuple[Any, ...]:
    """Return the parameters of `SEND_SIGNAL`."""
    return signal.run_id, signal.name, signal.sent_at, signal.sent_by, signal.payload_id


def cached_values(row: Cached) -> tuple[Any, ...]:
    """Return the parameters of `PUT_CACHED`."""
    return _items(row)


def _items(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.__struct_fields__)


def step_status(run_id: str, text: str) -> StepStatus:
    """Return the status of a step of the run, as it was written."""
    return _STEP_STATUSES.get(text) or _status(StepStatus, run_id, text, "a step")


def _status(kind: type[S], run_id: str, text: str, which: str) -> S:
    try:
        return kind(text)
    except ValueError:
        what = f"run {run_id} has {which} with the status {text!r}, which the package never wrote"
        raise JournalCorrupt(f"{what}; put the journal back from a copy", run_id=run_id) from None


def run_row(row: tuple[Any, ...]) -> RunRow:
    """Return the run of a row of `RUN_COLUMNS`."""
    fields = dict(zip(_RUN, row, strict=True))
    status = fields["status"]
    fields["status"] = _RUN_STATUSES.get(status) or _status(RunStatus, fields["run_id"], status, "a row")
    return RunRow(**fields)


def step_row(row: tuple[Any, ...]) -> StepRow:
    """Return the attempt of a row of `STEP_COLUMNS`."""
    status = _STEP_STATUSES.get(row[_STATUS]) or _status(StepStatus, row[0], row[_STATUS], f"step {row[1]}")
    # SQLite keeps a value of any type in any column.
    if type(row[_STARTED_AT]) is not int or type(row[_BRANCH]) is not str or type(row[_DURATION]) not in _DURATIONS:
        what = f"run {row[0]} has step {row[1]} with columns that the package never wrote"
        raise JournalCorrupt(f"{what}; put the journal back from a copy", run_id=row[0])
    fields = list(row)
    fields[_STATUS], fields[_LIVED_WITH] = status, bool(row[_LIVED_WITH])
    return StepRow(*fields)


def value_row(row: tuple[Any, ...]) -> StoredValue:
    """Return the value of a row of `VALUE_COLUMNS`."""
    return StoredValue(*row)


def event_row(row: tuple[Any, ...]) -> EventRow:
    """Return the event of a row of `EVENT_COLUMNS`."""
    position, run_id, version, at, kind, step, attempt, data = row
    return EventRow(
        position=position, run_id=run_id, version=version, at=at, type=kind, step=step, attempt=attempt, data=data
    )
