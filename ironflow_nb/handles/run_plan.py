"""Plans of runs: what a call or a continuation would do with recorded steps; the options of a resume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from msgspec.structs import replace

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.join import Attach, Begin, Continue
from ironflow_nb.core.plan import Action, Planned, ResumeOptions
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import CLOSED, OWNED, RunStatus, StepReason, StepStatus
from ironflow_nb.errors import FlowNotDefined, NothingToDo, RunFinished, UntrustedRun
from ironflow_nb.execution import FOREIGN, REGISTRY, Engine, RunRequest, foresee, own_runs, plan_of_run
from ironflow_nb.handles.edit_plan import planned_with
from ironflow_nb.handles.run_picture import placed
from ironflow_nb.handles.run_progress import definitions_of, sites_of
from ironflow_nb.history.lookup import resolve_steps
from ironflow_nb.history.run_status import status_of
from ironflow_nb.journal.ports import Reader

if TYPE_CHECKING:
    from ironflow_nb.history.pictured_frame import Plan

StepNames = str | Iterable[object] | None
FAILED = "failed"
_NOT_FAILED: Final = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.COMPENSATED})


def resume_options(
    rows: list[StepRow], run_id: str, status: RunStatus, *, retry: StepNames, rerun: StepNames, keep: StepNames
) -> ResumeOptions:
    """Return the options for continuing a run that has these attempts.

    Raises:
        NothingToDo: none of the named steps can be tried again, run again or kept.
        RunFinished: the run was cancelled, or is running.
        StepNotFound, AmbiguousStep: the run has no such step, or steps of several functions.
    """
    if status is RunStatus.CANCELLED or status in OWNED - {RunStatus.PENDING}:
        what = "was cancelled" if status is RunStatus.CANCELLED else f"is {status.value}"
        raise RunFinished(f"run {run_id} {what}, so it can't be told to do steps again", run_id=run_id)
    latest = {row.step: row for row in rows}
    undos = {row.step for row in rows if row.reason == StepReason.COMPENSATION}  # which no flow calls
    failed = tuple(step for step, row in latest.items() if row.status not in _NOT_FAILED and step not in undos)
    known = tuple(step for step in failed if latest[step].status is not StepStatus.UNKNOWN)
    done = tuple({row.step: None for row in rows if row.status is StepStatus.COMPLETED})
    if retry == FAILED and not known and status is RunStatus.COMPLETED:
        raise NothingToDo(f"run {run_id} is completed, and none of its steps has failed", run_id=run_id)
    return ResumeOptions(
        retry=known if retry == FAILED else _chosen_steps(rows, run_id, retry, failed, "has failed"),
        rerun=_chosen_steps(rows, run_id, rerun, done, "is finished"),
        keep=_chosen_steps(rows, run_id, keep, done, "is finished"),
    )


def _chosen_steps(
    rows: list[StepRow], run_id: str, named: StepNames, among: tuple[StepRef, ...], what: str
) -> tuple[StepRef, ...]:
    if named is None:
        return ()
    steps = [named] if isinstance(named, str) or hasattr(named, "name") else list(named)
    refs = {ref: None for step in steps for ref in resolve_steps(rows, step, run_id)}
    chosen = tuple(ref for ref in refs if ref in among)
    if not chosen:
        asked = ", ".join(refs) or "what was named"
        raise NothingToDo(
            f"no step among {asked} of run {run_id} {what}; retry= takes failed steps, rerun= and keep= finished ones",
            run_id=run_id,
        )
    return chosen


@runtime_checkable
class PlannedDefinition(Protocol):
    """A definition that revises the plan of a continuation by more than the code of its steps."""

    def replanned(self, engine: Engine, run: RunRow, planned: list[Planned]) -> list[Planned]:
        """Return the revised plan."""

    def define_steps(self) -> None:
        """Register its steps by name in this process."""


def planned_steps(
    engine: Engine, run: RunRow, *, on_change: OnChange | None = None, inject: Mapping[Any, Any] | None = None
) -> list[Planned]:
    """Return what continuing the run would do with each recorded step, if those had these results."""
    definition = _planned_definition(engine, run)
    if definition is not None:
        definition.define_steps()
    with engine.reading() as reader:
        planned = plan_of_run(reader, run, on_change or _policy_of(run))
    if definition is not None:
        planned = definition.replanned(engine, run, planned)
    if inject:
        with engine.reading() as reader:
            status = status_of(engine, reader, run)
            planned = planned_with(engine, reader, run, status, planned, inject)
    return planned


def _planned_definition(engine: Engine, run: RunRow) -> PlannedDefinition | None:
    with suppress(FlowNotDefined, UntrustedRun):  # the definition of another user is not executed
        definition = REGISTRY.definition(run, engine)
        if isinstance(definition, PlannedDefinition):
            return definition
    return None


def plan_of(
    engine: Engine, run: RunRow, *, on_change: OnChange | None = None, inject: Mapping[Any, Any] | None = None
) -> Plan:
    """Return what continuing the run would do with its recorded steps, if those had these results."""
    planned = planned_steps(engine, run, on_change=on_change, inject=inject)
    with engine.reading() as reader:
        status, is_own = status_of(engine, reader, run), own_runs(engine.signer, reader, [run])
    ago = spoken(max(engine.clock.now() - run.updated_at, 0) / 1e6)
    how = "would be continued" if is_own else f"was {FOREIGN}, and is not continued before iron.trust()"
    begin = f"{run.name}: run {run.run_id} ({status.value} {ago} ago) {how}"
    return _pictured(engine, run, planned, begin)


def _pictured(engine: Engine, run: RunRow, planned: Sequence[Planned], begin: str) -> Plan:
    """Return the plan with the picture of the run that it is about; each step is shown where it was called."""
    from ironflow_nb.history.pictured_frame import Plan

    with engine.reading() as reader:
        site_of = sites_of(reader, run)
        place_of = {each.step: (each.row.name, site_of.get(each.step, "")) for each in planned}
        definitions = definitions_of(engine, reader, run, place_of.values())
    sites, key_of = placed(run, definitions, set(place_of.values()))
    return Plan.of(planned, begin, sites.diagram(), {step: key_of[place] for step, place in place_of.items()})


def plan_of_call(engine: Engine, request: RunRequest) -> Plan:
    """Return what a call would do: begin, continue or attach to a run, and what with each recorded step."""
    from ironflow_nb.history.pictured_frame import Plan

    match foresee(engine, request):
        case Begin(after=RunRow() as after, planned=planned, takes_over=True):
            begin = f"{request.name}: a new run would begin, built on {_completed_run(engine, after)}"
            definition = _planned_definition(engine, after)
            revised = planned if definition is None else definition.replanned(engine, after, list(planned))
            return _pictured(engine, after, revised, begin)
        case Begin(after=RunRow() as after, planned=planned) if planned:
            begin = f"{request.name}: a new run would begin; nothing was edited since {_completed_run(engine, after)}"
            return _pictured(engine, after, _as_new_run(engine, planned), begin)
        case Begin(because=because):
            why = "" if because is None else f", because {because}"
            return Plan.of((), f"{request.name}: a new run would begin{why}; nothing of it is recorded")
        case Attach(run=run):
            how = "its result returned" if run.status in CLOSED else "watched, because it is running"
            return Plan.of((), f"{request.name}: run {run.run_id} would be taken and {how}")
        case Continue(run=run):
            return plan_of(engine, run, on_change=request.policy.on_change)


def _completed_run(engine: Engine, run: RunRow) -> str:
    ago = spoken(max(engine.clock.now() - run.updated_at, 0) / 1e6)
    return f"run {run.run_id}, completed {ago} ago"


def _as_new_run(engine: Engine, planned: Sequence[Planned]) -> list[Planned]:
    """Return the plan of a new run where nothing was edited: every step runs, except for results of ``cache=``."""
    with engine.reading() as reader:
        return [_in_new_run(engine, reader, each) for each in planned]


def _in_new_run(engine: Engine, reader: Reader, planned: Planned) -> Planned:
    spec = REGISTRY.step(planned.row.name)
    if spec is not None and spec.cache_s is not None:
        found = reader.cached(planned.row.identity, spec.code)
        oldest = engine.clock.now() - spec.cache_s * 1e6
        if found is not None and found.output_id is not None and (found.finished_at or 0) >= oldest:
            return replace(planned, action=Action.REUSE, reason=f"cached by run {found.run_id}")
    return replace(planned, action=Action.REDO, reason="a new run does it again")


def _policy_of(run: RunRow) -> OnChange:
    try:
        return REGISTRY.definition(run).on_change
    except FlowNotDefined:
        return OnChange.GUARD
