"""Routes of runs: begun, listed, shown, followed, steered."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ironflow_nb.access.permissions import Permission
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import ENDED, RunKind, RunStatus
from ironflow_nb.errors import FlowNotDefined, IronflowError, RunNotFound, ValueUnreadable
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.typed_arguments import typed_arguments
from ironflow_nb.history.frames import runs, steps
from ironflow_nb.history.lookup import resolve_run
from ironflow_nb.history.plain_json import json_of
from ironflow_nb.history.run_status import when_ended
from ironflow_nb.notebook.step_edits import fork_at_step, inject_value
from ironflow_nb.server.event_feed import EndOfWait, read_page
from ironflow_nb.server.event_stream import stream_of_events
from ironflow_nb.server.http_calls import HttpCall, HttpRoute, Reply, Strict, refused
from ironflow_nb.server.refusals import error_code
from ironflow_nb.server.server_sent_events import MEDIA_TYPE
from ironflow_nb.server.server_threads import in_thread
from ironflow_nb.values.failures import safe_text

MOST_WAIT_S: Final = 600.0
_KEY: Final = "idempotency-key"

Limit = Annotated[int, Meta(ge=1, le=1000)]


class StartBody(Strict, frozen=True):
    """A run to begin: the flow or graph, its arguments by name; a key makes it one run, however often it is asked."""

    flow: Annotated[str, Meta(min_length=1)]
    input: dict[str, Any] = msgspec.field(default_factory=dict)
    key: Annotated[str, Meta(min_length=1)] | None = None
    wait: bool = False
    timeout_s: Annotated[float, Meta(ge=0, le=MOST_WAIT_S)] = 30.0


class RunsQuery(Strict, frozen=True):
    """Which runs: those of a flow, with one of the statuses (with commas between), since an instant or ``7d``."""

    flow: str | None = None
    status: str | None = None
    since: str | None = None
    limit: Limit = 50
    after: Annotated[str, Meta(min_length=1)] | None = None


class RunQuery(Strict, frozen=True):
    """How many of its steps are shown, the newest; by default all."""

    steps: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class EventsQuery(Strict, frozen=True):
    """Events after a position of the journal."""

    after: Annotated[int, Meta(ge=0)] = 0
    limit: Limit = 100


class ResumeBody(Strict, frozen=True):
    """What a continued run does with finished steps."""

    retry: str | list[str] | None = None
    rerun: str | list[str] | None = None
    keep: str | list[str] | None = None


class ForkBody(Strict, frozen=True):
    """A moment of the run, and what is different from then on.

    Or a step: its result is the `line` that was typed, without one it is done again.
    """

    at: int | str | None = None
    replace: dict[str, Any] | None = None
    inputs: dict[str, Any] | None = None
    step: str | None = None
    line: str = ""


class InjectBody(Strict, frozen=True):
    """A result by hand for a step: a value, or the line that was typed, JSON or a literal of Python."""

    one_of = ("value", "line")
    step: str
    reason: str
    value: Any | UnsetType = UNSET
    line: str | UnsetType = UNSET


class SignalBody(Strict, frozen=True):
    """What the flow gets, and the sender's own id of the signal: the same id is the same signal."""

    payload: Any = None
    id: str | None = None


# -- beginning -------------------------------------------------------------------------------------------------------


async def start_run(call: HttpCall) -> Reply:
    """Begin a run, and answer once that is recorded; with `wait` once it has ended, or after `timeout_s`."""
    asked: StartBody = call.body
    key = call.headers.get(_KEY, asked.key)
    if asked.key not in {None, key}:
        return refused(422, "two_keys", f"the header has the key {key!r} and the body {asked.key!r}; give one of them")
    found = _definition(asked.flow)
    if isinstance(found, Reply):
        return found
    end = EndOfWait()
    begun = await in_thread(_begin, call.engine, found, asked.input, key, end if asked.wait else None)
    if isinstance(begun, Reply):
        return begun
    await call.feed.ended(begun.id, end, asked.timeout_s)
    return end.answer if isinstance(end.answer, Reply) else await in_thread(_begun, call.engine, begun)


