"""Whether a call joins a run that was begun before, or begins a new one.

Call n among the equal calls of a new cell execution joins the run of call n of the latest execution that had one, if
that run is unfinished and young enough. So ``[f.start(x) for _ in range(5)]`` is five runs, and running that cell
again continues those of them that are not finished.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from ironflow_nb.core.ids import Digest
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.status import CLOSED, OWNED, RunStatus, derived_run_status


class OnRerun(StrEnum):
    """What a call does when an equal one was made before."""

    CONTINUE = "continue"
    REUSE = "reuse"
    NEW = "new"


class Begin(msgspec.Struct, frozen=True):
    """A new run, `after` one of an equal call that is completed."""

    because: str | None = None
    after: RunRow | None = None


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
    if _is_of_another_notebook(candidate, caller):
        return Begin(because=f"run {candidate.run_id} belongs to {candidate.notebook}")
    status = derived_run_status(candidate.status, owner_is_alive=owner_is_alive)
    return Attach(candidate) if status in OWNED else Continue(candidate)


def is_reusable(candidate: RunRow, definition_id: Digest) -> bool:
    """Tell whether the result of a run answers an equal call: it is completed, and all of its code is as it was."""
    return candidate.status is RunStatus.COMPLETED and candidate.definition_id == definition_id


def _is_of_another_notebook(candidate: RunRow, caller: Caller) -> bool:
    known = candidate.notebook is not None and caller.notebook is not None
    return known and candidate.notebook != caller.notebook and caller.other_notebook_exists


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
