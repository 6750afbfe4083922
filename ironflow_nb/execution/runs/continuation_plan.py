"""The foresight of a call: which run it would join, and the plan for the recorded steps. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import EDITS, ChildEdited, CompensationStarted, RunContinued, SessionEnded
from ironflow_nb.core.identity import Digest, RunId, StepRef
from ironflow_nb.core.join import (
    Attach,
    Begin,
    Caller,
    Continue,
    Joining,
    OnRerun,
    build_on,
    is_of_another_notebook,
    join,
    keyed,
)
from ironflow_nb.core.plan import Action, Current, Planned, discarded, plan
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.errors import DuplicateKey, RunNotFound
from ironflow_nb.execution.definitions.run_request import RejoinedBy, RunPolicy, RunRequest
from ironflow_nb.execution.definitions.step_spec import StepSpec, why_changed
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recording.signatures import FOREIGN, advice, own_runs
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.session.base_run import completed_in, lineage
from ironflow_nb.execution.system.frontend import is_under_pytest, notebook_exists, notebook_path
from ironflow_nb.journal.ports import CallKey, Reader, Select

# -- which run a call joins --------------------------------------------------------------------------------------------


def foresee(engine: Engine, request: RunRequest) -> Joining:
    """Return which run a call would begin, continue or attach to, without doing it."""
    inputs = engine.digester.arguments(request.name, request.arguments).digest
    call = key_of_call(engine, request, inputs, is_taken=False)
    with engine.reading() as reader:
        return decide(engine, reader, request, call)


def key_of_call(engine: Engine, request: RunRequest, inputs: Digest, *, is_taken: bool = True) -> CallKey:
    """Return the key of the call in this execution of its cell; the next equal call has another if it `is_taken`."""
    execution = engine.execution()
    ordinal = engine.next_ordinal(execution, request.kind, request.name, inputs, is_taken=is_taken)
    return CallKey(kind=request.kind, name=request.name, inputs_digest=inputs, ordinal=ordinal, execution=execution)


def decide(engine: Engine, reader: Reader, request: RunRequest, call: CallKey) -> Joining:
    """Return which run the call begins, continues or attaches to."""
    policy = request.policy
    if request.fork is not None:
        return Begin(after=request.fork.run, takes_over=True)
    if request.run_id is not None:
        found = reader.runs(Select(run_ids=[request.run_id]))
        if not found and request.parent is not None:
            return _begin_child(engine, reader, request.parent)
        if request.detach:  # a flow has recorded the id
            return Attach(found[0]) if found else Begin()
        if not found:
            raise RunNotFound(f"there is no run {request.run_id}", run_id=request.run_id)
        reopens = bool(request.options) or request.reopens or is_edited(reader, found[0])
        return keyed(found[0], owner_is_alive=is_owned(engine, reader, found[0]), reopens=reopens)
    if policy.key is not None:
        return _decide_keyed(engine, reader, policy.key, call, reopens=request.reopens)
    if rejoined_by(engine, policy) is RejoinedBy.NOTHING:
        return Begin()
    candidate = reader.run_to_join(call)
    if candidate is None:
        return Begin()
    if candidate.status is RunStatus.COMPLETED and is_edited(reader, candidate):
        return Continue(candidate)
    if candidate.status is RunStatus.COMPLETED:
        return _after_completed(engine, reader, request, candidate)
    if candidate.status is RunStatus.FAILED and _was_compensated(reader, candidate):
        why = f"run {candidate.run_id} failed, and what it did was undone"
        return Begin(because=f'{why}; to go on with that one: iron.resume("{candidate.run_id}")')
    head = reader.head(candidate.run_id)
    caller = Caller(
        now=engine.clock.now(), last_active_at=candidate.updated_at if head is None else head[1],
        continue_within_s=policy.continue_within_s, notebook=notebook_path(),
        other_notebook_exists=notebook_exists(candidate.notebook),
    )  # fmt: skip
    return join(candidate, caller, owner_is_alive=is_owned(engine, reader, candidate))


def _was_compensated(reader: Reader, run: RunRow) -> bool:
    return bool(reader.events(Select(run_ids=[run.run_id], name=CompensationStarted.__name__, limit=1)))


def rejoined_by(engine: Engine, policy: RunPolicy) -> RejoinedBy:
    """Return which calls join a run of that policy later."""
    return policy.rejoined_by(joins=engine.joins_by_default or not is_under_pytest())


def _after_completed(engine: Engine, reader: Reader, request: RunRequest, run: RunRow) -> Joining:
    """Return what a call does after a completed run of an equal call; outside of interactive work it begins anew."""
    policy = request.policy
    is_young = engine.clock.now() - run.updated_at <= policy.reuse_within_s * 1e6
    reuses = policy.on_rerun is OnRerun.REUSE
    is_answer = reuses and run.definition_id == request.definition_id  # at any age
    if not (is_answer or (is_young and (reuses or engine.is_interactive()))):
        return Begin(after=run)
    if not own_runs(engine.signer, reader, [run]):
        why = f"run {run.run_id}, which is completed, was {FOREIGN}; {advice(engine.journal.location)}"
        return Begin(because=why)
    if is_answer:
        return Attach(run)
    if is_of_another_notebook(run, notebook_path(), other_exists=notebook_exists(run.notebook)):
        return Begin(after=run)
    if request.define_steps is not None:
        request.define_steps()

    def older() -> list[StepRow]:
        return completed_in(reader, lineage(engine.signer, reader, run.run_id)[1:])

    return build_on(
        run,
        plan_after(reader, run, older, policy.on_change),
        definition_id=request.definition_id,
        is_own_kernel=(run.execution or "").startswith(engine.owner),
        reuses=reuses,
    )


def _begin_child(engine: Engine, reader: Reader, parent: tuple[RunId, StepRef]) -> Begin:
    """Return how a child begins: built on the child that its parent's origin had in its place, if there is one."""
    session = engine.sessions.get(parent[0])
    origin = None if session is None else session.replayer.origin
    child = None if origin is None else origin.children.get(parent[1])
    found = [] if child is None else reader.runs(Select(run_ids=[child]))
    return Begin(after=found[0], takes_over=True) if found else Begin()