def _begin(
    engine: Engine, definition: Runnable, values: dict[str, Any], key: str | None, end: EndOfWait | None
) -> Reply | Run[Any]:
    shown = getattr(getattr(definition, "spec", None), "parameters", "")
    try:
        typed = typed_arguments(getattr(definition, "fn", None), values)
    except ValueError as error:
        return refused(422, "input_invalid", f"{definition.kind} {definition.name}{shown}: {error}")
    try:
        run = definition.start_alone(engine, typed, key=key)
    except TypeError as error:
        return _misfit(error, f"{definition.kind} {definition.name}{shown}: {error}; input has its arguments by name")
    if end is None:
        return _begun(engine, run)

    def come() -> None:  # on the thread of the run: another one would have to be woken for it
        completed = run.completed_here()
        if completed is not None:
            outcome = {"run_id": run.id, "status": RunStatus.COMPLETED.value, "result": json_of(completed[0])}
            end.answer = _answer(outcome)
        end.come()

    when_ended(engine, run.id, come)
    return run


def _misfit(error: TypeError, message: str) -> Reply:
    """Return the refusal of arguments of another call; other errors have answers of their own."""
    if isinstance(error, IronflowError):
        raise error
    return refused(422, "input_invalid", message)


def _begun(engine: Engine, run: Run[Any]) -> Reply:
    outcome = outcome_of_run(run)
    if outcome["status"] not in ENDED:
        engine.flush()  # what is accepted is recorded
    return _answer(outcome)


def _answer(outcome: dict[str, Any]) -> Reply:
    return Reply(outcome, 200 if outcome["status"] in ENDED else 202, {"Location": f"/runs/{outcome['run_id']}"})


def outcome_of_run(run: Run[Any]) -> dict[str, Any]:
    """Return the id and status of a run, and its result or error if it has one."""
    status = run.status
    outcome: dict[str, Any] = {"run_id": run.id, "status": status.value}
    try:
        if status is RunStatus.COMPLETED:
            outcome["result"] = json_of(run.result())
        elif status is RunStatus.FAILED and (error := run.error) is not None:
            outcome["error"] = {"code": error_code(error), "message": safe_text(str, error)}
    except ValueUnreadable as error:
        outcome["error"] = {"code": error_code(error), "message": str(error)}
    return outcome


def definitions() -> list[Runnable]:
    """Return the flows and graphs that are defined in this process: no others are begun."""
    found = [each for kind in (RunKind.FLOW, RunKind.GRAPH) for each in REGISTRY.definitions(kind)]
    return [each for each in found if isinstance(each, Runnable)]


def _name(given: str) -> str:
    """Return the whole name of the one flow that is meant; if it is not one, what was given."""
    found = _definition(given)
    return given if isinstance(found, Reply) else found.name


def _definition(name: str) -> Runnable | Reply:
    known = definitions()
    fitting = [each for each in known if each.name == name] or [
        each for each in known if each.name.endswith(f".{name}")
    ]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f"{each.kind} {each.name}" for each in fitting or known) or "nothing"
    if fitting:
        return refused(409, "ambiguous_flow", f"several are named {name!r}: {names}; give the whole name")
    return refused(404, "flow_not_defined", f"no flow or graph {name!r} is defined here; here are defined: {names}")


# -- looking ---------------------------------------------------------------------------------------------------------


def find_run(call: HttpCall) -> Run[Any]:
    """Return the run that the path names, by its id or the beginning of one.

    Raises:
        RunNotFound, AmbiguousRun: it names none, or several.
    """
    return Run(call.engine, _row(call).run_id)


def _row(call: HttpCall) -> RunRow:
    with call.engine.reading() as reader:
        return resolve_run(reader, call.path["run_id"])


def run_resource(call: HttpCall) -> str:
    """Return the id of the run of the path as a resource: the name of its flow, and its own."""
    row = _row(call)
    return f"{row.name}/{row.run_id}"


