"""Modules of the user's on disk: followed, edited under a running kernel, reloaded; and those of libraries."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ironflow_nb.code_identity.source import EDITED, is_user_file
from ironflow_nb.code_identity.syntax import function_tree
from ironflow_nb.code_identity.tracker import Tracker
from tests.code_identity.tracked import track

Write = Callable[..., ModuleType]

TOOLS = """
from .limits import LIMIT
def clean(x):
    return x[:LIMIT]
class Box:
    def open(self):
        return 1
"""
LIMITS = "LIMIT = 10\n"
STEPS = "from own import tools\nfrom own.tools import *\ndef work(x):\n    return tools.clean(x), Box()\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write the modules of a package of the user's, each with a time of its own, and import the last one anew."""
    monkeypatch.syspath_prepend(tmp_path)
    times = iter(range(10**18, 2 * 10**18, 10**10))

    def write(**files: str) -> ModuleType:
        for name, text in files.items():
            path = tmp_path / "own" / f"{name.replace('init', '__init__')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            os.utime(path, ns=(next(times),) * 2)
        importlib.invalidate_caches()
        return importlib.import_module(f"own.{[*files][-1]}")

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
        del sys.modules[name]


@pytest.fixture
def steps(write: Write) -> ModuleType:
    return write(init="", limits=LIMITS, tools=TOOLS, steps=STEPS)


def test_code_is_followed_through_modules_of_the_users(steps: ModuleType) -> None:
    names = [part.name for part in track(steps.work).parts]
    assert names == ["own.steps.work", "own.tools.Box", "own.tools.clean", "own.tools.LIMIT"]


def test_where_code_is_defined_does_not_matter(steps: ModuleType, write: Write) -> None:
    before = track(steps.work).digest
    own = TOOLS.replace("from .limits import LIMIT", LIMITS) + "import sys\ntools = sys.modules[__name__]\n"
    moved = write(all=own + STEPS.split("\n", 2)[2])
    assert track(moved.work).digest == before


@pytest.mark.parametrize("edit", [("x[:LIMIT]", "x[:LIMIT - 1]"), ("return 1", "return 2")])
def test_an_edit_on_disk_counts_when_the_module_is_imported_again(
    steps: ModuleType, write: Write, edit: tuple[str, str]
) -> None:
    tracker = Tracker(steps.work)
    before = tracker.current()
    tools = write(tools=TOOLS.replace(*edit))
    assert tracker.current() is before
    importlib.reload(tools)
    importlib.reload(steps)
    after = Tracker(steps.work).current()
    assert after.digest != before.digest
    assert after.parts[0].digest == before.parts[0].digest
    importlib.reload(write(tools=TOOLS))
    assert Tracker(importlib.reload(steps).work).current() == before


def test_of_a_file_that_was_edited_since_the_code_that_runs_counts(steps: ModuleType, write: Write) -> None:
    write(tools=TOOLS.replace("x[:LIMIT]", "x[:LIMIT - 1]"))
    tracked = track(steps.work)
    assert {each.name: each.words for each in tracked.untracked}["own.tools.clean"] == EDITED
    assert next(part for part in tracked.parts if part.name == "own.tools.clean").source == ""


def test_a_file_that_was_only_moved_about_in_is_still_the_code_that_runs(steps: ModuleType, write: Write) -> None:
    write(tools=TOOLS.replace("def clean(x):", "def clean(x):  # as before"))
    assert "own.tools.clean" not in {each.name for each in track(steps.work).untracked}


def test_a_rebound_constant_of_a_module_is_seen(steps: ModuleType) -> None:
    tracker = Tracker(steps.work)
    before = tracker.current().digest
    steps.tools.LIMIT = 20
    assert tracker.current().digest != before


def test_a_module_that_is_declared_counts_with_its_whole_source(steps: ModuleType, write: Write) -> None:
    package = sys.modules["own"]
    digests = [track(steps.work, [steps.tools]).digest, track(steps.work, [package]).digest]
    write(tools=TOOLS + "# a comment\n")
    assert track(steps.work, [steps.tools]).digest == digests[0]
    write(limits=LIMITS + "OTHER = 1\n")
    assert track(steps.work, [steps.tools]).digest == digests[0]
    assert track(steps.work, [package]).digest != digests[1]


@pytest.mark.parametrize("path", [os.__file__, pytest.__file__, importlib.import_module("ironflow_nb.errors").__file__])
def test_code_of_libraries_is_not_the_users(path: str) -> None:
    assert not is_user_file(path)


@pytest.mark.parametrize("path", ["<cell 1>", "/tmp/ipykernel_1/2.py", "/home/me/project/src/own/tools.py", __file__])
def test_cells_scripts_and_modules_outside_of_the_libraries_are_the_users(path: str) -> None:
    assert is_user_file(path)
    assert not is_user_file(f"{sysconfig.get_path('purelib')}/own.py")


BROKEN = {
    "open bracket": "def work(x):\n    return (x +\n",
    "open text": 'def work(x):\n    """nothing\n',
    "cut": "def work(",
    "indented": "def work(x):\n        a\n    b\n  c\n",
    "null": "def work(x):\n    return 1\0\n",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_module_in_the_middle_of_an_edit_is_known_by_the_code_that_runs(write: Write, how: str) -> None:
    module = write(
        broken="def work(x):\n    return x\ndef other(x):\n    return x + 1\nclass Box:\n    def open(self): return 1\n"
        "short = lambda x: x\n"
    )
    assert module.__file__ is not None
    Path(module.__file__).write_text(BROKEN[how])
    for code in (module.work, module.other, module.Box, module.short):
        tracked = track(code)
        assert tracked.untracked
        function_tree(code)  # which takes what it finds
    assert track(module.work, depends=[module]).digest != track(module.work).digest
