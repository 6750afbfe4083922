"""Nodes of graphs beside the same steps in a flow: a chain of a thousand, and a thousand side by side."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import ironflow_nb as iron
from benchmarks.floor import between
from benchmarks.samples import Figures
from benchmarks.steps import sequential, work
from ironflow_nb import flow

N_NODES: Final = 1000
N_AT_ONCE: Final = 16


def chain(n_nodes: int) -> iron.Graph:
    """Return a graph of nodes of which each runs after the one above it."""
    return _graph("chain", [{"id": f"n{n}", "python": "work", "with": {"n": n}} for n in range(n_nodes)])


def fan(n_nodes: int) -> iron.Graph:
    """Return a graph of nodes that wait for nothing."""
    nodes = [{"id": f"n{n}", "python": "work", "with": {"n": n}, "depends_on": []} for n in range(n_nodes)]
    return _graph("fan", nodes)


def _graph(name: str, nodes: list[dict[str, Any]]) -> iron.Graph:
    data = {"graph": name, "allow": True, "concurrency": N_AT_ONCE, "nodes": nodes}
    return iron.Graph.from_dict(data, functions={"work": work}).options(fresh=True).validate()


@flow
def mapped(n_steps: int) -> int:
    """Map a step over so many numbers, as many at a time as nodes."""
    return sum(found["n"] for found in work.map(range(n_steps), concurrency=N_AT_ONCE))


def _seconds(folder: Path, durability: str, definition: Any, *args: Any) -> float:
    """Return the seconds of one step of a run of it."""
    with iron.open(folder / "steps.db", durability=durability):
        sequential.options(fresh=True)(3)  # the file is made, the threads are started
        begun = time.perf_counter()
        definition(*args)
        return (time.perf_counter() - begun) / N_NODES


def _chain(folder: Path, durability: str) -> tuple[float, float]:
    graph = chain(N_NODES)
    return between(
        folder,
        lambda here: _seconds(here, durability, sequential.options(fresh=True), N_NODES),
        lambda here: _seconds(here, durability, graph),
    )


def chain_in_power(folder: Path) -> Figures:
    """Measure nodes one after the other that survive a power cut."""
    floor, found = _chain(folder, "power")
    return {"step beside nodes, power": floor, "node, power": found}


def chain_in_process(folder: Path) -> Figures:
    """Measure nodes one after the other that survive the death of the process."""
    floor, found = _chain(folder, "process")
    return {"step beside nodes, process": floor, "node, process": found}


def fan_in_power(folder: Path) -> Figures:
    """Measure nodes side by side that survive a power cut."""
    graph = fan(N_NODES)
    floor, found = between(
        folder,
        lambda here: _seconds(here, "power", mapped.options(fresh=True), N_NODES),
        lambda here: _seconds(here, "power", graph),
    )
    return {"mapped step beside nodes": floor, "node of a fan": found}
