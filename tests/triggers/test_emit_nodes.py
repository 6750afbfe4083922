"""A node of a graph emits an event, once for each time that it is reached."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.execution import Engine
from ironflow_nb.testing.simulated_time import pass_time

GRAPH = """
graph: placing
nodes:
  - id: told
    loop: "{{ input.orders }}"
    as: order
    do: [{id: placed, emit: {event: order.placed, data: "{{ order }}"}}]
  - id: once
    emit: {event: day.closed, key: "{{ input.day }}"}
output: "{{ once }}"
"""


def test_a_node_emits_once_and_another_run_emits_again(engine: Engine) -> None:
    given: list[Any] = []

    @flow(on="order.placed")
    def fulfil(order: dict[str, Any]) -> Any:
        return order["id"]

    @flow(on="day.closed")
    def close() -> None:
        given.append(1)

    placing = iron.Graph.from_yaml(GRAPH)
    first = placing.start(orders=[{"id": 1}, {"id": 2}], day="monday").result()
    pass_time(engine, 0)
    assert sorted(iron.runs(flow=fulfil)["output"].tolist()) == ["1", "2"]
    again = placing.options(fresh=True).start(orders=[{"id": 1}, {"id": 2}], day="monday").result()
    pass_time(engine, 0)
    assert again == first
    assert (len(fulfil.runs()), len(close.runs())) == (4, 1)


def test_an_event_with_a_secret_in_it_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "a secret that nobody guesses")
    graph = iron.Graph.from_yaml(
        "graph: leaking\nsecrets: {token: {env: TOKEN}}\nallow: {env: [TOKEN]}\n"
        'nodes:\n  - id: a\n    emit: {event: e, data: "{{ secrets.token }}"}\n'
    )
    with pytest.raises(iron.errors.ValueNotStorable, match="an event would carry a secret"):
        graph()


def test_a_graph_is_tested_without_emitting(engine: Engine) -> None:
    placing = iron.Graph.from_yaml(GRAPH)
    tested = placing.test({"orders": [], "day": "x"}, mocks={"once": "an id", "placed": "another id"})
    assert tested.output == "an id"
