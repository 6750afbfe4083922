"""The fold of a projection over the events of deciders by position, in batches; a batch is stored in one commit.

Events are read and folded without a lock, so writers go on meanwhile. The commit is refused if another process has
stored a batch first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec

from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.identity import Digest, RunId, digest_bytes
from ironflow_nb.core.status import RunKind
from ironflow_nb.deciders.codec import Codec
from ironflow_nb.deciders.decider_definition import DeciderDefinition
from ironflow_nb.deciders.store import DomainRow, DomainSelect, ProjectionProgress, SkippedEvent, deciders_of
from ironflow_nb.errors import EventUnreadable, JournalConflict, ProjectionFailed, ValueUnreadable
from ironflow_nb.execution import REGISTRY, Engine, JournalAccess, say
from ironflow_nb.journal.ports import Durability, Reader, RunCommit


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionEvent:
    """One event of a decider.

    `sequence` numbers the events of the instance from 1, `position` is that in the journal, `at` is UTC, and `name` is
    that of the event's class.
    """

    decider: str
    instance: str
    sequence: int
    position: int
    at: datetime
    name: str
    _json: str = field(repr=False)
    _codec: Codec | None = field(repr=False, compare=False)

    @property
    def event(self) -> Any:
        """The event as an object of its class.

        Raises:
            EventUnreadable: its decider is not defined here, or the event does not fit its class.
        """
        if self._codec is None:
            raise EventUnreadable(
                f"decider {self.decider} is not defined here; run the cell or import the module that defines it, or "
                "use event.data",
                name=self.decider,
            )
        return self._codec.decode(self.name, self._json)

    @property
    def data(self) -> Any:
        """The stored fields of the event, as plain JSON."""
        return msgspec.json.decode(self._json)


@dataclass(frozen=True, slots=True)
class FoldResult:
    """The state after `n_good` events, and the error of the next one."""

    state: Any
    n_good: int
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """The definition of a projection, without a journal."""

    name: str
    function: Callable[[Any, ProjectionEvent], Any]
    initial: Any
    deciders: frozenset[str] | None
    classes: frozenset[str] | None
    skips: bool
    tracker: Tracker

    def code(self, access: JournalAccess) -> Digest:
        """Return the digest of the current fold: function with its references, initial state, selection of events."""
        chosen = [None if names is None else sorted(names) for names in (self.deciders, self.classes)]
        own = self.tracker.current().digest + access.digester.digest(self.initial).digest
        return digest_bytes(b"projection\0" + own + msgspec.json.encode(chosen))

    def select(self, after: int, limit: int | None = None) -> DomainSelect:
        """Return the selection of events after a position."""
        return DomainSelect(after=after, deciders=self.deciders, classes=self.classes, limit=limit)

    def initial_state(self) -> Any:
        """Return a copy of the state before the first event."""
        return copy.deepcopy(self.initial)

    def fold(self, events: Sequence[ProjectionEvent], initial: Callable[[], Any]) -> FoldResult:
        """Fold the events onto the state that `initial` returns, up to the first that fails.

        A function may change its state in place and leave it half changed when it raises. So the events before the
        failure are folded again, onto a new initial state.
        """
        folded = self._fold_until_error(events, initial())
        error = folded.error
        while folded.error is not None:
            error = folded.error
            folded = self._fold_until_error(events[: folded.n_good], initial())
        return FoldResult(folded.state, folded.n_good, error)

    def _fold_until_error(self, events: Sequence[ProjectionEvent], state: Any) -> FoldResult:
        for n_good, event in enumerate(events):
            try:
                state = self._evolve(state, event)
            except (Exception, SystemExit) as error:  # noqa: BLE001 -- a function of the user raises any error
                return FoldResult(state, n_good, error)
        return FoldResult(state, len(events))

    def _evolve(self, state: Any, event: ProjectionEvent) -> Any:
        following = self.function(state, event)
        if following is None and self.initial is not None:
            raise TypeError(f"projection {self.name} returned None; it has to return the state, changed or not")
        return following

    def failure(self, event: ProjectionEvent, error: BaseException) -> ProjectionFailed:
        """Return the error about an event that could not be folded."""
        return ProjectionFailed(
            f"projection {self.name} could not fold event {event.sequence} of {event.decider} {event.instance} "
            f"({event.name}, position {event.position}): {type(error).__name__}: {error}; it stays before this event: "
            'mend its function, or leave out what it can\'t fold with on_error="skip"',
            projection=self.name,
            position=event.position,
            decider=event.decider,
            instance=event.instance,
            sequence=event.sequence,
        )


def event_of(access: JournalAccess, row: DomainRow) -> ProjectionEvent:
    """Return the event that the function of a projection gets."""
    decider, _, name = row.type.partition(".")
    found = REGISTRY.find(RunKind.DECIDER, decider)
    return ProjectionEvent(
        decider=decider,
        instance=row.instance,
        sequence=row.sequence,
        position=row.position,
        at=access.instant(row.at),
        name=name,
        _json=row.data,
        _codec=found.event_codec if isinstance(found, DeciderDefinition) else None,
    )


BATCH: Final = 500
"""The number of events that are folded for one commit."""
UNWRITTEN: Final = 10_000
"""The number of positions without selected events after which the new position is stored."""


class OutdatedProjection(Exception):
    """Another process folds the projection with other code."""


@dataclass(frozen=True, slots=True)
class _Start:
    """The start of a batch: generation, position and state; `reason` tells why it starts again from the first event."""

    stored: ProjectionProgress | None
    generation: int
    position: int
    state: Callable[[], Any]
    reason: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing of this generation is stored."""
        return self.stored is None or self.stored.generation != self.generation


