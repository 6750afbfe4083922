"""The policy by which failed steps are tried again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from inspect import iscoroutinefunction, signature
from types import UnionType
from typing import Any, Final, TypeAlias, Union, get_args, get_origin

import msgspec

FIRST_DELAY_S: Final = 1.0
FACTOR: Final = 2.0
MAX_DELAY_S: Final = 60.0
MOST_ATTEMPTS: Final = 1000
LONGEST_DELAY_S: Final = 86400.0

Excuses: TypeAlias = type[BaseException] | Collection[type[BaseException]] | Callable[[BaseException], bool]
"""The exceptions that are worth another try: classes, or a function that returns True for them."""


class _NamesItsNumbers(msgspec.StructMeta):
    """Refuses positional arguments: one number would not say whether it counts attempts or retries."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        if args:
            raise TypeError(
                f"Retry({args[0]!r}) does not say what {args[0]!r} is; write iron.Retry(attempts=3), which counts the "
                "first try, or step(retries=2), which does not"
            )
        return super().__call__(**options)


class Retry(msgspec.Struct, frozen=True, kw_only=True, metaclass=_NamesItsNumbers):
    """The number of attempts and the delays between them: ``step(retries=iron.Retry(attempts=5, delay_s=0.5))``.

    `attempts` counts the first one too. The delay grows by `factor` with each attempt, up to `max_delay_s`, by default
    a minute or `delay_s`, whichever is longer. A random part of it, up to the fraction `jitter`, is left out, so that
    steps that failed together are not tried again together. `on` are the exceptions that are worth another try: a
    class, several in a list, or a function of the exception.
    """

    attempts: int = 3
    delay_s: float = FIRST_DELAY_S
    factor: float = FACTOR
    max_delay_s: float | None = None
    jitter: float = 0.0
    on: Excuses | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a value is out of its range or no number, or `on` is neither classes nor a function.
        """
        msgspec.structs.force_setattr(self, "on", _excuses(self.on))
        if type(self.attempts) is not int or not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise ValueError(f"attempts is a whole number from 1 to {MOST_ATTEMPTS}, not {self.attempts!r}")
        longest_s = 0.0 if self.max_delay_s is None else self.max_delay_s
        for name, seconds in (("delay_s", self.delay_s), ("max_delay_s", longest_s)):
            if not _is_within(seconds, 0.0, LONGEST_DELAY_S):
                raise ValueError(f"{name} is from 0 to {LONGEST_DELAY_S:g} seconds, not {seconds!r}")
        if not _is_within(self.factor, 1.0, 100.0):
            raise ValueError(f"factor is from 1 to 100, not {self.factor!r}")
        if not _is_within(self.jitter, 0.0, 1.0):
            raise ValueError(f"jitter is a fraction from 0 to 1, not {self.jitter!r}")

    @property
    def longest_s(self) -> float:
        """The longest delay."""
        return max(MAX_DELAY_S, self.delay_s) if self.max_delay_s is None else self.max_delay_s

    def is_excused(self, error: BaseException) -> bool:
        """Return True if the exception is worth another try."""
        if self.on is None:
            return True
        if isinstance(self.on, tuple):
            return isinstance(error, self.on)
        return bool(self.on(error))  # type: ignore[operator]

    def delay_after(self, n_failed: int, chance: float = 0.0) -> float:
        """Return the seconds to wait after `n_failed` failures in a row; `chance`, from 0 to 1, sets the jitter."""
        grown_s = self.delay_s * self.factor ** min(n_failed - 1, 64)
        return min(grown_s, self.longest_s) * (1.0 - self.jitter * chance)


def _excuses(on: Any) -> Any:
    """Return the exceptions as a tuple of classes, or the function.

    Raises:
        ValueError: `on` is neither; it would never allow another try.
    """
    is_several = isinstance(on, list | tuple | set | frozenset)
    classes = tuple(on) if is_several else get_args(on) if get_origin(on) in {UnionType, Union} else (on,)
    if classes and all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
        return classes
    if on is None or (get_origin(on) is None and _takes_one(on)):
        return on
    raise ValueError(
        f"on is a class of exceptions, several of them in a list, or a function of the exception, not {on!r}"
    )


def _takes_one(function: Any) -> bool:
    """Return True for a function that can be asked about an exception."""
    if not callable(function) or isinstance(function, type) or iscoroutinefunction(function):
        return False
    try:
        signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # one that is made in C need not say what it takes
        return True
    return True


def _is_within(number: float, least: float, most: float) -> bool:
    # All comparisons with nan are False.
    return isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most


NEVER: Final = Retry(attempts=1)


def retrying(retries: int) -> Retry:
    """Return the policy of that many retries: after 1, 2, 4, ... and at most 60 seconds."""
    return Retry(attempts=retries + 1) if retries else NEVER
