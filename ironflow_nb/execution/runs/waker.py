"""The search for due work without an owner: waiting runs go on, schedules and emitted events start new ones."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import RunAdmitted, RunContinued, RunQueued, RunWaiting, StepStarted
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.core.wait_rules import StartKind, WaitKind, parse_work_key
from ironflow_nb.errors import IronflowError, JournalError
from ironflow_nb.execution.engine import CURRENT, Engine
from ironflow_nb.execution.recording.signatures import FOREIGN, advice
from ironflow_nb.execution.registry import REGISTRY, StartableDefinition
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.journal.ports import EventRow, QueueItem, QueueSelect, Reader, RunCommit, Select

WOKEN_AT_ONCE: Final = 20
MOST_ACTIVE: Final = 100
"""If as many runs are at work in this process, those that wait are left to other processes, or to a later look."""
_KNOWN: Final = 100
_LOOKS_AT_CALLS: Final = 200
READ_AT_ONCE: Final = 1000
_REPLAYED: Final = (RunStatus.RUNNING, RunStatus.PENDING)
_KINDS: Final = {*WaitKind, *StartKind}
_FOREIGN_US: Final = 10_000_000
"""The time after which signatures of other users' schedules and events are checked again."""
_HELD_US: Final = 1_000_000
"""The time after which what another process has claimed is looked at again."""


