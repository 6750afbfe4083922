"""What one attempt reports while it goes on, or the flow between its steps: its log, metrics and progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ironflow_nb.core.identity import ROOT_BRANCH, BranchId
from ironflow_nb.telemetry.attempt_log import AttemptLog
from ironflow_nb.telemetry.telemetry_rows import OF_FLOW, LogRow, MetricRow, ProgressRow


class ItemCount:
    """How many items of one series are done, of `n_total` if that is known."""

    __slots__ = ("n_done", "n_total")

    def __init__(self, n_total: int | None) -> None:
        self.n_done = 0
        self.n_total = n_total


class AttemptTelemetry:
    """What one attempt reports, or the flow in one continuation of its run.

    Lock: that of its `RunTelemetry`.
    """

    def __init__(self, place: tuple[str, int], number: int, redact: Callable[[str], str]) -> None:
        self.name, self.index = place
        self.number = number
        self.log = AttemptLog(redact)
        self.is_over = False
        self._n_metrics: Counter[tuple[BranchId, str]] = Counter()
        self._open: list[ItemCount] = []
        self._shown: ItemCount | None = None
        self._written: tuple[int, int | None, bool] | None = None

    @property
    def _n_reported(self) -> int:
        """The attempt of metrics and progress: a flow reports the same ones in each continuation."""
        return self.number if self.name else OF_FLOW[1]

    def metric(self, branch: BranchId, metric: str, value: float, at: int) -> MetricRow:
        """Return the next value of that name."""
        branch = ROOT_BRANCH if self.name else branch
        nth = self._n_metrics[branch, metric]
        self._n_metrics[branch, metric] += 1
        return MetricRow(
            name=self.name, index=self.index, attempt=self._n_reported, at=at, branch=branch, metric=metric, nth=nth,
            value=value,
        )  # fmt: skip

    def begin(self, count: ItemCount) -> None:
        """Begin to count; what is counted inside of another count is not shown."""
        self._open.append(count)
        self._shown = self._open[0]

    def end(self, count: ItemCount) -> None:
        """End a count, which stays shown until another one begins."""
        if count in self._open:
            self._open.remove(count)
            if self._open:
                self._shown = self._open[0]

    def log_rows(self) -> list[LogRow]:
        """Return the pieces of the log that were not returned yet."""
        return [
            LogRow(
                name=self.name, index=self.index, attempt=self.number, at=piece.at, number=piece.number,
                stream=piece.stream, level=piece.level, text=piece.text, until=piece.until,
            )
            for piece in (self.log.finish() if self.is_over else self.log.take())
        ]  # fmt: skip

    def progress_row(self, at: int) -> ProgressRow | None:
        """Return the progress, unless it is as it was at the last time."""
        if self._shown is None:
            return None
        now = self._shown.n_done, self._shown.n_total, not self.is_over
        if now == self._written:
            return None
        self._written = now
        n_done, n_total, is_open = now
        return ProgressRow(
            name=self.name, index=self.index, attempt=self._n_reported, at=at, n_done=n_done, n_total=n_total,
            is_open=is_open,
        )  # fmt: skip
