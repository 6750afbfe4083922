"""What an edit changes: of a notebook with many steps exactly those that refer to what was edited."""

from __future__ import annotations

from functools import cache

import pytest

from tests.code_identity.notebook import NOTEBOOK, changed, codes, run

HELPED = {"deep", "nested", "make"}
MODEL = {"make"}

# What it is, the text before, the text after, and the steps that change; without the prefix `step_`.
EDITS = [
    ("the step itself", "plain(x):\n    return x + 1", "plain(x):\n    return x + 2", {"plain", "calls"}),
    ("a comment", "def helper(x):", "def helper(x):  # as before", set()),
    ("a comment on a line of its own", "    return helper(x) * 2", "    # again\n    return helper(x) * 2", set()),
    ("a docstring", '"""Say nothing."""', '"""Say something."""', set()),
    ("a docstring that goes", '    """Say nothing."""\n', "", set()),
    ("the docstring of a class", '"""A point on a line."""', '"""A point."""', set()),
    ("blank lines", "def helper(x):\n", "\n\n\ndef helper(x):\n\n", set()),
    ("spaces", "x + LIMIT", "x+LIMIT", set()),
    ("parentheses", "return x + LIMIT", "return (x + LIMIT)", set()),
    ("quotes", 'return "shared"', "return 'shared'", set()),
    ("how a number is written", "LIMIT = 10", "LIMIT = 0xA", set()),
    ("a helper", "x + LIMIT", "x - LIMIT", HELPED),
    ("a helper of helpers", "helper(x) * 2", "helper(x) * 3", {"deep"}),
    ("a name inside a helper", "def helper(x):\n    return x + LIMIT", "def helper(y):\n    return y + LIMIT", HELPED),
    ("one of two that call each other", "n == 0 or odd", "n == 1 or odd", {"even", "declared"}),
    ("the other of the two", "n != 0 and even", "n != 1 and even", {"even", "declared"}),
    ("a constant", "LIMIT = 10", "LIMIT = 20", {"limit", "text"} | HELPED),
    ("the type of a constant", "LIMIT = 10", "LIMIT = 10.0", {"limit", "text"} | HELPED),
    ("a constant that turns into data", "LIMIT = 10", "LIMIT = [10]", {"limit", "text"} | HELPED),
    ("a constant that a method uses", "RATE = 0.5", "RATE = 0.25", {"point", "object"}),
    ("a constant that nothing uses", "UNUSED = 1", "UNUSED = 2", set()),
    ("an item of a tuple", 'NAMES = ("a", "b")', 'NAMES = ("a", "c")', {"names"}),
    ("an item of a frozenset", '{"x", "y"}', '{"x", "z"}', {"names"}),
    ("the order of a frozenset", '{"x", "y"}', '{"y", "x"}', set()),
    ("a path", 'Path("data")', 'Path("other")', {"values"}),
    ("a date", "date(2026, 1, 1)", "date(2026, 1, 2)", {"values"}),
    ("a pattern", 're.compile("a+")', 're.compile("a*")', {"values"}),
    ("data that can change", 'table = {"a": 1}', 'table = {"a": 2}', set()),
    ("the arguments of an object", "point = Point(1)", "point = Point(2)", set()),
    ("the value of a member", "RED = 1", "RED = 3", {"color", "label"}),
    ("another member", "BLUE = 2", "BLUE = 3", set()),
    ("a method of a member", "self.name.lower()", "self.name.upper()", {"color", "label"}),
    ("a method of a dataclass", "abs(self.x) * RATE", "abs(self.x) + RATE", {"point", "object"}),
    ("a field of a dataclass", "x: int = 0\n", "x: int = 1\n", {"point", "object"}),
    ("the factory of a field", "default_factory=list", "default_factory=dict", {"point", "object"}),
    ("a field of a struct", "n: int = 1", "n: int = 2", {"row"}),
    ("a static method", "return x * 2", "return x * 4", {"scale"} | MODEL),
    ("a property", "return 4", "return 5", MODEL),
    ("an attribute of a class", "depth = 3", "depth = 4", {"depth"} | MODEL),
    ("a method that a class method's object has", "self.helped(x), super()", "self.helped(x + 1), super()", MODEL),
    ("a method of a base class", 'return "shared"', 'return "common"', MODEL),
    ("a base class", "class Model(Base)", "class Model", MODEL),
    ("a decorator", "function(*args), function(*args)", "function(*args)", {"twice"}),
    ("a decorator that returns what it gets", "is_noted = True", "is_noted = False", {"noted"}),
    ("a decorator that is taken away", "@step\n@twice\n", "@step\n", {"twice"}),
    ("an option of ours", "@step\n@twice\n", "@step(retries=3)\n@twice\n", set()),
    ("what a partial calls", "    return x + n\n\ndef make_adder", "    return x - n\n\ndef make_adder", {"partial"}),
    ("an argument of a partial", "partial(add, n=2)", "partial(add, n=3)", {"partial"}),
    ("a default of a helper", "def add(x, n=0)", "def add(x, n=1)", {"partial"}),
    ("the body of a closure", "return x + n\n    return adder", "return x - n\n    return adder", {"closure"}),
    ("what a closure holds", "make_adder(3)", "make_adder(4)", {"closure"}),
    ("a cached function", "x ** 2", "x ** 3", {"cached"}),
    ("the options of its cache", "@functools.lru_cache\n", "@functools.lru_cache(maxsize=2)\n", {"cached"}),
    ("one of the functions for a type", 'f"{x:d}"', 'f"{x:x}"', {"shown"}),
    ("a lambda", "lambda x: x + 1", "lambda x: x + 2", {"first"}),
    ("the other lambda of the line", "(lambda x: x * 2)", "(lambda x: x * 3)", {"second"}),
    ("a coroutine", "asyncio.sleep(0)", "asyncio.sleep(1)", {"async"}),
    ("a helper of a nested function", "return x + LIMIT", "return LIMIT + x", HELPED),
    ("a nested function", "return helper(y)", "return helper(y) + 1", {"nested"}),
    ("a method of its own class", "part(self, x):\n        return x", "part(self, x):\n        return -x", {"of_job"}),
    ("another method of it", 'return "unused"', 'return "useless"', set()),
    ("the default of a step", "def step_default(x, n=LIMIT)", "def step_default(x, n=11)", {"default"}),
    ("a name that means something else", "def odd(n):", "odd = lambda n: even(n)\ndef old(n):", {"even", "declared"}),
    ("a helper that goes", "def helper(x):", "def gone(x):", HELPED),
    ("a helper out of the library", "def helper(x):", "from math import sqrt as helper\ndef gone(x):", HELPED),
    ("the order of definitions", "\nRATE = 0.5\nNAMES", "\nNAMES", {"point", "object"}),
]  # fmt: skip


@cache
def before() -> dict[str, str]:
    return codes(run(NOTEBOOK))


@pytest.mark.parametrize(("title", "old", "new", "steps"), EDITS, ids=[row[0] for row in EDITS])
def test_an_edit_changes_exactly_the_steps_that_refer_to_it(title: str, old: str, new: str, steps: set[str]) -> None:
    assert NOTEBOOK.count(old) == 1, f"{old!r} is there {NOTEBOOK.count(old)} times"
    assert changed(before(), codes(run(NOTEBOOK.replace(old, new)))) == steps


def test_the_same_cell_run_again_changes_nothing() -> None:
    assert changed(before(), codes(run(NOTEBOOK))) == set()


def test_undoing_an_edit_brings_the_code_back() -> None:
    names = run(NOTEBOOK)
    for source in (NOTEBOOK.replace("LIMIT = 10", "LIMIT = 11"), NOTEBOOK):
        exec(source, names)
    assert changed(before(), codes(run(NOTEBOOK))) == set()
