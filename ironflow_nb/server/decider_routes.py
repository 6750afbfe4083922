"""Routes of deciders: commands as JSON, checked against their classes, with the outcome as it is."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from ironflow_nb.access.permissions import Permission
from ironflow_nb.core.status import RunKind
from ironflow_nb.deciders.decider import Decider
from ironflow_nb.deciders.decisions import Accepted, AlreadyCompleted, Outcome, OutcomeKind, Rejected
from ironflow_nb.errors import EventUnreadable
from ironflow_nb.execution import REGISTRY
from ironflow_nb.history.plain_json import json_of
from ironflow_nb.server.http_calls import HttpCall, HttpRoute, Reply, Strict, refused

AnyDecider = Decider[Any, Any, Any, Any]


class CommandBody(Strict, frozen=True):
    """A command: the name of its class and its fields, without the id, which the path has."""

    command: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    key: str | None = None
    expected_version: Annotated[int, Meta(ge=0)] | None = None


def list_deciders(_call: HttpCall) -> Reply:
    """Return the deciders that are defined here, with the classes of their commands."""
    found = [{"name": each.name, "commands": list(each.command_names)} for each in _deciders()]
    return Reply({"deciders": found})


def list_instances(call: HttpCall) -> Reply:
    """Return the instances of a decider."""
    decider = _decider(call)
    return decider if isinstance(decider, Reply) else Reply({"instances": json_of(decider.instances())})


def instance_resource(call: HttpCall) -> str:
    """Return the id of the instance of the path as a resource."""
    return f"{call.path['name']}/{call.path['instance']}"


def show_instance(call: HttpCall) -> Reply:
    """Return the state of an instance, and its events."""
    decider, instance = _decider(call), call.path["instance"]
    if isinstance(decider, Reply):
        return decider
    state, events = decider.state(instance), decider.history(instance)
    return Reply({"instance": instance, "state": json_of(state), "events": json_of(events)})


def send_command(call: HttpCall) -> Reply:
    """Decide a command. A rejection is an outcome as any other."""
    decider, asked, instance = _decider(call), call.body, call.path["instance"]
    if isinstance(decider, Reply):
        return decider
    if asked.command not in decider.command_names:
        names = ", ".join(decider.command_names) or "none, for its decide function declares none"
        return refused(422, "command_invalid", f"{decider.name} has no command {asked.command!r}; it has {names}")
    try:
        command = decider.command_codec.decode(asked.command, json.dumps({"id": instance} | asked.data))
    except EventUnreadable as error:
        return refused(422, "command_invalid", f"{asked.command} of {decider.name}: {error.__cause__}")
    if (other := decider.instance_of(command)) != instance:
        return refused(422, "command_invalid", f"the path names instance {instance!r}, and the command {other!r}")
    key = call.headers.get("idempotency-key", asked.key)
    outcome = decider.send(command, key=key, expected_version=asked.expected_version)
    return Reply({"instance": instance, **_shown(outcome)})


def _shown(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Accepted(n_events=n_events, version=version, is_repeated=is_repeated, position=position):
            about = {"n_events": n_events, "version": version, "position": position, "is_repeated": is_repeated}
            return {"outcome": OutcomeKind.ACCEPTED, **about}
        case Rejected(reason=reason, is_repeated=is_repeated):
            return {"outcome": OutcomeKind.REJECTED, "reason": json_of(reason), "is_repeated": is_repeated}
        case AlreadyCompleted(is_repeated=is_repeated):
            return {"outcome": OutcomeKind.ALREADY_COMPLETED, "is_repeated": is_repeated}


def _deciders() -> list[AnyDecider]:
    return [each for each in REGISTRY.definitions(RunKind.DECIDER) if isinstance(each, Decider)]


def _decider(call: HttpCall) -> AnyDecider | Reply:
    found = REGISTRY.find(RunKind.DECIDER, call.path["name"])
    if isinstance(found, Decider):
        return found
    names = ", ".join(each.name for each in _deciders()) or "none"
    return refused(404, "decider_not_defined", f"no decider {call.path['name']!r} is defined here; there are: {names}")


DECIDER_ROUTES: Final = (
    HttpRoute(
        "GET", "/deciders", Permission.DECIDER_READ, list_deciders, "the deciders that are defined here", "decider?"
    ),
    HttpRoute(
        "GET", "/deciders/{name}", Permission.DECIDER_READ, list_instances, "the instances of a decider",
        "decider.instances()", resource=lambda call: f"{call.path['name']}/*",
    ),
    HttpRoute(
        "GET", "/deciders/{name}/{instance}", Permission.DECIDER_READ, show_instance, "one instance",
        "decider.state(id)", resource=instance_resource,
    ),
    HttpRoute(
        "POST", "/deciders/{name}/{instance}", Permission.DECIDER_SEND, send_command, "send it a command",
        "decider.send(command)", body=CommandBody, resource=instance_resource,
    ),
)  # fmt: skip
