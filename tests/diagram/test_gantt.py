"""Gantt charts: bars that share rows, gaps that take little room, and pictures of bounded size."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.gantt import CHILD, QUEUE, STEP, Bar, gantt_svg, gantt_text, rows_of
from ironflow_nb.diagram.time_axis import TimeAxis
from ironflow_nb.history.timeline import critical_path

SECOND = 1_000_000
INTERVALS = st.lists(
    st.tuples(st.integers(0, 10**13), st.integers(0, 10**11)).map(lambda each: (each[0], each[0] + each[1])),
    min_size=1, max_size=30,
)  # fmt: skip


def bar(step: str, began: float, until: float, kind: str = STEP, *, parent: str = "", attempt: int = 1) -> Bar:
    start, end = round(began * SECOND), round(until * SECOND)
    name = step.partition("[")[0]
    path = (parent, name) if parent else (name,)
    return Bar(RunId(f"run{parent}"), StepRef(step), attempt, kind, StepStatus.COMPLETED, "new", start, end, end, path)


def test_bars_that_do_not_overlap_share_a_row() -> None:
    rows = rows_of([bar(f"work[{n}]", n // 8 + n % 8 / 10, n // 8 + n % 8 / 10 + 0.99) for n in range(1000)])
    assert len(rows) == 8
    assert [row.label for row in rows] == ["work \N{MULTIPLICATION SIGN}1000", *[""] * 7]
    for row in rows:
        assert all(one.until <= other.started_at for one, other in zip(row.bars, row.bars[1:], strict=False))


def test_attempts_of_a_step_and_its_queue_stay_on_its_row() -> None:
    bars = [
        bar("a[0]", 0, 2), bar("a[1]", 0, 2, QUEUE), bar("a[1]", 2, 3), bar("a[2]", 2, 4), bar("a[1]", 3, 5, attempt=2),
    ]  # fmt: skip
    first, second = rows_of(bars)
    assert [each.step for each in first.bars] == ["a[0]", "a[2]"]
    assert [each.step for each in second.bars] == ["a[1]", "a[1]", "a[1]"]


def test_the_steps_of_a_child_are_below_its_call() -> None:
    bars = [bar("one[0]", 0, 1), bar("child[0]", 1, 4, CHILD), bar("two[0]", 1, 2), bar("in[0]", 2, 3, parent="child")]
    assert [(row.label, row.depth) for row in rows_of(bars)] == [
        ("one[0]", 0), ("child[0]", 0), ("in[0]", 1), ("two[0]", 0),
    ]  # fmt: skip


def test_a_picture_has_a_bounded_number_of_rows_and_keeps_the_critical_ones() -> None:
    bars = [bar(f"work[{n}]", n / 1000, 10 + n / 1000) for n in range(300)]
    bars = [each._replace(is_critical=n == 299) for n, each in enumerate(bars)]
    svg, text = gantt_svg(bars, [(0, 300)], "r"), gantt_text(bars)
    assert len(text.splitlines()) == 101
    assert text.splitlines()[-1] == "and 200 more rows"
    assert "*" in text.splitlines()[-2]
    assert len(ET.fromstring(svg).findall(".//{http://www.w3.org/2000/svg}rect")) == 100


def test_bars_thinner_than_a_pixel_are_drawn_once_for_each_pixel() -> None:
    bars = [bar(f"work[{n}]", n / 1000, (n + 1) / 1000) for n in range(10_000)]
    assert len(gantt_svg(bars, [], "r")) < 150_000


def test_the_critical_path_goes_back_from_the_last_end() -> None:
    bars = [bar("a[0]", 0, 3), bar("b[0]", 0, 5), bar("c[0]", 3, 4), bar("d[0]", 5, 6), bar("e[0]", 4.5, 5.5)]
    assert {each.step for each in critical_path(bars)} == {"b[0]", "d[0]"}


def test_the_steps_of_a_child_stand_for_its_call_on_the_critical_path() -> None:
    bars = [bar("child[0]", 0, 4, CHILD), bar("in[0]", 1, 3, parent="child"), bar("other[0]", 4, 6, CHILD)]
    assert {each.step for each in critical_path(bars)} == {"in[0]", "other[0]"}


def test_a_long_gap_takes_little_room() -> None:
    axis = TimeAxis.of([(0, 2 * SECOND), (100 * SECOND, 103 * SECOND)], 110, 10)
    assert [axis.place(at * SECOND) for at in (0, 2, 50, 100, 103)] == [0, 40, 40, 50, 110]
    assert [(gap.left, gap.length_s) for gap in axis.gaps] == [(40, 98)]


def test_a_short_gap_is_drawn_as_it_is() -> None:
    axis = TimeAxis.of([(0, 2 * SECOND), (3 * SECOND, 5 * SECOND)], 100, 10)
    assert axis.gaps == []
    assert round(axis.place(3 * SECOND), 6) == 60


@given(INTERVALS)
def test_places_on_the_axis_keep_the_order_of_instants(intervals: list[tuple[int, int]]) -> None:
    axis = TimeAxis.of(intervals, 560, 22)
    instants = sorted(at for each in intervals for at in each)
    places = [axis.place(at) for at in instants]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] <= 560 + 1e-6
    assert axis.first <= axis.instant(0) <= axis.instant(280) <= axis.instant(560)


@given(INTERVALS)
def test_every_chart_can_be_drawn(intervals: list[tuple[int, int]]) -> None:
    bars = [bar(f"a[{n}]", begin / SECOND, end / SECOND) for n, (begin, end) in enumerate(sorted(intervals))]
    ET.fromstring(gantt_svg(bars, [(bars[0].started_at, 1)], "<&>"))
    assert sum(len(row.bars) for row in rows_of(bars)) == len(bars)
