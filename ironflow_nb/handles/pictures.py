"""The picture of a run: its flow's diagram, as the journal has it, with the states of its steps laid over it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ironflow_nb.core.identity import OWN_PREFIX
from ironflow_nb.core.ids import RunId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.status import RunStatus, derived_step_status
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.planning import not_asked_for
from ironflow_nb.execution.watching import look
from ironflow_nb.journal.ports import Select, Tally

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.diagram.model import Diagram

SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"


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
        expected = _expected(engine, run_id)
    except Exception as error:  # noqa: BLE001 -- it stands in for a repr, whatever became of the journal
        return Picture(svg=None, text=f"run {run_id}: {error}")
    counted = ((tally.name, derived_step_status(tally.status, status), tally.n, tally.duration_s) for tally in tallies)
    states = node_states(counted, n_expected=expected)
    return draw(diagram, states, run_status=status, run_id=run_id, prefix=f"iron-{run_id}")


def _expected(engine: Engine, run_id: RunId) -> dict[str, int]:
    """Return how many steps the maps of a run that goes on here will have, where that is known."""
    session = engine.sessions.get(run_id)
    return dict(session.n_expected) if session is not None and session.is_open else {}


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


def bundle_of(picture: Picture) -> dict[str, str]:
    """Return what a front end shows: the SVG, and text for where that can't be."""
    bundle = {TEXT: picture.text}
    if picture.svg is not None:
        bundle[SVG] = picture.svg
    return bundle
