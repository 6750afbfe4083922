"""Values of many kinds, each made afresh by its function, and no two of them equal in type and content."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import json
import math
import operator
import os
import pathlib
import sys
import types
import uuid
from collections.abc import Callable
from dataclasses import make_dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.values.catalogue_classes import (
    Box,
    Colour,
    DataList,
    Digesting,
    Flags,
    Frozen,
    FrozenSlotted,
    Inherited,
    IntFlags,
    Level,
    Listing,
    Mapping,
    Model,
    Number,
    OddPair,
    OnSlots,
    Other,
    Pair,
    Plain,
    Point,
    Reducing,
    Slots,
    Slotted,
    Text,
    Tone,
    Twin,
    Uncompared,
    Vector,
    WithCache,
    Word,
    adder,
    bits,
    data_list,
    one,
    two,
    with_,
    with_default,
    with_keyword,
    without,
)
from tests.values.catalogue_frames import NUMPY, PANDAS

PLAIN: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "false": lambda: False,
    **{f"int {n}": (lambda n=n: n) for n in (0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63))},
    **{f"big int {n:x}"[:30]: (lambda n=n: n) for n in (2**63, -(2**63) - 1, 2**64, 10**400, -(10**5000))},
    **{f"float {x!r}": (lambda x=x: x) for x in (0.0, -0.0, 1.0, 0.1, 1e16, 5e-324, math.inf, -math.inf)},
    **{f"nan {h}": (lambda h=h: bits(h)) for h in ("7ff8000000000000", "fff8000000000000", "7ff8000000000001")},
    **{f"complex {x!r}": (lambda x=x: x) for x in (0j, -0j, complex(0, -0.0), 1 + 0j, complex(math.nan, 1))},
    **{f"str {s!a}": (lambda s=s: s) for s in ("", "1", "a", "é", "e\u0301", "\0", "~", "\ud800", "a\udfff", "None")},
    **{f"bytes {b!r}": (lambda b=b: b) for b in (b"", b"1", b"a", b"\xff")},
    "bytearray": lambda: bytearray(b"a"),
    "list": list,
    "list of one": lambda: [1],
    "list of none": lambda: [None],
    "list of lists": lambda: [[], []],
    "tuple": lambda: (),
    "tuple of one": lambda: (1,),
    "tuple in list": lambda: [(1,)],
    "set": lambda: set(),
    "set of one": lambda: {1},
    "set of texts": lambda: {"a", "b", "cc", "é"},
    "frozenset": lambda: frozenset(),
    "frozenset of texts": lambda: frozenset({"a", "b", "cc", "é"}),
    "set of sets": lambda: {frozenset({"a", "b"}), frozenset({"b", "c"})},
    "dict": dict,
    "dict of one": lambda: {"a": 1},
    "dict of a tuple": lambda: {"a": (1,)},
    "dict by int": lambda: {1: "a", 2: "b"},
    "dict by bool": lambda: {True: "a", 2: "b"},
    "dict by float": lambda: {1.0: "a", 2: "b"},
    "dict by mixture": lambda: {1: 1, "a": 2, (1, "b"): 3, None: 4, b"b": 5},
    "dict by nan": lambda: {math.nan: 1, float("nan"): 2},
    "dict with the tag": lambda: {"~": "tuple", "v": [1]},
    "dict with the tag twice": lambda: {"~": "dict", "v": [["~", "tuple"], ["v", [1]]]},
    "dict by a surrogate": lambda: {"\ud800": 1, "a": 2},
    "a list that looks like a dict": lambda: [["a", 1]],
}

STANDARD: dict[str, Callable[[], Any]] = {
    "date": lambda: dt.date(2020, 1, 1),
    "date as text": lambda: "2020-01-01",
    "datetime": lambda: dt.datetime(2020, 1, 1),
    "datetime of the year 1": lambda: dt.datetime(1, 1, 1, 0, 0, 0, 1),
    "datetime folded": lambda: dt.datetime(2020, 1, 1, fold=1),
    "datetime in utc": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "datetime at an offset": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    "datetime at an odd offset": lambda: dt.datetime(
        2020, 1, 1, tzinfo=dt.timezone(-dt.timedelta(hours=1, microseconds=7))
    ),
    "datetime in a named zone": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    "datetime in a place": lambda: dt.datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    "datetime in zoneinfo's utc": lambda: dt.datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC")),
    "datetime in a place, first": lambda: dt.datetime(2020, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    "datetime in a place, second": lambda: dt.datetime(2020, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "time": lambda: dt.time(1, 2, 3, 4),
    "time folded": lambda: dt.time(1, 2, 3, 4, fold=1),
    "time in utc": lambda: dt.time(1, 2, 3, 4, tzinfo=dt.UTC),
    "time in a place": lambda: dt.time(1, 2, 3, 4, tzinfo=ZoneInfo("Europe/Berlin")),
    "timezone": lambda: dt.timezone(dt.timedelta(hours=1)),
    "timezone by name": lambda: dt.timezone(dt.timedelta(hours=1), "\ud800"),
    "place": lambda: ZoneInfo("Europe/Berlin"),
    "timedelta": lambda: dt.timedelta(days=-1, microseconds=1),
    "timedelta zero": lambda: dt.timedelta(0),
    **{
        f"decimal {text}": (lambda text=text: Decimal(text))
        for text in ("0", "-0", "0.0", "1", "1.0", "1E+5", "NaN", "sNaN", "NaN12", "-sNaN12", "Infinity", "-Infinity")
    },
    "uuid": lambda: uuid.UUID(int=5),
    "path": lambda: pathlib.Path("a/b"),
    "pure path": lambda: pathlib.PurePosixPath("a/b"),
    "windows path": lambda: pathlib.PureWindowsPath("a/b"),
    "path as text": lambda: "a/b",
    "path of no text": lambda: pathlib.Path(os.fsdecode(b"/a\xff")),
    "range": lambda: range(5),
    "range by two": lambda: range(0, 5, 2),
    "range, equal in content": lambda: range(0, 6, 2),
    "range far out": lambda: range(2**70, 2**70 + 2),
    "fraction": lambda: Fraction(1, 3),
    "counter": lambda: collections.Counter("aab"),
    "ordered dict": lambda: collections.OrderedDict(a=1, b=2),
    "ordered dict, other order": lambda: collections.OrderedDict(b=2, a=1),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "defaultdict of sets": lambda: collections.defaultdict(set, a=[1]),
    "deque": lambda: collections.deque([1, 2]),
    "deque of three": lambda: collections.deque([1, 2], 3),
    "namespace": lambda: types.SimpleNamespace(a=1),
    "ellipsis": lambda: ...,
}

CLASSES: dict[str, Callable[[], Any]] = {
    "dataclass": lambda: Point(1, 2),
    "dataclass of other values": lambda: Point(1, 3),
    "dataclass of other types": lambda: Point(True, 2),
    "dataclass as dict": lambda: {"x": 1, "y": 2},
    "dataclass of another name": lambda: Vector(1, 2),
    "dataclass inherited": lambda: Inherited(1, 2, 0),
    "dataclass with more": lambda: with_(Point(1, 2), more=1),
    "dataclass with less": lambda: without(Point(1, 2), "x"),
    "dataclass frozen": lambda: Frozen((1,)),
    "dataclass slotted": lambda: Slotted([1]),
    "dataclass frozen and slotted": lambda: FrozenSlotted([1]),
    "dataclass frozen and slotted, other": lambda: FrozenSlotted([2]),
    "dataclass not compared": lambda: Uncompared(1, "a"),
    "dataclass not compared, other": lambda: Uncompared(1, "b"),
    "dataclass not made by init": lambda: with_(Uncompared(1, "a"), made=5),
    "dataclass on slots": lambda: with_(OnSlots(1), hidden=1),
    "dataclass on other slots": lambda: with_(OnSlots(1), hidden=2),
    "dataclass on empty slots": lambda: OnSlots(1),
    "dataclass generic": lambda: Box(1),
    "dataclass parametrised": lambda: Box[int](1),
    "dataclass that is a list": lambda: DataList(1),
    "dataclass that is a longer list": lambda: data_list(1, 1),
    "dataclass made by a function": lambda: make_dataclass("Made", ["x"])(1),
    "dataclass made with another field": lambda: make_dataclass("Made", ["y"])(1),
    "nested": lambda: [Point(Point((1, 2), {3}), {"a": Frozen(None)})],
    "enum": lambda: Colour.RED,
    "enum, other": lambda: Colour.GREEN,
    "enum of another name": lambda: Tone.RED,
    "enum of ints": lambda: Level.LOW,
    "enum of texts": lambda: Word.RED,
    "flag": lambda: Flags.A,
    "flags": lambda: Flags.A | Flags.B,
    "no flags": lambda: Flags(0),
    "huge flag": lambda: Flags.HUGE | Flags.B,
    "int flags": lambda: IntFlags.A | IntFlags.B,
    "named tuple": lambda: Pair(1, 2),
    "named tuple, other": lambda: Twin(1, 2),
    "named tuple with other fields": lambda: collections.namedtuple("Twin", "x z")(1, 2),
    "named tuple with a place": lambda: OddPair(1, 2),
    "named tuple with more": lambda: with_(OddPair(1, 2), more=1),
    "object": lambda: Plain(a=1),
    "object of other content": lambda: Plain(a=2),
    "object of another class": lambda: Other(a=1),
    "object with two": lambda: Plain(b=[Plain(c={1, 2})], a=1),
    "object with nothing": lambda: Plain(),
    "object with slots": lambda: with_(Slots(), a=1),
    "object with other slots": lambda: with_(Slots(), b=1),
    "object with cache": lambda: WithCache(n=1),
    "object with a digest": lambda: Digesting("a"),
    "object with another digest": lambda: Digesting("b"),
    "reducing": lambda: Reducing(1),
    "reducing, other": lambda: Reducing(2),
    "model": lambda: Model(1),
    "model with extra": lambda: Model(1, {"y": 2}),
    "model with private": lambda: Model(1, None, {"_y": 2}),
    "text of a class": lambda: Text("a"),
    "text of a class with more": lambda: with_(Text("a"), more=1),
    "int of a class": lambda: Number(1),
    "list of a class": lambda: Listing([1]),
    "list of a class with more": lambda: with_(Listing([1]), more=1),
    "dict of a class": lambda: Mapping(a=1),
}

CODE: dict[str, Callable[[], Any]] = {
    "function": lambda: one,
    "function, other": lambda: two,
    "closure": lambda: adder(1),
    "closure, other": lambda: adder(2),
    "default": lambda: with_default(1),
    "default, other": lambda: with_default(2),
    "keyword default": lambda: with_keyword(1),
    "keyword default, other": lambda: with_keyword(2),
    "lambda": lambda: lambda a: a,
    "lambda, other": lambda: lambda a: a + 1,
    "partial": lambda: functools.partial(one, 1),
    "partial, other": lambda: functools.partial(one, 2),
    "partial by keyword": lambda: functools.partial(one, a=1, b=2),
    "method": lambda: Plain(a=1).method,
    "method of another": lambda: Plain(a=2).method,
    "class method": lambda: Plain.made,
    "class method of another": lambda: Other.made,
    "method of a list": lambda: [1].append,
    "method of another list": lambda: [2].append,
    "another method of a list": lambda: [1].index,
    "method of a list of a class": lambda: Listing([1]).append,
    "method of a built-in class": lambda: bytes.fromhex,
    "method of another built-in class": lambda: bytearray.fromhex,
    "built-in function": lambda: len,
    "built-in function, other": lambda: sum,
    "function of a module": lambda: math.sin,
    "function of another module": lambda: operator.add,
    "module": lambda: math,
    "module, other": lambda: operator,
    "class": lambda: Plain,
    "class, other": lambda: Other,
    "class, built in": lambda: int,
}


CATALOGUE = PLAIN | STANDARD | CLASSES | CODE | NUMPY | PANDAS


def print_digests() -> None:
    """Print the digest of every value as JSON, for comparison between processes."""
    from tests.values.workshop import new_values

    digester = new_values().digester
    json.dump({name: digester.digest(make()).digest.hex() for name, make in CATALOGUE.items()}, sys.stdout)
