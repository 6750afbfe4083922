"""What a dashboard counts: runs by flow and status, their ends by time, their durations and failures. Reads only."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import ENDED, RunKind, RunStatus
from ironflow_nb.journal.ports import Reader

MOST_DURATIONS: Final = 20_000
MOST_FAILURES: Final = 2_000
_OPEN: Final = ", ".join(f"'{status.value}'" for status in RunStatus if status not in ENDED)
ORDERS: Final[Mapping[str, str]] = {
    "newest": "r.started_at DESC",
    "oldest": "r.started_at",
    "longest": "coalesce(r.ended_at, :now) - r.started_at DESC",
    "shortest": "coalesce(r.ended_at, :now) - r.started_at",
    "flow": "r.name, r.started_at DESC",
    "status": "r.status, r.started_at DESC",
}
"""The orders of a list of runs."""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are listed and counted: of one definition (kind and name), of some statuses, since an instant.

    The statuses are recorded ones, and apply to the list; `moved_in` have such a status though another one is recorded,
    `moved_out` the other way round.
    """

    of: tuple[str, str] | None = None
    statuses: Collection[str] | None = None
    since: int | None = None
    order: str = "newest"
    limit: int = 50
    moved_in: Collection[str] = ()
    moved_out: Collection[str] = ()


class FailedRun(NamedTuple):
    """A run that failed, and a preview of its error."""

    run_id: RunId
    flow: str
    started_at: int
    error: str


class RunTallies:
    """Reads through the connection of a reader of the journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def by_status(self, chosen: RunFilter) -> list[tuple[str, str, str, int, int]]:
        """Return kind, name, status, number and first instant of the runs; of deciders too."""
        return self._all(
            f"""
            SELECT r.kind, r.name, r.status, count(*), min(r.started_at) FROM runs r WHERE {_of_any_kind(chosen)}
            GROUP BY r.kind, r.name, r.status ORDER BY r.kind, r.name, r.status
            """,
            chosen,
        )

    def with_status(self, statuses: Collection[str]) -> list[RunId]:
        """Return the ids of the runs that have one of the recorded statuses, without children and deciders."""
        chosen = RunFilter(statuses=statuses)
        where = _of_runs(chosen)
        query = f"SELECT r.run_id FROM runs r WHERE {where} AND r.status IN (SELECT value FROM json_each(:statuses))"
        return [run_id for (run_id,) in self._all(query, chosen)]

    def ends(self, chosen: RunFilter, began_at: int, span: int) -> list[tuple[int, str, int]]:
        """Return for each span of microseconds since `began_at`: its number, a status, how many runs ended so."""
        return self._all(
            f"""
            SELECT (r.ended_at - :began_at) / :span, r.status, count(*) FROM runs r
            WHERE {_of_runs(chosen)} AND r.ended_at >= :began_at GROUP BY 1, 2 ORDER BY 1, 2
            """,
            chosen,
            began_at=began_at,
            span=span,
        )

    def durations(self, chosen: RunFilter) -> list[tuple[str, str, int]]:
        """Return kind, name and microseconds of the newest runs that completed at the first go."""
        return self._all(
            f"""
            SELECT r.kind, r.name, r.ended_at - r.started_at FROM runs r
            WHERE {_of_runs(chosen)} AND r.status = 'completed' AND r.n_sessions = 1 AND r.n_reused = 0
            AND r.ended_at >= r.started_at
            ORDER BY r.started_at DESC LIMIT {MOST_DURATIONS}
            """,
            chosen,
        )

    def failures(self, chosen: RunFilter) -> list[FailedRun]:
        """Return the newest runs that failed, newest first."""
        rows = self._all(
            f"""
            SELECT r.run_id, r.name, r.started_at, coalesce(v.preview, '') FROM runs r
            LEFT JOIN "values" v ON v.value_id = r.error_id WHERE {_of_runs(chosen)} AND r.status = 'failed'
            ORDER BY r.started_at DESC LIMIT {MOST_FAILURES}
            """,
            chosen,
        )
        return [FailedRun(*row) for row in rows]

    def listed(self, chosen: RunFilter, now: int) -> tuple[list[RunId], int]:
        """Return the ids of the first runs in the order, and how many there are in all."""
        where = _of_runs(chosen) if chosen.of is None else _of_any_kind(chosen)
        if chosen.statuses is not None:
            where += """ AND (
                r.status IN (SELECT value FROM json_each(:statuses))
                AND r.run_id NOT IN (SELECT value FROM json_each(:moved_out))
                OR r.run_id IN (SELECT value FROM json_each(:moved_in)))"""
        [(n_found,)] = self._all(f"SELECT count(*) FROM runs r WHERE {where}", chosen)
        query = f"SELECT r.run_id FROM runs r WHERE {where} ORDER BY {ORDERS[chosen.order]}, r.run_id LIMIT :limit"
        return [run_id for (run_id,) in self._all(query, chosen, now=now)], n_found

    def projections(self) -> list[tuple[str, str | None]]:
        """Return the names of the projections, and their errors."""
        return self._connection.execute("SELECT name, error FROM projections ORDER BY name").fetchall()

    def _all(self, query: str, chosen: RunFilter, **more: int) -> list[Any]:
        kind, name = (None, None) if chosen.of is None else chosen.of
        sets = {each: msgspec.json.encode(sorted(getattr(chosen, each) or ())).decode() for each in _SETS}
        given = {"since": chosen.since, "kind": kind, "name": name, "limit": chosen.limit, **sets, **more}
        return self._connection.execute(query, given).fetchall()


def _of_any_kind(chosen: RunFilter) -> str:
    """Return the condition for runs since an instant, and older ones that go on; children are seen in their callers."""
    where = "r.parent_run_id IS NULL"
    if chosen.since is not None:
        where += f" AND (r.started_at >= :since OR r.status IN ({_OPEN}))"
    return where if chosen.of is None else f"{where} AND r.kind = :kind AND r.name = :name"


def _of_runs(chosen: RunFilter) -> str:
    return f"{_of_any_kind(chosen)} AND r.kind <> '{RunKind.DECIDER}'"


_SETS: Final = ("statuses", "moved_in", "moved_out")


def run_tallies_of(reader: Reader) -> RunTallies:
    """Return the counts at the moment of the reader."""
    return reader.extension(RunTallies)
