"""The tables of the journal: the structs that stand for their rows, and the statements that write them.

Small inputs and outputs of a run, or of an attempt of a step, lie in its row; these columns are null where the value
lies in the table of values. Plain JSON is text there, so that SQL can read it; any other value is a blob: a null byte,
a line that describes it, and its content.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec

from ironflow_nb.core.event_codec import encode_event
from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import Digest, RunId, ValueId
from ironflow_nb.core.run_state import RowKey, RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.errors import JournalCorrupt
from ironflow_nb.journal.ports import CachedResult, EventRow, Lease, QueueItem, Signal, SignalId, StoredDefinition
from ironflow_nb.journal.table import Table, columns, insert, json_list
from ironflow_nb.values.codecs import INPUTS, JSON
from ironflow_nb.values.stored_value import INLINE_LIMIT, StoredValue, value_id, verified_content

S = TypeVar("S", RunStatus, StepStatus)

VALUE_COLUMNS: Final = ("value_id", "codec", "data", "size", "type", "preview", "digest", "mac")
# Storing a value again repairs damaged content and replaces another user's signature.
PUT_VALUE: Final = (
    f"{insert('values', VALUE_COLUMNS, ['value_id'], update=['data', 'mac'])} "
    'WHERE "values".data IS NOT excluded.data OR "values".mac IS NOT excluded.mac'
)
SELECT_VALUES: Final = f'SELECT {columns(VALUE_COLUMNS)} FROM "values"'
EVENT_OF_VERSION: Final = (
    "SELECT run_id, version, at, type, step, attempt, data FROM events WHERE run_id = ? AND version = ?"
)
TAKE_SIGNAL: Final = "UPDATE signals SET taken_version = ? WHERE signal_id = ?"
END_CLAIM: Final = "DELETE FROM cached WHERE identity = ? AND code = ? AND run_id = ? AND owner = ?"
REMOVE_STEP: Final = 'DELETE FROM steps WHERE run_id = ? AND name = ? AND "index" = ? AND attempt = ?'
DONE_WORK: Final = "DELETE FROM work WHERE run_id = ? AND kind = ? AND key = ?"
SIGN_VALUE: Final = 'UPDATE "values" SET mac = ? WHERE value_id = ? AND codec = ?'

ROW_VALUES: Final = ("inputs", "output")
"""The columns; the id of each value is in the column with ``_id`` after the name."""

_SELECT_ROW_VALUES: Final = "SELECT inputs_id, output_id, CAST(inputs AS BLOB), CAST(output AS BLOB) FROM"
_KEYS_AT_ONCE: Final = 200  # of four parameters each
_VALUES_OF_RUNS: Final = f"{_SELECT_ROW_VALUES} runs WHERE run_id IN (SELECT value FROM json_each(?))"
_VALUES_OF_STEPS: Final = f"""{_SELECT_ROW_VALUES} (VALUES {{}}) k CROSS JOIN steps
    ON run_id = k.column1 AND name = k.column2 AND "index" = k.column3 AND attempt = k.column4"""

_CODECS: Final = {"inputs": INPUTS, "output": JSON}  # of the texts in these columns
_JSON_TYPES: Final = {b"{": "dict", b"[": "list", b'"': "str", b"t": "bool", b"f": "bool", b"n": "NoneType"}
_PLAIN_TYPES: Final = frozenset({INPUTS, "int", "float", *_JSON_TYPES.values()})
_DESCRIBED: Final = b"\0"
_ENCODER: Final = msgspec.json.Encoder()
_About = tuple[str, str, str | None, Digest | None]
_DECODER: Final = msgspec.json.Decoder(_About)

# To call an enum costs ten times as much, and a replay needs one status a step.
_STEP_STATUSES: Final = {status.value: status for status in StepStatus}
_RUN_STATUSES: Final = {status.value: status for status in RunStatus}
_STATUS, _STARTED_AT, _BRANCH, _DURATION, _LIVED_WITH = map(
    StepRow.__struct_fields__.index, ("status", "started_at", "branch", "duration_s", "lived_with")
)
_DURATIONS: Final = frozenset({float, type(None)})


def event_values(run_id: RunId, recorded: RecordedEvent) -> tuple[Any, ...]:
    """Return the parameters of `EVENTS.put` for the event."""
    event_type, data = encode_event(recorded.event)
    return run_id, recorded.version, recorded.at, event_type, recorded.step, recorded.attempt, data


def completed_step(row: StepRow) -> tuple[Any, ...] | None:
    """Return the parameters of `PUT_COMPLETED_STEP`; None if the attempt has more to say than its result.

    sqlite3 looks for an adapter of each parameter that is None, a bool or bytes, but of no bytearray. With these nine
    the look took a twentieth of the processor time of a step.
    """
    inputs_id, output_id = row.inputs_id, row.output_id
    if output_id is None or inputs_id is None or _RARE(row) != _NOTHING_RARE:
        return None
    ids = bytearray(row.identity), bytearray(row.code), bytearray(inputs_id), bytearray(output_id)
    return *_OF_COMPLETED(row), *ids, +row.lived_with


def value_values(value: StoredValue) -> tuple[Any, ...]:
    """Return the parameters of `PUT_VALUE`. Large content is not among them: it lies in its file."""
    content = value.content if value.size < INLINE_LIMIT else None
    return value.value_id, value.codec, content, value.size, value.type_name, value.preview, value.digest, value.mac


def row_value(stored: StoredValue) -> str | bytes:
    """Return the value as it stands in its row."""
    content = bytes(stored.content or b"")
    if stored.type_name in _PLAIN_TYPES and stored.preview is None and stored.digest is None:
        return content.decode()
    about: _About = (stored.codec, stored.type_name, stored.preview, stored.digest)
    return b"%b%b\n%b" % (_DESCRIBED, _ENCODER.encode(about), content)


def plain_as_text(found: object) -> object:
    """Return the content of a column of `ROW_VALUES` as `row_value` gives it: plain JSON as text."""
    return found.decode() if isinstance(found, bytes) and found[:1] != _DESCRIBED else found


def stored_in_row(key: ValueId, column: str, found: bytes) -> StoredValue:
    """Return the value of that id from its column, which was read as a blob."""
    codec, content, preview, digest = _CODECS[column], found, None, None
    type_name = INPUTS if codec == INPUTS else _JSON_TYPES.get(found[:1]) or _number(found)
    if found[:1] == _DESCRIBED:
        line, _, content = found[1:].partition(b"\n")
        with suppress(msgspec.MsgspecError):  # then the content does not fit its id either
            codec, type_name, preview, digest = _DECODER.decode(line)
    content_id = value_id(codec, content)
    stored = StoredValue(key, codec, content, len(content), type_name, preview, digest)
    return stored if content_id == key else verified_content(stored, content_id)


def _number(content: bytes) -> str:
    """Return the type of a number of which the row has only the text."""
    return "int" if content.lstrip(b"-").isdigit() else "float"


def row_queries(keys: Collection[RowKey]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield queries for the values in these rows, with their parameters."""
    of_runs = [key[0] for key in keys if not key[-1]]
    if of_runs:
        yield _VALUES_OF_RUNS, (json_list(of_runs),)
    of_steps = [key for key in keys if key[-1]]
    for start in range(0, len(of_steps), _KEYS_AT_ONCE):
        chunk = of_steps[start : start + _KEYS_AT_ONCE]
        marks = ", ".join(["(?, ?, ?, ?)"] * len(chunk))
        yield _VALUES_OF_STEPS.format(marks), [*chain.from_iterable(chunk)]


