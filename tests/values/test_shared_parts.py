"""Values that share parts, contain themselves or are very deep are recognised and stored, at a cost that fits."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import attrs
import pytest

from ironflow_nb.values.stored_value import StoredValue
from tests.values.workshop import new_values


@dataclass
class Fork:
    left: Any
    right: Any


@attrs.define
class Defined:
    left: Any
    right: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Node:
    def __init__(self, name: str, *children: Node) -> None:
        self.name = name
        self.parent: Node | None = None
        self.children = list(children)
        for child in children:
            child.parent = self


def doubled(make: Callable[[Any, Any], Any], levels: int = 40, last: Any = 1) -> Any:
    """Return a value of which each part is met twice in the one above it."""
    made = make(last, 2)
    for _ in range(levels):
        made = make(made, made)
    return made


def wide(width: int = 2000) -> list[Any]:
    made: list[Any] = list(range(width))
    for _ in range(4):
        made = [made] * width
    return made


def deep(levels: int, wrap: Callable[[Any], Any] = lambda part: [part], last: Any = 1) -> Any:
    made = last
    for _ in range(levels):
        made = wrap(made)
    return made


def loop(last: int = 1) -> list[Any]:
    made: list[Any] = [last]
    made.append({"b": made, "a": [made]})
    return made


def clique(n: int, name: str = "node") -> Node:
    nodes = [Node(f"{name} {index}") for index in range(n)]
    for node in nodes:
        node.children = nodes[:]
    return nodes[0]


MAKES: dict[str, Callable[[Any], Any]] = {
    "lists": lambda last: doubled(lambda a, b: [a, b], last=last),
    "tuples": lambda last: doubled(lambda a, b: (a, b), last=last),
    "dicts": lambda last: doubled(lambda a, b: {"a": a, "b": b}, last=last),
    "dicts by number": lambda last: doubled(lambda a, b: {1: a, 2: b}, last=last),
    "dataclasses": lambda last: doubled(Fork, last=last),
    "attrs": lambda last: doubled(Defined, last=last),
    "named tuples": lambda last: doubled(Pair, last=last),
    "mixture": lambda last: doubled(lambda a, b: [(a,), {"x": Fork(b, {1})}], last=last),
    "queues": lambda last: doubled(lambda a, b: collections.deque([a, b]), last=last),
    "wide": lambda last: [wide(), last],
    "loop": loop,
    "tree with parents": lambda last: Node("a", Node("b", Node("c")), Node(f"d {last}")),
    "all know each other": lambda last: clique(40, f"node {last}"),
    "deep lists": lambda last: deep(600, last=last),
    "very deep lists": lambda last: deep(20_000, last=last),
    "deep dicts": lambda last: deep(5_000, lambda part: {"a": part, "b": [1, (2,)]}, last=last),
    "deep tuples": lambda last: deep(300, lambda part: (part,), last=last),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", MAKES)


@EACH
def test_it_identifies_by_its_content(name: str) -> None:
    make = MAKES[name]
    found = new_values().digester.digest(make(1))
    assert found.opaque == ()
    assert found == new_values().digester.digest(make(1))
    assert found != new_values().digester.digest(make(7))


@pytest.mark.slow
@EACH
def test_it_is_stored_and_identifies_alike_when_it_is_read_back(name: str) -> None:
    values, elsewhere = new_values(), new_values()
    stored, echo = values.store(MAKES[name](1))
    expected = new_values().digester.digest(MAKES[name](1))
    assert values.digester.digest(echo) == expected
    assert elsewhere.digester.digest(elsewhere.decode(stored)) == expected
    assert stored.size < 1_000_000


@pytest.mark.parametrize("name", ["lists", "dicts", "dicts by number", "wide", "loop", "very deep lists", "deep dicts"])
def test_lists_and_dicts_need_no_pickle(name: str) -> None:
    stored: StoredValue = new_values().encode(MAKES[name](1))
    assert stored.codec == "parts"


@pytest.mark.parametrize("make", [lambda: [{"a": 1}] * 30_000, lambda: [{"a": 1} for _ in range(30_000)]])
def test_sharing_does_not_identify_where_a_value_can_be_written_out(make: Callable[[], Any]) -> None:
    values = new_values()
    assert values.digester.digest(make()) == values.digester.digest([{"a": 1} for _ in range(30_000)])
    assert values.digester.digest((make(),)) == values.digester.digest(([{"a": 1} for _ in range(30_000)],))
    assert values.encode(make()).codec == "json"


def test_what_a_loop_shares_comes_back_shared() -> None:
    values = new_values()
    back = values.decode(values.encode(loop()))
    assert back[1]["b"] is back
    assert back[1]["a"][0] is back


def test_what_contains_itself_by_way_of_a_set_identifies_in_this_process_only() -> None:
    node = Node("a")
    node.children = {node, Node("b")}  # type: ignore[assignment]
    values = new_values()
    found = values.digester.digest(node)
    assert found.opaque == (f"{__name__}.Node",)
    assert values.digester.digest(node) == found
