"""Nodes with effects: the node that undoes one sees what it saw, and its output; also after a death."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.status import RunStatus
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    LOG.clear()


def book(room: str) -> dict[str, Any]:
    LOG.append(("book", room))
    return {"id": f"b{room}"}


def cancel(**given: Any) -> None:
    LOG.append(("cancel", given))


def fails() -> None:
    raise ValueError("no")


async def cancel_later(**given: Any) -> None:
    LOG.append(("later", given["id"]))


FUNCTIONS: dict[str, Any] = {"book": book, "cancel": cancel, "fails": fails, "cancel_later": cancel_later}
TRIP = """
graph: trip
concurrency: 1
nodes:
  - id: first
    python: book
    with: {room: "{{ input.room }}"}
    compensate: {python: cancel_later, with: {id: "{{ first.id }}"}}
  - id: rooms
    loop: "{{ input.rooms }}"
    as: room
    do:
      - id: hotel
        python: book
        with: {room: "{{ room }}"}
        compensate:
          python: cancel
          with: {id: "{{ hotel.id }}", room: "{{ room }}", after: "{{ first.id }}"}
  - id: bad
    python: fails
"""


def test_nodes_are_undone_the_newest_first_with_what_they_saw(lab: Lab) -> None:
    graph = iron.Graph.from_yaml(TRIP, functions=FUNCTIONS)
    with pytest.raises(ValueError, match="no"):
        graph(room="0", rooms=["1", "2"])
    undone = [("cancel", {"id": f"b{n}", "room": n, "after": "b0"}) for n in ("2", "1")]
    assert LOG[3:] == [*undone, ("later", "b0")]
    steps = graph.last.steps()
    assert list(steps["status"][steps["step"] == "trip.first[0]"]) == ["compensated"]
    assert {"trip.undo_hotel[0]", "trip.undo_hotel[1]", "trip.undo_first[0]"} < set(steps["step"])
    assert "compensated" in graph.last.diagram().text


def test_a_handled_failure_undoes_nothing_and_a_parent_undoes_its_graphs(lab: Lab) -> None:
    text = TRIP.replace("    python: fails", "    python: fails\n    on_error: continue")
    graph = iron.Graph.from_yaml(text, functions=FUNCTIONS)

    @iron.flow
    def main() -> None:
        graph(room="0", rooms=[])
        raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        main()
    assert LOG == [("book", "0"), ("later", "b0")]
    assert graph.last.status is RunStatus.COMPLETED


def test_an_undo_whose_expression_has_no_value_fails_alone(lab: Lab) -> None:
    text = TRIP.replace('id: "{{ hotel.id }}"', 'id: "{{ hotel.missing }}"')
    graph = iron.Graph.from_yaml(text, functions=FUNCTIONS)
    with pytest.raises(ValueError, match="no"):
        graph(room="0", rooms=["1"])
    assert LOG[2:] == [("later", "b0")]
    steps = graph.last.steps()
    assert list(steps["status"][steps["name"] == "trip.undo_hotel"]) == ["failed"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("compensate: {id: x, python: cancel}", r"compensate\.id: what undoes a node has no 'id'"),
        ("compensate: {python: cancel, when: true}", "has no 'when'"),
        ("compensate: {python: cancel, cache: true}", "has no 'cache'"),
        ("compensate: {condition: true, then: []}", "does work itself"),
        ("compensate: {approve: really}", "does work itself"),
        ("compensate: {delay: 1}", "does work itself"),
        ("compensate: {wait: go}", "does work itself"),
        ("compensate: {assert: [{holds: true}]}", "does work itself"),
        ("compensate: {nothing: 1}", "there is no kind of node 'nothing'"),
        ("compensate: 3", "must be a mapping"),
        ("compensate: {python: cancel, with: {a: '{{ later.x }}'}}", "later may not have ended by then"),
    ],
)
def test_what_can_not_undo_a_node_is_told_with_its_line(given: str, match: str) -> None:
    text = f"graph: g\nnodes:\n  - id: a\n    python: book\n    {given}\n  - id: later\n    log: x\n"
    with pytest.raises(iron.GraphInvalid, match=rf"line 5(.|\n)*{match}"):
        iron.Graph.from_yaml(text).validate()


def test_a_node_that_decides_is_not_undone() -> None:
    text = "graph: g\nnodes:\n  - id: a\n    condition: true\n    then: []\n    compensate: {python: cancel}\n"
    with pytest.raises(iron.GraphInvalid, match="does no work itself"):
        iron.Graph.from_yaml(text).validate()


PROGRAM = """
import os, sys
import ironflow_nb as iron

def write(line):
    with open("log", "a") as file:
        file.write(line + "\\n")

def book(room):
    write(f"book {room}")
    return {"id": f"b{room}"}

def cancel(id):
    write(f"cancel {id}")
    if id == "b2" and sys.argv[1] == "dies":
        os.kill(os.getpid(), 9)

def fails():
    raise ValueError("no")

iron.use("journal.db")
if sys.argv[1] == "dies":
    graph = iron.Graph.from_yaml(TEXT)
    graph(rooms=["1", "2"])
else:  # the text comes from the journal
    iron.resume(iron.runs()["run_id"].iloc[0]).wait()
    print(iron.runs()["status"].iloc[0])
"""
TEXT = """
graph: trip
concurrency: 1
nodes:
  - id: first
    python: book
    with: {room: "1"}
    compensate: {python: cancel, with: {id: "{{ first.id }}"}}
  - id: second
    python: book
    with: {room: "2"}
    compensate: {python: cancel, with: {id: "{{ second.id }}"}}
  - id: bad
    python: fails
"""


@pytest.mark.crash
def test_another_process_goes_on_with_the_text_of_the_journal(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(f"TEXT = {TEXT!r}\n{PROGRAM}")

    def run(how: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment = own | {"PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "program.py", how]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    assert run("dies").returncode == -9
    ended = run("lives")
    assert ended.stdout.splitlines()[-1:] == ["failed"], ended.stderr
    assert (tmp_path / "log").read_text().splitlines() == ["book 1", "book 2", "cancel b2", "cancel b2", "cancel b1"]
