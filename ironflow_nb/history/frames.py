"""The frames of history. Instants are UTC with microseconds, durations float seconds, texts of dtype ``string``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import asdict, replace

from ironflow_nb.core.identity import RunId, StepRef, ValueId
from ironflow_nb.core.plain_text import done_of
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import FAILURES, OWNED, RunStatus, StepStatus, derived_step_status, recorded_step_statuses
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.lookup import (
    When,
    parse_statuses,
    row_limit,
    selection_of,
    skip_damaged,
    undamaged_tallies,
    warn_of_damaged_events,
)
from ironflow_nb.history.recorded_values import CONTENT_LIMIT, call_preview, fields_of_call, preview, references
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.history.tables import ATTEMPT_COLUMNS, EVENT_COLUMNS, RUN_COLUMNS, STEP_COLUMNS, frame_of_pieces
from ironflow_nb.journal.ports import Reader, Select, StepTally
from ironflow_nb.telemetry.telemetry_rows import TelemetryReader
from ironflow_nb.values.stored_value import INLINE_LIMIT

if TYPE_CHECKING:
    import pandas as pd

Previews = Mapping[ValueId, tuple[str | None, int | None]]
_NO_PREVIEW: Final = (None, None)
_RUN_AS_RECORDED: Final = RUN_COLUMNS.keys() & frozenset(RunRow.__struct_fields__)
_AS_RECORDED: Final = frozenset(ATTEMPT_COLUMNS.keys() & StepRow.__struct_fields__) - {"status"}

_PAGE: Final = 100


def runs(
    flow: object | None = None,
    *,
    run: str | None = None,
    status: str | Collection[str] | None = None,
    since: When = None,
    limit: int | None = None,
    after: object = None,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Return the runs of the journal, newest first, one row each.

    Columns: run_id, kind, name, arguments (a preview, ``x=3, path='a.csv'``; `Run.arguments` has the real ones),
    status, started_at, ended_at, duration_s (until now while it runs), n_steps, n_completed, n_failed (steps by their
    latest attempts), n_reused (by the latest continuation), n_sessions (the number of continuations), output,
    error (previews), durability, key, notebook, parent_run_id, origin_run_id (the run that it is built on),
    origin_position (of a fork: up to which position of the journal).

    The display leaves out columns with only usual values and shortens ids and instants; the frame has them in full.

    Args:
        flow: a flow, a graph, a decider or the name of one; the part after the last dot is enough.
        run: an id, or a prefix that only one run has.
        status: one status or several; ``interrupted`` includes runs whose process died.
        since: a datetime (local, if it is naive), an ISO text, or a duration before now: ``"7d"``, seconds, a
            timedelta.
        limit: the maximal number of rows; the newest ones are returned.
        after: a run, or its id: only the runs after it in this order, which began before it. The last run of one page
            leads to the next: ``iron.runs(limit=100, after=page["run_id"].iloc[-1])``.
        engine: the journal to read; by default the current one.

    Raises:
        RunNotFound, AmbiguousRun: `run` names no run, or several.
        ValueError: `status`, `since` or `limit` is invalid.
    """
    engine = engine or REGISTRY.engine()
    wanted = parse_statuses(RunStatus, status)
    with engine.reading() as reader:
        select = selection_of(engine, reader, flow=flow, run=run, since=since, limit=limit, after=after)
        return _history_frame(RUN_COLUMNS, _run_columns(engine, reader, select, wanted))


