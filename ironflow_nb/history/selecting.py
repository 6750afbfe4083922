"""What people ask of history, as what the journal understands."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import index
from typing import Final, TypeAlias, TypeVar

from ironflow_nb.core.durations import seconds
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.finding import resolve_run
from ironflow_nb.execution.spec import a_text
from ironflow_nb.journal.ports import Reader, Select

When: TypeAlias = datetime | timedelta | str | float | None
MOST_ROWS: Final = 2**63 - 1
"""The largest number that a statement takes."""
_HAVING_RUNS: Final = frozenset({"flow", "graph", "decider"})

S = TypeVar("S", bound=StrEnum)


def selected(
    engine: Engine, reader: Reader, *, flow: object | None, run: str | None, since: When, limit: int | None = None
) -> Select:
    """Return the selection of what runs have; a text names flows by their last part too, a flow only itself.

    Raises:
        RunNotFound, AmbiguousRun: `run` names no run, or several.
        TypeError, ValueError: an argument is not what it should be.
    """
    return Select(
        run_name=None if flow is None else _flow_name(flow),
        is_full_name=not isinstance(flow, str),
        run_ids=None if run is None else [resolve_run(reader, getattr(run, "id", run)).run_id],
        since=_instant(since, engine.ledger.clock.now()),
        limit=n_rows(limit),
    )


def n_rows(limit: int | None) -> int | None:
    """Return the limit, if it is one.

    Raises:
        ValueError: it is no number of rows.
    """
    try:
        found = None if limit is None else index(limit)
    except TypeError:
        found = -1
    if found is not None and found < 0:
        raise ValueError(f"limit is a number of rows, not {limit!r}")
    return None if found is None else min(found, MOST_ROWS)


def _flow_name(flow: object) -> str:
    if isinstance(flow, str):
        return a_text("flow", flow)
    style, name = (getattr(flow, each, None) for each in ("__ironflow_definition__", "name"))
    if style in _HAVING_RUNS and isinstance(name, str):
        return name
    is_step = style == "step"
    hint = f"; its attempts are the rows of iron.attempts() whose `name` is {name!r}" if is_step else ""
    raise TypeError(f"flow is a flow, a graph, a decider or the name of one, not {flow!r}{hint}")


def _instant(since: When, now: int) -> int | None:
    """Return the instant in microseconds UTC; a naive datetime is local time, a duration counts back from now."""
    if since is None:
        return None
    if isinstance(since, str):
        with suppress(ValueError):
            since = datetime.fromisoformat(since)
    if isinstance(since, datetime):
        return round(since.astimezone(UTC).timestamp() * 1e6)
    before_s = seconds(since)
    return now - round(before_s * 1e6) if before_s * 1e6 < now else None


def statuses(kind: type[S], given: str | Collection[str] | None) -> frozenset[S] | None:
    """Return the statuses that were asked for, None if any will do.

    Raises:
        ValueError: one of them is no status.
    """
    if given is None:
        return None
    texts = [given] if isinstance(given, str) else list(given)
    try:
        return frozenset(kind(text) for text in texts)
    except ValueError:
        raise ValueError(f"status is one of {', '.join(kind)}, not {given!r}") from None
