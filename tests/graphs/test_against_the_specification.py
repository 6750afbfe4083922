"""Random graphs come to what the specification says, also under crashes, and nothing finished is done again."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.journal.ports import Durability, Journal, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import Died, DyingJournal, abandon, process_on
from tests.conftest import FULL_PROOF
from tests.graphs.random_graphs import INPUT, Graphs
from tests.graphs.specification import Broken, Failure, Specification, number_of

Outcome = tuple[str, Any]

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


class Bodies:
    """What the bodies did: which ran how often, and in which order they began and ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.n_ran: Counter[tuple[str, int]] = Counter()
        self.moments: list[tuple[str, str]] = []

    def play(self, name: str, plan: str, values: list[Any]) -> int:
        number = number_of(name, values)
        with self._lock:
            self.moments.append(("begin", name))
            self.n_ran[name, number] += 1
            is_first = self.n_ran[name, number] == 1
        if plan == "fail":
            raise Broken(f"{name} {number}")
        if plan == "flaky" and is_first:
            raise ConnectionError(name)
        with self._lock:
            self.moments.append(("end", name))
        return number

    def __ironflow_digest__(self) -> bytes:
        return b"bodies"


def defined(graphs: Graphs, bodies: Bodies) -> Graph:
    functions = {"play": lambda name, plan, values: bodies.play(name, plan, values)}
    return [Graph.from_dict(data, functions=functions) for data in graphs.all.values()][-1]


def specified(graphs: Graphs, name: str) -> tuple[Outcome, Specification]:
    specification = Specification(graphs.all)
    try:
        return ("value", specification.run(name, INPUT)), specification
    except Failure as failure:
        return ("failure", (failure.kind, failure.message)), specification


def outcome(graph: Graph) -> Outcome:
    try:
        return "value", graph(INPUT)
    except Exception as error:
        return "failure", (type(error).__qualname__, str(error))


def random_graphs(seed: int) -> tuple[Graphs, str]:
    dice = Random(seed)
    graphs = Graphs(dice)
    return graphs, graphs.graph("top", n_nodes=dice.randrange(1, 8))


def assert_order(nodes: list[dict[str, Any]], moments: list[tuple[str, str]]) -> None:
    """See that no node of the outermost block began before those that it waits for had ended."""
    ended: set[str] = set()
    once = Counter(name for what, name in moments if what == "begin")
    plays = {node["id"] for node in nodes if "python" in node and once[node["id"]] == 1 and "when" not in node}
    waits = {node["id"]: set(node.get("depends_on", [])) for node in nodes}
    for what, name in moments:
        if what == "end":
            ended.add(name)
        elif name in plays:
            behind = {each for each in waits[name] & plays if ("end", each) in moments}
            assert behind <= ended, f"{name} began before {behind - ended} had ended"


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    for definition in REGISTRY.definitions("graph"):
        REGISTRY.forget("graph", definition.name)


@pytest.mark.slow
@settings(max_examples=1500 if FULL_PROOF else 120, suppress_health_check=SLOW)
@given(st.integers(0, 2**32))
def test_a_graph_comes_to_what_the_specification_says(seed: int) -> None:
    graphs, name = random_graphs(seed)
    bodies = Bodies()
    expected, specification = specified(graphs, name)
    with process_on(MemoryJournal(), Durability.PROCESS, SimClock()):
        graph = defined(graphs, bodies)
        assert outcome(graph) == expected
    assert set(bodies.n_ran) == specification.ran
    assert_order(graphs.all[name]["nodes"], bodies.moments)


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=400 if FULL_PROOF else 40, suppress_health_check=SLOW)
@given(seed=st.integers(0, 2**32), commit=st.integers(1, 25), moment=st.sampled_from(["before", "after"]))
def test_a_graph_whose_process_dies_comes_to_the_same(kind: str, seed: int, commit: int, moment: str) -> None:
    graphs, name = random_graphs(seed)
    bodies = Bodies()
    expected, specification = specified(graphs, name)
    with TemporaryDirectory() as folder:
        journal: Journal = MemoryJournal() if kind == "memory" else SqliteJournal(Path(folder) / "journal.db")
        clock = SimClock()
        dying = DyingJournal(journal, at_commit=commit, moment=moment)
        with process_on(dying, Durability.PROCESS, clock) as engine:
            first = None
            with contextlib.suppress(Died):
                first = outcome(defined(graphs, bodies))
            owner = engine.owner
            abandon(engine)
        if not dying.is_dead:
            journal.close()
            assert first == expected
            return
        with process_on(journal, Durability.PROCESS, clock) as engine:
            engine.journal.release(owner)
            kept = completed(engine)
            graph = defined(graphs, bodies)
            last = graph.last
            is_completed = last is not None and last.status is RunStatus.COMPLETED
            assert (("value", last.result()) if last is not None and is_completed else outcome(graph)) == expected
            assert_nothing_again(engine, kept)
    assert set(bodies.n_ran) == specification.ran


def completed(engine: Engine) -> dict[tuple[str, str], int]:
    with engine.reading() as reader:
        return {(row.run_id, row.step): row.attempt for row in reader.steps(Select()) if row.output_id is not None}


def assert_nothing_again(engine: Engine, kept: dict[tuple[str, str], int]) -> None:
    with engine.reading() as reader:
        rows = reader.steps(Select())
    again = [row.step for row in rows if row.attempt > kept.get((row.run_id, row.step), row.attempt)]
    assert again == [], "what was recorded ran again"
