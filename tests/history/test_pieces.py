"""Columns become frames piece by piece, exactly, and whatever stores the texts."""

from __future__ import annotations

import gc
from importlib.util import find_spec
from typing import Any

import pandas as pd
import pytest

from ironflow_nb.errors import JournalCorrupt
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_pieces

STORAGES = ["python", *(["pyarrow"] if find_spec("pyarrow") else [])]
COLUMNS = {"text": TEXT, "at": INSTANT, "n": "int64", "maybe": COUNT, "share": "float64", "is": "bool", "any": "object"}
ONE: dict[str, list[Any]] = {
    "text": ["a", None], "at": [1_795_249_438_993_125, None], "n": [2**53 + 1, -1], "maybe": [None, 2**53 + 1],
    "share": [0.5, None], "is": [True, False], "any": [{"a": 1}, None],
}  # fmt: skip
OTHER: dict[str, list[Any]] = {
    "text": ["ü"], "at": [0], "n": [0], "maybe": [0], "share": [1.5], "is": [True], "any": [{}],
}  # fmt: skip
EMPTY: dict[str, list[Any]] = {name: [] for name in COLUMNS}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("pieces", [[ONE, OTHER], [EMPTY, ONE, EMPTY, OTHER]])
def test_pieces_are_below_each_other_and_nothing_is_rounded(storage: str, pieces: list[dict[str, list[Any]]]) -> None:
    with pd.option_context("mode.string_storage", storage):
        frame = frame_of_pieces(COLUMNS, pieces)
        assert frame["text"].dtype == pd.StringDtype(storage)  # type: ignore[call-overload]
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert frame.index.tolist() == [0, 1, 2]
    assert frame["text"].tolist() == ["a", pd.NA, "ü"]
    assert frame["at"].tolist() == [
        pd.Timestamp("2026-11-21 08:23:58.993125", tz="UTC"), pd.NaT, pd.Timestamp(0, tz="UTC")
    ]  # fmt: skip
    assert frame["n"].tolist() == [2**53 + 1, -1, 0]
    assert frame["maybe"].tolist() == [pd.NA, 2**53 + 1, 0]
    assert frame["share"].isna().tolist() == [False, True, False]
    assert frame["any"].tolist() == [{"a": 1}, None, {}]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_frame_of_nothing_has_its_dtypes(storage: str) -> None:
    with pd.option_context("mode.string_storage", storage):
        frame = frame_of_pieces(COLUMNS, [EMPTY])
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("name", "value"),
    [("text", b"\xff"), ("at", "2026"), ("at", 1.5), ("n", "1"), ("n", 1.5), ("n", 2**63), ("n", None), ("maybe", b"1"),
     ("maybe", ""), ("share", "half")],
)  # fmt: skip
def test_what_does_not_belong_into_a_column_is_named(storage: str, name: str, value: object) -> None:
    with pd.option_context("mode.string_storage", storage), pytest.raises(JournalCorrupt, match=f"the column {name} "):
        frame_of_pieces(COLUMNS, [ONE, OTHER | {name: [value]}])
    both = {column: [values[1], *OTHER[column]] for column, values in ONE.items()}
    with pd.option_context("mode.string_storage", storage), pytest.raises(JournalCorrupt, match=f"the column {name} "):
        frame_of_pieces(COLUMNS, [both | {name: [ONE[name][1], value]}])


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_collector_is_afterwards_as_it_was(is_enabled: bool) -> None:
    try:
        (gc.enable if is_enabled else gc.disable)()
        frame_of_pieces(COLUMNS, [ONE])
        assert gc.isenabled() == is_enabled
        with pytest.raises(JournalCorrupt):
            frame_of_pieces(COLUMNS, [ONE | {"n": ["x", "y"]}])
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable()
