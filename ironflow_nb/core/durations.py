"""Durations in the forms that people write: seconds, a `timedelta`, or text such as ``"7d"``; and instants."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from ironflow_nb.core.plain_text import short_repr

Duration: TypeAlias = float | int | timedelta | str

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)")


def seconds(duration: Duration) -> float:
    """Return the duration in seconds.

    Raises:
        ValueError: it is negative, nan, too large for a float, or text that is no duration.
        TypeError: it has another type; a bool is refused too.
    """
    try:
        result = _seconds(duration)
    except OverflowError:
        raise ValueError("a duration must fit into a float; write math.inf for one without end") from None
    if math.isnan(result) or result < 0:
        raise ValueError(f"a duration must be zero or more seconds, not {short_repr(duration)}")
    return result


def wait_limit_s(timeout_s: Duration | None) -> float | None:
    """Return the maximal number of seconds to wait, None without a limit; a negative number becomes 0.

    Raises:
        ValueError, TypeError: it is no duration.
    """
    if timeout_s is None:
        return None
    return 0.0 if isinstance(timeout_s, int | float) and timeout_s < 0 else seconds(timeout_s)


def _seconds(duration: Duration) -> float:
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, str):
        return _from_text(duration)
    if isinstance(duration, (int, float)) and not isinstance(duration, bool):
        return float(duration)
    raise TypeError(f'a duration is seconds, a timedelta or text such as "7d", not {short_repr(duration)}')


def _from_text(text: str) -> float:
    compact = text.strip().lower()
    parts = _PART.findall(compact)
    if not parts or _PART.sub("", compact).strip():
        raise ValueError(f'{short_repr(text)} is no duration; write for example "500ms", "30s", "5m", "2h 30m" or "7d"')
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


_SPOKEN: Final = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def spoken(duration_s: float) -> str:
    """Return the duration in the words of a person: ``480 ms``, ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d``."""
    if not math.isfinite(duration_s):
        return "for ever"
    if round(duration_s * 1000) < 1000:
        return f"{duration_s * 1000:.0f} ms"
    if round(duration_s, 1) < 60:
        return f"{duration_s:.1f} s"
    whole = round(duration_s)
    size, unit, smaller, smaller_unit = next(row for row in _SPOKEN if whole >= row[0])
    large, rest = whole // size, whole % size // smaller
    return f"{large} {unit} {rest} {smaller_unit}" if rest else f"{large} {unit}"


def instant_of(at: datetime, option: str = "at=") -> int:
    """Return a datetime as microseconds UTC.

    Raises:
        ValueError, TypeError: it is not a datetime, has no zone, or has no date in UTC.
    """
    if not isinstance(at, datetime):
        raise TypeError(f"{option} takes a datetime, not {at!r}")
    if at.utcoffset() is None:
        raise ValueError(
            f"{at!r} has no time zone, so it is no instant; write iron.now() + timedelta(...), or "
            'datetime(..., tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))'
        )
    try:
        return (at.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
    except OverflowError:
        raise ValueError(f"{at!r} lies outside of the years 1 to 9999 in UTC") from None