def _decide_keyed(engine: Engine, reader: Reader, key: str, call: CallKey, *, reopens: bool) -> Joining:
    candidate = reader.run_by_key(call.kind, call.name, key)
    if candidate is None:
        return Begin()
    if candidate.inputs_digest != call.inputs_digest:
        raise DuplicateKey(
            f"run {candidate.run_id} of {call.name} has the key {key!r} and was begun with other arguments; use "
            "another key, or call it with the same arguments",
            run_id=candidate.run_id,
            key=key,
        )
    reopens = reopens or is_edited(reader, candidate)
    return keyed(candidate, owner_is_alive=is_owned(engine, reader, candidate), reopens=reopens)


def is_edited(reader: Reader, run: RunRow) -> bool:
    """Return True if a result in the run, or in a run below it, was edited since the run has completed."""
    if run.status is not RunStatus.COMPLETED:
        return False
    newest = reader.events(Select(run_ids=[run.run_id], limit=1))
    return bool(newest) and newest[0].type in EDITS


def is_owned(engine: Engine, reader: Reader, run: RunRow) -> bool:
    """Return True if an owner executes the run; this engine does so only while it has a session of the run."""
    if run.owner == engine.owner:
        return engine.is_running_here(run.run_id)
    return engine.access.is_owner_alive(reader, run.owner)


# -- what happens to recorded steps ------------------------------------------------------------------------------------


def plan_of_run(reader: Reader, run: RunRow, on_change: OnChange) -> list[Planned]:
    """Return what would happen to each recorded step of the run, with the steps as they are defined here now."""
    return _planned(reader, run, [row for row, _ in reader.attempts(run.run_id)], on_change)


