"""The start of runs by due items of the queue of work: instants of schedules, and emitted events.

The item is claimed, and its claim ends in the transaction in which the run begins. So however many processes look, and
whenever they die, a run begins once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC
from typing import Any, Final, Protocol

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import counted
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.schedule_rules import after_set_back, due_instants
from ironflow_nb.core.status import CLOSED, RunStatus
from ironflow_nb.core.wait_rules import StartKind
from ironflow_nb.errors import EngineClosed, InputsNotStored, JournalConflict, JournalError, NotRetryable
from ironflow_nb.execution import Engine, is_own_start, logger
from ironflow_nb.history.recorded_values import recorded_arguments
from ironflow_nb.journal.ports import Addition, QueueItem, QueueSelect, Reader, RunCommit, Select
from ironflow_nb.triggers.claims import claim, failed, give_back, is_last, settle
from ironflow_nb.triggers.event_rules import EventTrigger, Window, is_before, window
from ironflow_nb.triggers.trigger_rows import EmittedEvent, ReplacedItem, StoredSchedule, Subscription, triggers_of
from ironflow_nb.values.failures import store_failure

_LIVE: Final = frozenset(RunStatus) - CLOSED - {RunStatus.FAILED}
_EVENT_KEY: Final = "event "


class Definition(Protocol):
    """A flow or graph, as schedules and events start it."""

    @property
    def kind(self) -> str:
        """The style."""

    @property
    def name(self) -> str:
        """The name, which its runs have too."""

    @property
    def wanted_events(self) -> frozenset[str]:
        """The names of these events."""

    @property
    def trigger(self) -> EventTrigger | None:
        """The events that start or cancel its runs."""

    def recorded_call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call that was recorded with these arguments."""

    def event_call(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call for the data of an event."""

    def start_keyed(
        self, engine: Engine, call: tuple[tuple[Any, ...], dict[str, Any]], key: str, additions: tuple[Addition, ...]
    ) -> None:
        """Begin the run of that key in the background, and write the rows in the transaction of its beginning."""

    def cancel_run(self, engine: Engine, run_id: RunId) -> None:
        """Cancel a run."""


def perform(engine: Engine, definition: Definition, item: QueueItem) -> bool:
    """Claim the item and do what it asks for; another process may be faster. Return False if it is another user's.

    Raises:
        JournalError, EngineClosed: the journal refuses now; the claim is given back.
    """
    if not _is_own(engine, item):
        return False
    claimed = claim(engine, item)
    if claimed is not None:
        _act(engine, definition, claimed)
    return True


def _is_own(engine: Engine, item: QueueItem) -> bool:
    """Return True if this user made the schedule, or emitted the event; also if the journal no longer has it."""
    with engine.access.current() as reader:
        triggers = triggers_of(reader)
        is_schedule = item.kind == StartKind.SCHEDULE
        row = triggers.schedule(_schedule_id(item)) if is_schedule else triggers.event(item.run_id)
        return row is None or is_own_start(engine.signer, reader, row.signed)


def _act(engine: Engine, definition: Definition, claimed: QueueItem) -> None:
    acts = {StartKind.SCHEDULE: _fire, StartKind.EVENT: _take, StartKind.DEBOUNCE: _start_newest}
    try:
        acts[StartKind(claimed.kind)](engine, definition, claimed)
    except JournalConflict as error:
        with suppress(JournalConflict):  # the claim is lost, and everything that belongs to it is another process's
            _fail(engine, definition, claimed, error)
    except (JournalError, EngineClosed):
        give_back(engine, claimed)
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- arguments, code of the user: tried again, then dead
        _fail(engine, definition, claimed, error)


# -- schedules ---------------------------------------------------------------------------------------------------------


def _schedule_id(item: QueueItem) -> RunId:
    """Return the schedule of an item; that of a dead letter has the instant behind it."""
    return RunId(item.run_id.partition(" ")[0])


def _fire(engine: Engine, definition: Definition, claimed: QueueItem) -> None:
    """Begin the run of the instant that the schedule fires now, if there is one, and move the schedule on."""
    with engine.access.current() as reader:
        schedule = triggers_of(reader).schedule(_schedule_id(claimed))
    _, _, instant = claimed.run_id.partition(" ")
    if schedule is not None and instant:
        _fire_again(engine, definition, claimed, schedule, instant)
        return
    if schedule is None or schedule.next_at is None:
        settle(engine, claimed, ReplacedItem(claimed=claimed))
        return
    now = engine.clock.now()
    if schedule.next_at > now:  # the item was made due, because the clock was set back
        begins_at, next_at = after_set_back(schedule.read_rule, schedule.created_at, schedule.next_at, now)
        moved = replace(schedule, created_at=begins_at, next_at=next_at)
        settle(engine, claimed, ReplacedItem(claimed=claimed, following=queued(moved, now)), moved)
        return
    due = due_instants(schedule.read_rule, schedule.created_at, schedule.next_at, now)
    moved = replace(
        schedule,
        next_at=due.next_at,
        last_at=schedule.last_at if due.fired_at is None else due.fired_at,
        n_fired=schedule.n_fired + (due.fired_at is not None),
        n_missed=schedule.n_missed + due.n_missed,
    )
    additions = ReplacedItem(claimed=claimed, following=queued(moved, now)), moved
    key = None if due.fired_at is None else _key_of_instant(engine, schedule.name, due.fired_at)
    if key is None or _is_begun(engine, definition, key):
        settle(engine, claimed, *additions)
    else:
        call = definition.recorded_call(engine.access.read(schedule.inputs_id))
        definition.start_keyed(engine, call, key, additions)
    if due.n_missed:
        _say_missed(moved, due.n_missed)


def _fire_again(
    engine: Engine, definition: Definition, claimed: QueueItem, schedule: StoredSchedule, instant: str
) -> None:
    """Begin the run of an instant that was a dead letter, beside which the schedule has moved on."""
    key, end = f"schedule {schedule.name} {instant}", ReplacedItem(claimed=claimed)
    if _is_begun(engine, definition, key):
        settle(engine, claimed, end)
    else:
        definition.start_keyed(engine, definition.recorded_call(engine.access.read(schedule.inputs_id)), key, (end,))


def queued(schedule: StoredSchedule, now: int) -> tuple[QueueItem, ...]:
    """Return the next instant of the schedule for the queue of work, if it has one."""
    if schedule.next_at is None or schedule.is_paused:
        return ()
    key = f"{schedule.kind} {schedule.flow}"
    kind = StartKind.SCHEDULE.value
    return (QueueItem(run_id=schedule.schedule_id, kind=kind, key=key, due_at=schedule.next_at, created_at=now),)


def _key_of_instant(engine: Engine, name: str, at: int) -> str:
    return f"schedule {name} {engine.access.instant(at).astimezone(UTC).isoformat()}"


def _is_begun(engine: Engine, definition: Definition, key: str) -> bool:
    with engine.access.current() as reader:
        return reader.run_by_key(definition.kind, definition.name, key) is not None


def _say_missed(schedule: StoredSchedule, n_missed: int) -> None:
    rule = schedule.read_rule
    logger().warning(
        "schedule %s of %s: %s passed while no process was there to fire, and %s run (catch_up=%r)",
        schedule.name, schedule.flow, counted(n_missed, "instant"), "are not" if n_missed > 1 else "is not",
        rule.catch_up.value,
    )  # fmt: skip


# -- events ------------------------------------------------------------------------------------------------------------


def _take(engine: Engine, definition: Definition, claimed: QueueItem) -> None:
    """Do for the flow what the event causes: cancel runs, begin one, or put it off to the end of its window."""
    event, data = _read(engine, claimed)
    trigger = definition.trigger
    if trigger is None or event.name not in trigger.events:
        ended = Subscription(event.name, definition.kind, definition.name, is_ended=True)
        settle(engine, claimed, ReplacedItem(claimed=claimed), ended)
        return
    if event.name in trigger.cancel_on:
        _cancel(engine, definition, trigger, event, data)
    if not _answer(trigger.starts, event.name, data):
        settle(engine, claimed, ReplacedItem(claimed=claimed))
    elif trigger.debounce is None:
        _start(engine, definition, claimed, event, data)
    else:
        _put_off(engine, trigger, claimed, event)


def _start_newest(engine: Engine, definition: Definition, claimed: QueueItem) -> None:
    _start(engine, definition, claimed, *_read(engine, claimed))


def _start(engine: Engine, definition: Definition, claimed: QueueItem, event: EmittedEvent, data: Any) -> None:
    key, end = f"{_EVENT_KEY}{event.name} {event.event_id}", ReplacedItem(claimed=claimed)
    if _is_begun(engine, definition, key):
        settle(engine, claimed, end)
    else:
        definition.start_keyed(engine, definition.event_call(data), key, (end,))


def _put_off(engine: Engine, trigger: EventTrigger, claimed: QueueItem, event: EmittedEvent) -> None:
    """Have the event take the place of those in its window, and move the window's end."""

    def act(reader: Reader) -> Sequence[RunCommit]:
        alive, now = engine.access.possible_owners(reader), engine.clock.now()
        at = min(event.at, now)  # an event from the future was emitted before the clock was set back
        waiting = [each.after_set_back(now) for each in _waiting(reader, claimed.key) if each.is_free(alive, now)]
        before = [each for each in waiting if at < each.due_at]
        opened = Window(before[0].created_at, before[0].due_at) if before else None
        first_at, due_at = window(trigger, opened, at)
        newest = QueueItem(
            run_id=event.event_id, kind=StartKind.DEBOUNCE, key=claimed.key, due_at=due_at, created_at=first_at
        )
        end = ReplacedItem(claimed=claimed, following=(newest,))
        ends = [ReplacedItem(claimed=each) for each in before]
        return [RunCommit(run_id=claimed.run_id, events=(), additions=(end, *ends))]

    engine.access.exchange(act, engine.durability)


def _waiting(reader: Reader, key: str) -> list[QueueItem]:
    """Return the events that wait for the end of their window."""
    return reader.work(QueueSelect(kind=StartKind.DEBOUNCE, key=key, is_dead=False))


def _cancel(engine: Engine, definition: Definition, trigger: EventTrigger, event: EmittedEvent, data: Any) -> None:
    """Cancel the live runs that the event concerns, and drop what waits for the end of a window."""
    with engine.access.current() as reader:
        runs = reader.runs(Select(kind=definition.kind, name=definition.name, is_full_name=True, statuses=_LIVE))
        began_at = {run.run_id: _began_at(reader, run) for run in runs}
        waiting = _waiting(reader, f"{definition.kind} {definition.name}")
    now = engine.clock.now()
    for run in runs:
        if run.parent_run_id is None and not is_before(event.at, began_at[run.run_id], now):
            try:
                given = _argument(engine, definition, run)
            except (InputsNotStored, ValueError) as error:
                logger().warning("%s can't cancel run %s: %s", event.name, run.run_id, error)
                continue
            if _answer(trigger.cancels, event.name, data, given):
                definition.cancel_run(engine, run.run_id)
    for item in waiting:
        if _answer(trigger.cancels, event.name, data, _read(engine, item)[1]):
            settle(engine, item, ReplacedItem(claimed=item))


def _began_at(reader: Reader, run: RunRow) -> int:
    """Return when the run was requested; for the run of an event, when the event was emitted."""
    event_id = (run.key or "").rpartition(" ")[2] if (run.key or "").startswith(_EVENT_KEY) else None
    event = None if event_id is None else triggers_of(reader).event(event_id)
    return run.started_at if event is None else event.at


def _argument(engine: Engine, definition: Definition, run: RunRow) -> Any:
    """Return the first argument of the run, which is the data of its event."""
    args, kwargs = definition.recorded_call(recorded_arguments(engine, run))
    return next(iter([*args, *kwargs.values()]), None)


def _answer(predicate: Callable[..., bool], *args: Any) -> bool:
    """Return the result of a predicate.

    Raises:
        NotRetryable: it failed, as it would the next time.
    """
    try:
        return predicate(*args)
    except ValueError as error:
        raise NotRetryable(str(error)) from error


def _read(engine: Engine, item: QueueItem) -> tuple[EmittedEvent, Any]:
    """Return the event of an item, and its data.

    Raises:
        NotRetryable: it is missing in the journal.
    """
    with engine.access.current() as reader:
        event = triggers_of(reader).event(item.run_id)
    if event is None:
        raise NotRetryable(f"the emitted event {item.run_id} is missing in the journal")
    return event, engine.access.read(event.data_id)


# -- failures ----------------------------------------------------------------------------------------------------------


def _fail(engine: Engine, definition: Definition, claimed: QueueItem, error: BaseException) -> None:
    """Queue the item for another attempt; after the last one it is a dead letter, and its schedule goes on."""
    stored = store_failure(error)
    after = failed(engine, claimed, error, stored)
    if not is_last(claimed, error):
        settle(engine, claimed, ReplacedItem(claimed=claimed, following=(after,)), values=(stored,))
        return
    what = f"{claimed.kind} {claimed.run_id} starts no run of {definition.name}"
    logger().warning("%s: %s: %s; iron.work() lists it, requeue() tries it again", what, type(error).__name__, error)
    following, moved = _after_death(engine, after)
    settle(engine, claimed, ReplacedItem(claimed=claimed, following=following), *moved, values=(stored,))


def _after_death(engine: Engine, dead: QueueItem) -> tuple[tuple[QueueItem, ...], tuple[Addition, ...]]:
    """Return what is queued beside a dead letter, for a schedule its next instant; and the schedule after that."""
    with engine.access.current() as reader:
        schedule = triggers_of(reader).schedule(dead.run_id)
    if schedule is None or schedule.next_at is None:  # also of an instant that was a dead letter before
        return (dead,), ()
    next_at = schedule.read_rule.following(schedule.created_at, schedule.next_at)
    moved = replace(schedule, next_at=next_at, n_missed=schedule.n_missed + 1)
    at = engine.access.instant(schedule.next_at).astimezone(UTC).isoformat()
    apart = replace(dead, run_id=RunId(f"{dead.run_id} {at}"), work_id=None)
    return (apart, *queued(moved, engine.clock.now())), (moved,)
