"""Nodes of graphs in lanes, and graphs in lanes."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import DefinitionError, GraphInvalid
from ironflow_nb.execution.engine import Engine
from tests.lanes.conftest import Room, places, until

TEXT = """
graph: g
nodes:
  - id: each
    loop: "{{ input.ns }}"
    as: n
    concurrency: 6
    do:
      - id: worked
        python: work
        with: {n: "{{ n }}", user: "{{ input.user }}"}
        lane: {name: of nodes, limit: 2, key: with.user}
output: "{{ each[].worked }}"
"""


def made(room: Room, text: str = TEXT) -> iron.Graph:
    return iron.Graph.from_yaml(text, functions={"work": lambda n, user: room.work(n)})


def test_nodes_of_a_loop_wait_for_places_by_the_options_of_the_node(engine: Engine) -> None:
    room = Room()
    room.door.clear()
    run = made(room).start({"ns": [*range(6)], "user": "ann"})
    until(lambda: len(room.inside) == 2 and len(places(engine)) == 6)
    assert {place.key for place in places(engine)} == {"ann"}
    room.door.set()
    assert run.result() == [*range(6)]
    assert room.most == 2
    until(lambda: places(engine) == [])


def test_a_graph_is_in_a_lane_by_its_input(engine: Engine) -> None:
    room = Room()
    graph = made(room).options(lane=iron.Lane("graphs", limit=1, key="input.user"))
    room.door.clear()
    runs = [graph.start({"ns": [n], "user": "ann"}) for n in range(3)]
    until(lambda: [run.status for run in runs] == ["running", "pending", "pending"])
    room.door.set()
    assert [run.result() for run in runs] == [[0], [1], [2]]


def test_a_node_without_a_key_fails_and_names_its_lane(engine: Engine) -> None:
    with pytest.raises(DefinitionError, match=r"the key of lane 'of nodes' is None for g\.worked\[0\]"):
        made(Room())({"ns": [1], "user": None})


@pytest.mark.parametrize(
    ("lane", "what"),
    [("{limit: 2}", "name"), ("{name: a, limit: 0}", "limit"), ("{name: a, rate: often}", "60/min"), ("3", "lane")],
)
def test_a_lane_that_can_not_be_is_a_finding(lane: str, what: Any) -> None:
    with pytest.raises(GraphInvalid, match=what):
        made(Room(), TEXT.replace("{name: of nodes, limit: 2, key: with.user}", lane))({"ns": [1], "user": "ann"})
