"""The specification of a step of any style; and how its code differs from recorded code, in words."""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from string import Formatter
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from ironflow_nb.code_identity.code_parts import Change, CodePart, TrackedCode, changed_parts, decode_parts
from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.breaker_rules import BreakerRule, a_breaker
from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import Digest, step_name
from ironflow_nb.core.lanes import Lane, a_lane
from ironflow_nb.core.option_values import a_flag, a_name, a_text, an_executor, one_of
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.retry import MOST_ATTEMPTS, Retry, retrying
from ironflow_nb.core.time_limits import NO_LIMITS, time_limits
from ironflow_nb.errors import DefinitionError, DuplicateName, StepTimeout
from ironflow_nb.execution.definitions.parameters import CLOSURE, Parameters, undo_parameters
from ironflow_nb.journal.ports import StoredDefinition

KeyFunction = Callable[..., object]


class StepCode(Protocol):
    """Finds the code of a step."""

    def current(self) -> TrackedCode:
        """Return the code as it is now."""


class StepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of a step are recognised and performed; see `step`."""

    key: str | KeyFunction | None = None
    retries: int | Retry = 0
    once: bool = False
    timeout_s: Duration | None = None
    deadline_s: Duration | None = None
    overlap: bool = False
    cache: bool | Duration | None = None
    on_change: str | None = None
    depends: Iterable[Any] = ()
    executor: Any = None
    compensate: object = None
    lane: Lane | str | None = None
    breaker: BreakerRule | str | None = None


DEFAULTS: Final = StepOptions()


def with_step_options(options: StepOptions, **given: Any) -> StepOptions:
    """Return the options with those that are given; `UNSET` is not given, and None is the default."""
    chosen = {name: value for name, value in given.items() if value is not UNSET}
    usual = {name: getattr(DEFAULTS, name) for name, value in chosen.items() if value is None}
    return replace(options, **chosen | usual)


class StepSpec:
    """A function with the name, key and code under which its calls are recorded."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None,
        options: StepOptions = DEFAULTS,
        code: StepCode | None = None,
        parameters: Parameters | None = None,
        variant: str = "",
    ) -> None:
        """Check the function and the options now; the code is read at the first call.

        `code` and `parameters` are given where the function only performs what something else defines, and `variant`
        where several such things act under one name, side by side.

        Raises:
            DefinitionError: it is no function, or `depends` is no list.
            DuplicateName: it is a lambda without a name.
            ValueError: an option has a value that it does not know, or two of them contradict each other.
        """
        self.depends = _depends(options)
        self.options = replace(options, depends=self.depends)  # whatever could be read only once
        self.retry = _retry(options)
        self.once = a_flag("once", options.once)
        self.limits = time_limits(options.timeout_s, options.deadline_s)
        self.executor = None if options.executor is None else an_executor(options.executor)
        self.runs_apart = self.limits is not NO_LIMITS or self.executor is not None
        self.overlaps = a_flag("overlap", options.overlap)
        self.timeout_error: Callable[[str], StepTimeout] = StepTimeout
        self.grace_s = 0.0  # the extra time of a body that ends by itself when its time is up
        self.cache_s = _cache_s(options)
        self.lane = a_lane(options.lane)
        self.breaker = a_breaker(options.breaker)
        self.is_gated = self.lane is not None or self.breaker is not None
        self.on_change = None if options.on_change is None else one_of(OnChange, options.on_change, "on_change")
        _refuse_unless_function(function)
        self.qualname, self.variant = getattr(function, "__qualname__", type(function).__qualname__), variant
        self.function = function
        self.name = a_name(_own_name(function, self.qualname) if name is None else name)
        self.is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
        self.parameters = parameters or Parameters(function)
        self.key = _key(options, self.parameters)
        self.code_source: StepCode = code or Tracker(function, self.depends)
        self.compensate = None if options.compensate is None else _undo(options.compensate, self)

    def performed_by(self, function: Callable[..., Any], *, may_retry: Callable[[BaseException], bool]) -> StepSpec:
        """Return the same step, performed by another function, and tried again only if `may_retry` says so."""
        other = copy.copy(self)
        other.function, other.retry = function, replace(self.retry, on=may_retry)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker of an executor needs of it: not the executor, nor what was read of its code."""
        code = Tracker(self.function, self.depends)
        return vars(self) | {"executor": None, "options": replace(self.options, executor=None), "code_source": code}

    @property
    def code(self) -> Digest:
        """The identity of the code as it is now: of the function, and of the user's code that it refers to."""
        return self.code_source.current().digest

    @property
    def tracked(self) -> TrackedCode:
        """The parts of the code as it is now, and the names that are not tracked."""
        return self.code_source.current()

    def key_of(self, arguments: dict[str, Any]) -> object | None:
        """Return the semantic identity of a call, if the step has one."""
        if self.key is None:
            return None
        if isinstance(self.key, str):
            return self.key.format(**arguments)
        return self.called_with(self.key, arguments)

    def called_with(self, function: Callable[..., object], arguments: Mapping[str, Any]) -> object:
        """Call a function as the step was called."""
        own = {name: value for name, value in arguments.items() if not name.startswith(CLOSURE)}
        args, kwargs = self.parameters.positional(own)
        return function(*args, **kwargs)


