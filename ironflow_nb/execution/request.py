"""What a call of a flow asks of the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.ids import Digest, RunId, StepRef
from ironflow_nb.core.joining import OnRerun
from ironflow_nb.core.orders import NONE, Orders
from ironflow_nb.core.verdict import OnChange
from ironflow_nb.execution.spec import one_of
from ironflow_nb.journal.ports import Definition, Durability


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a definition wants its runs to be begun and continued."""

    on_rerun: OnRerun = OnRerun.CONTINUE
    continue_within_s: float = 7 * 86400.0
    on_change: OnChange = OnChange.GUARD
    durability: Durability | None = None
    key: str | None = None
    fresh: bool = False


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A call: of which definition, with which arguments, under which policy.

    `define` gives what the journal is to keep of the definition; it takes a while, so it is not called before the
    first step has run.

    `run_id` asks to continue that very run instead of looking for one to join, under `orders`. A child has a `parent`
    run and step, and is begun under that id if it was not before. With `reopens` the run of that id, or of
    the policy's key, is taken on again also when it is closed.
    """

    kind: str
    name: str
    definition_id: Digest
    define: Callable[[], Definition]
    arguments: dict[str, Any]
    policy: Policy
    run_id: RunId | None = None
    reason: str = "rerun"
    parent: tuple[RunId, StepRef] | None = None
    orders: Orders = NONE
    reopens: bool = False


class Body(msgspec.Struct, frozen=True):
    """The user's function with the arguments of the call."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def policy_options(
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
