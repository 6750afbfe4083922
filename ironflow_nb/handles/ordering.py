"""What a resumption is told about steps, from what people write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ironflow_nb.core.ids import StepRef
from ironflow_nb.core.orders import Orders
from ironflow_nb.core.rows import StepRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus
from ironflow_nb.errors import NothingToDo, RunFinished
from ironflow_nb.execution.finding import resolve_steps

Named = str | Iterable[object] | None
FAILED = "failed"
_NOT_FAILED: Final = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED})


def ordered(rows: list[StepRow], run_id: str, status: RunStatus, *, retry: Named, rerun: Named, keep: Named) -> Orders:
    """Return the orders for a run of these attempts.

    Raises:
        NothingToDo: no step of those that were named can be tried again, run again or kept.
        RunFinished: the run was cancelled, or is going on.
        StepNotFound, AmbiguousStep: a step is none of the run, or of several functions.
    """
    if status is RunStatus.CANCELLED or status in OWNED:
        what = "was cancelled" if status is RunStatus.CANCELLED else f"is {status.value}"
        raise RunFinished(f"run {run_id} {what}, so it can't be told to do steps again", run_id=run_id)
    latest = {row.step: row for row in rows}
    failed = tuple(step for step, row in latest.items() if row.status not in _NOT_FAILED)
    known = tuple(step for step in failed if latest[step].status is not StepStatus.UNKNOWN)
    done = tuple({row.step: None for row in rows if row.status is StepStatus.COMPLETED})
    if retry == FAILED and not known and status is RunStatus.COMPLETED:
        raise NothingToDo(f"run {run_id} is completed, and none of its steps has failed", run_id=run_id)
    return Orders(
        retry=known if retry == FAILED else _chosen(rows, run_id, retry, failed, "has failed"),
        rerun=_chosen(rows, run_id, rerun, done, "is finished"),
        keep=_chosen(rows, run_id, keep, done, "is finished"),
    )


def _chosen(
    rows: list[StepRow], run_id: str, named: Named, among: tuple[StepRef, ...], what: str
) -> tuple[StepRef, ...]:
    if named is None:
        return ()
    steps = [named] if isinstance(named, str) or hasattr(named, "name") else list(named)
    refs = {ref: None for step in steps for ref in resolve_steps(rows, step, run_id)}
    chosen = tuple(ref for ref in refs if ref in among)
    if not chosen:
        asked = ", ".join(refs) or "what was named"
        raise NothingToDo(
            f"no step among {asked} of run {run_id} {what}; retry= takes failed steps, rerun= and keep= finished ones",
            run_id=run_id,
        )
    return chosen