def step_status(run_id: str, text: str) -> StepStatus:
    """Return the status of a step that the text stands for."""
    return _STEP_STATUSES.get(text) or _status(StepStatus, run_id, text, "a step")


def _status(kind: type[S], run_id: str, text: str, which: str) -> S:
    try:
        return kind(text)
    except ValueError:
        what = f"run {run_id} has {which} with the status {text!r}, which the package never wrote"
        raise JournalCorrupt(f"{what}; put the journal back from a copy", run_id=run_id) from None


def _run(row: tuple[Any, ...]) -> RunRow:
    """Return the run that a row of the table stands for."""
    fields = dict(zip(RunRow.__struct_fields__, row, strict=True))
    status = fields["status"]
    fields["status"] = _RUN_STATUSES.get(status) or _status(RunStatus, fields["run_id"], status, "a row")
    return RunRow(**fields)


def _step(row: tuple[Any, ...]) -> StepRow:
    """Return the attempt that a row of the table stands for."""
    status = _STEP_STATUSES.get(row[_STATUS]) or _status(StepStatus, row[0], row[_STATUS], f"step {row[1]}")
    # A column of SQLite holds values of any type.
    if type(row[_STARTED_AT]) is not int or type(row[_BRANCH]) is not str or type(row[_DURATION]) not in _DURATIONS:
        what = f"run {row[0]} has step {row[1]} with columns that the package never wrote"
        raise JournalCorrupt(f"{what}; put the journal back from a copy", run_id=row[0])
    fields = list(row)
    fields[_STATUS], fields[_LIVED_WITH] = status, bool(row[_LIVED_WITH])
    return StepRow(*fields)


