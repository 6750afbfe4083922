"""The rules of circuit breakers: closed, open after failures, and one probe that decides.

Instants are microseconds UTC.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import force_setattr, replace

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.option_values import a_name

MOST_FAILURES: Final = 1_000_000


class BreakerStatus(StrEnum):
    """What a breaker does with attempts: it lets them begin, defers them, or lets one begin that decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class BreakerRule(msgspec.Struct, frozen=True):
    """The numbers of a breaker: it opens after that number of `failures` in a row, and is open for `open_s` seconds."""

    name: str
    failures: int = 5
    open_s: Duration = 60.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError, TypeError: a number is out of its range, or is not a number.
        """
        a_name(self.name)
        if type(self.failures) is not int or not 1 <= self.failures <= MOST_FAILURES:
            raise ValueError(f"failures of breaker {self.name!r} is a whole number from 1, not {self.failures!r}")
        try:
            open_s = seconds(self.open_s)
        except (TypeError, ValueError) as error:
            raise type(error)(f"open_s of breaker {self.name!r}: {error}") from None
        if not 0 < open_s < math.inf:
            raise ValueError(f"open_s of breaker {self.name!r} is more than 0 seconds and has an end, not {open_s:g}")
        force_setattr(self, "open_s", open_s)

    @property
    def numbers(self) -> str:
        """The numbers in words."""
        return f"failures={self.failures}, open_s={self.open_s:g}"


def a_breaker(given: object) -> BreakerRule | None:
    """Return the breaker that an option is: an `iron.Breaker`, or the name of one with the usual numbers.

    Raises:
        ValueError: it is neither.
    """
    if given is None or isinstance(given, BreakerRule):
        return given
    if isinstance(given, str):
        return BreakerRule(given)
    raise ValueError(f'breaker is a name or iron.Breaker("name", failures=5, open_s=60), not {given!r}')


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded state of a breaker. When its open time is over, one attempt may begin: the `probe` of `probe_owner`.

    `n_failed` counts the failures in a row. `owner` is the process that asked last; the numbers are those that it asked
    with.
    """

    name: str
    failures: int
    open_s: float
    owner: str
    n_failed: int = 0
    opened_at: int | None = None
    probe: str | None = None
    probe_owner: str | None = None
    changed_at: int = 0

    def status(self, now: int) -> BreakerStatus:
        """Return what the breaker does with attempts now."""
        if self.opened_at is None:
            return BreakerStatus.CLOSED
        return BreakerStatus.OPEN if self.left_s(now) > 0 else BreakerStatus.HALF_OPEN

    def left_s(self, now: int) -> float:
        """Return the seconds until it may be probed; at most `open_s`, even if the clock was set back."""
        return 0.0 if self.opened_at is None else min(self.opened_at / 1e6 + self.open_s - now / 1e6, self.open_s)

    def probed(self, probe: str, now: int) -> BreakerState:
        """Return the breaker with the attempt that probes it."""
        return replace(self, probe=probe, probe_owner=self.owner, changed_at=now)

    def failed(self, attempt: str, now: int) -> BreakerState:
        """Return the breaker after an attempt failed. While it is open, only the failure of the probe counts."""
        if self.opened_at is not None:
            if self.probe != attempt:
                return self
            return replace(
                self, opened_at=now, probe=None, probe_owner=None, n_failed=self.n_failed + 1, changed_at=now
            )
        n_failed = self.n_failed + 1
        opened_at = now if n_failed >= self.failures else None
        return replace(self, n_failed=n_failed, opened_at=opened_at, changed_at=now)

    def succeeded(self, attempt: str, now: int) -> BreakerState:
        """Return the breaker after an attempt succeeded."""
        if self.opened_at is not None and self.probe != attempt:
            return self
        if self.opened_at is None and not self.n_failed:
            return self
        return self.closed(now)

    def dropped(self, attempt: str) -> BreakerState:
        """Return the breaker after an attempt that never began, or whose end says nothing: another one may probe."""
        return replace(self, probe=None, probe_owner=None) if self.probe == attempt else self

    def closed(self, now: int) -> BreakerState:
        """Return the closed breaker."""
        return replace(self, n_failed=0, opened_at=None, probe=None, probe_owner=None, changed_at=now)


def asked_with(state: BreakerState | None, rule: BreakerRule, owner: str, now: int) -> BreakerState:
    """Return the breaker for an owner that asks with the numbers of `rule`; a cell may have defined new ones."""
    open_s = seconds(rule.open_s)
    if state is None:
        return BreakerState(name=rule.name, failures=rule.failures, open_s=open_s, owner=owner, changed_at=now)
    # The clock was set back, so the opening lies in the future: the breaker is open from now on.
    opened_at = None if state.opened_at is None else min(state.opened_at, now)
    return replace(state, failures=rule.failures, open_s=open_s, owner=owner, opened_at=opened_at)
