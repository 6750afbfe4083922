"""How the tests of outside nodes perform one, as the engine does: options by their schema, and a real context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ironflow_nb.execution.system.system import SystemClock
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets


def perform(
    kind: Kind,
    options: Mapping[str, Any],
    *,
    allow: Mapping[str, Any] | None = None,
    retry: Mapping[str, Any] | None = None,
    timeout_s: float | None = 20.0,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    secret: str = "",
) -> Any:
    grants = Grants.of(allow)
    secrets = Secrets({}, grants)
    secrets.add(secret)
    context = WorkContext(
        node="it",
        grants=grants,
        clock=SystemClock(),
        secrets=secrets,
        functions=functions,
        retry=retry,
        timeout_s=timeout_s,
    )
    assert not list(schema_check.problems(kind.schema, dict(options), allows_expressions=False))
    return kind.perform(options, context)
