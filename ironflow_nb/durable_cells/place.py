"""Where a cell is executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ironflow_nb.durable_cells.looking import key_of
from ironflow_nb.durable_cells.outputs import Stage
from ironflow_nb.execution.engine import Engine


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell is executed: which journal and notebook, whose names, and where its output goes."""

    engine: Engine
    key: str
    namespace: dict[str, Any]
    stage: Stage


def place_of(engine: Engine, namespace: dict[str, Any], stage: Stage, notebook: str | None = None) -> Place:
    """Return the place for the cells of a notebook."""
    return Place(engine, key_of(engine, notebook), namespace, stage)
