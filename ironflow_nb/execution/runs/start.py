"""How a run begins: anew, continued from where it stopped, or by attaching to one that is running."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import RunContinued, RunDetached, RunStarted
from ironflow_nb.core.join import Attach, Begin, Continue
from ironflow_nb.core.plain_text import are, counted
from ironflow_nb.core.plan import Action, Planned, discarded
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import CLOSED, FAILURES, ContinuationReason, RunStatus, StepStatus, derived_run_status
from ironflow_nb.core.time_limits import TimeLimits, owned_s
from ironflow_nb.errors import InputsNotStored, JournalConflict
from ironflow_nb.execution.definitions.call_sites import CallSites
from ironflow_nb.execution.definitions.run_request import RunRequest
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recording.detached_runs import DETACHED, DONE
from ironflow_nb.execution.recording.journal_access import NO_MAIL, Mail, PendingEvent, RunStorage
from ironflow_nb.execution.recording.signatures import FOREIGN, own_runs, signature_of_run
from ironflow_nb.execution.runs.admission import admit, demands_of
from ironflow_nb.execution.runs.compensation import interrupted_compensation
from ironflow_nb.execution.runs.continuation_plan import (
    children_edited,
    continuations,
    decide,
    is_owned,
    key_of_call,
    n_kept_inside,
    plan_of_edits,
    rejoined_by,
    unused_steps,
)
from ironflow_nb.execution.runs.finish import SAY_AFTER_S, format_kept, say_waiting
from ironflow_nb.execution.runs.idle_runs import refuse_changed, stop_idle
from ironflow_nb.execution.runs.waker import Waker
from ironflow_nb.execution.session.base_run import base_run_of
from ironflow_nb.execution.session.checked_replay import CheckedReplayer
from ironflow_nb.execution.session.replay import Replayer
from ironflow_nb.execution.session.run_phase import StopRequest, is_stop
from ironflow_nb.execution.session.run_writer import RunWriter
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.system.frontend import frontend, notebook_path, say
from ironflow_nb.journal.ports import CallKey, Durability, QueueSelect, Reader, Select
from ironflow_nb.telemetry.spans import current_trace
from ironflow_nb.values.codecs import has_lost_secret, input_references
from ironflow_nb.values.stored_value import StoredValue

_ATTEMPTS: Final = 5
SAY_WORK_S: Final = 60.0
"""A run that repeats more recorded work than this prints a line about it."""


def begin(engine: Engine, request: RunRequest) -> Session | RunRow:
    """Return the open session of the run that the call began or continues, or the run that it attaches to.

    A run that is continued, and a new one with a key, is committed before this returns, so that no body of it runs
    in two places; a new one without a key has no rival and is committed with its first step.

    Raises:
        DuplicateKey: the run of that key was begun with other arguments.
        RunNotFound: the run that was to be continued does not exist.
    """
    demands_of(engine, request)  # what can't be admitted is refused before anything is recorded
    call = request.call or _key_of_call(engine, request)
    for attempt in range(_ATTEMPTS):
        try:
            return _begin(engine, request, call)
        except JournalConflict:
            # Another process, or thread, was faster with this very run; look again.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _key_of_call(engine: Engine, request: RunRequest) -> CallKey:
    inputs, opaque = engine.digester.arguments(request.name, request.arguments)
    if opaque and request.run_id is None:
        say_opaque(request.name, opaque[0])
    return key_of_call(engine, request, inputs)


def say_opaque(name: str, kind: str) -> None:
    """Say that calls with an argument of that class are not recognised in another process."""
    say(
        f"{name}: an argument ({kind}) can't be recognised in another process, so a new kernel starts anew instead of "
        "continuing; if it does not matter which one it is, pass iron.resource(...)"
    )


def _begin(engine: Engine, request: RunRequest, call: CallKey) -> Session | RunRow:
    if request.call is None:  # each of many calls has a number of its own, and none joins another
        engine.flush()  # a run that was begun a moment ago can be joined as well
    with engine.access.current() as reader:
        joining = decide(engine, reader, request, call)
    match joining:
        case Begin(after=after):
            if request.parent is None and request.call is None:
                _say_new(engine, call, joining)
            return _anew(engine, request, call, after if joining.takes_over else None)
        case Attach(run=run):
            session = _interrupted_here(engine, run)
            if session is not None:
                _wait_until_ended(engine, session)
                return _begin(engine, request, call)
            if request.run_id is None and request.call is None:
                _say_attached(engine, request, call, run)
            return run
        case Continue(run=run) if request.detach:
            if run.status is not RunStatus.PENDING:
                stop_idle(engine, run, StopRequest.DETACH)
            return run
        case Continue(run=run):
            with engine.continuing(run.run_id):
                return _continued(engine, request, call, run)


def _interrupted_here(engine: Engine, run: RunRow) -> Session | None:
    """Return the session of a run that was interrupted and is ending in this process.

    Bodies in flight may keep one that has ended, whose run is another owner's by now.
    """
    session = engine.sessions.get(run.run_id)
    if session is None or run.owner != engine.owner or run.status in CLOSED:
        return None
    return session if session.is_being_interrupted else None


def _wait_until_ended(engine: Engine, session: Session) -> None:
    """Wait for an interrupted continuation to end on the loop: a call goes on after it, and not with it."""
    wakeup = engine.threads.wakeup()
    with session.lock:
        session.completion.when_done(wakeup.set)
    with engine.interrupts.waiting(wakeup):
        if not engine.clock.wait(wakeup, SAY_AFTER_S):
            say_waiting(session)
            engine.clock.wait(wakeup, None)
    engine.interrupts.check()


def _say_attached(engine: Engine, request: RunRequest, call: CallKey, run: RunRow) -> None:
    """Say that a run is joined or its result returned, unless a key asks for it, and whose it is if not the user's."""
    with engine.access.current() as reader:
        is_own = own_runs(engine.signer, reader, [run])
    if not is_own:
        say(f"{call.name}: the result is that of run {run.run_id}, {FOREIGN}. {_to_start_anew(call)}")
    elif request.policy.key is None:
        is_of_here = (run.execution or "").startswith(engine.owner)
        where, again = ("", "") if is_of_here else (" in another kernel", " each time until something is edited")
        recorded = (
            f"nothing was edited since run {run.run_id} completed {_age(engine, run)} ago{where}: its result is "
            f"returned{again}"
        )
        joined = f"run {run.run_id} is going on already, and this call joins it"
        say(f"{call.name}: {recorded if run.status in CLOSED else joined}. {_to_start_anew(call)}")