@dataclass(frozen=True, slots=True)
class _Batch:
    """A start, the next events, and the position that they reach, all read at one moment."""

    start: _Start
    code: Digest
    rows: list[DomainRow]
    reached: int


class Projector:
    """A projection on one engine."""

    def __init__(self, engine: Engine, fold: Fold) -> None:
        self.engine = engine
        self._access = engine.access
        self._fold = fold
        self._seen = (0, 0)  # generation, and a position up to which all is folded
        self._own_code: Digest | None = None

    def rebuild(self) -> None:
        """Fold all events again from the first."""
        self.step(from_start=True)
        self.catch_up()

    def catch_up(self) -> None:
        """Fold all committed events.

        Raises:
            ProjectionFailed: an event could not be folded.
        """
        while self.step():
            pass

    def step(self, *, from_start: bool = False, stops_if_outdated: bool = False) -> bool:
        """Fold the next batch, or the first one if `from_start`; return True if there may be more.

        Raises:
            ProjectionFailed: an event could not be folded; the state before it is stored.
            OutdatedProjection: with `stops_if_outdated`, another process has started it again with other code.
        """
        batch = self._read_batch(from_start=from_start, stops_if_outdated=stops_if_outdated)
        events = [event_of(self._access, row) for row in batch.rows]
        folded = self._fold.fold(events, batch.start.state) if events or batch.start.is_new else None
        try:
            failure = self._write_batch(batch, events, folded)
        except JournalConflict:  # another process was faster: read again
            return not from_start or self.step(from_start=True)
        self._own_code = batch.code
        if failure is not None and not self._fold.skips:
            raise failure from failure.__cause__
        return failure is not None or len(batch.rows) == BATCH

    # -- reading -------------------------------------------------------------------------------------------------

    def _read_batch(self, *, from_start: bool, stops_if_outdated: bool) -> _Batch:
        code = self._fold.code(self._access)
        with self._access.journal.reading() as reader:
            stored = deciders_of(reader).projection(self._fold.name)
            if stops_if_outdated and stored is not None and stored.code != code == self._own_code:
                raise OutdatedProjection
            start = self._start(stored, code, from_start=from_start)
            rows = self._read_events(reader, start)
            if rows and not start.is_new:
                start = self._with_state(reader, start)
                rows = rows if not start.is_new else self._read_events(reader, start)
            reached = rows[-1].position if len(rows) == BATCH else reader.last_position()
        return _Batch(start, code, rows, reached)

    def _read_events(self, reader: Reader, start: _Start) -> list[DomainRow]:
        generation, seen = self._seen
        after = max(start.position, seen if generation == start.generation else 0)
        return deciders_of(reader).domain_events(self._fold.select(after, BATCH))

    def _start(self, stored: ProjectionProgress | None, code: Digest, *, from_start: bool) -> _Start:
        initial = self._fold.initial_state
        if stored is None:
            return _Start(None, 1, 0, initial)
        if from_start or stored.code != code:
            reason = None if from_start else "its code has changed"
            return _Start(stored, stored.generation + 1, 0, initial, reason)
        return _Start(stored, stored.generation, stored.position, initial)

    def _with_state(self, reader: Reader, start: _Start) -> _Start:
        """Return the start with the stored state, or a start from the first event if that can't be read."""
        content = deciders_of(reader).projection_state(self._fold.name)
        assert content is not None
        decode = partial(self._access.values.decode, content)
        try:
            first = [decode()]
        except ValueUnreadable as error:
            reason = f"its state can't be read ({error})"
            return _Start(start.stored, start.generation + 1, 0, self._fold.initial_state, reason)
        return replace(start, state=lambda: first.pop() if first else decode())

    def state(self) -> Any:
        """Return the stored state, or the initial one."""
        with self._access.journal.reading() as reader:
            content = deciders_of(reader).projection_state(self._fold.name)
        return self._fold.initial_state() if content is None else self._access.values.decode(content)

    # -- writing -------------------------------------------------------------------------------------------------

    def _write_batch(
        self, batch: _Batch, events: list[ProjectionEvent], folded: FoldResult | None
    ) -> ProjectionFailed | None:
        start, stored = batch.start, batch.start.stored
        if folded is None or (stored is None and not events):
            self._write_position(batch)
            return None
        failure = None
        position = batch.reached
        skipped: tuple[SkippedEvent, ...] = ()
        if folded.error is not None:
            failed = events[folded.n_good]
            failure = self._fold.failure(failed, folded.error)
            failure.__cause__ = folded.error
            position, skipped = self._after_failure(start, events, folded)
            is_known = not start.is_new and stored is not None and stored.error == str(failure)
            if is_known and not skipped and folded.n_good == 0:
                return failure  # else every further attempt would be a commit
        self._commit(
            batch,
            ProjectionProgress(
                name=self._fold.name,
                generation=start.generation,
                position=position,
                code=batch.code,
                updated_at=self._access.clock.now(),
                error=str(failure) if failure is not None and not skipped else None,
                state=self._access.values.encode(folded.state),
                skipped=skipped,
                before=None if stored is None else stored.place,
            ),
        )
        return failure

    def _after_failure(
        self, start: _Start, events: list[ProjectionEvent], folded: FoldResult
    ) -> tuple[int, tuple[SkippedEvent, ...]]:
        """Return the position after a failure, and the skipped event, if failures are skipped."""
        failed, error = events[folded.n_good], folded.error
        if not self._fold.skips:
            return (events[folded.n_good - 1].position if folded.n_good else start.position), ()
        skipped = SkippedEvent(
            name=self._fold.name,
            position=failed.position,
            decider=failed.decider,
            instance=failed.instance,
            sequence=failed.sequence,
            event=failed.name,
            error=f"{type(error).__name__}: {error}",
            at=self._access.clock.now(),
        )
        return failed.position, (skipped,)

    def _write_position(self, batch: _Batch) -> None:
        """Remember that nothing is to be folded up to here. Store it only if much would be read again otherwise."""
        stored = batch.start.stored
        self._seen = (batch.start.generation, batch.reached)
        if stored is not None and batch.reached - stored.position >= UNWRITTEN:
            moved = ProjectionProgress(
                name=stored.name,
                generation=stored.generation,
                position=batch.reached,
                code=batch.code,
                updated_at=self._access.clock.now(),
                before=stored.place,
            )
            self._commit(batch, moved)

    def _commit(self, batch: _Batch, projected: ProjectionProgress) -> None:
        # Events lost from the state by a power cut are folded again, so the commit need not wait for the disk.
        n_bytes = 0 if projected.state is None else projected.state.size
        commit = RunCommit(run_id=RunId(""), events=(), additions=(projected,), n_bytes=n_bytes)
        self._access.append([commit], Durability.PROCESS)
        self._seen = projected.place
        if batch.start.reason is not None:
            say(f"projection {self._fold.name}: {batch.start.reason}; it is folded again from the beginning")
