"""The view of a journal: its newest runs, how many there are of each status, how fast they are, and what they wait for.

It has no clock and reads nothing. While nothing happens in the journal, its views are equal. Instants are microseconds
UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.views import deltas
from ironflow_nb.views.deltas import Delta
from ironflow_nb.views.error_signature import without_numbers
from ironflow_nb.views.run_view import BreakerView, LaneView

_STEPS_S: Final = (
    1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000,
)  # fmt: skip


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a list. The status is the derived one; `n_known` counts its recorded steps."""

    run_id: RunId
    kind: str
    name: str
    status: str
    started_at: int
    ended_at: int | None = None
    n_done: int = 0
    n_failed: int = 0
    n_known: int = 0
    key: str | None = None
    error: str | None = None


class FlowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one definition. The percentiles are those of runs that completed at the first go."""

    kind: str
    name: str
    n_by_status: Mapping[str, int] = {}
    p50_s: float | None = None
    p95_s: float | None = None


class ThroughputView(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of runs that ended in each of the equal spans from `began_at`, by how they ended."""

    began_at: int = 0
    span_s: int = 1
    n_completed: tuple[int, ...] = ()
    n_failed: tuple[int, ...] = ()
    n_other: tuple[int, ...] = ()


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one flow that failed alike: with errors that differ only in numbers. `run_id` is the newest of them."""

    flow: str
    signature: str
    n: int
    last_at: int
    run_id: RunId
    error: str


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, and when it fires next; see `ironflow_nb.schedules`."""

    name: str
    flow: str
    rule: str
    state: str
    next_at: int | None = None
    last_at: int | None = None
    n_missed: int = 0


class QuestionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A question that a run asks."""

    run_id: RunId
    flow: str
    step: StepRef
    question: str
    asked_at: int
    due_at: int | None = None


class DeadLetterView(msgspec.Struct, frozen=True, kw_only=True):
    """Work that failed in its last attempt: an effect, a timer, a start of a run, a notification."""

    key: str
    kind: str
    name: str
    dead_at: int
    error: str | None = None
    run_id: RunId | None = None


class ProjectionView(msgspec.Struct, frozen=True, kw_only=True):
    """A projection, and how many events it has still to fold; None if it is not defined in this process."""

    name: str
    lag: int | None = None
    error: str | None = None


class JournalView(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown of a journal at one moment.

    `n_by_status` counts the runs that began since `since_at`, and older ones that have not ended; runs of deciders,
    which are there as long as their instances, and children are not among them. `runs` are the first of those that the
    filter leaves.
    """

    location: str = ""
    since_at: int | None = None
    n_by_status: Mapping[str, int] = {}
    n_found: int = 0
    """How many runs the filter leaves."""
    p50_s: float | None = None
    p95_s: float | None = None
    throughput: ThroughputView = ThroughputView()
    n_waiting: int = 0
    n_dead: int = 0
    n_processes: int = 0
    """How many processes with runs are alive."""
    runs: tuple[RunSummary, ...] = ()
    flows: tuple[FlowSummary, ...] = ()
    failures: tuple[FailureView, ...] = ()
    lanes: tuple[LaneView, ...] = ()
    breakers: tuple[BreakerView, ...] = ()
    schedules: tuple[ScheduleView, ...] = ()
    waiting: tuple[QuestionSummary, ...] = ()
    dead_letters: tuple[DeadLetterView, ...] = ()
    projections: tuple[ProjectionView, ...] = ()

    def delta(self, since: JournalView) -> Delta:
        """Return what has changed since an earlier view; since an empty one that is all of it."""
        return deltas.delta(since, self, _KEYS)

    def after(self, change: Delta) -> JournalView:
        """Return the view that the change makes of this one."""
        return deltas.applied(self, change, _KEYS)


_KEYS: Final[deltas.Keys] = {
    "runs": lambda each: each.run_id,
    "flows": lambda each: f"{each.kind} {each.name}",
    "failures": lambda each: f"{each.flow} {each.signature}",
    "lanes": lambda each: f"{each.lane} {each.key}",
    "breakers": lambda each: each.name,
    "schedules": lambda each: f"{each.flow} {each.name}",
    "waiting": lambda each: f"{each.run_id} {each.step}",
    "dead_letters": lambda each: f"{each.run_id} {each.kind} {each.key}",
    "projections": lambda each: each.name,
}


def failure_views(failed: Iterable[tuple[RunId, str, int, str]]) -> tuple[FailureView, ...]:
    """Return the failures by signature, the most frequent first.

    Args:
        failed: run, flow, instant and error of each, the newest first.
    """
    found: dict[tuple[str, str], FailureView] = {}
    for run_id, flow, at, error in failed:
        key = flow, without_numbers(error)
        known = found.get(key)
        first = FailureView(flow=flow, signature=key[1], n=0, last_at=at, run_id=run_id, error=error)
        found[key] = msgspec.structs.replace(known or first, n=1 if known is None else known.n + 1)
    return tuple(sorted(found.values(), key=lambda each: (-each.n, -each.last_at)))


def percentiles(durations: Sequence[int]) -> tuple[float | None, float | None]:
    """Return the 50th and the 95th percentile in seconds of durations in microseconds; None without any."""
    if not durations:
        return None, None
    ordered = sorted(durations)
    return tuple(ordered[(len(ordered) - 1) * percent // 100] / 1e6 for percent in (50, 95))  # type: ignore[return-value]


def span_of_bars(whole_s: float, n_bars: int) -> int:
    """Return the seconds of one bar, a round number, so that at most `n_bars` cover the whole."""
    return next((step for step in _STEPS_S if step * n_bars >= whole_s), _STEPS_S[-1])
