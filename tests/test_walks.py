"""How much of the package one call enters, from the user's line to the commit and back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.journal.ports import Select
from tests.contracts.histories import folded
from tests.deciders.counters import Add, counters
from tests.walks import Walk, walk_of, walked

# How it stands: a change that needs more has to say why. The aim is 15 files for a step and 12 for a command.
STEP_FILES, STEP_CALLS = 25, 77
AWAITED_STEP_FILES, AWAITED_STEP_CALLS = 29, 88
REPLAYED_STEP_FILES, REPLAYED_STEP_CALLS = 13, 21
RUN_CALLS = 270  # without its steps; some depend on what the background thread has just done
CONTINUED_STEP_CALLS = 31  # read, counted and answered
FOLDED_STEP_CALLS = 14  # two events, read, decoded and folded
COMMAND_FILES, COMMAND_CALLS = 22, 81
NODE_CALLS = 105  # in the thread of the graph; which thread commits is chance


@pytest.fixture(autouse=True)
def journal_file(tmp_path: Path) -> Iterator[None]:
    with iron.open(tmp_path / "journal.db"):
        yield


BROKEN: list[bool] = []


@step
def fetch(number: int) -> int:
    return number + 1


def test_a_recorded_step_enters_few_files() -> None:
    walks: list[Walk] = []

    @flow
    def work() -> None:
        numbers = count()
        walks.append(walk_of(lambda: fetch(next(numbers)), warm_up=lambda: fetch(next(numbers))))

    work()
    assert len(walks[0].files) <= STEP_FILES, sorted(walks[0].files)
    assert walks[0].n_calls <= STEP_CALLS


def test_a_run_takes_few_calls_and_its_source_is_read_once() -> None:
    @flow
    def work(n_steps: int) -> None:
        for number in range(n_steps):
            fetch(number)

    def fewest(n_steps: int) -> Walk:
        """Return the shortest of some walks: a call more is made when the background thread has just been busy."""
        run = work.options(fresh=True)
        return min((walk_of(lambda: run(n_steps), warm_up=lambda: run(1)) for _ in range(5)), key=lambda it: it.n_calls)

    assert fewest(0).n_calls <= RUN_CALLS
    walk = fewest(1)
    assert walk.n_calls <= RUN_CALLS + STEP_CALLS + 20  # a first step defines its code
    assert not {file for file in walk.files if file.endswith("syntax.py")}


def test_an_awaited_step_enters_few_files() -> None:
    walks: list[Walk] = []

    @step
    async def ask(number: int) -> int:
        return number + 1

    @flow
    async def work() -> None:
        for number in range(3):
            await ask(number)
        with walked() as walk:
            await ask(4)
        walks.append(walk)

    work.start().result()
    assert len(walks[0].files) <= AWAITED_STEP_FILES, sorted(walks[0].files)
    assert walks[0].n_calls <= AWAITED_STEP_CALLS


def test_a_replayed_step_enters_few_files() -> None:
    walks: list[Walk] = []

    @flow
    def work() -> None:
        numbers = count()
        walks.append(walk_of(lambda: fetch(next(numbers)), warm_up=lambda: fetch(next(numbers))))
        if len(walks) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    work.resume().wait()
    assert len(walks[1].files) <= REPLAYED_STEP_FILES, sorted(walks[1].files)
    assert walks[1].n_calls <= REPLAYED_STEP_CALLS


def test_a_continued_run_takes_few_calls_for_each_of_its_finished_steps() -> None:
    @flow
    def work(n_steps: int) -> None:
        for number in range(n_steps):
            fetch(number)
        if BROKEN:
            raise RuntimeError

    n_calls = []
    for n_steps in (20, 120):
        BROKEN.append(True)
        with pytest.raises(RuntimeError):
            work.options(key=f"of {n_steps}")(n_steps)
        BROKEN.clear()
        with walked() as walk:
            work.options(key=f"of {n_steps}")(n_steps)
        n_calls.append(walk.n_calls)
    assert (n_calls[1] - n_calls[0]) / 100 <= CONTINUED_STEP_CALLS


def test_a_state_is_folded_in_few_calls() -> None:
    @flow
    def work(n_steps: int) -> None:
        for number in range(n_steps):
            fetch(number)

    n_calls = []
    for n_steps in (5, 25):
        work(n_steps)
        assert work.last is not None
        with iron.engine().reading() as reader, walked() as walk:
            state = folded(reader.events(Select(run_ids=[work.last.id])), RunId(work.last.id))
        assert len(state.steps) == n_steps
        n_calls.append(walk.n_calls)
    assert (n_calls[1] - n_calls[0]) / 20 <= FOLDED_STEP_CALLS


def test_a_node_beside_others_takes_few_calls_and_no_text_is_written_for_it_again() -> None:
    def fan(n_nodes: int) -> iron.Graph:
        nodes = [{"id": f"n{n}", "python": "fetch", "with": {"number": n}, "depends_on": []} for n in range(n_nodes)]
        data = {"graph": "fan", "allow": True, "nodes": nodes}
        return iron.Graph.from_dict(data, functions={"fetch": fetch}).options(fresh=True)

    walks: list[Walk] = []
    for n_nodes in (20, 120):
        graph = fan(n_nodes)
        graph()
        with walked() as walk:
            graph()
        walks.append(walk)
    assert (walks[1].n_calls - walks[0].n_calls) / 100 <= NODE_CALLS
    assert "write_yaml" not in {function for _, function in walks[1].entered}


def test_a_command_enters_few_files() -> None:
    counter = counters()
    walk = walk_of(lambda: counter.send(Add("a")), warm_up=lambda: counter.send(Add("a")))
    assert len(walk.files) <= COMMAND_FILES, sorted(walk.files)
    assert walk.n_calls <= COMMAND_CALLS
