"""The awaitable forms of what waits in a flow, for async flows."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar, overload

from ironflow_nb.core.durations import Duration
from ironflow_nb.flows.approvals import approve_call, ask_call
from ironflow_nb.flows.completions import as_completed_async, drawn_as_branches, gather_async
from ironflow_nb.flows.waits import Signals, drawn_as_wait, pause_async, sleep_call, sleep_until_call, wait_for_call

__all__ = ["approve", "as_completed", "ask", "gather", "sleep", "sleep_until", "wait_for"]

T = TypeVar("T")


@overload
def gather(*awaitables: Awaitable[T]) -> Coroutine[Any, Any, list[T]]: ...
@overload
def gather(*awaitables: Awaitable[T], on_error: str) -> Coroutine[Any, Any, list[T | Exception]]: ...
def gather(*awaitables: Awaitable[Any], on_error: str = "raise") -> Coroutine[Any, Any, list[Any]]:
    """Run coroutines side by side, each as a branch of the flow, and return their results in order.

    Unlike ``asyncio.gather`` it waits until all have ended, also if one fails. Otherwise see `ironflow_nb.gather`.
    """
    return gather_async(awaitables, on_error)


def as_completed(
    awaitables: Iterable[Awaitable[T]], *, timeout_s: Duration | None = None
) -> AsyncIterator[Awaitable[T]]:
    """Return an async iterator over calls in the order in which they end; each is awaited for its result.

    It takes coroutines, which begin now as tasks of the flow, tasks, and futures of submitted steps; tasks and futures
    are given back themselves. Otherwise see `ironflow_nb.as_completed`.
    """
    return as_completed_async(awaitables, timeout_s)


def sleep(duration_s: Duration) -> Coroutine[Any, Any, None]:
    """Wait that long; see `ironflow_nb.sleep`."""
    return pause_async("sleep", *sleep_call(duration_s))


def sleep_until(at: datetime) -> Coroutine[Any, Any, None]:
    """Wait until the instant; see `ironflow_nb.sleep_until`."""
    return pause_async("sleep_until", *sleep_until_call(at))


def wait_for(signal: str | Signals, *, timeout_s: Duration | None = None) -> Coroutine[Any, Any, Any]:
    """Wait for a signal to the run and return its payload; see `ironflow_nb.wait_for`."""
    return pause_async("wait_for", *wait_for_call(signal, timeout_s))


def approve(question: str, payload: object = None, *, timeout_s: Duration | None = None) -> Coroutine[Any, Any, bool]:
    """Wait until a person says yes or no; see `ironflow_nb.approve`."""
    return pause_async("approve", *approve_call(question, payload, timeout_s))


@overload
def ask(
    question: str, payload: object = None, *, choices: Sequence[T], timeout_s: Duration | None = None
) -> Coroutine[Any, Any, T]: ...
@overload
def ask(
    question: str, payload: object = None, *, type: builtins.type[T], timeout_s: Duration | None = None
) -> Coroutine[Any, Any, T]: ...
@overload
def ask(question: str, payload: object = None, *, timeout_s: Duration | None = None) -> Coroutine[Any, Any, str]: ...
@overload
def ask(
    question: str, payload: object = None, *, type: Any, timeout_s: Duration | None = None
) -> Coroutine[Any, Any, Any]: ...
def ask(
    question: str,
    payload: object = None,
    *,
    choices: Sequence[Any] | None = None,
    type: Any = None,  # noqa: A002 -- the name of the contract
    timeout_s: Duration | None = None,
) -> Coroutine[Any, Any, Any]:
    """Wait for the answer of a person; see `ironflow_nb.ask`."""
    return pause_async("ask", *ask_call(question, payload, choices, type, timeout_s))


drawn_as_wait(sleep, sleep_until, wait_for, approve, ask)
drawn_as_branches(gather, "all")
drawn_as_branches(as_completed, "listed")
