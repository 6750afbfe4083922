"""Events as columns, from which frames of many events are made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ironflow_nb.journal.ports import EventColumns, EventRow

# SQLite joins each column to one text with this character, which no event contains; a damaged one that does is noticed.
SEPARATOR: Final = "\x1f"

COLUMNS_OF_PIECE: Final = f"""
count(*), group_concat(run_id, '{SEPARATOR}'), group_concat(position), group_concat(version), group_concat(at),
group_concat(type, '{SEPARATOR}'), group_concat(ifnull(step, ''), '{SEPARATOR}'),
group_concat(ifnull(attempt, 'null')), CAST(group_concat(data) AS BLOB)
"""

_DATA: Final = msgspec.json.Decoder(dict[str, Any])
_ALL_DATA: Final[msgspec.json.Decoder[list[dict[str, Any] | None]]] = msgspec.json.Decoder(list[dict[str, Any]])
_INTEGERS: Final = msgspec.json.Decoder(list[int])
_ATTEMPTS: Final = msgspec.json.Decoder(list[int | None])


def event_data(text: str | bytes) -> dict[str, Any] | None:
    """Return the fields of an event, or None if they are damaged."""
    try:
        return _DATA.decode(text)
    except (msgspec.MsgspecError, TypeError, UnicodeError):
        return None


def columns_of(rows: Iterable[EventRow]) -> EventColumns:
    """Return the events as columns."""
    columns: dict[str, list[Any]] = {name: [] for name in EventColumns.__struct_fields__}
    for row in rows:
        for name, column in columns.items():
            column.append(getattr(row, name))
    columns["data"] = [event_data(text) for text in columns["data"]]
    return EventColumns(**columns)


def columns_of_piece(piece: tuple[Any, ...]) -> EventColumns | None:
    """Return the events in a row of `COLUMNS_OF_PIECE`, or None if one of them is damaged."""
    n_events, run_id, position, version, at, kind, step, attempt, data = piece
    if not n_events:
        return columns_of(())
    try:
        columns = EventColumns(
            run_id=run_id.split(SEPARATOR),
            position=_INTEGERS.decode(f"[{position}]"),
            version=_INTEGERS.decode(f"[{version}]"),
            at=_INTEGERS.decode(f"[{at}]"),
            type=kind.split(SEPARATOR),
            step=[text or None for text in step.split(SEPARATOR)],
            attempt=_ATTEMPTS.decode(f"[{attempt}]"),
            data=_ALL_DATA.decode(b"[%b]" % data),
        )
    except (msgspec.MsgspecError, UnicodeError):
        return None
    lengths = {len(getattr(columns, name)) for name in EventColumns.__struct_fields__}
    return columns if lengths == {n_events} else None
