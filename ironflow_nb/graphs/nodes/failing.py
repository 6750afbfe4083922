"""How nodes tell that they could not do what they were asked."""

from __future__ import annotations

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.kinds import NodeContext


def failure(context: NodeContext, message: str, *, is_retryable: bool = False, **ids: object) -> NodeFailed:
    """Return the error of a node; unless it is said to be retryable, another try would come to the same."""
    error = NodeFailed(f"{context.node}: {message}", node=context.node, **ids)
    error.is_retryable = is_retryable
    return error
