"""Failures that a flow has seen: whether it lived with them shows in what it does next."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from ironflow_nb.core.identity import BranchId, StepRef
from ironflow_nb.core.run_state import StepRow


class ObservedFailures:
    """The failures of one continuation of a run. Used under the session's lock; `put` records a changed row."""

    def __init__(self, put: Callable[[StepRow], None]) -> None:
        self._put = put
        self._seen: dict[BranchId, dict[StepRef, StepRow]] = {}
        self._lived_with: dict[StepRef, StepRow] = {}

    def note(self, branch: BranchId, row: StepRow) -> None:
        """Note that the branch sees the failure."""
        self._seen.setdefault(branch, {})[row.step] = row

    def prove(self, branch: BranchId) -> tuple[StepRef, ...]:
        """Record that this branch and those below it lived with what they saw, for it goes on; return the steps."""
        if not self._seen:
            return ()
        proven: dict[StepRef, StepRow] = {}
        for other in [key for key in self._seen if key == branch or key.startswith(f"{branch}/")]:
            proven |= self._seen.pop(other)
        for row in proven.values():
            self._judge(replace(row, lived_with=True))
        return tuple(proven)

    def disown(self, steps: Iterable[StepRef], recorded: Callable[[StepRef], StepRow | None]) -> None:
        """Take back that the flow lived with these failures: they are in the chain of the run's own error."""
        for step in steps:
            for seen in self._seen.values():
                seen.pop(step, None)
            row = self._lived_with.get(step) or recorded(step)
            if row is not None:
                self._judge(replace(row, lived_with=False))

    def _judge(self, row: StepRow) -> None:
        self._lived_with[row.step] = row
        self._put(row)