def _say_new(engine: Engine, call: CallKey, begin: Begin) -> None:
    """Say why a new run is begun, if there was an equal call."""
    after = begin.after
    if begin.because is not None:
        say(f"{call.name}: a new run is started, because {begin.because}")
    elif after is not None and begin.takes_over:
        say(
            f"{call.name}: a new run is built on run {after.run_id}, completed {_age(engine, after)} ago: "
            f"{_plan_text(begin.planned, 'reused if called as before')}. {_to_start_anew(call)}"
        )
    elif after is not None and begin.planned and (work_s := _work_s(begin.planned)) > SAY_WORK_S:
        say(
            f"{call.name}: nothing was edited since run {after.run_id} completed {_age(engine, after)} ago; a new run "
            f"does its {spoken(work_s)} of work again. For its result: iron.get_run({after.run_id!r}).result()"
        )
    elif after is not None and frontend() is not None:  # in a script nobody reads it
        _say_what_failed(engine, after)


def _plan_text(planned: Sequence[Planned], kept: str) -> str:
    """Return how many finished steps an edit leaves as they are, and which ones are done again because of it."""
    done = [each for each in planned if each.row.status is StepStatus.COMPLETED]
    finished = [each for each in done if each.action is not Action.RETRY]  # which was asked for
    edited = [each for each in finished if each.action is Action.REDO and each.row.child_run_id is not None]
    finished = [each for each in finished if each not in edited]
    redone = [each for each in finished if each.action is Action.REDO]
    stopping = [each for each in finished if each.action is Action.STOP]
    n_kept = len(finished) - len(redone)
    parts = [f"{counted(n_kept, 'finished step')} {are(n_kept)} {kept}"] if finished or not edited else []
    if redone:
        parts.append(f"{len(redone)} {are(len(redone))} done again ({_reasons(redone)})")
    if edited:  # a child is taken on, and its steps are looked at one by one
        n_runs = len(edited)
        parts.append(f"{counted(n_runs, 'child run')} {are(n_runs)} gone through step by step ({_reasons(edited)})")
    if stopping:
        parts.append(f"it stops before {len(stopping)} of them {are(len(stopping))} done again ({_reasons(stopping)})")
    return ", ".join(parts)


