"""A plan in one line: how many steps would be reused, tried again and done again, with their seconds of work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.plan import Action, Planned

_VERBS: Final = {
    Action.REUSE: "reused", Action.REPLAY: "failed and lived with", Action.RETRY: "tried again",
    Action.REDO: "done again", Action.STOP: "stopped at", Action.ASK: "to be asked about",
    Action.MISSING: "not defined here",
}  # fmt: skip


def summary(planned: Iterable[Planned]) -> str:
    """Return the plan in one line; empty without steps."""
    steps, parts = list(planned), []
    for action, verb in _VERBS.items():
        chosen = [each for each in steps if each.action is action]
        if chosen:
            work_s = sum(each.row.duration_s or 0.0 for each in chosen)
            parts.append(f"{len(chosen)} {verb} ({spoken(work_s)} of work)")
    return ", ".join(parts)
