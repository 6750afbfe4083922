"""Code that is reached through containers, registries and objects counts as code that is named does."""

from __future__ import annotations

from typing import Any

import pytest

from ironflow_nb.code_identity.code_parts import describe_code
from ironflow_nb.code_identity.tracker import Tracker
from tests.cells import run_cell
from tests.code_identity.tracked import track

CELL = """
import collections, functools, types
from dataclasses import dataclass

def first(x): return x + 1
def second(x): return x + 2

class Model:
    def __init__(self, rate=1): self.rate = rate
    def predict(self, x): return x * 3

@dataclass(frozen=True)
class Setup:
    handler: object
    name: str = "setup"

class Registry:
    known = {}
    def __init__(self): self.handlers = {}
    def add(self, f):
        self.handlers[f.__name__] = f
        self.known[f.__name__] = f
        return f

registry = Registry()
@registry.add
def added(x): return x + 4

@functools.singledispatch
def dispatched(x): return 0
@dispatched.register
def _(x: int): return x + 5

@functools.cache
def cached(x): return x + 6

def helper(x, chosen=[first]): return chosen[0](x)
def closing(handlers):
    def inner(x): return handlers["a"](x)
    return inner

BY_NAME = {"a": first, "b": second}
IN_ORDER = [first, second]
FIXED = (first, second)
SOME = frozenset({first, second})
QUEUE = collections.deque([first])
VIEW = types.MappingProxyType({"a": first})
NESTED = {"a": {"b": [(first,)]}}
BOUND = {"a": functools.partial(first, 1)}
METHODS = {"a": Model().predict}
MODELS = (Model(), Model(2))
CLASSES = {"a": Model}
SPACE = types.SimpleNamespace(handler=first)
MIXED = {"a": first, "limit": 3}
ORDERED = collections.OrderedDict(a=first)
setup = Setup(first)
closed = closing({"a": first})

def by_name(x): return BY_NAME["a"](x)
def in_order(x): return IN_ORDER[0](x)
def fixed(x): return FIXED[0](x)
def some(x): return [f(x) for f in SOME]
def queue(x): return QUEUE[0](x)
def view(x): return VIEW["a"](x)
def nested(x): return NESTED["a"]["b"][0][0](x)
def bound(x): return BOUND["a"]()
def methods(x): return METHODS["a"](x)
def models(x): return MODELS[0].predict(x)
def classes(x): return CLASSES["a"]().predict(x)
def space(x): return SPACE.handler(x)
def mixed(x): return MIXED["a"](x)
def ordered(x): return ORDERED["a"](x)
def of_setup(x): return setup.handler(x)
def of_registry(x): return registry.handlers["added"](x)
def of_class(x): return Registry.known["added"](x)
def by_dispatch(x): return dispatched(x)
def by_cache(x): return cached(x)
def by_default(x): return helper(x)
def by_closure(x): return closed(x)
"""
REACH_FIRST = {
    "by_name", "in_order", "fixed", "some", "queue", "view", "nested", "bound", "space", "mixed", "ordered",
    "of_setup", "by_default", "by_closure",
}  # fmt: skip
REACHED = {
    "x + 1": REACH_FIRST,
    "x + 2": {"by_name", "in_order", "fixed", "some"},
    "x * 3": {"methods", "models", "classes"},
    "x + 4": {"of_registry", "of_class"},
    "x + 5": {"by_dispatch"},
    "x + 6": {"by_cache"},
}
STEPS = set.union(*REACHED.values())


def run(cell: str = CELL) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    run_cell(cell, namespace)
    return namespace


def codes(namespace: dict[str, Any]) -> dict[str, Any]:
    return {name: track(namespace[name]).digest for name in STEPS}


@pytest.mark.parametrize("edited", REACHED)
def test_an_edit_of_what_a_container_leads_to_changes_the_step(edited: str) -> None:
    before, after = codes(run()), codes(run(CELL.replace(edited, f"{edited} + 100")))
    assert {name for name in STEPS if before[name] != after[name]} == REACHED[edited]


def test_the_code_does_not_depend_on_where_it_is_defined() -> None:
    assert codes(run()) == codes(run("\n\n" + CELL))


def test_what_has_another_key_or_place_is_other_code() -> None:
    before = codes(run())
    swapped = codes(run(CELL.replace('{"a": first, "b": second}', '{"b": first, "a": second}')))
    assert {name for name in STEPS if before[name] != swapped[name]} == {"by_name"}
    turned = codes(run(CELL.replace('{"a": first, "b": second}', '{"b": second, "a": first}')))
    assert turned == before


