"""The frame of a sweep: the inputs, the status and the results of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import Engine
from ironflow_nb.handles.sweep_rows import GivenRows, SweptRow
from ironflow_nb.history.run_status import recorded_failure, result_of

if TYPE_CHECKING:
    import pandas as pd


def frame_of_sweep(
    engine: Engine, given: GivenRows, rows: Sequence[SweptRow], states: Sequence[tuple[RunRow | None, RunStatus]]
) -> pd.DataFrame:
    """Return the frame; see `Sweep.frame`."""
    import pandas as pd

    columns = _inputs(given, rows)
    outcomes = [_outcome(engine, row, *state) for row, state in zip(rows, states, strict=True)]
    _add(columns, "status", "run_status", pd.Series([status.value for _, status in states], dtype="str"))
    done = {
        number: value
        for number, ((value, error), (_, status)) in enumerate(zip(outcomes, states, strict=True))
        if error is None and status is RunStatus.COMPLETED
    }
    if done and all(map(_is_record, done.values())):
        for key in dict.fromkeys(key for value in done.values() for key in value):
            _add(columns, key, f"result_{key}", [done.get(number, {}).get(key) for number in range(len(rows))])
    else:
        _add(columns, "result", "run_result", [done.get(number) for number in range(len(rows))])
    _add(columns, "error", "run_error", [_text(error) for _, error in outcomes])
    _add(columns, "duration_s", "run_duration_s", pd.Series(map(_duration_s, states), dtype="float64"))
    _add(columns, "run_id", "row_run_id", [row.run_id for row in rows])
    frame = pd.DataFrame(
        {name: _series(values) for name, values in columns.items()}, index=range(len(rows)), columns=list(columns)
    )
    if given.frame is not None:
        frame.index = given.frame.index
    return frame


def _is_record(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _series(values: Any) -> pd.Series[Any]:
    """Return a column; containers stay as they are."""
    import pandas as pd

    if isinstance(values, pd.Series):
        return values
    if values and all(pd.api.types.is_scalar(value) for value in values):
        with suppress(UnicodeEncodeError, OverflowError):  # texts that Arrow does not take stay what they are
            return pd.Series(values)
    return pd.Series(values, dtype="object")


def _add(columns: dict[str, Any], name: str, otherwise: str, values: Any) -> None:
    """Add a column; if its name is taken, under another one."""
    while name in columns:
        name, otherwise = otherwise, f"{otherwise}_"
    columns[name] = values


def _inputs(given: GivenRows, rows: Sequence[SweptRow]) -> dict[str, Any]:
    if given.frame is not None:
        return {name: given.frame[name].reset_index(drop=True) for name in given.frame.columns}
    names = dict.fromkeys(name for row in rows for name in row.inputs)
    return {name: [row.inputs.get(name) for row in rows] for name in names}


def _text(error: BaseException | None) -> str | None:
    return None if error is None else plain(f"{type(error).__qualname__}: {error}".partition("\n")[0])


def _outcome(engine: Engine, row: SweptRow, run: RunRow | None, status: RunStatus) -> tuple[Any, BaseException | None]:
    """Return the result of the row, and the error with which it has failed, or can't be read."""
    if row.error is not None:
        return None, row.error
    try:
        if run is not None and status is RunStatus.FAILED:
            return None, recorded_failure(engine, run)
        if run is not None and status is RunStatus.COMPLETED:
            return result_of(engine, run, run.run_id, status), None
    except IronflowError as error:
        return None, error
    return None, None


def _duration_s(state: tuple[RunRow | None, RunStatus]) -> float | None:
    run = state[0]
    if run is None or run.ended_at is None:
        return None
    return (run.ended_at - run.started_at) / 1e6
