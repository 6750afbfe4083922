"""Folding in batches: events are read and folded beside whoever writes, and what came of them is one commit.

What a projection is made of: a fold over the events of deciders, in the order of all of them.
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
    """One event of a decider with its place.

    `sequence` counts the events of its instance from 1, `position` those of the whole journal, `at` is UTC, and `name`
    is that of the event's class.
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
        """The fields of the event as they are stored, which is as plain JSON."""
        return msgspec.json.decode(self._json)


@dataclass(frozen=True, slots=True)
class FoldResult:
    """How far a fold over some events came: the state after `n_good` of them, and what the next one raised."""

    state: Any
    n_good: int
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A projection, without any journal."""

    name: str
    function: Callable[[Any, ProjectionEvent], Any]
    initial: Any
    deciders: frozenset[str] | None
    classes: frozenset[str] | None
    skips: bool
    tracker: Tracker

    def code(self, access: JournalAccess) -> Digest:
        """Return the identity of what folds now: the function and what it refers to, the beginning, the events."""
        chosen = [None if names is None else sorted(names) for names in (self.deciders, self.classes)]
        own = self.tracker.current().digest + access.digester.digest(self.initial).digest
        return digest_bytes(b"projection\0" + own + msgspec.json.encode(chosen))

    def select(self, after: int, limit: int | None = None) -> DomainSelect:
        """Return which events are folded after a position."""
        return DomainSelect(after=after, deciders=self.deciders, classes=self.classes, limit=limit)

    def beginning(self) -> Any:
        """Return the state before the first event, which nobody else has."""
        return copy.deepcopy(self.initial)

    def over(self, events: Sequence[ProjectionEvent], beginning: Callable[[], Any]) -> FoldResult:
        """Fold the events onto what `beginning` returns, as far as none fails.

        A function may change its state in place, and leave it half changed when it raises. So what went well is folded
        once more, onto a new beginning.
        """
        folded = self._over(events, beginning())
        error = folded.error
        while folded.error is not None:
            error = folded.error
            folded = self._over(events[: folded.n_good], beginning())
        return FoldResult(folded.state, folded.n_good, error)

    def _over(self, events: Sequence[ProjectionEvent], state: Any) -> FoldResult:
        for n_good, event in enumerate(events):
            try:
                state = self._next(state, event)
            except Exception as error:  # noqa: BLE001 -- a function of the user raises what it likes
                return FoldResult(state, n_good, error)
        return FoldResult(state, len(events))

    def _next(self, state: Any, event: ProjectionEvent) -> Any:
        following = self.function(state, event)
        if following is None and self.initial is not None:
            raise TypeError(f"projection {self.name} returned None; it has to return the state, changed or not")
        return following

    def failure(self, event: ProjectionEvent, error: Exception) -> ProjectionFailed:
        """Return the error that says which event could not be folded."""
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
    """Return the event as it is handed to projections."""
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
"""So many events are folded in one transaction."""
UNWRITTEN: Final = 10_000
"""So many events that are not the projection's own may lie behind its position before that is written."""


class OutdatedProjection(Exception):
    """Somebody else folds the projection with other code."""


