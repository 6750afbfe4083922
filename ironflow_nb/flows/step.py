"""Steps: functions whose calls in a flow are recorded.

Definitions in classes: taken of an object or class they are bound to it, as methods are.
"""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, overload

from msgspec import UNSET, UnsetType

from ironflow_nb.core.breaker_rules import BreakerRule
from ironflow_nb.core.durations import Duration
from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.lanes import Lane
from ironflow_nb.core.retry import Retry
from ironflow_nb.errors import DefinitionError, NotInRun
from ironflow_nb.execution import (
    DEFAULTS,
    REGISTRY,
    SCOPE,
    RunContext,
    StepOptions,
    StepSpec,
    call_body,
    durable_calls,
    is_foreign_thread,
    with_step_options,
)
from ironflow_nb.flows.results import MapResult, StepFuture, map_items, submit_call

if TYPE_CHECKING:
    from concurrent.futures import Executor

_INSIDE: Final = frozenset({"bound_to", "receiver", "refuse_lost_class", "getdoc", "spec"})
"""What is the package's own, and nothing to choose from with Tab."""


class Bindable:
    """A step or flow that may stand in the body of a class.

    `fn` is the undecorated function; of a bound definition it is bound as well, and `receiver` holds what to.
    """

    fn: Any

    def __init__(self, given: Any) -> None:
        """Take what was decorated: a function, or a class method or static method around one."""
        self._given = given
        self.receiver: tuple[Any, ...] = ()
        self.fn = given.__func__ if isinstance(given, classmethod | staticmethod) else given

    def bound_to(self, instance: object, owner: type | None) -> Self:
        """Return the definition bound as what was decorated would be; itself, if that takes no receiver."""
        get = None if self.receiver else getattr(type(self._given), "__get__", None)
        fn = self.fn if get is None else get(self._given, instance, owner)
        if fn is self.fn:
            return self
        bound = object.__new__(type(self))  # copy.copy takes six times as long, at every call
        vars(bound).update(vars(self))
        bound.fn, bound.receiver = fn, (fn.__self__,)
        return bound

    @property
    def __self__(self) -> Any:
        """The object it is bound to, for `functools.partialmethod` and other code that inspects methods."""
        if not self.receiver:
            raise AttributeError("it is bound to nothing", name="__self__", obj=self)
        return self.receiver[0]

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INSIDE]

    def refuse_lost_class(self) -> None:
        """Refuse what Python takes past the class since 3.13: an attribute of a class method around a definition.

        Raises:
            DefinitionError: that is so; the first argument would be taken for the class.
        """
        code = getattr(self._given, "__code__", None)
        if (
            self.receiver
            or not isinstance(code, types.CodeType)
            or code.co_varnames[: code.co_argcount][:1] != ("cls",)
            or not _is_in_class(self._given.__qualname__)
        ):
            return
        raise DefinitionError(
            f"{self._given.__qualname__} is a class method whose class is not known here; write its decorator above "
            "@classmethod and not below it",
            name=self._given.__qualname__,
        )


def _is_in_class(qualname: str) -> bool:
    """Return True if the qualified name is that of a function in the body of a class."""
    return qualname.rpartition(".")[0].rpartition(".")[2] not in {"", "<locals>"}


P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")

Key = str | Callable[..., object]
Undo = Callable[..., object]