def list_runs(call: HttpCall) -> Reply:
    """Return a page of runs, the newest first, and the cursor of the next page."""
    query: RunsQuery = call.query
    filters = _filters(query)
    after = None
    if query.after is not None:
        after = _run_of_cursor(query.after, filters)
        if after is None:
            message = "after is no cursor of this list: give the `next` of an answer to the same flow, status, since"
            return refused(422, "cursor_invalid", message)
    statuses = None if query.status is None else query.status.split(",")
    try:
        frame = runs(
            query.flow, status=statuses, since=query.since, limit=query.limit + 1, after=after, engine=call.engine
        )
    except RunNotFound as error:
        return refused(410, "cursor_gone", f"{error}; the run of the cursor was deleted: begin again without after")
    rows = json_of(frame.iloc[: query.limit])
    is_last = len(frame) <= query.limit
    shown = [row for row in rows if call.may(Permission.RUN_READ, f"{row['name']}/{row['run_id']}")]
    return Reply({"runs": shown, "next": None if is_last else _cursor(rows[-1]["run_id"], filters)})


def _filters(query: RunsQuery) -> str:
    text = json.dumps([query.flow, query.status, query.since])
    return hashlib.blake2s(text.encode(), digest_size=6).hexdigest()


def _cursor(run_id: str, filters: str) -> str:
    return base64.urlsafe_b64encode(f"{filters}{run_id}".encode()).decode().rstrip("=")


