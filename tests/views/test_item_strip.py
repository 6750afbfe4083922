"""The strip of a map: every item is in one cell, in order, and the most important status is seen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.core.identity import Digest, RunId, StepRef
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.views.item_strip import MOST_CELLS, item_strip

STATUSES = st.sampled_from([StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.RUNNING, StepStatus.RETRYING])


def row(index: int, status: StepStatus = StepStatus.COMPLETED, version: int = 9, origin: str | None = None) -> StepRow:
    return StepRow(
        RunId("a"), StepRef(f"f[{index}]"), "f", index, 1, version, status, Digest(b""), Digest(b""), 0,
        origin_run_id=None if origin is None else RunId(origin),
    )  # fmt: skip


@settings(max_examples=50)
@given(st.lists(STATUSES, max_size=1500), st.integers(0, 900))
def test_every_item_is_in_one_cell_and_the_legend_counts_them_all(statuses: list[StepStatus], n_queued: int) -> None:
    rows = [row(index, status) for index, status in enumerate(statuses)]
    strip = item_strip(rows, len(rows) + n_queued, RunStatus.RUNNING, 1)
    n_items = len(rows) + n_queued
    if n_items < 2:
        assert strip.cells == strip.legend == ()
        return
    assert len(strip.cells) <= MOST_CELLS
    assert [cell.first for cell in strip.cells] == sorted({cell.first for cell in strip.cells})
    assert sum(cell.n for cell in strip.cells) == n_items
    counts = {entry.status: entry.n for entry in strip.legend}
    assert sum(counts.values()) == n_items
    assert counts.get("failed", 0) == statuses.count(StepStatus.FAILED)
    assert counts.get("queued", 0) == n_queued


def test_one_failure_among_ten_thousand_items_is_seen() -> None:
    rows = [row(index, StepStatus.FAILED if index == 7_321 else StepStatus.COMPLETED) for index in range(10_000)]
    strip = item_strip(rows, 10_000, RunStatus.FAILED, 1)
    [failed] = [cell for cell in strip.cells if cell.status == "failed"]
    assert failed.first <= 7_321 < failed.first + failed.n
    assert failed.words.startswith("1 failed, ")


def test_what_was_done_before_the_continuation_or_in_another_run_is_reused() -> None:
    rows = [row(0, version=3), row(1, version=12), row(2, version=13, origin="b"), row(3, StepStatus.FAILED, version=4)]
    words = [cell.words for cell in item_strip(rows, 5, RunStatus.RUNNING, 10).cells]
    assert words == ["reused", "completed", "reused", "failed", "queued"]


def test_items_at_work_in_a_run_whose_process_died_are_interrupted() -> None:
    strip = item_strip([row(0), row(1, StepStatus.RUNNING)], 2, RunStatus.INTERRUPTED, 1)
    assert [cell.status for cell in strip.cells] == ["completed", "interrupted"]


def test_failures_that_a_completed_run_lived_with_are_handled() -> None:
    strip = item_strip([row(0), row(1, StepStatus.FAILED)], 2, RunStatus.COMPLETED, 1)
    assert [cell.status for cell in strip.cells] == ["completed", "failed and handled"]
    assert [(entry.status, entry.glyph) for entry in strip.legend] == [("failed and handled", "⊠"), ("completed", "✓")]
