"""Instances as the journal has them: their events, folded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ironflow_nb.core.ids import RunId
from ironflow_nb.deciders.draft import Draft
from ironflow_nb.deciders.machine import AnyMachine
from ironflow_nb.errors import EventUnreadable
from ironflow_nb.execution.ledger import EPOCH, Ledger
from ironflow_nb.journal.ports import Reader


def load(decider: AnyMachine, ledger: Ledger, reader: Reader, instance: str, now: int) -> Draft:
    """Return the instance as it is now, or as one that has not begun."""
    row = reader.run_by_key(decider.kind, decider.name, instance)
    if row is None:
        return Draft(ledger.new_run_id(), instance, None, 0, now, lambda: decider.initial)
    head = reader.head(row.run_id)
    assert head is not None
    fold = partial(state_at, decider, reader, row.run_id, instance)
    return Draft(row.run_id, instance, row, head[0], max(now, head[1]), fold)


def state_at(
    decider: AnyMachine,
    reader: Reader,
    run_id: RunId,
    instance: str,
    *,
    version: int | None = None,
    at: int | None = None,
) -> Any:
    """Return the state after the newest event, or after that of a version or instant.

    Raises:
        EventUnreadable: an event does not fit its class; `sequence` counts the decider's own events from 1.
    """
    state, after = decider.initial, 0
    if version is None and at is None:
        kept = reader.state(run_id)
        known = None if kept is None else decider.known_state(kept)
        if known is not None and kept is not None:
            state, after = known[0], kept.version
    prefix, decode, evolve = f"{decider.name}.", decider.event_codec.decode, decider.evolve_with
    for number, happened_at, kind, data in reader.facts_after(run_id, after):
        if (version is not None and number > version) or (at is not None and happened_at > at):
            break
        if kind.startswith(prefix):
            try:
                event = decode(kind[len(prefix) :], data)
            except EventUnreadable as error:
                raise unreadable(decider.name, instance, _sequence(reader, run_id, prefix, number), error) from error
            state = evolve(state, event)
    return state


def _sequence(reader: Reader, run_id: RunId, prefix: str, version: int) -> int:
    """Return which event of the decider's own that version is, counted from 1."""
    return sum(kind.startswith(prefix) for number, _, kind, _ in reader.facts_after(run_id, 0) if number <= version)


def unreadable(name: str, instance: str, sequence: int, error: EventUnreadable) -> EventUnreadable:
    """Return the error with the event that it is about."""
    return EventUnreadable(
        f"event {sequence} of {name} {instance} can't be read: {error}", name=name, instance=instance, sequence=sequence
    )


def as_microseconds(at: datetime) -> int:
    """Return the instant in microseconds UTC; one without a zone is local."""
    return (at.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
