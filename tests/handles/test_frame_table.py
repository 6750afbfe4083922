"""A frame as a table of texts that is edited by hand, and the frame that an edited table is."""

from __future__ import annotations

import pandas as pd
import pytest

from ironflow_nb.handles.frame_table import MOST_ROWS, edited_frame, frame_table

FRAME = pd.DataFrame(
    {
        "name": ["ann", "bob", None],
        "n": [1, 2, 3],
        "share": [0.1, 0.30000000000000004, float("nan")],
        "is_in": [True, False, True],
        "at": pd.to_datetime(
            ["2026-01-01T00:00:00", "2026-01-02T03:04:05.123456789", None], utc=True, format="ISO8601"
        ),
        "kind": pd.Categorical(["a", "b", "a"]),
        "maybe": pd.array([1, None, 3], dtype="Int64"),
    }
)


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [{"from": n, "cells": list(cells)} for n, cells in enumerate(frame_table(frame).rows)]


def test_a_table_that_is_not_edited_is_the_frame_itself() -> None:
    edited = edited_frame(FRAME, rows_of(FRAME))
    pd.testing.assert_frame_equal(edited, FRAME)
    assert edited.dtypes.equals(FRAME.dtypes)


def test_cells_are_read_as_their_columns_say() -> None:
    rows = rows_of(FRAME)
    rows[1]["cells"] = ["eve", "7", "0.5", "yes", "2026-03-01", "a", ""]
    edited = edited_frame(FRAME, rows)
    assert edited.iloc[1].tolist()[:4] == ["eve", 7, 0.5, True]
    assert edited["at"].iloc[1] == pd.Timestamp("2026-03-01", tz="UTC")
    assert edited["kind"].iloc[1] == "a"
    assert pd.isna(edited["maybe"].iloc[1])
    assert edited.dtypes.equals(FRAME.dtypes)
    pd.testing.assert_frame_equal(edited.iloc[[0, 2]], FRAME.iloc[[0, 2]])


def test_rows_are_removed_moved_and_added() -> None:
    frame = pd.DataFrame({"name": ["ann", "bob"], "n": [1, 2]})
    first, second = rows_of(frame)
    edited = edited_frame(frame, [second, first, {"from": None, "cells": ["eve", "3"]}])
    assert edited["name"].tolist() == ["bob", "ann", "eve"]
    pd.testing.assert_frame_equal(edited, pd.DataFrame({"name": ["bob", "ann", "eve"], "n": [2, 1, 3]}))
    pd.testing.assert_frame_equal(edited_frame(frame, []), frame.iloc[:0].reset_index(drop=True))


def test_an_index_of_its_own_stays_with_its_rows_and_takes_no_new_ones() -> None:
    frame = pd.DataFrame({"n": [1, 2]}, index=["x", "y"])
    assert not frame_table(frame).may_add
    edited = edited_frame(frame, [{"from": 1, "cells": ["5"]}])
    assert edited.index.tolist() == ["y"]
    with pytest.raises(ValueError, match="rows can't be added"):
        edited_frame(frame, [{"from": None, "cells": ["5"]}])


@pytest.mark.parametrize(
    ("column", "text"),
    [("n", "many"), ("n", ""), ("is_in", "perhaps"), ("at", "soon"), ("kind", "c"), ("share", "half")],
)
def test_a_text_that_is_no_value_of_its_column_is_refused_by_name(column: str, text: str) -> None:
    rows = rows_of(FRAME)
    cells = rows[0]["cells"]
    assert isinstance(cells, list)
    cells[list(FRAME.columns).index(column)] = text
    with pytest.raises(ValueError, match=column):
        edited_frame(FRAME, rows)


def test_columns_of_one_name_are_told_apart() -> None:
    frame = pd.DataFrame([[1, "a"]], columns=["x", "x"])
    edited = edited_frame(frame, [{"from": 0, "cells": ["2", "b"]}])
    assert edited.to_numpy().tolist() == [[2, "b"]]
    assert edited.columns.tolist() == ["x", "x"]


def test_a_large_frame_is_no_form() -> None:
    with pytest.raises(ValueError, match=f"takes {MOST_ROWS} rows"):
        frame_table(pd.DataFrame({"n": range(MOST_ROWS + 1)}))
