"""Emit: a node that records an event, once, and so starts the flows that want it."""

from __future__ import annotations

from typing import Final

from ironflow_nb.execution import REGISTRY
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.triggers.emission import emit_event, key_of_step
from ironflow_nb.triggers.event_rules import event_name


def _emit(options: Options, context: NodeContext) -> str:
    data, key = options.get("data"), options.get("key")
    try:
        name = event_name(options["event"])
    except ValueError as error:
        raise failure(context, str(error)) from None
    return emit_event(REGISTRY.engine(), name, data, key or key_of_step())


EMIT_EVENT: Final = Kind(
    name="emit",
    description="Records an event, which starts a run of each flow with @flow(on=...), and gives the id of the event.",
    schema=options_schema(
        {
            "event": {"type": "string", "minLength": 1, "description": "The name of the event."},
            "data": {"description": "What the flows get as their argument."},
            "key": {"type": "string", "minLength": 1, "description": "The same key is one event for ever."},
        },
        required=["event"],
    ),
    perform=_emit,
    shorthand="event",
    is_outside=True,
)
