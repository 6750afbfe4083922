"""The picture of a run: its flow's diagram, as the journal has it, with the states of its steps laid over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Final

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import FAILURES, OWNED, RunStatus, StepStatus, derived_step_status
from ironflow_nb.core.wait_rules import WaitKind, until
from ironflow_nb.execution import Engine, definition_prefix
from ironflow_nb.handles.open_questions import wait_view
from ironflow_nb.handles.run_progress import ChildRun, Definitions, Place, Progress, ShownWait, progress_of
from ironflow_nb.journal.ports import SiteTally, StepTally
from ironflow_nb.telemetry.telemetry_rows import OpenProgress

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.diagram.model import Diagram, NodeStatus
    from ironflow_nb.diagram.run_path import NodeSites
    from ironflow_nb.diagram.states import NodeState, RunFigures
    from ironflow_nb.views.run_view import RunView, WaitView

HTML: Final = "text/html"
SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"


def picture_of(engine: Engine, run_id: RunId) -> Picture:
    """Return the picture of a run; if the journal can't be read, the error in its place. It never raises."""
    try:
        return drawn(view_of(run_id, progress_of(engine, run_id)))
    except Exception as error:  # noqa: BLE001 -- it is shown in place of a repr, which never raises
        return trouble(run_id, error)


def trouble(run_id: RunId, error: Exception) -> Picture:
    """Return the text in place of a picture that can't be made."""
    from ironflow_nb.diagram.draw import Picture

    return Picture(svg=None, text=f"run {run_id}: {error}")


def drawn(view: RunView) -> Picture:
    """Return the picture of a run; nothing is read for it."""
    from ironflow_nb.diagram.draw import draw_shown

    picture = draw_shown(view.shown, prefix=f"iron-{view.run_id}")
    asked = [f'it asks "{wait.question}": {wait.expression}' for wait in view.waits if wait.question is not None]
    return changed(picture, text="\n".join([picture.text, *asked]), below=tuple(asked)) if asked else picture


# -- the view ----------------------------------------------------------------------------------------------------


def view_of(run_id: RunId, progress: Progress, earlier: Sequence[int] = ()) -> RunView:
    """Return the view of a run that is so far; nothing is read for it.

    Args:
        run_id: the run.
        progress: how far it is.
        earlier: how long earlier runs of its flow took, in microseconds.
    """
    from ironflow_nb.diagram.draw import shown_diagram
    from ironflow_nb.diagram.states import Caption
    from ironflow_nb.views.run_view import RunView, allowed_actions, breaker_view, lane_views, node_views, progress_view

    run = progress.run
    diagram, states = _laid(progress)
    caption = Caption(name=diagram.name, run_status=progress.status, run_id=run_id, figures=_figures(progress))
    shown = shown_diagram(diagram, states, caption)
    began_at = progress.continued_at or (None if run is None else run.started_at)
    waits = tuple(map(_wait_view, progress.waits))
    return RunView(
        run_id=run_id,
        kind="" if run is None else run.kind,
        status=progress.status,
        caption=shown.caption,
        began_at=began_at,
        ended_at=progress.ended_at,
        n_sessions=0 if run is None else run.n_sessions,
        progress=msgspec.structs.replace(
            progress_view(states), expected_end_at=_expected_end(progress, states, earlier)
        ),
        nodes=node_views(shown),
        edges=shown.diagram.edges,
        waits=waits,
        lanes=lane_views(progress.lanes),
        breakers=tuple(map(breaker_view, progress.breakers)),
        actions=allowed_actions(run, progress.status, states.values(), waits),
    )


