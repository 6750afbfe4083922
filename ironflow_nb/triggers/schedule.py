"""Schedules: making one, looking at it, pausing and removing it; and the frame of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.option_values import a_name
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.schedule_rules import ScheduleRule, after_set_back
from ironflow_nb.core.wait_rules import StartKind
from ironflow_nb.errors import DuplicateName
from ironflow_nb.execution import REGISTRY, Engine, durable_calls, signature_of_start, watch
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Addition, QueueSelect, Reader, RunCommit
from ironflow_nb.triggers.due_starts import queued
from ironflow_nb.triggers.trigger_rows import RemovedSchedule, StoredSchedule, triggers_of
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS: Final = {
    "schedule": TEXT, "flow": TEXT, "kind": TEXT, "when": TEXT, "tz": TEXT, "catch_up": TEXT, "next_at": INSTANT,
    "last_at": INSTANT, "is_paused": "bool", "n_fired": COUNT, "n_missed": COUNT, "state": TEXT, "created_at": INSTANT,
}  # fmt: skip


class Schedule:
    """A schedule of a flow or graph. It fires while a process is there that defines the flow."""

    def __init__(self, engine: Engine, schedule_id: RunId, name: str, flow: str) -> None:
        self._engine = engine
        self._id = schedule_id
        self.name = name
        self.flow = flow

    @property
    def next_at(self) -> datetime | None:
        """The instant at which it fires next; None if it is paused, or no further instant follows."""
        return self._instant(self._row().next_at)

    @property
    def last_at(self) -> datetime | None:
        """The instant for which it fired last."""
        return self._instant(self._row().last_at)

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._row().is_paused

    @property
    def n_fired(self) -> int:
        """How often it has fired."""
        return self._row().n_fired

    @property
    def n_missed(self) -> int:
        """How many of its instants passed and were not fired."""
        return self._row().n_missed

    def pause(self) -> Schedule:
        """Fire no more until it is resumed. What passes meanwhile is not caught up."""
        return self._change(lambda row, _: replace(row, is_paused=True, next_at=None))

    def resume(self) -> Schedule:
        """Fire again, from the next instant after now."""

        def resumed(row: StoredSchedule, now: int) -> StoredSchedule:
            if not row.is_paused:
                return row
            rule, begins_at = row.read_rule, row.created_at
            next_at = rule.following(begins_at, max(now, row.last_at or 0))
            if next_at is not None:
                begins_at, next_at = after_set_back(rule, begins_at, next_at, now)
            return replace(row, is_paused=False, created_at=begins_at, next_at=next_at)

        self._change(resumed)
        watch(self._engine)
        return self

    def remove(self) -> None:
        """Remove it. Runs that it has begun go on."""
        self._change(lambda *_: None)

    def _row(self) -> StoredSchedule:
        with self._engine.reading() as reader:
            found = triggers_of(reader).schedule(self._id)
        return self._found(found)

    def _found(self, row: StoredSchedule | None) -> StoredSchedule:
        if row is None:
            raise LookupError(f"schedule {self.name} of {self.flow} was removed")
        return row

    def _change(self, change: Callable[[StoredSchedule, int], StoredSchedule | None]) -> Schedule:
        """Replace the row and its item in the queue. A run that begins at this very moment may begin or not."""

        def act(reader: Reader) -> Sequence[RunCommit]:
            row, now = self._found(triggers_of(reader).schedule(self._id)), self._engine.clock.now()
            changed = change(row, now)
            queue = reader.work(QueueSelect(run_ids=[self._id], kind=StartKind.SCHEDULE))
            done = tuple((item.kind, item.key) for item in queue)
            put = () if changed is None else queued(changed, now)
            addition: Addition = RemovedSchedule(self._id) if changed is None else changed
            return [RunCommit(run_id=self._id, events=(), done_work=done, put_work=put, additions=(addition,))]

        self._engine.access.exchange(act, self._engine.durability)
        return self

    def _instant(self, at: int | None) -> datetime | None:
        return None if at is None else self._engine.access.instant(at)

    def __repr__(self) -> str:
        with self._engine.reading() as reader:
            row = triggers_of(reader).schedule(self._id)
        about = f"schedule {plain(self.name)} of {plain(self.flow)}"
        if row is None:
            return f"{about}: removed"
        rule = row.read_rule
        when = f"{rule}{f' {rule.tz}' if rule.cron is not None else ''}"
        if row.is_paused:
            return f"{about}: {when}, paused"
        if row.next_at is None:
            return f"{about}: {when}, it has fired its last"
        following = self._engine.access.instant(row.next_at).isoformat(sep=" ", timespec="seconds")
        return f"{about}: {when}, next at {following}; it fires while a process that defines {plain(self.flow)} is open"


def make_schedule(
    engine: Engine,
    *,
    kind: str,
    flow: str,
    name: str | None,
    rule: ScheduleRule,
    arguments: Mapping[str, Any],
    replaces: bool,
) -> Schedule:
    """Make the schedule of that name, or return the one that is there already.

    Raises:
        DuplicateName: there is another one of that name, with another rule or arguments, and it is not to be replaced.
        ValueError: its only instant is past.
        ValueNotStorable: an argument can't be stored.
    """
    chosen = flow if name is None else a_name(name)
    durable_calls.refuse_secrets("a schedule", [chosen, dict(arguments)])
    stored = engine.codecs.store(dict(arguments))[0]
    made: list[StoredSchedule] = []

    def act(reader: Reader) -> Sequence[RunCommit]:
        known = triggers_of(reader).schedule_of(kind, flow, chosen)
        is_same = known is not None and (known.read_rule, known.inputs_id) == (rule, stored.value_id)
        if known is not None and is_same:
            made.append(known)
            return []
        if known is not None and not replaces:
            raise _duplicate(known, rule)
        now = engine.clock.now()
        row = _new(engine, kind, flow, chosen, rule, stored, now)
        made.append(row)
        return [*_removed(reader, known), _commit(engine, row, now, stored)]

    engine.access.exchange(act, engine.durability)
    watch(engine)
    return Schedule(engine, made[-1].schedule_id, chosen, flow)


def find_schedule(engine: Engine, kind: str, flow: str, name: str | None) -> Schedule:
    """Return the schedule of that name.

    Raises:
        LookupError: there is no schedule of that name.
    """
    chosen = flow if name is None else name
    with engine.reading() as reader:
        known = triggers_of(reader).schedule_of(kind, flow, chosen)
    if known is None:
        raise LookupError(
            f"{flow} has no schedule {chosen!r} in {engine.journal.location}; iron.schedules() lists those there are. "
            'To make one, give it a rule: a cron expression such as "0 6 * * *", every_s= or at='
        )
    return Schedule(engine, known.schedule_id, chosen, flow)


def schedules_of_name(engine: Engine, name: str) -> list[Schedule]:
    """Return the schedules of that name, of all flows."""
    with engine.reading() as reader:
        found = [row for row in triggers_of(reader).schedules() if row.name == name]
    return [Schedule(engine, row.schedule_id, row.name, row.flow) for row in found]


def _new(
    engine: Engine, kind: str, flow: str, name: str, rule: ScheduleRule, stored: StoredValue, now: int
) -> StoredSchedule:
    next_at = rule.first(now)
    if rule.at is not None and rule.at < now:
        raise ValueError(f"{flow} can't be scheduled {rule}, which is past; leave the schedule out and call it")
    return StoredSchedule(
        schedule_id=engine.access.new_run_id(),
        kind=kind,
        flow=flow,
        name=name,
        rule=msgspec.json.encode(rule).decode(),
        inputs_id=stored.value_id,
        created_at=now,
        next_at=next_at,
    )


def _commit(engine: Engine, row: StoredSchedule, now: int, stored: StoredValue) -> RunCommit:
    values = stored, signature_of_start(engine.signer, row.signed)
    return RunCommit(run_id=row.schedule_id, events=(), values=values, put_work=queued(row, now), additions=(row,))


def _removed(reader: Reader, known: StoredSchedule | None) -> list[RunCommit]:
    if known is None:
        return []
    queue = reader.work(QueueSelect(run_ids=[known.schedule_id], kind=StartKind.SCHEDULE))
    done = tuple((item.kind, item.key) for item in queue)
    removed = RemovedSchedule(known.schedule_id)
    return [RunCommit(run_id=known.schedule_id, events=(), done_work=done, additions=(removed,))]


def _duplicate(known: StoredSchedule, rule: ScheduleRule) -> DuplicateName:
    before = known.read_rule
    differs = "other arguments" if before == rule else f"another rule: {_described(before)}, not {_described(rule)}"
    return DuplicateName(
        f"{known.flow} has a schedule {known.name!r} already, with {differs}; write replace=True to put this one in "
        "its place, or name= to have both",
        name=known.name,
    )


def _described(rule: ScheduleRule) -> str:
    grace = "" if rule.grace_s is None else f", grace_s={rule.grace_s:g}"
    return f'"{rule}" ({rule.tz}, catch_up={rule.catch_up.value!r}{grace})'


def schedules(*, engine: Engine | None = None) -> pd.DataFrame:
    """Return the schedules of the journal, by flow and name, one row for each.

    Columns: schedule (its name), flow, kind (``flow``, ``graph``), when (the cron expression, the interval or the
    instant), tz (the zone of a cron expression), catch_up, next_at (empty if it is paused or has fired its last),
    last_at (the instant that was fired last), is_paused, n_fired, n_missed (instants that passed while no process was
    there to fire, and were not caught up), state (``due``, ``scheduled``, ``paused``, ``ended``, or ``waits for its
    notebook``: this process does not define the flow), created_at (of an interval, when it began anew after the
    clock was set back).

    Args:
        engine: the journal to read; by default the current one.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        rows = triggers_of(reader).schedules()
    now = engine.clock.now()
    return frame_of_records(_COLUMNS, [_record(row, now) for row in rows])


def _record(row: StoredSchedule, now: int) -> Mapping[str, object]:
    rule = row.read_rule
    return {
        "schedule": row.name,
        "flow": row.flow,
        "kind": row.kind,
        "when": str(rule),
        "tz": rule.tz if rule.cron is not None else None,
        "catch_up": rule.catch_up.value,
        "next_at": row.next_at,
        "last_at": row.last_at,
        "is_paused": row.is_paused,
        "n_fired": row.n_fired,
        "n_missed": row.n_missed,
        "state": schedule_state(row, now),
        "created_at": row.created_at,
    }


def schedule_state(row: StoredSchedule, now: int) -> str:
    """Return the state of a schedule in a word; see `schedules`."""
    if row.is_paused:
        return "paused"
    if row.next_at is None:
        return "ended"
    if REGISTRY.find(row.kind, row.flow) is None:
        return "waits for its notebook"
    return "due" if row.next_at <= now else "scheduled"
