"""The decision whether a call joins an existing run or begins a new one.

The n-th of equal calls in a cell execution joins the run of the n-th in the latest execution that had one, if that run
is unfinished and young enough. So ``[f.start(x) for _ in range(5)]`` makes five runs, and the same cell, run again,
continues those that are not finished.

In a notebook a completed run counts too: after an edit a new run takes over the steps that the edit does not touch, and
the same cells in another kernel get the recorded result.
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
    """What a call does if an equal call was made before."""

    CONTINUE = "continue"
    REUSE = "reuse"
    NEW = "new"


class Begin(msgspec.Struct, frozen=True):
    """A new run begins.

    `after` is the completed run of an equal call, if there is one. A run that `takes_over` reuses the finished steps of
    that one; `planned` is the plan for these steps.
    """

    because: str | None = None
    after: RunRow | None = None
    takes_over: bool = False
    planned: Sequence[Planned] = ()


class Continue(msgspec.Struct, frozen=True):
    """The call continues the run from where it stopped."""

    run: RunRow


class Attach(msgspec.Struct, frozen=True):
    """The call waits for the run: another call executes it, or it is completed."""

    run: RunRow


Joining: TypeAlias = Begin | Continue | Attach


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's side of the decision. Instants are microseconds UTC."""

    now: int
    last_active_at: int
    continue_within_s: float
    notebook: str | None
    other_notebook_exists: bool


def join(candidate: RunRow | None, caller: Caller, *, owner_is_alive: bool) -> Joining:
    """Return what a call does; the candidate is the run of the same ordinal in the latest execution that had one."""
    if candidate is None or candidate.status in CLOSED:
        return Begin(after=candidate if candidate is not None and candidate.status is RunStatus.COMPLETED else None)
    is_old = caller.now - caller.last_active_at > caller.continue_within_s * 1e6
    if is_old and candidate.status is not RunStatus.WAITING:
        return Begin(because=f"run {candidate.run_id} is older than continue_within")
    if is_of_another_notebook(candidate, caller.notebook, other_exists=caller.other_notebook_exists):
        return Begin(because=f"run {candidate.run_id} belongs to {candidate.notebook}")
    return Attach(candidate) if _is_executed(candidate, owner_is_alive=owner_is_alive) else Continue(candidate)


def build_on(
    completed: RunRow, planned: Sequence[Planned], *, definition_id: Digest, is_own_kernel: bool, reuses: bool
) -> Joining:
    """Return what a call does after a completed run of an equal call, in a notebook.

    In the kernel that completed the run, and with nothing edited, the call begins a new run unless it `reuses` runs.
    """
    redone = {Action.REDO, Action.STOP}
    is_step_edited = any(each.action in redone or each.row.run_id != completed.run_id for each in planned)
    if is_step_edited or completed.definition_id != definition_id:
        return Begin(after=completed, takes_over=True, planned=planned)
    if is_own_kernel and not reuses:
        return Begin(after=completed, planned=planned)
    return Attach(completed)


def is_of_another_notebook(run: RunRow, notebook: str | None, *, other_exists: bool) -> bool:
    """Return True if the run belongs to another known notebook, whose file still exists."""
    known = run.notebook is not None and notebook is not None
    return known and run.notebook != notebook and other_exists


def keyed(candidate: RunRow | None, *, owner_is_alive: bool, reopens: bool = False) -> Joining:
    """Return what a call with ``key=`` does: one key is one run, for ever. With `reopens` closed runs continue too."""
    if candidate is None:
        return Begin()
    status = derived_run_status(candidate.status, owner_is_alive=owner_is_alive)
    if reopens and status in CLOSED:
        return Continue(candidate)
    is_executed = _is_executed(candidate, owner_is_alive=owner_is_alive)
    return Attach(candidate) if is_executed or status in CLOSED else Continue(candidate)


def _is_executed(run: RunRow, *, owner_is_alive: bool) -> bool:
    return run.status in OWNED and owner_is_alive
