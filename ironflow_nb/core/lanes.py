"""Lanes: how many steps or runs of a kind may be at work at once, and how often one may begin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import force_setattr

from ironflow_nb.core.option_values import LARGEST, a_name, a_text
from ironflow_nb.core.plain_text import plain, short_repr
from ironflow_nb.errors import DefinitionError

if TYPE_CHECKING:
    from jmespath.parser import ParsedResult

OWN_LANE: Final = "ironflow:"
"""The prefix of the names of the package's own lanes."""
ALL_RUNS: Final = f"{OWN_LANE}runs"
ALL_STEPS: Final = f"{OWN_LANE}steps"

_RATE: Final = re.compile(r"(\d+)\s*/\s*(\d*)\s*(ms|second|sec|s|minute|min|m|hour|h|day|d)")
_LONGEST_US: Final = 10**15
_UNITS_US: Final = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


class LaneKind(StrEnum):
    """What is in a lane: attempts of steps, or runs, which hold their places while their steps wait for theirs."""

    STEPS = "steps"
    RUNS = "runs"


class Demand(msgspec.Struct, frozen=True):
    """What one ask needs of the lane of that name and key: one of its `limit` places, at that rate."""

    lane: str
    key: str
    kind: LaneKind
    limit: int | None
    rate: str | None = None
    burst: int = 1

    def __str__(self) -> str:
        return f"{self.lane} ({self.key})" if self.key else self.lane

    @property
    def of_any_key(self) -> Demand:
        """The same without the key: a lane has the same numbers for every key."""
        return msgspec.structs.replace(self, key="")

    @property
    def numbers(self) -> str:
        """The numbers of the lane in words."""
        limit = "" if self.limit is None else f"limit={self.limit}"
        rate = "" if self.rate is None else f'rate="{self.rate}"' + (f", burst={self.burst}" if self.burst > 1 else "")
        return f"{', '.join(filter(None, [limit, rate]))} for {self.kind.value}"


def interval_us(rate: str) -> int:
    """Return the microseconds between two beginnings at that rate, rounded up.

    Raises:
        ValueError: the text is no rate.
    """
    found = _RATE.fullmatch(rate.strip()) if isinstance(rate, str) else None
    n, n_units = (int(found[1]), int(found[2] or 1)) if found else (0, 0)
    if found is None or not n or not n_units:
        raise ValueError(f'rate is a number for a time, as "60/min", "5/s" or "100/10s", not {short_repr(rate)}')
    unit = found[3] if found[3] == "ms" else found[3][0]
    interval = -(-n_units * _UNITS_US[unit] // n)
    if interval > _LONGEST_US:
        raise ValueError("rate is slower than one in 1e9 seconds, some 32 years")
    return interval


def _compiled(text: str) -> ParsedResult:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.compile(text)
    except JMESPathError as error:
        raise ValueError(f"key={text!r} is no JMESPath text: {plain(str(error))}") from None


class _Named(msgspec.Struct, frozen=True):
    name: str


class Lane(_Named, frozen=True, kw_only=True):
    """A queue for steps or runs, shared by all processes on the journal: ``step(lane=iron.Lane("api", limit=2))``.

    At most `limit` of them are at work at once, and at most `rate` begin (``"60/min"``, ``"5/s"``, ``"100/10s"``): they
    begin in the order of asking. Without either it is one at a time. With a `key`, a function of the arguments or a
    JMESPath text over them, each value of it has a lane of its own. A rate spreads beginnings evenly; `burst` is how
    many may begin at once after a pause.
    """

    key: Callable[..., object] | str | None = None
    limit: int | None = None
    rate: str | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a value is out of its range, or no rate or JMESPath text.
        """
        if a_name(self.name).startswith(OWN_LANE):
            raise ValueError(f"the lanes that begin with {OWN_LANE!r} are the package's own, not {self.name!r}")
        if self.limit is None and self.rate is None:
            force_setattr(self, "limit", 1)
        for option, number in (("limit", self.limit), ("burst", self.burst)):
            if number is not None and (type(number) is not int or not 1 <= number <= LARGEST):
                raise ValueError(
                    f"{option} of lane {self.name!r} is a whole number from 1 to 2**63-1, not {short_repr(number)}"
                )
        if self.rate is None and self.burst != 1:
            raise ValueError(f"burst={self.burst} of lane {self.name!r} says nothing without a rate, as rate='60/min'")
        if self.rate is not None:
            interval_us(self.rate)
        if isinstance(self.key, str):
            _compiled(a_text("key", self.key))
        elif self.key is not None and not callable(self.key):
            raise ValueError(f"key of lane {self.name!r} is a function or a JMESPath text, not {self.key!r}")

    def demand(self, kind: LaneKind, key: str) -> Demand:
        """Return what one ask under that key needs."""
        return Demand(self.name, key, kind, self.limit, self.rate, self.burst)

    def key_of(self, arguments: Mapping[str, Any], call: Callable[[Callable[..., object]], object], who: str) -> str:
        """Return the key for a call with these arguments; `call` calls a function with them.

        Raises:
            DefinitionError: the key is null, or neither a text nor a number, or its function raises.
        """
        if self.key is None:
            return ""
        try:
            found = _compiled(self.key).search(dict(arguments)) if isinstance(self.key, str) else call(self.key)
        except Exception as error:
            what = f"the key of lane {self.name!r} raised {type(error).__name__} for {who}: {error}"
            raise DefinitionError(what) from error
        if isinstance(found, str | int | float) and found != "":
            return a_text(f"the key of lane {self.name!r} for {who}", str(found))
        raise DefinitionError(
            f"the key of lane {self.name!r} is {short_repr(found)} for {who}; it is a text or a number, and says in "
            "whose lane the call is: correct the arguments, or the key"
        )


def a_lane(given: object) -> Lane | None:
    """Return the lane that an option is: a `Lane`, or the name of one with room for one at a time.

    Raises:
        ValueError: it is neither.
    """
    if given is None or isinstance(given, Lane):
        return given
    if isinstance(given, str):
        return Lane(given)
    raise ValueError(f'lane is a name or iron.Lane("name", limit=...), not {given!r}')
