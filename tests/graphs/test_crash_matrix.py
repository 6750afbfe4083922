"""Death before and after every commit of graphs of every kind, in both modes and on both journals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.journal.ports import Durability
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.crash_everywhere import crash_everywhere
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import AFTER, Died, DyingJournal, abandon, process_on
from tests.graphs.playing import Node, graph_of
from tests.triggers.conftest import forgotten_definitions

pytestmark = pytest.mark.crash


class Fragile(Exception):
    pass


class Outside:
    """The outer world: what was tried there."""

    def __init__(self) -> None:
        self.tried: set[str] = set()
        self.paid: dict[str, set[str]] = {}

    def do(self, name: str, value: Any = None) -> Any:
        return value if value is not None else name

    def flaky(self, name: str) -> str:
        if name not in self.tried:
            self.tried.add(name)
            raise ConnectionError(name)
        return name

    def pay(self, name: str, key: str) -> int:
        self.paid.setdefault(name, set()).add(key)
        return len(key)

    def broken(self, name: str) -> None:
        raise Fragile(name)

    def __ironflow_digest__(self) -> bytes:
        return b"outside"


OUTSIDE = Outside()

FUNCTIONS = {"do": OUTSIDE.do, "flaky": OUTSIDE.flaky, "broken": OUTSIDE.broken, "pay": OUTSIDE.pay}


def do(name: str, value: Any = None, **keys: Any) -> Node:
    return {"id": name, "python": "do", "with": [name, value], **keys}


def chain() -> Graph:
    return graph_of(do("a", 1), do("b", "{{ a }}"), do("c", "{{ [a, b] }}"), name="chain", functions=FUNCTIONS)


def diamond() -> Graph:
    nodes = [do("a", 1), do("b", "{{ a }}", depends_on=["a"]), do("c", "{{ a }}", depends_on=["a"])]
    return graph_of(*nodes, do("d", "{{ [b, c] }}", depends_on=["b", "c"]), name="diamond", functions=FUNCTIONS)


def decisions() -> Graph:
    inside = [do("x", "{{ uuid() }}"), do("y", "{{ x }}", when=False)]
    ways = {"one": {"do": [do("p"), do("q")]}, "two": {"do": [do("r", "{{ now() }}")]}}
    nodes = [{"id": "c", "condition": True, "then": inside}, {"id": "fan", "branch": ways}, do("last")]
    return graph_of(*nodes, name="decisions", functions=FUNCTIONS, output="{{ [keys(c), keys(fan), last] }}")


def loops() -> Graph:
    loop = {"id": "each", "loop": [1, 1, 2], "concurrency": 2, "do": [do("a", "{{ item }}"), do("b", "{{ a }}")]}
    again = {"while": "{{ round.index < `2` }}", "max_rounds": 3}
    return graph_of(
        loop, {"id": "again", "loop": again, "do": [do("w", "{{ index }}")]}, name="loops", functions=FUNCTIONS
    )


def handled() -> Graph:
    bad = {"id": "bad", "python": "broken", "with": ["bad"]}
    around = {"id": "c", "branch": {"one": {"do": [bad, do("never")]}, "two": {"do": [do("beside")]}}}
    around["on_error"] = [do("h", "{{ error.message }}")]
    worse = {"id": "worse", "python": "broken", "with": ["worse"], "on_error": "continue"}
    return graph_of(around, worse, do("last", "{{ [c, worse.error.type] }}"), name="handled", functions=FUNCTIONS)


def retried() -> Graph:
    nodes = [
        {"id": f"n{n}", "python": "flaky", "with": [f"n{n}"], "retry": {"attempts": 9, "delay_s": 1}, "depends_on": []}
        for n in range(2)
    ]
    return graph_of(*nodes, name="retried", functions=FUNCTIONS, output="{{ [n0, n1] }}")


def children() -> Graph:
    graph_of(do("x", "{{ input.n }}"), do("y", "{{ x }}"), name="child", functions=FUNCTIONS)
    nodes = [{"id": f"c{n}", "workflow": "child", "input": {"n": n}, "depends_on": []} for n in range(2)]
    last = {"id": "c", "workflow": "child", "input": {"n": "{{ [c0, c1] }}"}, "depends_on": ["c0", "c1"]}
    return graph_of(*nodes, last, name="parent", functions=FUNCTIONS)


def keyed() -> Graph:
    """Payments with a key of their own each, in plain sight, beside a secret, side by side, and one after the other."""
    nodes = [
        {"id": name, "python": "pay", "with": [name, text], **keys}
        for name, text, keys in [
            ("p", "{{ uuid() }}", {}),
            ("q", "{{ [uuid(), now()] | to_string(@) }}", {"depends_on": ["p"]}),
            ("r", "{{ uuid() }}", {"depends_on": ["p"]}),
            ("s", "{{ secrets.token }} {{ uuid() }} {{ uuid() }} {{ now() }}", {"depends_on": ["q", "r"]}),
        ]
    ]
    return graph_of(*nodes, name="keyed", functions=FUNCTIONS, secrets={"token": {"env": "MY_TOKEN"}})


GRAPHS: list[Callable[[], Graph]] = [chain, diamond, decisions, loops, handled, retried, children, keyed]


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "darjeeling")


@pytest.mark.sampled(5)
@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_nothing_finished_is_lost_or_done_again(make: Callable[[], Graph], durability: str) -> None:
    other_keys: list[set[str]] = []

    def before_each() -> None:
        other_keys.extend(keys for keys in OUTSIDE.paid.values() if len(keys) > 1)
        OUTSIDE.tried.clear()
        OUTSIDE.paid.clear()

    found = crash_everywhere(make(), {}, durability=durability, before_each=before_each)
    before_each()
    assert other_keys == []
    assert set(found["moment"]) == {"before", "after"}
    assert found.groupby("moment")["commit"].max().min() >= 2
    # The result of a node that only decides is written in the next commit; of the last one, in that which ends the run.
    assert found["n_kept"].max() >= found["n_completed"].max() - 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_the_journal_in_memory_is_as_good(make: Callable[[], Graph]) -> None:
    found = crash_everywhere(make(), {}, journal=MemoryJournal, before_each=OUTSIDE.tried.clear)
    assert len(found) >= 4


@pytest.mark.parametrize("options", [{}, {"key": "one"}], ids=["without a key", "with a key"])
def test_a_process_that_does_not_define_a_graph_continues_it_whose_process_died_after_its_first_commit(
    options: dict[str, str],
) -> None:
    journal, clock = MemoryJournal(), SimClock()
    dying = DyingJournal(journal, at_commit=1, moment=AFTER)
    with forgotten_definitions():
        nodes = [{"id": "a", "transform": "{{ `1` }}"}, {"id": "b", "transform": "{{ a }}"}]
        graph = graph_of(*nodes, name="first_commit")
        with process_on(dying, Durability.PROCESS, clock) as engine:
            with suppress(Died):
                graph.options(**options)()
            abandon(engine)
            journal.release(engine.owner)
    assert dying.is_dead
    with process_on(journal, Durability.PROCESS, clock):
        [run_id] = iron.runs()["run_id"]
        assert iron.resume(run_id).result() == 1
