"""Functions, methods, callable objects and classes as values identify by their code and by what they are bound to."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.values import classes, signed_pickles
from tests.cells import run_cell
from tests.values.workshop import new_values

CELL = """
import dataclasses
import functools
import attrs
import numpy as np
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
def classes(n):
    @dataclasses.dataclass
    class Pair:
        a: int
        b: int = n
        def total(self):
            return self.a + self.b + n
    @attrs.define
    class Point:
        x: int
        def far(self):
            return self.x > n
    class Plain:
        k = n
        def get(self, f=lambda: 1):
            return self.k + n + f()
    return Pair, Point, Plain
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
    "property": "property(helper)", "class method object": "classmethod(helper)",
    "in a list": "[double, {'f': helper}]", "in an object": "Data(double)",
    "local dataclass": "classes(3)[0]", "local attrs": "classes(3)[1]", "local class": "classes(3)[2]",
    "of a local dataclass": "classes(3)[0](1)", "of a local attrs": "classes(3)[1](1)",
    "local method": "classes(3)[2]().get", "in an array": "np.array([double, 1], dtype=object)",
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
        "property",
        "class method object",
        "registered",
        "wrapped",
        "in an array",
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


def test_each_function_of_a_property_identifies_it() -> None:
    space = cells()
    one, two = space["helper"], space["double"]
    made = [property(one), property(two), property(one, two), property(one, None, two), functools.cached_property(one)]
    assert len({digest(each).digest for each in made}) == 5
    assert not [each for each in made if digest(each).opaque]


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


def test_an_inner_lambda_is_not_taken_for_the_outer_one_of_its_line() -> None:
    namespace: dict[str, Any] = {}
    run_cell("outer = lambda: (lambda: 1)\npair = lambda: (lambda: 1, lambda: 2)\nalone = lambda: 1\n", namespace)
    inner, alone, one = namespace["outer"](), namespace["alone"], namespace["pair"]()[0]
    code = new_values().digester.code.of_function
    assert code(inner) == code(alone) == code(one)


def test_a_class_of_a_function_is_the_same_before_and_after_it_was_stored() -> None:
    namespace = cells()
    for name in ("local dataclass", "local attrs", "local class"):
        kind = eval(VALUES[name], namespace)
        before = digest(kind)
        _, echo = new_values().store(kind)
        assert digest(kind) == digest(echo) == before


def loaded(stored: Any) -> Any:
    return new_values().decode(stored)


@pytest.mark.parametrize("name", ["def", "nested", "local class", "of a local dataclass", "in a list", "in an array"])
def test_code_that_another_python_compiled_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr(classes, "PYTHON", "cpython 3.9")
        stored, _ = new_values().store(made(name))
    with pytest.raises(ValueUnreadable, match=r"compiled by cpython 3.9, and this is cpython 3\.") as caught:
        loaded(stored)
    assert caught.value.python == "cpython 3.9"


class OfAnotherRelease:
    """Is rebuilt by what the Python of now has not, as the parameters of dataclasses may be."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_code_of_another_python_is_refused_before_its_state_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local:
        state = OfAnotherRelease()

    with monkeypatch.context() as there:
        there.setattr(classes, "PYTHON", "cpython 3.9")
        content = signed_pickles.pickled(Local)
    with pytest.raises(ValueUnreadable, match="Local was compiled by"):
        signed_pickles.unpickled(content)


def test_parts_of_failures_say_which_python_compiled_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr(classes, "PYTHON", "cpython 3.9")
        content = signed_pickles.pickled({"rule": made("nested")})
    with pytest.raises(ValueUnreadable, match=r"adder.<locals>.add was compiled by cpython 3.9"):
        signed_pickles.unpickled(content)


def without_name(code: Any, reduced: tuple[Any, ...], note: bytes) -> tuple[Any, ...]:
    """Reduce code as releases did that noted neither its name nor the Python that compiled it."""
    if len(reduced) < 6:  # it goes by its name
        return reduced
    make, args, state, items, pairs, set_state = reduced
    return make, args, (set_state, state, note), items, pairs, classes.restore_code


def foreign(f: Any) -> Any:
    """Return the function with bytecode that no Python of this version makes."""
    code = f.__code__
    return types.FunctionType(code.replace(co_code=code.co_code[:2] + bytes([0, 0]) + code.co_code[2:]), f.__globals__)


def test_older_pickles_load_unless_their_bytecode_is_none_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_pickles, "with_note", without_name)
    namespace = cells()
    stored = new_values().encode([namespace["double"], namespace["adder"](1)])
    assert [f(2) for f in loaded(stored)] == [4, 8]
    stored = new_values().encode(foreign(namespace["helper"]))
    with pytest.raises(ValueUnreadable, match="compiled by another Python"):
        loaded(stored)


PROGRAM = """
import pickle, sys
from tests.cells import run_cell
from tests.values.test_code_as_values import CELL, OF_CLASS, VALUES
from tests.values.workshop import new_values
mode, path = sys.argv[1:]
if mode != "load, and no cell has run":
    run_cell(CELL, globals())
if mode == "store":
    stored = {name: new_values().encode(eval(VALUES[name])) for name in VALUES if name != "cached"}
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


@pytest.mark.parametrize("filename", ["<dynamic-code>", "<another place>", "/tmp/ipykernel_1/2.py", "its own"])
@pytest.mark.parametrize("name", ["lambda", "nested", "mutual", "step", "local dataclass", "local attrs"])
def test_whatever_file_name_the_pickler_gives_the_code_it_identifies_alike(
    name: str, filename: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = cloudpickle.Pickler.dispatch_table
    kind = type(digest.__code__)
    reduce = table[kind]

    def reduced(code: Any) -> tuple[Any, ...]:
        make, args = reduce(code)
        given = code.co_filename if filename == "its own" else filename
        return make, tuple(given if arg in (code.co_filename, "<dynamic-code>") else arg for arg in args)

    monkeypatch.setitem(table.maps[0], kind, reduced)
    values = new_values()
    _, echo = values.store(made(name))
    assert values.digester.digest(echo) == digest(made(name))
