"""The strip of a map: the states of its items in their order, few enough to be seen, however many items there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES, RunStatus, StepStatus, derived_step_status
from ironflow_nb.diagram.model import Handled, NodeStatus
from ironflow_nb.diagram.palette import step_look
from ironflow_nb.diagram.states import IMPORTANCE, in_words

MOST_CELLS: Final = 400
REUSED: Final = "reused"
QUEUED: Final = "queued"
_ORDER: Final = {in_words(status): place for place, status in enumerate(IMPORTANCE)}
_PLACE_OF_OWN: Final = {REUSED: _ORDER["completed"] + 0.5, QUEUED: _ORDER["pending"] + 0.5}


class ItemCell(msgspec.Struct, frozen=True, kw_only=True):
    """Items of a map side by side, `n` of them from `first` on; the status is the most important one among them."""

    first: int
    n: int
    status: str
    words: str


class LegendEntry(msgspec.Struct, frozen=True, kw_only=True):
    """How many items of the map have a status, and how it looks."""

    status: str
    n: int
    glyph: str
    fill: str
    stroke: str
    text: str


class ItemStrip(msgspec.Struct, frozen=True, kw_only=True):
    """The items of a map: at most `MOST_CELLS` cells in their order, and the number of items of each status."""

    cells: tuple[ItemCell, ...] = ()
    legend: tuple[LegendEntry, ...] = ()


def item_strip(rows: Sequence[StepRow], n_total: int, run_status: RunStatus, session_version: int) -> ItemStrip:
    """Return the strip of steps that are the items of one node.

    Args:
        rows: their latest attempts.
        n_total: how many items there are; those without a row are queued.
        run_status: the derived status of the run.
        session_version: the version with which its latest continuation began; what was done before is reused.
    """
    ordered = sorted(rows, key=lambda row: row.index)
    states = [(row.index, _word(row, run_status, session_version)) for row in ordered]
    after = states[-1][0] + 1 if states else 0
    states += [(after + n, QUEUED) for n in range(n_total - len(states))]
    if len(states) < 2:
        return ItemStrip()
    size = -(-len(states) // MOST_CELLS)
    cells = tuple(_cell(states[at : at + size]) for at in range(0, len(states), size))
    counts = Counter(word for _, word in states)
    return ItemStrip(cells=cells, legend=tuple(_entry(word, counts[word]) for word in sorted(counts, key=_place)))


def _word(row: StepRow, run_status: RunStatus, session_version: int) -> str:
    status = derived_step_status(row.status, run_status)
    if status in FAILURES and (row.lived_with or run_status is RunStatus.COMPLETED):
        return in_words(Handled.HANDLED)
    is_earlier = row.origin_run_id is not None or (session_version > 1 and row.version < session_version)
    return REUSED if status is StepStatus.COMPLETED and is_earlier else in_words(status)


def _cell(states: Sequence[tuple[int, str]]) -> ItemCell:
    counts = Counter(word for _, word in states)
    words = sorted(counts, key=_place)
    said = words[0] if len(states) == 1 else ", ".join(f"{counts[word]} {word}" for word in words)
    return ItemCell(first=states[0][0], n=states[-1][0] - states[0][0] + 1, status=words[0], words=said)


def _place(word: str) -> float:
    return _PLACE_OF_OWN.get(word, _ORDER.get(word, 0))


def _entry(word: str, n: int) -> LegendEntry:
    status: NodeStatus = {REUSED: StepStatus.COMPLETED, QUEUED: StepStatus.PENDING}.get(word) or next(
        each for each in IMPORTANCE if in_words(each) == word
    )
    look = step_look(status)
    glyph = "↺" if word == REUSED else look.glyph
    return LegendEntry(status=word, n=n, glyph=glyph, fill=look.fill, stroke=look.stroke, text=look.text)
