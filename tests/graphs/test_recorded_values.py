"""The time and ids in expressions: recorded, and the same in every continuation of a run, whatever runs first."""

from __future__ import annotations

from typing import Any

import pytest

from ironflow_nb.graphs.graph import Graph
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import doing, fail, graph_of, work


def stamped(world: World, *nodes: dict[str, Any]) -> Graph:
    return graph_of(*nodes, fail("z", depends_on=[node["id"] for node in nodes]), functions=doing(world),
                    output={node["id"]: f"{{{{ {node['id']} }}}}" for node in nodes})  # fmt: skip


def stretches(lab: Lab, world: World, graph: Graph) -> dict[str, Any]:
    """Let the run fail, continue it until it completes, and return its output; nothing but z runs again."""
    with pytest.raises(ConnectionError):
        graph()
    before = list(world.log)
    lab.die()
    world.is_broken = False
    found: dict[str, Any] = graph()
    assert world.log == [*before, "z"]
    return found


def test_ids_and_times_are_the_same_when_a_run_is_continued(lab: Lab, world: World) -> None:
    graph = stamped(world, work("a", "{{ uuid() }}"), work("b", "{{ now() }}"), work("c", "{{ [uuid(), uuid()] }}"))
    found = stretches(lab, world, graph)
    assert len({found["a"], *found["c"]}) == 3


def test_nodes_side_by_side_keep_their_own_ids(lab: Lab, world: World) -> None:
    nodes = [work(f"n{n}", "{{ uuid() }}", depends_on=[]) for n in range(8)]
    found = stretches(lab, world, stamped(world, *nodes))
    assert len(set(found.values())) == 8


def test_items_of_a_loop_keep_their_own_ids(lab: Lab, world: World) -> None:
    do = [work("a", "{{ [item, uuid()] }}"), work("b", "{{ [a, uuid()] }}")]
    graph = stamped(world, {"id": "each", "loop": [1, 1, 2], "concurrency": 3, "do": do})
    found = stretches(lab, world, graph)["each"]
    assert len({one["a"][1] for one in found} | {one["b"][1] for one in found}) == 6


def test_a_decision_by_an_id_stays_as_it_was(lab: Lab, world: World) -> None:
    """Of ten coins some fall this way and some that: each must fall as before."""
    nodes = []
    for n in range(10):
        test = "{{ uuid() < '8' }}"
        nodes.append({"id": f"c{n}", "condition": test, "then": [work(f"t{n}")], "else": [work(f"e{n}")]})
    stretches(lab, world, stamped(world, *nodes))


def test_a_when_by_the_time_stays_as_it_was(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    graph = stamped(world, work("a", 1, when="{{ now() < '2030-01-01T00:00:10' }}"), work("b", "{{ now() }}"))
    with pytest.raises(ConnectionError):
        graph()
    clock.advance(3600)
    lab.die()
    world.is_broken = False
    graph()
    assert world.log == ["a", "b", "z", "z"]
