"""Instances of deciders: their states, folded from their events, and what one transaction changes of them.

A process remembers the newest states, so that a decision does not fold all events of its instance again. A remembered
state counts only with the version that the transaction finds, and with the code of `evolve` that made it. The journal
holds a state for every `SNAPSHOT_EVERY` versions, under the same conditions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from operator import index
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.events import DomainEvent, RecordedEvent, RunEvent
from ironflow_nb.core.identity import Digest, RunId, ValueId
from ironflow_nb.core.run_state import RunRow, evolve_run
from ironflow_nb.deciders.decider_definition import AnyDecider, is_immutable
from ironflow_nb.deciders.store import Observation, StoredState, deciders_of
from ironflow_nb.errors import EventUnreadable, VersionNotFound
from ironflow_nb.execution import EPOCH, JournalAccess
from ironflow_nb.journal.ports import QueueItem, Reader, RunCommit
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue, value_id

JSON: Final = "json"
SNAPSHOT_EVERY: Final = 200
"""The number of versions after which a state is stored again."""
REMEMBERED: Final = 1024
"""The number of instances of one decider whose states a process remembers."""

EventRecord = tuple[int, int, str, str]
"""Version, instant (microseconds UTC), type and data of a stored event."""


class InstanceChanges:
    """An instance inside a transaction, with the events, rows and work that the transaction adds to it."""

    def __init__(
        self,
        run_id: RunId,
        instance: str,
        row: RunRow | None,
        version: int,
        at: int,
        fold: Callable[[], tuple[Any, int]],
    ) -> None:
        """Take the instance at its newest version.

        `fold` returns its state and the version of its stored state. It is called when the state is first asked for.
        """
        self.run_id = run_id
        self.instance = instance
        self.row = self._stored_row = row
        self.version = version
        self.at = at
        self._fold: Callable[[], tuple[Any, int]] | None = fold
        self._state: Any = None
        self.stored_version = 0
        self._stored_state: StoredState | None = None
        self._events: list[RecordedEvent] = []
        self._values: list[StoredValue] = []
        self._put_work: list[QueueItem] = []
        self._done_work: list[tuple[str, str]] = []
        self._observations: list[Observation] = []

    @property
    def state(self) -> Any:
        """The state after the added events. A transaction that only settles work never folds it."""
        if self._fold is not None:
            (self._state, self.stored_version), self._fold = self._fold(), None
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state, self._fold = state, None

    @property
    def is_folded(self) -> bool:
        """Whether the state was asked for."""
        return self._fold is None

    @property
    def n_events(self) -> int:
        """The number of added events."""
        return len(self._events)

    def add(self, event: RunEvent) -> None:
        """Add an event of the next version."""
        self.version += 1
        recorded = RecordedEvent(self.version, self.at, event)
        self._events.append(recorded)
        self.row = evolve_run(self.run_id, self.row, recorded)

    def add_domain(self, decider: str, name: str, data: str) -> None:
        """Add an event of the user, of the class `name`, with JSON text as data."""
        self.add(DomainEvent(type=f"{decider}.{name}", data=msgspec.Raw(data.encode())))

    def add_json(self, text: str, type_name: str, signer: Signer | None = None) -> ValueId:
        """Add JSON text as a value, signed if a signer is given; return its id."""
        content = text.encode()
        mac = None if signer is None else signer.sign_for_process(JSON, content)
        stored = StoredValue(value_id(JSON, content), JSON, content, len(content), type_name, mac=mac)
        self._values.append(stored)
        return stored.value_id

    def add_value(self, stored: StoredValue) -> None:
        """Add a value."""
        self._values.append(stored)

    def put_work(self, work: QueueItem) -> None:
        """Put work on the queue. It replaces work of the same kind and key."""
        self._put_work.append(work)

    def remove_work(self, kind: str, key: str) -> None:
        """Take work off the queue, also work that this transaction has put there."""
        self._put_work = [work for work in self._put_work if (work.kind, work.key) != (kind, key)]
        self._done_work.append((kind, key))

    def pending_keys(self, kind: str, stored: Iterable[str]) -> set[str]:
        """Return the keys of work of that kind after this transaction; `stored` are those in the journal."""
        done = {key for done_kind, key in self._done_work if done_kind == kind}
        return (set(stored) - done) | {work.key for work in self._put_work if work.kind == kind}

    def observe(self, observation: Observation) -> None:
        """Add a decided command with its outcome."""
        self._observations.append(replace(observation, run_id=None if self.row is None else self.run_id))

    @property
    def last_observation(self) -> Observation | None:
        """The newest decided command, or None."""
        return self._observations[-1] if self._observations else None

    def store_state(self, code: Digest, data: str) -> None:
        """Store the state after the added events as JSON text, made by an `evolve` of that code."""
        self._stored_state = StoredState(self.version, code, data)

    def commit(self) -> RunCommit:
        """Return everything that was added."""
        return RunCommit(
            run_id=self.run_id,
            events=tuple(self._events),
            run=self.row if self._events else None,
            run_before=self._stored_row,
            values=tuple(self._values),
            put_work=tuple(self._put_work),
            done_work=tuple(self._done_work),
            additions=(*self._observations, *([] if self._stored_state is None else [self._stored_state])),
        )


def load(
    decider: AnyDecider, access: JournalAccess, reader: Reader, instance: str, now: int, code: Callable[[], Digest]
) -> InstanceChanges:
    """Return the instance at its newest version, or a new one without events; `code` returns that of `evolve`."""
    row = reader.run_by_key(decider.kind, decider.name, instance)
    if row is None:
        return InstanceChanges(access.new_run_id(), instance, None, 0, now, lambda: (decider.initial, 0))
    head = reader.head(row.run_id)
    assert head is not None
    run_id, version = row.run_id, head[0]

    def fold() -> tuple[Any, int]:
        known = _memory_of(decider, access).find(run_id, version, code())
        return _newest_state(decider, reader, run_id, instance) if known is None else known

    return InstanceChanges(run_id, instance, row, version, max(now, head[1]), fold)


# -- states that are remembered or stored --------------------------------------------------------------------------


class _RememberedState(NamedTuple):
    """A committed state at a version, by that code; `stored_version` is the version of the state in the journal."""

    version: int
    code: Digest
    state: Any
    stored_version: int


class _StateMemory:
    """The newest states of the instances of one decider on one engine."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._states: OrderedDict[RunId, _RememberedState] = OrderedDict()

    def find(self, run_id: RunId, version: int, code: Digest) -> tuple[Any, int] | None:
        """Return the state at that version and the version of the stored state, or None."""
        found = self._states.get(run_id)  # one operation of a dict, which needs no lock
        return found[2:] if found is not None and found[:2] == (version, code) else None

    def put(self, run_id: RunId, committed: _RememberedState) -> None:
        """Remember a committed state. The state used longest ago gives way."""
        with self._lock:
            self._states[run_id] = committed
            self._states.move_to_end(run_id)
            while len(self._states) > REMEMBERED:
                self._states.popitem(last=False)

    def advance(self, run_id: RunId, before: int, after: int) -> None:
        """Move the state from one version to another, if the events between them do not change it."""
        with self._lock:
            found = self._states.get(run_id)
            if found is not None and found.version == before:
                self._states[run_id] = found._replace(version=after)


