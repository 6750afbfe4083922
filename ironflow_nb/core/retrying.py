"""When a failed step is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

FIRST_DELAY_S: Final = 1.0
FACTOR: Final = 2.0
MAX_DELAY_S: Final = 60.0
MOST_ATTEMPTS: Final = 1000
LONGEST_DELAY_S: Final = 86400.0

Excuses: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Which exceptions are worth another try: classes, or a function that tells."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failed step is tried, and after how long: ``step(retries=iron.Retry(attempts=5, delay_s=0.5))``.

    `attempts` counts the first one too. The delay grows by `factor` from try to try, up to `max_delay_s`; up to the
    fraction `jitter` of it is taken away by chance, so that many that failed together do not come back together.
    `on` says which exceptions are worth another try: a class, a tuple of classes, or a function of the exception.
    """

    attempts: int = 3
    delay_s: float = FIRST_DELAY_S
    factor: float = FACTOR
    max_delay_s: float = MAX_DELAY_S
    jitter: float = 0.0
    on: Excuses | None = None

    def __post_init__(self) -> None:
        """See that it makes sense.

        Raises:
            ValueError: a number is out of its range, or none.
        """
        if type(self.attempts) is not int or not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise ValueError(f"attempts is a whole number from 1 to {MOST_ATTEMPTS}, not {self.attempts!r}")
        for name in ("delay_s", "max_delay_s"):
            seconds = getattr(self, name)
            if not _is_within(seconds, 0.0, LONGEST_DELAY_S):
                raise ValueError(f"{name} is from 0 to {LONGEST_DELAY_S:g} seconds, not {seconds!r}")
        if not _is_within(self.factor, 1.0, 100.0):
            raise ValueError(f"factor is from 1 to 100, not {self.factor!r}")
        if not _is_within(self.jitter, 0.0, 1.0):
            raise ValueError(f"jitter is a fraction from 0 to 1, not {self.jitter!r}")

    def is_excused(self, error: BaseException) -> bool:
        """Tell whether the exception is worth another try."""
        if self.on is None:
            return True
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        return bool(self.on(error))

    def delay_after(self, n_failed: int, chance: float = 0.0) -> float:
        """Return the seconds to wait after so many failures in a row; `chance`, from 0 to 1, decides on the jitter."""
        grown_s = self.delay_s * self.factor ** min(n_failed - 1, 64)
        return min(grown_s, self.max_delay_s) * (1.0 - self.jitter * chance)


def _is_within(number: float, least: float, most: float) -> bool:
    # A comparison with nan is never true.
    return isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most


NEVER: Final = Retry(attempts=1)


def retrying(retries: int) -> Retry:
    """Return how a step is tried again that often: after 1, 2, 4, ... and never more than 60 seconds."""
    return Retry(attempts=retries + 1) if retries else NEVER
