"""Projections as DataFrames: their states, their places, what they skipped."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ironflow_nb.deciders.folding import Fold
from ironflow_nb.deciders.store import Projected, deciders_of
from ironflow_nb.execution.engine import Engine
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Reader

if TYPE_CHECKING:
    import pandas as pd

PROJECTIONS: Final = {
    "name": TEXT, "position": "int64", "lag": COUNT, "status": TEXT, "error": TEXT, "updated_at": INSTANT,
}  # fmt: skip
SKIPPED: Final = {
    "position": "int64", "decider": TEXT, "instance": TEXT, "sequence": "int64", "event": TEXT, "error": TEXT,
    "skipped_at": INSTANT,
}  # fmt: skip


def frame_of(state: Any) -> pd.DataFrame:
    """Return a state as a DataFrame."""
    import pandas as pd

    if isinstance(state, pd.DataFrame):
        return state
    if isinstance(state, pd.Series):
        return state.to_frame()
    if isinstance(state, list | tuple):
        return pd.DataFrame([_fields(each) for each in state])
    if isinstance(state, Mapping):
        return pd.DataFrame([{"key": key, **_fields(value)} for key, value in state.items()])
    return pd.DataFrame([_fields(state)])


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(value) if isinstance(value, Mapping) else {"value": value}


def projections(engine: Engine, defined: Mapping[str, Fold], live: Collection[str]) -> pd.DataFrame:
    """Return the projections of the journal and of this process, by name."""
    with engine.reading() as reader:
        known = {each.name: each for each in deciders_of(reader).projections()}
        records = [
            _projection(engine, reader, name, known.get(name), defined.get(name), is_live=name in live)
            for name in sorted(known.keys() | defined.keys())
        ]
    return frame_of_records(PROJECTIONS, records)


def _projection(
    engine: Engine, reader: Reader, name: str, known: Projected | None, fold: Fold | None, *, is_live: bool
) -> dict[str, Any]:
    is_outdated = known is not None and fold is not None and known.code != fold.code(engine.ledger)
    position = 0 if known is None else known.position
    lag = None if fold is None else deciders_of(reader).n_domain_events(fold.select(0 if is_outdated else position))
    error = None if known is None else known.error
    return {
        "name": name, "position": position, "lag": lag, "error": error,
        "status": _status(error, lag, is_outdated=is_outdated, is_live=is_live),
        "updated_at": None if known is None else known.updated_at,
    }  # fmt: skip


def _status(error: str | None, lag: int | None, *, is_outdated: bool, is_live: bool) -> str:
    if is_outdated:
        return "outdated"
    if error is not None:
        return "failed"
    if is_live:
        return "live"
    if lag is None:
        return "undefined"
    return "behind" if lag else "current"


def skipped(engine: Engine, name: str) -> pd.DataFrame:
    """Return what a projection left out, by position."""
    with engine.reading() as reader:
        found = deciders_of(reader).skipped(name)
    return frame_of_records(SKIPPED, [{**msgspec.structs.asdict(each), "skipped_at": each.at} for each in found])
