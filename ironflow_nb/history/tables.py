"""DataFrames made of columns with stated dtypes, and the columns of the frames of history."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.plain_text import plain
from ironflow_nb.errors import JournalCorrupt

if TYPE_CHECKING:
    import pandas as pd

TEXT: Final = "string"
INSTANT: Final = "datetime64[us, UTC]"
COUNT: Final = "Int64"
_NUMBER: Final = "int64"
_INTEGERS: Final = {INSTANT, COUNT, _NUMBER}


def frame_of_records(columns: Mapping[str, str], records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the frame with a row for each record.

    Raises:
        JournalCorrupt: a value is of another type than its column.
    """
    return frame_of_pieces(columns, [{name: [record[name] for record in records] for name in columns}])


def frame_of_pieces(columns: Mapping[str, str], pieces: Iterable[Mapping[str, list[Any]]]) -> pd.DataFrame:
    """Return the frame of the concatenated pieces, at least one; `columns` are names and dtypes.

    Each piece is converted before the next one is made, so that the memory of its objects is reused.

    Raises:
        JournalCorrupt: a value is of another type than its column.
    """
    parts: dict[str, list[Any]] = {name: [] for name in columns}
    with _collector_paused():
        for piece in pieces:
            for name, dtype in columns.items():
                with _naming_column(name):
                    parts[name].append(_compact_column(piece[name], dtype))
    data = {}
    for name, dtype in columns.items():
        with _naming_column(name):
            data[name] = _joined_column(parts[name], dtype)
    import pandas as pd

    return pd.DataFrame(data, columns=list(columns), copy=False)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector: it would scan the many new objects again and again, and none is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _naming_column(column: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise JournalCorrupt(
            f"a row of the journal has a value in the column {column} that the package never wrote ({error}); "
            "iron.doctor() checks the whole journal, and run= selects runs that can be listed"
        ) from error


def _compact_column(values: list[Any], dtype: str) -> Any:
    """Return the values in a compact form that is fast to concatenate, texts as they may be shown."""
    if dtype == TEXT:
        values = _plain_texts(values)
    if dtype == TEXT and _has_arrow():
        import pyarrow as pa

        return pa.array(values, pa.large_string())
    if dtype in _INTEGERS:
        is_missing = [value is None for value in values] if dtype != _NUMBER and None in values else None
        # array("q") accepts integers only; numpy would round floats and parse texts.
        return array("q", [0 if value is None else value for value in values] if is_missing else values), is_missing
    return values


def _plain_texts(values: list[Any]) -> list[Any]:
    """Return the texts with escapes for the characters that a terminal obeys; others may have written them."""
    if "".join(filter(None, values)).isprintable():  # for most columns one look is enough
        return values
    return [value and plain(value) for value in values]


def _joined_column(parts: list[Any], dtype: str) -> Any:
    import pandas as pd

    if dtype == TEXT and _has_arrow():
        import pyarrow as pa

        return pd.arrays.ArrowStringArray(pa.chunked_array(parts).combine_chunks())
    if dtype in _INTEGERS:
        return _joined_integers(parts, dtype)
    return pd.Series(list(chain.from_iterable(parts)), dtype=dtype)


def _joined_integers(parts: list[tuple[array[int], list[bool] | None]], dtype: str) -> Any:
    import numpy as np
    import pandas as pd

    numbers = np.concatenate([np.frombuffer(part, dtype=_NUMBER) for part, _ in parts])
    if dtype == _NUMBER:
        return numbers
    is_missing = np.concatenate([np.array(gaps or [False] * len(part), dtype=bool) for part, gaps in parts])
    if dtype == COUNT:
        return pd.arrays.IntegerArray(numbers, is_missing)
    instants = numbers.view("datetime64[us]")
    instants[is_missing] = np.datetime64("NaT", "us")
    return pd.DatetimeIndex(instants, tz="UTC")


def _has_arrow() -> bool:
    import pandas as pd

    return pd.StringDtype().storage == "pyarrow"


RUN_COLUMNS: Final = {
    "run_id": TEXT, "kind": TEXT, "name": TEXT, "arguments": TEXT, "status": TEXT, "started_at": INSTANT,
    "ended_at": INSTANT, "duration_s": "float64", "n_steps": "int64", "n_completed": "int64", "n_failed": "int64",
    "n_reused": "int64", "n_sessions": "int64", "output": TEXT, "error": TEXT, "durability": TEXT, "key": TEXT,
    "notebook": TEXT, "parent_run_id": TEXT, "origin_run_id": TEXT, "origin_position": COUNT,
}  # fmt: skip

STEP_COLUMNS: Final = {
    "run_id": TEXT, "step": TEXT, "name": TEXT, "index": "int64", "attempt": "int64", "status": TEXT,
    "started_at": INSTANT, "finished_at": INSTANT, "duration_s": "float64", "reused": "bool", "reason": TEXT,
    "output": TEXT, "output_bytes": COUNT, "error": TEXT, "progress": TEXT,
}  # fmt: skip

ATTEMPT_COLUMNS: Final = {name: dtype for name, dtype in STEP_COLUMNS.items() if name != "reused"} | {"branch": TEXT}

EVENT_COLUMNS: Final = {
    "run_id": TEXT, "position": "int64", "version": "int64", "at": INSTANT, "type": TEXT, "step": TEXT,
    "attempt": COUNT, "data": "object",
}  # fmt: skip

_RUNS: Final = (
    "run_id", "kind", "name", "key", "arguments", "status", "started_at", "duration_s", "n_steps", "n_failed",
    "n_reused", "output", "error",
)  # fmt: skip
_ATTEMPTS: Final = (
    "run_id", "branch", "step", "attempt", "status", "progress", "started_at", "duration_s", "reason", "output",
    "error",
)  # fmt: skip
_STEPS: Final = (
    "run_id", "step", "attempt", "status", "progress", "started_at", "duration_s", "reused", "reason", "output",
    "error",
)  # fmt: skip
_EVENTS: Final = ("position", "run_id", "at", "type", "step", "attempt", "data")

DISPLAYED: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    tuple(RUN_COLUMNS): _RUNS,
    tuple(STEP_COLUMNS): _STEPS,
    tuple(ATTEMPT_COLUMNS): _ATTEMPTS,
    tuple(EVENT_COLUMNS): _EVENTS,
}
"""The columns that are displayed, by all columns of a frame."""

ORDINARY: Final[Mapping[str, Any]] = {
    "kind": "flow", "branch": "", "attempt": 1, "n_failed": 0, "n_reused": 0, "reused": False, "reason": "new",
}  # fmt: skip
"""The values that say nothing: a column that has no others is not displayed."""
