"""A value that another thread changes while it is read is read all the same, or refused by name."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FrameType, MappingProxyType, SimpleNamespace
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.values.undisturbed import MOST_READS
from tests.values.workshop import new_values

PACKAGE = str(Path(iron.__file__).parent)
NUMBERS = count()


class Thing:
    pass


class Table(dict[Any, Any]):
    pass


@dataclass
class Held:
    entries: dict[str, object] = field(default_factory=dict)


class Pickled:
    def __init__(self) -> None:
        self.entries = {"first": 1}

    def __reduce__(self) -> tuple[object, ...]:
        return Pickled, (), {key: changed_here(self, value) for key, value in self.entries.items()}


class Name:
    """A key whose hash is computed in Python, where another thread may take its turn."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        changed_here(self, None)
        return self.number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and self.number == other.number


CHANGES: dict[int, list[Callable[[], object]]] = {}


def changed_here(owner: object, value: Any) -> Any:
    """Change what hangs on `owner`, as often as it was asked for, and return the value."""
    if changes := CHANGES.get(id(owner)):
        changes.pop()()
    return value


@contextmanager
def changed_at_each_line(change: Callable[[], object]) -> Iterator[None]:
    """Call `change` before each line of the package that runs in this thread."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            change()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def put(table: Any) -> Callable[[], object]:
    """Return a change that adds a key and removes an older one."""

    def change() -> None:
        number = next(NUMBERS)
        table[f"key {number}"] = (number,)
        if len(table) > 9:
            del table[next(iter(table))]

    return change


def add(items: set[Any]) -> Callable[[], object]:
    def change() -> None:
        items.add((next(NUMBERS),))
        if len(items) > 9:
            items.pop()

    return change


def append(items: Any) -> Callable[[], object]:
    def change() -> None:
        items.append((next(NUMBERS),))
        if len(items) > 9:
            del items[0]

    return change


def changing() -> list[tuple[str, Any, Callable[[], object]]]:
    """Return a value of each kind and a change of it."""
    table, named, rows, tags, queue = {"a": 1}, {1: "one"}, ["a", 1], {1, 2}, deque([1, 2])
    ordered, grouped, counted, own = OrderedDict(a=1), defaultdict(list, a=[1]), Counter("aab"), Table(a=1)
    thing, space, held = Thing(), SimpleNamespace(a=1), Held({"a": 1})
    behind: dict[str, int] = {"a": 1}
    return [
        ("dict", table, put(table)),
        ("dict with other keys", named, put(named)),
        ("dict inside", [{"a": table}], put(table)),
        ("list", rows, append(rows)),
        ("set", tags, add(tags)),
        ("deque", queue, append(queue)),
        ("OrderedDict", ordered, put(ordered)),
        ("defaultdict", grouped, put(grouped)),
        ("Counter", counted, put(counted)),
        ("subclass of dict", own, put(own)),
        ("proxy", MappingProxyType(behind), put(behind)),
        ("keys", behind.keys(), put(behind)),
        ("__dict__", thing, put(vars(thing))),
        ("SimpleNamespace", space, put(vars(space))),
        ("dataclass", held, put(held.entries)),
        ("__dict__ of a dataclass", held, put(vars(held))),
    ]


EACH = pytest.mark.parametrize(("value", "change"), [pytest.param(v, c, id=n) for n, v, c in changing()])


@EACH
def test_a_value_that_is_changed_at_each_line_is_digested(value: Any, change: Callable[[], object]) -> None:
    digester = new_values().digester
    with changed_at_each_line(change):
        for wrapped in (value, [value], {"of": (value,)}, lambda: value):
            assert digester.digest(wrapped).opaque == ()


@EACH
def test_a_value_that_is_changed_at_many_lines_is_stored(value: Any, change: Callable[[], object]) -> None:
    if isinstance(value, MappingProxyType | type({}.keys())):
        pytest.skip("no pickle takes it")
    values, changes = new_values(), iter([change] * 1000)
    with changed_at_each_line(lambda: next(changes, int)()):
        stored = values.encode([value])
    assert type(values.decode(stored)[0]) is type(value)


@pytest.mark.parametrize("make", [dict, OrderedDict, Table], ids=lambda kind: kind.__name__)
def test_a_read_that_a_key_disturbs_is_repeated(make: Callable[..., Any]) -> None:
    table = make({Name(1): 1, Name(2): 2, "a": 3})
    name = next(iter(table))
    CHANGES[id(name)] = [put(table)] * 5
    assert new_values().digester.digest(table).opaque == ()


def test_a_reduction_that_is_disturbed_is_repeated() -> None:
    pickled = Pickled()
    CHANGES[id(pickled)] = [put(pickled.entries)] * 5
    assert new_values().digester.digest(pickled).opaque == ()
    assert not CHANGES[id(pickled)]


def test_what_never_holds_still_is_refused_with_its_class_and_the_step(tmp_path: Path) -> None:
    @step
    def read(thing: Pickled) -> int:
        return len(thing.entries)

    @flow
    def main() -> int:
        pickled = Pickled()
        CHANGES[id(pickled)] = [lambda: pickled.entries.update({f"{next(NUMBERS)}": 1})] * 9 * MOST_READS
        return read(pickled)

    with (
        iron.open(tmp_path / "journal.db"),
        pytest.raises(iron.ValueNotStorable, match=r"read.*argument thing: an object of type .*Pickled was changed"),
    ):
        main()


def test_a_function_is_mapped_whose_object_is_changed_at_each_line(tmp_path: Path) -> None:
    thing = Thing()
    vars(thing).update(table={"a": 1}, tags={1})

    @step
    def size(number: int) -> int:
        return number * len(vars(thing)["tags"])

    @flow
    def main() -> list[int]:
        return list(size.map([1, 2, 3]))

    with iron.open(tmp_path / "journal.db"), changed_at_each_line(put(vars(thing)["table"])):
        assert main() == [1, 2, 3]
