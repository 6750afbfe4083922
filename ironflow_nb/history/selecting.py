"""What people ask of history, as what the journal understands."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias, TypeVar

from ironflow_nb.core.durations import seconds
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.finding import resolve_run
from ironflow_nb.journal.ports import Reader, Select

When: TypeAlias = datetime | str | float | None
S = TypeVar("S", bound=StrEnum)


def selected(
    engine: Engine, reader: Reader, *, flow: object | None, run: str | None, since: When, limit: int | None = None
) -> Select:
    """Return the selection of runs.

    Raises:
        RunNotFound, AmbiguousRun: `run` names no run, or several.
        TypeError, ValueError: an argument is not what it should be.
    """
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise ValueError(f"limit is a number of rows, not {limit!r}")
    return Select(
        name=None if flow is None else _flow_name(flow),
        run_ids=None if run is None else [resolve_run(reader, getattr(run, "id", run)).run_id],
        since=_instant(since, engine.ledger.clock.now()),
        limit=limit,
    )


def _flow_name(flow: object) -> str:
    name = flow if isinstance(flow, str) else getattr(flow, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"flow is a flow or the name of one, not {flow!r}")
    return name


def _instant(since: When, now: int) -> int | None:
    """Return the instant in microseconds UTC; a naive datetime is local time, a duration counts back from now."""
    if since is None:
        return None
    if isinstance(since, str):
        try:
            since = datetime.fromisoformat(since)
        except ValueError:
            return now - round(seconds(since) * 1e6)  # type: ignore[arg-type] # still the text
    if isinstance(since, datetime):
        return round(since.astimezone(UTC).timestamp() * 1e6)
    return now - round(seconds(since) * 1e6)


def statuses(kind: type[S], given: str | Collection[str] | None) -> frozenset[S]:
    """Return the statuses that were asked for; none means all.

    Raises:
        ValueError: one of them is no status.
    """
    if given is None:
        return frozenset()
    texts = [given] if isinstance(given, str) else list(given)
    try:
        return frozenset(kind(text) for text in texts)
    except ValueError:
        raise ValueError(f"status is one of {', '.join(kind)}, not {given!r}") from None
