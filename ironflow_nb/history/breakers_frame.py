"""The frame of circuit breakers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.breaker_rows import breakers_of

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS: Final = {
    "name": TEXT, "status": TEXT, "n_failed": "int64", "failures": "int64", "open_s": "float64", "opened_at": INSTANT,
    "open_until": INSTANT, "probe": TEXT, "changed_at": INSTANT,
}  # fmt: skip


def breakers(*, engine: Engine | None = None) -> pd.DataFrame:
    """Return the circuit breakers of the journal by name, one row for each that was ever asked.

    Columns: name, status (``closed``, ``open``: no attempt begins, ``half-open``: the next attempt decides), n_failed
    (failures in a row), failures (as many open it), open_s, opened_at, open_until (when the next attempt may begin),
    probe (the attempt that decides now: run, step and number), changed_at.

    Args:
        engine: the journal to read; by default the current one.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        states = breakers_of(reader).breakers()
    now = engine.clock.now()
    records = [
        {
            "name": state.name,
            "status": state.status(now).value,
            "n_failed": state.n_failed,
            "failures": state.failures,
            "open_s": state.open_s,
            "opened_at": state.opened_at,
            "open_until": None if state.opened_at is None else now + round(max(state.left_s(now), 0.0) * 1e6),
            "probe": state.probe,
            "changed_at": state.changed_at,
        }
        for state in states
    ]
    return frame_of_records(_COLUMNS, records)