def _memory_of(decider: AnyDecider, access: JournalAccess) -> _StateMemory:
    memory: _StateMemory | None = decider.memories.get(access)
    if memory is None:
        # Of two threads that come here together, both get the memory of the first.
        memory = decider.memories.setdefault(access, _StateMemory(access.threads.lock()))
    return memory


def remember(decider: AnyDecider, access: JournalAccess, changes: InstanceChanges, code: Callable[[], Digest]) -> None:
    """Remember the state that a transaction has committed, if nothing can change it in place.

    A `decide` that changes its state would change the state of the next decision.
    """
    memory = _memory_of(decider, access)
    if not changes.is_folded:  # only events of the package were added: the state is the same
        memory.advance(changes.run_id, changes.version - changes.n_events, changes.version)
    elif changes.row is not None and is_immutable(changes.state):
        committed = _RememberedState(changes.version, code(), changes.state, changes.stored_version)
        memory.put(changes.run_id, committed)


def store_state(decider: AnyDecider, changes: InstanceChanges) -> None:
    """Store the state with the commit, if the stored one is `SNAPSHOT_EVERY` versions old and JSON reads it back."""
    if decider.initial_text is None or changes.version - changes.stored_version < SNAPSHOT_EVERY:
        return  # without the text of the initial state, a change of it would not be seen
    changes.stored_version = changes.version  # also if it fails: the next commands do not try it again
    try:
        data = msgspec.json.encode(changes.state)
        if msgspec.json.decode(data, type=type(decider.initial)) != changes.state:
            return
    except (msgspec.MsgspecError, TypeError):
        return
    changes.store_state(decider.evolve_code, data.decode())


def _read_stored_state(decider: AnyDecider, stored: StoredState) -> tuple[Any] | None:
    """Return the stored state if the current code made it, or None."""
    if stored.code != decider.evolve_code:
        return None
    try:
        return (msgspec.json.decode(stored.data, type=type(decider.initial)),)
    except (msgspec.MsgspecError, TypeError):
        return None


