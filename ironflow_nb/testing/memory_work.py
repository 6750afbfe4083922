"""What is still to do, what deciders were sent, and the states that are kept of them, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from ironflow_nb.core.ids import RunId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.journal.ports import Entry, Observation, StoredState, Work, WorkSelect


class MemoryWork:
    """The mailbox of a journal in memory."""

    def __init__(self) -> None:
        self._work: dict[tuple[RunId, str, str], Work] = {}
        self._observations: list[Observation] = []
        self._states: dict[RunId, StoredState] = {}
        self._n_work = 0

    def copy(self) -> MemoryWork:
        """Return another one with the same content."""
        other = MemoryWork()
        other._work, other._observations = dict(self._work), list(self._observations)
        other._states, other._n_work = dict(self._states), self._n_work
        return other

    def write(self, entry: Entry) -> None:
        """Take in what the entry says of work, observations and state."""
        for kind, key in entry.done_work:
            self._work.pop((entry.run_id, kind, key), None)
        for work in entry.put_work:
            known = self._work.get((work.run_id, work.kind, work.key))
            if known is None:
                self._n_work += 1
            number = self._n_work if known is None else known.work_id
            self._work[work.run_id, work.kind, work.key] = replace(work, work_id=number)
        self._observations += entry.observations
        if entry.state is not None:
            self._states[entry.run_id] = entry.state

    def is_observed(self, observation: Observation) -> bool:
        """Tell whether a command of that key was recorded already."""
        key = observation.command_key
        return key is not None and self.observation_of(observation.name, observation.instance, key) is not None

    def work(self, select: WorkSelect, runs: Mapping[RunId, RunRow]) -> list[Work]:
        """Return work, by when it is due."""
        found = [work for work in self._work.values() if work.run_id in runs and _fits(work, select, runs[work.run_id])]
        return sorted(found, key=lambda work: (work.due_at, work.work_id or 0))[: select.limit]

    def observations(self, name: str | None, instance: str | None) -> list[Observation]:
        """Return what deciders were sent, oldest first."""
        return [each for each in self._observations if name in {None, each.name} and instance in {None, each.instance}]

    def observation_of(self, name: str, instance: str, command_key: str) -> Observation | None:
        """Return what came of the command of that key."""
        wanted = (name, instance, command_key)
        found = (each for each in self._observations if (each.name, each.instance, each.command_key) == wanted)
        return next(found, None)

    def accepted_before(self, observation: Observation) -> Observation | None:
        """Return the newest equal command that was accepted in another execution."""
        wanted = (observation.name, observation.instance, observation.digest)
        found = (
            each
            for each in reversed(self._observations)
            if (each.name, each.instance, each.digest) == wanted
            and each.outcome == "accepted"
            and each.execution not in {None, observation.execution}
        )
        return next(found, None)

    def state(self, run_id: RunId) -> StoredState | None:
        """Return the state that is kept of the run."""
        return self._states.get(run_id)


def _fits(work: Work, select: WorkSelect, run: RunRow) -> bool:
    at = select.claimable_at
    is_free = work.owner not in select.alive or work.owner is None
    return (
        (select.run_ids is None or work.run_id in select.run_ids)
        and (select.of is None or (run.kind, run.name) in select.of)
        and select.kind in {None, work.kind}
        and (select.effects is None or work.kind != "effect" or work.key.partition("/")[0] in select.effects)
        and select.key in {None, work.key}
        and work.work_id not in select.without
        and (select.is_dead is None or (work.dead_at is not None) is select.is_dead)
        and (at is None or (work.dead_at is None and work.due_at <= at and (is_free or (work.leased_until or 0) <= at)))
    )
