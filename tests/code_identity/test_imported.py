"""What a body imports itself counts before the import as it does after it, in runs and in every process."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FunctionType

import pytest

from ironflow_nb import flow, step
from ironflow_nb.code_identity.tracker import Tracker
from tests.cells import World
from tests.code_identity.tracked import track
from tests.conftest import Lab

FILES = {
    "__init__": "",
    "tools": """
from . import limits as bounds
from .registry import TABLE
import lazily.inner.deep as deep

UNRELATED = 1

def clean(x):
    return deep.low(min(x, bounds.LIMIT)) + TABLE["double"](x)

def other(x):
    return x + UNRELATED
""",
    "limits": "LIMIT = 10\n",
    "registry": """
TABLE = {}

def register(function):
    TABLE[function.__name__] = function
    return function

@register
def double(x):
    return x * 2
""",
    "inner/__init__": "",
    "inner/deep": "def low(x):\n    return x - 1\n",
}

Write = Callable[[str, str, str], None]


def by_name(x: int) -> int:
    from lazily.tools import clean  # type: ignore[import-not-found]

    return int(clean(x))


def by_module(x: int) -> int:
    import lazily.tools

    return int(lazily.tools.clean(x))


def by_package(x: int) -> int:
    from lazily import tools as short

    return int(short.clean(x))


def by_helper(x: int) -> int:
    return by_name(x)


BODIES = [by_name, by_module, by_package, by_helper]


def forget() -> None:
    """Make the modules as unknown as they are to another process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazily"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Put something else in the place of a text in a file of the package `lazily`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    times = count(1_700_000_000 * 10**9, 10**9)

    def write(name: str, old: str, new: str) -> None:
        path = tmp_path / "lazily" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text().replace(old, new) if old else new)
        os.utime(path, ns=(next(times),) * 2)

    for name, text in FILES.items():
        write(name, "", text)
    yield write
    forget()


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_a_body_that_imports_is_the_same_code_before_the_import_and_after_it(write: Write, body: FunctionType) -> None:
    tracker = Tracker(body)
    before = tracker.current()
    body(1)
    assert tracker.current() == before
    forget()
    assert tracker.current() == before


@pytest.mark.parametrize(
    ("name", "old", "new", "counts"),
    [
        ("tools", "min(x", "max(x", True),
        ("limits", "10", "20", True),
        ("inner/deep", "- 1", "- 2", True),
        ("registry", "* 2", "* 3", True),
        ("tools", "UNRELATED = 1", "UNRELATED = 2", False),
        ("tools", "x + UNRELATED", "x - UNRELATED", False),
        ("limits", "10\n", "10  # of them\n", False),
        ("__init__", "", "VERSION = 1\n", False),
    ],
)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_edits_of_what_the_imported_consists_of_count(
    write: Write, body: FunctionType, name: str, old: str, new: str, counts: bool
) -> None:
    before = track(body).digest
    write(name, old, new)
    assert (track(body).digest != before) is counts


def test_a_module_that_was_imported_is_what_it_was_until_it_is_reloaded(write: Write) -> None:
    by_name(1)
    before = track(by_name).digest
    write("limits", "10", "20")
    assert track(by_name).digest == before
    importlib.reload(sys.modules["lazily.limits"])
    assert track(by_name).digest != before


def test_a_library_that_is_not_imported_yet_does_not_count(write: Write) -> None:
    def body() -> None:
        import wave

        import lazily_missing  # type: ignore[import-not-found]

        assert wave.__doc__ == lazily_missing.__doc__

    before = track(body).digest
    assert ("lazily_missing", "not imported yet") in [(each.name, each.words) for each in track(body).untracked]
    importlib.import_module("wave")
    assert track(body).digest == before


def test_finished_steps_whose_bodies_import_are_not_run_again(lab: Lab, world: World, write: Write) -> None:
    @step
    def work(x: int) -> int:
        from lazily.tools import clean

        world.did(x)
        return int(clean(x))

    @flow
    def main() -> list[int]:
        found = [work(1), work(2), *work.map([3, 4])]
        if world.is_broken:
            raise RuntimeError
        return found

    world.is_broken = True
    with pytest.raises(RuntimeError):
        main()
    forget()
    lab.cell()
    world.is_broken = False
    assert main() == [2, 5, 8, 11]
    assert sorted(world.log) == [1, 2, 3, 4]
