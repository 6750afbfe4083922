"""How many items the maps and loops of a run have, noted as soon as that is known."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ironflow_nb.core.events import ItemsCounted
from ironflow_nb.core.identity import BranchId
from ironflow_nb.execution.recording.run_writer import PendingEvent, RunWriter


class ItemSeries(NamedTuple):
    """The calls of one map or loop: of a step, in a branch, the n-th series of the step there."""

    name: str
    branch: BranchId
    nth: int
    site: str


class ItemTotals:
    """The series of one stretch of a run. Not thread-safe: the session's lock is held around every call."""

    def __init__(self, stream: RunWriter) -> None:
        self._stream = stream
        self._counts: Counter[tuple[str, BranchId]] = Counter()

    def begin(self, name: str, branch: BranchId, site: str = "") -> ItemSeries:
        """Return the next series, which is called at that site.

        A later stretch of the run, which begins the same ones, numbers them alike.
        """
        series = ItemSeries(name, branch, self._counts[name, branch], site)
        self._counts[name, branch] += 1
        return series

    def note(self, series: ItemSeries, n_items: int) -> None:
        """Write with the next commit how many items the series has, whatever becomes of them."""
        name, branch, nth, site = series
        self._stream.defer(PendingEvent(ItemsCounted(name=name, n_items=n_items, branch=branch, nth=nth, site=site)))