def run_change(before: RunRow, after: RunRow, values: Sequence[str | bytes | None]) -> tuple[str, list[Any]] | None:
    """Return the statement that changes the columns in which two rows of a run differ, and its parameters.

    None if they do not differ. `values` are the new contents of `ROW_VALUES`, as far as they are in the row.
    """
    changed: list[str] = []
    given: list[Any] = []
    for name, old, new in zip(RUNS.fields, RUNS.values(before), RUNS.values(after), strict=True):
        if new != old:
            changed.append(f'"{name}" = ?')
            given.append(new)
    for name, value in zip(ROW_VALUES, values, strict=True):
        if value is not None or f'"{name}_id" = ?' in changed:
            changed.append(f'"{name}" = ?')
            given.append(value)
    given.append(after.run_id)
    return (f"UPDATE runs SET {', '.join(changed)} WHERE run_id = ?", given) if changed else None


RUNS: Final = Table("runs", RunRow, ["run_id"], read=_run, beside=ROW_VALUES)
STEPS: Final = Table(
    "steps", StepRow, ["run_id", "name", "index", "attempt"], generated=["step"], read=_step, beside=ROW_VALUES
)
_RARE_COLUMNS: Final = ("error_id", "due_at", "child_run_id", "origin_run_id")
_ID_COLUMNS: Final = ("identity", "code", "inputs_id", "output_id", "lived_with")
_RARE: Final = attrgetter(*_RARE_COLUMNS)
_NOTHING_RARE: Final = (None,) * len(_RARE_COLUMNS)
_COMPLETED_COLUMNS: Final = [name for name in STEPS.written if name not in {*_RARE_COLUMNS, *_ID_COLUMNS}]
_OF_COMPLETED: Final = attrgetter(*("status._value_" if name == "status" else name for name in _COMPLETED_COLUMNS))
# The columns that are left out become null, also in a row that is there.
PUT_COMPLETED_STEP: Final = insert(
    "steps", [*_COMPLETED_COLUMNS, *_ID_COLUMNS], STEPS.key, update=STEPS.written[len(STEPS.key) :], beside=ROW_VALUES
)
EVENTS: Final = Table("events", EventRow, generated=["position"], read=lambda row: EventRow(*row))
# A newer diagram knows names that did not exist at the first run of the flow.
DEFINITIONS: Final = Table("definitions", StoredDefinition, ["definition_id"], update=["source", "diagram"])
LEASES: Final = Table("leases", Lease, ["owner"])
SIGNALS: Final = Table("signals", Signal, generated=["signal_id"])
SIGNAL_IDS: Final = Table("signal_ids", SignalId)
CACHED: Final = Table("cached", CachedResult, ["identity", "code"])
WORK: Final = Table("work", QueueItem, ["run_id", "kind", "key"], generated=["work_id"])
