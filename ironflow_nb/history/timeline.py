"""The timeline of a run: each attempt, wait, queue and child by time, as a frame and as a Gantt chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Self

import pandas as pd

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import counted, plain
from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.draw import Picture
from ironflow_nb.diagram.gantt import CHILD, QUEUE, STEP, WAIT, Bar, gantt_svg, gantt_text, rows_of
from ironflow_nb.diagram.palette import WAY, step_look
from ironflow_nb.execution import Engine
from ironflow_nb.history.pictured_frame import PicturedFrame
from ironflow_nb.history.run_bars import bars_of
from ironflow_nb.history.run_status import run_and_status
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Select

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS: Final = {
    "run_id": TEXT, "step": TEXT, "attempt": COUNT, "kind": TEXT, "status": TEXT, "reason": TEXT,
    "started_at": INSTANT, "finished_at": INSTANT, "duration_s": "float64", "is_critical": "bool",
}  # fmt: skip


class Timeline(PicturedFrame):
    """The attempts of a run by their beginnings, one row each, displayed as a Gantt chart."""

    _metadata = ["headline", "picture", "bars"]  # noqa: RUF012 -- how pandas lets a subclass have attributes
    bars: Sequence[Bar] = ()

    @classmethod
    def of(cls, bars: Sequence[Bar], name: str) -> Self:
        """Make the timeline of the bars, which are sorted by their beginnings."""
        own = [bar for bar in bars if not bar.is_taken]
        critical = critical_path(own)
        bars = [bar._replace(is_critical=bar in critical) for bar in bars]
        own = [bar for bar in bars if not bar.is_taken]
        picture = Picture(
            svg=gantt_svg(own, _changes(own), name) if own else None,
            text=gantt_text(own) if own else "no step has begun",
        )
        headline = plain(f"{name}: {_headline(own, len(bars) - len(own))}")
        made = cls.of_frame(frame_of_records(COLUMNS, list(map(_record, bars))), picture, headline)
        made.bars = own
        return made

    def parallelism(self) -> pd.DataFrame:
        """Return how many bodies of steps were at work at once.

        Columns: at, n_running (from this instant to that of the next row). Sorted by at.
        """
        return frame_of_records(
            {"at": INSTANT, "n_running": "int64"}, [{"at": at, "n_running": n} for at, n in _changes(self.bars)]
        )

    def gantt(self, ax: Axes | None = None) -> Axes:
        """Draw the chart with matplotlib, by default on new axes; return them. The axis is in seconds since the start.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        if ax is None:
            from matplotlib import pyplot as plt

            ax = plt.subplots(layout="constrained")[1]
        rows = rows_of(self.bars)
        first = min((bar.started_at for bar in self.bars), default=0)
        for n, row in enumerate(rows):
            for bar in row.bars:
                look = step_look(bar.status)
                ax.broken_barh(
                    [((bar.started_at - first) / 1e6, bar.duration_s)], (n - 0.4, 0.8 if bar.kind != QUEUE else 0.3),
                    facecolor=look.fill, edgecolor=WAY if bar.is_critical else look.stroke,
                )  # fmt: skip
        ax.set_yticks(range(len(rows)), [row.label for row in rows])
        ax.invert_yaxis()
        ax.set_xlabel("seconds")
        return ax


def timeline_of(engine: Engine, run_id: RunId) -> Timeline:
    """Return the timeline of the run and of the runs below it; see `Run.timeline`."""
    run, _ = run_and_status(engine, run_id)
    with engine.reading() as reader:
        bars = sorted(bars_of(engine, reader, reader.runs(Select(run_ids=[run_id]))), key=attrgetter("started_at"))
    return Timeline.of(bars, f"run {run_id}" + ("" if run is None else f" of {run.name}"))


def critical_path(bars: Iterable[Bar]) -> set[Bar]:
    """Return the bars that decided how long the run took.

    The last one to end is on it, and before each of them the one that ended last until it began. The steps of a child
    stand for its call.
    """
    bars = list(bars)
    with_steps = {bar.path[:n] for bar in bars for n in range(1, len(bar.path))}
    found = [bar for bar in bars if bar.kind != CHILD or bar.path not in with_steps]
    path = set()
    ended = sorted(found, key=lambda bar: (bar.until, bar.started_at))
    while ended:
        last = ended.pop()
        path.add(last)
        while ended and ended[-1].until > last.started_at:
            ended.pop()
    return path


def _changes(bars: Iterable[Bar]) -> list[tuple[int, int]]:
    """Return the instants at which the number of bodies at work changed, each with the number from then on."""
    changes = Counter[int]()
    for bar in bars:
        if bar.kind == STEP:
            changes[bar.started_at] += 1
            if bar.status is not StepStatus.RUNNING:
                changes[bar.until] -= 1
    found, n = [], 0
    for at, change in sorted(changes.items()):
        if change:
            n += change
            found.append((at, n))
    return found


def _record(bar: Bar) -> dict[str, Any]:
    fields = bar._asdict()
    fields |= {"step": plain(bar.step), "reason": plain(bar.reason), "status": bar.status.value}
    fields["duration_s"] = bar.duration_s
    return {name: fields[name] for name in COLUMNS}


def _headline(bars: Sequence[Bar], n_taken: int) -> str:
    taken = f"{counted(n_taken, 'result')} taken over or given" if n_taken else ""
    if not bars:
        return taken or "no step has begun"
    span_s = (max(bar.until for bar in bars) - min(bar.started_at for bar in bars)) / 1e6
    n = sum(bar.kind != QUEUE for bar in bars)
    n_waits = sum(bar.kind == WAIT for bar in bars)
    critical = counted(sum(bar.is_critical for bar in bars), "bar")
    waits = f", {counted(n_waits, 'wait')}" if n_waits else ""
    told = f"{counted(n - n_waits, 'attempt')}{waits} in {spoken(span_s)}, {critical} on the critical path"
    return f"{told}; {taken}" if taken else told
