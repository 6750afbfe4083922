"""A notebook of steps that refer to code in many ways, and what it takes to run it before and after an edit."""

from __future__ import annotations

from typing import Any

from tests.cells import run_cell
from tests.code_identity.tracked import track

NOTEBOOK = '''
import asyncio, datetime, enum, functools, math, re
from dataclasses import dataclass, field
from pathlib import Path
import msgspec
from ironflow_nb import flow, step

LIMIT = 10
RATE = 0.5
NAMES = ("a", "b")
WORDS = frozenset({"x", "y"})
FOLDER = Path("data")
SINCE = datetime.date(2026, 1, 1)
PATTERN = re.compile("a+")
UNUSED = 1
table = {"a": 1}

class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def label(self):
        return self.name.lower()

@dataclass
class Point:
    """A point on a line."""
    x: int = 0
    tags: list = field(default_factory=list)
    def norm(self):
        return abs(self.x) * RATE

class Row(msgspec.Struct):
    n: int = 1

class Base:
    def shared(self):
        return "shared"

class Model(Base):
    depth = 3
    @staticmethod
    def scale(x):
        return x * 2
    @classmethod
    def make(cls):
        return cls()
    @property
    def size(self):
        return 4
    def fit(self, x):
        return self.helped(x), super().shared()
    def helped(self, x):
        return helper(x)
    def other(self):
        return "other"

def helper(x):
    return x + LIMIT

def deep(x):
    """Say nothing."""
    return helper(x) * 2

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args), function(*args)
    return wrapper

def noted(function):
    function.is_noted = True
    return function

def add(x, n=0):
    return x + n

def make_adder(n):
    def adder(x):
        return x + n
    return adder

@functools.lru_cache
def cached(x):
    return x ** 2

@functools.singledispatch
def shown(x):
    return str(x)

@shown.register
def shown_number(x: int):
    return f"{x:d}"

async def waited(x):
    await asyncio.sleep(0)
    return x

add_two = functools.partial(add, n=2)
add_three = make_adder(3)
first, second = (lambda x: x + 1), (lambda x: x * 2)
point = Point(1)

@step
def step_plain(x):
    return x + 1
@step
def step_deep(x):
    return deep(x)
@step
def step_even(n):
    return even(n)
@step
def step_limit(x):
    return [y for y in x if y < LIMIT]
@step
def step_names():
    return NAMES, WORDS
@step
def step_values():
    return FOLDER, SINCE, PATTERN
@step
def step_color():
    return Color.RED
@step
def step_label():
    return Color.RED.label()
@step
def step_point(x):
    return Point(x).norm()
@step
def step_row():
    return Row()
@step
def step_scale(x):
    return Model.scale(x)
@step
def step_depth():
    return Model.depth
@step
def step_make(x):
    return Model.make()
@step
@twice
def step_twice(x):
    return x
@step
@noted
def step_noted(x):
    return x
@step
def step_partial(x):
    return add_two(x)
@step
def step_closure(x):
    return add_three(x)
@step
def step_cached(x):
    return cached(x)
@step
def step_shown(x):
    return shown(x)
@step
def step_first(x):
    return first(x)
@step
def step_second(x):
    return second(x)
@step
def step_data():
    return table["a"]
@step
def step_object():
    return point.x
@step
async def step_async(x):
    return await waited(x)
@step
def step_calls(x):
    return step_plain(x)
@step
def step_default(x, n=LIMIT):
    return x + n
@step
def step_nested(x):
    def inner(y):
        return helper(y)
    return [inner(z) for z in x]
@step
def step_shadow(LIMIT):
    helper = LIMIT
    return helper
@step
def step_annotated(x: Point) -> Point:
    y: Point = x
    return y
@step
def step_text(x):
    return f"{x!r:>{LIMIT}} of {x=}"
@step(depends=[odd])
def step_declared(x):
    return globals()["o" + "dd"](x)

class Job:
    def __init__(self):
        self.seen = 0
    @step
    def step_method(self, x):
        return self.part(x)
    def part(self, x):
        return x
    def unused(self):
        return "unused"

step_of_job = Job.step_method
'''


def run(source: str) -> dict[str, Any]:
    """Return the names of a fresh kernel in which the source was run as one cell."""
    names: dict[str, Any] = {"__name__": "__main__"}
    run_cell(source, names)
    return names


def codes(names: dict[str, Any]) -> dict[str, str]:
    """Return the digest of every step among the names."""
    return {name: track(value).digest.hex() for name, value in names.items() if name.startswith("step_")}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the steps whose code differs."""
    assert before.keys() == after.keys()
    return {name.removeprefix("step_") for name in before if before[name] != after[name]}
