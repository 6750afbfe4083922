"""Which instants a schedule names, which of them are fired when a process looks, and which are missed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from ironflow_nb.core.durations import EPOCH, Duration, instant_of, seconds, spoken
from ironflow_nb.core.option_values import one_of

_MOST_COUNTED: Final = 10_000
"""Of a cron expression at most this number of missed instants is counted; after that only the newest is looked for."""
_WINDOWS_S: Final = (3600, 86400, 40 * 86400, 400 * 86400, 5000 * 86400)
GRACE_OF_NONE_S: Final = 10.0
"""The maximal delay of an instant if nothing is caught up, unless the schedule has a `grace_s`."""
_FIELDS: Final = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
_RANGES: Final = ("0 to 59", "0 to 59", "0 to 23", "1 to 31 or L", "1 to 12 or JAN to DEC", "0 to 7 or SUN to SAT")


class CatchUp(StrEnum):
    """What is fired of several instants that passed while no process was there."""

    LATEST = "latest"
    ALL = "all"
    NONE = "none"


class ScheduleRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rule of a schedule: a cron expression in a zone, an interval, or one instant; and what is caught up.

    The interval `every` and the instant `at` are microseconds, the instant UTC.
    """

    cron: str | None = None
    tz: str = "UTC"
    every: int | None = None
    at: int | None = None
    catch_up: CatchUp = CatchUp.LATEST
    grace_s: float | None = None

    def __str__(self) -> str:
        if self.cron is not None:
            return self.cron
        if self.every is not None:
            return f"every {spoken(self.every / 1e6)}"
        return f"at {(EPOCH + timedelta(microseconds=self.at or 0)).isoformat(sep=' ')}"

    @property
    def allowed_s(self) -> float | None:
        """How late an instant may be fired at most; None is any time."""
        return GRACE_OF_NONE_S if self.grace_s is None and self.catch_up is CatchUp.NONE else self.grace_s

    def first(self, begins_at: int) -> int | None:
        """Return the first instant of a schedule that begins then."""
        return self.at if self.at is not None else self.following(begins_at, begins_at)

    def following(self, begins_at: int, after: int) -> int | None:
        """Return the first instant after another one, of a schedule that begins at `begins_at`; None without any."""
        return next(self._instants(begins_at, after), None)

    def _instants(self, begins_at: int, after: int) -> Iterator[int]:
        """Yield the instants after that one, in order."""
        if self.at is not None:
            yield from [self.at] if self.at > after else []
        elif self.every is not None:
            number = (after - begins_at) // self.every
            while True:
                number += 1
                yield begins_at + number * self.every
        else:
            assert self.cron is not None
            yield from _instants_of_cron(self.cron, zone(self.tz), after)


def after_set_back(rule: ScheduleRule, begins_at: int, next_at: int, now: int) -> tuple[int, int]:
    """Return when a schedule begins, and what is next, if its next instant is further away than any can be.

    Then the clock was set back. An interval begins anew, at an instant that it has not named before; a cron expression
    names instants of the new time, of which those that were fired are known. One instant stays where it is.
    """
    if rule.every is not None and next_at > now + rule.every:
        again_at = now if (now - begins_at) % rule.every else now + 1
        return again_at, again_at + rule.every
    if rule.cron is not None:
        following = rule.following(begins_at, now)
        return begins_at, next_at if following is None else min(next_at, following)
    return begins_at, next_at


class DueInstants(NamedTuple):
    """The instant to fire now or None, the next instant, and the number of instants that are missed for ever."""

    fired_at: int | None
    next_at: int | None
    n_missed: int


def due_instants(rule: ScheduleRule, begins_at: int, next_at: int, now: int) -> DueInstants:
    """Return the instants of a schedule that are due `now`. Everything before `next_at` was handled earlier."""
    oldest = next_at if rule.allowed_s is None else max(next_at, now - round(rule.allowed_s * 1e6))
    if rule.catch_up is CatchUp.ALL:
        n_missed, _ = _passed(rule, begins_at, next_at, oldest - 1)
        fired = next_at if n_missed == 0 else rule.following(begins_at, oldest - 1)
        if fired is None or fired > now:
            return DueInstants(None, fired, n_missed)
        return DueInstants(fired, rule.following(begins_at, fired), n_missed)
    n_passed, newest = _passed(rule, begins_at, next_at, now)
    fired = newest if newest >= oldest else None
    return DueInstants(fired, rule.following(begins_at, newest), n_passed - (fired is not None))


def _passed(rule: ScheduleRule, begins_at: int, first: int, until: int) -> tuple[int, int]:
    """Return how many instants there are from the first one to the instant `until`, and the newest of them."""
    if until < first:
        return 0, first
    if rule.at is not None:
        return 1, first
    if rule.every is not None:
        n_more = (until - first) // rule.every
        return n_more + 1, first + n_more * rule.every
    newest, n_passed = first, 1
    for instant in islice(rule._instants(begins_at, first), _MOST_COUNTED):  # noqa: SLF001 -- its own module
        if instant > until:
            return n_passed, newest
        newest, n_passed = instant, n_passed + 1
    return n_passed, _newest(rule, begins_at, newest, until)


