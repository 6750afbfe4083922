"""Folding in batches: events are read and folded beside whoever writes, and what came of them is one commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from ironflow_nb.core.ids import Digest, RunId
from ironflow_nb.deciders.folding import Fold, Folded, ProjectionEvent, event_of
from ironflow_nb.deciders.store import DomainRow, Projected, Skipped, deciders_of
from ironflow_nb.errors import JournalConflict, ProjectionFailed, ValueUnreadable
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.surroundings import say
from ironflow_nb.journal.ports import Durability, Entry, Reader

BATCH: Final = 500
"""So many events are folded in one transaction."""
UNWRITTEN: Final = 10_000
"""So many events that are not the projection's own may lie behind its position before that is written."""


class Outdated(Exception):
    """Somebody else folds the projection with other code."""


@dataclass(frozen=True, slots=True)
class _Start:
    """From where a batch goes on, and why from the beginning if so."""

    stored: Projected | None
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
        self._ledger = engine.ledger
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
        events = [event_of(self._ledger, row) for row in batch.rows]
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
        code = self._fold.code(self._ledger)
        with self._ledger.journal.reading() as reader:
            stored = deciders_of(reader).projection(self._fold.name)
            if gives_way and stored is not None and stored.code != code == self._own_code:
                raise Outdated
            start = self._start(stored, code, afresh=afresh)
            rows = self._rows(reader, start)
            if rows and not start.is_new:
                start = self._with_state(reader, start)
                rows = rows if not start.is_new else self._rows(reader, start)
            reached = rows[-1].position if len(rows) == BATCH else deciders_of(reader).last_position()
        return _Batch(start, code, rows, reached)

    def _rows(self, reader: Reader, start: _Start) -> list[DomainRow]:
        generation, seen = self._seen
        after = max(start.position, seen if generation == start.generation else 0)
        return deciders_of(reader).domain_events(self._fold.select(after, BATCH))

    def _start(self, stored: Projected | None, code: Digest, *, afresh: bool) -> _Start:
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
        decode = partial(self._ledger.values.decode, content)
        try:
            first = [decode()]
        except ValueUnreadable as error:
            because = f"its state can't be read ({error})"
            return _Start(start.stored, start.generation + 1, 0, self._fold.beginning, because)
        return replace(start, state=lambda: first.pop() if first else decode())

    def state(self) -> Any:
        """Return the state as it is stored, or the initial one."""
        with self._ledger.journal.reading() as reader:
            content = deciders_of(reader).projection_state(self._fold.name)
        return self._fold.beginning() if content is None else self._ledger.values.decode(content)

    # -- writing -------------------------------------------------------------------------------------------------

    def _write(self, batch: _Batch, events: list[ProjectionEvent], folded: Folded | None) -> ProjectionFailed | None:
        start, stored = batch.start, batch.start.stored
        if folded is None or (stored is None and not events):
            self._pass_over(batch)
            return None
        failure = None
        position = batch.reached
        skipped: tuple[Skipped, ...] = ()
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
            Projected(
                name=self._fold.name,
                generation=start.generation,
                position=position,
                code=batch.code,
                updated_at=self._ledger.clock.now(),
                error=str(failure) if failure is not None and not skipped else None,
                state=self._ledger.values.encode(folded.state),
                skipped=skipped,
                before=None if stored is None else stored.place,
            ),
        )
        return failure

    def _after_failure(
        self, start: _Start, events: list[ProjectionEvent], folded: Folded
    ) -> tuple[int, tuple[Skipped, ...]]:
        """Return the position after a failure, and what is skipped by it."""
        failed, error = events[folded.n_good], folded.error
        if not self._fold.skips:
            return (events[folded.n_good - 1].position if folded.n_good else start.position), ()
        skipped = Skipped(
            name=self._fold.name,
            position=failed.position,
            decider=failed.decider,
            instance=failed.instance,
            sequence=failed.sequence,
            event=failed.name,
            error=f"{type(error).__name__}: {error}",
            at=self._ledger.clock.now(),
        )
        return failed.position, (skipped,)

    def _pass_over(self, batch: _Batch) -> None:
        """Note that there is nothing to fold so far; in the journal only where it would be much to read again."""
        stored = batch.start.stored
        self._seen = (batch.start.generation, batch.reached)
        if stored is not None and batch.reached - stored.position >= UNWRITTEN:
            moved = Projected(
                name=stored.name,
                generation=stored.generation,
                position=batch.reached,
                code=batch.code,
                updated_at=self._ledger.clock.now(),
                before=stored.place,
            )
            self._commit(batch, moved)

    def _commit(self, batch: _Batch, projected: Projected) -> None:
        # What a power cut takes of it is folded again, so it need not wait for the disk.
        self._ledger.append([Entry(run_id=RunId(""), facts=(), additions=(projected,))], Durability.PROCESS)
        self._seen = projected.place
        if batch.start.because is not None:
            say(f"projection {self._fold.name}: {batch.start.because}; it is folded again from the beginning")