class Step(Bindable, Generic[P, R]):
    """A function whose calls inside a flow are durable; outside of one, and inside another step, it is just called.

    `fn` is the undecorated function. A step that is a method takes its object as an argument: that identifies the call,
    and what the body changes of it is not recorded.
    """

    __ironflow_definition__: Final = "step"
    fn: Callable[P, R]

    def __init__(self, fn: Callable[P, R], *, name: str | None = None, options: StepOptions = DEFAULTS) -> None:
        super().__init__(fn)
        self.spec = StepSpec(self.fn, name=name, options=options)
        REGISTRY.define_step(self.spec)
        functools.update_wrapper(self, self.fn)

    @property
    def name(self) -> str:
        """The name under which its calls are recorded."""
        return self.spec.name

    @property
    def depends(self) -> tuple[Any, ...]:
        """What was declared to count as its code."""
        return self.spec.depends

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function: recorded, or answered from what is recorded."""
        __tracebackhide__ = True
        scope = SCOPE.get()
        if scope is None:
            refuse_foreign_thread(self.name)
            return call_body(self.fn, args, kwargs)
        if scope.step is not None:
            return call_body(self.fn, args, kwargs)
        given = self.receiver + args if self.receiver else args
        if kwargs or MapResult in map(type, given):
            given, kwargs = arguments_of(given, kwargs)  # type: ignore[assignment]
        perform: Callable[..., Any] = durable_calls.call_async if self.spec.is_async else durable_calls.call
        result: R = perform(self.spec, scope, given, kwargs)
        return result

    @overload
    def submit(self: Step[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> StepFuture[T]: ...
    @overload
    def submit(self: Step[P, T], *args: P.args, **kwargs: P.kwargs) -> StepFuture[T]: ...
    def submit(self, *args: Any, **kwargs: Any) -> StepFuture[Any]:
        """Begin the call beside the flow and return its future, to be awaited in an async flow.

        Of ``def`` steps and of ``async def`` steps 64 submitted calls each run at once in a process, and the others
        wait for their turn; `map` takes the number.
        """
        self.refuse_lost_class()
        return submit_call(self.spec, _scope(self.name), *arguments_of(self.receiver + args, kwargs))

    @overload
    def map(
        self: Step[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        fixed: Mapping[str, Any] | None = None,
        concurrency: int = 8,
        on_error: str = "raise",
    ) -> MapResult[T]: ...
    @overload
    def map(
        self: Step[..., T],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        fixed: Mapping[str, Any] | None = None,
        concurrency: int = 8,
        on_error: str = "raise",
    ) -> MapResult[T]: ...
    def map(
        self,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        fixed: Mapping[str, Any] | None = None,
        concurrency: int = 8,
        on_error: str = "raise",
    ) -> MapResult[Any]:
        """Call the step for each item, `concurrency` at a time, and return the results in the order of the items.

        It returns at once. In a def flow the first access waits; in an async flow it is awaited, or read with
        ``async for``, and there the items may come from async iterables. `fixed` are keyword
        arguments that every call gets. With `on_error="raise"` the first failure stops what has not begun; with
        `"collect"` every item is tried, and a failed one has its exception in the place of its result.

        Raises:
            TypeError: no iterable was given, or one that can't be iterated.
            ValueError: two iterables have different lengths; `concurrency` is below 1, or `on_error` is neither "raise"
                nor "collect".
        """
        self.refuse_lost_class()
        return map_items(
            self.spec,
            _scope(self.name),
            iterables,
            receiver=self.receiver,
            fixed=arguments_of((), _mapping(fixed or {}))[1],
            concurrency=concurrency,
            on_error=on_error,
        )

    def options(  # noqa: PLR0913 -- the options of a step; keyword-only
        self,
        *,
        name: str | UnsetType | None = UNSET,
        key: Key | UnsetType | None = UNSET,
        retries: int | Retry | UnsetType | None = UNSET,
        timeout_s: Duration | UnsetType | None = UNSET,
        deadline_s: Duration | UnsetType | None = UNSET,
        overlap: bool | UnsetType | None = UNSET,
        once: bool | UnsetType | None = UNSET,
        cache: bool | Duration | UnsetType | None = UNSET,
        on_change: str | UnsetType | None = UNSET,
        depends: Iterable[Any] | UnsetType | None = UNSET,
        executor: Executor | Callable[[], Executor] | UnsetType | None = UNSET,
        compensate: Undo | UnsetType | None = UNSET,
        lane: Lane | str | UnsetType | None = UNSET,
        breaker: BreakerRule | str | UnsetType | None = UNSET,
    ) -> Step[P, R]:
        """Return the same step with other options; what is not given stays, and None is the default."""
        self.refuse_lost_class()
        options = with_step_options(
            self.spec.options, key=key, retries=retries, timeout_s=timeout_s, deadline_s=deadline_s, overlap=overlap,
            once=once, cache=cache, on_change=on_change, depends=depends, executor=executor,
            compensate=compensate, lane=lane, breaker=breaker,
        )  # fmt: skip
        chosen = self.spec.name if name is UNSET else name
        other: Step[P, R] = Step(self._given, name=chosen, options=options)
        other.fn, other.receiver = self.fn, self.receiver
        return other

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Step[P, R]: ...
    @overload
    def __get__(self: Step[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Step[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.bound_to(instance, owner)

    def getdoc(self) -> str:
        """Return what ``fetch?`` shows in a notebook; IPython asks for it by this name."""
        from ironflow_nb.flows.flow_definition import documentation

        return documentation("step", self.spec, self.spec.options)

    def __ironflow_digest__(self) -> bytes:
        receiver = [REGISTRY.engine().digester.digest(each).digest for each in self.receiver]
        return digest_bytes(b"".join([self.spec.name.encode(), self.spec.code, *receiver]))

    def __repr__(self) -> str:
        return f"step {self.spec.name}{self.spec.parameters}"


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    key: Key | None = None,
    retries: int | Retry | None = 0,
    timeout_s: Duration | None = None,
    deadline_s: Duration | None = None,
    overlap: bool | None = False,
    once: bool | None = False,
    cache: bool | Duration | None = None,
    on_change: str | None = None,
    depends: Iterable[Any] | None = (),
    executor: Executor | Callable[[], Executor] | None = None,
    compensate: Undo | None = None,
    lane: Lane | str | None = None,
    breaker: BreakerRule | str | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(  # noqa: PLR0913 -- the options of a step; keyword-only
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    key: Key | None = None,
    retries: int | Retry | None = 0,
    timeout_s: Duration | None = None,
    deadline_s: Duration | None = None,
    overlap: bool | None = False,
    once: bool | None = False,
    cache: bool | Duration | None = None,
    on_change: str | None = None,
    depends: Iterable[Any] | None = (),
    executor: Executor | Callable[[], Executor] | None = None,
    compensate: Undo | None = None,
    lane: Lane | str | None = None,
    breaker: BreakerRule | str | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a durable step: ``@step`` or ``@step(name=...)``. An option that is None has its default.

    Args:
        function: a ``def`` or ``async def``.
        name: what its calls are recorded under; by default the qualified name, with the module unless it is
            ``__main__``.
        key: a format string or function of the arguments that says what a call is about; calls with equal keys are
            the same step, whatever else their arguments are.
        retries: how often a failed body is tried again, after 1, 2, 4, ... and at most 60 seconds; or a `Retry`, which
            says how often it is tried at all, after how long, and after which exceptions. The waiting is part
            of the run: one that continues waits only for what is left, and has all its retries before it again.
        timeout_s: how long one attempt may take. One that takes longer is `timed_out`, and is tried again if `retries`
            says so. An ``async def`` body is cancelled. A ``def`` body runs on a thread of its own and is abandoned:
            what it returns later is discarded, and the next attempt waits until it has ended.
        deadline_s: how long all attempts and the waiting between them may take, from the start of the first one. A
            process that continues the run does not begin it anew.
        overlap: the next attempt does not wait until an abandoned body has ended.
        once: it must not happen twice: a mail, a payment. That it began is recorded before its body runs; it is not
            done again when its code changes, and where its process died in it the run stops with `OutcomeUnknown`.
        cache: its results are shared by all runs, for ever (True) or while they are not older than this (``"7d"``);
            one run at a time computes each.
        on_change: what happens to its finished calls when its code has changed; by default what the flow says.
        depends: what else counts as its code. Functions, classes and constants of yours that the function names do
            already, and so does what they name; add what it reaches in other ways: functions, classes, modules, paths
            (by the content of the file) and values.
        compensate: the function or step that undoes it, if its run fails in the end. It gets by their names those
            arguments of the call that it asks for, and in ``result``, or the one other parameter that needs a value,
            what the call returned. Undos are performed the newest first, as steps of the run, with their own retries.
        executor: where its body runs: a ``concurrent.futures.Executor``, or a function that makes one and is called
            again when that is broken. Processes get the function, the arguments and the result by cloudpickle. A
            worker that dies fails the attempt with `WorkerLost`. It neither identifies the step nor is recorded.
        lane: an `iron.Lane`: no more of its calls are at work at once, in all processes on the journal, than that says;
            they begin in the order of asking. A name is a lane for one at a time. Recorded results need no place in it.
        breaker: an `iron.Breaker`, or the name of one: after some failures in a row no attempt begins for a while, in
            any process on the journal; then one attempt decides.

    Raises:
        DefinitionError: it is no function, or a generator, or `depends` is no list, or what undoes it needs something
            else than the result and its arguments.
        DuplicateName: it, or what undoes it, is a lambda without a name.
        TypeError, ValueError: an option has a value that it does not know, or two of them contradict each other.
    """
    options = with_step_options(
        DEFAULTS, key=key, retries=retries, timeout_s=timeout_s, deadline_s=deadline_s, overlap=overlap,
        once=once, cache=cache, on_change=on_change, depends=depends, executor=executor,
        compensate=compensate, lane=lane, breaker=breaker,
    )  # fmt: skip
    if function is None:
        return functools.partial(Step, name=name, options=options)
    if isinstance(function, Step):
        raise DefinitionError(f"{function.name} is a step already")
    return Step(function, name=name, options=options)