def _newest(rule: ScheduleRule, begins_at: int, known: int, until: int) -> int:
    """Return the newest instant up to `until`; `known` is one of them."""
    for window_s in _WINDOWS_S:
        newest = None
        for instant in rule._instants(begins_at, max(known, until - window_s * 1_000_000)):  # noqa: SLF001
            if instant > until:
                break
            newest = instant
        if newest is not None:
            return newest
    return known


# -- rules that people write -------------------------------------------------------------------------------------------


def schedule_rule(
    cron: str | None,
    *,
    every_s: Duration | None,
    at: datetime | None,
    tz: str | None,
    catch_up: str,
    grace_s: Duration | None,
) -> ScheduleRule:
    """Return the rule that the options of a schedule make.

    Raises:
        ValueError, TypeError: an option has an invalid value, or not exactly one of them gives the rule.
        ModuleNotFoundError: a cron expression needs the package cronsim.
    """
    given = [name for name, each in (("cron", cron), ("every_s", every_s), ("at", at)) if each is not None]
    if len(given) != 1:
        raise ValueError(
            "a schedule has one rule: a cron expression, every_s= or at=; "
            f"{'none is given' if not given else ' and '.join(given) + ' are given'}"
        )
    if tz is not None and cron is None:
        raise ValueError(f"tz= is the zone of a cron expression; {given[0]} needs none, so leave out tz={tz!r}")
    return ScheduleRule(
        cron=None if cron is None else _cron(cron),
        tz="UTC" if tz is None else _zone_name(tz),
        every=None if every_s is None else _interval(every_s),
        at=None if at is None else instant_of(at),
        catch_up=one_of(CatchUp, catch_up, "catch_up"),
        grace_s=None if grace_s is None else seconds(grace_s),
    )


def zone(name: str) -> tzinfo:
    """Return the time zone of that name, from the system or from the package tzdata.

    Raises:
        ValueError: there is none.
    """
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    advice = 'the names are those of the IANA database, such as "Europe/Berlin"'
    if not zoneinfo.available_timezones():
        advice = "this machine has no time zones: pip install tzdata"
    raise ValueError(f"there is no time zone {name!r}; {advice}")


def _zone_name(tz: object) -> str:
    if not isinstance(tz, str):
        raise TypeError(f'tz is the name of a zone such as "Europe/Berlin", not {tz!r}')
    zone(tz)
    return tz


def _interval(every_s: Duration) -> int:
    every = round(min(seconds(every_s), 1e12) * 1e6)
    if not 1000 <= every < 1e15:
        raise ValueError(f"every_s is how many seconds lie between two instants, from 0.001 to 1e9, not {every_s!r}")
    return every


def _cron(cron: str) -> str:
    """Return the expression, checked.

    Raises:
        ValueError: it is not a cron expression; the message names the field.
    """
    if not isinstance(cron, str):
        raise TypeError(f'a cron expression is a text such as "0 6 * * MON-FRI", not {cron!r}')
    if next(_instants_of_cron(cron, UTC, 0), None) is None:
        raise ValueError(f"the cron expression {cron!r} names no instant: no year has such a day")
    return cron


def _instants_of_cron(cron: str, tz: tzinfo, after: int) -> Iterator[int]:
    """Yield the instants after that one, in order.

    A daily time that a change of the clocks skips is fired right after the change; one that comes twice is fired once,
    the first time. An expression that fires every few minutes or hours counts the time that really passes.
    """
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "schedules by cron need the package cronsim: pip install 'ironflow-nb[schedule]'; every_s= and at= need it "
            "not",
            name="cronsim",
        ) from None
    begin = (EPOCH + timedelta(microseconds=after)).astimezone(tz)
    try:
        found = CronSim(cron, begin)
    except CronSimError as error:
        raise ValueError(f"{cron!r} is no cron expression: {_place(cron, str(error))}") from None
    for each in found:
        instant = (each.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
        if instant > after:  # of an hour that comes twice, cronsim may begin with the first one again
            yield instant


def _place(cron: str, message: str) -> str:
    """Return which field is wrong, and what it can be."""
    parts = cron.split()
    name = message.removeprefix("Bad ")
    if name not in _FIELDS or len(parts) not in {5, 6}:
        return f"it has {len(parts)} fields, and not 5 (minute hour day-of-month month day-of-week)"
    number = _FIELDS.index(name)
    found = parts[number - (len(parts) == 5)]
    return f"its {name} is {found!r}, which takes {_RANGES[number]}, lists, ranges and steps"
