"""Codecs that users declare for classes: their values are stored, and identified, as what the codec makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from ironflow_nb.errors import ValueNotStorable, ValueUnreadable
from ironflow_nb.values.classes import class_name

C = TypeVar("C")


class ClassCodec(NamedTuple):
    """The two directions of a codec, and the class that it is for."""

    kind: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_CODECS: Final[dict[str, ClassCodec]] = {}


def codec(kind: type) -> Callable[[C], C]:
    """Declare how values of a class are stored, where a signed pickle is not good enough.

    What is decorated has a method `encode`, which returns bytes or other plain data of a value, and a method `decode`,
    which makes an equal value of them. It is used for values of exactly this class, wherever they stand. What they are
    encoded to also identifies them as arguments: equal values have to be encoded equally. A process that reads them has
    to define the codec, too; nothing of it is stored, and no code is loaded from the journal::

        @iron.codec(Image)
        class ImageCodec:
            def encode(self, image: Image) -> bytes: ...
            def decode(self, content: bytes) -> Image: ...

    Raises:
        TypeError: `kind` is no class, is a built-in one, or what is decorated lacks one of the two methods.
    """
    if not isinstance(kind, type) or kind.__module__ == "builtins":
        raise TypeError(f"@iron.codec takes a class of yours or of a library, such as @iron.codec(Image), not {kind!r}")

    def declare(given: C) -> C:
        made: Any = given() if isinstance(given, type) else given
        encode, decode = getattr(made, "encode", None), getattr(made, "decode", None)
        if not callable(encode) or not callable(decode):
            raise TypeError(f"a codec has two methods, encode(value) and decode(data), and {given!r} has not")
        _CODECS[class_name(kind)] = ClassCodec(kind, encode, decode)
        return given

    return declare


def encoded(value: object) -> tuple[str, Any] | None:
    """Return the name of the class and what its codec makes of the value; None if it has no codec.

    Raises:
        ValueNotStorable: the codec has raised an error.
    """
    found = _CODECS.get(class_name(type(value))) if _CODECS else None
    if found is None or found.kind is not type(value):
        return None
    try:
        return class_name(found.kind), found.encode(value)
    except Exception as error:
        what = f"the codec of {class_name(found.kind)} can't encode a value: {type(error).__name__}: {error}"
        raise ValueNotStorable(what) from error


def decoded(name: str, data: Any) -> Any:
    """Return the value that the codec of the class makes of the data.

    Raises:
        ValueUnreadable: there is no codec of that class here.
    """
    found = _CODECS.get(name)
    if found is None:
        raise ValueUnreadable(
            f"the value is a {name}, stored by a codec that is not defined here; run the cell or import the module "
            f"with @iron.codec({name.rpartition('.')[2]}), then read it again",
            class_name=name,
        )
    return found.decode(data)
