"""Any sequence of edits, failures, deaths and repeated cells ends as a fresh run of the last code would.

And no step ran twice with unchanged code and arguments after it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.cells import World, run_cell
from tests.conftest import Lab

PROGRAM = """
LIMIT = {limit}
{comment}
def first(n):
    return n + LIMIT + {first}

def second(n):
    return first(n) * {second}

@iron.step
def work(n):
    act("work", n)
    return second(n)

@iron.step
def finish(n, *, by=0):
    act("finish", n, by)
    return n - {finish}

@iron.flow
def main(n):
    if {is_early}:
        finish(-1)
    total = sum(finish(work(number)) for number in range(n))
    return finish(total, by=10 + {by})
"""
STATES = {
    "limit": st.integers(0, 1),
    "first": st.integers(0, 1),
    "second": st.integers(1, 2),
    "finish": st.integers(0, 1),
    "by": st.integers(0, 1),
    "is_early": st.booleans(),
    "comment": st.sampled_from(["", "# as it was", '"""not a docstring"""']),
}
CODE = {"work": ("limit", "first", "second"), "finish": ("finish",)}
"""What of a program the code of a step consists of."""

edits = st.fixed_dictionaries({}, optional=STATES)
troubles = st.sampled_from(["none", "none", "fails", "dies"])
sessions = st.lists(st.tuples(edits, troubles, st.integers(0, 6)), min_size=1, max_size=6)


class Notebook:
    """A notebook whose cells are edited and run, with the log of what its steps did in the run that goes on."""

    def __init__(self) -> None:
        journal = MemoryJournal()
        self.lab = Lab(lambda: journal)
        self.lab.begin()
        self.lab.cell()
        self.world = World(self.lab.die_in_flow)
        self.state: dict[str, Any] = {
            "limit": 0, "first": 0, "second": 1, "finish": 0, "by": 0, "is_early": False, "comment": "",
        }  # fmt: skip
        self.names: dict[str, Any] = {"iron": iron, "act": self.act}
        self.trouble, self.n_until = "none", 0

    def edit(self, changes: Mapping[str, Any]) -> None:
        self.state |= changes
        run_cell(PROGRAM.format(**self.state), self.names)

    def act(self, name: str, *arguments: int) -> None:
        self.n_until -= 1
        if self.n_until < 0 and self.trouble == "fails":
            raise ConnectionError(name)
        if self.n_until < 0 and self.trouble == "dies":
            self.trouble = "none"
            self.world.die()
        self.world.did(name, *arguments, *(self.state[part] for part in CODE[name]))

    def run(self) -> Any:
        """Run the cell; a run that completed is the last one of what its steps did."""
        self.lab.cell()
        result = self.names["main"].options(on_change="refresh")(3)
        self.check_nothing_twice()
        self.world.log.clear()
        return result

    def check_nothing_twice(self) -> None:
        done = self.world.log
        assert len(done) == len(set(done)), f"done twice: {sorted(each for each in done if done.count(each) > 1)}"

    def fresh_result(self) -> Any:
        """Return what plain functions make of the last code."""
        state, total = self.state, 0
        for n in range(3):
            total += (n + state["limit"] + state["first"]) * state["second"] - state["finish"]
        return total - state["finish"]


@pytest.mark.slow
@settings(max_examples=80)
@given(sessions)
def test_it_ends_as_a_fresh_run_of_the_last_code_and_did_nothing_twice(history: list[tuple[Any, str, int]]) -> None:
    before = REGISTRY._engine
    notebook = Notebook()
    try:
        for changes, trouble, n_until in history:
            notebook.edit(changes)
            notebook.trouble, notebook.n_until = trouble, n_until
            try:
                assert notebook.run() == notebook.fresh_result()
            except (ConnectionError, SystemExit):
                notebook.check_nothing_twice()
        notebook.trouble = "none"
        assert notebook.run() == notebook.fresh_result()
    finally:
        notebook.lab.close()
        REGISTRY._engine = before


def test_the_notebook_of_this_test_notices_work_that_is_done_twice() -> None:
    before = REGISTRY._engine
    notebook = Notebook()
    try:
        notebook.edit({})
        notebook.trouble, notebook.n_until = "fails", 2
        with pytest.raises(ConnectionError):
            notebook.run()
        notebook.trouble = "none"
        notebook.names["main"] = notebook.names["main"].options(fresh=True)
        with pytest.raises(AssertionError, match="done twice"):
            notebook.run()
    finally:
        notebook.lab.close()
        REGISTRY._engine = before
