"""The picture of a run: its flow's diagram, as the journal has it, with the states of its steps laid over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Final

from ironflow_nb.core.events import RunContinued
from ironflow_nb.core.ids import RunId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus, derived_step_status
from ironflow_nb.execution.call_sites import definition_prefix
from ironflow_nb.execution.engine import Engine
from ironflow_nb.handles.progress import ChildRun, Progress, definitions_of, progress_of
from ironflow_nb.journal.ports import Select, Tally

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.diagram.model import Diagram, NodeStatus
    from ironflow_nb.diagram.sites import Sites
    from ironflow_nb.diagram.states import Account, NodeState

HTML: Final = "text/html"
SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"


def picture_of(engine: Engine, run_id: RunId) -> Picture:
    """Return the picture of a run; where the journal can't be read, what the trouble is. It never raises."""
    from ironflow_nb.diagram.draw import Picture, draw

    try:
        progress = progress_of(engine, run_id)
        diagram, states = _laid(engine, progress, diagram_of(engine, progress.run))
        account = _account(engine, progress)
    except Exception as error:  # noqa: BLE001 -- it stands in for a repr, whatever became of the journal
        return Picture(svg=None, text=f"run {run_id}: {error}")
    prefix = f"iron-{run_id}"
    return draw(diagram, states, run_status=progress.status, run_id=run_id, account=account, prefix=prefix)


def _shown(key: str, tally: Tally, run_status: RunStatus) -> Iterable[tuple[str, NodeStatus, int, float | None]]:
    """Return what a tally is in a picture: failures that the flow went on after are not like those that end it."""
    from ironflow_nb.diagram.model import Handled

    n_handled = 0
    if tally.status is StepStatus.FAILED:  # a run that completed has lived with all of its failures
        n_handled = tally.n if run_status is RunStatus.COMPLETED else tally.n_lived_with
    if tally.n > n_handled:
        status = derived_step_status(tally.status, run_status)
        yield key, status, tally.n - n_handled, tally.duration_s
    if n_handled:
        yield key, Handled.HANDLED, n_handled, None if tally.n > n_handled else tally.duration_s


def _account(engine: Engine, progress: Progress) -> Account:
    """Return how long the latest stretch of the run took by the clock, once it has ended, and what it did not do."""
    from ironflow_nb.diagram.states import Account

    run, status = progress.run, progress.status
    session = engine.sessions.get(run.run_id) if run is not None else None
    n_again = sum(tally.n_tried_again for tally in progress.tallies)
    if run is None or status in OWNED:
        return Account(n_reused=0 if session is None else session.recall.n_reused, n_tried_again=n_again)
    with engine.ledger.journal.reading() as reader:
        began = reader.events(Select(run_ids=[run.run_id], name=RunContinued.__name__)) if run.n_sessions > 1 else []
        head = reader.head(run.run_id)
    ended_at = run.ended_at or (run.updated_at if head is None else head[1])
    wall_s = max(ended_at - (began[-1].at if began else run.started_at), 0) / 1e6
    return Account(wall_s=wall_s, is_continued=bool(began), n_reused=run.n_reused, n_tried_again=n_again)


def _laid(engine: Engine, progress: Progress, diagram: Diagram) -> tuple[Diagram, dict[str, NodeState]]:
    """Return the diagram and its states: of each node what was called there, as far as call sites are recorded."""
    from ironflow_nb.diagram.sites import Sites, resolved
    from ironflow_nb.diagram.states import node_states

    moves = _moves(engine, progress, diagram)
    places = {(name, site): resolved(site, moves) for name, site in progress.places}
    sites = Sites(diagram, {(name, number) for (name, _), number in places.items()})
    key_of = {(name, site): sites.key(name, number) for (name, site), number in places.items()}
    expected: Counter[str] = Counter()
    for place, n_items in progress.totals.items():
        expected[key_of[place]] += n_items
    keyed = [(key_of[tally.place], tally) for tally in progress.tallies]
    told = [each for key, tally in keyed for each in _shown(key, tally, progress.status)]
    states = node_states(told, n_expected=expected)
    for place, children in progress.children.items():
        if key_of[place] in states:
            states[key_of[place]] = _with_children(states[key_of[place]], children)
    return _with_ways(sites, states, expected, progress), states


def _with_ways(
    sites: Sites, states: Mapping[str, NodeState], expected: Mapping[str, int], progress: Progress
) -> Diagram:
    """Return the diagram with the ways that were gone, as far as call sites tell."""
    from ironflow_nb.diagram.taken import with_taken

    diagram = sites.diagram()
    exact = sites.exact()
    if not exact:
        return diagram
    called = {node_id for node_id, key in exact.items() if key in states or key in expected}
    done = {
        node_id
        for node_id in called
        if (state := states.get(exact[node_id])) is None or state.n(StepStatus.COMPLETED) or state.is_past
    }
    uncertain = {node.id for node in diagram.nodes if node.step is not None and node.id not in exact}
    is_completed = progress.status is RunStatus.COMPLETED
    return with_taken(diagram, called, done, uncertain=uncertain, is_completed=is_completed)


def _moves(engine: Engine, progress: Progress, diagram: Diagram) -> dict[str, Mapping[int, int] | None]:
    """Return how the calls moved from the definitions that steps of the run were recorded with to the latest one."""
    from ironflow_nb.diagram.model import decode_diagram
    from ironflow_nb.diagram.sites import moved

    run = progress.run
    if run is None:
        return {}
    own = definition_prefix(run.definition_id)
    moves: dict[str, Mapping[int, int] | None] = {own: None}
    wanted = {site.partition(":")[0] for _, site in progress.places if site} - {own}
    if wanted:
        with engine.ledger.journal.reading() as reader:
            for each in definitions_of(reader, run):
                found = reader.definition(each) if definition_prefix(each) in wanted else None
                if found is not None:
                    moves[definition_prefix(each)] = moved(decode_diagram(found.diagram), diagram)
    return moves


def diagram_of(engine: Engine, run: RunRow | None) -> Diagram:
    """Return the diagram that was stored while the run ran; without one, only its name."""
    from ironflow_nb.diagram.model import Diagram, decode_diagram

    if run is None:
        return Diagram("")
    with engine.ledger.journal.reading() as reader:
        definition = reader.definition(run.definition_id)
    if definition is None and (session := engine.sessions.get(run.run_id)) is not None:
        definition = session.definitions.flow()  # it is written after the first step
    found = Diagram(run.name) if definition is None else decode_diagram(definition.diagram)
    return found if found.name else Diagram(run.name, found.nodes, found.edges)


def _with_children(state: NodeState, children: Sequence[ChildRun]) -> NodeState:
    """Return the state with its children: those that go on or failed first."""
    ordered = sorted(children, key=lambda child: child.status is RunStatus.COMPLETED)
    progress = ordered[0].progress if state.n_total == 1 and ordered else ""
    return changed(state, progress=progress, detail="\n".join(map(str, ordered)))


def bundle_of(picture: Picture, *, is_moving: bool = False) -> dict[str, str]:
    """Return what a front end shows: the SVG, in HTML unless it is replaced all the time, and text for other places.

    A document within HTML is loaded anew with each replacement, and would flicker.
    """
    bundle = {TEXT: picture.text}
    if picture.svg is not None:
        bundle[SVG] = picture.svg
        if not is_moving and picture.html is not None:
            bundle[HTML] = picture.html
    return bundle
