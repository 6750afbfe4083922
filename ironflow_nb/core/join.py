"""Whether a call joins a run that was begun before, or begins a new one.

Call n among the equal calls of a new cell execution joins the run of call n of the latest execution that had one, if
that run is unfinished and young enough. So ``[f.start(x) for _ in range(5)]`` is five runs, and running that cell
again continues those of them that are not finished.

A completed run is built on, too, where a person works in a notebook: an edit is followed by a new run that takes over
what the edit does not touch, and the same cells in another kernel get the recorded result.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

import msgspec

from ironflow_nb.core.identity import Digest
from ironflow_nb.core.plan import Action, Planned
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import CLOSED, OWNED, RunStatus, derived_run_status


class OnRerun(StrEnum):
    """What a call does when an equal one was made before."""

    CONTINUE = "continue"
    REUSE = "reuse"
    NEW = "new"


class Begin(msgspec.Struct, frozen=True):
    """A new run, `after` one of an equal call that is completed; if it `takes_over`, what that one has finished.

    `planned` is what an edit means for the steps of the completed run.
    """

    because: str | None = None
    after: RunRow | None = None
    takes_over: bool = False
    planned: Sequence[Planned] = ()


class Continue(msgspec.Struct, frozen=True):
    """The run is taken on from where it stopped."""

    run: RunRow


class Attach(msgspec.Struct, frozen=True):
    """Somebody is working on the run: wait for it and watch."""

    run: RunRow


Joining: TypeAlias = Begin | Continue | Attach


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision has to know of the call; instants are microseconds UTC."""

    now: int
    last_active_at: int
    continue_within_s: float
    notebook: str | None
    other_notebook_exists: bool


def join(candidate: RunRow | None, caller: Caller, *, owner_is_alive: bool) -> Joining:
    """Return what a call does, given the run of the same ordinal in the latest execution that had one."""
    if candidate is None or candidate.status in CLOSED:
        return Begin(after=candidate if candidate is not None and candidate.status is RunStatus.COMPLETED else None)
    if caller.now - caller.last_active_at > caller.continue_within_s * 1e6:
        return Begin(because=f"run {candidate.run_id} is older than continue_within")
    if is_of_another_notebook(candidate, caller.notebook, other_exists=caller.other_notebook_exists):
        return Begin(because=f"run {candidate.run_id} belongs to {candidate.notebook}")
    status = derived_run_status(candidate.status, owner_is_alive=owner_is_alive)
    return Attach(candidate) if status in OWNED else Continue(candidate)


def build_on(
    completed: RunRow, planned: Sequence[Planned], *, definition_id: Digest, is_own_kernel: bool, reuses: bool
) -> Joining:
    """Return what a call does whose equal has completed, where completed runs are built on.

    In the kernel that completed it, and with nothing edited, the person wants it done again, unless `reuses` says that
    they never do.
    """
    redone = {Action.REDO, Action.STOP}
    is_step_edited = any(each.action in redone or each.row.run_id != completed.run_id for each in planned)
    if is_step_edited or completed.definition_id != definition_id:
        return Begin(after=completed, takes_over=True, planned=planned)
    if is_own_kernel and not reuses:
        return Begin(after=completed, planned=planned)
    return Attach(completed)


def is_of_another_notebook(run: RunRow, notebook: str | None, *, other_exists: bool) -> bool:
    """Tell whether the run belongs to another known notebook, whose file is still there."""
    known = run.notebook is not None and notebook is not None
    return known and run.notebook != notebook and other_exists


def keyed(candidate: RunRow | None, *, owner_is_alive: bool, reopens: bool = False) -> Joining:
    """Return what a call with ``key=`` does: the same key is the same run, for ever.

    With `reopens` a run that is closed is taken on again.
    """
    if candidate is None:
        return Begin()
    status = derived_run_status(candidate.status, owner_is_alive=owner_is_alive)
    if reopens and status in CLOSED:
        return Continue(candidate)
    return Attach(candidate) if status in OWNED | CLOSED else Continue(candidate)
