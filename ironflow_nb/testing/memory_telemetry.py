"""What attempts report, in plain Python: the reference of `ironflow_nb.telemetry.telemetry_rows`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TypeAlias

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.journal.ports import Addition
from ironflow_nb.telemetry.telemetry_rows import (
    LogRow,
    MetricRow,
    OpenProgress,
    ProgressRow,
    TelemetryReader,
    TelemetryRow,
)

RunningSite: TypeAlias = Callable[[RunId, StepRef, int], str | None]
"""Returns the call site of an attempt; None if it is not running."""


class MemoryTelemetry(TelemetryReader):
    """The reports of a journal in memory."""

    def __init__(self, running_site: RunningSite) -> None:
        self._running_site = running_site
        self._logs: dict[tuple[RunId, str, int, int, int], LogRow] = {}
        self._metrics: dict[tuple[RunId, str, int, int, str, str, int], MetricRow] = {}
        self._progress: dict[tuple[RunId, str, int, int], ProgressRow] = {}

    def copy(self, running_site: RunningSite) -> MemoryTelemetry:
        """Return a copy, for a copy of the journal."""
        other = MemoryTelemetry(running_site)
        other._logs, other._metrics, other._progress = dict(self._logs), dict(self._metrics), dict(self._progress)
        return other

    def put(self, run_id: RunId, additions: Collection[Addition]) -> None:
        """Put the reports among the additions of a commit of that run."""
        for row in additions:
            if not isinstance(row, TelemetryRow):
                continue
            key = run_id, row.name, row.index, row.attempt
            match row:
                case LogRow():
                    self._put_log(key, row)
                case MetricRow():
                    place = (*key, row.branch, row.metric, row.nth)
                    known = self._metrics.get(place)
                    self._metrics[place] = row if known is None or _differ(known, row) else replace(row, at=known.at)
                case ProgressRow():
                    self._progress[key] = row

    def _put_log(self, key: tuple[RunId, str, int, int], row: LogRow) -> None:
        for number in range(row.number + 1, (row.number if row.until is None else row.until) + 1):
            self._logs.pop((*key, number), None)
        self._logs[(*key, row.number)] = replace(row, until=None)

    def logs(self, run_id: str) -> list[LogRow]:
        """See the base class."""
        return [row for key, row in sorted(self._logs.items(), key=lambda pair: pair[0]) if key[0] == run_id]

    def measured_runs(self) -> list[RunId]:
        """See `TelemetryReader`."""
        return list({key[0] for key in self._metrics})

    def metrics(self, run_ids: Collection[str]) -> list[tuple[RunId, MetricRow]]:
        """See the base class."""
        found = [(key, row) for key, row in self._metrics.items() if key[0] in run_ids]
        return [(key[0], row) for key, row in sorted(found, key=lambda pair: (pair[0][0], pair[1].at, pair[0][1:]))]

    def progress(self, run_ids: Collection[str]) -> dict[tuple[RunId, StepRef | None, int], tuple[int, int | None]]:
        """See the base class."""
        return {
            (run_id, row.step, attempt): (row.n_done, row.n_total)
            for (run_id, _, _, attempt), row in self._progress.items()
            if run_id in run_ids
        }

    def open_progress(self, run_id: str) -> list[OpenProgress]:
        """See the base class."""
        found: list[OpenProgress] = []
        for key, row in sorted(self._progress.items(), key=lambda pair: pair[0]):
            if key[0] == run_id and row.is_open:
                site = "" if row.step is None else self._running_site(key[0], row.step, row.attempt)
                if site is not None:
                    found.append(OpenProgress(row.name, site, row.at, row.n_done, row.n_total))
        return found


def _differ(known: MetricRow, row: MetricRow) -> bool:
    return known.value != row.value and not (math.isnan(known.value) and math.isnan(row.value))
