"""Graphs before they run: read from YAML, and checked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import ironflow_nb as iron
from benchmarks.samples import Figures

N_NODES: Final = 1_000


def data_of(n_nodes: int) -> dict[str, Any]:
    """Return a chain of nodes with expressions, options and retries."""
    nodes = [
        {
            "id": f"n{number}",
            "log": {"message": f"{{{{ {f'n{number - 1}.id' if number else 'input.id'} }}}} and {{{{ input.more }}}}"},
            "retry": {"attempts": 3, "delay_s": 0.5},
        }
        for number in range(n_nodes)
    ]
    return {"graph": "long", "nodes": nodes}


def definitions(_folder: Path) -> Figures:
    """Measure what a thousand nodes cost to check, and to read from a text."""
    iron.Graph.from_yaml(iron.Graph.from_dict(data_of(3)).validate().to_yaml())  # what is imported once
    begun = time.perf_counter()
    graph = iron.Graph.from_dict(data_of(N_NODES)).validate()
    checked = time.perf_counter()
    text = graph.to_yaml()
    written = time.perf_counter()
    iron.Graph.from_yaml(text)
    return {"graph checked": checked - begun, "graph read": time.perf_counter() - written}
