"""What flows and graphs share: they are called, started, planned and continued as runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from ironflow_nb.core.durations import Duration
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.join import Begin
from ironflow_nb.core.lanes import Lane
from ironflow_nb.core.option_values import a_flag, a_text
from ironflow_nb.core.plan import NONE, ResumeOptions
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import CLOSED, ENDED, ContinuationReason, RunKind, RunStatus
from ironflow_nb.errors import DefinitionError, NotAllowedInStep, RunNotFound
from ironflow_nb.execution import (
    REGISTRY,
    SCOPE,
    Engine,
    FlowCall,
    Fork,
    RunContext,
    RunPolicy,
    RunRequest,
    Session,
    StepSpec,
    await_child,
    await_here,
    begin,
    decide,
    durable_calls,
    is_async,
    run_here,
    run_in_background,
    with_options,
)
from ironflow_nb.handles.startable import Startable
from ironflow_nb.journal.ports import CallKey, Select

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from ironflow_nb.handles.run import Run
    from ironflow_nb.handles.sweep import Sweep
    from ironflow_nb.history.pictured_frame import Plan

_INTERNAL_NAMES: Final = frozenset({
    "call_as_child", "call_by_name", "cancel_run", "continue_run", "event_call", "fork_run", "on_change", "plan_call",
    "policy", "prepared_request", "receiver", "refuse_secrets",
    "recorded_call", "refuse_inside", "request", "run_call", "scheduled_call", "start_alone", "start_call", "start_due",
    "start_keyed", "subscribe", "trigger", "wanted_events",
})  # fmt: skip
"""Public names for the package only, which completion leaves out."""


class Runnable(Startable):
    """A flow or graph: its calls are runs. A subclass translates between calls and recorded arguments."""

    policy: RunPolicy
    receiver: tuple[Any, ...] = ()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INTERNAL_NAMES]

    @property
    def on_change(self) -> OnChange:
        """What happens to finished steps whose code has changed; see `flow`."""
        return self.policy.on_change

    def options(  # noqa: PLR0913 -- the options of a definition; keyword-only
        self,
        *,
        key: str | UnsetType | None = UNSET,
        fresh: bool | UnsetType | None = UNSET,
        on_rerun: str | UnsetType | None = UNSET,
        continue_within: Duration | UnsetType | None = UNSET,
        reuse_within: Duration | UnsetType | None = UNSET,
        on_change: str | UnsetType | None = UNSET,
        timeout_s: Duration | UnsetType | None = UNSET,
        deadline_s: Duration | UnsetType | None = UNSET,
        compensate_on_cancel: bool | UnsetType | None = UNSET,
        durability: str | UnsetType | None = UNSET,
        executor: Executor | Callable[[], Executor] | UnsetType | None = UNSET,
        lane: Lane | str | UnsetType | None = UNSET,
        priority: int | UnsetType | None = UNSET,
    ) -> Self:
        """Return a copy with other options; an option that is not given stays, and None resets it to the default.

        Args:
            key: the same key is always the same run; a call with other arguments is refused.
            fresh: always begin a new run.
            on_rerun: see `flow`.
            continue_within: see `flow`.
            reuse_within: see `flow`.
            on_change: see `flow`.
            timeout_s: see `flow`.
            deadline_s: see `flow`.
            compensate_on_cancel: see `flow`.
            durability: see `flow`.
            executor: of those steps of it that have none themselves; see `step`. Child runs have their own.
            lane: see `flow`.
            priority: see `flow`.

        Raises:
            TypeError, ValueError: the value of an option is invalid.
        """
        if executor is not UNSET and executor is not None and self.kind != RunKind.FLOW:
            raise DefinitionError(f"executor= is of the steps of flows; the nodes of {self.kind} {self.name} have none")
        other = self._copy()
        other.policy = with_options(
            self.policy,
            key=key,
            fresh=fresh,
            on_rerun=on_rerun,
            continue_within=continue_within,
            reuse_within=reuse_within,
            on_change=on_change,
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            compensate_on_cancel=compensate_on_cancel,
            durability=durability,
            executor=executor,
            lane=lane,
            priority=priority,
        )
        return other

    def _copy(self) -> Self:
        """Return a copy that shares the code, which was already read."""
        return copy.copy(self)

    # -- running -------------------------------------------------------------------------------------------------

    def run_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run it in this thread and return its value, or return an awaitable if it is async."""
        __tracebackhide__ = True
        self.refuse_inside()
        engine = REGISTRY.engine()
        request, body = self.request(args, kwargs)
        if is_async(body):
            call = self.begin_call(engine, request, body)
            call.__qualname__ = request.name  # type: ignore[attr-defined]  # Python names it when nobody awaits it
            return call
        value = run_here(engine, request, body)
        return self._wait_elsewhere(engine, request, body, value) if isinstance(value, RunRow) else value

    def call_as_child(
        self,
        spec: StepSpec,
        scope: RunContext,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        recorded: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run it as a child of the run of `scope`, which records it as a call of `spec`.

        `recorded` are arguments to record in place of those of the call. With it, an async child is waited for, because
        the caller can't await.
        """
        __tracebackhide__ = True
        engine = REGISTRY.engine()
        request, body = self.request(args, kwargs)

        def requested(run_id: RunId, parent: tuple[RunId, StepRef]) -> RunRequest:
            return replace(request, run_id=run_id, reason=ContinuationReason.RESUME, parent=parent, reopens=True)

        def run(run_id: RunId, parent: tuple[RunId, StepRef]) -> Any:
            __tracebackhide__ = True
            asked = requested(run_id, parent)
            value = run_here(engine, asked, body)
            return self._wait_elsewhere(engine, asked, body, value) if isinstance(value, RunRow) else value

        async def run_async(run_id: RunId, parent: tuple[RunId, StepRef]) -> Any:
            value = await await_child(engine, requested(run_id, parent), body)
            return await _handle(engine, value.run_id) if isinstance(value, RunRow) else value

        def run_waiting(run_id: RunId, parent: tuple[RunId, StepRef]) -> Any:
            return durable_calls.wait_for_future(scope, engine.spawn(run_async(run_id, parent)))

        if recorded is not None:
            return durable_calls.call(spec, scope, (), recorded, run_waiting if is_async(body) else run)
        if is_async(body):
            return durable_calls.call_async(spec, scope, body.args, body.kwargs, run_async)
        return durable_calls.call(spec, scope, body.args, body.kwargs, run)

    def _wait_elsewhere(self, engine: Engine, request: RunRequest, body: FlowCall, run: RunRow) -> Any:
        """Wait for a run that another thread or process executes; if its owner dies meanwhile, continue it here."""
        __tracebackhide__ = True
        from ironflow_nb.handles.joined_run import wait_for_joined

        while True:
            handle = _handle(engine, run.run_id)
            wait_for_joined(engine, handle)
            if handle.status is not RunStatus.INTERRUPTED:
                return handle.result()
            value = run_here(engine, replace(request, run_id=run.run_id, reason=ContinuationReason.TAKEOVER), body)
            if not isinstance(value, RunRow):
                return value

    async def begin_call(self, engine: Engine, request: RunRequest, body: FlowCall) -> Any:
        """Run an async call on the loop of the caller, and return its value."""
        value = await await_here(engine, request, body)
        return await _handle(engine, value.run_id) if isinstance(value, RunRow) else value

    def start_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, detach: object = False) -> Run[Any]:
        """Run it in the background, or with `detach` on a worker, and return its `Run` at once.

        Raises:
            NotAllowedInStep: it was called inside a step, or without `detach` inside another run.
            InputsNotStored: an argument can't be pickled, so no worker can be given it.
        """
        scope = SCOPE.get()
        if not a_flag("detach", detach):
            self.refuse_inside()
            return self._start(REGISTRY.engine(), *self.request(args, kwargs))
        if scope is not None and scope.step is not None:
            self.refuse_inside()
        engine = REGISTRY.engine()
        request, _ = self.request(args, kwargs)
        run_id = (
            None if scope is None else durable_calls.recorded_run_id(scope, self.kind, self.name, request.arguments)
        )
        begun = begin(engine, replace(request, detach=True, run_id=run_id))
        return _handle(engine, begun.run_id)

    def _start(self, engine: Engine, request: RunRequest, body: FlowCall) -> Run[Any]:
        """See `Startable`."""
        if engine.is_dispatcher:
            request = replace(request, detach=True)
        with engine.interrupts.taken():
            begun = begin(engine, request)
            if isinstance(begun, RunRow):
                return _handle(engine, begun.run_id)
            run_in_background(engine, begun, body)
        return _handle(engine, begun.run_id, begun)

    def sweep(
        self, rows: Iterable[Any], *, concurrency: int = 8, key: str | Callable[..., object] | None = None
    ) -> Sweep:
        """Run it once for each row, `concurrency` runs at a time, in the background; return the `Sweep` at once.

        A repeated cell reuses the runs that are completed and goes on with the others; what an edit touches is done
        again, as for a single call. Equal rows are runs of their own.

        Args:
            rows: a DataFrame whose columns are named as the parameters, or an iterable of rows: dicts by name, tuples
                of positional arguments, and everything else as the one argument.
            concurrency: how many runs are at work at once; those that only wait do not count.
            key: what recognises a row, whatever its arguments are: the name of a parameter, or a function that gets the
                arguments by name. One key is one run, for ever; see `options`.

        Raises:
            InputInvalid: rows do not fit the parameters, or have no key or the same one. All of them are named, and
                nothing has run.
            NotAllowedInStep: it was called inside a step or another run.
        """
        from ironflow_nb.handles.sweep import begin_sweep

        self.refuse_inside()
        return begin_sweep(self, rows, concurrency=concurrency, key=key)

    def call_by_name(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments of a call with these arguments."""
        return self.receiver, dict(values)

    def refuse_inside(self) -> None:
        """Refuse a call where no run can begin.

        Raises:
            NotAllowedInStep: it was called inside a step or another run.
        """
        scope = SCOPE.get()
        if scope is None:
            return
        if scope.step is not None:
            what = f"inside step {scope.step}, where no run can be begun" + self._advice_in_step()
        else:
            what = (
                "with key= or start() inside another flow; call it without them, as a child of the running run, "
                "several side by side by iron.gather(...); or hand one over to workers by start(..., detach=True)"
            )
        raise NotAllowedInStep(f"{self.kind} {self.name} was called {what}", name=self.name)

    def _advice_in_step(self) -> str:
        """Return advice on what to write instead inside of a step, for the error message."""
        return ""

    def plan_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Plan:
        """Return what the call would do with recorded steps; see `Flow.plan`."""
        from ironflow_nb.handles.run_plan import plan_of_call

        return plan_of_call(REGISTRY.engine(), self.request(args, kwargs)[0])

    def resume(self) -> Run[Any]:
        """Continue the latest unfinished run in the background, with its recorded arguments; return it at once.

        Raises:
            RunNotFound: it has no run, or all its runs are completed or cancelled.
            UntrustedRun: another user began it; `trust` says what to do.
            InputsNotStored: its arguments were too large to be stored.
        """
        engine = REGISTRY.engine()
        for run in self._find_runs(engine, statuses=set(RunStatus) - CLOSED):
            handle = _handle(engine, run.run_id)
            status = handle.status
            if status in ENDED - CLOSED or status is RunStatus.PENDING:
                self.continue_run(engine, run)
                return _handle(engine, run.run_id, engine.sessions.get(run.run_id))
            if status not in ENDED:
                return handle
        raise RunNotFound(f"{self.name} has no unfinished run in {engine.journal.location}", name=self.name)

    def continue_run(self, engine: Engine, run: RunRow, options: ResumeOptions = NONE) -> RunId:
        """Continue the run in the background with its recorded arguments, under `options`; return its id.

        Raises:
            UntrustedRun: this user did not begin it.
        """
        from ironflow_nb.history.recorded_values import recorded_arguments

        with engine.reading() as reader:
            engine.access.refuse_foreign(reader, run)
        args, kwargs = self.recorded_call(recorded_arguments(engine, run))
        request, body = self.request(args, kwargs)
        asked = replace(request, run_id=run.run_id, reason=ContinuationReason.RESUME, options=options)
        return self._start(engine, asked, body).id

    def fork_run(self, engine: Engine, arguments: Mapping[str, Any], fork: Fork) -> RunId:
        """Begin a fork in the background with these arguments; return its id. No call of the definition joins it."""
        args, kwargs = self.recorded_call(arguments)
        request, body = self.request(args, kwargs)
        return self._start(engine, replace(_alone(engine, request, None), fork=fork), body).id

    def start_alone(self, engine: Engine, values: Mapping[str, Any], *, key: str | None = None) -> Run[Any]:
        """Begin a run in the background with these arguments by name, which no call of the definition joins.

        A run that has the key already is returned as it is: it is not continued.

        Raises:
            TypeError: the arguments do not fit.
            DuplicateKey: the run of that key was begun with other arguments.
        """
        request, body = self.prepared_request(*self.call_by_name(values))
        asked = _alone(engine, request, None if key is None else a_text("key", key))
        if key is not None:
            assert asked.call is not None
            with engine.reading() as reader:
                joining = decide(engine, reader, asked, asked.call)
            if not isinstance(joining, Begin):
                return _handle(engine, joining.run.run_id)
        return self._start(engine, asked, body)

    # -- history -------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Run[Any] | None:
        """The newest run of it, if there is one."""
        engine = REGISTRY.engine()
        newest = self._find_runs(engine, limit=1)
        return _handle(engine, newest[0].run_id) if newest else None

    def runs(self) -> pd.DataFrame:
        """Return its runs; see `ironflow_nb.runs`."""
        from ironflow_nb.history import frames

        return frames.runs(flow=self)

    def events(self) -> pd.DataFrame:
        """Return the events of its runs; see `ironflow_nb.events`."""
        from ironflow_nb.history import frames

        return frames.events(flow=self)

    def _find_runs(self, engine: Engine, **narrowed: Any) -> list[RunRow]:
        with engine.reading() as reader:
            return reader.runs(Select(kind=self.kind, name=self.name, is_full_name=True, **narrowed))


def _alone(engine: Engine, request: RunRequest, key: str | None) -> RunRequest:
    """Return the request for a run that no call joins, but those of its key."""
    inputs = engine.digester.arguments(request.name, request.arguments).digest
    call = CallKey(kind=request.kind, name=request.name, inputs_digest=inputs, ordinal=-1, execution=engine.execution())
    return replace(request, call=call, policy=replace(request.policy, key=key, fresh=key is None))


def _handle(engine: Engine, run_id: RunId, session: Session | None = None) -> Run[Any]:
    from ironflow_nb.handles.run import Run

    return Run(engine, run_id, session)
