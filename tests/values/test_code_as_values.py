"""Functions, methods, callable objects and classes as values identify by their code and by what they are bound to."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from tests.cells import run_cell
from tests.values.workshop import new_values

CELL = """
import functools
import ironflow_nb as iron
RATE = 2
def helper(x):
    return x * RATE
double = lambda x: helper(x)
def adder(n, *, by=1):
    def add(x, m=3):
        return helper(x) + n * by + m
    return add
def pair():
    def even(n):
        return n == 0 or odd(n - 1)
    def odd(n):
        return n > 0 and even(n - 1)
    return even
@iron.step
def a_step(x):
    return helper(x)
known = []
def keep(f):
    known.append(f)
    return f
@keep
def registered(x):
    return helper(x)
def plus(f):
    @functools.wraps(f)
    def outer(x):
        return f(x) + 1
    return outer
@plus
def wrapped(x):
    return helper(x)
class Scale:
    factor = 1
    def __init__(self, n):
        self.n = n
    def __call__(self, x):
        return helper(x) * self.n
    def apply(self, x):
        return self(x)
    @classmethod
    def unit(cls):
        return cls(1)
    @staticmethod
    def twice(x):
        return 2 * x
class Data:
    def __init__(self, n):
        self.n = n
    def shown(self):
        return "one"
"""
VALUES = {
    "def": "helper", "lambda": "double", "nested": "adder(1)", "keyword": "adder(1, by=2)",
    "partial": "functools.partial(helper, 1)", "callable object": "Scale(2)", "method": "Scale(2).apply",
    "class method": "Scale.unit", "static method": "Scale.twice", "unbound": "Scale.apply", "class": "Scale",
    "registered": "registered", "wrapped": "wrapped", "mutual": "pair()",
    "cached": "functools.lru_cache(helper)", "step": "a_step",
    "in a list": "[double, {'f': helper}]", "in an object": "Data(double)",
}  # fmt: skip
EACH = pytest.mark.parametrize("name", VALUES)


def made(name: str, cell: str = CELL) -> Any:
    namespace: dict[str, Any] = {"__name__": "cells_of_a_test"}
    run_cell(cell, namespace)
    return eval(VALUES[name], namespace)


def digest(value: object) -> Any:
    return new_values().digester.digest(value)


@EACH
def test_what_is_defined_alike_identifies_alike(name: str) -> None:
    assert digest(made(name)) == digest(made(name))
    assert digest(made(name)).opaque == ()


@EACH
def test_comments_and_lines_do_not_identify(name: str) -> None:
    assert digest(made(name, "\n\n" + CELL.replace("):\n", "):  # it\n"))) == digest(made(name))


EDITS = {
    "helper": ("x * RATE", "x + RATE"),
    "constant": ("RATE = 2", "RATE = 3"),
    "default": ("m=3", "m=4"),
    "call": ("helper(x) * self.n", "helper(x) / self.n"),
    "apply": ("return self(x)", "return self(x) + 1"),
    "unit": ("cls(1)", "cls(2)"),
    "twice": ("2 * x", "x + x"),
    "data": ('"one"', '"two"'),
    "other of the pair": ("n > 0", "n >= 0"),
}
CHANGED = {
    "helper": {
        "def",
        "lambda",
        "nested",
        "keyword",
        "partial",
        "in a list",
        "in an object",
        "cached",
        "step",
        "registered",
        "wrapped",
    },
    "default": {"nested", "keyword"},
    "data": set(),
    "other of the pair": {"mutual"},
}
CHANGED["constant"] = CHANGED["helper"]
OF_CLASS = {"callable object", "method", "class method", "unbound", "class"}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_what_it_reaches(edit: str) -> None:
    edited = CELL.replace(*EDITS[edit])
    assert edited != CELL
    changed = {name for name in VALUES if digest(made(name, edited)) != digest(made(name))}
    static = {"static method"} if edit == "twice" else set()
    of_class = set() if edit in {"default", "other of the pair", "data"} else OF_CLASS
    assert changed == CHANGED.get(edit, set()) | of_class | static


def test_what_a_function_is_bound_to_identifies() -> None:
    def bound(a: Any, b: Any = 0, *, c: Any = 0) -> Any:
        return a, b, c

    partials = [functools.partial(bound, 1), functools.partial(bound, 2), functools.partial(bound, a=1)]
    nested = [eval(VALUES["nested"].replace("1", str(n)), namespace) for n in (1, 2) for namespace in [cells()]]
    assert len({digest(each) for each in [*partials, *nested]}) == 5


def cells() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "cells_of_a_test"}
    run_cell(CELL, namespace)
    return namespace


PROGRAM = """
import pickle, sys
from tests.cells import run_cell
from tests.values.test_code_as_values import CELL, OF_CLASS, VALUES
from tests.values.workshop import new_values
mode, path = sys.argv[1:]
if mode != "load, and no cell has run":
    run_cell(CELL, globals())
if mode == "store":
    stored = {name: new_values().encode(eval(VALUES[name])) for name in VALUES if name not in {"cached", "step"}}
    kept = {name: (each.content, each.mac, each.codec) for name, each in stored.items()}
    digests = {name: new_values().digester.digest(eval(VALUES[name])).digest for name in VALUES}
    open(path, "wb").write(pickle.dumps((kept, digests)))
else:
    from ironflow_nb.values.stored_value import StoredValue, value_id
    kept, digests = pickle.loads(open(path, "rb").read())
    for name, (content, mac, codec) in kept.items():
        if "cell" in mode and name in OF_CLASS | {"static method", "in an object"}:
            continue
        values = new_values()
        value = values.decode(StoredValue(value_id(codec, content), codec, content, len(content), "", mac=mac))
        again = values.store(value)[1]
        for each in (value, again):
            if values.digester.digest(each).digest != digests[name]:
                print(name)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["load", "load, and no cell has run"])
def test_code_of_cells_identifies_alike_in_the_next_process(tmp_path: Path, how: str) -> None:
    for mode, seed in (("store", "1"), (how, "2")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, mode, str(tmp_path / "values")],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("filename", ["<dynamic-code>", "<another place>", "/tmp/ipykernel_1/2.py"])
@pytest.mark.parametrize("name", ["lambda", "nested", "mutual"])
def test_whatever_file_name_the_pickler_gives_the_code_it_identifies_alike(
    name: str, filename: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = cloudpickle.Pickler.dispatch_table
    kind = type(digest.__code__)
    reduce = table[kind]
    monkeypatch.setitem(table.maps[0], kind, lambda code: reduce(code.replace(co_filename=filename)))
    values = new_values()
    _, echo = values.store(made(name))
    assert values.digester.digest(echo) == digest(made(name))