# -- states that are folded ----------------------------------------------------------------------------------------


def state_at(
    decider: AnyDecider,
    reader: Reader,
    run_id: RunId,
    instance: str,
    *,
    version: int | None = None,
    at: int | None = None,
) -> Any:
    """Return the state after the newest event, or after that of a version or an instant (microseconds UTC).

    Raises:
        EventUnreadable: an event does not fit its class; `sequence` counts the decider's own events from 1.
    """
    if version is None and at is None:
        return _newest_state(decider, reader, run_id, instance)[0]
    records = takewhile(lambda each: not _is_later(each, version, at), deciders_of(reader).events_after(run_id, 0))
    return _fold(decider, reader, run_id, instance, decider.initial, [*records])


def _newest_state(decider: AnyDecider, reader: Reader, run_id: RunId, instance: str) -> tuple[Any, int]:
    """Return the state after the newest event, and the version of the stored state under it, or 0."""
    state, after = decider.initial, 0
    stored = deciders_of(reader).state(run_id)
    known = None if stored is None else _read_stored_state(decider, stored)
    if known is not None and stored is not None:
        state, after = known[0], stored.version
    return _fold(decider, reader, run_id, instance, state, deciders_of(reader).events_after(run_id, after)), after


def _is_later(record: EventRecord, version: int | None, at: int | None) -> bool:
    return (version is not None and record[0] > version) or (at is not None and record[1] > at)


def _fold(
    decider: AnyDecider, reader: Reader, run_id: RunId, instance: str, state: Any, records: list[EventRecord]
) -> Any:
    prefix, evolve = f"{decider.name}.", decider.functions[0] or decider.evolve_with
    decoders: dict[str, Callable[[str], Any] | None] = {}
    for version, _, kind, data in records:
        if kind not in decoders:
            own = kind.startswith(prefix)
            decoders[kind] = decider.event_codec.decoder(kind[len(prefix) :]) if own else None
        decode = decoders[kind]
        if decode is None:
            continue
        try:
            event = decode(data)
        except Exception as error:
            raise _unreadable_event(decider, reader, run_id, instance, version, kind[len(prefix) :], data) from error
        after = evolve(state, event)
        state = decider.evolve_with(state, event) if after is None else after  # raises an error for None
    return state


def _unreadable_event(
    decider: AnyDecider, reader: Reader, run_id: RunId, instance: str, version: int, name: str, data: str
) -> Exception:
    """Return the error of an event that could not be decoded."""
    try:
        decider.event_codec.decode(name, data)
    except EventUnreadable as error:
        sequence = _sequence(reader, run_id, f"{decider.name}.", version)
        return unreadable_event(decider.name, instance, sequence, version, error)
    raise AssertionError(f"{name} could not be decoded, and now it can")


def _sequence(reader: Reader, run_id: RunId, prefix: str, version: int) -> int:
    """Return the number of the event of that version among the decider's own events, from 1."""
    records = deciders_of(reader).events_after(run_id, 0)
    return sum(kind.startswith(prefix) for number, _, kind, _ in records if number <= version)


def unreadable_event(name: str, instance: str, sequence: int, version: int, error: EventUnreadable) -> EventUnreadable:
    """Return the error with the event that it is about."""
    return EventUnreadable(
        f"event {sequence} of {name} {instance} can't be read: {error}",
        name=name,
        instance=instance,
        sequence=sequence,
        version=version,
    )


def version_or_instant(at: int | datetime | None) -> tuple[int | None, int | None]:
    """Return the version, or the instant in microseconds UTC. A datetime without a zone is local.

    Raises:
        TypeError: `at` is neither.
    """
    if at is None:
        return None, None
    if isinstance(at, datetime):
        return None, (at.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
    if isinstance(at, bool) or not hasattr(at, "__index__"):
        raise TypeError(f"at must be a version (an int) or an instant (a datetime), got {at!r}")
    return index(at), None


def require_version(decider: AnyDecider, reader: Reader, row: RunRow, version: int | None) -> None:
    """Raise `VersionNotFound` if the instance has no such version."""
    head = reader.head(row.run_id)
    newest = 0 if head is None else head[0]
    if version is not None and not 0 <= version <= newest:
        raise VersionNotFound(
            f"{decider.name} {row.key} has no version {version}; its newest is {newest}, and "
            f"{decider.name}.history({row.key!r}) lists those of its events",
            instance=row.key or "",
            version=version,
            newest=newest,
        )
