"""Frames of history with a short display: only informative columns, with short ids and instants.

The frame itself has all columns and values. A selection of its columns is displayed by pandas as usual, and so is the
whole frame if ``display.max_columns`` is None.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import pandas as pd

from ironflow_nb.core.identity import ID_SHOWN
from ironflow_nb.history.tables import DISPLAYED, ORDINARY

_DIGEST: Final = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{32}\b")
_MOST_ROWS: Final = 200
"""Of longer frames pandas displays only the first and the last rows."""
_DISPLAY_OPTIONS: Final = ("display.show_dimensions", False)


class HistoryFrame(pd.DataFrame):
    """A DataFrame with a short display. A frame with other columns that is derived from it is a plain DataFrame."""

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return _derived_frame

    def __reduce__(self) -> Any:
        return pd.DataFrame(self).__reduce__()  # readable also where this package is not installed

    def __repr__(self) -> str:
        short = self._displayed()
        if short is None:
            return super().__repr__()
        with pd.option_context(*_DISPLAY_OPTIONS, "display.max_columns", None):  # a narrow terminal wraps them
            return f"{short!r}\n\n[{self._size_line(short)}]"

    def _repr_html_(self) -> str | None:
        short = self._displayed()
        if short is None:
            return _pandas_html(pd.DataFrame(self))
        with pd.option_context(*_DISPLAY_OPTIONS):
            table = _pandas_html(short)
        return None if table is None else f"{table}<p>{self._size_line(short)}</p>"

    def _displayed(self) -> pd.DataFrame | None:
        """Return the displayed columns as texts, or None if pandas displays the frame."""
        displayed = DISPLAYED.get(tuple(self.columns))
        is_short = pd.get_option("display.max_columns") is not None and pd.get_option("display.large_repr") != "info"
        if displayed is None or not is_short:
            return None
        rows = pd.DataFrame(self)
        most = pd.get_option("display.max_rows")
        most = len(rows) if most is None else max(most, _MOST_ROWS)
        if len(rows) > 2 * most:
            rows = rows.iloc[[*range(most), *range(len(rows) - most, len(rows))]]
        return pd.DataFrame({name: column_texts(rows[name]) for name in displayed if _is_informative(rows, name)})

    def _size_line(self, short: pd.DataFrame) -> str:
        return f"{len(self)} rows x {len(self.columns)} columns, {len(short.columns)} of them shown"


def _derived_frame(*args: Any, **options: Any) -> pd.DataFrame:
    frame = pd.DataFrame(*args, **options)
    return HistoryFrame(frame, copy=False) if tuple(frame.columns) in DISPLAYED else frame


def _pandas_html(frame: pd.DataFrame) -> str | None:
    found: str | None = frame._repr_html_()  # type: ignore[operator]
    return found


def _is_informative(rows: pd.DataFrame, name: str) -> bool:
    if rows.empty:
        return True
    if name == "run_id" and "parent_run_id" not in rows:  # the steps or events of one run
        return rows[name].nunique() > 1
    values = rows[name].dropna()
    return bool((values != ORDINARY[name]).any()) if name in ORDINARY else not values.empty


def column_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values as displayed texts; a missing value is an empty text."""
    pairs = zip(column, column.isna(), strict=True)
    return pd.Series(["" if gone else _value_text(str(column.name), value) for value, gone in pairs], column.index)


def _value_text(name: str, value: Any) -> str:
    match value:
        case pd.Timestamp():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case float():
            return f"{value:.3f}"
        case dict():
            digests_last = sorted(value.items(), key=lambda pair: _DIGEST.fullmatch(str(pair[1])) is not None)
            return _DIGEST.sub(r"\1", ", ".join(f"{key}={item!r}" for key, item in digests_last))
        case str() if name == "run_id":
            return value[:ID_SHOWN]
        case _:
            return str(value)