@dataclass(frozen=True, slots=True)
class _Start:
    """From where a batch goes on, and why from the beginning if so."""

    stored: ProjectionProgress | None
    generation: int
    position: int
    state: Callable[[], Any]
    because: str | None = None

    @property
    def is_new(self) -> bool:
        """Tell whether there is nothing yet of this generation."""
        return self.stored is None or self.stored.generation != self.generation


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is read at one moment: where to go on, the next events, and how far they reach."""

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
        self._seen = (0, 0)  # of a generation: up to where there is nothing else to fold
        self._own_code: Digest | None = None

    def rebuild(self) -> None:
        """Fold everything again from the beginning."""
        self.step(afresh=True)
        self.catch_up()

    def catch_up(self) -> None:
        """Fold all there is.

        Raises:
            ProjectionFailed: an event could not be folded.
        """
        while self.step():
            pass

    def step(self, *, afresh: bool = False, gives_way: bool = False) -> bool:
        """Fold the next batch, or the first one; tell whether there may be more.

        Raises:
            ProjectionFailed: an event could not be folded; what came before it is stored.
            Outdated: with `gives_way`, somebody else began it again with other code than that of here.
        """
        batch = self._read(afresh=afresh, gives_way=gives_way)
        events = [event_of(self._access, row) for row in batch.rows]
        folded = self._fold.over(events, batch.start.state) if events or batch.start.is_new else None
        try:
            failure = self._write(batch, events, folded)
        except JournalConflict:  # somebody else was faster: what is there now is read again
            return not afresh or self.step(afresh=True)
        self._own_code = batch.code
        if failure is not None and not self._fold.skips:
            raise failure from failure.__cause__
        return failure is not None or len(batch.rows) == BATCH

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, *, afresh: bool, gives_way: bool) -> _Batch:
        code = self._fold.code(self._access)
        with self._access.journal.reading() as reader:
            stored = deciders_of(reader).projection(self._fold.name)
            if gives_way and stored is not None and stored.code != code == self._own_code:
                raise OutdatedProjection
            start = self._start(stored, code, afresh=afresh)
            rows = self._rows(reader, start)
            if rows and not start.is_new:
                start = self._with_state(reader, start)
                rows = rows if not start.is_new else self._rows(reader, start)
            reached = rows[-1].position if len(rows) == BATCH else reader.last_position()
        return _Batch(start, code, rows, reached)

    def _rows(self, reader: Reader, start: _Start) -> list[DomainRow]:
        generation, seen = self._seen
        after = max(start.position, seen if generation == start.generation else 0)
        return deciders_of(reader).domain_events(self._fold.select(after, BATCH))

    def _start(self, stored: ProjectionProgress | None, code: Digest, *, afresh: bool) -> _Start:
        beginning = self._fold.beginning
        if stored is None:
            return _Start(None, 1, 0, beginning)
        if afresh or stored.code != code:
            because = None if afresh else "its code has changed"
            return _Start(stored, stored.generation + 1, 0, beginning, because)
        return _Start(stored, stored.generation, stored.position, beginning)

    def _with_state(self, reader: Reader, start: _Start) -> _Start:
        """Return the start with the state that is stored, or the very first one if that can't be read."""
        content = deciders_of(reader).projection_state(self._fold.name)
        assert content is not None
        decode = partial(self._access.values.decode, content)
        try:
            first = [decode()]
        except ValueUnreadable as error:
            because = f"its state can't be read ({error})"
            return _Start(start.stored, start.generation + 1, 0, self._fold.beginning, because)
        return replace(start, state=lambda: first.pop() if first else decode())

    def state(self) -> Any:
        """Return the state as it is stored, or the initial one."""
        with self._access.journal.reading() as reader:
            content = deciders_of(reader).projection_state(self._fold.name)
        return self._fold.beginning() if content is None else self._access.values.decode(content)

    # -- writing -------------------------------------------------------------------------------------------------

    def _write(
        self, batch: _Batch, events: list[ProjectionEvent], folded: FoldResult | None
    ) -> ProjectionFailed | None:
        start, stored = batch.start, batch.start.stored
        if folded is None or (stored is None and not events):
            self._pass_over(batch)
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
                return failure  # every further attempt would be a commit
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
        """Return the position after a failure, and what is skipped by it."""
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

    def _pass_over(self, batch: _Batch) -> None:
        """Note that there is nothing to fold so far; in the journal only where it would be much to read again."""
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
        # What a power cut takes of it is folded again, so it need not wait for the disk.
        self._access.append([RunCommit(run_id=RunId(""), events=(), additions=(projected,))], Durability.PROCESS)
        self._seen = projected.place
        if batch.start.because is not None:
            say(f"projection {self._fold.name}: {batch.start.because}; it is folded again from the beginning")
