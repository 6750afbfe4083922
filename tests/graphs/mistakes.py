"""What is said of texts and data that are no good graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.graphs.catalog import NODE_KINDS
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.kinds import RETRY_KEYS, Kind, NodeContext, Options, options_schema


def said(definition: str | Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a definition, as people read it; nothing if it is fine."""
    try:
        graph = Graph.from_yaml(definition) if isinstance(definition, str) else Graph.from_dict(definition)
        graph.validate()
    except GraphInvalid as error:
        return list(map(str, getattr(error, "findings", ()))) or [str(error)]
    return []


def graph_text(nodes: str, top: str = "") -> str:
    """Return the text of a graph with these nodes, which begin in line 2, and further keys behind them."""
    return f"graph: g\nnodes:\n{nodes.strip(chr(10))}\n{top}"


def said_of(nodes: str, top: str = "") -> list[str]:
    """Return what is wrong with nodes, whose first line is 3, without the path of each finding."""
    return [line.replace(" column ", "").partition(": ")[2] for line in said(graph_text(nodes, top))]


def messages(*nodes: Any, **top: Any) -> list[str]:
    """Return what is wrong with nodes that are data, without the paths."""
    graph = Graph.from_dict({"graph": "g", "nodes": list(nodes), **top})
    return [finding.message for finding in graph.findings()]


def work(name: str, **keys: Any) -> dict[str, Any]:
    """Return a node that does some work."""
    return {"id": name, "python": "work", **keys}


def fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know a kind of node, ``fetch``, with options of several types."""

    def perform(options: Options, context: NodeContext) -> Any:
        return dict(options)

    schema = options_schema(
        {
            "url": {"type": "string"},
            "method": {"enum": ["GET", "POST"]},
            "times": {"type": "integer", "minimum": 1},
            "json": {},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        required=["url"],
    )
    kind = Kind(
        name="fetch", description="fetches", schema=schema, perform=perform, shorthand="url", retry_keys=RETRY_KEYS
    )
    monkeypatch.setitem(REGISTRY.registered[NODE_KINDS], "fetch", kind)