def _reasons(redone: Sequence[Planned]) -> str:
    reasons = dict.fromkeys(f"{each.row.name}: {each.reason.partition(';')[0]}" for each in redone)
    more = f" and {len(reasons) - 2} more" if len(reasons) > 2 else ""
    return f"{', '.join([*reasons][:2])}{more}; {spoken(_work_s(redone))} of work"


def _work_s(planned: Sequence[Planned]) -> float:
    return sum(each.row.duration_s or 0.0 for each in planned)


def _age(engine: Engine, run: RunRow) -> str:
    return spoken(max(engine.clock.now() - run.updated_at, 0) / 1e6)


def _to_start_anew(call: CallKey) -> str:
    return f"To start anew: {call.name}.options(fresh=True)(...)"


def _say_what_failed(engine: Engine, run: RunRow) -> None:
    """Say how to try again the failed steps of a completed run that its last continuation called."""
    with engine.access.current() as reader:
        if not any(tally.status in FAILURES for tally in reader.tallies([run.run_id]).get(run.run_id, [])):
            return
        latest = {row.step: row.status for row in reader.steps(Select(run_ids=[run.run_id]))}
        left_out = unused_steps(reader, run)
    n_failed = sum(status in FAILURES and step not in left_out for step, status in latest.items())
    if n_failed:
        say(
            f"{run.name}: a new run is started; in run {run.run_id}, which is completed, {counted(n_failed, 'step')} "
            f'failed. To try those again there: iron.get_run("{run.run_id}").resume(retry="failed")'
        )


def _anew(engine: Engine, request: RunRequest, call: CallKey, origin: RunRow | None) -> Session | RunRow:
    """Begin a new run, built on its origin or a fork of it; return only its row if a worker is to execute it."""
    access, policy = engine.access, request.policy
    run_id = request.run_id or access.new_run_id()
    writer = RunWriter(access, run_id, policy.durability or engine.durability)
    storage = _storage(engine, request)
    storage.refuse_secrets("the key of a run", policy.key)
    is_for_others = request.detach or request.has_no_caller
    inputs = _inputs_for_others(storage, request) if is_for_others else storage.store_inputs(request.arguments)
    position = None if origin is None else _fork_position(engine, request)
    begun = _beginning(writer, request, call, inputs, origin, position)
    if is_for_others or (engine.is_worker and request.parent is None):
        writer.detach()
    if request.detach:
        writer.define(storage.definition(request.define()))
        writer.commit(begun, PendingEvent(RunDetached(asked_by=access.owner)))
        assert writer.row is not None
        return writer.row
    if request.is_text:
        _add_text(engine, request, storage, writer)
    results = () if request.fork is None else request.fork.results
    if policy.key is None and request.parent is None and request.fork is None:
        writer.defer(begun)
    else:
        writer.commit(begun, *(PendingEvent(each.event, each.step, 1, values=each.values) for each in results))
    built_on, recorded = None, []
    if origin is not None:
        with access.current() as reader:
            built_on = base_run_of(access.signer, reader, origin.run_id, position, writer.defer)
            recorded = list(reader.attempts(run_id)) if results else []
    check = None if request.fork is None else request.fork.check
    kind = Replayer if check is None else partial(CheckedReplayer, check)
    replayer = kind(access, run_id, call.name, policy.on_change, recorded, origin=built_on)
    session = Session(writer, replayer, storage, start_performer=engine.start_performer, desk=engine.lanes)
    _look_after(engine, session, request)
    return session


