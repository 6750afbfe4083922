"""The picture of a run: its flow's diagram, as the journal has it, with the states of its steps laid over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from ironflow_nb.core.events import ItemsCounted, RunContinued, decode_event
from ironflow_nb.core.identity import OWN_PREFIX
from ironflow_nb.core.ids import RunId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus, derived_step_status
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.planning import not_asked_for
from ironflow_nb.execution.watching import look, statuses_of
from ironflow_nb.journal.ports import Select, Tally

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.diagram.model import Diagram, NodeStatus
    from ironflow_nb.diagram.states import Account, NodeState

HTML: Final = "text/html"
SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"
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


def picture_of(engine: Engine, run_id: RunId) -> Picture:
    """Return the picture of a run; where the journal can't be read, what the trouble is. It never raises."""
    from ironflow_nb.diagram.draw import Picture, draw  # noqa: PLC0415 -- only who looks at a run draws it
    from ironflow_nb.diagram.states import node_states  # noqa: PLC0415

    try:
        run, status = look(engine, run_id)
        diagram = diagram_of(engine, run)
        tallies = tallies_of(engine, run_id)
        if run is not None and status is RunStatus.COMPLETED:
            tallies = _asked_for(engine, run, tallies)
        expected = _expected(engine, run, status)
        account = _account(engine, run, status, tallies)
    except Exception as error:  # noqa: BLE001 -- it stands in for a repr, whatever became of the journal
        return Picture(svg=None, text=f"run {run_id}: {error}")
    begun = {tally.name for tally in tallies if tally.status is not StepStatus.SKIPPED}
    # Of a node that never began the diagram knows whether it was left out, or whether the run has only not got to it.
    told = [each for tally in tallies if tally.name in begun for each in _shown(tally, status)]
    states = node_states(told, n_expected=expected)
    for name, children in children_of(engine, run_id, diagram).items():
        if name in states:
            states[name] = _with_children(states[name], children)
    return draw(diagram, states, run_status=status, run_id=run_id, account=account, prefix=f"iron-{run_id}")


def _shown(tally: Tally, run_status: RunStatus) -> Iterable[tuple[str, NodeStatus, int, float | None]]:
    """Return what a tally is in a picture: failures that the flow went on after are not like those that end it."""
    from ironflow_nb.diagram.model import Handled  # noqa: PLC0415

    n_handled = 0
    if tally.status is StepStatus.FAILED:  # a run that completed has lived with all of its failures
        n_handled = tally.n if run_status is RunStatus.COMPLETED else min(tally.n_lived_with, tally.n)
    if tally.n > n_handled:
        status = derived_step_status(tally.status, run_status)
        yield tally.name, status, tally.n - n_handled, tally.duration_s
    if n_handled:
        yield tally.name, Handled.HANDLED, n_handled, None if tally.n > n_handled else tally.duration_s


def _account(engine: Engine, run: RunRow | None, status: RunStatus, tallies: list[Tally]) -> Account:
    """Return how long the latest stretch of the run took by the clock, once it has ended, and what it did not do."""
    from ironflow_nb.diagram.states import Account  # noqa: PLC0415

    session = engine.sessions.get(run.run_id) if run is not None else None
    n_again = sum(min(tally.n_tried_again, tally.n) for tally in tallies)
    if run is None or status in OWNED:
        return Account(n_reused=0 if session is None else session.recall.n_reused, n_tried_again=n_again)
    with engine.ledger.journal.reading() as reader:
        began = reader.events(Select(run_ids=[run.run_id], name=RunContinued.__name__)) if run.n_sessions > 1 else []
        head = reader.head(run.run_id)
    ended_at = run.ended_at or (run.updated_at if head is None else head[1])
    wall_s = max(ended_at - (began[-1].at if began else run.started_at), 0) / 1e6
    return Account(wall_s=wall_s, is_continued=bool(began), n_reused=run.n_reused, n_tried_again=n_again)


