"""Recorded calls for the values that would differ each time a flow runs: the time, ids and random numbers.

A replay gets what the first run got. They are written in the next commit, so they cost no wait of their own: the next
body commits them before it begins, for it may act on them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.identity import OWN_PREFIX
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.execution.definitions.step_spec import StepOptions, StepSpec
from ironflow_nb.execution.durable_calls import record
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.steps.context import SCOPE
from ironflow_nb.execution.system.system import random_uuid

if TYPE_CHECKING:
    from ironflow_nb.execution.system.system import UUID

_FRACTION_BITS: Final = 53
"""As many bits as the fraction of a float has."""


def _now(access: JournalAccess) -> datetime:
    microseconds = access.clock.now()
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)


def _uuid4(access: JournalAccess) -> UUID:
    return random_uuid(access.entropy)


def _random(access: JournalAccess) -> float:
    return (int.from_bytes(access.entropy(8), "big") >> (64 - _FRACTION_BITS)) / (1 << _FRACTION_BITS)


# Other code in a new version of the package changes no recorded value.
_OPTIONS: Final = StepOptions(on_change=OnChange.KEEP)
_NOW: Final = StepSpec(lambda: None, name=f"{OWN_PREFIX}now", options=_OPTIONS)
_UUID4: Final = StepSpec(lambda: None, name=f"{OWN_PREFIX}uuid4", options=_OPTIONS)
_RANDOM: Final = StepSpec(lambda: None, name=f"{OWN_PREFIX}random", options=_OPTIONS)


def now() -> datetime:
    """Return the time, an aware datetime in UTC. In a flow it is recorded, and a replay returns the same."""
    return _recorded(_NOW, _now)  # type: ignore[no-any-return]


def uuid4() -> UUID:
    """Return a random id. In a flow it is recorded, and a replay returns the same."""
    return _recorded(_UUID4, _uuid4)  # type: ignore[no-any-return]


def random() -> float:
    """Return a random number from 0, but below 1. In a flow it is recorded, and a replay returns the same."""
    return _recorded(_RANDOM, _random)  # type: ignore[no-any-return]


def _recorded(spec: StepSpec, make: Any) -> Any:
    scope = SCOPE.get()
    if scope is None or scope.step is not None:
        return make(REGISTRY.engine().access)
    return record(scope, spec, {}, lambda: make(scope.session.access), is_seen=True)
