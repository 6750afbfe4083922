"""What requests and messages of other services begin: events or runs, each once, by expressions over what has come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ironflow_nb.core.plain_text import short_repr
from ironflow_nb.errors import DefinitionError, InputInvalid, IronflowError
from ironflow_nb.execution import Engine
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.typed_arguments import typed_arguments
from ironflow_nb.triggers.emission import emit_event
from ironflow_nb.triggers.event_rules import event_name, expression_of_event, is_truthy, search


@dataclass(frozen=True, slots=True)
class Intake:
    """What begins with each of the requests of a webhook, or messages of a queue: an event, or a run of a definition.

    `kind` and `name` are of the webhook or queue, `unit` is what it calls one of them.
    """

    kind: str
    name: str
    unit: str
    target: str | Runnable
    expressions: Mapping[str, str]

    def begin(
        self, engine: Engine, body: bytes, headers: Mapping[str, str], own_id: str | None
    ) -> str | Run[Any] | None:
        """Begin it, and return the id of the event, or the run, or None if `when` is not true; it is in the journal.

        Raises:
            InputInvalid: the body is no JSON, or what it has does not fit.
        """
        try:
            return self._begin(engine, {"body": json.loads(body), "headers": headers}, own_id)
        except IronflowError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            text = f"{self.kind} {self.name} can't use the {self.unit}: {error}"
            raise InputInvalid(text, name=self.name) from error

    def _begin(self, engine: Engine, given: Mapping[str, Any], own_id: str | None) -> str | Run[Any] | None:
        if "when" in self.expressions and not is_truthy(self._found("when", given)):
            return None
        value = self._found("data", given)
        key = f"{self.kind}:{self.name}:{self._identity(given, own_id)}"
        if isinstance(self.target, str):
            return emit_event(engine, self.target, value, key)
        if not isinstance(value, dict):
            text = self.expressions["data"]
            raise TypeError(
                f"data={text!r} has to find an object of arguments by name, and has found {short_repr(value)}"
            )
        return self.target.start_alone(engine, typed_arguments(getattr(self.target, "fn", None), value), key=key)

    def _identity(self, given: Mapping[str, Any], own_id: str | None) -> Any:
        if "key" not in self.expressions:
            if own_id is None:
                raise ValueError(
                    'the sender has given it no id: have it do so, or name one of its content, key="body.id"'
                )
            return own_id
        found = self._found("key", given)
        if found is None or isinstance(found, list | dict):
            raise ValueError(f"key={self.expressions['key']!r} has found {short_repr(found)}, which identifies nothing")
        return found

    def _found(self, option: str, given: Mapping[str, Any]) -> Any:
        return search(option, self.expressions[option], given)

    def __str__(self) -> str:
        target = self.target
        what = f"event {target}" if isinstance(target, str) else f"{target.kind} {target.name}"
        return f"{self.kind} {self.name}: {what}"


def make_intake(
    kind: str, name: str, unit: str, emit: str | None, flow: Runnable | None, expressions: Mapping[str, str | None]
) -> Intake:
    """Return the intake that these options describe.

    Raises:
        ValueError: the name is no name of an event, or an option is no JMESPath expression.
        DefinitionError: neither an event nor a flow is named, or both.
    """
    checked = {option: expression_of_event(option, text) for option, text in expressions.items() if text is not None}
    return Intake(kind, name, unit, _target(kind, name, emit, flow), checked)


def _target(kind: str, name: str, emit: str | None, flow: Runnable | None) -> str | Runnable:
    if emit is not None and flow is None:
        return event_name(emit, "emit")
    if emit is None and isinstance(flow, Runnable):
        return flow
    raise DefinitionError(
        f'{kind} {name!r} begins an event or a run: emit="NAME OF THE EVENT" or flow=FLOW, one of them'
    )


def bytes_of_payload(payload: object) -> bytes:
    """Return the payload as it is sent: bytes as they are, a text in UTF-8, anything else as JSON."""
    if isinstance(payload, bytes):
        return payload
    return (payload if isinstance(payload, str) else json.dumps(payload)).encode()
