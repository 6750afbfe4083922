"""Objects with an idea of their own of what they consist of identify by that, and alike after a restart."""

from __future__ import annotations

import array
import collections
import logging
import os
import random
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from ironflow_nb.errors import ValueNotStorable
from tests.values.workshop import new_values


@attrs.define
class Defined:
    x: Any
    y: Any = None


@attrs.frozen
class Immutable:
    x: Any


@attrs.define(slots=False)
class WithDict:
    x: Any


class Reducing:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return Reducing, self.parts


class Stateful:
    """Something whose attributes are more than its state."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.cache = object()

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self.content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["content"])  # type: ignore[misc]


class Bag(dict):  # type: ignore[type-arg]
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return Bag, (self.limit,), None, None, iter(sorted(self.items()))


def bag(limit: int, **items: Any) -> Bag:
    made = Bag(limit)
    made.update(items)
    return made


WORDS = ("alpha", "beta", "gamma", "delta")
OBJECTS: dict[str, Callable[[], Any]] = {
    "attrs": lambda: Defined(1),
    "attrs, other": lambda: Defined(2),
    "attrs with a set": lambda: Defined(set(WORDS), {"a": {frozenset(WORDS)}}),
    "attrs in attrs": lambda: Defined(Defined(Immutable([1, {2}]))),
    "attrs, frozen": lambda: Immutable(1),
    "attrs with a dict": lambda: WithDict(1),
    "reducing": lambda: Reducing(set(WORDS), 1),
    "reducing, other": lambda: Reducing(set(WORDS), 2),
    "stateful": lambda: Stateful(set(WORDS)),
    "stateful, other": lambda: Stateful(set(WORDS[1:])),
    "dict that reduces": lambda: bag(1, a={1}),
    "dict that reduces, other limit": lambda: bag(2, a={1}),
    "dict that reduces, other items": lambda: bag(1, a={2}),
    "generator of numbers": lambda: random.Random(1),
    "generator of numbers, other": lambda: random.Random(2),
    "pattern": lambda: re.compile("a+"),
    "pattern, other": lambda: re.compile("a+", re.IGNORECASE),
    "array": lambda: array.array("i", [1, 2]),
    "array, other": lambda: array.array("l", [1, 2]),
    "logger": lambda: logging.getLogger("a.logger"),
    "logger, other": lambda: logging.getLogger("another.logger"),
    "exception": lambda: ValueError("no", set(WORDS)),
    "view of a dict": lambda: types.MappingProxyType({"a": set(WORDS)}),
    "keys": lambda: {"a": 1, "b": 2}.keys(),
    "values": lambda: {"a": 1, "b": 2}.values(),
    "chained": lambda: collections.ChainMap({"a": 1}, {"b": 2}),
    "list of objects": lambda: [Defined({1}), Stateful((1,)), Reducing(Defined(1))],
}
EACH = pytest.mark.parametrize("name", OBJECTS)


@EACH
def test_an_object_identifies_alike_stored_and_read_back(name: str) -> None:
    values, elsewhere = new_values(), new_values()
    expected = new_values().digester.digest(OBJECTS[name]())
    assert expected.opaque == ()
    stored, echo = values.store(OBJECTS[name]())
    assert values.digester.digest(echo) == expected
    assert elsewhere.digester.digest(elsewhere.decode(stored)) == expected


def test_no_two_objects_identify_alike() -> None:
    digests = {new_values().digester.digest(make()).digest for make in OBJECTS.values()}
    assert len(digests) == len(OBJECTS)


@pytest.mark.slow
def test_objects_identify_alike_with_every_seed_of_hashes() -> None:
    program = """
from tests.values.test_objects import OBJECTS
from tests.values.workshop import new_values
for name, make in OBJECTS.items():
    print(name, new_values().digester.digest(make()).digest.hex())
"""
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert len(printed[0].splitlines()) == len(OBJECTS)
    assert printed[0] == printed[1] == printed[2]


def test_a_model_of_pydantic_identifies_by_its_fields() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Made", words=(set[str], ...), inner=(dict[str, Any], {}))
    model.__module__ = __name__
    first, second = (model(words=words, inner={"a": {1}}) for words in (set(WORDS), set(WORDS[1:])))
    values = new_values()
    expected = values.digester.digest(first)
    assert expected.opaque == ()
    assert values.digester.digest(model(words=set(WORDS), inner={"a": {1}})) == expected
    assert values.digester.digest(second) != expected
    assert values.digester.digest(values.store(first)[1]) == expected


class Locked:
    def __reduce__(self) -> str:
        raise TypeError("a connection can't be copied")


def test_what_can_not_be_copied_identifies_in_this_process_only() -> None:
    digester = new_values().digester
    one, other = Locked(), Locked()
    assert digester.digest([one]) == digester.digest([one]) != digester.digest([other])
    assert digester.digest({"a": Defined(one)}).opaque == (f"{__name__}.Defined",)


class Advising:
    def __reduce__(self) -> str:
        raise ValueNotStorable("pass its path instead")


def test_an_object_may_say_itself_what_to_pass_instead() -> None:
    with pytest.raises(ValueNotStorable, match="pass its path instead"):
        new_values().digester.digest({"a": [Advising()]})
