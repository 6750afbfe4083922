"""What the attempts of one run report while they go on, until it is committed: logs, metrics and progress.

It is written with the next commit of the run, at the latest after a second by the background thread. Nothing is made
for an attempt that reports nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeAlias

from ironflow_nb.core.identity import BranchId
from ironflow_nb.telemetry.attempt_telemetry import AttemptTelemetry, ItemCount
from ironflow_nb.telemetry.telemetry_rows import OF_FLOW, TelemetryRow

REPORT_S: Final = 1.0
"""The time after which what was reported is written."""


class Reporting(Protocol):
    """An attempt, with what it reports, once it does. Its `spec` has the name of its step."""

    spec: Any
    index: int
    number: int
    telemetry: AttemptTelemetry | None


class Times(Protocol):
    """A clock: instants in microseconds UTC, and seconds that never go back."""

    def now(self) -> int:
        """Return the instant."""

    def monotonic(self) -> float:
        """Return the seconds."""


Reporter: TypeAlias = Reporting | None
"""The attempt that reports something, None for the flow itself."""


class RunTelemetry:
    """The telemetry of one run in this process.

    `redact` takes the secrets of the run out of a text, `continuation` returns the number of the current continuation.

    Lock: its own, taken after that of the session; none is taken inside it.
    """

    def __init__(
        self,
        clock: Times,
        lock: AbstractContextManager[object],
        redact: Callable[[str], str],
        continuation: Callable[[], int],
    ) -> None:
        self._redact = redact
        self._continuation = continuation
        self.pending: list[TelemetryRow] = []
        self._clock = clock
        self._lock = lock
        self._going_on: dict[AttemptTelemetry, None] = {}
        self._of_flow: AttemptTelemetry | None = None
        self._taken_s = -math.inf

    @property
    def is_used(self) -> bool:
        """Return True if something was reported that may be still to be written."""
        return bool(self._going_on or self.pending)

    def begin(self) -> None:
        """Begin another continuation of the run."""
        self._of_flow = None

    # -- reporting -----------------------------------------------------------------------------------------------

    def write(self, reporter: Reporter, stream: str, text: str) -> None:
        """Add text that was written to a stream."""
        with self._lock:
            of = self._telemetry(reporter)
            if not of.is_over:
                of.log.write(stream, text, self._clock.now())

    def record(self, reporter: Reporter, level: str, text: str) -> None:
        """Add a record of logging."""
        with self._lock:
            of = self._telemetry(reporter)
            if not of.is_over:
                of.log.record(level, text, self._clock.now())

    def measure(self, reporter: Reporter, branch: BranchId, metric: str, value: float) -> None:
        """Add a measured value. A number that is a secret of the run becomes NaN."""
        if self._redact(text := repr(value)) != text:
            value = math.nan
        with self._lock:
            of = self._telemetry(reporter)
            if not of.is_over:
                self.pending.append(of.metric(branch, self._redact(metric), value, self._clock.now()))

    def begin_count(self, reporter: Reporter, count: ItemCount) -> Callable[[], None]:
        """Show the progress of a count until the returned function is called; who counts takes no lock."""
        with self._lock:
            of = self._telemetry(reporter)
            of.begin(count)

        def end() -> None:
            with self._lock:
                of.end(count)

        return end

    def _telemetry(self, reporter: Reporter) -> AttemptTelemetry:
        found = self._of_flow if reporter is None else reporter.telemetry
        if found is None:
            if reporter is None:
                found = self._of_flow = AttemptTelemetry(OF_FLOW, self._continuation(), self._redact)
            else:
                place = reporter.spec.name, reporter.index
                found = reporter.telemetry = AttemptTelemetry(place, reporter.number, self._redact)
            self._going_on[found] = None
        return found

    # -- the end of what reports ---------------------------------------------------------------------------------

    def finish(self, attempt: Reporting) -> None:
        """Take what an attempt still has to report; what its body reports later is dropped."""
        if attempt.telemetry is not None:
            with self._lock:
                self._finish(attempt.telemetry)

    def finish_flow(self) -> None:
        """Take what the flow still has to report in this continuation."""
        if self._of_flow is not None:
            with self._lock:
                self._finish(self._of_flow)

    def abandon(self, attempt: Reporting) -> None:
        """Drop all that the body of the attempt reports from now on."""
        with self._lock:
            self._finish(self._telemetry(attempt))

    def _finish(self, of: AttemptTelemetry) -> None:
        if not of.is_over:
            of.is_over = True
            self._take(of)
            self._going_on.pop(of, None)

    def _take(self, of: AttemptTelemetry) -> None:
        self.pending += of.log_rows()
        progress = of.progress_row(self._clock.now())
        if progress is not None:
            self.pending.append(progress)

    # -- writing -------------------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Return True if something may have been reported a second ago."""
        return self.is_used and self._clock.monotonic() - self._taken_s >= REPORT_S

    def hasten(self) -> bool:
        """Write all with the next commit; return True if there may be something."""
        self._taken_s = -math.inf
        return self.is_used

    def to_write(self) -> tuple[TelemetryRow, ...]:
        """Return what is to be written now; it stays pending until it is `written`."""
        with self._lock:
            if self.is_due():
                self._taken_s = self._clock.monotonic()
                for of in self._going_on:
                    self._take(of)
            return tuple(self.pending)

    def written(self, reports: Sequence[TelemetryRow]) -> None:
        """Note that these reports are committed."""
        with self._lock:
            del self.pending[: len(reports)]

    def drop(self) -> None:
        """Drop what is pending: the run is another process's now."""
        with self._lock:
            self.pending.clear()
