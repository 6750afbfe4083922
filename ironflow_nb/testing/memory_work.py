"""The queue of work in plain Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.wait_rules import StartKind, WaitKind, parse_work_key
from ironflow_nb.journal.ports import QueueItem, QueueSelect, RunCommit


class MemoryWork:
    """The queue of a journal in memory."""

    def __init__(self) -> None:
        self._work: dict[tuple[RunId, str, str], QueueItem] = {}
        self._n_work = 0

    def copy(self) -> MemoryWork:
        """Return a copy."""
        other = MemoryWork()
        other._work, other._n_work = dict(self._work), self._n_work
        return other

    def write(self, entry: RunCommit) -> None:
        """Put and delete the work of a commit."""
        for kind, key in entry.done_work:
            self._work.pop((entry.run_id, kind, key), None)
        for work in entry.put_work:
            known = self._work.get((work.run_id, work.kind, work.key))
            if known is None:
                self._n_work += 1
            number = self._n_work if known is None else known.work_id
            self._work[work.run_id, work.kind, work.key] = replace(work, work_id=number)

    def replace(self, work: QueueItem, others: tuple[QueueItem, ...]) -> None:
        """Delete an item, and put the others."""
        self.write(RunCommit(run_id=work.run_id, events=(), done_work=((work.kind, work.key),), put_work=others))

    def work(self, select: QueueSelect, runs: Mapping[RunId, RunRow]) -> list[QueueItem]:
        """Return the selected items in the order in which they are due."""
        found = [work for work in self._work.values() if _fits(work, select, runs.get(work.run_id))]
        return sorted(found, key=lambda work: (work.due_at, work.work_id or 0))[: select.limit]

    def waits(self) -> list[QueueItem]:
        """Return the waits in the order in which they are due."""
        return self._of_kinds(set(WaitKind))

    def starts(self) -> list[QueueItem]:
        """Return what starts runs, and is not dead, in the order in which it is due."""
        return [work for work in self._of_kinds(set(StartKind)) if work.dead_at is None]

    def item(self, work: QueueItem) -> QueueItem | None:
        """Return the item in the place of another one."""
        return self._work.get((work.run_id, work.kind, work.key))

    def _of_kinds(self, kinds: Collection[str]) -> list[QueueItem]:
        found = [work for work in list(self._work.values()) if work.kind in kinds]
        return sorted(found, key=lambda work: (work.due_at, work.work_id or 0))

    def ended_waits(self, now: int, signals: Collection[tuple[RunId, str]]) -> list[QueueItem]:
        """Return the waits that are due, or for which one of the signals is there."""
        return [
            work for work in self.waits() if work.due_at <= now or (work.run_id, parse_work_key(work.key)[1]) in signals
        ]


def _fits(work: QueueItem, select: QueueSelect, run: RunRow | None) -> bool:
    of = work.key if run is None else f"{run.kind} {run.name}"
    at = select.claimable_at
    is_free = work.owner not in select.alive or work.owner is None
    return (
        (select.run_ids is None or work.run_id in select.run_ids)
        and (select.of is None or of in {f"{kind} {name}" for kind, name in select.of})
        and select.kind in {None, work.kind}
        and (select.effects is None or work.kind != "effect" or work.key.partition("/")[0] in select.effects)
        and select.key in {None, work.key}
        and work.work_id not in select.without
        and (select.created_after is None or work.created_at > select.created_after)
        and (select.is_dead is None or (work.dead_at is not None) is select.is_dead)
        and (at is None or (work.dead_at is None and work.due_at <= at and (is_free or (work.leased_until or 0) <= at)))
    )
