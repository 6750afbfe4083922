"""The web page of the server: its files, what it follows, the details of a node, and the metrics beside it.

The page has no data of its own: it is given to everybody, and asks the other routes as any client does, with a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ironflow_nb.access.permissions import Permission
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import IronflowError, StepNotFound
from ironflow_nb.handles.answer_forms import table_of
from ironflow_nb.handles.card_frame import card_frame, node_of_element
from ironflow_nb.handles.dashboard import DashboardFilter
from ironflow_nb.handles.node_details import details_of
from ironflow_nb.handles.run_picture import view_of
from ironflow_nb.handles.run_progress import progress_of
from ironflow_nb.history.log_tail import log_tail
from ironflow_nb.history.lookup import resolve_run
from ironflow_nb.journal.ports import Reader
from ironflow_nb.notebook.dashboard_card import DashboardContent
from ironflow_nb.notebook.slider_card import SliderContent
from ironflow_nb.notebook.step_edits import planned_edit
from ironflow_nb.server.card_stream import stream_of_cards
from ironflow_nb.server.http_calls import HttpCall, HttpRoute, Reply, Strict, refused
from ironflow_nb.server.run_routes import find_run, run_resource
from ironflow_nb.server.server_metrics import METRICS_TYPE
from ironflow_nb.server.server_sent_events import MEDIA_TYPE

_ROOT: Final = Path(__file__).parent
_FOLDERS: Final = (_ROOT / "static", _ROOT.parent / "notebook" / "static")
_SCRIPT_TYPE: Final = "text/javascript"
_STYLE_TYPE: Final = "text/css"
_TYPES: Final = {".js": _SCRIPT_TYPE, ".css": _STYLE_TYPE}
_PAGE: Final = "page.html"
_PAGE_TYPE: Final = "text/html; charset=utf-8"
_POLICY: Final = "; ".join([
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
    "worker-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
])  # fmt: skip
"""Nothing is loaded from elsewhere, and no script runs but those of the package, whatever a value says."""
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_MOST_RUNS: Final = 50


class FollowQuery(Strict, frozen=True):
    """The ids of the runs to follow, with commas between, and whether to tell when the journal has grown."""

    runs: Annotated[str, Meta(max_length=2000)] = ""
    journal: bool = False


def show_page(call: HttpCall) -> Reply:
    """Return the web page."""
    return _file(call, _ROOT / "static" / _PAGE, _PAGE_TYPE)


def show_file(call: HttpCall) -> Reply:
    """Return a script or a style sheet of the web page."""
    name = call.path["name"]
    found = [folder / name for folder in _FOLDERS if name in {each.name for each in folder.iterdir()}]
    kind = _TYPES.get(Path(name).suffix)
    if not found or kind is None:
        return refused(404, "no_file", f"the web page has no file {name!r}")
    return _file(call, found[0], f"{kind}; charset=utf-8")


def _file(call: HttpCall, path: Path, media_type: str) -> Reply:
    content = path.read_bytes()
    tag = f'"{blake2b(content, digest_size=10).hexdigest()}"'
    headers = {**_HEADERS, "ETag": tag}
    if call.headers.get("if-none-match") == tag:
        return Reply(status=304, headers=headers)
    return Reply(content=content, media_type=media_type, headers=headers)


def follow(call: HttpCall) -> Reply:
    """Return the cards of runs, and what changes them if the client accepts server-sent events."""
    query: FollowQuery = call.query
    wanted = [text for text in query.runs.split(",") if text]
    if len(wanted) > _MOST_RUNS:
        return refused(422, "query_invalid", f"one stream follows {_MOST_RUNS} runs; ask for the others by another one")
    is_stream = MEDIA_TYPE in call.headers.get("accept", "")
    with call.engine.reading() as reader:
        position, ids = reader.last_position(), [*_readable(call, reader, wanted, are_told=is_stream)]
    if is_stream:
        stream = stream_of_cards(call.cards, call.feed, ids, with_journal=query.journal)
        return Reply(stream=stream, headers={"Cache-Control": "no-store"})
    views = [view_of(run_id, progress_of(call.engine, run_id)) for run_id in ids]
    frames = [card_frame(view).whole(call.engine.clock.now()) for view in views]
    return Reply({"position": position, "cards": frames})


def _readable(call: HttpCall, reader: Reader, wanted: Iterable[str], *, are_told: bool) -> Iterable[RunId]:
    """Yield the ids of the runs that who asks may read; a stream tells of those that do not exist.

    Raises:
        RunNotFound, AmbiguousRun: one does not exist, and no stream tells of it.
    """
    for text in dict.fromkeys(wanted):
        try:
            row = resolve_run(reader, text)
        except IronflowError:
            if not are_told:
                raise
            yield RunId(text)
            continue
        if call.may(Permission.RUN_READ, f"{row.name}/{row.run_id}"):
            yield row.run_id


class LookBody(Strict, frozen=True):
    """What a card looks at: the end of the log; the table that a step asks to edit; or the plan of an edit of a step.

    The edit is to `inject` the result that was typed as `line`, or to `fork` with it.
    """

    do: Literal["log", "table", "plan"]
    step: str = ""
    edit: Literal["inject", "fork"] = "inject"
    line: str = ""
    reason: str = ""


def look_of_card(call: HttpCall) -> Reply:
    """Return what a form of the card shows before it is sent; nothing is recorded."""
    run, asked = find_run(call), call.body
    if asked.do == "log":
        with call.engine.reading() as reader:
            return Reply({"log": log_tail(reader, run.id)})
    if asked.do == "table":
        table = msgspec.to_builtins(table_of(call.engine, run.id, asked.step))
        return Reply({"table": table, "step": asked.step})
    planned = planned_edit(call.engine, run.id, msgspec.to_builtins(asked))
    return Reply({"planned": planned, "step": asked.step})


def show_node(call: HttpCall) -> Reply:
    """Return the steps of a node of the run's picture: the newest, and those that failed or are at work first."""
    run, node = find_run(call), call.path["node"]
    found = node_of_element(view_of(run.id, progress_of(call.engine, run.id)), node)
    if found is None:
        raise StepNotFound(f"the picture of run {run.id} has no node {node!r}", run_id=run.id)
    return Reply(msgspec.to_builtins(details_of(call.engine, run.id, found)))


