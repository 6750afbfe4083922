"""Frames of history are displayed in short, and stay complete."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.history.pictured_frame import PicturedFrame
from tests.conftest import Lab
from tests.graphs.playing import graph_of, work


@step
def double(n: int) -> int:
    if n == 13:
        raise ValueError("unlucky")
    return 2 * n


@flow
def main(n: int, path: str = "a.csv") -> list[int]:
    return [double(i) for i in range(n)]


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """A terminal that is wide enough for a whole row."""
    with pd.option_context("display.width", 200):
        yield


def header(frame: pd.DataFrame) -> list[str]:
    """Return the columns that the terminal shows."""
    return repr(frame).splitlines()[0].split()


def in_html(frame: pd.DataFrame) -> list[str]:
    """Return the columns that a notebook shows."""
    html = str(frame._repr_html_())  # type: ignore[operator]
    head = html[html.index("<thead>") : html.index("</thead>")]
    return [cell.partition("</th>")[0] for cell in head.split("<th>")[1:] if not cell.startswith("</th>")]


def test_runs_are_displayed_with_the_columns_that_say_something(lab: Lab) -> None:
    main(2)
    frame = iron.runs()
    shown = ["run_id", "name", "arguments", "status", "started_at", "duration_s", "n_steps", "output"]
    assert header(frame) == shown
    assert in_html(frame) == shown
    assert repr(frame).splitlines()[-1] == "[1 rows x 21 columns, 8 of them shown]"
    assert "1 rows x 21 columns, 8 of them shown" in str(frame._repr_html_())  # type: ignore[operator]


def test_a_column_appears_when_it_has_something_to_say(lab: Lab) -> None:
    with pytest.raises(ValueError, match="unlucky"):
        main(14)
    graph_of(work("a"), functions={"did": lambda name, value: value}).options(key="one")()
    main(1)
    assert {"kind", "key", "n_failed", "error"} < set(header(iron.runs()))
    assert "n_reused" not in header(iron.runs())
    assert header(iron.steps(main)) == ["run_id", "step", "status", "started_at", "duration_s", "output", "error"]
    assert "run_id" not in header(main.last.steps())  # type: ignore[union-attr]


def test_ids_instants_durations_and_digests_are_short_and_what_is_missing_is_empty(lab: Lab) -> None:
    lab.simulate_time().advance(0.25)
    with pytest.raises(ValueError, match="unlucky"):
        main(14)
    frame, events = iron.runs(), iron.events()
    row = repr(frame).splitlines()[1]
    whole = frame["run_id"][0]
    assert whole[:6] in row
    assert whole not in row
    assert f"{frame['started_at'][0]:%Y-%m-%d %H:%M:%S}Z " in row
    assert not {"<NA>", "NaN", "NaT", "None"} & set(repr(frame).split() + repr(events).split())
    digest = events["data"][0]["definition"]
    with pd.option_context("display.max_colwidth", None):
        assert digest[:8] in repr(events)
        assert digest not in repr(events)
        assert "kind='flow', name=" in repr(events)


def test_the_display_changes_no_value(lab: Lab) -> None:
    main(3)
    for frame in (iron.runs(), iron.steps(), iron.attempts(), iron.events()):
        before = pd.DataFrame(frame).copy()
        repr(frame)
        frame._repr_html_()  # type: ignore[operator]
        pd.testing.assert_frame_equal(frame, before)
        assert list(frame.to_dict()) == list(before)
        assert frame.to_csv() == before.to_csv()
        assert frame.to_string() == before.to_string()


def test_what_is_chosen_by_rows_is_displayed_in_short_and_what_is_made_of_columns_as_ever(lab: Lab) -> None:
    main(3)
    main(2)
    frame = iron.runs()
    assert header(frame[frame["n_steps"] == 3]) == header(frame)
    assert header(frame.head(1)) == header(frame)
    chosen = frame[["run_id", "ended_at"]]
    assert type(chosen) is pd.DataFrame
    assert frame["run_id"][0] in repr(chosen)
    assert type(frame.groupby("status").size()) is pd.Series
    assert type(frame.describe()) is pd.DataFrame
    assert frame["run_id"][0] in repr(frame.iloc[0])


def test_a_frame_that_is_pickled_or_a_result_is_the_plain_frame(lab: Lab) -> None:
    main(1)

    @step
    def history() -> pd.DataFrame:
        return iron.runs()

    @flow
    def report() -> int:
        return len(history())

    assert report() == 2
    assert type(pickle.loads(pickle.dumps(iron.runs()))) is pd.DataFrame
    assert type(report.last.value("history")) is pd.DataFrame  # type: ignore[union-attr]


def test_who_asks_pandas_for_all_columns_sees_all(lab: Lab) -> None:
    main(1)
    frame = iron.runs()
    with pd.option_context("display.max_columns", None, "display.width", 400):
        assert repr(frame) == repr(pd.DataFrame(frame))
        assert frame._repr_html_() == pd.DataFrame(frame)._repr_html_()  # type: ignore[operator]


def test_a_narrow_terminal_shows_all_of_these_columns_one_after_another(lab: Lab) -> None:
    main(1)
    with pd.option_context("display.width", 60):
        text = repr(iron.runs())
    assert "..." not in text
    assert all(name in text for name in header(iron.runs()))


def test_of_many_rows_the_first_and_the_last_are_shown_as_pandas_does(lab: Lab) -> None:
    @flow
    def long() -> int:
        return len(double.map(range(14, 1014)))

    long()
    frame = iron.steps(long)
    lines = repr(frame).splitlines()
    assert [line.split()[0] for line in lines[1:12]] == [*"01234", "..", *map(str, range(995, 1000))]
    assert lines[-1] == "[1000 rows x 15 columns, 5 of them shown]"
    assert str(frame._repr_html_()).count("<tr") == 12  # type: ignore[operator]


def test_empty_frames_show_their_columns(lab: Lab) -> None:
    assert "run_id" in repr(iron.runs())
    assert "0 rows x 21 columns" in repr(iron.runs())


def test_statuses_are_displayed_as_words(lab: Lab) -> None:
    main(1)
    assert main.last is not None
    assert repr(main.last.status) == "'completed'"
    assert f"{[main.last.status]}" == "['completed']"


def test_what_is_selected_of_a_plan_shows_its_reasons_in_full() -> None:
    reason = "edited: line 2 of `warmest_first`; constant DIGITS: 1 to 2, and more than fifty characters"
    plan = PicturedFrame.of_frame(pd.DataFrame({"step": ["a", "b"], "reason": [reason, ""]}), None, "2 done again")
    chosen = plan[plan["reason"] != ""]
    assert reason in str(chosen._repr_html_())  # type: ignore[operator]
    assert "2 done again" not in str(chosen._repr_html_())  # type: ignore[operator]


def test_a_plan_shows_instants_and_durations_as_the_other_frames_do(lab: Lab) -> None:
    main(1)
    assert main.last is not None
    plan = main.last.plan()
    html = str(plan._repr_html_())  # type: ignore[operator]
    assert re.findall(r"<td>\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ</td>", html)
    assert re.findall(r"<td>\d+\.\d{3}</td>", html)
    assert "NA" not in html
    assert str(plan["finished_at"].dtype).startswith("datetime64")
