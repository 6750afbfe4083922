"""The code as it is at each call: what happened since the last one is seen, and nothing is done where nothing has."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.code_identity import tracker as tracker_module
from ironflow_nb.code_identity.tracker import Tracker, start_epoch
from tests.cells import run_cell
from tests.code_identity.notebook import run
from tests.code_identity.tracked import track

SOURCE = """
import math
LIMIT = 10
table = {"a": 1}
class Box:
    size = 1
    def open(self):
        return LIMIT
def help(x):
    return math.sqrt(x) + len(table)
def make(n):
    def inner(x):
        return x + n
    def change(m):
        nonlocal n
        n = m
    return inner, change
inner, change = make(1)
def work(x):
    return help(x), Box(), inner(x), later
"""

HAPPENINGS = [
    ("a constant is rebound", "LIMIT = 20"),
    ("a constant gets an equal value of another type", "LIMIT = 10.0"),
    ("a constant is deleted", "del LIMIT"),
    ("a helper is defined again", "def help(x):\n    return x"),
    ("the code of a helper is replaced, as a reload does", "help.__code__ = (lambda x: x).__code__"),
    ("a method is replaced", "Box.open = help"),
    ("the code of a method is replaced", "Box.open.__code__ = (lambda self: 5).__code__"),
    ("a class is defined again", "class Box:\n    size = 2"),
    ("a cell gets another content", "change(2)"),
    ("a name is defined at last", "later = 5"),
    ("data become a function", "def table(): ..."),
]


@pytest.mark.parametrize(("title", "happening"), HAPPENINGS, ids=[title for title, _ in HAPPENINGS])
def test_the_next_call_sees_what_happened(title: str, happening: str) -> None:
    names = run(SOURCE)
    tracker = Tracker(names["work"])
    before = tracker.current()
    run_cell(happening, names)
    assert tracker.current().digest != before.digest
    assert tracker.current().digest == track(names["work"]).digest


@pytest.mark.parametrize("happening", ["pass", "table['b'] = 2", "table = {}", "unused = 1", "work_2 = work"])
def test_nothing_is_read_again_where_nothing_that_counts_has_happened(
    happening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run(SOURCE)
    tracker = Tracker(names["work"])
    before = tracker.current()
    monkeypatch.setattr(tracker, "_track", None)
    run_cell(happening, names)
    start_epoch()
    assert tracker.current() is before


def test_undoing_what_happened_brings_the_code_back() -> None:
    names = run(SOURCE)
    tracker = Tracker(names["work"])
    before = tracker.current()
    run_cell("LIMIT = 20", names)
    tracker.current()
    run_cell("LIMIT = 10", names)
    assert tracker.current() == before


@pytest.mark.parametrize(("counts", "reads"), [("first", "second"), ("second", "first")])
def test_a_constant_that_one_function_assigns_and_another_reads_is_watched(counts: str, reads: str) -> None:
    names = run(
        f"n = 1\ndef {counts}():\n    global n\n    n += 1\ndef {reads}():\n    return n\n"
        "def work():\n    return first(), second()\n"
    )
    tracker = Tracker(names["work"])
    before = tracker.current()
    run_cell("n = 2", names)
    assert tracker.current().digest != before.digest


def test_a_counter_that_only_its_own_code_assigns_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("n = 1\ndef work():\n    global n\n    n += 1\n")
    tracker = Tracker(names["work"])
    before = tracker.current()
    monkeypatch.setattr(tracker, "_track", None)
    names["work"]()
    assert tracker.current() is before


def test_a_constant_that_a_loop_of_one_cell_rebinds_is_seen_at_every_call() -> None:
    names = run(SOURCE)
    names["tracker"] = Tracker(names["work"])
    run_cell("seen = []\nfor LIMIT in (1, 2, 1):\n    seen.append(tracker.current().digest)", names)
    first, second, third = names["seen"]
    assert first == third != second


@pytest.fixture
def depends(tmp_path: Path) -> tuple[Tracker, Path]:
    path = tmp_path / "prompt.txt"
    path.write_text("one")
    return Tracker(run("def work(): ...")["work"], (path,)), path


def test_a_file_is_looked_at_in_the_next_cell(depends: tuple[Tracker, Path]) -> None:
    tracker, path = depends
    start_epoch()
    before = tracker.current()
    path.write_text("two, and longer")
    assert tracker.current() is before
    start_epoch()
    assert tracker.current().digest != before.digest


def test_a_file_is_looked_at_at_every_call_where_nobody_announces_cells(
    depends: tuple[Tracker, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "_EPOCH", tracker_module._Epoch())
    tracker, path = depends
    before = tracker.current()
    os.utime(path, ns=(1, 1))
    assert tracker.current() is not before
    assert tracker.current().digest == before.digest
    path.unlink()
    assert tracker.current().digest != before.digest


def test_threads_that_track_at_once_find_the_same() -> None:
    names = run(SOURCE)
    tracker = Tracker(names["work"])

    def use(number: int) -> Any:
        if number % 50 == 0:
            names["LIMIT"] = 10 + number
        return tracker.current()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(400)))
    assert tracker.current() == track(names["work"])
