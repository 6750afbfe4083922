"""The plan of a continuation: the engine's verdicts on all recorded steps, made before it runs; and its options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache

import msgspec

from ironflow_nb.core.events import RunContinued
from ironflow_nb.core.identity import OWN_PREFIX, Digest, StepRef
from ironflow_nb.core.recorded_steps import RecordedStep, RecordedSteps
from ironflow_nb.core.replay_decision import (
    OnChange,
    Perform,
    PolicyDecides,
    Replay,
    Reuse,
    Unknown,
    judge,
    settle_change,
)
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import StepReason, StepStatus
from ironflow_nb.core.wait_rules import QUESTIONS


class ResumeOptions(msgspec.Struct, frozen=True):
    """The steps to `retry` although the flow went on after their failures, to `rerun`, or to `keep` as they are.

    A step that runs once and has an unknown outcome is tried again only if it is named.
    """

    retry: tuple[StepRef, ...] = ()
    rerun: tuple[StepRef, ...] = ()
    keep: tuple[StepRef, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.retry or self.rerun or self.keep)


NONE = ResumeOptions()


def discarded(continuations: Iterable[tuple[int, RunContinued]]) -> Mapping[StepRef, int]:
    """Return the steps that were to run again, with the version before which their attempts answer nothing.

    `continuations` are versions and events, oldest first. A request holds until the step has run, through any number of
    interruptions.
    """
    return {step: version for version, event in continuations for step in (*event.retry, *event.rerun)}


class Action(StrEnum):
    """What happens to a recorded step when it is called again."""

    REUSE = "reuse"
    REPLAY = "replay"
    RETRY = "retry"
    REDO = "redo"
    STOP = "stop"
    ASK = "ask"
    MISSING = "missing"


class Current(msgspec.Struct, frozen=True):
    """The definition of a step in this process."""

    code: Digest
    once: bool = False
    on_change: OnChange | None = None


class Planned(msgspec.Struct, frozen=True):
    """One recorded step, what happens to it, and why. `row` is the attempt that the reason is about."""

    step: StepRef
    action: Action
    reason: str
    row: StepRow


WhyChanged = Callable[[str, Digest], str]
"""Returns in words how the code of the named step differs from the code of that digest."""

AtStake = Callable[[str, Digest], tuple[int, float]]
"""Returns the number of finished steps of a name that have other code than that, and their seconds."""


def plan(
    memo: RecordedSteps, steps: Mapping[str, Current], on_change: OnChange, why_changed: WhyChanged
) -> list[Planned]:
    """Return what would happen to each recorded step, by first start, if it were called again.

    Only recorded steps can be planned. New steps, and arguments that differ, show when the flow runs.
    """
    at_stake = cache(memo.work_at_stake)  # it reads every record, and is the same for all steps of a name
    calls = (record for record in memo.records() if record.attempts[0].reason != StepReason.COMPENSATION)  # of the flow
    found = [_planned(at_stake, record, steps, on_change, why_changed) for record in calls]
    is_upstream_redone = False
    planned = []
    for each in sorted(found, key=lambda each: memo.first_version(each.step)):
        if each.action is Action.REUSE and is_upstream_redone and each.row.status is not StepStatus.WAITING:
            each = msgspec.structs.replace(each, reason="finished; reused if its arguments are the same")  # noqa: PLW2901
        is_upstream_redone |= each.action in {Action.REDO, Action.RETRY}
        planned.append(each)
    return planned


def _planned(
    at_stake: AtStake, record: RecordedStep, steps: Mapping[str, Current], on_change: OnChange, why_changed: WhyChanged
) -> Planned:
    latest = record.latest
    current = steps.get(latest.name)
    if current is None and latest.name.startswith(OWN_PREFIX):  # the package's own, which no process has to define
        current = Current(latest.code)
    if current is None:
        return Planned(latest.step, Action.MISSING, f"no step {latest.name} is defined here", latest)
    verdict = judge(record, current.code, once=current.once)
    if not isinstance(verdict, PolicyDecides):
        return _planned_without_policy(latest, verdict)
    row = verdict.row
    _, at_stake_s = at_stake(row.name, current.code)
    why = why_changed(row.name, row.code)
    match settle_change(current.on_change or on_change, row, at_stake_s):
        case Reuse():
            return Planned(row.step, Action.REUSE, f"{why}; kept", row)
        case Perform():
            return Planned(row.step, Action.REDO, why, row)
        case None:
            return Planned(row.step, Action.STOP, f"{why}; the run stops before it is done again", row)


def _planned_without_policy(latest: StepRow, verdict: Reuse | Replay | Perform | Unknown) -> Planned:
    match verdict:
        case Reuse(row=row):
            is_older = row.run_id != latest.run_id
            reason = f"finished with this code in run {row.run_id}" if is_older else "finished"
            reason = reason if row.code else "given by hand"
            return Planned(latest.step, Action.REUSE, reason, row)
        case Replay(row=row):
            return Planned(row.step, Action.REPLAY, "failed, and the flow lived with it", row)
        case Unknown(row=row):
            return Planned(row.step, Action.ASK, "runs once, and its outcome is unknown", row)
        case Perform() if latest.status is StepStatus.WAITING:
            how = "waits on, for an answer" if latest.name in QUESTIONS else "waits on, for what is left"
            return Planned(latest.step, Action.REUSE, how, latest)
        case Perform(reason=reason):
            return Planned(latest.step, Action.RETRY, reason, latest)
