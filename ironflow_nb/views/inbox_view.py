"""The view of an inbox: the questions that all runs of a journal ask now, the oldest first."""

from __future__ import annotations

from typing import Final

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.views import deltas
from ironflow_nb.views.deltas import Delta
from ironflow_nb.views.run_view import WaitView


class QuestionView(msgspec.Struct, frozen=True, kw_only=True):
    """A question of a run; `status` is that of the run, which may be at work elsewhere."""

    run_id: RunId
    flow: str
    status: RunStatus
    wait: WaitView

    @property
    def text(self) -> str:
        """The question with the expression that answers it."""
        return f'{self.flow} asks "{self.wait.question}": {self.wait.expression}'


class InboxView(msgspec.Struct, frozen=True, kw_only=True):
    """All open questions."""

    questions: tuple[QuestionView, ...] = ()

    def delta(self, since: InboxView) -> Delta:
        """Return what has changed since an earlier view."""
        return deltas.delta(since, self, _KEYS)

    def after(self, change: Delta) -> InboxView:
        """Return the view that the change makes of this one."""
        return deltas.applied(self, change, _KEYS)


_KEYS: Final[deltas.Keys] = {"questions": lambda each: f"{each.run_id} {each.wait.step}"}
