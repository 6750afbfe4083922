"""Runs as a folder of JSON, a file for each: for programs that read no journal. Nothing goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunKind, RunStatus, StepStatus
from ironflow_nb.errors import InputsNotStored, JournalError, ValueUnreadable
from ironflow_nb.execution import Engine
from ironflow_nb.history.plain_json import json_of
from ironflow_nb.history.recorded_values import arguments_of_run, read_arguments, read_output
from ironflow_nb.history.run_status import run_and_status
from ironflow_nb.journal.ports import Select
from ironflow_nb.values.failures import load_failure
from ironflow_nb.values.private_files import make_folder, new_file

_OF_RUN: Final = {
    RunStatus.COMPLETED: "success", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "cancelled",
    RunStatus.INTERRUPTED: "stalled", RunStatus.PENDING: "pending",
}  # fmt: skip
_OF_STEP: Final = {
    StepStatus.COMPLETED: "success", StepStatus.COMPENSATED: "success", StepStatus.FAILED: "failed",
    StepStatus.TIMED_OUT: "failed", StepStatus.SKIPPED: "skipped", StepStatus.CANCELLED: "cancelled",
    StepStatus.PENDING: "pending",
}  # fmt: skip
_OTHERWISE: Final = "running"
"""What each other status is: running, waiting and retrying, and what the death of a process has left."""


def write_run_folder(engine: Engine, run_id: str, folder: Path) -> Path:
    """Write the file of a run, in the place of an older one of it; return where it is.

    Raises:
        JournalError: the file can't be written.
    """
    content = json.dumps(_record(engine, run_id), indent=2).encode()
    target = folder / f"{run_id}.json"
    temporary = folder / f".{run_id}.{engine.entropy(6).hex()}.tmp"
    try:
        make_folder(folder)
        with new_file(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise JournalError(f"the run can't be written to {target}: {error}", path=target) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def _record(engine: Engine, run_id: str) -> dict[str, Any]:
    with engine.reading() as reader:
        [known] = reader.runs(Select(run_ids=[run_id]))
        rows = reader.steps(Select(run_ids=[run_id], is_latest=True))
    run, status = run_and_status(engine, known.run_id)
    row = known if run is None else run
    context = _arguments(lambda: arguments_of_run(engine, row))
    if status is RunStatus.COMPLETED and (output_id := row.output_id) is not None:
        context |= _readable("result", lambda: engine.access.read(output_id, row.row_key))
    return {
        "id": run_id, "flow_name": row.name, "status": _OF_RUN.get(status, _OTHERWISE),
        "started": _instant(engine, row.started_at), "finished": _instant(engine, row.ended_at), "ctx": context,
        "tasks": {each.step: _task(engine, row, each) for each in rows},
    } | _error(engine, row)  # fmt: skip


def _task(engine: Engine, run: RunRow, row: StepRow) -> dict[str, Any]:
    about = {
        "name": row.step, "status": _OF_STEP.get(row.status, _OTHERWISE), "attempt": row.attempt,
        "node_type": "step" if run.kind == RunKind.FLOW else "node", "input": _arguments(partial(_inputs, engine, row)),
        "started": _instant(engine, row.started_at), "finished": _instant(engine, row.finished_at),
    }  # fmt: skip
    output = {} if row.output_id is None else _readable("output", lambda: read_output(engine, row))
    return about | output | _error(engine, row)


def _inputs(engine: Engine, row: StepRow) -> Mapping[str, Any]:
    return read_arguments(engine, row, lambda what: InputsNotStored(what, run_id=row.run_id))[0]


def _arguments(read: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments as far as they were stored and can be read here."""
    try:
        given = read()
    except (InputsNotStored, ValueUnreadable):
        return {}
    found: dict[str, Any] = {}
    for name in given:
        found |= _readable(name, partial(given.__getitem__, name))
    return found


def _error(engine: Engine, row: RunRow | StepRow) -> dict[str, str]:
    """Return the traceback of the failure, or what there is of it."""
    stored = None if row.error_id is None else engine.access.value(row.error_id)
    if stored is None:
        return {}
    try:
        failure = load_failure(stored)
    except ValueUnreadable:
        return {"error": stored.preview or "unreadable"}
    return {"error": failure.traceback or f"{failure.kind}: {failure.text}"}


def _instant(engine: Engine, at: int | None) -> str | None:
    return None if at is None else engine.access.instant(at).isoformat()


def _readable(name: str, read: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {name: json_of(read())}
    except (InputsNotStored, ValueUnreadable):
        return {}
