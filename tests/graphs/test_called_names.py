"""Which names a ``python`` node may call without a grant: functions that the notebook has defined, and steps."""

from __future__ import annotations

import functools
import operator
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import FlowNotDefined, NotGranted
from ironflow_nb.graphs.graph import Graph

CELL = """
import functools, math, os, random, shutil, subprocess
from os import system
from shutil import rmtree as clean_up
from math import floor
import ironflow_nb as iron

def notify(text="x"): return text
shout = lambda text="x": text.upper()
loud = functools.partial(notify, text="LOUD")
same = notify
cached = functools.lru_cache(notify)

class Client:
    def post(self, text="x"): return text
    def __call__(self, text="x"): return text
    @classmethod
    def make(cls, text="x"): return text
    @staticmethod
    def plain(text="x"): return text

client = Client()
post, make, plain = client.post, Client.make, Client.plain

@functools.wraps(notify)
def wrapped(text="x"): return text

@iron.step
def stepped(text="x"): return text

quiet = functools.partial(os.system, "true")
remove = functools.partial(functools.partial(shutil.rmtree), ignore_errors=True)
class Shell(subprocess.Popen): pass
attached = [].append
chance = random.random
process = subprocess.Popen
upper = str.upper
get = __import__("operator").itemgetter(0)
made = dict.fromkeys
opened = open
evaluated = eval
left = __import__("_sitebuiltins").Quitter("left", "")
bound = Shell.wait
"""

FREE = ("notify", "shout", "loud", "same", "cached", "client", "post", "make", "plain", "wrapped", "stepped", "Client")
TO_LIST = (
    "system", "clean_up", "floor", "quiet", "remove", "attached", "chance", "process", "upper", "get", "made", "opened",
    "evaluated", "left", "bound",
)  # fmt: skip


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A notebook in which a cell was run."""
    from types import ModuleType

    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(CELL, vars(module))
    with iron.open(":memory:"):
        yield vars(module)


def calling(name: str, **allow: Any) -> Graph:
    return Graph.from_dict({"graph": "g", "allow": allow, "nodes": [{"id": "a", "python": name}]})


def passes(graph: Graph) -> bool:
    """Return True if the graph may call all that it names."""
    try:
        graph._prepare()
    except NotGranted:
        return False
    return True


@pytest.mark.parametrize("name", FREE)
def test_what_the_notebook_defines_needs_no_grant(cell: dict[str, Any], name: str) -> None:
    assert passes(calling(name))


@pytest.mark.parametrize("name", TO_LIST)
def test_what_it_has_imported_or_python_brings_along_is_listed(cell: dict[str, Any], name: str) -> None:
    with pytest.raises(NotGranted, match=rf"python '{name}' comes from .*allow: \{{python: \[{name}\]\}}"):
        calling(name)()
    assert len(iron.runs()) == 0
    calling(name, python=[name])._prepare()
    calling(name, python=True)._prepare()


@pytest.mark.parametrize("name", ["open", "exit", "eval", "__import__", "__builtins__", "__loader__", "os", "__name__"])
def test_builtins_are_no_names_of_the_notebook(cell: dict[str, Any], name: str) -> None:
    with pytest.raises((NotGranted, FlowNotDefined)):
        calling(name)()


@pytest.mark.parametrize(
    ("name", "granted"),
    [
        ("os.system", []),
        ("os.system", ["shutil", "osx", "o", "os.path"]),
        ("shutil.os.system", ["shutil"]),
        ("tempfile._os", ["tempfile"]),
        ("subprocess.builtins.eval", ["subprocess"]),
        ("importlib.import_module", ["json"]),
        ("functools.namedtuple", ["functools"]),
    ],
)
def test_a_module_grants_what_it_defines_and_nothing_that_it_has_imported(name: str, granted: list[str]) -> None:
    with pytest.raises((NotGranted, FlowNotDefined, iron.errors.DefinitionError)):
        calling(name, python=granted)._prepare()


@pytest.mark.parametrize(
    ("name", "granted"),
    [
        ("math.floor", ["math"]),
        ("json.dumps", ["json"]),
        ("xml.sax.saxutils.escape", ["xml.sax"]),
        ("functools.namedtuple", ["functools.namedtuple"]),
        ("os.path.join", ["os.path"]),
        ("os.getcwd", ["os"]),
        ("operator.add", ["operator"]),
        ("random.random", ["random"]),
    ],
)
def test_a_function_is_granted_by_its_module_or_by_its_name(name: str, granted: list[str]) -> None:
    assert passes(calling(name, python=granted))
    assert not passes(calling(name))


def test_functions_that_are_given_to_the_graph_need_no_grant() -> None:
    given = {"run": functools.partial(os.getpid), "get": operator.itemgetter(0), "r": random.random, "w": shutil.which}
    nodes = [{"id": name, "python": name} for name in given]
    Graph.from_dict({"graph": "g", "allow": {}, "nodes": nodes}, functions=given)._prepare()
    assert callable(subprocess.run)
