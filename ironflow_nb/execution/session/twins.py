"""Twins of steps that run once: calls with other arguments than the recorded one, after an edit or in a fork."""

from __future__ import annotations

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.recorded_steps import RecordedStep, RecordedSteps
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.errors import OutcomeUnknown


def settled_twin(recorded: RecordedSteps, name: str, run_id: RunId) -> RecordedStep | None:
    """Return the record that stands for a new call of a step that runs once: kept, or to be done again; None without.

    Raises:
        OutcomeUnknown: the step was done with other arguments, and nobody has said whether to do it again.
    """
    twin = recorded.next_unused(name)
    done = None if twin is None else twin.completed_with_any_code()
    if twin is None or (done is None and not twin.is_discarded):
        return None
    if done is not None and not twin.is_kept:
        raise asked_about(done, run_id)
    twin.asked_for = True
    return twin


def twin_of_origin(memo: RecordedSteps, name: str) -> StepRow | None:
    """Return what the origin of a fork has done in place of a call that runs once; None if nothing."""
    twin = memo.next_unused(name)
    return None if twin is None else twin.completed_with_any_code()


def asked_about(done: StepRow, run_id: RunId) -> OutcomeUnknown:
    """Return the error by which the run asks whether the step is to be done again."""
    name = done.name.rpartition(".")[2]
    return OutcomeUnknown(
        f"{done.step} runs once and was done already, with other arguments than run {run_id} has for it now; take its "
        f'outcome with\n    iron.resume("{run_id}", keep=["{name}"])\nor let it be done again with\n'
        f'    iron.resume("{run_id}", rerun=["{name}"])',
        run_id=run_id,
        step=done.step,
    )