class MomentsQuery(Strict, frozen=True):
    """A moment by its version, by default the newest; another one to compare with; the picture that is known."""

    at: Annotated[int, Meta(ge=1)] | None = None
    other: Annotated[int, Meta(ge=1)] | None = None
    picture: Annotated[str, Meta(max_length=100)] = ""


def show_moment(call: HttpCall) -> Reply:
    """Return what the slider shows at a moment of the run."""
    run, query = find_run(call), call.query
    with call.moments.of(run.id, lambda: run.slider().moments) as moments:
        return Reply(SliderContent(moments).frame_at(query.at, query.other, query.picture))


class DashboardQuery(Strict, frozen=True):
    """What a dashboard lists and counts: kind and name of a definition, a status, an instant or ``7d``, the order."""

    of: str = ""
    status: RunStatus | None = None
    since: str = "7d"
    order: Literal["newest", "oldest", "longest", "shortest", "flow", "status"] = "newest"


def journal_dashboard(call: HttpCall) -> Reply:
    """Return all that the dashboard of the journal shows."""
    query: DashboardQuery = call.query
    kind, _, name = query.of.partition(" ")
    chosen = DashboardFilter(
        of=(kind, name) if name else None, status=None if query.status is None else {query.status},
        since=query.since or None, order=query.order,
    )  # fmt: skip
    content = DashboardContent(call.engine, chosen)
    content.advance()
    return Reply(msgspec.to_builtins(content.frame()))


def show_metrics(call: HttpCall) -> Reply:
    """Return the metrics, in the text format of Prometheus."""
    return Reply(content=call.metrics.text(), media_type=METRICS_TYPE)


PAGE_ROUTES: Final = (
    HttpRoute("GET", "/", Permission.OPEN, show_page, "the web page", "iron.dashboard()", media_type=_PAGE_TYPE),
    HttpRoute(
        "GET", "/page/{name}", Permission.OPEN, show_file, "its scripts and styles", "iron.dashboard()",
        media_type=_SCRIPT_TYPE, other_types=(_STYLE_TYPE,),
    ),
    HttpRoute(
        "GET", "/follow", Permission.RUN_READ, follow, "the cards of runs: as they are, or a stream of what changes",
        "run", FollowQuery, resource=None, other_types=(MEDIA_TYPE,),
    ),
    HttpRoute(
        "GET", "/runs/{run_id}/nodes/{node}", Permission.RUN_READ, show_node, "the steps of a node of its picture",
        "run.steps()", resource=run_resource,
    ),
    HttpRoute(
        "POST", "/runs/{run_id}/look", Permission.RUN_READ, look_of_card,
        "the log, a table to edit, or the plan of an edit",
        "run.plan(inject=...)", body=LookBody, resource=run_resource,
    ),
    HttpRoute(
        "GET", "/runs/{run_id}/moments", Permission.RUN_READ, show_moment, "a moment of it, as the slider shows it",
        "run.slider()", MomentsQuery, resource=run_resource,
    ),
    HttpRoute(
        "GET", "/metrics", Permission.SERVER_READ, show_metrics, "the metrics for Prometheus", "iron.runs(...)",
        media_type=METRICS_TYPE,
    ),
    HttpRoute(
        "GET", "/dashboard", Permission.JOURNAL_READ, journal_dashboard, "the dashboard of the journal",
        "iron.dashboard()", DashboardQuery,
    ),
)  # fmt: skip
