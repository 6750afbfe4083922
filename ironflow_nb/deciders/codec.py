"""Events, commands and effects as JSON under the names of their classes.

Frozen dataclasses and msgspec structs say by their annotations what they consist of, and by these they are read back.
What is written is read back at once, so that nothing is stored that a replay could not have.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache, partial
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from ironflow_nb.errors import EventUnreadable, ValueNotStorable

VERSION = "~v"
"""Says in what version of its class an event was written; the first is not said."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]


class Codec:
    """The classes of one kind (events, commands, effects) of one decider, by name."""

    def __init__(self, decider: str, kind: str) -> None:
        self._decider = decider
        self._kind = kind
        self._classes: dict[str, type] = {}
        self._upcasts: dict[tuple[str, int], Upcast] = {}
        self.namespace: Mapping[str, Any] = {}

    def learn(self, declared: Any) -> None:
        """Take the classes of an annotation: a class, or a union of classes."""
        for kind in get_args(declared) if get_origin(declared) in {Union, UnionType} else (declared,):
            if isinstance(kind, type) and kind is not type(None):
                self._classes[kind.__name__] = kind

    def add_upcast(self, kind: type | str, from_version: int, upcast: Upcast) -> None:
        """Let data of that version be brought to the next one; a class may be named before it is known."""
        if isinstance(kind, type):
            self._classes[kind.__name__] = kind
        self._upcasts[kind if isinstance(kind, str) else kind.__name__, from_version] = upcast

    def version(self, name: str) -> int:
        """Return the version in which objects of the class are written."""
        return max((number + 1 for other, number in self._upcasts if other == name), default=1)

    def encode(self, value: Any) -> tuple[str, str]:
        """Return the name of the class and the JSON text.

        Raises:
            ValueNotStorable: it would not be read back as it is.
        """
        kind = type(value)
        self._classes[kind.__name__] = kind
        try:
            content = msgspec.json.encode(value, order="sorted")
            again = decoder_of(kind).decode(content)
        except Exception as error:
            raise self._not_storable(value, str(error)) from error
        if type(again) is not kind or again != value:
            raise self._not_storable(value, f"it would be read back as {again!r}")
        version = self.version(kind.__name__)
        if version > 1:
            content = msgspec.json.encode(msgspec.json.decode(content) | {VERSION: version}, order="sorted")
        return kind.__name__, content.decode()

    def _not_storable(self, value: Any, why: str) -> ValueNotStorable:
        return ValueNotStorable(
            f"{value!r} can't be kept as {self._kind} of decider {self._decider}: {why}; make it a frozen dataclass or "
            "a msgspec struct with annotated fields of plain types"
        )

    def decode(self, name: str, data: str) -> Any:
        """Return the object.

        Raises:
            EventUnreadable: no class has that name, or the data does not fit it.
        """
        kind = self._class(name)
        if kind is None:
            raise EventUnreadable(
                f"decider {self._decider} has no {self._kind} class {name} here; define it, or run the cell that does"
            )
        try:
            if VERSION in data or (name, 1) in self._upcasts:
                return self._upcasted(kind, name, data)
            return decoder_of(kind).decode(data)
        except Exception as error:
            raise EventUnreadable(
                f"a stored {self._kind} {name} of decider {self._decider} does not fit its class: {error}; if the "
                f"class has changed, mend it with @decider.upcast({name}, from_version={self.version(name)})"
            ) from error

    def decoder(self, name: str) -> Callable[[str], Any]:
        """Return what reads objects of that class; it may raise whatever it likes, and `decode` tells."""
        kind = self._class(name)
        is_plain = kind is not None and all(other != name for other, _ in self._upcasts)
        return decoder_of(kind).decode if kind is not None and is_plain else partial(self.decode, name)

    def _class(self, name: str) -> type | None:
        """Return the class; of one that a cell has defined again the newest, which is the one that functions match."""
        known, found = self._classes.get(name), self.namespace.get(name)
        if not isinstance(found, type):
            return known
        is_same_place = known is not None and (known.__module__, known.__qualname__) == (found.__module__, name)
        return found if known is None or is_same_place else known

    def _upcasted(self, kind: type, name: str, data: str) -> Any:
        fields: dict[str, Any] = msgspec.json.decode(data)
        version = fields.pop(VERSION, 1)
        while (upcast := self._upcasts.get((name, version))) is not None:
            fields, version = upcast(fields), version + 1
        return msgspec.convert(fields, kind, strict=False)


def decoder_of(kind: type) -> msgspec.json.Decoder[Any]:
    """Return what reads objects of the class."""
    return _decoder(kind)


@lru_cache(maxsize=512)
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
