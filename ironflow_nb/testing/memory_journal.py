"""The journal of plain Python in memory: the reference of the port, and the store of tests."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from msgspec.structs import replace

from ironflow_nb.core.event_codec import decode_event, encode_event
from ironflow_nb.core.events import AFTER_FAILURE, StepStarted
from ironflow_nb.core.identity import Digest, RunId, StepRef, ValueId, step_ref
from ironflow_nb.core.lane_rules import LaneKey, LanePlace
from ironflow_nb.core.lanes import Demand
from ironflow_nb.core.run_state import RowKey, RunRow, StepRow
from ironflow_nb.core.status import FAILURES, StepStatus
from ironflow_nb.core.wait_rules import NEVER
from ironflow_nb.errors import JournalConflict, JournalError
from ironflow_nb.journal.event_columns import columns_of
from ironflow_nb.journal.ports import (
    CachedResult,
    CallKey,
    Check,
    Durability,
    EventColumns,
    EventRow,
    IsTaken,
    LaneChange,
    Lease,
    QueueItem,
    QueueSelect,
    Reader,
    RunCommit,
    Select,
    Signal,
    SignalId,
    SiteTally,
    StepTally,
    StoredDefinition,
)
from ironflow_nb.testing.memory_breakers import MemoryBreakers
from ironflow_nb.testing.memory_deciders import MemoryDeciders
from ironflow_nb.testing.memory_lanes import MemoryLanes
from ironflow_nb.testing.memory_selection import fits_ids, fits_name, fits_run, fits_step
from ironflow_nb.testing.memory_signals import MemorySignals
from ironflow_nb.testing.memory_telemetry import MemoryTelemetry
from ironflow_nb.testing.memory_triggers import MemoryTriggers
from ironflow_nb.testing.memory_work import MemoryWork
from ironflow_nb.values.stored_value import ROW_LIMIT, StoredValue

if TYPE_CHECKING:
    import sqlite3

E = TypeVar("E")


class MemoryJournal:
    """A journal that ends with its process, and its own reader."""

    location = "memory"

    def __init__(self) -> None:
        self._runs: dict[RunId, RunRow] = {}
        self._by_key: dict[tuple[str, str, str | None], RunId] = {}
        self._steps: dict[RunId, dict[tuple[StepRef, int], StepRow]] = {}
        self._events: list[EventRow] = []
        self._positions: dict[tuple[RunId, int], int] = {}
        self._heads: dict[RunId, tuple[int, int]] = {}
        self._values: dict[ValueId, StoredValue] = {}
        self._row_values: dict[RowKey, dict[ValueId, StoredValue]] = {}
        self._definitions: dict[Digest, StoredDefinition] = {}
        self._leases: dict[str, Lease] = {}
        self._cached: dict[tuple[Digest, Digest], CachedResult] = {}
        self._signals, self._mailbox, self._lanes = MemorySignals(), MemoryWork(), MemoryLanes()
        self._deciders = MemoryDeciders(self._events, self._runs)
        self._triggers, self._breakers = MemoryTriggers(), MemoryBreakers()
        self._telemetry = MemoryTelemetry(self._running_site)
        self._n_changes = 0

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port."""
        heads: dict[RunId, tuple[int, int]] = {}
        keys: dict[tuple[str, str, str | None], RunId] = {}
        events: list[EventRow] = []
        for entry in entries:
            events += self._events_of(entry, heads, len(self._events) + len(events))
            if entry.run is not None and entry.run.key is not None:
                key = entry.run.kind, entry.run.name, entry.run.key
                if keys.setdefault(key, self._by_key.get(key, entry.run_id)) != entry.run_id:
                    raise JournalConflict(f"another run has the key {entry.run.key!r}", run_id=entry.run_id)
        self._deciders.refuse_conflicts(entries)
        self._triggers.refuse_conflicts(entries, self._mailbox)
        # From here on nothing can fail. While the count is odd, `_copy` waits.
        self._n_changes += 1
        self._heads |= heads
        self._by_key |= keys
        self._events += events
        self._positions |= {(row.run_id, row.version): row.position for row in events}
        for entry in entries:
            self._put_rows(entry)
        if lease is not None:
            self._leases[lease.owner] = lease
        self._n_changes += 1

    def _events_of(self, entry: RunCommit, heads: dict[RunId, tuple[int, int]], position: int) -> list[EventRow]:
        rows: list[EventRow] = []
        for recorded in entry.events:
            version, _ = heads.get(entry.run_id) or self._heads.get(entry.run_id) or (0, 0)
            if recorded.version != version + 1:
                raise JournalConflict(f"another engine appended to run {entry.run_id}", run_id=entry.run_id)
            heads[entry.run_id] = recorded.version, recorded.at
            event_type, data = encode_event(recorded.event)
            rows.append(
                EventRow(
                    position=position + len(rows) + 1,
                    run_id=entry.run_id,
                    version=recorded.version,
                    at=recorded.at,
                    type=event_type,
                    step=recorded.step,
                    attempt=recorded.attempt,
                    data=data,
                )
            )
        return rows

    def _put_rows(self, entry: RunCommit) -> None:
        for value in entry.values:
            known = self._values.get(value.value_id, value)
            content = None if value.content is None else bytes(value.content)
            self._values[value.value_id] = replace(known, content=content, mac=value.mac)
        for definition in entry.definitions:
            self._definitions[definition.definition_id] = definition
        if entry.run is not None:
            self._runs[entry.run_id] = entry.run
        self._signals.take(entry.taken)
        self._mailbox.write(entry)
        self._deciders.put(entry.run_id, entry.additions)
        self._triggers.put(entry.additions, self._mailbox)
        self._breakers.put(entry.additions)
        self._telemetry.put(entry.run_id, entry.additions)
        for cached in entry.cached:
            place = cached.identity, cached.code
            if cached.output_id is not None:
                self._cached[place] = cached
            elif _gives_back(cached, self._cached.get(place)):
                del self._cached[place]
        for row in entry.steps:
            self._steps.setdefault(entry.run_id, {})[row.step, row.attempt] = row
        for _, name, index, attempt in entry.removed:
            self._steps[entry.run_id].pop((step_ref(name, index), attempt), None)
            self._row_values.pop((entry.run_id, name, index, attempt), None)
        new = {each.value_id: replace(each, content=bytes(each.content or b"")) for each in entry.row_values}
        rows: list[RunRow | StepRow] = [*entry.steps, *([] if entry.run is None else [entry.run])]
        for changed in rows:
            had = self._row_values.get(changed.row_key, {}) | new
            own = {changed.inputs_id, changed.output_id}
            self._row_values[changed.row_key] = {key: each for key, each in had.items() if key in own}

    def claim(self, wanted: CachedResult, is_taken: IsTaken, *, lease: Lease | None = None) -> CachedResult | None:
        """See the port."""
        found = self._cached.get((wanted.identity, wanted.code))
        if found is not None and is_taken(found, self._leases):
            return found
        if lease is not None:
            self._leases[lease.owner] = lease
        self._cached[wanted.identity, wanted.code] = wanted
        self._n_changes += 2
        return None

    def cached(self, identity: Digest, code: Digest) -> CachedResult | None:
        """See the port."""
        return self._cached.get((identity, code))

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """See the port."""
        self.append(act(self), durability=durability, lease=lease)

    def work(self, select: QueueSelect) -> list[QueueItem]:
        """See the port."""
        return self._mailbox.work(select, self._runs)

    def ended_waits(self, now: int, start: int = 0, limit: int = -1) -> list[QueueItem]:
        """See the port."""
        signals = [(each.run_id, each.name) for each in self._signals.pending()]
        due = self._mailbox.ended_waits(now, ())
        signalled = [] if start else [each for each in self._mailbox.ended_waits(now, signals) if each not in due]
        return [*due[start : None if limit < 0 else start + limit], *signalled]

    def starts(self, of: Collection[str]) -> list[QueueItem]:
        """See the port."""
        return [item for item in self._mailbox.starts() if item.key in of]

    def next_due_at(self, now: int) -> int:
        """See the port."""
        queued = [*self._mailbox.waits(), *self._mailbox.starts()]
        return min((item.due_at for item in queued if item.due_at > now), default=NEVER)

    def waits_of(self, run_id: RunId) -> list[QueueItem]:
        """See the port."""
        return [item for item in self._mailbox.waits() if item.run_id == run_id]

    def extension(self, kind: Callable[[sqlite3.Connection], E]) -> E:
        """See the port."""
        own = self._deciders, self._triggers, self._telemetry, self._breakers
        found = [each for each in own if isinstance(kind, type) and isinstance(each, kind)]
        if not found:
            raise JournalError(
                "this reads tables, and the memory journal has none; use a file or iron.open(':memory:')"
            )
        return cast("E", found[0])

    def _running_site(self, run_id: RunId, step: StepRef, attempt: int) -> str | None:
        row = self._steps.get(run_id, {}).get((step, attempt))
        if row is None or row.status is not StepStatus.RUNNING:
            return None
        event = self._events[self._positions[run_id, row.version] - 1]
        began = decode_event(event.type, event.data)
        return began.site if isinstance(began, StepStarted) else ""

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        self._leases[lease.owner] = lease

    def send(
        self, signal: Signal, payload: StoredValue | None = None, *, known: SignalId | None = None, check: Check = None
    ) -> SignalId | None:
        """See the port."""
        if known is not None and (earlier := self._signals.known(known)):
            return earlier
        if check is not None:
            check(self)
        self._put_rows(RunCommit(run_id=signal.run_id, events=(), values=() if payload is None else (payload,)))
        self._signals.put(signal, known)
        self._n_changes += 2
        return None

    def release(self, *owners: str) -> None:
        """See the port."""
        for owner in owners:
            self._leases.pop(owner, None)
        self._lanes.release(owners)

    def change_lanes(self, act: Callable[[Reader], LaneChange], *, lease: Lease | None = None) -> None:
        """See the port."""
        change = act(self)
        self._n_changes += 1
        self._lanes.write(change)
        if lease is not None:
            self._leases[lease.owner] = lease
        self._n_changes += 1

    def replace_signatures(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """See the port."""
        signed = {key: mac for key, mac in macs.items() if key in self._values and self._values[key].codec == codec}
        for key, mac in signed.items():
            self._values[key] = replace(self._values[key], mac=mac)
        return len(signed)

    @contextmanager
    def current(self) -> Iterator[Reader]:
        """See the port."""
        yield self

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """See the port."""
        yield self._copy()

    def _copy(self) -> MemoryJournal:
        """Return a copy of one moment: an odd or changed count says that another thread has written meanwhile."""
        other = MemoryJournal()
        while True:
            n_changes = self._n_changes
            other._runs, other._by_key, other._heads = dict(self._runs), dict(self._by_key), dict(self._heads)
            other._steps = {run_id: dict(rows) for run_id, rows in list(self._steps.items())}
            other._events, other._positions = list(self._events), dict(self._positions)
            other._values, other._definitions = dict(self._values), dict(self._definitions)
            other._row_values = dict(self._row_values)
            other._leases, other._cached = dict(self._leases), dict(self._cached)
            other._signals, other._mailbox = self._signals.copy(), self._mailbox.copy()
            other._triggers, other._lanes = self._triggers.copy(), self._lanes.copy()
            other._breakers = self._breakers.copy()
            other._deciders = self._deciders.copy(other._events, other._runs)
            other._telemetry = self._telemetry.copy(other._running_site)
            if n_changes == self._n_changes and not n_changes % 2:
                return other

    def change_token(self) -> int:
        """See the port."""
        return self._n_changes

    def exists(self) -> bool:
        """See the port."""
        return self._n_changes > 0

    def close(self) -> None:
        """See the port."""

    # -- reading -------------------------------------------------------------------------------------------------

    def runs(self, select: Select) -> list[RunRow]:
        """See the port."""
        rows = list(self._runs.values())
        if select.older_than is not None:
            rows = rows[: [*self._runs].index(RunId(select.older_than)) if select.older_than in self._runs else 0]
        return [row for row in reversed(rows) if fits_run(row, select)][: select.limit]

    def run_by_key(self, kind: str, name: str, key: str) -> RunRow | None:
        """See the port."""
        run_id = self._by_key.get((kind, name, key))
        return None if run_id is None else self._runs[run_id]

    def run_to_join(self, call: CallKey) -> RunRow | None:
        """See the port."""
        wanted = (call.kind, call.name, call.inputs_digest, call.ordinal, None, None)
        found = [
            row
            for row in list(self._runs.values())
            if (row.kind, row.name, row.inputs_digest, row.ordinal, row.key, row.parent_run_id) == wanted
            and row.execution != call.execution
        ]
        return max(found, key=lambda row: self._positions[row.run_id, row.session_version], default=None)

    def steps(self, select: Select) -> list[StepRow]:
        """See the port."""
        found: list[StepRow] = []
        of_runs = replace(select, name=select.run_name, kind=None, statuses=None, since=None, limit=None)
        for run in self.runs(of_runs):
            attempts = list(self._steps.get(run.run_id, {}).values())
            first: dict[StepRef, int] = {}
            for row in attempts:
                first[row.step] = min(row.version, first.get(row.step, row.version))
            if select.is_latest:
                attempts = list({row.step: row for row in sorted(attempts, key=lambda row: row.attempt)}.values())
            found += sorted(attempts, key=lambda row: (first[row.step], row.attempt))
        return [row for row in found if fits_step(row, select)][: select.limit]

    def tallies(self, run_ids: Collection[str]) -> dict[RunId, list[StepTally]]:
        """See the port."""
        latest, again = self._latest(Select(run_ids=run_ids))
        groups: dict[tuple[RunId, str, StepStatus], list[StepRow]] = {}
        for row in latest:
            groups.setdefault((row.run_id, row.name, row.status), []).append(row)
        found: dict[RunId, list[StepTally]] = {}
        for (run_id, name, status), rows in sorted(groups.items()):
            found.setdefault(run_id, []).append(StepTally(name, status, *_counted(rows, again)))
        return found

    def sites(
        self, run_id: RunId, *, without: Collection[StepRef] = (), continued_at: int = 0, began_at: int = 0
    ) -> list[SiteTally]:
        """See the port."""
        latest, again = self._latest(Select(run_ids=[run_id]))
        started = {row.version: row for row in self.events(Select(run_ids=[run_id])) if row.step is not None}
        instants = {row.version: row.at for row in self.events(Select(run_ids=[run_id]))}
        n_before = partial(_n_before, began_at=began_at, instant=instants.get(began_at))
        groups: dict[tuple[str, StepStatus, str, RunId | None, str], list[StepRow]] = {}
        for row in sorted(latest, key=lambda row: row.version):
            event = started.get(row.version)
            began = None if event is None else decode_event(event.type, event.data)
            site, waits_for = getattr(began, "site", ""), getattr(began, "waits_for", "")
            why = row.reason if row.status is StepStatus.SKIPPED else ""
            why = waits_for if row.status is StepStatus.PENDING else why
            why = str(row.due_at or "") if row.status is StepStatus.WAITING else why
            if row.step not in without and not (why.endswith(AFTER_FAILURE) and row.version < continued_at):
                groups.setdefault((row.name, row.status, site, row.child_run_id, why), []).append(row)
        return [
            SiteTally(name, status, *_counted(rows, again), site, child_run_id, why, n_before(rows))
            for (name, status, site, child_run_id, why), rows in groups.items()
        ]

    def _latest(self, select: Select) -> tuple[list[StepRow], set[tuple[RunId, StepRef]]]:
        """Return the latest attempts, and the steps of which an earlier one failed."""
        latest: dict[tuple[RunId, StepRef], StepRow] = {}
        again: set[tuple[RunId, StepRef]] = set()
        for row in self.steps(select):  # by attempt: the last one stays
            place = row.run_id, row.step
            if place in latest and latest[place].status in FAILURES:
                again.add(place)
            latest[place] = row
        return list(latest.values()), again

    def attempts(self, run_id: RunId) -> Iterator[tuple[StepRow, StoredValue | None]]:
        """See the port."""
        for row in sorted(self._steps.get(run_id, {}).values(), key=lambda row: (row.name, row.index, row.attempt)):
            ids = [] if row.output_id is None else [row.output_id]
            yield row, next(iter(self.values(ids, of=[row.row_key], content_limit=ROW_LIMIT).values()), None)

    def events(self, select: Select) -> list[EventRow]:
        """See the port."""
        since, until = select.since or 0, 2**63 if select.until_version is None else select.until_version
        found = [
            row
            for row in list(self._events)
            if fits_ids(row.run_id, select)
            and (select.after_version or 0) < row.version <= until
            and (row.at >= since and select.name in {None, row.type} and row.position > (select.after or 0))
            and (select.run_name is None or fits_name(self._runs[row.run_id].name, select.run_name, select))
        ]
        n_left_out = 0 if select.after is not None else max(0, len(found) - (select.limit or 0))
        return found[: select.limit] if not n_left_out or select.limit is None else found[n_left_out:]

    def event_columns(self, select: Select) -> Iterator[EventColumns]:
        """See the port."""
        yield columns_of(self.events(select))

    def last_position(self) -> int:
        """See the port."""
        return len(self._events)

    def head(self, run_id: RunId) -> tuple[int, int] | None:
        """See the port."""
        return self._heads.get(run_id)

    def values(
        self, ids: Collection[ValueId], *, of: Iterable[RowKey] = (), content_limit: int | None = None
    ) -> dict[ValueId, StoredValue]:
        """See the port."""
        known = ChainMap(*[self._row_values.get(row_key, {}) for row_key in of], self._values)
        found = {key: known[key] for key in ids if key in known}
        if content_limit is None:
            return found
        return {
            key: replace(value, content=None) if value.size > content_limit else value for key, value in found.items()
        }

    def value_ids(self, codec: str) -> list[ValueId]:
        """See the port."""
        return [key for key, value in list(self._values.items()) if value.codec == codec]

    def definition(self, definition_id: Digest) -> StoredDefinition | None:
        """See the port."""
        return self._definitions.get(definition_id)

    def signals(self, run_ids: Collection[str]) -> list[Signal]:
        """See the port."""
        return [signal for signal in self._signals.pending() if signal.run_id in run_ids]

    def leases(self) -> dict[str, Lease]:
        """See the port."""
        return dict(self._leases)

    def lane_places(self, lanes: Collection[LaneKey] | None = None) -> list[LanePlace]:
        """See the port."""
        return self._lanes.places(lanes)

    def lane_rates(self) -> dict[LaneKey, int]:
        """See the port."""
        return dict(self._lanes.full_at)

    def other_demand(self, demand: Demand) -> LanePlace | None:
        """See the port."""
        return self._lanes.other_demand(demand)

    def last_ask(self) -> int:
        """See the port."""
        return self._lanes.last_ask()


def _gives_back(cached: CachedResult, found: CachedResult | None) -> bool:
    if found is None or found.owner is None or found.run_id != cached.run_id:
        return False
    return cached.owner == found.owner


def _n_before(rows: list[StepRow], began_at: int, instant: int | None) -> int:
    """Return how many of the steps began before that version, and ended before its instant, or in another run."""

    def is_before(row: StepRow) -> bool:
        has_ended = row.finished_at is not None and instant is not None and row.finished_at <= instant
        return row.version < began_at and (row.status is not StepStatus.COMPLETED or has_ended)

    return sum(not row.lived_with and (is_before(row) or row.origin_run_id is not None) for row in rows)


def _counted(rows: Sequence[StepRow], again: Collection[tuple[RunId, StepRef]]) -> tuple[int, float | None, int, int]:
    """Return how many rows there are, their seconds, and how many were tried again and lived with."""
    durations = [row.duration_s for row in rows if row.duration_s is not None]
    n_again = sum((row.run_id, row.step) in again for row in rows)
    return len(rows), sum(durations) if durations else None, n_again, sum(row.lived_with for row in rows)
