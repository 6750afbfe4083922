"""Instances of deciders: their states, folded from their events, and what one transaction changes of them.

A process remembers the instances that it has committed, so that a decision neither reads the row of its instance nor
folds all its events again. A remembered instance counts only if its newest event is still the newest, and its state
only with the code of `evolve` that made it. The journal holds a state for every `SNAPSHOT_EVERY` versions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.core.events import DomainEvent, RecordedEvent, RunEvent
from ironflow_nb.core.identity import Digest, RunId, ValueId
from ironflow_nb.core.moments import Moment, Span, located
from ironflow_nb.core.run_state import RunRow, evolve_run
from ironflow_nb.deciders.decider_definition import AnyDecider, is_immutable
from ironflow_nb.deciders.store import NO_LIMIT, EventRecord, Observation, StoredState, deciders_of
from ironflow_nb.errors import EventUnreadable
from ironflow_nb.execution import JournalAccess
from ironflow_nb.journal.ports import QueueItem, Reader, RunCommit
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue, value_id

JSON: Final = "json"
SNAPSHOT_EVERY: Final = 200
"""The number of versions after which a state is stored again."""
REMEMBERED: Final = 1024
"""The number of instances of one decider that a process remembers."""


class RememberedInstance(NamedTuple):
    """An instance as this engine has committed it: its row, its newest event, and its state by that code.

    `stored_version` is the version of the state in the journal.
    """

    row: RunRow
    head: tuple[int, int]
    code: Digest
    state: Any
    stored_version: int


class InstanceChanges:
    """An instance inside a transaction, with the events, rows and work that the transaction adds to it.

    `state` is set by `fold`: a transaction that only settles work does without it.
    """

    def __init__(
        self,
        run_id: RunId,
        instance: str,
        now: int,
        *,
        row: RunRow | None = None,
        head: tuple[int, int] = (0, 0),
        known: RememberedInstance | None = None,
    ) -> None:
        """Take the instance at its newest version: its row, version and instant of its newest event."""
        self.run_id = run_id
        self.instance = instance
        self.row = self._stored_row = row
        self._head = head
        self.version = head[0]
        self.at = max(now, head[1])
        self.known = known
        self.state: Any = None
        self.is_folded = False
        self.stored_version = 0
        self._stored_state: StoredState | None = None
        self._events: list[RecordedEvent] = []
        self._values: list[StoredValue] = []
        self._put_work: list[QueueItem] = []
        self._done_work: list[tuple[str, str]] = []
        self._observations: list[Observation] = []

    @property
    def n_events(self) -> int:
        """The number of added events."""
        return len(self._events)

    @property
    def head(self) -> tuple[int, int]:
        """Version and instant of the newest event."""
        return (self.version, self.at) if self._events else self._head

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
        self._observations.append(observation)

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


class InstanceMemory:
    """The newest versions of the instances of one decider, as one engine has committed them."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._known: OrderedDict[str, RememberedInstance] = OrderedDict()

    def find(self, instance: str) -> RememberedInstance | None:
        """Return the instance, or None. Another engine may have appended to it since."""
        return self._known.get(instance)  # one operation of a dict, which needs no lock

    def put(self, instance: str, committed: RememberedInstance) -> None:
        """Remember a committed instance. The one used longest ago gives way."""
        with self._lock:
            self._known[instance] = committed
            self._known.move_to_end(instance)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


def memory_of(decider: AnyDecider, access: JournalAccess) -> InstanceMemory:
    """Return the memory of the decider's instances on that engine."""
    memory: InstanceMemory | None = decider.memories.get(access)
    if memory is None:
        # Of two threads that come here together, both get the memory of the first.
        memory = decider.memories.setdefault(access, InstanceMemory(access.threads.lock()))
    return memory


def load(
    decider: AnyDecider, access: JournalAccess, reader: Reader, memory: InstanceMemory, instance: str, now: int
) -> InstanceChanges:
    """Return the instance at its newest version, or a new one without events."""
    known = memory.find(instance)
    if known is not None and reader.head(known.row.run_id) == known.head:  # nobody has appended to it since
        return InstanceChanges(known.row.run_id, instance, now, row=known.row, head=known.head, known=known)
    row = reader.run_by_key(decider.kind, decider.name, instance)
    if row is None:
        return InstanceChanges(access.new_run_id(), instance, now)
    head = reader.head(row.run_id)
    assert head is not None
    return InstanceChanges(row.run_id, instance, now, row=row, head=head)