def _beginning(
    writer: RunWriter,
    request: RunRequest,
    call: CallKey,
    inputs: list[StoredValue],
    origin: RunRow | None,
    position: int | None,
) -> PendingEvent:
    """Return the first event of a new run, with its arguments and their signature."""
    access, policy = writer.access, request.policy
    parent_run_id, parent_step = request.parent or (None, None)
    inputs_id = inputs[-1].value_id
    signature = signature_of_run(access.signer, writer.run_id, call, policy.key, inputs_id)
    started = RunStarted(
        kind=call.kind, name=call.name, owner=access.owner, durability=writer.durability.value,
        definition=request.definition_id, inputs_digest=call.inputs_digest, inputs=inputs_id,
        execution=call.execution, ordinal=call.ordinal, key=policy.key, notebook=notebook_path(),
        parent_run_id=parent_run_id, parent_step=parent_step,
        origin_run_id=None if origin is None else origin.run_id, origin_position=position, trace=current_trace(),
    )  # fmt: skip
    mail = Mail(additions=request.additions) if request.additions else NO_MAIL
    return PendingEvent(started, values=[*inputs, signature], mail=mail)


def _add_text(engine: Engine, request: RunRequest, storage: RunStorage, writer: RunWriter) -> None:
    """Have the text of a graph written with the next commit: other processes have it from the journal only."""
    if request.definition_id not in engine.access.defined:
        writer.define(storage.definition(request.define()))


def _inputs_for_others(storage: RunStorage, request: RunRequest) -> list[StoredValue]:
    """Return the arguments of a call that another process is to make, whatever their size.

    Raises:
        InputsNotStored: nothing stores one of them, or one has a secret.
    """
    inputs = storage.store_inputs(request.arguments, limit=math.inf)
    lost = input_references(inputs[-1])[2]
    if lost:
        raise InputsNotStored(
            f"the arguments {', '.join(lost)} of {request.name} can't be pickled, so no worker can be given them; call "
            "it here, or pass what they are made from",
            run_id="",
            arguments=[*lost],
        )
    if any(map(has_lost_secret, inputs)):
        raise InputsNotStored(
            f"an argument of {request.name} has a secret, and its text is not in the journal, so no worker gets "
            'it; pass iron.Secret.from_env("NAME"), which a worker reads for itself',
            run_id="",
        )
    return inputs


def _fork_position(engine: Engine, request: RunRequest) -> int | None:
    """Return the position at which the run leaves its origin: its own, or that of its parent."""
    if request.fork is not None or request.parent is None:
        return None if request.fork is None else request.fork.position
    parent = engine.sessions.get(request.parent[0])
    origin = None if parent is None else parent.replayer.origin
    return None if origin is None else origin.position


def _storage(engine: Engine, request: RunRequest) -> RunStorage:
    """Return the encoder of the run's values. A child hides the secrets that its parent hides."""
    parent = None if request.parent is None else engine.sessions.get(request.parent[0])
    return RunStorage(engine.codecs) if parent is None else parent.storage


def _look_after(engine: Engine, session: Session, request: RunRequest) -> None:
    session.describe(
        sites=CallSites(request.function, request.definition_id),
        rejoined_by=rejoined_by(engine, request.policy) if request.notes_end else None,
        define=None if request.definition_id in engine.access.defined else request.define,
        compensates_on_cancel=request.policy.compensate_on_cancel,
    )
    if session.compensation is None:
        session.limit_time(TimeLimits(request.policy.timeout_s, request.policy.deadline_s), session.replayer.owned_s)
        admit(engine, session, request)
    session.run_bodies_in(request.policy.executor)
    engine.wake_with(Waker)
    engine.open_session(session)


def _continued(engine: Engine, request: RunRequest, call: CallKey, run: RunRow) -> Session:
    earlier = engine.sessions.get(run.run_id)
    with engine.access.current() as reader:
        compensation = interrupted_compensation(reader, run)
    if earlier is None:
        writer = RunWriter(engine.access, run.run_id, request.policy.durability or engine.durability)
        replayer = _take_on(engine, request, call, run, writer)
        session = Session(
            writer, replayer, _storage(engine, request), start_performer=engine.start_performer, desk=engine.lanes
        )
    else:
        session = earlier
        # Bodies of the earlier continuation still run; none of them may commit between the reading and the taking.
        with session.lock:
            session.flush()
            session.reopen(_take_on(engine, request, call, run, session.writer))
    session.continue_compensation(compensation)
    _look_after(engine, session, request)
    return session


