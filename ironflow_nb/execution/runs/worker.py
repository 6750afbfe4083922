"""A worker: a process that continues, besides runs that wait, those that were detached, and those of dead workers."""

from __future__ import annotations

import re
from typing import Final

from ironflow_nb.core import events
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import OWNED, RunKind, RunStatus
from ironflow_nb.errors import JournalConflict, RunFailed
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recording.detached_runs import DETACHED
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.runs.idle_runs import end_idle, stop_idle
from ironflow_nb.execution.runs.waker import READ_AT_ONCE, Waker, still_waits
from ironflow_nb.execution.session.run_phase import StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import is_root, is_waiting, park
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, Select
from ironflow_nb.values.failures import store_failure

CHECK_S: Final = 1.0
"""Seconds between two looks for owners that have died, which change nothing in the journal."""
MOST_DEATHS: Final = 5
"""A run fails when this number of workers have died in it in a row, without a finished step in between."""

_MOST_NAMED: Final = 20
"""The definitions that the line about an undefined one names at most."""


class FreeRuns(Waker):
    """Finds the runs that some worker may continue: those whose waits are over, and detached ones without an owner."""

    def find(self) -> list[RunRow]:
        """Return the runs that are free now, the one that has waited longest first."""
        with self._engine.access.current() as reader:
            self._found.clear()
            self._find(reader, self._engine.clock.now())
            rows = {run.run_id: run for run in reader.runs(Select(run_ids=list(self._found)))}
        return [rows[run_id] for run_id in dict.fromkeys(self._found) if run_id in rows]

    def _find(self, reader: Reader, now: int) -> int:
        next_at = super()._find(reader, now)
        alive = self._engine.access.living_owners(reader)
        free = QueueSelect(kind=DETACHED, claimable_at=now, alive=alive, limit=READ_AT_ONCE)
        found = {item.run_id for item in reader.work(free)}
        runs = reader.runs(Select(run_ids=found))
        self._found.extend(run.run_id for run in reversed(runs) if self._is_free(reader, run))
        return min(next_at, now + round(CHECK_S * 1e6))

    def _is_free(self, reader: Reader, run: RunRow) -> bool:
        if not self._defines(run):
            return False
        if still_waits(reader, run):
            return super()._is_free(reader, run)
        is_refused = run.status not in OWNED or run.run_id in self._engine.refused
        if is_refused or self._engine.access.is_owner_alive(reader, run.owner):
            return False
        return self._item(reader, run) is not None

    def _item(self, reader: Reader, run: RunRow) -> QueueItem | None:
        """Return the item of the run in the queue, if it is detached."""
        return next(iter(reader.work(QueueSelect(run_ids=[run.run_id], kind=DETACHED))), None)


