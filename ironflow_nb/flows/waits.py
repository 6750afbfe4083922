"""Waiting inside a flow: for an instant, or for signals to the run. A wait is a recorded step without a body."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from ironflow_nb.code_identity.code_parts import TrackedCode
from ironflow_nb.core.durations import Duration, instant_of, seconds
from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.wait_rules import (
    SLEEP,
    SLEEP_UNTIL,
    WAIT_FOR,
    Combination,
    WaitKind,
    Wanted,
    after,
    signal_name,
    time_limit,
)
from ironflow_nb.errors import AsyncMismatch, NotAllowedInStep, NotInRun
from ironflow_nb.execution import REGISTRY, SCOPE, RunContext, StepOptions, StepSpec, durable_calls


class _NoCode:
    """The code of what has none: it never changes."""

    def current(self) -> TrackedCode:
        """See `StepCode`."""
        return TrackedCode(digest_bytes(b"wait"), (), ())


_OPTIONS: Final = StepOptions(on_change="keep")


def wait_step(name: str, signature: Callable[..., Any]) -> StepSpec:
    """Return the step as which a wait is recorded, with the arguments of that function."""
    spec = StepSpec(signature, name=name, options=_OPTIONS, code=_NoCode())
    REGISTRY.define_step(spec)
    return spec


_SLEEP: Final = wait_step(SLEEP, lambda duration_s: duration_s)
_SLEEP_UNTIL: Final = wait_step(SLEEP_UNTIL, lambda at: at)
_WAIT_FOR: Final = wait_step(WAIT_FOR, lambda signals, combination: (signals, combination))


class Signals:
    """Several signals that one wait is for; made by `any_of` and `all_of`."""

    def __init__(self, names: tuple[str, ...], combination: Combination) -> None:
        if not names:
            raise ValueError(f"{combination.value}_of takes the names of the signals, at least one")
        self.names = tuple(dict.fromkeys(map(signal_name, names)))
        self.combination = combination

    def __repr__(self) -> str:
        return f"iron.{self.combination.value}_of({', '.join(map(repr, self.names))})"


def any_of(*names: str) -> Signals:
    """Return what waits for the first of these signals: `wait_for` then gives its name and payload.

    Raises:
        ValueError: no name is given, or one that no signal can have.
    """
    return Signals(names, Combination.ANY)


def all_of(*names: str) -> Signals:
    """Return what waits for all of these signals: `wait_for` then gives a dict of their payloads.

    Raises:
        ValueError: no name is given, or one that no signal can have.
    """
    return Signals(names, Combination.ALL)


def sleep(duration_s: Duration) -> None:
    """Wait that long: seconds, a `timedelta`, or a text such as ``"7d"``.

    The instant at which it ends is recorded when it begins. A run that is continued in another process, or on another
    day, waits only for what is left, or not at all. Outside of a flow it is a plain sleep.

    Raises:
        ValueError, TypeError: it is no duration, or one without an end.
        AsyncMismatch: the flow is async; await ``iron.aio.sleep(...)`` there.
        NotAllowedInStep: it was called inside a step.
    """
    __tracebackhide__ = True
    wait_here("sleep", *sleep_call(duration_s))


def sleep_until(at: datetime) -> None:
    """Wait until the instant, which has a time zone; one that is past does not wait. See `sleep`.

    Raises:
        ValueError, TypeError: it is no datetime, or one without a zone.
        AsyncMismatch: the flow is async; await ``iron.aio.sleep_until(...)`` there.
        NotAllowedInStep: it was called inside a step.
    """
    __tracebackhide__ = True
    wait_here("sleep_until", *sleep_until_call(at))


def wait_for(signal: str | Signals, *, timeout_s: Duration | None = None) -> Any:
    """Wait for a signal to the run, `Run.signal`, and return its payload.

    A signal that was sent before the wait began ends it at once. Each signal ends one wait; of those with one name the
    first that was sent goes to the first wait that began.

    Args:
        signal: the name of the signal, or several: ``iron.any_of("paid", "cancelled")`` gives the name and payload of
            the first one, ``iron.all_of(...)`` a dict of all their payloads.
        timeout_s: how long to wait at most, from the beginning of the wait; by default without an end.

    Raises:
        WaitTimeout: it did not come in that time. A replay raises it, too; it is a `TimeoutError`.
        ValueError, TypeError: a name or the duration is invalid.
        AsyncMismatch: the flow is async; await ``iron.aio.wait_for(...)`` there.
        NotAllowedInStep: it was called inside a step.
        NotInRun: it was called outside of a flow, where nobody could send a signal.
    """
    __tracebackhide__ = True
    return wait_here("wait_for", *wait_for_call(signal, timeout_s))


def drawn_as_wait(*functions: Callable[..., Any]) -> None:
    """Have the calls of these functions drawn as waits."""
    for function in functions:
        function.__ironflow_wait__ = True  # type: ignore[attr-defined]


drawn_as_wait(sleep, sleep_until, wait_for)

Call = tuple[StepSpec, Mapping[str, Any], Callable[[int], Wanted]]
"""What a wait is recorded as, and what it is for, given the instant at which it begins (microseconds UTC)."""


def sleep_call(duration: Duration) -> Call:
    """Return the call of a sleep."""
    duration_s = seconds(duration)
    return _SLEEP, {"duration_s": duration_s}, lambda now: Wanted(due_at=after(now, duration_s))


def sleep_until_call(at: datetime) -> Call:
    """Return the call of a sleep until an instant."""
    due_at = instant_of(at, "sleep_until")
    return _SLEEP_UNTIL, {"at": at.astimezone(UTC)}, lambda _: Wanted(due_at=due_at, is_absolute=True)


def wait_for_call(signal: str | Signals, timeout_s: Duration | None) -> Call:
    """Return the call of a wait for signals. Its time limit does not identify it."""
    names = signal.names if isinstance(signal, Signals) else (signal_name(signal),)
    combination = signal.combination if isinstance(signal, Signals) else Combination.ONE
    due_at = time_limit(timeout_s)
    wanted = partial(Wanted, signals=names, combination=combination)
    return _WAIT_FOR, {"signals": list(names), "combination": combination.value}, lambda now: wanted(due_at=due_at(now))


def wait_here(name: str, spec: StepSpec, arguments: Mapping[str, Any], make: Callable[[int], Wanted]) -> Any:
    """Wait in the calling thread, in a ``def`` flow or, for an instant, outside of flows."""
    __tracebackhide__ = True
    scope = refuse_in_step(name)
    if scope is None:
        clock = REGISTRY.engine().clock
        wanted = make(clock.now())
        _refuse_outside(name, wanted)
        assert wanted.due_at is not None
        clock.wait(REGISTRY.engine().threads.wakeup(), max(wanted.due_at - clock.now(), 0) / 1e6, is_idle=True)
        return None
    if scope.is_on_loop():
        raise AsyncMismatch(f"iron.{name} would block the event loop of this async flow; await iron.aio.{name}(...)")
    make(scope.access.clock.now())  # what can't be waited for is refused before anything is recorded
    return durable_calls.pause(scope, spec, arguments, lambda: make(scope.access.clock.now()))


def pause_async(
    name: str, spec: StepSpec, arguments: Mapping[str, Any], make: Callable[[int], Wanted]
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of a wait. In an async flow the call is numbered now, in the order of the program."""
    scope = refuse_in_step(name)
    if scope is None:
        clock = REGISTRY.engine().clock
        wanted = make(clock.now())
        _refuse_outside(name, wanted)
        assert wanted.due_at is not None
        return _plain_sleep(max(wanted.due_at - clock.now(), 0) / 1e6)
    if not scope.is_on_loop():
        raise AsyncMismatch(
            f"iron.aio.{name} was called in a def flow, where nothing can await it; use iron.{name}(...)"
        )
    make(scope.access.clock.now())
    return durable_calls.pause_async(scope, spec, arguments, lambda: make(scope.access.clock.now()))


async def _plain_sleep(duration_s: float) -> None:
    import asyncio

    await asyncio.sleep(duration_s)


def refuse_in_step(name: str) -> RunContext | None:
    """Return the place of the calling code in its run, or None outside of every run.

    Raises:
        NotAllowedInStep: it is inside a step.
    """
    scope = SCOPE.get()
    if scope is not None and scope.step is not None:
        raise NotAllowedInStep(
            f"iron.{name} was called inside step {scope.step}, which can't be left and continued; wait in the flow, "
            "before or after the step",
            name=name,
        )
    return scope


def _refuse_outside(name: str, wanted: Wanted) -> None:
    if wanted.kind is not WaitKind.SLEEP:
        what = "signals are sent to a run" if wanted.question is None else "it is a run that waits for an answer"
        raise NotInRun(f"iron.{name} was called outside of a flow, and {what}; call it in a flow", name=name)
