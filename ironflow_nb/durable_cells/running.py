"""Running a durable cell: restored from what is recorded of it, or executed and recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.orders import NONE, Orders
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.verdict import GUARD_S
from ironflow_nb.diagram.model import Diagram, Node, NodeKind, encode_diagram
from ironflow_nb.durable_cells.body import refuse_limit
from ironflow_nb.durable_cells.cell import KIND, Cell
from ironflow_nb.durable_cells.executing import Execution
from ironflow_nb.durable_cells.looking import Asked, Found, Missing, asked, look, unreadable
from ironflow_nb.durable_cells.place import Place
from ironflow_nb.durable_cells.restoring import put_back
from ironflow_nb.errors import NotAllowedInStep, UntrustedValue, ValueUnreadable
from ironflow_nb.execution import watching
from ironflow_nb.execution.beginning import begin
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.request import Body, Policy, Request
from ironflow_nb.execution.running import run_session
from ironflow_nb.execution.scope import SCOPE
from ironflow_nb.execution.signatures import FOREIGN, advice
from ironflow_nb.execution.surroundings import say
from ironflow_nb.journal.ports import Definition
from ironflow_nb.values.records import Record


@dataclass
class Outcome:
    """What became of a cell: the values of its names, what is recorded of it, and whether it was restored."""

    outs: dict[str, Any] = field(default_factory=dict)
    record: Record | None = None
    is_restored: bool = False
    work_s: float = 0.0
    """How long the execution took from which it was restored."""


def run_cell(cell: Cell, place: Place) -> Outcome:
    """Restore the cell, or execute it and record it; one line says what happened if it is not the first time.

    Raises:
        DefinitionError: an input that it was given is not there, or it can't have a timeout here.
        UntrustedValue: somebody else has executed it, which took a while.
        NotAllowedInStep: a step or flow is being executed, or this very cell.
    """
    __tracebackhide__ = True
    _refuse_inside(cell)
    refuse_limit(place.engine, cell)
    while True:
        wanted = asked(place.engine, cell, place.namespace)
        found = look(place.engine, place.key, wanted, place.namespace)
        missing = _restored(place, wanted, found) if isinstance(found, Found) else found
        if isinstance(missing, Outcome):
            return missing
        _refuse_untrusted(place, cell, missing)
        _tell(wanted, missing)
        outcome = _executed(place, wanted, missing)
        if outcome is not None:
            return outcome


def _refuse_inside(cell: Cell) -> None:
    scope = SCOPE.get()
    if scope is not None:
        inside = scope.step or "a flow"
        raise NotAllowedInStep(f"the cell {cell.name} was run inside {inside}; run it by itself", name=cell.name)


# -- restored --------------------------------------------------------------------------------------------------------


def _restored(place: Place, wanted: Asked, found: Found) -> Outcome | Missing:
    """Restore the cell; what can't be read after all is missing."""
    __tracebackhide__ = True
    row = found.row
    try:
        outs, shown = put_back(place, wanted.cell, found.record)
    except ValueUnreadable as error:
        return unreadable(found.run, row, error)
    work = spoken(row.duration_s or 0.0)
    ago = spoken(max(place.engine.ledger.clock.now() - (row.finished_at or row.started_at), 0) / 1e6)
    say(f"restored {wanted.cell.name} ({work} of work, {ago} ago)")
    place.stage.show(shown)
    return Outcome(outs, found.record, is_restored=True, work_s=row.duration_s or 0.0)


def _refuse_untrusted(place: Place, cell: Cell, missing: Missing) -> None:
    """Refuse to do much work again that only has to be trusted."""
    if missing.untrusted is None or missing.row is None or (missing.row.duration_s or 0.0) < GUARD_S:
        return
    location = place.engine.ledger.journal.location
    raise UntrustedValue(
        f"the cell {cell.name} was executed ({spoken(missing.row.duration_s or 0.0)} of work), and what is recorded of "
        f"that was {FOREIGN}, or before it was signed; {advice(location)}, and it is restored. To execute it anew, "
        "take a journal of your own: iron.use(PATH)",
        name=cell.name,
    )


# -- executed --------------------------------------------------------------------------------------------------------


def _tell(wanted: Asked, missing: Missing) -> None:
    """Say why a cell that was executed before is executed again, and what it cost then."""
    cell, row = wanted.cell, missing.row
    if missing.run is None and wanted.uncounted:
        names = ", ".join(wanted.uncounted)
        say(
            f"{cell.name}: its code refers to {names}, whose content does not count: when that changes it does not "
            "run again; let the cell read it as a variable, or make it a constant, such as a tuple"
        )
    if row is not None:
        reasons = list(missing.reasons) or ["what it was executed with is not there any more"]
        more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        cost = spoken(row.duration_s or 0.0)
        say(f"{cell.name}: {', '.join(reasons[:3])}{more}; it runs again (last time {cost})")
    elif missing.run is None and wanted.opaque:
        name, kind = next(iter(wanted.opaque.items()))
        say(
            f"{cell.name}: its input {name} ({kind}) can't be recognised in another process, so it runs again in each "
            f"new kernel; if it does not matter which one it is, name the others: --in {_others(wanted, name)}"
        )


def _others(wanted: Asked, name: str) -> str:
    return ",".join(other for other in wanted.ins if other != name) or '""'


def _executed(place: Place, wanted: Asked, missing: Missing) -> Outcome | None:
    """Execute the cell in its run; None if somebody else was just executing it."""
    __tracebackhide__ = True
    engine = place.engine
    with engine.interrupts.taken():
        begun = begin(engine, _request(place, wanted, missing))
        if isinstance(begun, RunRow):
            _wait(engine, wanted.cell, begun)
            return None
        begun.recall.allow_change(wanted.cell.name, wanted.spec.code)
        execution = Execution(place, wanted, missing)
        run_session(engine, begun, Body(execution, (), {}))
    if execution.kept is None:  # it was done meanwhile, or another notebook shares it
        assert execution.record is not None
        outs, shown = put_back(place, wanted.cell, execution.record)
        place.stage.show(shown)
        return Outcome(outs, execution.record, is_restored=True)
    return Outcome(dict(execution.outs), execution.record)


def _wait(engine: Engine, cell: Cell, run: RunRow) -> None:
    session = engine.sessions.get(run.run_id)
    if session is not None and session.thread == engine.threads.ident():
        raise NotAllowedInStep(
            f"the cell {cell.name} is being executed, and runs itself; run another one", name=cell.name
        )
    say(f"{cell.name}: it is being executed elsewhere (run {run.run_id}); waiting for it")
    watching.wait_ended(engine, run.run_id)


def _request(place: Place, wanted: Asked, missing: Missing) -> Request:
    # What can't be restored is no answer any more, whatever its code is.
    orders = Orders(rerun=(missing.row.step,)) if missing.is_unreadable and missing.row is not None else NONE
    definition = digest_bytes(f"cell {wanted.cell.name}\0{wanted.cell.text}".encode())
    return Request(
        kind=KIND,
        name=wanted.cell.name,
        definition_id=definition,
        define=partial(_define, wanted.cell, definition),
        arguments={},
        policy=Policy(key=place.key),
        reason="resume",
        orders=orders,
        reopens=True,
    )


def _define(cell: Cell, definition: Any) -> Definition:
    node = Node(id=cell.name, kind=NodeKind.STEP, label=cell.name, step=cell.name)
    diagram = encode_diagram(Diagram(cell.name, (node,)))
    return Definition(definition_id=definition, kind=KIND, name=cell.name, source=cell.text, diagram=diagram)