class RunWorker(FreeRuns):
    """Claims the due work of the runs that this process defines; see `Waker`. `stop_claiming` is the begin of its end.

    A run that it continues is detached from then on, so that another worker goes on with it if this one dies.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._is_claiming = True
        self._undefined: set[tuple[str, str]] = set()
        self._claimed: dict[RunId, RunRow] = {}
        engine.is_worker = True

    def look(self, *, is_new: bool) -> bool | None:
        """See `Waker`. It never rests."""
        self.log_ends()
        if not self._is_claiming:
            return False
        return super().look(is_new=is_new) or False

    def stop_claiming(self) -> None:
        """Claim nothing more."""
        self._is_claiming = False

    def definitions(self) -> list[str]:
        """Return kind and name of what this process defines, and whose work it does."""
        kinds = (RunKind.FLOW, RunKind.GRAPH, RunKind.DECIDER)
        return [f"{kind.value} {each.name}" for kind in kinds for each in REGISTRY.definitions(kind)]

    def drain(self) -> list[Session]:
        """Have every run given up at its next step or wait, and return those that still go on.

        What waits is parked, what works is detached; both are continued by any other worker.
        """
        going_on = [each for each in list(self._engine.sessions.values()) if not each.is_over]
        for session in going_on:
            if session.is_open and is_root(session):
                if is_waiting(session) and session.waits.is_parkable:
                    park(session)
                else:
                    session.stop(StopRequest.DETACH, self._engine.owner)
        return going_on

    def _is_free(self, reader: Reader, run: RunRow) -> bool:
        if not self._defines(run):
            self._note_undefined(run)
        return super()._is_free(reader, run)

    def _note_undefined(self, run: RunRow) -> None:
        """Say once what is due and not defined in this process."""
        if run.kind in {RunKind.FLOW, RunKind.GRAPH} and (run.kind, run.name) not in self._undefined:
            self._undefined.add((run.kind, run.name))
            known, last = self.definitions(), run.name.rpartition(".")[2]
            is_near = any(re.split("[ .]", each)[-1] == last for each in known)
            others = [f"and {len(known) - _MOST_NAMED} more"] if len(known) > _MOST_NAMED else []
            near = "; what is imported from a module needs `work MODULE`, a script or notebook `work FILE`"
            logger().warning(
                "run %s of %s %s is due, and is left to a process that defines it; here are defined: %s%s",
                run.run_id, run.kind, run.name, ", ".join(known[:_MOST_NAMED] + others), near if is_near else "",
            )  # fmt: skip

    # -- claiming ------------------------------------------------------------------------------------------------

    def _wake(self, run: RunRow, n_deaths: int = 0) -> None:
        with self._engine.access.current() as reader:
            item = self._item(reader, run)
            asked = {signal.name for signal in reader.signals([run.run_id])}
            is_dead = run.owner is not None and run.status is not RunStatus.WAITING
            n_deaths = 0 if item is None or not is_dead or _has_advanced(reader, run) else item.attempts + 1
        try:
            if run.status is RunStatus.COMPENSATING:
                self._claim(run, n_deaths)
            elif run.status is RunStatus.CANCELLING or StopRequest.CANCEL in asked:
                policy = getattr(REGISTRY.find_of(run), "policy", None)
                compensates = bool(getattr(policy, "compensate_on_cancel", False))
                stop_idle(self._engine, run, StopRequest.CANCEL, compensates=compensates)
            elif StopRequest.PAUSE in asked:
                stop_idle(self._engine, run, StopRequest.PAUSE)
            elif n_deaths >= MOST_DEATHS:
                self._give_up(run, n_deaths)
            else:
                self._claim(run, n_deaths)
        except JournalConflict:  # another worker was faster
            return

    def _claim(self, run: RunRow, n_deaths: int) -> None:
        self._claimed[run.run_id] = run
        how = f"{run.status.value}, its owner has died" if run.owner is not None else run.status.value
        logger().info("run %s of %s: continued here (was %s)", run.run_id, run.name, how)
        super()._wake(run, n_deaths)

    def _give_up(self, run: RunRow, n_deaths: int) -> None:
        error = RunFailed(
            f"{n_deaths} workers have died in a row on run {run.run_id} of {run.name}, and no step was finished in "
            f"between; it may need more memory than there is, or end its process. Continue it with "
            f"iron.resume({run.run_id!r}), or hand it over again with iron.get_run({run.run_id!r}).detach()",
            run_id=run.run_id,
        )
        stored = store_failure(error, self._engine.signer)
        logger().warning("%s", error)
        end_idle(self._engine, run, events.RunFailed(error=stored.value_id), values=(stored,))

    def log_ends(self) -> None:
        """Say of runs that were continued here how they have ended, or that they wait."""
        ended = [run_id for run_id in [*self._claimed] if not self._engine.is_running_here(run_id)]
        if ended:
            with self._engine.access.current() as reader:
                rows = reader.runs(Select(run_ids=ended))
            for row in rows:
                if self._claimed.pop(row.run_id, None) is not None:  # else another thread was faster
                    logger().info("run %s of %s: %s", row.run_id, row.name, row.status.value)


def _has_advanced(reader: Reader, run: RunRow) -> bool:
    """Return True if a step was finished in the latest continuation of the run."""
    kinds = (events.StepCompleted, events.StepFailed, events.WaitEnded)
    newest = (reader.events(Select(run_ids=[run.run_id], name=kind.__name__, limit=1)) for kind in kinds)
    return any(found and found[-1].version > run.session_version for found in newest)
