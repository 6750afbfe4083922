"""What a resumption is told about steps that are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ironflow_nb.core.events import RunContinued
from ironflow_nb.core.ids import StepRef


class Orders(msgspec.Struct, frozen=True):
    """Which steps are tried again though the flow lived with their failures, run again, or kept as they are.

    To try again also what may have happened, the outcome of a step that runs once, its step is named.
    """

    retry: tuple[StepRef, ...] = ()
    rerun: tuple[StepRef, ...] = ()
    keep: tuple[StepRef, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.retry or self.rerun or self.keep)


NONE = Orders()


def discarded(continuations: Iterable[tuple[int, RunContinued]]) -> Mapping[StepRef, int]:
    """Return the version before which attempts of a step are no answer any more, for each that was to run again.

    `continuations` are versions and events, oldest first. An order holds until the step was performed, whatever
    interrupts the run meanwhile.
    """
    return {step: version for version, event in continuations for step in (*event.retry, *event.rerun)}
