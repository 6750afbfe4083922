"""What attempts report beside their results: their logs, metrics and progress; rows, and reads of them.

A row of a step has its name and index. One of the flow itself has an empty name; its attempts are the continuations of
the run, and its metrics and progress have the attempt 0, for a replay reports them again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import msgspec

from ironflow_nb.core.identity import RunId, StepRef, step_ref
from ironflow_nb.core.plain_text import done_of
from ironflow_nb.core.status import StepStatus
from ironflow_nb.journal.ports import Addition
from ironflow_nb.journal.table import insert, json_list

if TYPE_CHECKING:
    import sqlite3

OF_FLOW: Final = ("", 0)
"""Name and index of what belongs to the flow itself."""


class TelemetryRow(Addition, frozen=True, kw_only=True):
    """A row that belongs to an attempt of a step, or to the flow."""

    name: str
    index: int
    attempt: int
    at: int

    @property
    def step(self) -> StepRef | None:
        """The step, None for the flow."""
        return step_ref(self.name, self.index) if self.name else None


class LogRow(TelemetryRow, frozen=True, kw_only=True):
    """Some lines of a log; see `LogPiece`. It takes the place of all pieces after it up to `until`."""

    number: int
    stream: str
    level: str | None
    text: str
    until: int | None = None

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        key = run_id, self.name, self.index, self.attempt
        connection.execute(_PUT_LOG, (*key, self.number, self.at, self.stream, self.level, self.text))
        if self.until is not None:
            connection.execute(_OMIT_LOG, (*key, self.number, self.until))


class MetricRow(TelemetryRow, frozen=True, kw_only=True):
    """One measured value, the `nth` of its name in the attempt, or in the branch of a flow.

    The value of a flow that is reported again replaces the recorded one, and has a new instant only if it differs.
    """

    branch: str
    metric: str
    nth: int
    value: float

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        of = run_id, self.name, self.index, self.attempt, self.branch
        connection.execute(_PUT_METRIC, (*of, self.metric, self.nth, self.at, self.value))


class ProgressRow(TelemetryRow, frozen=True, kw_only=True):
    """How many items of an attempt are done, of `n_total` if that is known."""

    n_done: int
    n_total: int | None
    is_open: bool

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        of = run_id, self.name, self.index, self.attempt
        connection.execute(_PUT_PROGRESS, (*of, self.at, self.n_done, self.n_total, self.is_open))


class OpenProgress(msgspec.Struct, frozen=True):
    """How far a running attempt is, or the flow itself, at an instant; with the call site of the step."""

    name: str
    site: str
    at: int
    n_done: int
    n_total: int | None

    @property
    def share(self) -> float | None:
        """The share that is done, if the number of all is known."""
        return min(self.n_done / self.n_total, 1.0) if self.n_total else None

    @property
    def words(self) -> str:
        """How far it is: ``41 of 200 (20%)``."""
        done = done_of(self.n_done, self.n_total)
        return done if self.share is None else f"{done} ({int(self.share * 100)}%)"


class TelemetryReader:
    """Reads of what attempts have reported, of one moment of the journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def logs(self, run_id: str) -> list[LogRow]:
        """Return the log of a run, by step, attempt and number."""
        return [
            LogRow(name=name, index=index, attempt=attempt, at=at, number=number, stream=stream, level=level, text=text)
            for name, index, attempt, number, at, stream, level, text in self._connection.execute(_LOGS, (run_id,))
        ]

    def measured_runs(self) -> list[RunId]:
        """Return the runs that have metrics."""
        return [run_id for (run_id,) in self._connection.execute("SELECT DISTINCT run_id FROM metrics")]

    def metrics(self, run_ids: Collection[str]) -> list[tuple[RunId, MetricRow]]:
        """Return the metrics of the runs, by run and instant."""
        found = self._connection.execute(_METRICS, (json_list(run_ids),))
        return [
            (
                run_id,
                MetricRow(
                    name=name, index=index, attempt=attempt, branch=branch, metric=metric, nth=nth, at=at,
                    value=float("nan") if value is None else value,
                ),
            )
            for run_id, name, index, attempt, branch, metric, nth, at, value in found
        ]  # fmt: skip

    def progress(self, run_ids: Collection[str]) -> dict[tuple[RunId, StepRef | None, int], tuple[int, int | None]]:
        """Return how many items are done, and how many there are, by run, step and attempt."""
        return {
            (run_id, step_ref(name, index) if name else None, attempt): (n_done, n_total)
            for run_id, name, index, attempt, n_done, n_total in self._connection.execute(
                _PROGRESS, (json_list(run_ids),)
            )
        }

    def open_progress(self, run_id: str) -> list[OpenProgress]:
        """Return how far the running attempts of the run are, and the flow itself."""
        found = self._connection.execute(_OPEN_PROGRESS, (StepStatus.RUNNING.value, run_id))
        return [OpenProgress(*row) for row in found]


_OF_ATTEMPT: Final = ("run_id", "name", "index", "attempt")
_PUT_LOG: Final = insert("logs", [*_OF_ATTEMPT, "number", "at", "stream", "level", "text"], [*_OF_ATTEMPT, "number"])
_OMIT_LOG: Final = (
    'DELETE FROM logs WHERE run_id = ? AND name = ? AND "index" = ? AND attempt = ? AND number > ? AND number <= ?'
)
_PUT_METRIC: Final = """
    INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run_id, name, "index", attempt, branch, metric, nth)
    DO UPDATE SET value = excluded.value,
        at = CASE WHEN metrics.value IS excluded.value THEN metrics.at ELSE excluded.at END
"""
_PUT_PROGRESS: Final = insert("progress", [*_OF_ATTEMPT, "at", "n_done", "n_total", "is_open"], _OF_ATTEMPT)
_LOGS: Final = """
    SELECT name, "index", attempt, number, at, stream, level, text FROM logs WHERE run_id = ?
    ORDER BY name, "index", attempt, number
"""
_METRICS: Final = """
    SELECT * FROM metrics WHERE run_id IN (SELECT value FROM json_each(?))
    ORDER BY run_id, at, name, "index", attempt, branch, metric, nth
"""
_PROGRESS: Final = """
    SELECT run_id, name, "index", attempt, n_done, n_total FROM progress
    WHERE run_id IN (SELECT value FROM json_each(?))
"""
_OPEN_PROGRESS: Final = """
    SELECT p.name, ifnull(CASE WHEN json_valid(e.data) THEN json_extract(e.data, '$.site') END, ''),
        p.at, p.n_done, p.n_total
    FROM progress p
    LEFT JOIN steps s ON s.run_id = p.run_id AND s.name = p.name AND s."index" = p."index" AND s.attempt = p.attempt
        AND s.status = ?
    LEFT JOIN events e ON e.run_id = s.run_id AND e.version = s.version
    WHERE p.run_id = ? AND p.is_open AND (p.name = '' OR s.version IS NOT NULL)
    ORDER BY p.name, p."index", p.attempt
"""
