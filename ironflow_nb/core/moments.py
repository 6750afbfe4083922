"""Moments of a history as users name them: a version, an instant, a time of day. One meaning for all styles."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from operator import index
from typing import Final, TypeAlias

import msgspec

from ironflow_nb.errors import VersionNotFound

Moment: TypeAlias = "int | datetime | str"
"""A version (negative ones count from the newest), an instant (local, if it is naive), ISO text or ``"10:42"``."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The moments that a history has: versions, and instants in microseconds UTC.

    It lasts until its end, or until now while it goes on. `what` names it in messages, and `ids` are those of errors.
    """

    what: str
    newest: int
    began_at: int
    until: int
    is_over: bool
    first: int = 1
    ids: dict[str, str] = {}


def located(at: object, span: Span) -> tuple[int | None, int | None]:
    """Return the version, or the instant in microseconds UTC, that `at` names within the span.

    Raises:
        VersionNotFound: it has no such version, or did not exist then, or no longer.
        TypeError, ValueError: `at` names no moment at all.
    """
    if isinstance(at, str | datetime):
        return None, _instant(at, span)
    if isinstance(at, bool) or not hasattr(at, "__index__"):
        raise TypeError(f'at must be a version (an int), an instant (a datetime, ISO text) or "10:42", got {at!r}')
    return _version(index(at), span), None


def _version(number: int, span: Span) -> int:
    version = span.newest + 1 + number if number < 0 else number
    if span.first <= version <= span.newest:
        return version
    raise VersionNotFound(
        f"{span.what} has no version {number}; its newest is {span.newest}, and -1 names that one",
        version=number,
        newest=span.newest,
        **span.ids,
    )


def _instant(at: str | datetime, span: Span) -> int:
    when = at if isinstance(at, datetime) else _parsed(at, _local(span.until))
    found = (when.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    if span.began_at <= found <= span.until:
        return found
    ending = "ended" if span.is_over else "goes on; now it is"
    began, until = _local(span.began_at), _local(span.until)
    raise VersionNotFound(
        f"{at if isinstance(at, str) else at.isoformat()} is no moment of {span.what}: it began {began} and {ending} "
        f"{until}; its newest version is {span.newest}",
        newest=span.newest,
        **span.ids,  # type: ignore[arg-type]
    )


def _local(microseconds: int) -> datetime:
    return (_EPOCH + timedelta(microseconds=microseconds)).astimezone()


def _parsed(text: str, until: datetime) -> datetime:
    """Return the instant; a time of day is its latest occurrence until then."""
    with suppress(ValueError):
        of_day = time.fromisoformat(text.strip())
        today = until.replace(tzinfo=None).date()
        latest = datetime.combine(today, of_day)
        return latest if latest.astimezone() <= until else datetime.combine(today - timedelta(days=1), of_day)
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f'at={text!r} is no moment; write for example "10:42", "10:42:30" or "2026-03-01T10:42"'
        ) from None
