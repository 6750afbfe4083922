"""Evaluating one expression in tests: a recorded time and id, and the shortest way to a value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ironflow_nb.execution.system.system import Clock
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.language.evaluation import evaluate
from ironflow_nb.graphs.language.expression import compile_expression
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets
from ironflow_nb.testing.clock import SimClock

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = "6e1f0b0c-0000-4000-8000-000000000001"


class Tape:
    """What is recorded, always the same."""

    def now(self) -> datetime:
        return NOW

    def uuid(self) -> str:
        return ID


TAPE = Tape()


def value_of(text: str, context: Mapping[str, Any] | None = None) -> Any:
    return evaluate(compile_expression(text), context or {}, TAPE)


def context_of(node: str = "n", *, clock: Clock | None = None, allow: Mapping[str, Any] | None = None) -> WorkContext:
    """Return the context of a node, with nothing granted unless `allow` says so."""
    grants = Grants.of(allow or {})
    return WorkContext(node=node, grants=grants, clock=clock or SimClock(), secrets=Secrets({}, grants))
