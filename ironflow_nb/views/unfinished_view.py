"""The view of the runs of a journal that somebody has to look after: interrupted, failed, waiting."""

from __future__ import annotations

from typing import Final

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.views import deltas
from ironflow_nb.views.deltas import Delta
from ironflow_nb.views.inbox_view import QuestionView
from ironflow_nb.views.run_view import RunAction


class UnfinishedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that can be continued, and what of it is safe."""

    run_id: RunId
    name: str
    kind: str
    status: RunStatus
    active_at: int
    """When it was recorded that something happened in it, microseconds UTC."""
    n_safe: int
    """The number of its finished steps."""
    safe_s: float
    """The seconds of work in them."""
    error: str = ""
    """How it failed."""
    is_own: bool = True
    is_defined: bool = True
    """Whether its flow is defined in this process."""
    actions: tuple[RunAction, ...] = ()


class UnfinishedView(msgspec.Struct, frozen=True, kw_only=True):
    """What loading the extension shows: runs, the newest first; open questions; what else waits, one line each."""

    runs: tuple[UnfinishedRun, ...] = ()
    n_more: int = 0
    """How many older runs are not listed."""
    questions: tuple[QuestionView, ...] = ()
    n_more_questions: int = 0
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.runs or self.questions or self.notes)

    def delta(self, since: UnfinishedView) -> Delta:
        """Return what has changed since an earlier view."""
        return deltas.delta(since, self, _KEYS)

    def after(self, change: Delta) -> UnfinishedView:
        """Return the view that the change makes of this one."""
        return deltas.applied(self, change, _KEYS)

    @property
    def undefined(self) -> tuple[str, ...]:
        """The names of the flows that are not defined in this process yet."""
        return tuple(dict.fromkeys(each.name for each in self.runs if each.is_own and not each.is_defined))


_KEYS: Final[deltas.Keys] = {
    "runs": lambda each: each.run_id,
    "questions": lambda each: f"{each.run_id} {each.wait.step}",
    "notes": str,
}
