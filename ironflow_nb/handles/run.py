"""The handle of a run: its status, its result, its history; resume, cancel, pause."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.plan import NONE
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import JournalError, NotInRun, RunFinished
from ironflow_nb.execution import REGISTRY, SCOPE, Engine, Session, StopRequest, is_edited, send_signal
from ironflow_nb.handles.forks import begin_fork, copy_for_fork
from ironflow_nb.handles.open_questions import answer_question
from ironflow_nb.handles.recorded_run import RecordedRun
from ironflow_nb.handles.run_edits import inject, refuse_secrets_by_hand, undo
from ironflow_nb.handles.run_plan import plan_of, resume_options
from ironflow_nb.handles.run_report import RunReport, report_of
from ironflow_nb.handles.stop_requests import ask_to_stop, refuse_to_detach
from ironflow_nb.history import run_status
from ironflow_nb.history.lookup import resolve_run
from ironflow_nb.history.run_status import run_and_status
from ironflow_nb.retention.deletion import delete_run
from ironflow_nb.retention.redaction import redact_step

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ironflow_nb.core.moments import Moment
    from ironflow_nb.handles.snapshot import Snapshot
    from ironflow_nb.history.pictured_frame import Plan

T = TypeVar("T")


class Run(RecordedRun, Generic[T]):
    """One execution of a flow, here or anywhere else on the journal."""

    def __init__(self, engine: Engine, run_id: RunId, session: Session | None = None) -> None:
        super().__init__(engine, run_id)
        self._session = session

    # -- status ------------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until the run has ended: completed, failed, interrupted, cancelled or paused.

        Raises:
            ResultTimeout: it still runs after `timeout_s`.
        """
        run_status.wait_ended(self._engine, self.id, timeout_s)
        return self

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the run and return its value, or raise the exception with which it failed.

        Raises:
            RunFailed: it failed, and its own exception can't be rebuilt in this process.
            RunInterrupted: it was interrupted or paused, and can be continued.
            RunCancelled: it was cancelled.
            ResultTimeout: it still runs after `timeout_s`.
        """
        __tracebackhide__ = True
        run, status = run_status.wait_ended(self._engine, self.id, timeout_s)
        session = self._session
        row = None if session is None else session.writer.row
        is_latest = run is None or row is None or row.session_version == run.session_version
        own = None if session is None or not is_latest else session.completion  # it may have been continued since
        if own is not None and own.is_done:
            if own.error is None:
                return own.value  # type: ignore[no-any-return]
            is_unrecorded = status is RunStatus.INTERRUPTED and isinstance(own.error, JournalError)
            if status is RunStatus.FAILED or is_unrecorded:
                raise own.error
        return run_status.result_of(self._engine, run, self.id, status)  # type: ignore[no-any-return]

    def completed_here(self) -> tuple[T] | None:
        """Return the value with which this process has completed the run, without a look at the journal, or None."""
        completion = None if self._session is None else self._session.completion
        if completion is None or not completion.is_done or completion.error is not None:
            return None
        return (completion.value,)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> T:
        return await awaited(self._engine, self.id, self.result)

    @property
    def error(self) -> BaseException | None:
        """The exception with which the run failed, rebuilt; None if it did not fail."""
        run, status = run_status.run_and_status(self._engine, self.id)
        return (
            run_status.recorded_failure(self._engine, run) if run is not None and status is RunStatus.FAILED else None
        )

    def resume(
        self,
        *,
        retry: str | Iterable[object] | None = None,
        rerun: str | Iterable[object] | None = None,
        keep: str | Iterable[object] | None = None,
    ) -> Run[T]:
        """Continue the run in the background with its recorded arguments; return at once.

        The step that failed it is tried again. A running run is left alone, and so is a completed one without options.

        Args:
            retry: steps to try again whose failures the flow has handled; ``"failed"`` for all of them.
            rerun: finished steps that run again, also if their code and arguments are unchanged.
            keep: finished steps whose results are kept, though their code has changed.

        A step is named by its function, by its name (all its calls), or as ``"fetch[12]"``.

        Raises:
            FlowNotDefined: the flow is not defined in this process.
            UntrustedRun: another user began it; `trust` says what to do.
            InputsNotStored: its arguments were too large to be stored.
            ValueUnreadable: its arguments can't be read here.
            StepNotFound, AmbiguousStep: the run has no such step, or steps of several functions.
            NothingToDo: none of the named steps can be tried again, run again or kept.
            RunFinished: it was cancelled, or options were given and it is running.
        """
        run, status = run_status.run_and_status(self._engine, self.id)
        if run is None:
            return self
        options = NONE
        if not (retry is None and rerun is None and keep is None):
            options = resume_options(self._attempts(), self.id, status, retry=retry, rerun=rerun, keep=keep)
        elif status is RunStatus.CANCELLED:
            raise RunFinished(
                f"run {self.id} was cancelled, so it is not continued; begin a new one, or go on from a moment of it: "
                f"iron.get_run({self.id!r}).fork(at=-3)",
                run_id=self.id,
            )
        elif status is RunStatus.RUNNING or (status is RunStatus.COMPLETED and not self._is_edited(run)):
            return self
        REGISTRY.definition(run, self._engine).continue_run(self._engine, run, options)
        return Run(self._engine, self.id, self._engine.sessions.get(self.id))

    def _is_edited(self, run: RunRow) -> bool:
        with self._engine.reading() as reader:
            return is_edited(reader, run)

    # -- edits -------------------------------------------------------------------------------------------------

    def inject(self, step: object, value: object, *, reason: str) -> Self:
        """Give a step a result by hand: one that is finished, failed, waits, or whose outcome is unknown.

        The edit is an event with its reason, who made it, and the old result, which stays in history. When the run
        goes on, the step is not performed, whatever its code is; what gets the result as an argument runs again, and
        everything else is reused. A run that has ended goes on with `resume`, also if it was completed; `plan` says
        before what would run again. A run that is going on is paused before its next step, and continued in the
        background of this process. A child is edited by its own handle, and continued with the run that called it.

        Args:
            step: its function, ``"fetch"`` if that is unique, or ``"fetch[12]"``; a node of a graph.
            value: the result; another type than before is allowed, and said.
            reason: why, for those who read the history.

        Raises:
            StepNotFound, AmbiguousStep: it names no step that has run, or several.
            NothingToDo: the step is running, was skipped, or was undone.
            ValueNotStorable: nothing stores the value.
            RunFinished: the run was cancelled, or what it did is being undone.
            FlowNotDefined: the run is going on, and its flow is not defined here, so it is left alone.
            UntrustedRun: another user began it.
            NotAllowedInStep: it was called inside a flow or a step.
        """
        inject(self._engine, self.id, step, value, a_text("reason", reason))
        return self

    def undo(self, *, reason: str | None = None) -> Self:
        """Take back the latest result that was given by hand: what was recorded before it counts again.

        Repeated, it takes back the one before. A run that has ended goes on with `resume`; see `inject`.

        Raises:
            NothingToDo: nothing was given by hand, or all is taken back.
            RunFinished, FlowNotDefined, UntrustedRun, NotAllowedInStep: as for `inject`.
        """
        undo(self._engine, self.id, None if reason is None else a_text("reason", reason))
        return self

    def fork(
        self,
        at: Moment | Snapshot | None = None,
        *,
        replace: Mapping[Any, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        into: Engine | None = None,
    ) -> Run[T]:
        """Begin a new run that goes on from a moment of this one, in the background; return it at once.

        It continues by a replay: what this run had finished until then is reused, by reference, and the rest is done.
        This run stays as it is, and what happens in it later is not the fork's. What runs once and was done here,
        before or after that moment, is not done again; where the fork would do it with other arguments, it stops and
        asks.

        Args:
            at: the moment, as for `at`; a snapshot is one, too. By default now.
            replace: results by hand for steps, named as for `inject`; also for steps that come after that moment.
            inputs: other arguments of the flow by name, or other items of the input of a graph.
            into: the engine of another journal, as `ironflow_nb.open` returns it; this run is copied there first.

        Raises:
            VersionNotFound: the run had not begun then, or had ended.
            StepNotFound, AmbiguousStep: `replace` names no step, or several.
            OutcomeUnknown: something that runs once was at work then, and its outcome is not known.
            FlowNotDefined, UntrustedRun, InputsNotStored: as for `resume`.
            NotAllowedInStep: it was called inside a flow, a step, or an item of a map.
            ValueError: the run is of a decider or a durable cell; or it is a child, which can't be copied alone.
            JournalConflict: `into` has an earlier copy of the run, or the run was deleted there.
        """
        engine, history = self._engine, self._history
        if into is not None and into is not engine:
            history, at = copy_for_fork(engine, history, at, into)
            engine = into
        forked = begin_fork(engine, history, at, replace, inputs)
        return Run(engine, forked, engine.sessions.get(forked))

    def cancel(self) -> Self:
        """Ask the owner of the run to cancel it before its next step; return at once.

        Bodies that are running are not disturbed, and their results are recorded. A run without an owner is cancelled
        here.

        Raises:
            RunFinished: it is completed.
        """
        ask_to_stop(self._engine, self.id, StopRequest.CANCEL)
        return self

    def pause(self) -> Self:
        """Ask the owner of the run to stop before its next step; return at once. The run can be continued.

        Raises:
            RunFinished: the run has ended.
        """
        ask_to_stop(self._engine, self.id, StopRequest.PAUSE)
        return self

    def detach(self) -> Self:
        """Hand the run over to a worker, ``python -m ironflow_nb work MODULE``; return at once.

        Its owner gives it up before its next step, and any worker that defines its flow continues it; steps that are
        finished stay so. One that failed, was paused or interrupted is handed over as it is. The run survives this
        process from then on. `resume` takes a pending one back; one that a worker executes after
        ``run.pause().wait()``.

        Raises:
            RunFinished: it is completed or cancelled.
            InputsNotStored: its arguments were too large to be stored, so no other process can be given them.
            ValueError: it is a child, which goes where its parent goes, or no run of a flow or graph.
        """
        self._engine.flush()
        run = run_and_status(self._engine, self.id)[0]
        if run is not None:
            refuse_to_detach(self._engine, run)
        ask_to_stop(self._engine, self.id, StopRequest.DETACH)
        return self

    def signal(self, name: str, payload: object = None, *, id: str | None = None) -> Self:
        """Send a signal to the run, from any process; return at once. `wait_for` in its flow gets the payload.

        It is kept until a wait for it begins, and ends one wait.

        Args:
            name: what the flow waits for.
            payload: what it gets.
            id: the sender's own id of this signal: sent again, also after the run has ended, it is the same signal.

        Raises:
            RunFinished: the run is completed or cancelled.
            DuplicateKey: a signal with that id had another name or payload.
            ValueError: no signal can have that name or id, or the run is of a decider, which takes commands.
            ValueNotStorable: no codec takes the payload.
        """
        self._engine.flush()
        send_signal(self._engine, self.id, name, payload, id)
        return self

    def answer(self, value: object, step: object = None) -> Self:
        """Answer a question of the run, `ironflow_nb.approve` or `ask`, from any process; return at once.

        The first answer is taken, and recorded with who gave it and when. A run that asks nothing itself is answered
        for its child runs.

        Args:
            value: what fits the question; `ironflow_nb.waiting` says what does.
            step: the question, ``"iron.ask[1]"``, if the run asks several.

        Raises:
            InputInvalid: the value does not fit, and the run waits on.
            NothingToDo: the run asks nothing now, or somebody else has just answered.
            AmbiguousStep: it asks several questions; the message lists them.
            StepNotFound: `step` names no question.
            RunFinished: the run is completed or cancelled.
        """
        answer_question(self._engine, self.id, value, step)
        return self

    def delete(self) -> None:
        """Delete the run for ever: its history, its children, and the values that nothing else refers to.

        Results of its steps with ``cache=`` stay, for they are those of all runs. `ironflow_nb.prune` deletes many.

        Raises:
            NothingToDo: it goes on, a fork of it exists, or a run that can be continued is built on it.
            ValueError: it is a child, which goes with its parent, or no run of a flow or graph.
        """
        delete_run(self._engine, self.id)

    def redact(self, step: object, *, reason: str | None = None) -> None:
        """Erase the recorded output of a step for ever; a marker says who did it, when and why.

        It is erased where it came from this step: in the run with its children and parents and in runs that took it
        over, as output and as argument; in value files, previews, results for all runs, and the log of the step. A part
        of it in another value stays, and so does an equal value that another run has computed. A continued run that
        needs it stops with the marker's words; ``resume(rerun=[step])`` lets the step run again.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
            NothingToDo: the step has no output, or a run that has it goes on.
        """
        refuse_secrets_by_hand(self._engine, self.id, {"the reason": reason})
        redact_step(self._engine, self.id, step, reason)

    def report(self) -> RunReport:
        """Return what is recorded of the run as one text: diagram, call, steps, errors, edits, log.

        It displays itself; ``run.report().save("report.html")`` (or ``.md``) writes a file that needs nothing else.
        """
        return report_of(self)

    def plan(self, *, inject: Mapping[Any, Any] | None = None) -> Plan:
        """Return what `resume` would do with each recorded step, and why; see `Flow.plan`.

        Args:
            inject: results that would be given by hand, by step as for `inject`. Nothing is recorded. What has such a
                result among its arguments would run again, as far as the record of the call shows it.
        """
        run = run_status.run_and_status(self._engine, self.id)[0]
        assert run is not None
        return plan_of(self._engine, run, inject=inject)


async def awaited(engine: Engine, name: str, ask: Callable[[], T]) -> T:
    """Return what a call that waits returns, without holding up the loop."""
    import asyncio
    from concurrent.futures import Future

    # A thread of its own: the end of the loop and of the process would wait for a thread of the loop's pool.
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()
    engine.threads.spawn(f"ironflow-await-{name}", partial(_set_result, answer, ask))
    with engine.hearing_interrupts():
        return await asyncio.wrap_future(answer)


def _set_result(answer: Future[T], ask: Callable[[], T]) -> None:
    try:
        answer.set_result(ask())
    except BaseException as error:  # noqa: BLE001 -- the awaiting code gets every exception
        answer.set_exception(error)


def current_run() -> Run[Any]:
    """Return the run of the calling code: in a flow, in its branches and tasks, and in the bodies of its steps.

    Raises:
        NotInRun: the code is in no run, or in the body of a step that an executor performs in another process.
    """
    scope = SCOPE.get()
    if scope is None or scope.is_in_worker:
        where = "outside of every run" if scope is None else "in a worker of an executor, which has nothing of its run"
        raise NotInRun(
            f"iron.current_run() was called {where}; call it in a flow or step, and pass on what it returns",
            name="current_run",
        )
    return Run(REGISTRY.engine_of(scope.access), scope.run_id, scope.session)


def get_run(run_id: str) -> Run[Any]:
    """Return the run with this id, or with this prefix if no other run has it.

    Raises:
        RunNotFound, AmbiguousRun: no run or several runs have it; the message lists some.
    """
    engine = REGISTRY.engine()
    with engine.reading() as reader:
        return Run(engine, resolve_run(reader, run_id).run_id)


def resume(
    run_id: str,
    *,
    retry: str | Iterable[object] | None = None,
    rerun: str | Iterable[object] | None = None,
    keep: str | Iterable[object] | None = None,
) -> Run[Any]:
    """Continue a run in the background; see `Run.resume`."""
    return get_run(run_id).resume(retry=retry, rerun=rerun, keep=keep)
