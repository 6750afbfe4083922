"""The text of an event in the journal: JSON with sorted keys, in which ids of values and digests are hex."""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec.structs import force_setattr, replace

from ironflow_nb.core.event_kinds import Event
from ironflow_nb.core.events import EVENT_TYPES, DomainEvent, RunEvent
from ironflow_nb.errors import JournalCorrupt

E = TypeVar("E", bound=Event)

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
# The fields that are bytes here and hex in the journal. To evaluate annotations, which are texts, takes milliseconds.
_BYTES: Final = {
    kind: [name for name, hint in kind.__annotations__.items() if hint in {"Digest", "ValueId", "ValueId | None"}]
    for kind in EVENT_TYPES.values()
    if kind is not DomainEvent
}


def encode_event(event: RunEvent) -> tuple[str, str]:
    """Return the type of the event as it stands in the journal, and the event as JSON text with sorted keys."""
    if isinstance(event, DomainEvent):
        return event.type, _ENCODER.encode(msgspec.json.decode(event.data)).decode()
    kind, written = type(event), replace(event)  # a copy
    for name in _BYTES[kind]:
        content = getattr(event, name)
        if content:
            force_setattr(written, name, content.hex())
    return kind.__name__, _ENCODER.encode(written).decode()


def decode_event(type_name: str, data: str) -> RunEvent:
    """Return the event that was written as `data` under that type.

    Raises:
        JournalCorrupt: the type is unknown and not a decider's, or the data is no event of it.
    """
    try:
        if "." in type_name:
            msgspec.json.decode(data)
            return DomainEvent(type=type_name, data=msgspec.Raw(data.encode()))
        kind = EVENT_TYPES[type_name]
        fields = _DECODER.decode(data)
        for name in _BYTES[kind]:
            if isinstance(text := fields.get(name), str):
                fields[name] = bytes.fromhex(text)
        return msgspec.convert(fields, kind, builtin_types=(bytes,))
    except KeyError:
        raise JournalCorrupt(f"unknown event type {type_name!r} in the journal", event_type=type_name) from None
    except (msgspec.MsgspecError, ValueError) as error:  # of which UnicodeError is one
        raise JournalCorrupt(f"an event {type_name} can't be read: {error}", event_type=type_name) from error


def decode_as(kind: type[E], data: str) -> E:
    """Return the event of that class, which is not the event of a decider; see `decode_event`."""
    return cast("E", decode_event(kind.__name__, data))
