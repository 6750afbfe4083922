"""The frame of the queue of work: what is due, and what waits for its time, for a signal or for its notebook."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import CLOSED, RunStatus, StepStatus
from ironflow_nb.core.wait_rules import NEVER, StartKind, WaitKind, parse_work_key
from ironflow_nb.execution import DETACHED, REGISTRY, Engine
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Select
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS: Final = {
    "run_id": TEXT, "run_name": TEXT, "kind": TEXT, "step": TEXT, "signal": TEXT, "key": TEXT, "due_at": INSTANT,
    "state": TEXT, "attempts": COUNT, "created_at": INSTANT, "error": TEXT,
}  # fmt: skip


def work(*, engine: Engine | None = None) -> pd.DataFrame:
    """Return the queue of work of the journal, in the order in which it is due, one row for each item.

    Columns: run_id, run_name, kind (``sleep``, ``signal``, ``signals``: a wait; ``effect``, ``timer``: of a decider;
    ``run``: a detached run; ``schedule``, ``event``, ``debounce``: what starts a run, which has no run_id yet;
    ``notification``: a call of a function of `on`; ``retry``: an attempt of a running run), step (the wait, or what is
    tried again), signal (its name), key (of an effect or timer; the
    id of a schedule or event; event and function of a notification), due_at (empty for a wait without an end), state
    (``due``, ``waiting``, ``running`` on a worker, ``dead``: given up after the last attempt, or ``waits for its
    notebook``: due, and what it is of is not defined in this process), attempts (how often it was claimed, of a run how
    many workers died on it in a row), created_at, error (of the last attempt that failed; what is dead because of it
    is tried again by `requeue` of its flow or decider, ``key=`` this key).

    Args:
        engine: the journal to read; by default the current one.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        items = reader.work(QueueSelect())
        found = reader.runs(Select(run_ids={item.run_id for item in items}))
        alive = engine.access.living_owners(reader)
        signalled = {item.work_id for item in reader.ended_waits(engine.clock.now())}
        going_on = {run.run_id: run for run in reader.runs(Select(statuses={RunStatus.RUNNING, RunStatus.WAITING}))}
        retrying = Select(run_ids=going_on.keys(), step_statuses={StepStatus.RETRYING}, is_latest=True)
        retries = reader.steps(retrying) if going_on else []
        tried: list[QueueItem | StepRow] = [*items, *retries]
        error_ids = {each.error_id for each in tried if each.error_id is not None}
        errors = reader.values(error_ids, of=[each.row_key for each in retries])
    runs = {run.run_id: run for run in found if run.status not in CLOSED or not _is_wait_of(run, items)}
    now = engine.clock.now()
    records = [
        (_start(item, runs, now) if item.kind in set(StartKind) else _row(item, runs, now, signalled, alive))
        | _error(item, errors)
        for item in items
        if item.run_id in runs or item.kind in set(StartKind)
    ]
    records += [_retry(row, going_on[row.run_id], now) | _error(row, errors) for row in retries]
    return frame_of_records(_COLUMNS, sorted(records, key=_due_at))


def _due_at(record: Mapping[str, object]) -> int:
    due_at = record["due_at"]
    return due_at if isinstance(due_at, int) else NEVER


def _error(failed: QueueItem | StepRow, errors: Mapping[ValueId, StoredValue]) -> dict[str, object]:
    """Return why the last attempt failed, if one has."""
    error = errors.get(failed.error_id) if failed.error_id is not None else None
    return {"error": None if error is None else error.preview}


def _retry(row: StepRow, run: RunRow, now: int) -> dict[str, object]:
    """Return a pause before another attempt; the journal has it with the failed one, and not in the queue."""
    return {
        "run_id": run.run_id,
        "run_name": run.name,
        "kind": "retry",
        "step": row.step,
        "signal": None,
        "key": None,
        "due_at": row.due_at,
        "state": "due" if (row.due_at or 0) <= now else "waiting",
        "attempts": row.attempt,
        "created_at": row.finished_at,
    }


def _is_wait_of(run: RunRow, items: list[QueueItem]) -> bool:
    """Return True if what is queued of the run are waits, which a process that died may have left behind."""
    return all(item.kind in set(WaitKind) for item in items if item.run_id == run.run_id)


def _row(
    item: QueueItem, runs: Mapping[RunId, RunRow], now: int, signalled: set[int | None], alive: Collection[str]
) -> dict[str, object]:
    is_wait, run = item.kind in set(WaitKind), runs[item.run_id]
    step, signal = parse_work_key(item.key) if is_wait else (None, None)
    return {
        "run_id": item.run_id,
        "run_name": run.name,
        "kind": item.kind,
        "step": step,
        "signal": signal or None,
        "key": None if is_wait or item.kind == DETACHED else item.key,
        "due_at": None if item.due_at >= NEVER else item.due_at,
        "state": _state(item, run.kind, run.name, alive, is_due=item.due_at <= now or item.work_id in signalled),
        "attempts": item.attempts,
        "created_at": item.created_at,
    }


def _start(item: QueueItem, runs: Mapping[RunId, RunRow], now: int) -> dict[str, object]:
    kind, _, name = item.key.partition(" ")
    run = runs.get(item.run_id)  # whose end a function is called after; all others begin a run, and have none
    return {
        "run_id": None if run is None else run.run_id,
        "run_name": name if run is None else run.name,
        "kind": item.kind,
        "step": None,
        "signal": None,
        "key": item.run_id if run is None else item.key,
        "due_at": item.due_at,
        "state": _state(item, kind, name, (), is_due=item.due_at <= now),
        "attempts": item.attempts,
        "created_at": item.created_at,
    }


def _state(item: QueueItem, kind: str, name: str, alive: Collection[str], *, is_due: bool) -> str:
    if item.dead_at is not None:
        return "dead"
    if not is_due:
        return "waiting"
    if item.kind == DETACHED and item.owner in alive:
        return "running"
    return "due" if REGISTRY.find(kind, name) is not None else "waits for its notebook"
