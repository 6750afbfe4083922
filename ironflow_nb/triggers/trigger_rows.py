"""The rows of schedules and emitted events in the journal. The tables are in `ironflow_nb.journal.schema`.

The rows are additions to a run's commit: a firing is the beginning of a run and the move of its schedule to the next
instant, in one transaction.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.schedule_rules import ScheduleRule
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import Addition, QueueItem, Reader
from ironflow_nb.journal.sqlite_rows import DONE_WORK, WORK
from ironflow_nb.journal.table import Table


class StoredSchedule(Addition, frozen=True, kw_only=True):
    """A schedule of a flow or graph. Instants are microseconds UTC; `rule` is JSON. To write it replaces its row.

    `next_at` is the instant that it fires next; without one it is paused, or has fired its last.
    """

    schedule_id: RunId
    kind: str
    flow: str
    name: str
    rule: str
    inputs_id: ValueId
    created_at: int
    next_at: int | None = None
    last_at: int | None = None
    is_paused: bool = False
    n_fired: int = 0
    n_missed: int = 0

    @property
    def read_rule(self) -> ScheduleRule:
        """The rule."""
        return msgspec.json.decode(self.rule, type=ScheduleRule)

    @property
    def signed(self) -> tuple[object, ...]:
        """What its signature covers."""
        return "schedule", self.schedule_id, *self.names, self.rule, self.inputs_id

    @property
    def names(self) -> tuple[str, str, str]:
        """Kind and name of the definition, and its own name."""
        return self.kind, self.flow, self.name

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`.

        Raises:
            JournalConflict: another schedule of the flow has its name.
        """
        try:
            connection.execute(SCHEDULES.put, SCHEDULES.values(self))
        except sqlite3.IntegrityError as error:
            raise taken_name(self) from error


def taken_name(schedule: StoredSchedule) -> JournalConflict:
    """Return the error for a schedule whose name another one has."""
    return JournalConflict(f"another schedule of {schedule.flow} is called {schedule.name}", name=schedule.name)


class RemovedSchedule(Addition, frozen=True):
    """The removal of a schedule."""

    schedule_id: RunId

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute("DELETE FROM schedules WHERE schedule_id = ?", (self.schedule_id,))


class EmittedEvent(Addition, frozen=True, kw_only=True):
    """An event that was emitted, at the instant `at` (microseconds UTC)."""

    event_id: RunId
    name: str
    key: str | None
    at: int
    data_id: ValueId

    @property
    def signed(self) -> tuple[object, ...]:
        """What its signature covers."""
        return "event", self.event_id, self.name, self.key, self.data_id

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute(EMITTED.put, EMITTED.values(self))


class Subscription(Addition, frozen=True):
    """That emitted events of that name are handed to a flow; one that `is_ended` is deleted."""

    event: str
    kind: str
    flow: str
    is_ended: bool = False

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        change = _END_SUBSCRIPTION if self.is_ended else _SUBSCRIBE
        connection.execute(change, (self.event, self.kind, self.flow))


class ReplacedItem(Addition, frozen=True, kw_only=True):
    """The end of a claim: others may take the place of the claimed item in the queue of work."""

    claimed: QueueItem
    following: tuple[QueueItem, ...] = ()

    def refuse_lost(self, found: QueueItem | None) -> None:
        """Raise an error unless the item is `found` as it was claimed.

        Raises:
            JournalConflict: somebody else has taken it meanwhile, or taken it away.
        """
        mine = self.claimed
        if found is None or (found.owner, found.attempts) != (mine.owner, mine.attempts):
            raise JournalConflict(f"{mine.kind} {mine.key} was taken by another process, or taken away")

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        place = self.claimed.run_id, self.claimed.kind, self.claimed.key
        self.refuse_lost(WORK.first(connection, "WHERE run_id = ? AND kind = ? AND key = ?", place))
        connection.execute(DONE_WORK, place)
        for item in self.following:
            connection.execute(WORK.put, WORK.values(item))


SCHEDULES: Final = Table("schedules", StoredSchedule, ["schedule_id"])
EMITTED: Final = Table("emitted_events", EmittedEvent)
_SUBSCRIBE: Final = "INSERT OR IGNORE INTO subscriptions (event, kind, flow) VALUES (?, ?, ?)"
_END_SUBSCRIPTION: Final = "DELETE FROM subscriptions WHERE event = ? AND kind = ? AND flow = ?"


class TriggerReader:
    """Reads of the rows of schedules and emitted events, through the connection of a reader of the journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def schedules(self) -> list[StoredSchedule]:
        """Return all schedules, by flow and name."""
        return list(map(_bools, SCHEDULES.find(self._connection, "ORDER BY flow, name, kind")))

    def schedule(self, schedule_id: RunId) -> StoredSchedule | None:
        """Return the schedule of that id."""
        found = SCHEDULES.first(self._connection, "WHERE schedule_id = ?", (schedule_id,))
        return None if found is None else _bools(found)

    def schedule_of(self, kind: str, flow: str, name: str) -> StoredSchedule | None:
        """Return the schedule of that name."""
        where = "WHERE kind = ? AND flow = ? AND name = ?"
        found = SCHEDULES.first(self._connection, where, (kind, flow, name))
        return None if found is None else _bools(found)

    def event(self, event_id: str) -> EmittedEvent | None:
        """Return the emitted event of that id."""
        return EMITTED.first(self._connection, "WHERE event_id = ?", (event_id,))

    def event_of_key(self, name: str, key: str) -> EmittedEvent | None:
        """Return the emitted event of that name and key."""
        return EMITTED.first(self._connection, "WHERE name = ? AND key = ?", (name, key))

    def events_since(self, name: str, at: int) -> list[EmittedEvent]:
        """Return the emitted events of that name since an instant, in their order, whatever the clock said."""
        return list(EMITTED.find(self._connection, "WHERE name = ? AND at >= ? ORDER BY rowid", (name, at)))

    def events(self) -> list[EmittedEvent]:
        """Return all emitted events, in their order."""
        return list(EMITTED.find(self._connection, "ORDER BY rowid"))

    def subscribers(self, event: str) -> list[tuple[str, str]]:
        """Return kind and name of the flows that get events of that name."""
        query = "SELECT kind, flow FROM subscriptions WHERE event = ? ORDER BY kind, flow"
        return [(kind, flow) for kind, flow in self._connection.execute(query, (event,))]

    def subscribed(self, kind: str, flow: str) -> set[str]:
        """Return the names of the events that a flow gets."""
        query = "SELECT event FROM subscriptions WHERE kind = ? AND flow = ?"
        return {event for (event,) in self._connection.execute(query, (kind, flow))}


def _bools(row: Any) -> StoredSchedule:
    schedule: StoredSchedule = msgspec.structs.replace(row, is_paused=bool(row.is_paused))
    return schedule


def triggers_of(reader: Reader) -> TriggerReader:
    """Return the reads of the rows of schedules and events, at the moment of the reader."""
    return reader.extension(TriggerReader)
