"""An axis of time for what happens in several stretches: long gaps between them take little room."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_SHARE, _SHORTEST_US = 0.5, 1_000_000
"""A gap that is longer than this share of all stretches, and than this, is drawn short."""
_MOST: Final = 0.3
"""The share of the axis that gaps take at most."""


class Gap(NamedTuple):
    """A time in which nothing happened, and where on the axis it begins."""

    left: float
    length_s: float


class TimeAxis:
    """The places of instants on an axis of that length; instants are microseconds UTC."""

    def __init__(self, stretches: Sequence[tuple[int, int]], length: float, gap: float) -> None:
        n_gaps = len(stretches) - 1
        self._stretches = stretches
        self._gap = min(gap, length * _MOST / n_gaps) if n_gaps else 0.0
        busy = sum(end - begin for begin, end in stretches)
        self._scale = (length - self._gap * n_gaps) / max(busy, 1)
        self._lefts = [0.0]
        for begin, end in stretches[:-1]:
            self._lefts.append(self._lefts[-1] + (end - begin) * self._scale + self._gap)
        self.first = stretches[0][0]
        self.gaps = [
            Gap(left - self._gap, (after[0] - before[1]) / 1e6)
            for left, before, after in zip(self._lefts[1:], stretches, stretches[1:], strict=False)
        ]

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]], length: float, gap: float) -> TimeAxis:
        """Return the axis on which these intervals are drawn; a long gap between them takes `gap` of its length."""
        merged: list[tuple[int, int]] = []
        for begin, end in sorted(intervals):
            if merged and begin <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(merged[-1][1], end)
            else:
                merged.append((begin, end))
        if not merged:
            return cls([(0, 1)], length, gap)
        shortest = max(sum(end - begin for begin, end in merged) * _SHARE, _SHORTEST_US)
        stretches = merged[:1]
        for begin, end in merged[1:]:
            if begin - stretches[-1][1] <= shortest:
                stretches[-1] = stretches[-1][0], end
            else:
                stretches.append((begin, end))
        return cls(stretches, length, gap)

    def place(self, at: int) -> float:
        """Return where the instant is on the axis; one in a gap is at its end."""
        n = max(bisect_right(self._stretches, at, key=lambda each: each[0]) - 1, 0)
        begin, end = self._stretches[n]
        return self._lefts[n] + (min(max(at, begin), end) - begin) * self._scale

    def instant(self, place: float) -> int:
        """Return the instant that is there on the axis."""
        n = max(bisect_right(self._lefts, place) - 1, 0)
        begin, end = self._stretches[n]
        return min(begin + round((place - self._lefts[n]) / self._scale), end)
