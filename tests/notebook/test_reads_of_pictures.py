"""A picture is drawn from one moment of the journal, and one in which nothing happened costs next to nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.handles.run_picture import picture_of
from ironflow_nb.journal import sqlite_journal
from ironflow_nb.notebook import live_pictures
from tests.cells import run_cell
from tests.conftest import Lab

pytestmark = pytest.mark.parametrize("lab", ["sqlite"], indirect=True)

REACHED, GO_ON = threading.Event(), threading.Event()


@step
def double(n: int) -> int:
    return 2 * n


@step
def wait() -> None:
    REACHED.set()
    assert GO_ON.wait(20)


@flow
def child(n: int) -> int:
    return double(n)


@flow
def main() -> int:
    total = sum(double.map(range(5))) + child(7)
    wait()
    return total


class Asked:
    """A connection that notes what it is asked."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.statements: list[str] = []

    def execute(self, statement: str, *given: Any) -> sqlite3.Cursor:
        self.statements.append(statement.strip())
        return self._connection.execute(statement, *given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Reads:
    """The read connections of an engine, and what is asked through each of them."""

    def __init__(self) -> None:
        self.connections: list[Asked] = []

    def opening(self, opened: Callable[[Path], sqlite3.Connection]) -> Callable[[Path], Asked]:
        def noted(path: Path) -> Asked:
            self.connections.append(Asked(opened(path)))
            return self.connections[-1]

        return noted

    def taken(self) -> list[int]:
        """Return how many selections each connection made since the last call."""
        found, self.connections = self.connections, []
        assert all(each.statements.count("BEGIN") == 1 for each in found)
        return [sum(asked.startswith(("SELECT", "WITH")) for asked in each.statements) for each in found]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    monkeypatch.setattr(sqlite_journal, "open_reader", found.opening(sqlite_journal.open_reader))
    return found


@pytest.fixture
def running(lab: Lab) -> Iterator[Run[int]]:
    """A run with a map and a child that waits in its last step."""
    REACHED.clear()
    GO_ON.clear()
    run = main.start()
    assert REACHED.wait(20)
    while (run.steps()["status"] == "running").sum() != 1:
        assert run.status == "running"
    yield run
    GO_ON.set()
    run.wait(20)


def test_a_picture_reads_the_journal_once_whatever_the_run_is(lab: Lab, running: Run[int], reads: Reads) -> None:
    picture_of(lab.engine, running.id)
    [n_running] = reads.taken()
    GO_ON.set()
    running.wait(20)
    reads.taken()
    assert ": completed" in picture_of(lab.engine, running.id).text
    [n_completed] = reads.taken()
    assert max(n_running, n_completed) <= 10


def test_a_frame_reads_once_and_one_in_which_nothing_happened_hardly_anything(
    lab: Lab, running: Run[int], reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(live_pictures, "update", lambda _, bundle: shown.append(bundle["text/plain"]))
    following = live_pictures.LiveOutput(lab.engine, "an id")
    following._run_id = running.id
    assert following.paint() is False
    assert len(reads.taken()) == 1
    for _ in range(3):
        assert following.paint() is False
        [n_idle] = reads.taken()
        assert n_idle <= 3
    assert len(shown) == 1
    GO_ON.set()
    running.wait(20)
    reads.taken()
    assert following.paint() is True
    assert len(reads.taken()) == 1
    assert ": completed" in shown[-1]


def test_a_picture_of_another_run_reads_nothing_of_it_and_sees_children_move(
    lab: Lab, running: Run[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(live_pictures, "update", lambda _, bundle: shown.append(bundle["text/plain"]))
    following = live_pictures.LiveOutput(lab.engine, "an id")
    following._run_id = running.id
    following.paint()
    child(1)
    following.paint()
    assert len(shown) == 1  # it was read anew, and is the same


def test_the_picture_of_an_edited_run_reads_once_too(lab: Lab, reads: Reads) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "broken": [1]}
    source = (
        "@iron.step\ndef f(n):\n    return n\n\n@iron.flow\ndef main():\n    f(1)\n    if broken: raise ValueError\n"
    )
    run_cell(source, space)
    with pytest.raises(ValueError):  # noqa: PT011 -- it says nothing
        space["main"]()
    lab.cell()
    space["broken"] = []
    run_cell(f"{source}    f(2)\n", space)
    space["main"]()
    run = space["main"].last
    reads.taken()
    text = run.diagram().text
    assert text.count("✓ f: completed") == 2
    assert len(reads.taken()) == 1