step.__ironflow_decorator__ = True  # type: ignore[attr-defined]


def _mapping(fixed: object) -> Mapping[str, Any]:
    if isinstance(fixed, Mapping):
        return fixed
    raise TypeError(f"fixed is a mapping of arguments that every item gets, not {fixed!r}")


def arguments_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments with the results of maps as lists."""
    if MapResult in map(type, args) or MapResult in map(type, kwargs.values()):
        return tuple(map(_listed, args)), {name: _listed(value) for name, value in kwargs.items()}
    return args, kwargs


def _listed(value: Any) -> Any:
    return list(value) if type(value) is MapResult else value


def _scope(name: str) -> RunContext | None:
    """Return the scope if it is a flow's own; None where a step is a plain call."""
    scope = SCOPE.get()
    if scope is None:
        refuse_foreign_thread(name)
        return None
    return None if scope.step is not None else scope


def refuse_foreign_thread(name: str) -> None:
    """Refuse a call from a thread that belongs to no run, while one is active: it would silently not be recorded.

    Raises:
        NotInRun: that is so.
    """
    if not is_foreign_thread() or not REGISTRY.is_any_active():
        return
    raise NotInRun(
        f"step {name} was called in a thread that belongs to no run while a run is active, so nothing would be "
        f"recorded; use {name}.map(...) or {name}.submit(...), wrap what the thread does in iron.bind(...), or call "
        f"{name}.fn(...) if a plain call is meant",
        name=name,
    )
