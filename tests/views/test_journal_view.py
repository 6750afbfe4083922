"""The view of a journal: its deltas, how failures are grouped, and its text; without a journal."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.core.identity import RunId
from ironflow_nb.views.journal_text import journal_html, journal_text
from ironflow_nb.views.journal_view import (
    FlowSummary,
    JournalView,
    RunSummary,
    ScheduleView,
    ThroughputView,
    failure_views,
    percentiles,
    span_of_bars,
)

NUMBERS = st.integers(0, 3)
NAMES = st.sampled_from("abc")
RUNS = st.builds(
    RunSummary, run_id=NAMES.map(RunId), kind=st.just("flow"), name=NAMES, started_at=NUMBERS, n_done=NUMBERS,
    status=st.sampled_from(["running", "failed"]), error=st.none() | NAMES,
)  # fmt: skip
FLOWS = st.builds(FlowSummary, kind=NAMES, name=NAMES, n_by_status=st.dictionaries(st.just("failed"), NUMBERS))
SCHEDULES = st.builds(ScheduleView, name=NAMES, flow=NAMES, rule=NAMES, state=NAMES, next_at=st.none() | NUMBERS)
VIEWS = st.builds(
    JournalView,
    location=NAMES,
    n_found=NUMBERS,
    n_by_status=st.dictionaries(st.sampled_from(["failed", "running"]), st.integers(1, 3)),
    runs=st.lists(RUNS, max_size=4).map(tuple),
    flows=st.lists(FLOWS, max_size=3).map(tuple),
    schedules=st.lists(SCHEDULES, max_size=3).map(tuple),
    throughput=st.builds(
        ThroughputView, n_completed=st.just((1, 0)), n_failed=st.tuples(NUMBERS, NUMBERS), n_other=st.just((0, 0))
    ),
)


@settings(max_examples=40)
@given(VIEWS, VIEWS)
def test_a_delta_makes_the_view_before_into_the_view_after(before: JournalView, after: JournalView) -> None:
    change = after.delta(before)
    assert before.after(change) == after
    assert bool(change) == (before != after)
    assert json.dumps(msgspec.to_builtins(change)) is not None


@settings(max_examples=20)
@given(VIEWS)
def test_any_view_has_a_text_and_a_table_for_each_of_its_parts(view: JournalView) -> None:
    text = journal_text(view)
    for part in ("flows", "schedules"):
        assert (f"\n{part}\n" in text) == bool(getattr(view, part))
    assert text.splitlines()[0].startswith(view.location)
    assert journal_html(view).count("<table>") == sum(bool(part) for part in (view.runs, view.flows, view.schedules))


def test_errors_that_differ_only_in_numbers_are_one_failure_with_the_newest_run() -> None:
    failed = [
        (RunId("c"), "load", 3, "ValueError: row 7 of 0x1f is bad"),
        (RunId("b"), "load", 2, "ValueError: row 12 of 0xaa is bad"),
        (RunId("a"), "load", 1, "KeyError: 'n'"),
        (RunId("z"), "send", 0, "ValueError: row 1 of 0x0 is bad"),
    ]
    first, *others = failure_views(failed)
    assert (first.n, first.run_id, first.last_at, first.signature) == (2, "c", 3, "ValueError: row # of # is bad")
    assert [(each.flow, each.n) for each in others] == [("load", 1), ("send", 1)]


def test_percentiles_are_durations_that_occurred() -> None:
    durations = [1_000_000 * n for n in range(100, 0, -1)]
    assert percentiles(durations) == (50.0, 95.0)
    assert percentiles([2_500_000]) == (2.5, 2.5)
    assert percentiles([]) == (None, None)


@given(st.floats(0.001, 5e7))
def test_the_bars_cover_the_whole_and_are_round_spans(whole_s: float) -> None:
    span_s = span_of_bars(whole_s, 29)
    assert span_s * 29 >= whole_s or span_s == 2_592_000
    assert span_s == 1 or span_of_bars(whole_s, 1) >= span_s


def test_markup_in_an_error_is_text() -> None:
    run = RunSummary(
        run_id=RunId("a"), kind="flow", name="<b>", status="failed", started_at=0, error="<script>alert(1)</script>"
    )
    html = journal_html(JournalView(location="j", runs=(run,)))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
