"""Webhooks: signed requests of other services become events, or runs, each once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.option_values import a_name
from ironflow_nb.errors import DefinitionError, InputInvalid, IronflowError
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.typed_arguments import typed_arguments
from ironflow_nb.triggers.emission import emit_event
from ironflow_nb.triggers.event_rules import event_name, expression_of_event, is_truthy, search
from ironflow_nb.triggers.webhook_signatures import SCHEMES, SHORTEST_SECRET, SignatureScheme, verified_id

WEBHOOKS: Final = "webhook"
"""The purpose under which the registry has them."""
_HIDDEN: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


def webhook(  # noqa: PLR0913 -- the options of a webhook; keyword-only
    name: str,
    *,
    secret: str | Sequence[str],
    emit: str | None = None,
    flow: Runnable | None = None,
    data: str = "body",
    when: str | None = None,
    key: str | None = None,
    scheme: str = "ironflow",
    tolerance_s: Duration = 300,
) -> Webhook:
    """Define what signed requests of another service begin: events, or runs of a flow or graph.

    ``ironflow-nb serve`` takes them at ``POST /webhooks/NAME``; `Webhook.deliver` takes them here. Each request is one
    event, or one run, however often it comes.

    Args:
        name: the name in the path.
        secret: what the sender signs with, 16 characters or more; two of them while the sender changes from one to the
            other.
        emit: the name of the event that each request is.
        flow: the flow or graph of which each request is a run, in place of an event.
        data: what of the request they get, a JMESPath expression over ``{body, headers}``; of a flow an object of its
            arguments by name.
        when: a JMESPath expression over the same; requests for which it is not true begin nothing.
        key: a JMESPath expression for what identifies a request, such as ``body.id``; by default the id that the sender
            has signed, or all that is signed. A sender that signs again for each try needs it.
        scheme: how the sender signs: ``"ironflow"``, ``"stripe"``, ``"github"``, ``"slack"`` or ``"standard"``
            (Standard Webhooks).
        tolerance_s: how old a signature may be, where the sender signs the instant, too.

    Raises:
        ValueError, TypeError: an option has a value that it does not know.
        DefinitionError: neither an event nor a flow is named, or both.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme is one of {', '.join(SCHEMES)}, not {scheme!r}")
    expressions = {
        option: expression_of_event(option, text)
        for option, text in (("data", data), ("when", when), ("key", key))
        if text is not None
    }
    target = _target(name, emit, flow)
    made = Webhook(a_name(name), _secrets(secret), SCHEMES[scheme], seconds(tolerance_s), target, expressions)
    REGISTRY.registered[WEBHOOKS][made.name] = made
    return made


def _secrets(given: str | Sequence[str]) -> list[str]:
    found = [given] if isinstance(given, str) else list(given)
    if not 1 <= len(found) <= 2 or not all(isinstance(each, str) and len(each) >= SHORTEST_SECRET for each in found):
        raise ValueError(
            f"secret= is a text of {SHORTEST_SECRET} characters or more, or two of them during a change; take it from "
            'the environment: secret=os.environ["NAME"]'
        )
    return found


class Webhook:
    """What signed requests of another service begin; made by `webhook`."""

    def __init__(
        self,
        name: str,
        secrets: Sequence[str],
        scheme: SignatureScheme,
        tolerance_s: float,
        target: str | Runnable,
        expressions: Mapping[str, str],
    ) -> None:
        self.name = name
        self._secrets, self._scheme, self._tolerance_s = secrets, scheme, tolerance_s
        self._target = target
        self._expressions = expressions

    def deliver(self, payload: object, headers: Mapping[str, str] | None = None) -> str | Run[Any] | None:
        """Take a request as the server does; return the id of its event, or its run, or None if `when` is not true.

        Args:
            payload: the body: bytes, a text, or what becomes JSON.
            headers: as they came, with the signature; by default the payload is signed here, as for a test.

        Raises:
            SignatureInvalid: it is not signed with the secret, or too long ago.
            InputInvalid: the body is no JSON, or what it has does not fit.
        """
        body = _bytes(payload)
        return self.take(REGISTRY.engine(), body, self.sign(body) if headers is None else headers)

    def sign(self, payload: object) -> dict[str, str]:
        """Return the headers with which the sender signs that payload now."""
        engine = REGISTRY.engine()
        time, message_id = str(engine.clock.now() // 1_000_000), engine.entropy(12).hex()
        return self._scheme.headers(self._secrets[0], _bytes(payload), time, message_id)

    def take(self, engine: Engine, body: bytes, headers: Mapping[str, str]) -> str | Run[Any] | None:
        """Take a request; see `deliver`."""
        small = {name.lower(): value for name, value in headers.items()}
        now_s = engine.clock.now() / 1e6
        request_id = verified_id(self._scheme, self._secrets, body, small, now_s, self._tolerance_s)
        try:
            shown = {name: value for name, value in small.items() if name not in _HIDDEN | {self._scheme.header}}
            return self._begin(engine, {"body": json.loads(body), "headers": shown}, request_id)
        except IronflowError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise InputInvalid(f"webhook {self.name} can't use the request: {error}", name=self.name) from error

    def _begin(self, engine: Engine, request: Mapping[str, Any], request_id: str) -> str | Run[Any] | None:
        if "when" in self._expressions and not is_truthy(self._found("when", request)):
            return None
        value = self._found("data", request)
        found = self._found("key", request) if "key" in self._expressions else request_id
        if found is None or isinstance(found, list | dict):
            raise ValueError(f"key={self._expressions['key']!r} has found {found!r}, which identifies nothing")
        key = f"webhook:{self.name}:{found}"
        if isinstance(self._target, str):
            return emit_event(engine, self._target, value, key)
        if not isinstance(value, dict):
            text = self._expressions["data"]
            raise TypeError(f"data={text!r} has to find an object of arguments by name, and has found {value!r}")
        return self._target.start_alone(engine, typed_arguments(getattr(self._target, "fn", None), value), key=key)

    def _found(self, option: str, request: Mapping[str, Any]) -> Any:
        return search(option, self._expressions[option], request)

    def __repr__(self) -> str:
        target = self._target
        what = f"event {target}" if isinstance(target, str) else f"{target.kind} {target.name}"
        return f"<webhook {self.name}: {what}>"


def _target(name: str, emit: str | None, flow: Runnable | None) -> str | Runnable:
    if emit is not None and flow is None:
        return event_name(emit, "emit")
    if emit is None and isinstance(flow, Runnable):
        return flow
    raise DefinitionError(
        f'webhook {name!r} begins an event or a run: emit="NAME OF THE EVENT" or flow=FLOW, one of them'
    )


def _bytes(payload: object) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return (payload if isinstance(payload, str) else json.dumps(payload)).encode()