def steps(
    flow: object | None = None,
    *,
    run: str | None = None,
    status: str | Collection[str] | None = None,
    since: When = None,
    limit: int | None = None,
    after: object = None,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Return the steps of runs, one row for the latest attempt of each, by run (newest first) and first start.

    Columns: run_id, step (``fetch[12]``), name, index, attempt, status, started_at, finished_at, duration_s, reused
    (the latest continuation took the recorded result, or the run took the result of another one; duration_s is that of
    the original attempt), reason (why the attempt ran), output (preview), output_bytes, error (preview), progress
    (``41 of 200``, if the body reports it by `progress`). `Run.value` returns the real value.

    The arguments are those of `runs`; `status` is that of the step, and `since` and `limit` count steps.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        select = selection_of(engine, reader, flow=flow, run=run, since=since, limit=limit, after=after)
        chosen, of_run = _select_attempts(
            engine, reader, replace(select, is_latest=True), parse_statuses(StepStatus, status)
        )
        reused = _reused_steps(reader, [row for row, _ in chosen], list(of_run.values()))
        texts, progress = _previews(reader, chosen), _progress(reader, chosen)
    took = {"reused": [(row.run_id, row.step) in reused for row, _ in chosen]}
    return _history_frame(STEP_COLUMNS, [_attempt_columns(chosen, texts) | progress | took])


def steps_of(reader: Reader, run: RunRow, chosen: Sequence[tuple[StepRow, StepStatus]]) -> pd.DataFrame:
    """Return the frame of steps of one run, given by attempts and their statuses at one moment of it."""
    began = run.session_version if run.n_sessions > 1 else 0
    took = [row.origin_run_id is not None or (row.version < began and row.finished_at is not None) for row, _ in chosen]
    rest: dict[str, list[Any]] = {"reused": took, "progress": [None] * len(took)}
    return _history_frame(STEP_COLUMNS, [_attempt_columns(chosen, _previews(reader, chosen)) | rest])


def error_text(reader: Reader, error_id: ValueId | None) -> str | None:
    """Return a preview of a recorded error, or None without one."""
    return None if error_id is None else preview(reader.values([error_id]).get(error_id))


def attempts(
    flow: object | None = None,
    *,
    run: str | None = None,
    status: str | Collection[str] | None = None,
    since: When = None,
    limit: int | None = None,
    after: object = None,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Return every attempt of every step, one row each, by run (newest first), first start of the step, and attempt.

    Columns: those of `steps` without reused, and branch (where in the flow it was called; empty for the flow itself).
    The arguments are those of `steps`.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        select = selection_of(engine, reader, flow=flow, run=run, since=since, limit=limit, after=after)
        chosen, _ = _select_attempts(engine, reader, select, parse_statuses(StepStatus, status))
        texts, progress = _previews(reader, chosen), _progress(reader, chosen)
    return _history_frame(ATTEMPT_COLUMNS, [_attempt_columns(chosen, texts) | progress])


def events(
    flow: object | None = None,
    *,
    run: str | None = None,
    status: str | Collection[str] | None = None,
    since: When = None,
    limit: int | None = None,
    after: int | None = None,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Return the events of the journal by position, one row each; with `limit` only the newest ones.

    With `after`, a position, those after it, and of these with `limit` the oldest: so a reader goes on where it was.

    Columns: run_id, position (over the whole journal), version (within the run), at, type, step, attempt, data (a
    dict of the event's fields: ids, digests and counts, never a value; None where it is damaged).

    The arguments are those of `runs`; `flow` and `status` are those of the run, `since` is when the event happened.
    """
    engine = engine or REGISTRY.engine()
    wanted = parse_statuses(RunStatus, status)
    with engine.reading() as reader:
        select = selection_of(engine, reader, flow=flow, run=run, since=since, limit=limit)
        select = replace(select, after=row_limit(after, "after"))
        if wanted is not None:
            of = _select_runs(engine, reader, replace(select, since=None, limit=None), wanted)
            select = replace(select, run_name=None, run_ids=[row.run_id for row, _ in of])
        return _history_frame(
            EVENT_COLUMNS, (asdict(warn_of_damaged_events(piece)) for piece in reader.event_columns(select))
        )


def _history_frame(columns: Mapping[str, str], pieces: Iterable[Mapping[str, list[Any]]]) -> pd.DataFrame:
    from ironflow_nb.history.history_frame import HistoryFrame

    return HistoryFrame(frame_of_pieces(columns, pieces), copy=False)


# -- selecting ---------------------------------------------------------------------------------------------------


def _select_runs(
    engine: Engine, reader: Reader, select: Select, wanted: Collection[RunStatus] | None
) -> list[tuple[RunRow, RunStatus]]:
    narrowed = replace(select, name=select.run_name, run_name=None)
    if wanted is not None:
        # A run whose owner died is still recorded as owned: select these, too, and derive their status.
        is_derived = not {RunStatus.INTERRUPTED, RunStatus.PENDING}.isdisjoint(wanted)
        recorded = set(wanted) | OWNED if is_derived else wanted
        is_paged = select.limit is not None and len(recorded) == 1  # several are found by an index, all at once
        limit = max(select.limit or 0, _PAGE) if is_paged else select.limit if OWNED.isdisjoint(recorded) else None
        narrowed = replace(narrowed, statuses=recorded, limit=limit)
    found: list[tuple[RunRow, RunStatus]] = []
    while True:
        rows = skip_damaged(reader.runs, narrowed)
        statuses = statuses_of(engine, reader, rows)
        found += [(row, statuses[row.run_id]) for row in rows if wanted is None or statuses[row.run_id] in wanted]
        # Which of the recorded statuses is a derived one that is wanted, is not known before the rows are read.
        if wanted is None or narrowed.limit is None or not rows or len(found) >= (select.limit or 0):
            return found[: select.limit]
        narrowed = replace(narrowed, older_than=rows[-1].run_id)


def _select_attempts(
    engine: Engine, reader: Reader, select: Select, wanted: Collection[StepStatus] | None
) -> tuple[list[tuple[StepRow, StepStatus]], dict[RunId, RunRow]]:
    """Return attempts with their statuses, and their runs by id, without runs whose row is damaged."""
    narrowed = select
    if wanted is not None:
        recorded, is_sure = recorded_step_statuses(wanted)
        narrowed = replace(select, step_statuses=recorded, limit=select.limit if is_sure else None)
    while True:
        rows = skip_damaged(reader.steps, narrowed)
        of_run = {
            run.run_id: (run, status) for run, status in _select_runs(engine, reader, _selection_of_runs(rows), None)
        }
        damaged = {row.run_id for row in rows} - of_run.keys()
        if not damaged:
            break
        narrowed = replace(narrowed, without=[*narrowed.without, *damaged])
    derive = cache(derived_step_status)  # many rows, few different statuses
    derived = [(row, derive(row.status, of_run[row.run_id][1])) for row in rows]
    chosen = [(row, status) for row, status in derived if wanted is None or status in wanted]
    return chosen[: select.limit], {run_id: run for run_id, (run, _) in of_run.items()}


def _selection_of_runs(rows: Iterable[StepRow]) -> Select:
    return Select(run_ids={row.run_id for row in rows})


def _reused_steps(reader: Reader, latest: Sequence[StepRow], runs: Sequence[RunRow]) -> set[tuple[RunId, StepRef]]:
    """Return the steps whose recorded results the latest continuation of their run has reused."""
    began = {row.run_id: row.session_version for row in runs if row.n_sessions > 1}
    not_asked_for: dict[RunId, set[StepRef]] = {}
    for piece in reader.event_columns(Select(run_ids=list(began), name="SessionEnded")) if began else ():
        for run_id, version, data in zip(piece.run_id, piece.version, warn_of_damaged_events(piece).data, strict=True):
            if version > began[run_id]:  # events of earlier continuations do not count
                not_asked_for[run_id] = set((data or {}).get("not_asked_for", ()))
    return {
        (row.run_id, row.step)
        for row in latest
        if row.origin_run_id is not None
        or (
            row.run_id in began
            and row.version < began[row.run_id]
            and row.finished_at is not None
            and row.step not in not_asked_for.get(row.run_id, ())
        )
    }


# -- records -----------------------------------------------------------------------------------------------------


def _previews(reader: Reader, rows: Iterable[tuple[RunRow | StepRow, Any]]) -> Previews:
    chosen = [row for row, _ in rows]
    ids = {value for row in chosen for value in (row.output_id, row.error_id) if value is not None}
    having = (row.row_key for row in chosen if row.output_id is not None)
    found = reader.values(ids, of=having, content_limit=CONTENT_LIMIT)
    return {key: (preview(stored), stored.size) for key, stored in found.items()}


def _progress(reader: Reader, chosen: Sequence[tuple[StepRow, Any]]) -> dict[str, list[str | None]]:
    """Return how far the attempts are, or were when they ended."""
    known = reader.extension(TelemetryReader).progress({row.run_id for row, _ in chosen})
    found = (known.get((row.run_id, row.step, row.attempt)) for row, _ in chosen)
    return {"progress": [None if each is None else done_of(*each) for each in found]}


def _call_previews(reader: Reader, rows: Sequence[RunRow]) -> dict[RunId, str]:
    """Return previews of the arguments by run, with two reads for all runs."""
    of_run = {row.run_id: (row.inputs_id, row.kind) for row in rows if row.inputs_id is not None}
    inputs_ids = sorted({inputs_id for inputs_id, _ in of_run.values()})  # in the order of their index
    records = reader.values(inputs_ids, of=(row.row_key for row in rows), content_limit=INLINE_LIMIT)
    calls = {
        run_id: (records[inputs_id], fields_of_call(records[inputs_id], kind))
        for run_id, (inputs_id, kind) in of_run.items()
        if inputs_id in records
    }
    ids = {value_id for _, fields in calls.values() if fields for value_id in references(fields)}
    values = reader.values(ids, content_limit=CONTENT_LIMIT)
    return {
        run_id: f"... ({record.size} bytes)" if fields is None else call_preview(fields, values)
        for run_id, (record, fields) in calls.items()
    }


def _preview_text(texts: Previews, value_id: ValueId | None) -> str | None:
    return texts.get(value_id, _NO_PREVIEW)[0] if value_id is not None else None


def _run_columns(
    engine: Engine, reader: Reader, select: Select, wanted: Collection[RunStatus] | None
) -> Iterator[dict[str, list[Any]]]:
    """Yield the columns of all runs, in one piece."""
    found = _select_runs(engine, reader, select, wanted)
    rows = [row for row, _ in found]
    tallies = undamaged_tallies(reader, [row.run_id for row in rows])
    texts, calls = _previews(reader, found), _call_previews(reader, rows)
    now = engine.clock.now()
    until = [row.ended_at or (now if status in OWNED else None) for row, status in found]
    took = [None if at is None else max(at - row.started_at, 0) / 1e6 for row, at in zip(rows, until, strict=True)]
    of_rows = [tallies.get(row.run_id, ()) for row in rows]
    yield {name: [getattr(row, name) for row in rows] for name in _RUN_AS_RECORDED} | {
        "arguments": [calls.get(row.run_id) for row in rows],
        "status": [status.value for _, status in found],
        "duration_s": took,
        "n_steps": [sum([each.n for each in tallies if each.status is not StepStatus.SKIPPED]) for tallies in of_rows],
        "n_completed": [count_steps(tallies, StepStatus.COMPLETED) for tallies in of_rows],
        "n_failed": [count_steps(tallies, *FAILURES) for tallies in of_rows],
        "output": [_preview_text(texts, row.output_id) for row in rows],
        "error": [_preview_text(texts, row.error_id) for row in rows],
    }


def count_steps(tallies: Iterable[StepTally], *statuses: StepStatus) -> int:
    """Return how many steps have one of those statuses."""
    return sum([tally.n for tally in tallies if tally.status in statuses])


def _attempt_columns(chosen: Sequence[tuple[StepRow, StepStatus]], texts: Previews) -> dict[str, list[Any]]:
    rows = [row for row, _ in chosen]
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in _AS_RECORDED}
    outputs = [texts.get(row.output_id, _NO_PREVIEW) if row.output_id is not None else _NO_PREVIEW for row in rows]
    return columns | {
        "status": [str(status) for _, status in chosen],
        "output": [text for text, _ in outputs],
        "output_bytes": [size for _, size in outputs],
        "error": [_preview_text(texts, row.error_id) for row in rows],
    }
