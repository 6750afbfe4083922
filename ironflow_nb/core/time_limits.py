"""The time limits of steps and flows, and what they leave to one attempt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import Digest
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepReason

TIMEOUT: Final = "timeout_s"
DEADLINE: Final = "deadline_s"


_SAME_SERIES: Final = frozenset({StepReason.RETRY.value, StepReason.TIMED_OUT.value, StepReason.INTERRUPTED.value})
"""The reasons of attempts that continue what an earlier attempt began."""


class TimeLimits(msgspec.Struct, frozen=True):
    """The seconds that one attempt may take, and those that all attempts and the pauses between them may take."""

    timeout_s: float | None = None
    deadline_s: float | None = None

    def __str__(self) -> str:
        return ", ".join(self.in_words(option) for option in (TIMEOUT, DEADLINE) if getattr(self, option) is not None)

    def in_words(self, option: str) -> str:
        """Return the option with its value."""
        return f"{option} of {getattr(self, option):g} s"

    def left_s(self, attempts: Sequence[StepRow], reason: StepReason, code: Digest, now: int) -> float | None:
        """Return the seconds that the deadline leaves to a further attempt; None if it has all of them, or no deadline.

        A deadline counts from the start of the first attempt of a series: of the attempts of one code that were made
        because one failed, timed out or was interrupted, by whatever process. Times are microseconds UTC.
        """
        started_at, why = None, reason.value
        for row in reversed(attempts):
            if why not in _SAME_SERIES or row.code != code:
                break
            started_at, why = row.started_at, row.reason
        if self.deadline_s is None or started_at is None:
            return None
        return self.deadline_s - max(now - started_at, 0) / 1e6


NO_LIMITS: Final = TimeLimits()


class Limit(NamedTuple):
    """The seconds after which an attempt or a run is out of time, and the option of the step or run that says so."""

    after_s: float
    option: str
    is_of_run: bool = False


def time_limits(timeout_s: Duration | None, deadline_s: Duration | None) -> TimeLimits:
    """Return the limits that two options mean.

    Raises:
        ValueError: one is not more than zero seconds, or an attempt may take longer than all attempts together.
        TypeError: one is no duration.
    """
    limits = TimeLimits(limit_s(TIMEOUT, timeout_s), limit_s(DEADLINE, deadline_s))
    if (limits.timeout_s or 0.0) > (limits.deadline_s or math.inf):
        raise ValueError(
            f"timeout_s={timeout_s!r} is the time of one attempt, and can't be more than deadline_s={deadline_s!r}, "
            "the time of all of them"
        )
    return NO_LIMITS if limits == NO_LIMITS else limits


def limit_s(option: str, given: Duration | None) -> float | None:
    """Return the seconds that an option means, None for no limit.

    Raises:
        ValueError, TypeError: see `time_limits`.
    """
    if given is None:
        return None
    try:
        found_s = seconds(given)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{option}: {error}") from None
    if found_s == 0:
        raise ValueError(f"{option} is more than 0 seconds, not {given!r}")
    return None if math.isinf(found_s) else found_s


def first_limit(timeout_s: float | None, left_s: float | None, run: Limit | None = None) -> Limit | None:
    """Return the limit that is met first, or None without any: of a timeout, the rest of a deadline, and the run."""
    limits = [Limit(timeout_s, TIMEOUT)] if timeout_s is not None else []
    limits += [Limit(left_s, DEADLINE)] if left_s is not None else []
    limits += [run] if run is not None else []
    return min(limits, key=lambda limit: limit.after_s, default=None)


def owned_s(run: RunRow, before_s: float, began_at: int, seen_at: int) -> float:
    """Return for how long owners have worked on a run that is now continued, since it began or failed last.

    The latest of them began after `before_s` at `began_at`, and gave its last sign of life at `seen_at`. The time of a
    run in which nobody worked on it does not count.
    """
    if run.status is RunStatus.FAILED:
        return 0.0
    return before_s + max((run.ended_at or seen_at) - began_at, 0) / 1e6