def _refuse_unless_function(function: Callable[..., Any]) -> None:
    if not callable(function) or inspect.isclass(function):
        raise DefinitionError(f"a step or flow is made of a function, not of {function!r}")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DefinitionError(
            f"{function.__qualname__} is a generator, and what it yields can't be recorded; return a list instead"
        )


def _own_name(function: Callable[..., Any], qualname: str) -> str:
    """Return the name of a step that is given none.

    Raises:
        DuplicateName: the function has no name of its own.
    """
    if "<lambda>" in qualname or isinstance(function, partial):
        what = qualname.rpartition(".")[2].strip("<>")
        raise DuplicateName(
            f'every {what} has the same name; give the step its own: step({what} ..., name="...")', name=qualname
        )
    return step_name(getattr(function, "__module__", None), qualname)


class BindsUndo(Protocol):
    """Says which arguments an undo gets."""

    def bind(self, arguments: Mapping[str, Any], result: Any) -> dict[str, Any]:
        """Return the arguments of the undo of a call that had those and returned the result."""


class Undo(msgspec.Struct, frozen=True):
    """The step that undoes what another one did, and which arguments it gets."""

    spec: StepSpec
    parameters: BindsUndo


def undo_spec(undo: object) -> StepSpec:
    """Return the step of an undo: that of a step, or a new one for a plain function.

    Raises:
        DefinitionError: it is no function, or a flow, or has an option that no undo can have.
        DuplicateName: it is a lambda without a name.
    """
    definition = getattr(type(undo), "__ironflow_definition__", None)
    if definition not in {None, "step"}:
        raise DefinitionError(
            f"{undo!r} can't undo a step, for it begins a run of its own; give a function, or a step that does it"
        )
    given: Any = undo
    if definition is None:
        return StepSpec(given, name=None)
    spec: StepSpec = given.spec
    if spec.cache_s is not None:
        raise DefinitionError(f"{spec.name} has cache=, and what undoes something has to be done each time")
    if given.receiver:
        return StepSpec(given.fn, name=spec.name, options=spec.options)
    return spec


def _undo(given: object, step: StepSpec) -> Undo:
    spec = undo_spec(given)
    return Undo(spec, undo_parameters(spec.parameters, step.parameters, (spec.name, step.name)))


def _key(options: StepOptions, parameters: Parameters) -> str | KeyFunction | None:
    key = options.key
    if isinstance(key, str):
        try:
            fields = [field for _, field, _, _ in Formatter().parse(a_text("key", key)) if field is not None]
        except ValueError as error:
            raise ValueError(f"key={key!r} is no format string: {error}") from None
        known = parameters.signature.parameters
        for name in (re.split(r"[.\[]", field, maxsplit=1)[0] for field in fields):
            if name not in known:
                raise ValueError(f"key={key!r} names {name!r}, and the arguments are {', '.join(known) or 'none'}")
    elif key is not None and (not callable(key) or inspect.iscoroutinefunction(key)):
        raise ValueError(f"key is a format string or a function of the arguments, not {key!r}")
    return key


def _retry(options: StepOptions) -> Retry:
    if isinstance(options.retries, Retry):
        retry = options.retries
        if options.once and retry.attempts > 1 and retry.on is None:
            raise ValueError(
                "a step with once=True is tried again only after errors that prove it did not happen; name them: "
                "retries=iron.Retry(on=...)"
            )
        return retry
    if type(options.retries) is not int or not 0 <= options.retries < MOST_ATTEMPTS:
        raise ValueError(f"retries is how often a failed step is tried again, 0 or more, not {options.retries!r}")
    if options.retries and options.once:
        raise ValueError("a step with once=True is not tried again by itself; leave retries= or once= away")
    return retrying(options.retries)


def _cache_s(options: StepOptions) -> float | None:
    if options.cache is None or options.cache is False:
        return None
    cache_s = math.inf if options.cache is True else seconds(options.cache)
    if cache_s == 0:
        raise ValueError('cache is True, or how old a result may be, such as "7d"; 0 would never take any')
    if options.once:
        raise ValueError("cache= takes the result of another run, and once=True is for what must happen in this one")
    return cache_s


def _depends(options: StepOptions) -> tuple[Any, ...]:
    if isinstance(options.depends, str | bytes) or not isinstance(options.depends, Iterable):
        raise DefinitionError(
            f"depends is a list of what the step depends on, not {options.depends!r}; write [...] around it"
        )
    return tuple(options.depends)


Definitions = Callable[[Digest], StoredDefinition | None]
"""Returns the stored definition of a digest, or None."""

_NAMED: Final = 3


def why_changed(definition: Definitions, code: Digest, spec: StepSpec) -> str:
    """Return in a few words how the code of the step differs from that of the digest."""
    changes = changes_since(definition, code, spec.tracked.parts)
    if not changes:
        return "its code has changed"
    more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    from ironflow_nb.code_identity.referenced_values import explained

    return "; ".join(explained(change) for change in changes[:_NAMED]) + more


def changes_since(definition: Definitions, code: Digest, now: tuple[CodePart, ...]) -> tuple[Change, ...]:
    """Return what differs between the code of that digest, if the journal has it, and these parts."""
    then = parts_of(definition, code)
    return changed_parts(then, now) if then else ()


def parts_of(definition: Definitions, code: Digest) -> tuple[CodePart, ...]:
    """Return the parts of the code of that digest; none if the journal does not have it."""
    found = definition(code)
    try:
        return () if found is None else decode_parts(found.source)
    except ValueError:
        return ()
