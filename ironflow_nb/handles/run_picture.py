"""The picture of a run: its flow's diagram, as the journal has it, with the states of its steps laid over it.

How far a run is, read from the journal: its steps by name and call site, the totals of its maps, its children.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Final, NamedTuple

from ironflow_nb.core.events import ItemsCounted, RunContinued, RunStarted, decode_as
from ironflow_nb.core.identity import OWN_PREFIX, Digest, RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus, derived_step_status
from ironflow_nb.execution.definitions.call_sites import definition_prefix
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.runs.continuation_plan import continuations, unused_steps
from ironflow_nb.history.run_status import look, statuses_of
from ironflow_nb.journal.ports import Reader, Select, SiteTally, StepTally

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.diagram.model import Diagram, NodeStatus
    from ironflow_nb.diagram.run_path import NodeSites
    from ironflow_nb.diagram.states import NodeState, RunFigures

_CHILDREN: Final = 5
"""So many runs of the children of one node are told, the newest."""


class ChildRun(NamedTuple):
    """How far the run of a child is."""

    run_id: RunId
    status: RunStatus
    n_done: int
    n_failed: int

    def __str__(self) -> str:
        return f"run {self.run_id}: {self.status}, {self.progress}"

    @property
    def progress(self) -> str:
        """What is done of it, in words."""
        done = f"{self.n_done} step{'' if self.n_done == 1 else 's'} done"
        return f"{done}, {self.n_failed} failed" if self.n_failed else done


class Progress(NamedTuple):
    """What is recorded of a run, and what became of its children; `totals` are those of maps, by name and site."""

    run: RunRow | None
    status: RunStatus
    tallies: Sequence[SiteTally] = ()
    totals: Mapping[tuple[str, str], int] = {}
    children: Mapping[tuple[str, str], Sequence[ChildRun]] = {}

    @property
    def places(self) -> set[tuple[str, str]]:
        """Names and call sites of all steps that are recorded or expected."""
        return {tally.place for tally in self.tallies} | set(self.totals)


def progress_of(engine: Engine, run_id: RunId) -> Progress:
    """Return how far the run is; the time, ids and chance are no work to look at.

    Of a run that completed is left out what it had no use for any more, as failures of before an edit.
    """
    run, status = look(engine, run_id)
    if run is None:
        return Progress(run, status)
    is_completed = status is RunStatus.COMPLETED
    with engine.journal.reading() as reader:
        unused = unused_steps(reader, run) if is_completed else ()
        found = reader.places(run_id, without=unused, continued_at=run.session_version if status in OWNED else 0)
        tallies = [tally for tally in found if not tally.name.startswith(OWN_PREFIX)]
        totals = _totals(reader, run, since=run.session_version if is_completed else 0)
        return Progress(run, status, tallies, totals, _children(engine, reader, tallies))


def _totals(reader: Reader, run: RunRow, *, since: int) -> Counter[tuple[str, str]]:
    """Return how many items the maps and loops have, as far as that was known.

    A series that a later continuation of the run begins again counts as it is there. One that it did not get to counts
    as it was, unless the run has completed without it.
    """
    latest: dict[tuple[str, str, int], ItemsCounted] = {}
    for row in reader.events(Select(run_ids=[run.run_id], name=ItemsCounted.__name__)):
        counted = decode_as(ItemsCounted, row.data)
        if row.version >= since:
            latest[counted.name, counted.branch, counted.nth] = counted
    totals: Counter[tuple[str, str]] = Counter()
    for counted in latest.values():
        totals[counted.name, counted.site] += counted.n_items
    return totals


def _children(
    engine: Engine, reader: Reader, tallies: Iterable[SiteTally]
) -> dict[tuple[str, str], Sequence[ChildRun]]:
    """Return how far the newest children of each place are."""
    ids: dict[tuple[str, str], list[RunId]] = {}
    for tally in tallies:
        if tally.child_run_id is not None:
            ids.setdefault(tally.place, []).append(tally.child_run_id)
    wanted = [child for children in ids.values() for child in children[-_CHILDREN:]]
    if not wanted:
        return {}
    runs = {run.run_id: run for run in reader.runs(Select(run_ids=wanted))}
    statuses, counted = statuses_of(engine, reader, list(runs.values())), reader.tallies(list(runs))
    return {
        place: [_child(child, statuses[child], counted.get(child, ())) for child in children if child in runs]
        for place, children in ids.items()
    }


def _child(run_id: RunId, status: RunStatus, tallies: Iterable[StepTally]) -> ChildRun:
    counts = Counter[StepStatus]()
    for tally in tallies:
        counts[tally.status] += 0 if tally.name.startswith(OWN_PREFIX) else tally.n
    return ChildRun(run_id, status, counts[StepStatus.COMPLETED], counts[StepStatus.FAILED])


def definitions_of(reader: Reader, run: RunRow) -> list[Digest]:
    """Return the ids of the definitions that the run had, oldest first."""
    [started] = reader.events(Select(run_ids=[run.run_id], name=RunStarted.__name__))
    began = decode_as(RunStarted, started.data)
    ids = [began.definition, *(event.definition for _, event in continuations(reader, run))]
    return list(dict.fromkeys(ids))


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


def _shown(key: str, tally: StepTally, run_status: RunStatus) -> Iterable[tuple[str, NodeStatus, int, float | None]]:
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


def _account(engine: Engine, progress: Progress) -> RunFigures:
    """Return how long the latest continuation took by the clock, once it has ended, and what it did not do."""
    from ironflow_nb.diagram.states import RunFigures

    run, status = progress.run, progress.status
    session = engine.sessions.get(run.run_id) if run is not None else None
    n_again = sum(tally.n_tried_again for tally in progress.tallies)
    if run is None or status in OWNED:
        return RunFigures(n_reused=0 if session is None else session.replayer.n_reused, n_tried_again=n_again)
    with engine.journal.reading() as reader:
        began = reader.events(Select(run_ids=[run.run_id], name=RunContinued.__name__)) if run.n_sessions > 1 else []
        head = reader.head(run.run_id)
    ended_at = run.ended_at or (run.updated_at if head is None else head[1])
    wall_s = max(ended_at - (began[-1].at if began else run.started_at), 0) / 1e6
    return RunFigures(wall_s=wall_s, is_continued=bool(began), n_reused=run.n_reused, n_tried_again=n_again)


def _laid(engine: Engine, progress: Progress, diagram: Diagram) -> tuple[Diagram, dict[str, NodeState]]:
    """Return the diagram and its states: of each node what was called there, as far as call sites are recorded."""
    from ironflow_nb.diagram.run_path import NodeSites, resolved
    from ironflow_nb.diagram.states import node_states

    moves = _moves(engine, progress, diagram)
    places = {(name, site): resolved(site, moves) for name, site in progress.places}
    sites = NodeSites(diagram, {(name, number) for (name, _), number in places.items()})
    key_of = {(name, site): sites.key(name, number) for (name, site), number in places.items()}
    expected: Counter[str] = Counter()
    for place, n_items in progress.totals.items():
        expected[key_of[place]] += n_items
    keyed = [(key_of[tally.place], tally) for tally in progress.tallies]
    told = [each for key, tally in keyed for each in _shown(key, tally, progress.status)]
    reasons: dict[str, list[str]] = {}
    for key, tally in keyed:
        if tally.reason:
            reasons.setdefault(key, []).append(tally.reason)
    states = node_states(told, n_expected=expected, reasons=reasons)
    for place, children in progress.children.items():
        if key_of[place] in states:
            states[key_of[place]] = _with_children(states[key_of[place]], children)
    return _with_ways(sites, states, expected, progress), states


def _with_ways(
    sites: NodeSites, states: Mapping[str, NodeState], expected: Mapping[str, int], progress: Progress
) -> Diagram:
    """Return the diagram with the ways that were gone, as far as call sites tell."""
    from ironflow_nb.diagram.run_path import with_taken

    diagram = sites.diagram()
    exact = sites.exact()
    if not exact:
        return diagram
    begun = {key for key, state in states.items() if state.status is not StepStatus.SKIPPED}
    called = {node_id for node_id, key in exact.items() if key in begun or key in expected}
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
    from ironflow_nb.diagram.run_path import moved

    run = progress.run
    if run is None:
        return {}
    own = definition_prefix(run.definition_id)
    moves: dict[str, Mapping[int, int] | None] = {own: None}
    wanted = {site.partition(":")[0] for _, site in progress.places if site} - {own}
    if wanted:
        with engine.journal.reading() as reader:
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
    with engine.journal.reading() as reader:
        definition = reader.definition(run.definition_id)
    if definition is None and (session := engine.sessions.get(run.run_id)) is not None:
        definition = session.definition()  # it is written after the first step
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