CHANGES = {
    "a member more": ("by_name", 'BY_NAME["c"] = second'),
    "another member": ("by_name", 'BY_NAME["a"] = second'),
    "a member less": ("by_name", 'del BY_NAME["b"]'),
    "another key": ("by_name", 'BY_NAME["z"] = BY_NAME.pop("a")'),
    "a list that grows": ("in_order", "IN_ORDER.append(helper)"),
    "another list": ("in_order", "IN_ORDER = [second]"),
    "another dict of code and data": ("mixed", 'MIXED = {"a": second, "limit": 3}'),
    "deep inside": ("nested", 'NESTED["a"]["b"].append(second)'),
    "an attribute": ("space", "SPACE.handler = second"),
    "registered": ("of_registry", "registry.add(second)"),
    "registered in a class": ("of_class", "registry.add(second)"),
    "in what was empty": ("emptied", "EMPTY.append(first)"),
    "in a closure": ("by_closure", 'closed.__closure__[0].cell_contents["a"] = second'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_container_that_changes_in_place_is_noticed_at_the_next_call(change: str) -> None:
    name, statement = CHANGES[change]
    namespace = run(CELL + "\nEMPTY = []\ndef emptied(x): return [f(x) for f in EMPTY]\n")
    tracker = Tracker(namespace[name])
    before = tracker.current()
    assert tracker.current() is before
    exec(statement, namespace)
    assert tracker.current().digest != before.digest


@pytest.mark.parametrize(
    "statement", ["FOUND.append(Model())", "keeper.last = Model()", "BY_KEY['a'] = Setup(Model())"]
)
def test_objects_in_what_may_change_are_data(statement: str) -> None:
    more = "FOUND = []\nBY_KEY = {}\nclass Keeper:\n    last = None\nkeeper = Keeper()\n"
    namespace = run(f"{CELL}\n{more}def collect(x): return FOUND, keeper.last, BY_KEY\n")
    tracker = Tracker(namespace["collect"])
    before = tracker.current()
    exec(statement, namespace)
    assert tracker.current().digest == before.digest


def test_data_that_changes_is_not_taken_for_code() -> None:
    namespace = run(CELL)
    tracker = Tracker(namespace["mixed"])
    before = tracker.current()
    namespace["MIXED"]["limit"] = 4
    assert tracker.current() is before


@pytest.mark.parametrize(("name", "is_named"), [("by_name", False), ("mixed", True), ("models", True)])
def test_what_is_not_tracked_is_named(name: str, is_named: bool) -> None:
    text = describe_code(track(run()[name]))
    assert ("Not tracked" in text) == is_named


def test_what_is_beyond_the_bounds_is_named() -> None:
    namespace = run(CELL + "\nMANY = [first] * 300\ndef many(x): return MANY[-1](x)\n")
    tracked = track(namespace["many"])
    assert ("MANY", "mutable data") in [(each.name, each.words) for each in tracked.untracked]


def test_containers_that_contain_themselves_end() -> None:
    namespace = run(CELL + "\nLOOP = {'a': first}\nLOOP['self'] = LOOP\ndef loop(x): return LOOP['a'](x)\n")
    assert "first" in [part.name for part in track(namespace["loop"]).parts]


HOLDERS = """
import enum, functools, pathlib
def add(x): return x + 1
class Box:
    def open(self, x): return x + 2
class Way(enum.Enum):
    PARTIAL = enum.member(functools.partial(add))
    SEVERAL = (add, "up")
    KIND = (Box,)
class Speaking(enum.Enum):
    LOW = 1
    def say(self, x): return x + 3
class Right(enum.Flag):
    READ = 1
    WRITE = 2
    def say(self, x): return x + 3
class Place(pathlib.PurePosixPath):
    def say(self, x): return x + 3
CHOSEN = Way.SEVERAL
LEVELS = ("low", (Speaking.LOW,))
HOME = Place("a")
def say(level, x): return level.say(x)
def with_attribute(x): return with_attribute.handler(x)
with_attribute.handler = add
with_attribute.table = {"a": add}
with_attribute.n_calls = 0

def of_partial(x): return Way.PARTIAL.value(x)
def of_several(x): return Way.SEVERAL.value[0](x)
def of_kind(x): return Way.KIND.value[0]().open(x)
def of_chosen(x): return CHOSEN.value[0](x)
def handed_on(x): return say(Speaking.LOW, x)
def in_tuple(x): return LEVELS[1][0].say(x)
def of_flag(x): return (Right.READ | Right.WRITE).say(x)
def of_path(x): return HOME.say(x)
def of_attribute(x): return with_attribute(x)
def of_table(x): return with_attribute.table["a"](x)
"""
HELD = {
    "x + 1": {"of_partial", "of_several", "of_chosen", "of_attribute", "of_table"},
    "x + 2": {"of_kind"},
    "x + 3": {"handed_on", "in_tuple", "of_flag", "of_path"},
}


@pytest.mark.parametrize("edited", HELD)
def test_an_edit_of_what_a_constant_or_a_function_holds_changes_the_step(edited: str) -> None:
    names = set.union(*HELD.values())
    before, after = run(HOLDERS), run(HOLDERS.replace(edited, f"{edited} + 100"))
    assert {each for each in names if track(before[each]).digest != track(after[each]).digest} >= HELD[edited]
    assert {each for each in names if track(before[each]).digest != track(run(HOLDERS)[each]).digest} == set()


def test_a_number_that_a_function_holds_is_data_and_named() -> None:
    namespace = run(HOLDERS + "def counted(x): return with_attribute.n_calls\n")
    tracker = Tracker(namespace["counted"])
    before = tracker.current()
    namespace["with_attribute"].n_calls += 1
    assert tracker.current() is before
    assert "with_attribute.n_calls" in before.data
    namespace["with_attribute"].handler = namespace["say"]
    assert tracker.current().digest != before.digest


@pytest.mark.parametrize("edit", ["number + 2", "number - 1"])
def test_a_member_of_an_enum_that_is_called_is_followed_to_its_code(edit: str) -> None:
    source = """
import enum, functools
def add(number):
    return number + 1
class Way(enum.Enum):
    UP = functools.partial(add)
    def __call__(self, number):
        return self.value(number)
def work(number):
    return Way.UP(number)
"""

    def digest(text: str) -> object:
        names: dict[str, Any] = {}
        run_cell(text, names)
        return track(names["work"]).digest

    assert digest(source) == digest(source)
    assert digest(source.replace("number + 1", edit)) != digest(source)