def fold(decider: AnyDecider, reader: Reader, changes: InstanceChanges, code: Digest) -> None:
    """Give the instance its state; `code` is that of `evolve`. No event of the decider is added before."""
    known = changes.known
    if changes.row is None:
        changes.state = decider.initial
    elif known is not None and known.code == code:
        changes.state, changes.stored_version = known.state, known.stored_version
    else:
        changes.state, changes.stored_version = _newest_state(decider, reader, changes.run_id, changes.instance)
    changes.is_folded = True


def remember(memory: InstanceMemory, changes: InstanceChanges, code: Digest | None) -> None:
    """Remember the instance that a transaction has committed, if nothing can change its state in place.

    A `decide` that changes its state would change the state of the next decision.
    """
    row, known = changes.row, changes.known
    if row is None:
        return
    if code is not None and changes.is_folded:
        if is_immutable(changes.state):
            committed = RememberedInstance(row, changes.head, code, changes.state, changes.stored_version)
            memory.put(changes.instance, committed)
    elif known is not None:  # only events of the package were added: the state is the same
        memory.put(changes.instance, known._replace(row=row, head=changes.head))


# -- states that are stored ----------------------------------------------------------------------------------------


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
    until, at = NO_LIMIT if version is None else version, NO_LIMIT if at is None else at
    records = deciders_of(reader).events_after(run_id, 0, until=until, at=at)
    return _fold(decider, reader, run_id, instance, decider.initial, records)


def _newest_state(decider: AnyDecider, reader: Reader, run_id: RunId, instance: str) -> tuple[Any, int]:
    """Return the state after the newest event, and the version of the stored state under it, or 0."""
    state, after = decider.initial, 0
    stored = deciders_of(reader).state(run_id)
    known = None if stored is None else _read_stored_state(decider, stored)
    if known is not None and stored is not None:
        state, after = known[0], stored.version
    return _fold(decider, reader, run_id, instance, state, deciders_of(reader).events_after(run_id, after)), after


def _fold(
    decider: AnyDecider, reader: Reader, run_id: RunId, instance: str, state: Any, records: list[EventRecord]
) -> Any:
    prefix, evolve = f"{decider.name}.", decider.functions[0] or decider.evolve_with
    decoders: dict[str, Callable[[str], Any] | None] = {}
    for version, _, kind, data in records:
        if kind not in decoders:
            own = kind.startswith(prefix)
            decoders[kind] = decider.event_codec.decoder(kind[len(prefix) :]) if own else None
        if (decode := decoders[kind]) is None:
            continue
        try:
            event = decode(data)
        except Exception as error:
            raise _unreadable_event(decider, reader, run_id, instance, version, kind[len(prefix) :], data) from error
        before, state = state, evolve(state, event)
        if state is None:
            state = decider.evolve_with(before, event)  # raises an error for None
    return state


def _unreadable_event(
    decider: AnyDecider, reader: Reader, run_id: RunId, instance: str, version: int, name: str, data: str
) -> Exception:
    """Return the error of an event that could not be decoded."""
    try:
        decider.event_codec.decode(name, data)
    except EventUnreadable as error:
        sequence = deciders_of(reader).n_events(run_id, before=version) + 1
        return unreadable_event(decider.name, instance, sequence, version, error)
    raise AssertionError(f"{name} could not be decoded, and now it can")


def unreadable_event(name: str, instance: str, sequence: int, version: int, error: EventUnreadable) -> EventUnreadable:
    """Return the error with the event that it is about."""
    return EventUnreadable(
        f"event {sequence} of {name} {instance} can't be read: {error}",
        name=name,
        instance=instance,
        sequence=sequence,
        version=version,
    )


def moment_of(
    decider: AnyDecider, reader: Reader, row: RunRow, at: Moment | None, now: int
) -> tuple[int | None, int | None]:
    """Return the version, 0 before the first event, or the instant in microseconds UTC; see `located`.

    Raises:
        VersionNotFound: the instance has no such version, or did not exist then.
        TypeError, ValueError: `at` names no moment.
    """
    head = reader.head(row.run_id)
    if at is None or head is None:
        return None, None
    span = Span(
        what=f"{decider.name} {row.key}", newest=head[0], began_at=row.started_at,
        until=max(now, head[1]), is_over=False, first=0, ids={"instance": row.key or ""},
    )  # fmt: skip
    return located(at, span)