def _take_on(engine: Engine, request: RunRequest, call: CallKey, run: RunRow, writer: RunWriter) -> Replayer:
    """Read what is recorded of the run, and commit that this engine continues it.

    Raises:
        JournalConflict: the run is no longer as it was when it was decided to continue it.
    """
    access, on_change = engine.access, request.policy.on_change
    if request.is_rerun and request.define_steps is not None:
        request.define_steps()
    with access.current() as reader:
        refuse_changed(reader, run)
        recorded = list(reader.attempts(run.run_id))
        head = reader.head(run.run_id)
        was = derived_run_status(run.status, owner_is_alive=is_owned(engine, reader, run))
        stale = reader.signals([run.run_id])
        foreign = "" if own_runs(access.signer, reader, [run]) else f", {FOREIGN}"
        continued_before = continuations(reader, run)
        edited = children_edited(reader, run, (row for row, _ in recorded))
        worked_s = _owned_s(reader, run, head[1] if head is not None else run.updated_at)
        origin = base_run_of(access.signer, reader, run.origin_run_id, run.origin_position, writer.defer)
        is_detached = bool(reader.work(QueueSelect(run_ids=[run.run_id], kind=DETACHED)))
        rows = [row for row, _ in recorded] if request.is_rerun else []
        planned, n_inside = plan_of_edits(reader, run, rows, on_change), n_kept_inside(reader, rows)
    assert head is not None
    writer.go_on_after(*head, run)
    for signal in stale:  # a request to an owner that is gone does not concern this one
        if is_stop(signal.name):
            assert signal.signal_id is not None
            writer.post(Mail(taken=(signal.signal_id,)))
    n_deaths = engine.waking.get(run.run_id) if is_detached or engine.is_worker else None
    writer.detach(n_deaths if run.parent_run_id is None else None)
    if is_detached and not writer.is_detached:
        writer.post(DONE)
    is_takeover = run.status is not was and run.owner is not None
    continued = _continuation(engine, request, call, writer.durability, worked_s, is_takeover=is_takeover)
    if request.is_text:
        _add_text(engine, request, _storage(engine, request), writer)
    writer.commit(PendingEvent(continued))
    discards = discarded([*continued_before, (writer.version, continued)])
    replayer = Replayer(
        access, run.run_id, call.name, on_change, recorded, discarded=discards, kept=continued.keep, origin=origin,
        children_edited=edited,
    )  # fmt: skip
    replayer.owned_s = worked_s
    replayer.advise({each.row.name for each in planned if each.action is Action.REDO}, request.new_adviser)
    if request.is_rerun and request.call is None:
        steps = _plan_text(planned, "kept") if planned else format_kept(replayer, n_inside)
        ago = spoken(max(engine.clock.now() - head[1], 0) / 1e6)
        _say_continued(call, run, f"{was.value} {ago} ago{foreign}", steps)
    return replayer


def _say_continued(call: CallKey, run: RunRow, how: str, steps: str) -> None:
    if run.status is RunStatus.COMPENSATING:
        steps = "it has failed, and what it did goes on to be undone"
    say(f"{call.name}: continuing run {run.run_id} ({how}); {steps}. {_to_start_anew(call)}")


def _owned_s(reader: Reader, run: RunRow, newest_at: int) -> float:
    """Return for how long owners have worked on the run; the last one at least until its last sign of life."""
    before_s, began_at = 0.0, run.started_at
    if run.n_sessions > 1:
        row = reader.events(Select(run_ids=[run.run_id], name=RunContinued.__name__))[-1]
        before_s, began_at = decode_as(RunContinued, row.data).owned_s, row.at
    lease = reader.leases().get(run.owner or "")
    seen_at = newest_at if lease is None else max(newest_at, lease.heartbeat_at)
    return owned_s(run, before_s, began_at, seen_at)


def _continuation(
    engine: Engine, request: RunRequest, call: CallKey, durability: Durability, worked_s: float, *, is_takeover: bool
) -> RunContinued:
    options = request.options
    return RunContinued(
        reason=(ContinuationReason.TAKEOVER if is_takeover else request.reason).value, owner=engine.owner,
        definition=request.definition_id, durability=durability.value, owned_s=worked_s,
        execution=call.execution if request.is_rerun else None, ordinal=call.ordinal if request.is_rerun else 0,
        notebook=notebook_path(), retry=options.retry, rerun=options.rerun, keep=options.keep,
    )  # fmt: skip
