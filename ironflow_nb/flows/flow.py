"""Flows: functions whose calls are durable runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, cast, overload

from ironflow_nb.core.durations import Duration
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.core.lanes import Lane
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import REGISTRY, SCOPE, FlowCall, RunPolicy, RunRequest, StepSpec, with_options
from ironflow_nb.flows.step import Bindable, Step, arguments_of
from ironflow_nb.handles.runnable import Runnable

if TYPE_CHECKING:
    from ironflow_nb.core.identity import RunId
    from ironflow_nb.core.recorded_steps import RecordedSteps
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.execution import JournalAccess
    from ironflow_nb.handles.explanation import VolatileArguments
    from ironflow_nb.handles.run import Run
    from ironflow_nb.history.pictured_frame import Plan
    from ironflow_nb.journal.ports import StoredDefinition
    from ironflow_nb.triggers.event_rules import EventTrigger

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")


class Flow(Bindable, Runnable, Generic[P, R]):
    """A function whose calls are durable runs. `fn` is the undecorated function.

    A flow that is a method takes its object as an argument, which is recorded with the run.
    """

    __ironflow_definition__: Final = "flow"
    fn: Callable[P, R]

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        policy: RunPolicy | None = None,
        trigger: EventTrigger | None = None,
    ) -> None:
        super().__init__(fn)
        self.spec = StepSpec(self.fn, name=name)
        self.name = self.spec.name
        self.policy = policy or RunPolicy()
        self.trigger = trigger
        if trigger is not None and trigger.on is not None:
            self._refuse_other_parameters()
        REGISTRY.define_step(self.spec)
        functools.update_wrapper(self, self.fn)

    @property
    def kind(self) -> str:
        """The style."""
        return RunKind.FLOW

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
            return cast("R", self.call_as_child(self.spec, scope, self.receiver + args, kwargs))
        return cast("R", self.run_call(self.receiver + args, kwargs))

    @overload
    def start(self: Flow[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    @overload
    def start(self: Flow[P, T], *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    @overload
    def start(self: Flow[..., Coroutine[Any, Any, T]], *args: Any, detach: bool, **kwargs: Any) -> Run[T]: ...
    @overload
    def start(self: Flow[..., T], *args: Any, detach: bool, **kwargs: Any) -> Run[T]: ...
    def start(self, *args: Any, **kwargs: Any) -> Run[Any]:
        """Run the flow in the background and return its `Run` at once.

        With ``detach=True`` it is not run here: a worker, ``python -m ironflow_nb work MODULE``, executes it, and it
        survives this process. So a flow can start another one beside itself, which it need not wait for. If the flow
        has a parameter `detach` itself, write ``flow.start(...).detach()``.

        Raises:
            NotAllowedInStep: it was called inside a step, or inside another flow without ``detach=True``.
            InputsNotStored: an argument can't be pickled, so no worker can be given it.
        """
        self.refuse_lost_class()
        is_own = "detach" in self.spec.parameters.signature.parameters
        detach = False if is_own else kwargs.pop("detach", False)
        return self.start_call(self.receiver + args, kwargs, detach=detach)

    def request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[RunRequest, FlowCall]:
        """See `Runnable`."""
        plain_args, plain_kwargs = arguments_of(args, kwargs)
        arguments = self.spec.parameters.bind(plain_args, plain_kwargs)
        request = RunRequest(
            kind=self.kind,
            name=self.name,
            definition_id=_definition_id(self.spec),
            define=functools.partial(_define, self.spec),
            arguments=arguments,
            policy=self.policy,
            function=self.spec.function,
            new_adviser=_new_adviser,
            call_key=lambda function: self.spec.called_with(function, arguments),
        )
        return request, FlowCall(self.spec.function, plain_args, dict(plain_kwargs))

    def recorded_call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Runnable`."""
        return self.spec.parameters.positional(arguments)

    def scheduled_call(
        self, args: Sequence[Any], inputs: Mapping[str, Any] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Startable`."""
        self.refuse_lost_class()
        return self.receiver + tuple(args), dict(inputs or {})

    def event_call(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Startable`."""
        return ((data,) if self.spec.parameters.signature.parameters else ()), {}

    def _refuse_other_parameters(self) -> None:
        """Refuse a flow that can't be called with the data of an event.

        Raises:
            DefinitionError: it needs more arguments, or none that is positional.
        """
        args, kwargs = self.event_call(None)
        try:
            self.spec.parameters.bind(args, kwargs)
        except TypeError as error:
            raise DefinitionError(
                f"flow {self.name} is started by events, whose data is its argument, so it takes one argument or none; "
                f"it is {self.name}{self.spec.parameters}: {error}"
            ) from None

    def _advice_in_step(self) -> str:
        return f"; call {self.name}.fn(...) there, a plain function"

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """Return what a call would do with what is recorded, one row for each recorded step, by first start.

        Columns: step, name, index, action, reason (why, in a few words), duration_s (recorded work of the attempt that
        the reason speaks of), attempt, finished_at. The actions: reuse, replay (a failure that the flow lived with),
        retry, redo (its code has changed), stop (as redo, but the run stops first: `CodeChanged`), ask (runs once, and
        nobody knows what came of it), missing (no step of that name is defined here). `headline` sums it up.

        Nothing runs. Steps that will be new, and arguments that will differ, only show when the flow runs.
        """
        self.refuse_lost_class()
        return self.plan_call(self.receiver + args, kwargs)

    def _copy(self) -> Self:
        """See `Runnable`."""
        self.refuse_lost_class()
        return super()._copy()

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Flow[P, R]: ...
    @overload
    def __get__(self: Flow[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Flow[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.bound_to(instance, owner)

    def diagram(self) -> Picture:
        """Return the picture of the flow, before any run."""
        from ironflow_nb.flows.flow_definition import picture_of_flow

        return picture_of_flow(self.spec)

    def getdoc(self) -> str:
        """Return what ``main?`` shows in a notebook; IPython asks for it by this name."""
        from ironflow_nb.flows.flow_definition import documentation

        return documentation("flow", self.spec, self.policy)

    def __ironflow_digest__(self) -> bytes:
        return digest_bytes(self.spec.name.encode() + self.spec.code)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from ironflow_nb.handles.run_picture import bundle_of

        return bundle_of(self.diagram())

    def __repr__(self) -> str:
        return f"flow {self.spec.name}{self.spec.parameters}"


def _definition_id(spec: StepSpec) -> Digest:
    """Return the id of the definition: of its name, its code, and that of the steps and helpers that it refers to."""
    return digest_bytes(f"flow {spec.name}\0".encode() + spec.code)


def _new_adviser(access: JournalAccess, run_id: RunId, recorded: RecordedSteps) -> VolatileArguments:
    from ironflow_nb.handles.explanation import VolatileArguments

    return VolatileArguments(access, run_id, recorded)


def _define(spec: StepSpec) -> StoredDefinition:
    """Return what the journal keeps of a flow."""
    from ironflow_nb.flows.flow_definition import define

    return define(spec, _definition_id(spec))


def _trigger(options: Mapping[str, Any]) -> EventTrigger | None:
    if all(each is None for each in options.values()):
        return None
    from ironflow_nb.triggers.event_rules import event_trigger

    return event_trigger(**options)


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    on_rerun: str | None = "continue",
    continue_within: Duration | None = "7d",
    reuse_within: Duration | None = "1d",
    on_change: str | None = "guard",
    timeout_s: Duration | None = None,
    deadline_s: Duration | None = None,
    compensate_on_cancel: bool | None = False,
    durability: str | None = None,
    lane: Lane | str | None = None,
    priority: int | None = 0,
    on: str | None = None,
    where: str | None = None,
    debounce_s: Duration | None = None,
    max_wait_s: Duration | None = None,
    cancel_on: str | Mapping[str, str] | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(  # noqa: PLR0913 -- the options of a flow; keyword-only
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    on_rerun: str | None = "continue",
    continue_within: Duration | None = "7d",
    reuse_within: Duration | None = "1d",
    on_change: str | None = "guard",
    timeout_s: Duration | None = None,
    deadline_s: Duration | None = None,
    compensate_on_cancel: bool | None = False,
    durability: str | None = None,
    lane: Lane | str | None = None,
    priority: int | None = 0,
    on: str | None = None,
    where: str | None = None,
    debounce_s: Duration | None = None,
    max_wait_s: Duration | None = None,
    cancel_on: str | Mapping[str, str] | None = None,
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a durable flow: ``@flow`` or ``@flow(name=...)``. An option that is None has its default.

    Args:
        function: a ``def`` or ``async def`` whose work is done by steps.
        name: what its runs are called; by default the qualified name, with the module unless it is ``__main__``.
        on_rerun: ``"continue"`` lets a repeated cell, or a script that is started again, take on the unfinished run
            of the same call, and builds on a completed one where a person works in a notebook: after an edit a new
            run takes over what the edit does not touch, and another kernel gets the recorded result if nothing was
            edited; ``"reuse"`` does so everywhere, and never does again what is completed and not edited; ``"new"``
            begins a new run each time.
        continue_within: how old an unfinished run may be to be taken on, in seconds or as ``"7d"``.
        reuse_within: how old a completed run may be to be built on, in seconds or as ``"7d"``.
        on_change: what happens to finished steps whose code has changed: ``"guard"`` redoes up to a minute of
            recorded work and stops before more, ``"refresh"`` always redoes, ``"keep"`` takes the recorded results,
            ``"strict"`` always stops.
        timeout_s: how long it may take to its end, each time that it is begun or continued. Then it stops at its next
            call or where it waits, an async one where it awaits, and fails with `RunTimeout`; its steps are cut off as
            if their own time was up. Its own code is never cut off.
        deadline_s: how long it may take in all, until it completes or fails. Only the time counts in which a process
            works on it.
        compensate_on_cancel: what its steps did is undone also when it is cancelled (``compensate=`` of a step,
            `on_failure`), and not only when it fails.
        durability: ``"power"`` or ``"process"``; by default that of the journal's engine.
        lane: an `iron.Lane`: no more of its runs are at work at once, in all processes on the journal, than that says.
            A run that was started and has to wait is pending, and holds no thread. While all of a run waits, for a
            signal for instance, it holds no place. A name is a lane for one at a time.
        priority: of those that wait in a lane, runs with a higher number begin first.
        on: the name of the events, emitted by `emit`, that each start a run, with the data as its argument.
        where: a JMESPath expression over the data: only events for which it is true start a run.
        debounce_s: put a run off until no such event has come for so long; the newest one starts it.
        max_wait_s: how long that may put it off at most.
        cancel_on: the name of the events that cancel live runs. A run is meant if its argument and the data of the
            event agree in every field that both have; or, of ``{"order.cancelled": "order.id"}``, in the value of this
            JMESPath expression.

    Raises:
        DefinitionError: it is no function, or started by events and does not take their data.
        ValueError: an option has a value that it does not know.
    """
    triggering = {
        "on": on, "where": where, "debounce_s": debounce_s, "max_wait_s": max_wait_s, "cancel_on": cancel_on
    }  # fmt: skip

    def make(fn: Callable[P, R]) -> Flow[P, R]:
        if isinstance(fn, Flow | Step):
            raise DefinitionError(f"{fn!r} can't be made a flow; decorate the function itself")
        policy = with_options(
            RunPolicy(),
            on_rerun=on_rerun,
            continue_within=continue_within,
            reuse_within=reuse_within,
            on_change=on_change,
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            compensate_on_cancel=compensate_on_cancel,
            durability=durability,
            lane=lane,
            priority=priority,
        )
        made = Flow(fn, name=name, policy=policy, trigger=_trigger(triggering))
        REGISTRY.define(made)
        return made

    return make if function is None else make(function)


flow.__ironflow_decorator__ = True  # type: ignore[attr-defined]
