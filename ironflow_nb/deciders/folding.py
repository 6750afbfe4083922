"""What a projection is made of: a fold over the events of deciders, in the order of all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.ids import Digest
from ironflow_nb.deciders.codec import Codec
from ironflow_nb.deciders.machine import Machine
from ironflow_nb.deciders.store import DECIDER, DomainRow, DomainSelect
from ironflow_nb.errors import EventUnreadable, ProjectionFailed
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.ledger import Ledger
from ironflow_nb.tracking.tracker import Tracker


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
class Folded:
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

    def code(self, ledger: Ledger) -> Digest:
        """Return the identity of what folds now: the function and what it refers to, the beginning, the events."""
        chosen = [None if names is None else sorted(names) for names in (self.deciders, self.classes)]
        own = self.tracker.current().digest + ledger.digester.digest(self.initial).digest
        return digest_bytes(b"projection\0" + own + msgspec.json.encode(chosen))

    def select(self, after: int, limit: int | None = None) -> DomainSelect:
        """Return which events are folded after a position."""
        return DomainSelect(after=after, deciders=self.deciders, classes=self.classes, limit=limit)

    def beginning(self) -> Any:
        """Return the state before the first event, which nobody else has."""
        return copy.deepcopy(self.initial)

    def over(self, events: Sequence[ProjectionEvent], beginning: Callable[[], Any]) -> Folded:
        """Fold the events onto what `beginning` returns, as far as none fails.

        A function may change its state in place, and leave it half changed when it raises. So what went well is folded
        once more, onto a new beginning.
        """
        folded = self._over(events, beginning())
        error = folded.error
        while folded.error is not None:
            error = folded.error
            folded = self._over(events[: folded.n_good], beginning())
        return Folded(folded.state, folded.n_good, error)

    def _over(self, events: Sequence[ProjectionEvent], state: Any) -> Folded:
        for n_good, event in enumerate(events):
            try:
                state = self._next(state, event)
            except Exception as error:  # noqa: BLE001 -- a function of the user raises what it likes
                return Folded(state, n_good, error)
        return Folded(state, len(events))

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


def event_of(ledger: Ledger, row: DomainRow) -> ProjectionEvent:
    """Return the event as it is handed to projections."""
    decider, _, name = row.type.partition(".")
    found = HOME.find(DECIDER, decider)
    return ProjectionEvent(
        decider=decider,
        instance=row.instance,
        sequence=row.sequence,
        position=row.position,
        at=ledger.instant(row.at),
        name=name,
        _json=row.data,
        _codec=found.event_codec if isinstance(found, Machine) else None,
    )
