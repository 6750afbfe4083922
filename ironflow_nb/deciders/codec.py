"""Events, commands and effects as JSON, under the names of their classes.

The annotations of frozen dataclasses and msgspec structs are the schema. Every written text is decoded at once, so that
nothing is stored that can't be read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from ironflow_nb.errors import EventUnreadable, ValueNotStorable

VERSION = "~v"
"""The field with the version of its class in which an event was written; missing for version 1."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_decoder_of: Callable[[type], msgspec.json.Decoder[Any]] = lru_cache(maxsize=512)(msgspec.json.Decoder)


class Codec:
    """The classes of the events, commands or effects of one decider, by name. `kind` names them in errors.

    `namespace` holds the globals of the functions that match the objects.
    """

    def __init__(self, decider: str, kind: str) -> None:
        self._decider = decider
        self._kind = kind
        self._classes: dict[str, type] = {}
        self._upcasts: dict[tuple[str, int], Upcast] = {}
        self._versions: dict[str, int] = {}
        self.namespace: Mapping[str, Any] = {}

    def learn(self, declared: Any) -> None:
        """Learn the classes of an annotation: a class, or a union of classes."""
        for kind in get_args(declared) if get_origin(declared) in {Union, UnionType} else (declared,):
            if isinstance(kind, type) and kind is not type(None):
                self._classes[kind.__name__] = kind

    def add_upcast(self, kind: type | str, from_version: int, upcast: Upcast) -> None:
        """Register the conversion of data from that version to the next. The class may be learned later."""
        if isinstance(kind, type):
            self._classes[kind.__name__] = kind
        name = kind if isinstance(kind, str) else kind.__name__
        self._upcasts[name, from_version] = upcast
        self._versions[name] = max(self.version(name), from_version + 1)

    def version(self, name: str) -> int:
        """Return the version in which objects of the class are written."""
        return self._versions.get(name, 1)

    def encode(self, value: Any) -> tuple[str, str]:
        """Return the name of the class and the JSON text.

        Raises:
            ValueNotStorable: the value has no JSON form, or the form is read back as another value.
        """
        kind = type(value)
        self._classes[kind.__name__] = kind
        try:
            content = _ENCODER.encode(value)
            again = _decoder_of(kind).decode(content)
        except Exception as error:
            raise self._not_storable(value, str(error)) from error
        if type(again) is not kind or again != value:
            raise self._not_storable(value, f"it would be read back as {again!r}")
        if self._versions:
            content = self._with_version(kind.__name__, content)
        return kind.__name__, content.decode()

    def _with_version(self, name: str, content: bytes) -> bytes:
        version = self.version(name)
        if version == 1:
            return content
        return _ENCODER.encode(msgspec.json.decode(content) | {VERSION: version})

    def _not_storable(self, value: Any, reason: str) -> ValueNotStorable:
        return ValueNotStorable(
            f"{value!r} can't be stored as {self._kind} of decider {self._decider}: {reason}; make it a frozen "
            "dataclass or a msgspec struct with annotated fields of plain types"
        )

    def decode(self, name: str, data: str) -> Any:
        """Return the object.

        Raises:
            EventUnreadable: no class has that name, or the data does not fit it.
        """
        kind = self.class_of(name)
        if kind is None:
            raise EventUnreadable(
                f"decider {self._decider} has no {self._kind} class {name} here; define it, or run the cell that does"
            )
        try:
            if VERSION in data or (name, 1) in self._upcasts:
                return self._decode_upcast(kind, name, data)
            return _decoder_of(kind).decode(data)
        except Exception as error:
            raise EventUnreadable(
                f"a stored {self._kind} {name} of decider {self._decider} does not fit its class: {error}; if the "
                f"class has changed, mend it with @decider.upcast({name}, from_version={self.version(name)})"
            ) from error

    def decoder(self, name: str) -> Callable[[str], Any]:
        """Return the function that decodes objects of that class. It may raise any error; `decode` explains it."""
        kind = self.class_of(name)
        is_plain = kind is not None and name not in self._versions
        return _decoder_of(kind).decode if kind is not None and is_plain else partial(self.decode, name)

    def class_of(self, name: str) -> type | None:
        """Return the class, or None. Of a class that a cell defined again it is the newest, which functions match."""
        known, found = self._classes.get(name), self.namespace.get(name)
        if not isinstance(found, type):
            return known
        is_redefined = known is not None and (known.__module__, known.__qualname__) == (found.__module__, name)
        return found if known is None or is_redefined else known

    def _decode_upcast(self, kind: type, name: str, data: str) -> Any:
        fields: dict[str, Any] = msgspec.json.decode(data)
        version = fields.pop(VERSION, 1)
        while (upcast := self._upcasts.get((name, version))) is not None:
            fields, version = upcast(fields), version + 1
        return msgspec.convert(fields, kind, strict=False)
