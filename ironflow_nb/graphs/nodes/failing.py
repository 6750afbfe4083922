"""How nodes tell that they could not do what they were asked."""

from __future__ import annotations

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.kinds import NodeContext


def failure(
    context: NodeContext,
    message: str,
    *,
    is_retryable: bool = False,
    status_code: int | None = None,
    output: object = None,
    path: str | None = None,
) -> NodeFailed:
    """Return the error of a node; unless it is said to be retryable, another try would come to the same."""
    return NodeFailed(
        f"{context.node}: {message}",
        node=context.node,
        is_retryable=is_retryable,
        status_code=status_code,
        output=output,
        path=path,
    )
