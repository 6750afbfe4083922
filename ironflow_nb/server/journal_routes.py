"""Routes of everything but runs: questions, events, definitions, schedules, lanes, breakers, health."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, UnsetType

from ironflow_nb._version import __version__
from ironflow_nb.access.permissions import Permission
from ironflow_nb.errors import GraphInvalid
from ironflow_nb.execution import REGISTRY
from ironflow_nb.graphs.catalog import kinds, nodes
from ironflow_nb.graphs.compiler.compiler import compile_graph
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFinding, format_path
from ironflow_nb.graphs.compiler.graph_source import parse_source, source_from_data
from ironflow_nb.handles.answer_forms import give_answer
from ironflow_nb.handles.open_questions import asked_now, questions_frame
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.webhook import WEBHOOKS, Webhook
from ironflow_nb.history.breakers_frame import breakers
from ironflow_nb.history.lanes_frame import lanes
from ironflow_nb.history.plain_json import json_of
from ironflow_nb.server.http_calls import HttpCall, HttpRoute, Reply, Strict, refused
from ironflow_nb.server.run_routes import definitions, find_run, run_resource
from ironflow_nb.triggers.emission import emit_event
from ironflow_nb.triggers.event_rules import event_name
from ironflow_nb.triggers.schedule import schedules


class AnswerBody(Strict, frozen=True):
    """What fits the question: a value, the line that a person has typed, or the rows of the table that was edited.

    `step` names one question of several.
    """

    one_of = ("value", "line", "rows")
    value: Any | UnsetType = UNSET
    line: str | UnsetType = UNSET
    rows: list[dict[str, Any]] | UnsetType = UNSET
    step: str | None = None


class EventBody(Strict, frozen=True):
    """Something that happened, for the flows that it starts; the same key is the same event."""

    name: Annotated[str, Meta(min_length=1)]
    data: Any = None
    key: str | None = None


class GraphBody(Strict, frozen=True):
    """A graph as YAML text, or as its data."""

    source: str | dict[str, Any]


def list_waiting(call: HttpCall) -> Reply:
    """Return the open questions of all runs, each with the form in which it is answered."""
    asked = asked_now(call.engine)
    rows = json_of(questions_frame(asked).drop(columns="expression"))
    answers = [each.question.answer for each, _, _ in asked]
    found = [row | {"form": of.form, "choices": list(of.choices)} for row, of in zip(rows, answers, strict=True)]
    return Reply({"waiting": [row for row in found if call.may(Permission.RUN_READ, f"{row['flow']}/{row['run_id']}")]})


def answer_run(call: HttpCall) -> Reply:
    """Answer a question of a run."""
    asked: AnswerBody = call.body
    run = find_run(call)
    if asked.rows is not UNSET:
        give_answer(call.engine, run.id, {"rows": asked.rows, "step": asked.step})
    elif asked.line is not UNSET:
        give_answer(call.engine, run.id, {"line": asked.line, "step": asked.step})
    else:
        run.answer(asked.value, asked.step)
    return Reply({"run_id": run.id, "status": run.status.value}, 202)


def record_event(call: HttpCall) -> Reply:
    """Record an event, which starts the flows that wait for it."""
    asked: EventBody = call.body
    key = call.headers.get("idempotency-key", asked.key)
    return Reply({"event_id": emit_event(call.engine, event_name(asked.name), asked.data, key)}, 202)


def take_webhook(call: HttpCall) -> Reply:
    """Take a signed request of another service."""
    known = REGISTRY.registered[WEBHOOKS]
    found: Webhook | None = known.get(call.path["name"])
    if found is None:
        listed = ", ".join(sorted(known)) or "none"
        return refused(404, "no_webhook", f"there is no webhook {call.path['name']!r}; here are defined: {listed}")
    begun = found.take(call.engine, call.body, call.headers)
    if begun is None:
        return Reply({"ignored": True})
    if isinstance(begun, str):
        return Reply({"event_id": begun}, 202)
    call.engine.flush()
    return Reply({"run_id": begun.id, "status": begun.status.value}, 202, {"Location": f"/runs/{begun.id}"})


def list_flows(_call: HttpCall) -> Reply:
    """Return the flows and graphs that are defined here."""
    return Reply({"flows": [_shown(each) for each in definitions()]})


def _shown(definition: Runnable) -> dict[str, Any]:
    parameters = getattr(getattr(definition, "spec", None), "parameters", None)
    about: dict[str, Any] = {
        "kind": definition.kind,
        "name": definition.name,
        "description": inspect.getdoc(getattr(definition, "fn", None)) or "",
        "events": sorted(definition.wanted_events),
    }
    if parameters is not None:
        return about | {"call": f"{definition.name}{parameters}"}
    return about | {"input": json_of(getattr(definition, "data", {}).get("input"))}


def _frame(name: str, read: Callable[[HttpCall], Any]) -> Callable[[HttpCall], Reply]:
    def show(call: HttpCall) -> Reply:
        return Reply({name: json_of(read(call))})

    return show


def validate_graph(call: HttpCall) -> Reply:
    """Return all errors of a graph. Nothing runs, and nothing is defined by it."""
    source = call.body.source
    try:
        parsed = parse_source(source) if isinstance(source, str) else source_from_data(source)
        definition, findings = compile_graph(parsed, kinds())
    except GraphInvalid as error:  # it is no YAML
        return Reply({"valid": False, "findings": [{"path": "", "message": str(error), "line": None, "column": None}]})
    found = [_finding(each) for each in findings.all]
    return Reply({"valid": not found, "graph": definition.name, "findings": found})


def _finding(found: CompilerFinding) -> dict[str, Any]:
    line, column = (None, None) if found.position is None else (found.position.line, found.position.column)
    return {"path": format_path(found.path), "message": found.message, "line": line, "column": column}


def health(call: HttpCall) -> Reply:
    """Say whether the journal is there and can be read."""
    if call.feed.is_stopped:
        return refused(503, "server_stops", "the server ends; what it has accepted goes on with the next one")
    with call.engine.access.current() as reader:  # by the connection that writes: a file that was replaced is found
        reader.last_position()
    return Reply({"status": "ok", "version": __version__})


JOURNAL_ROUTES: Final = (
    HttpRoute(
        "GET", "/waiting", Permission.RUN_READ, list_waiting, "the open questions of all runs", "iron.waiting()",
        resource=None,
    ),
    HttpRoute(
        "POST", "/waiting/{run_id}/answer", Permission.RUN_ANSWER, answer_run, "answer one", "run.answer(value)",
        body=AnswerBody, resource=run_resource,
    ),
    HttpRoute(
        "POST", "/events", Permission.EVENT_EMIT, record_event, "record an event", "iron.emit(name, data)",
        body=EventBody, resource=lambda call: call.body.name,
    ),
    HttpRoute(
        "POST", "/webhooks/{name}", Permission.SIGNED, take_webhook, "a signed request",
        "hook.deliver(payload, headers)", is_raw=True,
    ),
    HttpRoute("GET", "/flows", Permission.FLOW_READ, list_flows, "the flows and graphs that are defined here", "flow?"),
    HttpRoute(
        "GET", "/nodes", Permission.FLOW_READ, _frame("nodes", lambda _: nodes()), "the kinds of nodes of graphs",
        "iron.nodes()",
    ),
    HttpRoute(
        "GET", "/schedules", Permission.JOURNAL_READ, _frame("schedules", lambda call: schedules(engine=call.engine)),
        "the schedules", "iron.schedules()",
    ),
    HttpRoute(
        "GET", "/lanes", Permission.JOURNAL_READ, _frame("lanes", lambda call: lanes(engine=call.engine)),
        "the lanes, and what is in them", "iron.lanes()",
    ),
    HttpRoute(
        "GET", "/breakers", Permission.JOURNAL_READ, _frame("breakers", lambda call: breakers(engine=call.engine)),
        "the circuit breakers", "iron.breakers()",
    ),
    HttpRoute(
        "POST", "/graphs/validate", Permission.FLOW_READ, validate_graph, "check a graph; nothing runs",
        "graph.validate()", body=GraphBody,
    ),
    HttpRoute("GET", "/health", Permission.OPEN, health, "whether the server works", "iron.doctor()"),
)  # fmt: skip
