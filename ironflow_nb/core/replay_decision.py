"""The decision on a call whose identity is recorded: reuse it, replay its failure, perform it, or stop and ask."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from ironflow_nb.core.identity import Digest
from ironflow_nb.core.recorded_steps import RecordedStep
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES, StepReason, StepStatus

GUARD_S: Final = 60.0
"""Recorded work of fewer seconds is redone without asking when its code has changed."""


class OnChange(StrEnum):
    """What happens to finished steps whose code has changed."""

    GUARD = "guard"
    REFRESH = "refresh"
    KEEP = "keep"
    STRICT = "strict"


class Reuse(msgspec.Struct, frozen=True):
    """The recorded output answers the call."""

    row: StepRow


class Replay(msgspec.Struct, frozen=True):
    """The recorded failure answers the call: the flow went on after it."""

    row: StepRow


class Perform(msgspec.Struct, frozen=True):
    """The body runs, for that reason."""

    reason: StepReason


class PolicyDecides(msgspec.Struct, frozen=True):
    """The code has changed; the policy decides by the work that is at stake."""

    row: StepRow


class Unknown(msgspec.Struct, frozen=True):
    """The step runs once and has begun; its outcome is unknown."""

    row: StepRow


Verdict: TypeAlias = Reuse | Replay | Perform | PolicyDecides | Unknown

NEW: Final = Perform(StepReason.NEW)


def judge(record: RecordedStep | None, code: Digest, *, once: bool = False) -> Verdict:
    """Return the verdict on a call of that code. The policy on changed code is not applied yet; `once` needs none."""
    if record is None:
        return NEW
    if record.child_edited_at and record.is_child_edited:
        return Perform(StepReason.CHILD_EDITED)
    done = record.completed_with_any_code() if once else record.completed(code)
    if done is not None:
        return Reuse(done)
    latest = record.latest
    if record.is_discarded:
        return Perform(StepReason.ASKED_FOR)
    if once and latest.status is StepStatus.UNKNOWN:
        return Unknown(latest)
    if latest.status in FAILURES:
        if latest.lived_with and latest.code == code:
            return Replay(latest)
    elif latest.status is StepStatus.PENDING:
        return _redo_unless_completed(record, Perform(StepReason(latest.reason)))
    elif latest.status is StepStatus.RETRYING:
        return _redo_unless_completed(record, Perform(StepReason.RETRY))
    elif latest.status is StepStatus.COMPENSATED:
        return _redo_unless_completed(record, Perform(StepReason.COMPENSATED))
    elif latest.status is not StepStatus.COMPLETED:
        return _redo_unless_completed(record, Perform(StepReason.INTERRUPTED))
    return _redo_unless_completed(record, Perform(StepReason.FAILED_BEFORE))


def _redo_unless_completed(record: RecordedStep, otherwise: Perform) -> Verdict:
    other_code = record.completed_with_any_code()
    return otherwise if other_code is None else PolicyDecides(other_code)


def settle_change(policy: OnChange, row: StepRow, at_stake_s: float) -> Reuse | Perform | None:
    """Return the policy's decision on changed code, or None if the run stops before anything is redone."""
    match policy:
        case OnChange.KEEP:
            return Reuse(row)
        case OnChange.REFRESH:
            return Perform(StepReason.CODE_CHANGED)
        case OnChange.GUARD if at_stake_s < GUARD_S:
            return Perform(StepReason.CODE_CHANGED)
        case OnChange.GUARD | OnChange.STRICT:
            return None
