"""Flows: functions whose calls are durable runs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, cast, overload

from msgspec.structs import replace

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.ids import RunId, StepRef
from ironflow_nb.core.joining import OnRerun
from ironflow_nb.core.orders import NONE, Orders
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.core.verdict import OnChange
from ironflow_nb.errors import DefinitionError, NotAllowedInStep, RunNotFound
from ironflow_nb.execution.beginning import begin
from ironflow_nb.execution.children import attempt_async_child, attempt_child
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.recorded import recorded_arguments
from ironflow_nb.execution.request import Body, Policy, Request
from ironflow_nb.execution.runner import call, call_async
from ironflow_nb.execution.running import await_child, await_here, run_here, run_in_background
from ironflow_nb.execution.scope import SCOPE, Scope
from ironflow_nb.execution.spec import StepSpec, one_of
from ironflow_nb.flows.definition import define, definition_id
from ironflow_nb.flows.documentation import documentation
from ironflow_nb.flows.steps import Step, arguments_of
from ironflow_nb.handles.pictures import bundle_of
from ironflow_nb.handles.planned import plan_of_call
from ironflow_nb.handles.run import Run
from ironflow_nb.history import frames
from ironflow_nb.journal.ports import Durability, Select

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.history.plans import Plan

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Flow(Generic[P, R]):
    """A function whose calls are durable runs. `fn` is the undecorated function."""

    __ironflow_definition__: Final = "flow"
    kind: Final = "flow"

    def __init__(self, fn: Callable[P, R], *, name: str | None = None, policy: Policy | None = None) -> None:
        self.fn = fn
        self.spec = StepSpec(fn, name=name)
        self.policy = policy or Policy()
        HOME.define_step(self.spec)
        functools.update_wrapper(self, fn)

    @property
    def name(self) -> str:
        """The name that its runs carry."""
        return self.spec.name

    @property
    def on_change(self) -> OnChange:
        """What happens to finished steps whose code has changed; see `flow`."""
        return self.policy.on_change

    # -- running -------------------------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return its value; a repeated cell continues the run that it began and did not finish.

        A def flow runs in the calling thread. An async flow is awaited, and runs on the engine's own loop. Called in
        another flow it is a child of that run: recorded there like a step, and continued with it.

        Raises:
            NotAllowedInStep: it was called inside a step.
        """
        __tracebackhide__ = True
        scope = SCOPE.get()
        if scope is not None and scope.step is None and self.policy.key is None:
            return cast("R", self._call_child(scope, args, kwargs))
        self._refuse_inside()
        engine = HOME.engine()
        request, body = self._request(args, kwargs)
        if self.spec.is_async:
            return cast("R", self._await(engine, request, body))
        value = run_here(engine, request, body)
        if isinstance(value, RunRow):
            return cast("R", self._follow(engine, request, body, value))
        return cast("R", value)

    def _call_child(self, scope: Scope, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        __tracebackhide__ = True
        engine = HOME.engine()
        request, body = self._request(args, kwargs)

        def requested(run_id: RunId, parent: tuple[RunId, StepRef]) -> Request:
            return replace(request, run_id=run_id, reason="resume", parent=parent, reopens=True)

        def run(run_id: RunId, parent: tuple[RunId, StepRef]) -> Any:
            __tracebackhide__ = True
            asked = requested(run_id, parent)
            value = run_here(engine, asked, body)
            return self._follow(engine, asked, body, value) if isinstance(value, RunRow) else value

        async def run_async(run_id: RunId, parent: tuple[RunId, StepRef]) -> Any:
            value = await await_child(engine, requested(run_id, parent), body)
            return await Run[Any](engine, value.run_id) if isinstance(value, RunRow) else value

        if self.spec.is_async:
            attempt = attempt_async_child(engine, run_async)
            return call_async(self.spec, scope, body.args, body.kwargs, attempt)
        return call(self.spec, scope, body.args, body.kwargs, attempt_child(engine, run))

    def _follow(self, engine: Engine, request: Request, body: Body, run: RunRow) -> Any:
        """Wait for a run that goes on elsewhere; if its owner dies meanwhile, continue it here."""
        __tracebackhide__ = True
        while True:
            handle: Run[Any] = Run(engine, run.run_id)
            if handle.wait().status is not RunStatus.INTERRUPTED:
                return handle.result()
            value = run_here(engine, replace(request, run_id=run.run_id, reason="takeover"), body)
            if not isinstance(value, RunRow):
                return value

    async def _await(self, engine: Engine, request: Request, body: Body) -> Any:
        value = await await_here(engine, request, body)
        return await Run[Any](engine, value.run_id) if isinstance(value, RunRow) else value

    @overload
    def start(self: Flow[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    @overload
    def start(self: Flow[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    def start(self, *args: Any, **kwargs: Any) -> Run[Any]:
        """Run the flow in the background and return its `Run` at once.

        Raises:
            NotAllowedInStep: it was called inside a step.
        """
        self._refuse_inside()
        return self._start(HOME.engine(), *self._request(args, kwargs))

    def _start(self, engine: Engine, request: Request, body: Body) -> Run[Any]:
        begun = begin(engine, request, in_main_thread=False)
        if isinstance(begun, RunRow):
            return Run(engine, begun.run_id)
        run_in_background(engine, begun, body)
        return Run(engine, begun.run_id, begun)

    def _refuse_inside(self) -> None:
        scope = SCOPE.get()
        if scope is None:
            return
        if scope.step is not None:
            what = (
                f"inside step {scope.step}, where no run can be begun; call {self.name}.fn(...) there, a plain function"
            )
        else:
            what = "with key= or start() inside another flow; call it plainly, as a child of the run that is going on"
        raise NotAllowedInStep(f"flow {self.name} was called {what}", name=self.name)

    def _request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Request, Body]:
        plain_args, plain_kwargs = arguments_of(args, kwargs)
        arguments = self.spec.parameters.bind(plain_args, plain_kwargs)
        request = Request(
            kind=self.kind,
            name=self.name,
            definition_id=definition_id(self.spec),
            define=functools.partial(define, self.spec),
            arguments=arguments,
            policy=self.policy,
        )
        return request, Body(self.fn, plain_args, dict(plain_kwargs))

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """Return what a call would do with what is recorded, one row for each recorded step, by first start.

        Columns: step, name, index, action, reason (why, in a few words), duration_s (recorded work of the attempt that
        the reason speaks of), attempt, finished_at. The actions: reuse, replay (a failure that the flow lived with),
        retry, redo (its code has changed), stop (as redo, but the run stops first: `CodeChanged`), ask (runs once, and
        nobody knows what came of it), missing (no step of that name is defined here). `headline` sums it up.

        Nothing runs. Steps that will be new, and arguments that will differ, only show when the flow runs.
        """
        return plan_of_call(HOME.engine(), self._request(args, kwargs)[0])

    def resume(self) -> Run[Any]:
        """Continue the latest unfinished run in the background, with its recorded arguments; return it at once.

        Raises:
            RunNotFound: every run of the flow is completed or cancelled, or there is none.
            InputsNotStored: its arguments were too large to be stored.
        """
        engine = HOME.engine()
        for run in self._runs(engine):
            handle: Run[Any] = Run(engine, run.run_id)
            status = handle.status
            if status in ENDED - {RunStatus.COMPLETED, RunStatus.CANCELLED}:
                self.continue_run(engine, run)
                return Run(engine, run.run_id, engine.sessions.get(run.run_id))
            if status not in ENDED:
                return handle
        raise RunNotFound(f"{self.name} has no unfinished run in {engine.ledger.journal.location}", name=self.name)

    def continue_run(self, engine: Engine, run: RunRow, orders: Orders = NONE) -> RunId:
        """Continue the run in the background with its recorded arguments, under `orders`; return its id."""
        args, kwargs = self.spec.parameters.positional(recorded_arguments(engine, run))
        request, body = self._request(args, kwargs)
        asked = replace(request, run_id=run.run_id, reason="resume", orders=orders)
        return self._start(engine, asked, body).id

    def options(
        self,
        *,
        key: str | None = None,
        fresh: bool = False,
        on_rerun: str | None = None,
        continue_within: Duration | None = None,
        on_change: str | None = None,
        durability: str | None = None,
    ) -> Flow[P, R]:
        """Return the same flow with other options; what is not given stays.

        Args:
            key: the same key is the same run, for ever; with other arguments it is refused.
            fresh: begin a new run, whatever was begun before.
            on_rerun: see `flow`.
            continue_within: see `flow`.
            on_change: see `flow`.
            durability: see `flow`.
        """
        policy = replace(
            self.policy,
            key=key if key is not None else self.policy.key,
            fresh=fresh or self.policy.fresh,
            **_options(on_rerun, continue_within, on_change, durability),
        )
        other = copy.copy(self)  # with the same spec, whose code was read already
        other.policy = policy
        return other

    # -- history -------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Run[Any] | None:
        """The newest run of the flow, if there is one."""
        engine = HOME.engine()
        newest = self._runs(engine, limit=1)
        return Run(engine, newest[0].run_id) if newest else None

    def runs(self) -> pd.DataFrame:
        """Return the runs of the flow; see `ironflow_nb.runs`."""
        return frames.runs(flow=self)

    def events(self) -> pd.DataFrame:
        """Return the events of the runs of the flow; see `ironflow_nb.events`."""
        return frames.events(flow=self)

    def _runs(self, engine: Engine, limit: int | None = None) -> list[RunRow]:
        with engine.reading() as reader:
            found = reader.runs(Select(kind=self.kind, name=self.name))
        return [run for run in found if run.name == self.name][:limit]

    def getdoc(self) -> str:
        """Return what ``main?`` shows in a notebook; IPython asks for it by this name."""
        return documentation("flow", self.spec, self.policy)

    def __ironflow_digest__(self) -> bytes:
        return digest_bytes(self.spec.name.encode() + self.spec.code)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:  # noqa: ARG002
        from ironflow_nb.flows.shape import picture_of_flow  # noqa: PLC0415 -- only who looks at a flow draws it

        return bundle_of(picture_of_flow(self.spec))

    def __repr__(self) -> str:
        return f"flow {self.spec.name}{self.spec.parameters}"


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    on_rerun: str = "continue",
    continue_within: Duration = "7d",
    on_change: str = "guard",
    durability: str | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    on_rerun: str = "continue",
    continue_within: Duration = "7d",
    on_change: str = "guard",
    durability: str | None = None,
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a durable flow: ``@flow`` or ``@flow(name=...)``.

    Args:
        function: a ``def`` or ``async def`` whose work is done by steps.
        name: what its runs are called; by default the qualified name, with the module unless it is ``__main__``.
        on_rerun: ``"continue"`` lets a repeated cell, or a script that is started again, take on the unfinished run
            of the same call; ``"reuse"`` also takes the result of a completed one, if no code of it has changed;
            ``"new"`` begins a new run each time.
        continue_within: how old an unfinished run may be to be taken on, in seconds or as ``"7d"``.
        on_change: what happens to finished steps whose code has changed: ``"guard"`` redoes up to a minute of
            recorded work and stops before more, ``"refresh"`` always redoes, ``"keep"`` takes the recorded results,
            ``"strict"`` always stops.
        durability: ``"power"`` or ``"process"``; by default that of the journal's engine.

    Raises:
        DefinitionError: it is no function.
        ValueError: an option has a value that it does not know.
    """

    def make(fn: Callable[P, R]) -> Flow[P, R]:
        if isinstance(fn, Flow | Step):
            raise DefinitionError(f"{fn!r} can't be made a flow; decorate the function itself")
        policy = Policy(**_options(on_rerun, continue_within, on_change, durability))
        made = Flow(fn, name=name, policy=policy)
        HOME.define(made)
        return made

    return make if function is None else make(function)


flow.__ironflow_decorator__ = True  # type: ignore[attr-defined]


def _options(
    on_rerun: str | None, continue_within: Duration | None, on_change: str | None, durability: str | None
) -> dict[str, Any]:
    """Return the options that were given, as a `Policy` takes them."""
    given: dict[str, Any] = {}
    if on_rerun is not None:
        given["on_rerun"] = one_of(OnRerun, on_rerun, "on_rerun")
    if continue_within is not None:
        given["continue_within_s"] = seconds(continue_within)
    if on_change is not None:
        given["on_change"] = one_of(OnChange, on_change, "on_change")
    if durability is not None:
        given["durability"] = one_of(Durability, durability, "durability")
    return given