def _expected(engine: Engine, run: RunRow | None, status: RunStatus) -> Counter[str]:
    """Return how many steps the maps and loops of the run have, by name, where that was known.

    A series that a later stretch of the run begins again counts as it is there. One that it did not get to counts as it
    was, unless the run has completed without it.
    """
    expected: Counter[str] = Counter()
    if run is None:
        return expected
    with engine.ledger.journal.reading() as reader:
        rows = reader.events(Select(run_ids=[run.run_id], name=ItemsCounted.__name__))
    latest: dict[tuple[str, str, int], int] = {}
    for row in rows:
        if status is not RunStatus.COMPLETED or row.version >= run.session_version:
            counted = decode_event(row.type, row.data)
            assert isinstance(counted, ItemsCounted)
            latest[counted.name, counted.branch, counted.nth] = counted.n_items
    for (name, _, _), n_items in latest.items():
        expected[name] += n_items
    return expected


def tallies_of(engine: Engine, run_id: RunId) -> list[Tally]:
    """Return how many steps of which name have which status now; the time, ids and chance are no work to look at."""
    with engine.ledger.journal.reading() as reader:
        return [tally for tally in reader.tallies([run_id]).get(run_id, []) if not tally.name.startswith(OWN_PREFIX)]


def _asked_for(engine: Engine, run: RunRow, tallies: list[Tally]) -> list[Tally]:
    """Return the tallies without what the run that completed had no use for any more, as failures of before an edit."""
    with engine.ledger.journal.reading() as reader:
        left_out = set(not_asked_for(reader, run))
        rows = reader.steps(Select(run_ids=[run.run_id])) if left_out else []
    latest = {row.step: row for row in rows if row.step in left_out}
    n_less = Counter((row.name, row.status) for row in latest.values())
    return [replace(tally, n=n_left) for tally in tallies if (n_left := tally.n - n_less[tally.name, tally.status]) > 0]


def diagram_of(engine: Engine, run: RunRow | None) -> Diagram:
    """Return the diagram that was stored while the run ran; without one, only its name."""
    from ironflow_nb.diagram.model import Diagram, decode_diagram  # noqa: PLC0415

    if run is None:
        return Diagram("")
    with engine.ledger.journal.reading() as reader:
        definition = reader.definition(run.definition_id)
    if definition is None and (session := engine.sessions.get(run.run_id)) is not None:
        definition = session.definitions.flow()  # it is written after the first step
    found = Diagram(run.name) if definition is None else decode_diagram(definition.diagram)
    return found if found.name else Diagram(run.name, found.nodes, found.edges)


def children_of(engine: Engine, run_id: RunId, diagram: Diagram) -> dict[str, list[ChildRun]]:
    """Return how far the newest children of each node are that runs some, by the name of its step."""
    from ironflow_nb.diagram.model import NodeKind  # noqa: PLC0415

    names = [node.step for node in diagram.nodes if node.kind is NodeKind.CHILD and node.step is not None]
    if not names:
        return {}
    with engine.ledger.journal.reading() as reader:
        of_names = {name: reader.steps(Select(run_ids=[run_id], name=name)) for name in names}
        ids = {
            name: list({row.step: row.child_run_id for row in rows if row.name == name and row.child_run_id}.values())
            for name, rows in of_names.items()
        }
        wanted = [child for children in ids.values() for child in children[-_CHILDREN:]]
        runs = {run.run_id: run for run in reader.runs(Select(run_ids=wanted))} if wanted else {}
        statuses, tallies = statuses_of(engine, reader, list(runs.values())), reader.tallies(list(runs))
    return {
        name: [_child(child, statuses[child], tallies.get(child, ())) for child in children if child in runs]
        for name, children in ids.items()
    }


def _child(run_id: RunId, status: RunStatus, tallies: Iterable[Tally]) -> ChildRun:
    counts = Counter[StepStatus]()
    for tally in tallies:
        counts[tally.status] += 0 if tally.name.startswith(OWN_PREFIX) else tally.n
    return ChildRun(run_id, status, counts[StepStatus.COMPLETED], counts[StepStatus.FAILED])


def _with_children(state: NodeState, children: list[ChildRun]) -> NodeState:
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
