"""What a call of a flow asks of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from ironflow_nb.core.durations import seconds
from ironflow_nb.core.events import OutputInjected
from ironflow_nb.core.identity import Digest, RunId, StepRef
from ironflow_nb.core.join import OnRerun
from ironflow_nb.core.lanes import Lane, a_lane
from ironflow_nb.core.option_values import a_flag, a_text, a_whole_number, an_executor, one_of
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.plan import NONE, ResumeOptions
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import ContinuationReason
from ironflow_nb.core.time_limits import DEADLINE, TIMEOUT, limit_s, time_limits
from ironflow_nb.errors import ReplayDiffers
from ironflow_nb.journal.ports import Addition, CallKey, Durability, StoredDefinition
from ironflow_nb.values.stored_value import StoredValue, legible


class RejoinedBy(Enum):
    """What continues a run that stopped, other than asking for that very run."""

    CALL = "call"
    NEW_EXECUTION = "new execution"
    NOTHING = "nothing"


class RunPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the runs of a definition begin and continue; see `flow`."""

    on_rerun: OnRerun = OnRerun.CONTINUE
    continue_within_s: float = 7 * 86400.0
    reuse_within_s: float = 86400.0
    on_change: OnChange = OnChange.GUARD
    durability: Durability | None = None
    key: str | None = None
    fresh: bool = False
    timeout_s: float | None = None
    deadline_s: float | None = None
    executor: Any = None
    compensate_on_cancel: bool = False
    lane: Lane | None = None
    priority: int = 0

    def rejoined_by(self, *, joins: bool) -> RejoinedBy:
        """Return what continues a run of this policy; `joins` if an equal call joins an unfinished run."""
        if self.key is not None:
            return RejoinedBy.CALL
        is_new = self.fresh or self.on_rerun is OnRerun.NEW
        return RejoinedBy.NOTHING if is_new or not joins else RejoinedBy.NEW_EXECUTION


Adviser = Callable[[str, dict[str, Any], bool], None]
"""Called with the name and the arguments of each new call of a continued run, and whether it is the first of them."""


class GivenResult(NamedTuple):
    """A result by hand with which a fork begins: its event, its step, and the values to store."""

    event: OutputInjected
    step: StepRef
    values: Sequence[StoredValue]


_SHOWN: Final = 40


class ReplayCheck:
    """What a replay finds: the recorded steps that the code of now calls, and its first call that is not recorded.

    Lock: session.
    """

    def __init__(self) -> None:
        """Begin with nothing called."""
        self.called: set[StepRef] = set()
        self.refused: ReplayDiffers | None = None

    def refuse(self, run_id: RunId, name: str, arguments: Mapping[str, Any]) -> ReplayDiffers:
        """Note a call that is not recorded in the run, and return the error that ends the replay."""
        given = ", ".join(f"{key}={legible(repr(value), _SHOWN)}" for key, value in arguments.items())
        what = f"the code of now calls {name}({given}), which is not recorded in run {run_id}"
        self.refused = self.refused or ReplayDiffers(plain(what), run_id=run_id, step=name)
        return self.refused


class Fork(NamedTuple):
    """The run that a new one is a fork of, the position at which it leaves that run, and its results by hand.

    With a `check` the code of now is only checked against that run.
    """

    run: RunRow
    position: int
    results: Sequence[GivenResult] = ()
    check: ReplayCheck | None = None


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A call: of which definition, with which arguments, under which policy.

    `define` gives what the journal is to keep of the definition; it takes a while, so it is not called before the
    first step has run, unless the definition `is_text`: that is written when the run begins.

    `run_id` asks to continue that very run instead of looking for one to join, under `options`. A child has a `parent`
    run and step, and is begun under that id if it was not before. With `reopens` the run of that id, or of
    the policy's key, is taken on again also when it is closed. `define_steps` sees that the steps which the definition
    can have are known here by name, where that takes more than defining it. `function` is the one in whose source
    the steps are called. `new_adviser`, called with the journal, the id and the recorded steps of a run that is
    continued, gives a function that is called with the name and the arguments of each new call. `notes_end` adds to
    an error that ends the run what became of it and what continues it. `additions` are rows of other rooms, written
    with the beginning of a new run that has a key. `call_key` calls the key function of a lane as the flow is called. A
    run that is to `detach` is left to a worker. One of many calls has the key of its `call`, and nothing is said of its
    beginning. A `fork` is a new run that goes on from a moment of another one.
    """

    kind: str
    name: str
    definition_id: Digest
    define: Callable[[], StoredDefinition]
    arguments: dict[str, Any]
    policy: RunPolicy
    run_id: RunId | None = None
    reason: ContinuationReason = ContinuationReason.RERUN
    parent: tuple[RunId, StepRef] | None = None
    options: ResumeOptions = NONE
    reopens: bool = False
    define_steps: Callable[[], None] | None = None
    is_text: bool = False
    function: Callable[..., Any] | None = None
    new_adviser: Callable[..., Adviser] | None = None
    notes_end: bool = True
    additions: tuple[Addition, ...] = ()
    call_key: Callable[[Callable[..., object]], object] = lambda function: function()
    detach: bool = False
    call: CallKey | None = None
    fork: Fork | None = None

    @property
    def has_no_caller(self) -> bool:
        """Whether a schedule or an event asks for the run, so that any worker continues it if its owner dies."""
        return bool(self.additions)

    @property
    def is_rerun(self) -> bool:
        """Whether a call is made again, and not a run resumed."""
        return self.reason is ContinuationReason.RERUN


class FlowCall(msgspec.Struct, frozen=True):
    """The user's function with the arguments of the call."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


_DEFAULT_POLICY: Final = RunPolicy()
_READ: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "key": ("key", partial(a_text, "key")),
    "fresh": ("fresh", partial(a_flag, "fresh")),
    "on_rerun": ("on_rerun", lambda text: one_of(OnRerun, text, "on_rerun")),
    "continue_within": ("continue_within_s", seconds),
    "reuse_within": ("reuse_within_s", seconds),
    "on_change": ("on_change", lambda text: one_of(OnChange, text, "on_change")),
    "timeout_s": ("timeout_s", partial(limit_s, TIMEOUT)),
    "deadline_s": ("deadline_s", partial(limit_s, DEADLINE)),
    "executor": ("executor", an_executor),
    "compensate_on_cancel": ("compensate_on_cancel", partial(a_flag, "compensate_on_cancel")),
    "lane": ("lane", a_lane),
    "priority": ("priority", partial(a_whole_number, "priority")),
    "durability": ("durability", lambda text: one_of(Durability, text, "durability")),
}
"""The field of the policy that each option sets, and what reads its value."""


def with_options(policy: RunPolicy, **options: Any) -> RunPolicy:
    """Return the policy with the options that are given; `UNSET` is not given, and None is the default.

    Raises:
        TypeError, ValueError: an option has a value that it does not know.
    """
    given = {}
    for name, value in options.items():
        if value is not UNSET:
            field, read = _READ[name]
            given[field] = getattr(_DEFAULT_POLICY, field) if value is None else read(value)
    time_limits(given.get("timeout_s", policy.timeout_s), given.get("deadline_s", policy.deadline_s))
    return replace(policy, **given)
