"""A small DataFrame as a table of texts, to be edited by hand, and the frame that an edited table is."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pandas as pd

MOST_ROWS: Final = 200
MOST_COLUMNS: Final = 30
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class FrameTable(msgspec.Struct, frozen=True):
    """The columns, what each holds in words, and the cells of each row as texts; a missing value is empty."""

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    may_add: bool
    """Whether rows can be added; not where the index has values of its own."""


def frame_table(frame: pd.DataFrame) -> FrameTable:
    """Return the frame as a table.

    Raises:
        ValueError: it is too large to be edited by hand.
    """
    n_rows, n_columns = frame.shape
    if n_rows > MOST_ROWS or n_columns > MOST_COLUMNS:
        raise ValueError(
            f"a frame of {n_rows} rows and {n_columns} columns is too large for a form, which takes {MOST_ROWS} rows "
            f"and {MOST_COLUMNS} columns; answer with a frame from a cell"
        )
    columns = [frame.iloc[:, n] for n in range(n_columns)]
    return FrameTable(
        columns=tuple(map(str, frame.columns)),
        kinds=tuple(str(each.dtype) for each in columns),
        rows=tuple(zip(*(map(_text, each) for each in columns), strict=True)) if columns else ((),) * n_rows,
        may_add=_has_plain_index(frame),
    )


def edited_frame(frame: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the frame with the rows of an edited table, in their order.

    Args:
        frame: the frame as it was.
        rows: of each row the `cells` as texts and the number that it had `from`, None for a new one. A cell whose text
            is as it was keeps its value exactly.

    Raises:
        ValueError: a text is no value of its column.
    """
    numbers = [row["from"] for row in rows]
    if None in numbers and not _has_plain_index(frame):
        raise ValueError("rows can't be added to a frame whose index has values of its own")
    made = {n: _edited_column(frame.iloc[:, n], n, numbers, rows) for n in range(frame.shape[1])}
    index = pd.RangeIndex(len(rows)) if _has_plain_index(frame) else frame.index[numbers]
    edited = pd.DataFrame(made).set_axis(index, axis=0) if made else pd.DataFrame(index=index)
    edited.columns = frame.columns
    return edited


def _has_plain_index(frame: pd.DataFrame) -> bool:
    return isinstance(frame.index, pd.RangeIndex) and frame.index.start == 0 and frame.index.step == 1


def _edited_column(
    column: pd.Series[Any], n: int, numbers: Sequence[int | None], rows: Sequence[Mapping[str, Any]]
) -> pd.Series[Any]:
    read = _reader(column)
    values = []
    for at, (number, row) in enumerate(zip(numbers, rows, strict=True), 1):
        text, before = row["cells"][n], None if number is None else column.iloc[number]
        if number is not None and text == _text(before):
            values.append(before)
            continue
        try:
            values.append(read(text, before))
        except (ValueError, TypeError, SyntaxError):
            raise ValueError(f"{text!r} in row {at} of {column.name} is no {column.dtype}") from None
    try:
        return pd.Series(values, dtype=column.dtype)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{column.name} is {column.dtype}: {error}") from None


def _text(value: Any) -> str:
    return "" if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)) else str(value)


def _reader(column: pd.Series[Any]) -> Callable[[str, Any], Any]:
    """Return the function that makes a value of the column of a text and the value before."""
    dtype = column.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return lambda text, _: None if not text else _boolean(text)
    if pd.api.types.is_integer_dtype(dtype):
        return lambda text, _: None if not text else int(text)
    if pd.api.types.is_float_dtype(dtype):
        return lambda text, _: float(text) if text else float("nan")
    if isinstance(dtype, pd.CategoricalDtype):
        return lambda text, _: None if not text else _category(text, dtype)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return lambda text, _: pd.NaT if not text else _instant(text, getattr(dtype, "tz", None))
    if pd.api.types.is_timedelta64_dtype(dtype):
        return lambda text, _: pd.NaT if not text else pd.Timedelta(text)
    return _any_value


def _boolean(text: str) -> bool:
    if text.strip().lower() not in _BOOLEANS:
        raise ValueError(text)
    return _BOOLEANS[text.strip().lower()]


def _category(text: str, dtype: pd.CategoricalDtype) -> Any:
    for category in dtype.categories:
        if _text(category) == text:
            return category
    raise ValueError(text)


def _instant(text: str, zone: Any) -> pd.Timestamp:
    instant = pd.Timestamp(text)
    return instant.tz_localize(zone) if zone is not None and instant.tzinfo is None else instant


def _any_value(text: str, before: Any) -> Any:
    """Return the text, or where another value was, the value that the text is in Python."""
    if before is None or isinstance(before, str) or (pd.api.types.is_scalar(before) and pd.isna(before)):
        return text
    return literal_eval(text)
