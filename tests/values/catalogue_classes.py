"""Classes of many kinds, and functions, for the catalogue of values."""

from __future__ import annotations

import collections
import enum
import functools
import struct
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


def bits(text: str) -> float:
    """Return the float of eight bytes in hex."""
    return struct.unpack(">d", bytes.fromhex(text))[0]


@dataclass
class Point:
    x: Any = 0
    y: Any = 0


@dataclass
class Vector:
    x: Any = 0
    y: Any = 0


@dataclass(frozen=True)
class Frozen:
    x: Any = 0


@dataclass(slots=True)
class Slotted:
    x: Any = 0


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    x: Any = 0


@dataclass
class Inherited(Point):
    z: Any = 0


@dataclass
class Uncompared:
    x: int
    note: Any = field(compare=False, repr=False, default=None)
    made: Any = field(init=False, default=0)
    seed: InitVar[int] = 0


class SlottedBase:
    __slots__ = ("hidden",)


@dataclass
class OnSlots(SlottedBase):
    x: int = 0


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class DataList(list):  # type: ignore[type-arg]
    x: int = 0


def data_list(x: int, *items: Any) -> DataList:
    made = DataList(x)
    made.extend(items)
    return made


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Tone(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    RED = "red"


class Flags(enum.Flag):
    A = 1
    B = 2
    HUGE = 2**70


class IntFlags(enum.IntFlag):
    A = 1
    B = 2


class Pair(NamedTuple):
    x: Any
    y: Any = 0


Twin = collections.namedtuple("Twin", "x y")


class OddPair(Pair):
    """A named tuple with a place for more."""


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self) -> int:
        return 1

    @classmethod
    def made(cls) -> int:
        return 2


class Other(Plain):
    pass


class Slots:
    __slots__ = ("a", "b")


class WithCache(Plain):
    @functools.cached_property
    def doubled(self) -> int:
        return 2 * self.n  # type: ignore[attr-defined,no-any-return]


class Reducing:
    """Something that only a pickle can describe."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> tuple[Any, ...]:
        return Reducing, (self.n,)

    def __eq__(self, other: object) -> bool:
        return type(other) is Reducing and other.n == self.n

    __hash__ = None  # type: ignore[assignment]


class Digesting:
    def __init__(self, own: str | bytes) -> None:
        self.own = own

    def __ironflow_digest__(self) -> str | bytes:
        return self.own


class Model:
    """What pydantic's models look like from outside."""

    __pydantic_fields__ = MappingProxyType({"x": int})

    def __init__(self, x: Any, extra: Any = None, private: Any = None) -> None:
        self.__dict__["x"] = x
        object.__setattr__(self, "__pydantic_extra__", extra)
        object.__setattr__(self, "__pydantic_private__", private)

    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_private__")

    def __getstate__(self) -> dict[str, Any]:
        return {
            "dict": vars(self), "extra": self.__pydantic_extra__, "private": self.__pydantic_private__
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dict"]["x"], state["extra"], state["private"])  # type: ignore[misc]


class Text(str):
    pass


class Number(int):
    pass


class Listing(list):  # type: ignore[type-arg]
    pass


class Mapping(dict):  # type: ignore[type-arg]
    pass


def one(a: int, b: int = 1) -> int:
    return a + b


def two(a: int, b: int = 1) -> int:
    return a - b


def adder(n: int) -> Callable[[int], int]:
    def add(a: int) -> int:
        return a + n

    return add


def with_default(default: int) -> Callable[..., int]:
    def given(a: int = default) -> int:
        return a

    return given


def with_keyword(default: int) -> Callable[..., int]:
    def given(*, a: int = default) -> int:
        return a

    return given


def with_(value: Any, **attributes: Any) -> Any:
    for name, item in attributes.items():
        object.__setattr__(value, name, item)
    return value


def without(value: Any, name: str) -> Any:
    object.__delattr__(value, name)
    return value


def sharing(n: int) -> Plain:
    """Return objects of which each is met twice as often as the one above it."""
    made = Plain(n=n)
    for _ in range(60):
        made = Plain(left=made, right=made)
    return made