def _run_of_cursor(cursor: str, filters: str) -> str | None:
    """Return the run of the cursor, or None if it is that of another list."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return text[len(filters) :] if text.startswith(filters) and len(text) > len(filters) else None


def run_with_steps(call: HttpCall) -> Reply:
    """Return what `iron.runs` has of the run, its result or error, and its steps."""
    run, query = find_run(call), call.query
    [row] = json_of(runs(run=run.id, engine=call.engine))
    shown = steps(run=run.id, limit=query.steps, engine=call.engine)
    return Reply(row | {"error": None} | outcome_of_run(run) | {"steps": json_of(shown)})


def show_events(call: HttpCall) -> Reply:
    """Return a page of events, or all of them as they come if the client accepts server-sent events."""
    query: EventsQuery = call.query
    run, after, last = find_run(call), query.after, call.headers.get("last-event-id", "")
    is_stream = MEDIA_TYPE in call.headers.get("accept", "")
    if is_stream and last:
        if not last.isdecimal():
            return refused(422, "cursor_invalid", f"Last-Event-ID is the id of an event, a number, not {last[:40]!r}")
        after = int(last)
    with call.engine.reading() as reader:
        newest = reader.last_position()
    if after > newest:
        message = f"the journal ends with event {newest}, so it never had {after}, or was replaced: begin again at 0"
        return refused(410, "cursor_gone", message)
    page = read_page(call.engine, run.id, after, query.limit)
    if not is_stream:
        last_position = page.events[-1]["position"] if page.events else after
        return Reply({"events": page.events, "next": last_position, "is_last": page.is_last, "status": page.status})
    if last and not page.events and page.status in ENDED:
        return Reply(status=204)  # a browser that has read all asks no more
    return Reply(stream=stream_of_events(call.feed, run.id, after), headers={"Cache-Control": "no-store"})


# -- steering --------------------------------------------------------------------------------------------------------


def _steer(act: Callable[[Run[Any]], object]) -> Callable[[HttpCall], Reply]:
    def steer(call: HttpCall) -> Reply:
        run = find_run(call)
        act(run)
        return Reply({"run_id": run.id, "status": run.status.value}, 202)

    return steer


def resume_run(call: HttpCall) -> Reply:
    """Continue a run, if its flow is defined here."""
    run, asked = _defined_run(call), call.body or ResumeBody()
    run.resume(retry=asked.retry, rerun=asked.rerun, keep=asked.keep)
    return Reply({"run_id": run.id, "status": run.status.value}, 202)


def fork_run(call: HttpCall) -> Reply:
    """Begin a run that goes on from a moment of this one."""
    asked = call.body or ForkBody()
    if asked.step is not None:
        told = fork_at_step(call.engine, _defined_run(call), msgspec.to_builtins(asked))
        return Reply({"told": told}, 202)
    try:
        forked = _defined_run(call).fork(asked.at, replace=asked.replace, inputs=asked.inputs)
    except TypeError as error:
        return _misfit(error, str(error))
    return Reply({"run_id": forked.id, "status": forked.status.value}, 202, {"Location": f"/runs/{forked.id}"})


def _defined_run(call: HttpCall) -> Run[Any]:
    """Return the run of the path.

    Raises:
        FlowNotDefined: the server was not given its definition.
    """
    row = _row(call)
    if REGISTRY.find(row.kind, row.name) is None:
        known = ", ".join(each.name for each in definitions()) or "nothing"
        raise FlowNotDefined(
            f"run {row.run_id} is of {row.kind} {row.name}, which is not defined here; here are defined: {known}",
            run_id=row.run_id,
            name=row.name,
        )
    return Run(call.engine, row.run_id)


def inject_result(call: HttpCall) -> Reply:
    """Give a step a result by hand."""
    asked: InjectBody = call.body
    run = find_run(call)
    if asked.line is UNSET:
        run.inject(asked.step, asked.value, reason=asked.reason)
        told = ""
    else:
        told = inject_value(run, {"step": asked.step, "line": asked.line, "reason": asked.reason})
    return Reply({"run_id": run.id, "status": run.status.value, "told": told}, 202)


def send_signal_to(call: HttpCall) -> Reply:
    """Send a signal to the run."""
    run, asked = find_run(call), call.body or SignalBody()
    run.signal(call.path["name"], asked.payload, id=call.headers.get(_KEY, asked.id))
    return Reply({"run_id": run.id, "status": run.status.value}, 202)


def delete_one(call: HttpCall) -> Reply:
    """Delete a run for ever."""
    run = find_run(call)
    run.delete()
    return Reply({"run_id": run.id, "deleted": True})


RUN_ROUTES: Final = (
    HttpRoute(
        "POST", "/runs", Permission.RUN_START, start_run, "begin a run", "flow.start(...)", body=StartBody,
        resource=lambda call: _name(call.body.flow),
    ),
    HttpRoute(
        "GET", "/runs", Permission.RUN_READ, list_runs, "list runs, the newest first", "iron.runs(...)",
        query=RunsQuery, resource=None,
    ),
    HttpRoute(
        "GET", "/runs/{run_id}", Permission.RUN_READ, run_with_steps, "show a run with its steps", "iron.get_run(id)",
        RunQuery, resource=run_resource,
    ),
    HttpRoute(
        "DELETE", "/runs/{run_id}", Permission.RUN_DELETE, delete_one, "delete a run for ever", "run.delete()",
        resource=run_resource,
    ),
    HttpRoute(
        "GET", "/runs/{run_id}/events", Permission.RUN_READ, show_events, "its events: pages, or a stream",
        "run.events()", EventsQuery, resource=run_resource, other_types=(MEDIA_TYPE,),
    ),
    HttpRoute(
        "POST", "/runs/{run_id}/cancel", Permission.RUN_STEER, _steer(Run.cancel), "cancel it before its next step",
        "run.cancel()", resource=run_resource,
    ),
    HttpRoute(
        "POST", "/runs/{run_id}/pause", Permission.RUN_STEER, _steer(Run.pause), "stop it before its next step",
        "run.pause()", resource=run_resource,
    ),
    HttpRoute(
        "POST", "/runs/{run_id}/resume", Permission.RUN_STEER, resume_run, "continue it", "run.resume(...)",
        body=ResumeBody, resource=run_resource,
    ),
    HttpRoute(
        "POST", "/runs/{run_id}/fork", Permission.RUN_EDIT, fork_run, "go on from a moment of it", "run.fork(...)",
        body=ForkBody, resource=run_resource,
    ),
    HttpRoute(
        "POST", "/runs/{run_id}/inject", Permission.RUN_EDIT, inject_result, "a result by hand", "run.inject(...)",
        body=InjectBody, resource=run_resource,
    ),
    HttpRoute(
        "POST", "/runs/{run_id}/signals/{name}", Permission.RUN_SIGNAL, send_signal_to, "send it a signal",
        "run.signal(name, payload)", body=SignalBody, resource=run_resource,
    ),
)  # fmt: skip
