"""Webhooks: signed requests of other services become events, or runs, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.option_values import a_name
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.intake import Intake, bytes_of_payload, make_intake
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.runnable import Runnable
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
    intake = make_intake("webhook", a_name(name), "request", emit, flow, {"data": data, "when": when, "key": key})
    made = Webhook(intake, _secrets(secret), SCHEMES[scheme], seconds(tolerance_s))
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

    def __init__(self, intake: Intake, secrets: Sequence[str], scheme: SignatureScheme, tolerance_s: float) -> None:
        self.name = intake.name
        self._intake = intake
        self._secrets, self._scheme, self._tolerance_s = secrets, scheme, tolerance_s

    def deliver(self, payload: object, headers: Mapping[str, str] | None = None) -> str | Run[Any] | None:
        """Take a request as the server does; return the id of its event, or its run, or None if `when` is not true.

        Args:
            payload: the body: bytes, a text, or what becomes JSON.
            headers: as they came, with the signature; by default the payload is signed here, as for a test.

        Raises:
            SignatureInvalid: it is not signed with the secret, or too long ago.
            InputInvalid: the body is no JSON, or what it has does not fit.
        """
        body = bytes_of_payload(payload)
        return self.take(REGISTRY.engine(), body, self.sign(body) if headers is None else headers)

    def sign(self, payload: object) -> dict[str, str]:
        """Return the headers with which the sender signs that payload now."""
        engine = REGISTRY.engine()
        time, message_id = str(engine.clock.now() // 1_000_000), engine.entropy(12).hex()
        return self._scheme.headers(self._secrets[0], bytes_of_payload(payload), time, message_id)

    def take(self, engine: Engine, body: bytes, headers: Mapping[str, str]) -> str | Run[Any] | None:
        """Take a request; see `deliver`."""
        small = {name.lower(): value for name, value in headers.items()}
        now_s = engine.clock.now() / 1e6
        request_id = verified_id(self._scheme, self._secrets, body, small, now_s, self._tolerance_s)
        shown = {name: value for name, value in small.items() if name not in _HIDDEN | {self._scheme.header}}
        return self._intake.begin(engine, body, shown, request_id)

    def __repr__(self) -> str:
        return f"<{self._intake}>"
