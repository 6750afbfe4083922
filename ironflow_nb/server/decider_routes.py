"""Routes of deciders and projections: commands as JSON, checked against their classes, with the outcome as it is."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from ironflow_nb.access.permissions import Permission
from ironflow_nb.access.resource_names import EVERYTHING
from ironflow_nb.core.status import RunKind
from ironflow_nb.deciders.decider import Decider
from ironflow_nb.deciders.decisions import Accepted, AlreadyCompleted, Outcome, OutcomeKind, Rejected
from ironflow_nb.deciders.projection import KIND, Projection, projections
from ironflow_nb.errors import EventUnreadable, ProjectionFailed
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


class DeadLettersQuery(Strict, frozen=True):
    """Which dead letters: those of a decider, or of one instance of it; how many of the newest."""

    decider: str | None = None
    instance: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class RequeueBody(Strict, frozen=True):
    """Which dead letters of a decider get all their attempts again: those of an instance, or the one of a key."""

    decider: str
    instance: str | None = None
    key: str | None = None


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


# -- dead letters ----------------------------------------------------------------------------------------------------


def list_dead_letters(call: HttpCall) -> Reply:
    """Return the effects and timers of all deciders that failed in their last attempt, the newest first."""
    query: DeadLettersQuery = call.query
    wanted = _deciders() if query.decider is None else [_decider_named(query.decider)]
    found: list[dict[str, Any]] = []
    for each in wanted:
        if isinstance(each, Reply):
            return each
        rows = json_of(each.dead_letters(instance=query.instance, limit=query.limit))
        found += [{"decider": each.name, **row} for row in rows]
    found.sort(key=lambda row: str(row["dead_at"]), reverse=True)
    readable = [
        row for row in found if call.may(Permission.DECIDER_READ, f"{row['decider']}/{row['instance'] or EVERYTHING}")
    ]
    return Reply({"dead_letters": readable[: query.limit]})


def requeue_dead_letters(call: HttpCall) -> Reply:
    """Put dead letters back on the queue, with all their attempts."""
    asked: RequeueBody = call.body
    decider = _decider_named(asked.decider)
    if isinstance(decider, Reply):
        return decider
    return Reply({"requeued": decider.requeue(instance=asked.instance, key=asked.key)}, 202)


# -- projections -----------------------------------------------------------------------------------------------------


def list_projections(_call: HttpCall) -> Reply:
    """Return the projections of the journal and of this process."""
    return Reply({"projections": json_of(projections())})


def show_projection(call: HttpCall) -> Reply:
    """Return the state after every committed event; where one can't be folded that before it, and why."""
    name = call.path["name"]
    found = REGISTRY.find(KIND, name)
    if not isinstance(found, Projection):
        names = ", ".join(each.name for each in REGISTRY.definitions(KIND)) or "none"
        message = f"no projection {name!r} is defined here; there are: {names}"
        return refused(404, "projection_not_defined", message)
    error = None
    try:
        found.catch_up()
    except ProjectionFailed as failed:
        error = str(failed)
    return Reply({"name": name, "position": found.position, "error": error, "state": json_of(found.stored_state)})


def _deciders() -> list[AnyDecider]:
    return [each for each in REGISTRY.definitions(RunKind.DECIDER) if isinstance(each, Decider)]


def _decider(call: HttpCall) -> AnyDecider | Reply:
    return _decider_named(call.path["name"])


def _decider_named(name: str) -> AnyDecider | Reply:
    found = REGISTRY.find(RunKind.DECIDER, name)
    if isinstance(found, Decider):
        return found
    names = ", ".join(each.name for each in _deciders()) or "none"
    return refused(404, "decider_not_defined", f"no decider {name!r} is defined here; there are: {names}")


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
    HttpRoute(
        "GET", "/dead-letters", Permission.DECIDER_READ, list_dead_letters, "effects and timers that failed for good",
        "decider.dead_letters()", DeadLettersQuery, resource=None,
    ),
    HttpRoute(
        "POST", "/dead-letters/requeue", Permission.DECIDER_SEND, requeue_dead_letters, "try them again",
        "decider.requeue()", body=RequeueBody,
        resource=lambda call: f"{call.body.decider}/{call.body.instance or EVERYTHING}",
    ),
    HttpRoute(
        "GET", "/projections", Permission.DECIDER_READ, list_projections, "the projections", "iron.projections()"
    ),
    HttpRoute(
        "GET", "/projections/{name}", Permission.DECIDER_READ, show_projection, "the state of a projection",
        "projection.state",
    ),
)  # fmt: skip
