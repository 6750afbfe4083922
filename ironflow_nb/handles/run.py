"""The handle of a run: its status, its result, its history; resume, cancel, pause."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.plan import NONE
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunKind, RunStatus, StepStatus
from ironflow_nb.errors import JournalError, StepNotFound, ValueUnreadable
from ironflow_nb.execution import FOREIGN, REGISTRY, Engine, Session, StopRequest, own_runs, send_signal
from ironflow_nb.handles.explanation import Explanation, explain_step
from ironflow_nb.handles.open_questions import answer_question
from ironflow_nb.handles.recorded_call import RecordedCall, push_to_notebook, recorded_call, step_to_debug
from ironflow_nb.handles.run_picture import bundle_of, picture_of
from ironflow_nb.handles.run_plan import plan_of, resume_options
from ironflow_nb.handles.stop_requests import ask_to_stop, refuse_to_detach
from ironflow_nb.history import frames, run_status
from ironflow_nb.history.lookup import resolve_run, resolve_step, resolve_steps
from ironflow_nb.history.recorded_values import arguments_of_run, read_value
from ironflow_nb.history.run_status import run_and_status
from ironflow_nb.history.telemetry_frames import log_of, metrics
from ironflow_nb.journal.ports import Select
from ironflow_nb.retention.deletion import delete_run

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pandas as pd

    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.history.pictured_frame import Plan
    from ironflow_nb.history.run_log import RunLog

T = TypeVar("T")


class Run(Generic[T]):
    """One execution of a flow, here or anywhere else on the journal."""

    def __init__(self, engine: Engine, run_id: RunId, session: Session | None = None) -> None:
        self._engine = engine
        self._session = session
        self.id = run_id

    # -- status ------------------------------------------------------------------------------------------------

    @property
    def status(self) -> RunStatus:
        """The current status; a run whose process died is interrupted."""
        return run_status.run_and_status(self._engine, self.id)[1]

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
        own = None if self._session is None else self._session.completion
        if own is not None and own.is_done:
            if own.error is None:
                return own.value  # type: ignore[no-any-return]
            is_unrecorded = status is RunStatus.INTERRUPTED and isinstance(own.error, JournalError)
            if status is RunStatus.FAILED or is_unrecorded:
                raise own.error
        return run_status.result_of(self._engine, run, self.id, status)  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> T:
        import asyncio
        from concurrent.futures import Future

        # A thread of its own: the end of the loop and of the process would wait for a thread of the loop's pool.
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()
        self._engine.threads.spawn(f"ironflow-await-{self.id}", partial(_set_result, answer, self.result))
        with self._engine.hearing_interrupts():
            return await asyncio.wrap_future(answer)

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
        elif status in {RunStatus.RUNNING, RunStatus.COMPLETED}:
            return self
        REGISTRY.definition(run, self._engine).continue_run(self._engine, run, options)
        return Run(self._engine, self.id, self._engine.sessions.get(self.id))

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

    def plan(self) -> Plan:
        """Return what `resume` would do with each recorded step, and why; see `Flow.plan`."""
        run = run_status.run_and_status(self._engine, self.id)[0]
        assert run is not None
        return plan_of(self._engine, run)

    def explain(self, step: object) -> Explanation:
        """Return why the attempts of a step ran: it was new, edited, failed, or which of its arguments changed.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
        """
        rows = self._attempts()
        return explain_step(self._engine, self.id, rows, resolve_step(rows, step, self.id))

    def debug(self, step: object = None) -> RecordedCall:
        """Return a recorded call of a step, to be repeated by hand; by default of the one that failed the run.

        In a notebook `inputs`, `error` and `error_text` become variables, and the next cell is ready: it calls the
        undecorated function with `inputs`. Arguments that were not stored are named there. If another user began the
        run, no variable is assigned and no cell is proposed.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several; or no step has failed it.
            InputsNotStored: the arguments are missing in the journal.
            ValueUnreadable: an argument can't be read here.
        """
        rows = self._attempts()
        with self._engine.reading() as reader:
            ref = step_to_debug(reader, self.id, self.status, rows, step)
        is_own = self._is_own(run_status.run_and_status(self._engine, self.id)[0])
        call = recorded_call(self._engine, [row for row in rows if row.step == ref][-1], is_own=is_own)
        push_to_notebook(call)
        return call

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The recorded arguments of the call, by name; of a graph its input.

        Each one is decoded on access. One that was not stored, because it is larger than 1 MB or can't be pickled, is
        listed, and its access raises `InputsNotStored`.

        Raises:
            InputsNotStored: they are missing in the journal or damaged.
        """
        with self._engine.reading() as reader:
            run = reader.runs(Select(run_ids=[self.id]))
        return arguments_of_run(self._engine, run[0]) if run else {}

    # -- history -----------------------------------------------------------------------------------------------

    def steps(self) -> pd.DataFrame:
        """Return its steps; see `ironflow_nb.steps`."""
        return frames.steps(run=self.id, engine=self._engine)

    def attempts(self) -> pd.DataFrame:
        """Return every attempt of its steps; see `ironflow_nb.attempts`."""
        return frames.attempts(run=self.id, engine=self._engine)

    def events(self) -> pd.DataFrame:
        """Return its events; see `ironflow_nb.events`."""
        return frames.events(run=self.id, engine=self._engine)

    def metrics(self) -> pd.DataFrame:
        """Return the values that were recorded in it; see `ironflow_nb.metrics`."""
        return metrics(run=self.id, engine=self._engine)

    def log(self, step: object = None) -> RunLog:
        """Return what its flow and its steps have written to stdout, stderr and logging, by time, a line a row.

        It displays itself as text, and ``str(run.log())`` is the text. Columns: run_id, step (empty for what the flow
        wrote between its steps), attempt (of the flow the number of the continuation), at, stream (``stdout``,
        ``stderr``, ``logging``, or ``omitted`` for the line in place of the middle of a long log), level (of logging),
        text.

        Args:
            step: only the log of this step, or of all steps of a function: the function, ``"fetch"``, ``"fetch[12]"``.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or those of several functions.
        """
        return log_of(self._engine, self.id, step)

    def value(self, step: object) -> Any:
        """Return the recorded output of a step, named by its function, ``"fetch"`` or ``"fetch[12]"``.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
            StepNotFound: the step has no output (yet).
            ValueUnreadable: the output can't be read here.
        """
        rows = self._attempts()
        ref = resolve_step(rows, step, self.id)
        latest = _latest_output(rows, ref)
        if latest is None:
            now = next(row.status.value for row in reversed(rows) if row.step == ref)
            raise StepNotFound(f"{ref} of run {self.id} is {now} and has no output", run_id=self.id, step=ref)
        return self._read_output(latest)

    def values(self, step: object) -> list[Any]:
        """Return the recorded outputs of all steps of that function or name that have one, by index.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or those of several functions.
            ValueUnreadable: an output can't be read here.
        """
        rows = self._attempts()
        found = [_latest_output(rows, ref) for ref in resolve_steps(rows, step, self.id)]
        return [self._read_output(row) for row in found if row is not None]

    def inputs(self, step: object) -> dict[str, Any]:
        """Return the recorded arguments of a step by name, those of its latest attempt.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
            InputsNotStored: they are missing in the journal.
            ValueUnreadable: one of them can't be read here.
        """
        rows = self._attempts()
        ref = resolve_step(rows, step, self.id)
        return recorded_call(self._engine, [row for row in rows if row.step == ref][-1]).inputs

    def diagram(self) -> Picture:
        """Return the current picture of the run, which displays itself in a notebook and has `svg` and `text`."""
        return picture_of(self._engine, self.id)

    def _is_own(self, run: RunRow | None) -> bool:
        """Return True if this user began the run; instances of deciders belong to every user."""
        if run is None or run.kind == RunKind.DECIDER or self.id in self._engine.sessions:
            return True
        with self._engine.access.journal.reading() as reader:
            return bool(own_runs(self._engine.access.signer, reader, [run]))

    def _attempts(self) -> list[StepRow]:
        with self._engine.reading() as reader:
            return reader.steps(Select(run_ids=[self.id]))

    def _read_output(self, row: StepRow) -> Any:
        assert row.output_id is not None
        with self._engine.reading() as reader:
            stored = reader.values([row.output_id], of=[row.row_key]).get(row.output_id)
        if stored is None:
            raise ValueUnreadable(
                f"the output of {row.step} of run {self.id} is missing in the journal; put that back from a copy",
                run_id=self.id,
                step=row.step,
            )
        try:
            return read_value(self._engine, stored)
        except ValueUnreadable as error:
            error.add_note(f"It is the recorded result of {row.step} in run {self.id}.")
            raise

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle_of(picture_of(self._engine, self.id))

    def __repr__(self) -> str:
        try:
            run, status = run_status.run_and_status(self._engine, self.id)
            foreign = "" if self._is_own(run) else f", {FOREIGN}"
        except Exception as error:  # noqa: BLE001 -- a repr never raises, also if the journal can't be read
            return plain(f"<run {self.id}: {error}>")
        name = run.name if run is not None else "?"
        durability = run.durability if run is not None else self._engine.durability.value
        return plain(f"<run {self.id} of {name}: {status.value}, durability={durability}{foreign}>")


def _latest_output(rows: list[StepRow], ref: StepRef) -> StepRow | None:
    done = (row for row in reversed(rows) if row.step == ref and row.status is StepStatus.COMPLETED)
    return next(done, None)


def _set_result(answer: Future[T], ask: Callable[[], T]) -> None:
    try:
        answer.set_result(ask())
    except BaseException as error:  # noqa: BLE001 -- the awaiting code gets every exception
        answer.set_exception(error)


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
