"""The rows of a sweep: what each of them calls, and what recognises it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.plain_text import counted
from ironflow_nb.errors import InputInvalid
from ironflow_nb.execution import FlowCall, RunRequest, Session

if TYPE_CHECKING:
    import pandas as pd

SHOWN: Final = 10
"""The faulty rows that an error names; it counts the others."""

Key: TypeAlias = str | Callable[..., object] | None


class GivenRow(msgspec.Struct, frozen=True):
    """One row as it was given: arguments by name, or in their order."""

    by_name: dict[str, Any] | None = None
    in_order: tuple[Any, ...] = ()


class SweptRow:
    """One row: what it calls, and the run that it has by now."""

    def __init__(self, number: int, inputs: Mapping[str, Any], request: RunRequest, body: FlowCall) -> None:
        self.number = number
        self.inputs = inputs
        self.request = request
        self.body = body
        self.run_id: RunId | None = None
        self.error: BaseException | None = None
        self.session: Session | None = None
        self.followed: object = None


class GivenRows(msgspec.Struct, frozen=True):
    """All rows, and the frame that they come from, if they do."""

    rows: list[GivenRow]
    frame: Any = None


def given_rows(name: str, rows: object) -> GivenRows:
    """Return the rows of a frame, or of any iterable.

    Scalars of numpy are plain values, so a row is recognised whatever it comes from.

    Raises:
        InputInvalid: they are no rows.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(rows, pandas.DataFrame):
        return _rows_of_frame(name, rows)
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InputInvalid(
            f"the rows of {name}.sweep(...) are a DataFrame or a list of dicts, tuples or single arguments, not "
            f"{type(rows).__name__}",
            name=name,
        )
    return GivenRows([_row(row) for row in rows])


def _rows_of_frame(name: str, frame: pd.DataFrame) -> GivenRows:
    columns = list(frame.columns)
    if twice := [column for column, n in Counter(columns).items() if n > 1]:
        raise InputInvalid(f"{name}.sweep(...): the frame has two columns {twice[0]!r}", name=name)
    if others := [column for column in columns if not isinstance(column, str)]:
        raise InputInvalid(
            f"{name}.sweep(...): columns are named as parameters, and {others[0]!r} is no name", name=name
        )
    values = [map(_plain, frame[column].tolist()) for column in columns]
    rows = zip(*values, strict=True) if columns else [()] * len(frame)
    return GivenRows([GivenRow(dict(zip(columns, row, strict=True))) for row in rows], frame.copy())


def _row(row: object) -> GivenRow:
    if isinstance(row, Mapping) and all(isinstance(key, str) for key in row):
        return GivenRow({key: _plain(value) for key, value in row.items()})
    return GivenRow(in_order=tuple(map(_plain, row)) if isinstance(row, tuple) else (_plain(row),))


def _plain(value: Any) -> Any:
    """Return the plain value of a scalar of numpy."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return value
    if isinstance(value, numpy.datetime64 | numpy.timedelta64):
        import pandas as pd

        return pd.Timestamp(value) if isinstance(value, numpy.datetime64) else pd.Timedelta(value)
    plain = value.item()
    return value if isinstance(plain, numpy.generic) else plain  # as of a long double


def key_text(key: str | Callable[..., object], arguments: Mapping[str, Any]) -> str:
    """Return the text that identifies the row with these arguments.

    Raises:
        ValueError, TypeError: it has no such key.
    """
    if isinstance(key, str):
        if key not in arguments:
            raise ValueError(f"it has no {key!r} for a key")
        value = arguments[key]
    else:
        value = _plain(key(**arguments))
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column with a missing value makes floats of its numbers
    is_missing = value is None or value != value or value == ""  # noqa: PLR0124 -- NaN and NaT differ from themselves
    if is_missing:
        raise ValueError(f"its key is {value!r}")
    if not isinstance(value, str | int | float | date):
        raise TypeError(f"its key is {value!r}, which is no text, number or date")
    return a_text("its key", value.isoformat() if isinstance(value, date) else str(value))


class Faults:
    """The faults of the rows of a sweep, reported together."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: list[tuple[int, str]] = []

    def add(self, number: int, error: object) -> None:
        """Note what is wrong with the row of that number."""
        self._found.append((number, str(error).partition("\n")[0]))

    def refuse(self) -> None:
        """Refuse the rows.

        Raises:
            InputInvalid: something is wrong with one of them.
        """
        if not self._found:
            return
        lines = [f"    row {number}: {words}" for number, words in self._found[:SHOWN]]
        more = len(self._found) - len(lines)
        if more:
            lines.append(f"    and {counted(more, 'other row')}")
        n_faulty = counted(len(self._found), "row")
        raise InputInvalid(
            f"{self._name}.sweep(...): nothing has run, because {n_faulty} can't be called (counted from 0)\n"
            + "\n".join(lines),
            name=self._name,
        )
