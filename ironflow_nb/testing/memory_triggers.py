"""The store of schedules and emitted events in plain Python: the reference of `ironflow_nb.triggers.trigger_rows`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import Addition, RunCommit
from ironflow_nb.testing.memory_work import MemoryWork
from ironflow_nb.triggers.trigger_rows import (
    EmittedEvent,
    RemovedSchedule,
    ReplacedItem,
    StoredSchedule,
    Subscription,
    TriggerReader,
    taken_name,
)


class MemoryTriggers(TriggerReader):
    """The rows of schedules and emitted events of a journal in memory."""

    def __init__(self) -> None:
        self._schedules: dict[RunId, StoredSchedule] = {}
        self._emitted: dict[str, EmittedEvent] = {}
        self._subscribed: set[tuple[str, str, str]] = set()

    def copy(self) -> MemoryTriggers:
        """Return a copy, for a copy of the journal."""
        other = MemoryTriggers()
        other._schedules, other._emitted = dict(self._schedules), dict(self._emitted)
        other._subscribed = set(self._subscribed)
        return other

    def refuse_conflicts(self, entries: Sequence[RunCommit], work: MemoryWork) -> None:
        """Raise the conflict that writing the additions of these commits would raise, before anything is written.

        Raises:
            JournalConflict: a claim is lost, or a name or key is taken.
        """
        additions = [addition for entry in entries for addition in entry.additions]
        removed = {each.schedule_id for each in additions if isinstance(each, RemovedSchedule)}
        for addition in additions:
            match addition:
                case ReplacedItem():
                    addition.refuse_lost(work.item(addition.claimed))
                case StoredSchedule() if self._is_name_taken(addition, removed):
                    raise taken_name(addition)
                case EmittedEvent(key=str() as key) if self.event_of_key(addition.name, key) is not None:
                    raise JournalConflict(f"an event {addition.name} of the key {key} was emitted already")

    def _is_name_taken(self, schedule: StoredSchedule, removed: Collection[RunId]) -> bool:
        found = self.schedule_of(*schedule.names)
        return found is not None and found.schedule_id not in {schedule.schedule_id, *removed}

    def put(self, additions: Collection[Addition], work: MemoryWork) -> None:
        """Put the additions of a commit."""
        for addition in additions:
            match addition:
                case StoredSchedule():
                    self._schedules[addition.schedule_id] = addition
                case RemovedSchedule():
                    self._schedules.pop(addition.schedule_id, None)
                case EmittedEvent():
                    self._emitted[addition.event_id] = addition
                case Subscription(event=event, kind=kind, flow=flow, is_ended=is_ended):
                    (self._subscribed.discard if is_ended else self._subscribed.add)((event, kind, flow))
                case ReplacedItem():
                    work.replace(addition.claimed, addition.following)

    def schedules(self) -> list[StoredSchedule]:
        """See `TriggerReader`."""
        return sorted(self._schedules.values(), key=lambda each: (each.flow, each.name, each.kind))

    def schedule(self, schedule_id: RunId) -> StoredSchedule | None:
        """See `TriggerReader`."""
        return self._schedules.get(schedule_id)

    def schedule_of(self, kind: str, flow: str, name: str) -> StoredSchedule | None:
        """See `TriggerReader`."""
        return next((each for each in self._schedules.values() if each.names == (kind, flow, name)), None)

    def event(self, event_id: str) -> EmittedEvent | None:
        """See `TriggerReader`."""
        return self._emitted.get(event_id)

    def event_of_key(self, name: str, key: str) -> EmittedEvent | None:
        """See `TriggerReader`."""
        return next((each for each in self._emitted.values() if (each.name, each.key) == (name, key)), None)

    def events_since(self, name: str, at: int) -> list[EmittedEvent]:
        """See `TriggerReader`."""
        return [each for each in self._emitted.values() if each.name == name and each.at >= at]

    def events(self) -> list[EmittedEvent]:
        """See `TriggerReader`."""
        return list(self._emitted.values())

    def subscribers(self, event: str) -> list[tuple[str, str]]:
        """See `TriggerReader`."""
        return sorted((kind, flow) for name, kind, flow in self._subscribed if name == event)

    def subscribed(self, kind: str, flow: str) -> set[str]:
        """See `TriggerReader`."""
        return {name for name, *of in self._subscribed if of == [kind, flow]}
