"""What a performed attempt comes to: its value or its failure, ready to be recorded."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ironflow_nb.core.events import StepCompleted, StepFailed
from ironflow_nb.core.retry import MAX_DELAY_S
from ironflow_nb.errors import IronflowError, ValueNotStorable
from ironflow_nb.execution.session.attempts import Attempt, AttemptResult, StoredResult
from ironflow_nb.execution.session.replay import failure_of, mark
from ironflow_nb.execution.session.run_phase import RunPhase
from ironflow_nb.execution.session.session import Session
from ironflow_nb.values.digest import listed
from ironflow_nb.values.failures import recorded_error


def returned(session: Session, attempt: Attempt, value: Any) -> AttemptResult:
    """Return what is to be recorded of a returned attempt; a value that nothing stores makes it a failed one."""
    duration_s = _duration_s(session, attempt)
    try:
        values, echo, is_shareable = session.storage.encode_result(listed(value))
    except ValueNotStorable as error:
        error.add_note(f"It is the result of {attempt.step} in run {session.run_id}.")
        return raised(session, attempt, error)
    stored = values[-1]
    completed = StepCompleted(output=stored.value_id, duration_s=duration_s)
    cached = attempt.claim
    if cached is not None and is_shareable:
        now = session.access.clock.now()
        cached = replace(cached, owner=None, output_id=stored.value_id, finished_at=now, duration_s=duration_s)
    return AttemptResult(
        completed, attempt.step, attempt.number, attempt.row, values, cached,
        performed=attempt, value=echo, stored=StoredResult(stored.value_id, stored.size),
    )  # fmt: skip


def raised(session: Session, attempt: Attempt, error: BaseException) -> AttemptResult:
    """Return what is to be recorded of an attempt that raised."""
    delay_s = None if session.phase >= RunPhase.FINISHING else _delay_if_told(session, attempt, error)
    fallback = vars(error).pop("fallback", None)  # the record of a failure does not need it
    if delay_s is None and fallback is not None:
        return returned(session, attempt, fallback)
    error, retry_at = failure_of(error, f"step {attempt.spec.name}"), None
    stored = session.storage.store_failure(error)
    if isinstance(error, Exception):  # who handles it gets what a replay will give
        error = recorded_error(
            stored, session.access.signer, where=f"{attempt.step} of run {session.run_id}", raised=error
        )
    if delay_s is not None:
        retry_at = session.access.clock.now() + round(delay_s * 1e6)
    failed = StepFailed(error=stored.value_id, duration_s=_duration_s(session, attempt))
    cached = None if retry_at is not None else attempt.claim
    return AttemptResult(
        failed, attempt.step, attempt.number, attempt.row, (stored,), cached,
        performed=attempt, error=mark(error, session.run_id, attempt.step), retry_at=retry_at,
    )  # fmt: skip


def _delay_if_told(session: Session, attempt: Attempt, error: BaseException) -> float | None:
    try:
        return _delay_s(session, attempt, error)
    except Exception as trouble:  # noqa: BLE001 -- of the user's function, or of what the error says of itself
        what = f"{type(trouble).__name__}: {trouble}"
        error.add_note(f"{attempt.step} is not tried again, for the question whether to raised {what}")
        return None


def _delay_s(session: Session, attempt: Attempt, error: BaseException) -> float | None:
    """Return after how many seconds the step is tried again; None if it is not.

    An error may say itself that another try would come to the same, and how long its other side is to be left alone.
    """
    retry, n_failed = attempt.spec.retry, attempt.n_failed + 1
    is_retryable = getattr(error, "is_retryable", not isinstance(error, IronflowError))
    if n_failed >= retry.attempts or not is_retryable or not retry.is_excused(error):
        return None
    chance = session.access.entropy(1)[0] / 255 if retry.jitter else 0.0
    asked_s = getattr(error, "retry_after_s", None) or 0.0
    return max(retry.delay_after(n_failed, chance), min(asked_s, MAX_DELAY_S))


def _duration_s(session: Session, attempt: Attempt) -> float:
    return session.access.clock.monotonic() - attempt.started_s
