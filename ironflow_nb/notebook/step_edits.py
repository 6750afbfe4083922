"""What a card does with a step by hand: a result is injected, or a fork begins there; the plan of both comes first."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.plan import Action
from ironflow_nb.core.status import StepStatus
from ironflow_nb.execution import Engine
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.run_plan import planned_steps
from ironflow_nb.history.plan_summary import summary
from ironflow_nb.history.run_status import run_and_status
from ironflow_nb.journal.ports import Select

_LISTED: Final = 8


def read_literal(line: str) -> Any:
    """Return the value of a text: JSON, or a literal of Python.

    Raises:
        ValueError: it is neither.
    """
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        pass
    try:
        return literal_eval(line.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(
            f'{line.strip()[:60]!r} is no JSON and no literal of Python; write 3, "text", [1, 2], {{"a": 1}}, True or '
            "None, or give it in a cell: run.inject(step, value, reason=...)"
        ) from None


def planned_edit(engine: Engine, run_id: RunId, form: Mapping[str, Any]) -> dict[str, Any]:
    """Return in words what would happen if the form was sent; nothing is recorded."""
    step, line = form["step"], form["line"]
    run = run_and_status(engine, run_id)[0]
    if run is None:
        return {"summary": "nothing of the run is recorded yet", "again": [], "n_more": 0}
    if form["edit"] == "fork" and not line.strip():
        return {"summary": _summary_before(engine, run_id, step), "again": [], "n_more": 0}
    planned = planned_steps(engine, run, inject={step: read_literal(line)})
    again = [f"{each.step}: {each.reason}" for each in planned if each.action not in {Action.REUSE, Action.REPLAY}]
    return {"summary": plain(summary(planned)), "again": [*map(plain, again[:_LISTED])], "n_more": len(again[_LISTED:])}


def inject_value(run: Run[Any], form: Mapping[str, Any]) -> str:
    """Give the step of the form a result by hand; return what was done."""
    run.inject(form["step"], read_literal(form["line"]), reason=form["reason"])
    return f"{plain(form['step'])} has the result that was given by hand; Resume goes on with it"


def fork_at_step(engine: Engine, run: Run[Any], form: Mapping[str, Any]) -> str:
    """Begin a fork with another result of the step, or without a value from before it began; return what was done."""
    if form["line"].strip():
        forked = run.fork(replace={form["step"]: read_literal(form["line"])})
    else:
        forked = run.fork(at=_version_before(engine, RunId(run.id), form["step"]))
    return f'run {forked.id} has begun; iron.get_run("{forked.id}") shows it'


def _version_before(engine: Engine, run_id: RunId, step: str) -> int:
    """Return the version of the run before the first attempt of the step.

    Raises:
        ValueError: the run has no such step.
    """
    with engine.reading() as reader:
        versions = [row.version for row in reader.steps(Select(run_ids=[run_id])) if row.step == step]
    if not versions:
        raise ValueError(f"run {run_id} has no step {plain(step)}")
    return min(versions) - 1


def _summary_before(engine: Engine, run_id: RunId, step: str) -> str:
    version = _version_before(engine, run_id, step)
    past = Run[Any](engine, run_id).at(version)
    n_done = len(past.steps_of(StepStatus.COMPLETED))
    are = "is" if n_done == 1 else "are"
    return f"{n_done} finished before {plain(step)} began {are} reused; the rest is done again"
