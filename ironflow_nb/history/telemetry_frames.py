"""The frames of what attempts report beside their results: measured values, and what they have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.plain_text import plain
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.lookup import When, resolve_steps, selection_of, skip_damaged
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Select
from ironflow_nb.telemetry.telemetry_rows import LogRow, MetricRow, TelemetryReader

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.history.run_log import RunLog

METRIC_COLUMNS: Final = {
    "run_id": TEXT, "step": TEXT, "attempt": COUNT, "name": TEXT, "at": INSTANT, "value": "float64",
}  # fmt: skip
LOG_COLUMNS: Final = {
    "run_id": TEXT, "step": TEXT, "attempt": "int64", "at": INSTANT, "stream": TEXT, "level": TEXT, "text": TEXT,
}  # fmt: skip


def metrics(
    flow: object | None = None,
    *,
    run: str | None = None,
    since: When = None,
    limit: int | None = None,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Return the values that were recorded by `metric`, one row each, by run (newest first) and instant.

    Columns: run_id, step and attempt (empty where the flow itself has measured), name, at, value.

    The arguments are those of `steps`; `since` and `limit`, which keeps the newest runs, count runs.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        select = selection_of(engine, reader, flow=flow, run=run, since=since, limit=limit)
        if run is None and limit is None:
            select = replace(select, run_ids=reader.extension(TelemetryReader).measured_runs())
        runs = skip_damaged(reader.runs, replace(select, name=select.run_name, run_name=None))
        order = {row.run_id: number for number, row in enumerate(runs)}
        found = reader.extension(TelemetryReader).metrics(list(order))
    found.sort(key=lambda pair: order[pair[0]])
    return frame_of_records(METRIC_COLUMNS, [_metric_record(run_id, row) for run_id, row in found])


def _metric_record(run_id: RunId, row: MetricRow) -> Mapping[str, Any]:
    return {
        "run_id": run_id,
        "step": row.step and plain(row.step),
        "attempt": row.attempt if row.name else None,
        "name": row.metric,
        "at": row.at,
        "value": row.value,
    }


def log_of(engine: Engine, run_id: RunId, step: object = None) -> RunLog:
    """Return what a run has written, or one step of it, line by line; see `Run.log`.

    Raises:
        StepNotFound, AmbiguousStep: the run has no such step, or steps of several functions.
    """
    from ironflow_nb.history.run_log import RunLog

    with engine.reading() as reader:
        steps = () if step is None else reader.steps(Select(run_ids=[run_id]))
        wanted = None if step is None else {*resolve_steps(list(steps), step, run_id)}
        found = reader.extension(TelemetryReader).logs(run_id)
    chosen = [row for row in found if wanted is None or row.step in wanted]
    chosen.sort(key=attrgetter("at"))  # the pieces of one attempt stay in their order, for their instants are
    return RunLog(frame_of_records(LOG_COLUMNS, list(_lines(run_id, chosen))))


def _lines(run_id: RunId, rows: Iterable[LogRow]) -> Iterable[Mapping[str, Any]]:
    for row in rows:
        step: StepRef | None = row.step
        for line in row.text.splitlines():
            yield {
                "run_id": run_id,
                "step": step and plain(step),
                "attempt": row.attempt,
                "at": row.at,
                "stream": row.stream,
                "level": row.level,
                "text": line,
            }