class Waker:
    """Continues the runs that wait without a living owner, and starts those that are due, if this process defines them.

    It belongs to the background thread of one engine. What one search has found is continued bit by bit.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._found: deque[RunId] = deque()
        self._next_due_at = 0
        self._looked_at: int | None = None
        self._is_any: bool | None = None
        self._subscribed: dict[str, frozenset[str]] = {}
        self._foreign: set[int | None] = set()
        self._told: set[int | None] = set()
        self._foreign_until = 0

    def look(self, *, is_new: bool) -> bool | None:
        """Continue what can go on; return True if more can, None if nothing is left that this process may wake.

        Unless something `is_new` in the journal, only the time can have made a difference.
        """
        now = self._engine.clock.now()
        if self._looked_at is None or now < self._looked_at:
            self._correct_due_times()
            self._next_due_at = self._foreign_until = 0
        self._looked_at = now
        if not self._found:
            if not is_new and now < self._next_due_at:
                return self._is_any
            if now >= self._foreign_until:
                self._foreign.clear()
                self._foreign_until = now + _FOREIGN_US
            startable = REGISTRY.startable()
            is_awaited = self._subscribe(startable)
            with self._engine.access.current() as reader:
                self._next_due_at = self._find(reader, now)
                starts = reader.starts(startable)
                if self._foreign:
                    self._next_due_at = min(self._next_due_at, self._foreign_until)
                elif starts and starts[0].due_at <= now:  # a claim may be that of a process that dies
                    self._next_due_at = min(self._next_due_at, now + _HELD_US)
                self._is_any = False if self._found or starts or is_awaited or self._has_others(reader) else None
            if starts and self._start_due(startable, self._n_free() - len(self._found)):
                self._next_due_at = 0
                return self._wake_some() or True
        return self._wake_some() or self._is_any

    def _correct_due_times(self) -> None:
        """Queue anew, as of now, items that were queued in the future: the clock was set back, perhaps long ago."""

        def corrected(reader: Reader) -> list[RunCommit]:
            now = self._engine.clock.now()
            late = reader.work(QueueSelect(is_dead=False, created_after=now))
            return [
                RunCommit(run_id=item.run_id, events=(), put_work=(item.after_set_back(now),))
                for item in late
                if item.owner is None and item.kind in _KINDS
            ]

        with self._engine.access.current() as reader:
            is_any = bool(corrected(reader))
        if is_any:
            self._engine.access.exchange(corrected, self._engine.durability)

    def _find(self, reader: Reader, now: int) -> int:
        """Note the runs that can go on; return when something is due, if nothing happens before."""
        is_held, start, next_due_at = False, -READ_AT_ONCE, reader.next_due_at(now)
        while True:
            start += READ_AT_ONCE
            roots = self._roots(reader, items := reader.ended_waits(now, start, READ_AT_ONCE))
            self._found.extend(run.run_id for run in roots if self._is_free(reader, run))
            # A living owner ends its waits itself; if it dies before it does, nothing else tells of it.
            is_held |= any(self._may_wake(reader, run) and run.owner not in {None, self._engine.owner} for run in roots)
            if len(items) < READ_AT_ONCE or len(self._found) >= READ_AT_ONCE:  # the rest is found after these
                return min(next_due_at, now + _HELD_US) if is_held else next_due_at

    def _n_free(self) -> int:
        """Return how many runs may begin or go on now. A waiting run does not count as active."""
        sessions = list(self._engine.sessions.values())
        n_active = sum(each.is_open and each.waits.since_s is None for each in sessions)
        return min(WOKEN_AT_ONCE, MOST_ACTIVE - n_active)

    def _subscribe(self, startable: Mapping[str, StartableDefinition]) -> bool:
        """Note which events the definitions want, once there is a journal; return True if they want any."""
        wanted = {key: each.wanted_events for key, each in startable.items() if each.wanted_events}
        if wanted and self._engine.journal.exists():
            for key, events in wanted.items():
                if self._subscribed.get(key) != events:
                    startable[key].subscribe(self._engine)
                    self._subscribed[key] = events
        return bool(wanted)

    def _start_due(self, startable: Mapping[str, StartableDefinition], n_free: int) -> bool:
        """Start what is due; return True if more of it is, or the journal refuses it now."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self._engine)
        while due := self._due(startable):
            for item in due:
                n_free -= 1
                if n_free < 0:
                    return True
                try:
                    if not context.run(startable[item.key].start_due, self._engine, item):
                        self._leave(item)
                except JournalError as error:
                    logger().debug("%s of %s can't be started yet: %s", item.kind, item.key, error)
                    return True
        return False

    def _leave(self, item: QueueItem) -> None:
        """Leave alone for a while what another user has queued, and say so once."""
        self._foreign.add(item.work_id)
        if item.work_id not in self._told:
            self._told.add(item.work_id)
            what = f"{item.kind} {item.run_id} of {item.key} is {FOREIGN}, and starts nothing"
            logger().warning("%s; %s", what, advice(self._engine.journal.location))

    def _due(self, startable: Mapping[str, StartableDefinition]) -> list[QueueItem]:
        """Return what is due and free: of the events of a flow only the first, for they are taken in their order."""
        first: dict[str, QueueItem] = {}
        with self._engine.access.current() as reader:
            alive, now = self._engine.access.possible_owners(reader), self._engine.clock.now()
            for item in _as_emitted(reader.starts(startable)):
                if item.work_id not in self._foreign:
                    first.setdefault(item.run_id if item.kind == StartKind.SCHEDULE else item.key, item)
        return [each for each in first.values() if each.due_at <= now and each.is_free(alive, now)]

    def finish(self) -> None:
        """Make the calls that ends of runs have queued and that are due, because the process is about to end."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self._engine)
        last_words: dict[str, Any] = {
            key: each for key, each in REGISTRY.startable().items() if hasattr(each, "call_due")
        }
        while last_words and (due := self._due(last_words)):
            for item in due:
                if not context.run(last_words[item.key].call_due, self._engine, item):
                    self._leave(item)
        wakeup = self._engine.threads.wakeup()
        for _ in range(_LOOKS_AT_CALLS):  # calls that threads of this process are making are recorded by it
            with self._engine.access.current() as reader:
                is_calling = any(item.owner == self._engine.owner for item in reader.starts(last_words))
            if not is_calling:
                break
            self._engine.clock.wait(wakeup, 0.05)

    def _roots(self, reader: Reader, items: Iterable[QueueItem]) -> Collection[RunRow]:
        """Return the runs to continue for these waits: the outermost ones, which continue their children."""
        waiting = dict.fromkeys(item.run_id for item in items if _has_ended(reader, item))
        runs = {run.run_id: run for run in reader.runs(Select(run_ids=list(waiting)))}
        roots = {root.run_id: root for each in waiting if each in runs and (root := _root(reader, runs[each]))}
        return roots.values()

    def _may_wake(self, reader: Reader, run: RunRow) -> bool:
        """Return True if this process continues the run once it has no living owner."""
        is_refused = run.run_id in self._engine.refused or not self._defines(run)
        return not is_refused and still_waits(reader, run)

    def _defines(self, run: RunRow) -> bool:
        """Return True if those for whom this search is know the definition of the run."""
        return REGISTRY.find_of(run) is not None

    def _is_free(self, reader: Reader, run: RunRow) -> bool:
        if not self._may_wake(reader, run):
            return False
        if run.owner == self._engine.owner:
            return not self._engine.is_running_here(run.run_id)
        return not self._engine.access.is_owner_alive(reader, run.owner)

    def _has_others(self, reader: Reader) -> bool:
        return is_any_waiting(self._engine, reader, without=self._engine.refused)

    def _wake_some(self) -> bool:
        """Continue the next of what was found, as far as it can still go on; return True if anything was found."""
        if not self._found:
            return False
        self._next_due_at = 0  # what has come meanwhile is found then
        chosen = [self._found.popleft() for _ in range(min(max(self._n_free(), 0), len(self._found)))]
        with self._engine.access.current() as reader:
            runs = {run.run_id: run for run in reader.runs(Select(run_ids=chosen)) if self._is_free(reader, run)}
        for run_id in chosen:
            if run_id in runs:
                self._wake(runs[run_id])
        return True

    def _wake(self, run: RunRow, n_deaths: int = 0) -> None:
        """Continue the run, on which `n_deaths` owners died in a row; what the journal refuses now is found again."""
        definition = REGISTRY.find_of(run)
        if definition is None:
            return
        context = contextvars.copy_context()
        context.run(CURRENT.set, self._engine)
        try:
            with self._engine.waking_up(run.run_id, n_deaths):
                context.run(definition.continue_run, self._engine, run)
        except JournalError as error:
            logger().debug("run %s of %s can't be continued yet: %s", run.run_id, run.name, error)
        except IronflowError as error:
            self._engine.refused.add(run.run_id)
            logger().warning("run %s of %s can go on, and is not continued here: %s", run.run_id, run.name, error)


def _as_emitted(items: Sequence[QueueItem]) -> Iterator[QueueItem]:
    """Yield the items in their order, and events that are new in that of their emission: the clock may be set back."""
    new = [item for item in items if item.kind == StartKind.EVENT and not item.attempts]
    in_order = iter(sorted(new, key=lambda item: item.work_id or 0))
    for item in items:
        yield next(in_order) if item.kind == StartKind.EVENT and not item.attempts else item


def _root(reader: Reader, run: RunRow) -> RunRow | None:
    while run.parent_run_id is not None:
        found = reader.runs(Select(run_ids=[run.parent_run_id]))
        if not found:
            return None
        run = found[0]
    return run


def _has_ended(reader: Reader, item: QueueItem) -> bool:
    """Return True if the wait can end; one for all of several signals only if all of them are there."""
    if item.kind != WaitKind.SIGNALS:
        return True
    step = parse_work_key(item.key)[0]
    keys = [parse_work_key(other.key) for other in reader.waits_of(item.run_id)]
    names = {signal.name for signal in reader.signals([item.run_id])}
    return all(name in names for of_step, name in keys if of_step == step)


def watch(engine: Engine) -> None:
    """Have this process continue what waits in the journal without an owner, as far as it defines it."""
    engine.wake_with(Waker)
    engine.watch()


def watch_what_is_due(engine: Engine) -> None:
    """Watch if the journal has, or is to get, anything that this process can start or continue; it is only read."""
    startable = REGISTRY.startable()
    is_any = any(each.wanted_events for each in startable.values())
    if not is_any:
        with engine.journal.reading() as reader:
            is_any = bool(reader.starts(startable)) or is_any_waiting(engine, reader)
    if is_any:
        watch(engine)


def is_any_waiting(engine: Engine, reader: Reader, *, without: Collection[RunId] = ()) -> bool:
    """Return True if a run waits that this process defines."""

    def known(*statuses: RunStatus) -> Iterator[RunRow]:
        # One status after the other, for which there is an index: a million runs may wait.
        found = (reader.runs(Select(statuses=(status,), without=without, limit=_KNOWN)) for status in statuses)
        return (run for run in chain.from_iterable(found) if REGISTRY.find_of(run))

    return any(known(RunStatus.WAITING)) or any(
        not engine.access.is_owner_alive(reader, run.owner) and still_waits(reader, run) for run in known(*_REPLAYED)
    )


def still_waits(reader: Reader, run: RunRow) -> bool:
    """Return True if the run waits, or did so until a continuation that has come to nothing but its own beginning.

    That one has replayed the flow when its process died, and did not reach the open wait. It counts as if it had not
    been, once: of two in a row the replay itself may be what ends processes, and the run is interrupted.
    """
    if run.status not in _REPLAYED or run.n_sessions == 1:
        return run.status is RunStatus.WAITING
    newest = reader.events(Select(run_ids=[run.run_id], limit=1))
    if not all(map(_is_of_beginning, newest)):  # as of most, so all its events need not be read
        return False
    before, *rest = reader.events(Select(run_ids=[run.run_id], after_version=run.session_version - 2))
    return before.type == RunWaiting.__name__ and all(map(_is_of_beginning, rest))


def _is_of_beginning(row: EventRow) -> bool:
    """Return True if a continuation records such an event before the flow does anything: calls of children go on."""
    kinds = {kind.__name__ for kind in (RunContinued, RunQueued, RunAdmitted)}
    return row.type in kinds or (
        row.type == StepStarted.__name__ and decode_as(StepStarted, row.data).child_run_id is not None
    )
