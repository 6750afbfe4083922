"""Graphs for tests: made of plain data, with functions of Python that note what they do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ironflow_nb.graphs.graph import Graph
from tests.cells import World

Node = dict[str, Any]

WAIT_S = 20.0
"""How long a test waits for what is to happen at once."""


def graph_of(
    *nodes: Node, name: str = "g", functions: Mapping[str, Callable[..., Any]] | None = None, **top: Any
) -> Graph:
    """Return a graph of these nodes that may touch everything."""
    return Graph.from_dict({"graph": name, "allow": True, "nodes": list(nodes), **top}, functions=functions)


def work(name: str, value: Any = None, **keys: Any) -> Node:
    """Return a node that notes that it ran, and gives what it is given."""
    return {"id": name, "python": "did", "with": {"name": name, "value": value}, **keys}


def fail(name: str, **keys: Any) -> Node:
    """Return a node that notes that it ran, and fails as long as the world is broken."""
    return {"id": name, "python": "fails", "with": {"name": name}, **keys}


def doing(world: World) -> dict[str, Callable[..., Any]]:
    """Return the functions of `work` and `fail`."""

    def did(name: str, value: Any) -> Any:
        world.did(name)
        return value

    def fails(name: str) -> str:
        world.did(name)
        if world.is_broken:
            raise ConnectionError(f"{name} is broken")
        return f"{name} works"

    return {"did": did, "fails": fails}


class Meeting:
    """Bodies that wait for each other: it only comes about if all of them run at once."""

    def __init__(self, n_bodies: int) -> None:
        self._barrier = threading.Barrier(n_bodies)
        self._lock = threading.Lock()
        self._n_now = 0
        self.n_most = 0

    def come(self, n: int) -> int:
        self._barrier.wait(WAIT_S)
        return n

    def count(self, n: int) -> int:
        """Note how many bodies are inside at once."""
        with self._lock:
            self._n_now += 1
            self.n_most = max(self.n_most, self._n_now)
        threading.Event().wait(0.01)
        with self._lock:
            self._n_now -= 1
        return n

    def __ironflow_digest__(self) -> bytes:
        return b"a meeting"


def n_of(world: World, names: Sequence[str]) -> dict[str, int]:
    """Return how often each of these was noted."""
    return {name: world.log.count(name) for name in names}
