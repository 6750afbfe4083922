"""Plans of runs: what becomes of the steps that are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec.structs import replace

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.joining import Attach, Begin, Continue
from ironflow_nb.core.plan import Action, Planned
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.status import CLOSED
from ironflow_nb.core.verdict import OnChange
from ironflow_nb.errors import FlowNotDefined, UntrustedRun
from ironflow_nb.execution.beginning import foresee
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.planning import plan_of_run
from ironflow_nb.execution.request import Request
from ironflow_nb.execution.signatures import FOREIGN, own_runs
from ironflow_nb.execution.watching import status_of
from ironflow_nb.handles.pictures import diagram_of
from ironflow_nb.journal.ports import Reader

if TYPE_CHECKING:
    from ironflow_nb.history.plans import Plan


@runtime_checkable
class Replans(Protocol):
    """A definition that knows more of what a continuation means than the code of its steps says."""

    def replanned(self, engine: Engine, run: RunRow, planned: list[Planned]) -> list[Planned]:
        """Return the plan with what is known."""

    def define_steps(self) -> None:
        """See that the steps of it are known here by name."""


def plan_of(engine: Engine, run: RunRow, *, on_change: OnChange | None = None) -> Plan:
    """Return what continuing the run would do with its recorded steps."""
    from ironflow_nb.history.plans import Plan

    definition: object = None
    with suppress(FlowNotDefined, UntrustedRun):  # what somebody else has written is not asked
        definition = HOME.definition(run, engine)
    if isinstance(definition, Replans):
        definition.define_steps()
    with engine.reading() as reader:
        status, is_own = status_of(engine, reader, run), own_runs(engine.ledger.signer, reader, [run])
        planned = plan_of_run(reader, run, on_change or _on_change(run))
    if isinstance(definition, Replans):
        planned = definition.replanned(engine, run, planned)
    ago = spoken(max(engine.ledger.clock.now() - run.updated_at, 0) / 1e6)
    how = "would be continued" if is_own else f"was {FOREIGN}, and is not continued before iron.trust()"
    begin = f"{run.name}: run {run.run_id} ({status.value} {ago} ago) {how}"
    return Plan.of(planned, begin, diagram_of(engine, run))


def plan_of_call(engine: Engine, request: Request) -> Plan:
    """Return what a call would do: begin, continue or watch a run, and what with the recorded steps."""
    from ironflow_nb.history.plans import Plan

    match foresee(engine, request):
        case Begin(after=RunRow() as after, planned=planned, takes_over=True):
            begin = f"{request.name}: a new run would begin, built on {_completed(engine, after)}"
            return Plan.of(planned, begin, diagram_of(engine, after))
        case Begin(after=RunRow() as after, planned=planned) if planned:
            begin = f"{request.name}: a new run would begin; nothing was edited since {_completed(engine, after)}"
            return Plan.of(_anew(engine, planned), begin, diagram_of(engine, after))
        case Begin(because=because):
            why = "" if because is None else f", because {because}"
            return Plan.of((), f"{request.name}: a new run would begin{why}; nothing of it is recorded")
        case Attach(run=run):
            how = "its result returned" if run.status in CLOSED else "watched, for it is going on"
            return Plan.of((), f"{request.name}: run {run.run_id} would be taken and {how}")
        case Continue(run=run):
            return plan_of(engine, run, on_change=request.policy.on_change)


def _completed(engine: Engine, run: RunRow) -> str:
    ago = spoken(max(engine.ledger.clock.now() - run.updated_at, 0) / 1e6)
    return f"run {run.run_id}, completed {ago} ago"


def _anew(engine: Engine, planned: Sequence[Planned]) -> list[Planned]:
    """Return what a new run would do where nothing was edited: all of it, except for what ``cache=`` answers."""
    with engine.reading() as reader:
        return [_again(engine, reader, each) for each in planned]


def _again(engine: Engine, reader: Reader, planned: Planned) -> Planned:
    spec = HOME.step(planned.row.name)
    if spec is not None and spec.cache_s is not None:
        found = reader.cached(planned.row.identity, spec.code)
        oldest = engine.ledger.clock.now() - spec.cache_s * 1e6
        if found is not None and found.output_id is not None and (found.finished_at or 0) >= oldest:
            return replace(planned, action=Action.REUSE, reason=f"cached by run {found.run_id}")
    return replace(planned, action=Action.REDO, reason="a new run does it again")


def _on_change(run: RunRow) -> OnChange:
    try:
        return HOME.definition(run).on_change
    except FlowNotDefined:
        return OnChange.GUARD