def plan_after(reader: Reader, run: RunRow, older: Callable[[], list[StepRow]], on_change: OnChange) -> list[Planned]:
    """Return the plan for a new run that is built on this one.

    Where a step was edited, results of `older` runs count too.
    """
    rows = [row for row, _ in reader.attempts(run.run_id)]
    planned = _planned(reader, run, rows, on_change)
    is_edited = any(each.action in {Action.REDO, Action.STOP} for each in planned)
    return _planned(reader, run, rows, on_change, older()) if is_edited else planned


def plan_of_edits(reader: Reader, run: RunRow, rows: list[StepRow], on_change: OnChange) -> list[Planned]:
    """Return what would happen to each recorded step if any code has changed, otherwise an empty list."""
    code = {name: spec.code for name, spec in _specs(rows).items()}
    is_edited = any(
        row.code not in {b"", code.get(row.name, row.code)} for row in rows if row.status is StepStatus.COMPLETED
    )
    return _planned(reader, run, rows, on_change) if is_edited else []


def n_kept_inside(reader: Reader, rows: Iterable[StepRow]) -> int:
    """Return how many steps the unfinished children have finished that the rows began, if their code is as it was."""
    latest = {row.step: row for row in rows}
    unfinished = [row for row in latest.values() if row.status is not StepStatus.COMPLETED]
    n_kept = 0
    for run_id in {row.child_run_id for row in unfinished if row.child_run_id is not None}:
        inside = [row for row, _ in reader.attempts(run_id)]
        code = {name: spec.code for name, spec in _specs(inside).items()}
        done = {row.step for row in inside if row.status is StepStatus.COMPLETED}
        n_kept += len({row.step for row in inside if row.step in done and row.code == code.get(row.name, row.code)})
        n_kept += n_kept_inside(reader, inside)
    return n_kept


def _specs(rows: list[StepRow]) -> dict[str, StepSpec]:
    return {name: spec for name in {row.name for row in rows} if (spec := REGISTRY.step(name)) is not None}


def _planned(
    reader: Reader, run: RunRow, rows: list[StepRow], on_change: OnChange, older: Sequence[StepRow] = ()
) -> list[Planned]:
    specs = _specs(rows)
    edited = children_edited(reader, run, rows)
    memo = RecordedSteps(rows, discarded=discarded(continuations(reader, run)), children_edited=edited)
    memo.learn_older(older)

    @cache  # thousands of steps of a map have one code
    def why(name: str, code: Digest) -> str:
        return why_changed(reader.definition, code, specs[name])

    return plan(memo, {name: _current(spec, rows) for name, spec in specs.items()}, on_change, why)


def _current(spec: StepSpec, rows: list[StepRow]) -> Current:
    tracked = spec.tracked
    recorded = {row.code for row in rows if row.name == spec.name}
    # Journals older than dependency tracking know only the function's own code.
    is_older = tracked.digest not in recorded and tracked.own in recorded
    return Current(tracked.own if is_older else tracked.digest, spec.once, spec.on_change)


def unused_steps(reader: Reader, run: RunRow) -> tuple[StepRef, ...]:
    """Return the recorded steps that the latest continuation of an ended run had no use for."""
    ends = reader.events(Select(run_ids=[run.run_id], name=SessionEnded.__name__)) if run.n_sessions > 1 else []
    return decode_as(SessionEnded, ends[-1].data).not_asked_for if ends else ()


def children_edited(reader: Reader, run: RunRow, rows: Iterable[StepRow]) -> Mapping[StepRef, int]:
    """Return the steps of the run whose child runs were edited, with the version of the latest edit."""
    if all(row.child_run_id is None for row in rows):
        return {}
    told = reader.events(Select(run_ids=[run.run_id], name=ChildEdited.__name__))
    return {row.step: row.version for row in told if row.step is not None}


def continuations(reader: Reader, run: RunRow) -> list[tuple[int, RunContinued]]:
    """Return how the run was continued, with versions, oldest first."""
    if run.n_sessions == 1:
        return []
    rows = reader.events(Select(run_ids=[run.run_id], name=RunContinued.__name__))
    return [(row.version, decode_as(RunContinued, row.data)) for row in rows]