def _expected_end(progress: Progress, states: Mapping[str, NodeState], earlier: Sequence[int]) -> int | None:
    """Return when the run ends: after as long as earlier ones took, or with the last known item at its own pace."""
    from ironflow_nb.views.run_view import expected_end, progress_view

    run, now = progress.run, progress.now
    if run is None or now is None or progress.status is not RunStatus.RUNNING:
        return None
    if earlier and progress.continued_at is None:  # a continuation has less to do
        return run.started_at + sorted(earlier)[len(earlier) // 2]
    if not progress.totals:  # of other steps it is not known how many will come
        return None
    n_before = sum(state.n_before for state in states.values())
    return expected_end(progress_view(states), n_before, progress.continued_at or run.started_at, now)


def _wait_view(wait: ShownWait) -> WaitView:
    from ironflow_nb.views.run_view import WaitView

    row, began = wait.row, wait.began
    if wait.question is not None:
        return msgspec.structs.replace(wait_view(wait.question), due_at=began.due_at)
    signals = () if began.wait_kind == WaitKind.APPROVAL else began.signals
    return WaitView(step=row.step, kind=began.wait_kind, since_at=row.started_at, due_at=began.due_at, signals=signals)


def _figures(progress: Progress) -> RunFigures:
    """Return the wall time of the latest continuation, once ended, and the numbers of reused and retried steps."""
    from ironflow_nb.diagram.states import RunFigures

    run, continued_at = progress.run, progress.continued_at
    n_again = sum(tally.n_tried_again for tally in progress.tallies)
    until = progress.now if progress.ended_at is None else progress.ended_at
    if run is None or until is None:
        return RunFigures(n_reused=progress.n_reused, n_tried_again=n_again)
    of_flow = next((each for each in progress.reported if not each.name), None)
    began_at = run.started_at if continued_at is None else continued_at
    return RunFigures(
        wall_s=max(until - began_at, 0) / 1e6,
        is_continued=continued_at is not None,
        n_reused=progress.n_reused,
        n_tried_again=n_again,
        reported="" if of_flow is None else of_flow.words,
    )


# -- states ------------------------------------------------------------------------------------------------------


def _shown(key: str, tally: StepTally, run_status: RunStatus) -> Iterable[tuple[str, NodeStatus, int, float | None]]:
    """Return what a tally is in a picture: failures that the flow went on after are not like those that end it."""
    from ironflow_nb.diagram.model import Handled

    n_handled = 0
    if tally.status in FAILURES:  # a run that completed has lived with all of its failures
        n_handled = tally.n if run_status is RunStatus.COMPLETED else tally.n_lived_with
    if tally.n > n_handled:
        status = derived_step_status(tally.status, run_status)
        yield key, status, tally.n - n_handled, tally.duration_s
    if n_handled:
        yield key, Handled.HANDLED, n_handled, None if tally.n > n_handled else tally.duration_s


def _laid(progress: Progress) -> tuple[Diagram, dict[str, NodeState]]:
    """Return the diagram and its states: of each node what was called there, as far as call sites are recorded."""
    from ironflow_nb.diagram.states import node_states

    sites, key_of = placed(progress.run, progress.definitions, progress.places)
    expected: Counter[str] = Counter()
    for place, n_items in progress.totals.items():
        expected[key_of[place]] += n_items
    keyed = [(key_of[tally.place], tally) for tally in progress.tallies]
    told = [each for key, tally in keyed for each in _shown(key, tally, progress.status)]
    reasons: dict[str, list[str]] = {}
    for key, tally in keyed:
        if tally.status is StepStatus.PENDING and tally.reason and progress.status in OWNED:
            reasons.setdefault(key, []).append(f"waits for {tally.reason}")
        elif tally.status is StepStatus.SKIPPED and tally.reason:
            reasons.setdefault(key, []).append(tally.reason)
    for key, instants in _instants(keyed).items():
        reasons.setdefault(key, []).append(until(min(instants)).strip())
    for place, question in progress.questions:
        if place in key_of:
            reasons.setdefault(key_of[place], []).append(str(question.question))
    before: Counter[str] = Counter()
    for key, tally in keyed:
        before[key] += tally.n_recorded_before if tally.status is StepStatus.COMPLETED else 0
    # In a completed run all of them were used again; in another one nothing tells which of them.
    word = "reused" if progress.status is RunStatus.COMPLETED else "earlier"
    states = node_states(told, n_expected=expected, reasons=reasons)
    states |= {key: changed(states[key], n_before=n, before=word) for key, n in before.items() if n and key in states}
    for place, children in progress.children.items():
        if key_of[place] in states:
            states[key_of[place]] = _with_children(states[key_of[place]], children)
    reported: dict[str, list[OpenProgress]] = {}
    for each in progress.reported:
        if each.name:
            reported.setdefault(key_of[each.name, each.site], []).append(each)
    for key, found in reported.items():
        if key in states and states[key].n(StepStatus.RUNNING) == len(found) == 1:
            states[key] = changed(states[key], reported=found[0].words, share=found[0].share)
    return _with_taken_edges(sites, states, expected, progress), states


def _instants(keyed: Sequence[tuple[str, SiteTally]]) -> Mapping[str, Sequence[int]]:
    """Return the due times of the open waits of each key."""
    found: dict[str, list[int]] = {}
    for key, tally in keyed:
        if tally.status is StepStatus.WAITING and tally.reason:
            found.setdefault(key, []).append(int(tally.reason))
    return found


def _with_children(state: NodeState, children: Sequence[ChildRun]) -> NodeState:
    """Return the state with its children: the completed ones last."""
    ordered = sorted(children, key=lambda child: child.status is RunStatus.COMPLETED)
    progress = ordered[0].progress if state.n_total == 1 and ordered else ""
    return changed(state, progress=progress, detail="\n".join(map(str, ordered)))


# -- call sites --------------------------------------------------------------------------------------------------


def placed(run: RunRow | None, definitions: Definitions, places: Iterable[Place]) -> tuple[NodeSites, dict[Place, str]]:
    """Return the diagram of a run by call site, and the key of the state that the steps of each place belong to."""
    from ironflow_nb.diagram.run_path import NodeSites, call_number

    diagram = diagram_of(run, definitions)
    moves = {} if run is None else _moves(run, definitions, diagram)
    numbers = {(name, site): call_number(site, moves) for name, site in places}
    sites = NodeSites(diagram, {(name, number) for (name, _), number in numbers.items()})
    return sites, {(name, site): sites.key(name, number) for (name, site), number in numbers.items()}


def _moves(run: RunRow, definitions: Definitions, diagram: Diagram) -> dict[str, Mapping[str, str] | None]:
    """Return how the calls moved from the definitions that steps of the run were recorded with to the latest one."""
    from ironflow_nb.diagram.model import decode_diagram
    from ironflow_nb.diagram.run_path import renumbered_calls

    older = {
        prefix: renumbered_calls(decode_diagram(each.diagram), diagram) for prefix, each in definitions.older.items()
    }
    return {definition_prefix(run.definition_id): None, **older}


def diagram_of(run: RunRow | None, definitions: Definitions) -> Diagram:
    """Return the diagram that was stored while the run ran; without one, only its name."""
    from ironflow_nb.diagram.model import Diagram, decode_diagram

    if run is None:
        return Diagram("")
    latest = definitions.latest
    found = Diagram(run.name) if latest is None else decode_diagram(latest.diagram)
    return found if found.name else Diagram(run.name, found.nodes, found.edges)


def _with_taken_edges(
    sites: NodeSites, states: Mapping[str, NodeState], expected: Mapping[str, int], progress: Progress
) -> Diagram:
    """Return the diagram with its taken edges marked, as far as call sites show them."""
    from ironflow_nb.diagram.model import Handled
    from ironflow_nb.diagram.run_path import with_taken

    diagram = sites.diagram()
    exact = sites.exact()
    if not exact:
        return diagram
    begun = {key for key, state in states.items() if state.status is not StepStatus.SKIPPED}
    called = {node_id for node_id, key in exact.items() if key in begun or key in expected}
    handlers = {edge.source for edge in diagram.edges if edge.is_dashed}
    done = {
        node_id
        for node_id in called
        if (state := states.get(exact[node_id])) is None
        or state.n(StepStatus.COMPLETED)
        or (state.is_past and node_id not in handlers)  # a failure that was handled went on to its handler
    }
    raised = {node_id for node_id in called if exact[node_id] in states and states[exact[node_id]].n(Handled.HANDLED)}
    uncertain = {node.id for node in diagram.nodes if node.step is not None and node.id not in exact}
    is_completed = progress.status is RunStatus.COMPLETED
    return with_taken(diagram, called, done, raised=raised, uncertain=uncertain, is_completed=is_completed)


def bundle_of(picture: Picture, *, is_moving: bool = False) -> dict[str, str]:
    """Return what a front end shows: the SVG, within HTML for its tooltips, and text for other places."""
    bundle = {TEXT: picture.text}
    if picture.svg is not None:
        bundle[SVG] = picture.svg
        html = picture.moving_html if is_moving else picture.html
        if html is not None:
            bundle[HTML] = html
    return bundle
