"""Instances as the journal has them: their events, folded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from operator import index
from typing import Any

from ironflow_nb.core.identity import Digest, RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders.decider_definition import AnyMachine
from ironflow_nb.deciders.instance_changes import InstanceChanges
from ironflow_nb.deciders.store import deciders_of
from ironflow_nb.errors import EventUnreadable, VersionNotFound
from ironflow_nb.execution import EPOCH, JournalAccess
from ironflow_nb.journal.ports import Reader

Stored = tuple[int, int, str, str]


def load(
    decider: AnyMachine, access: JournalAccess, reader: Reader, instance: str, now: int, code: Callable[[], Digest]
) -> InstanceChanges:
    """Return the instance as it is now, or as one that has not begun; `code` is that of `evolve`."""
    row = reader.run_by_key(decider.kind, decider.name, instance)
    if row is None:
        return InstanceChanges(access.new_run_id(), instance, None, 0, now, lambda: (decider.initial, 0))
    head = reader.head(row.run_id)
    assert head is not None
    run_id, version = row.run_id, head[0]

    def fold() -> tuple[Any, int]:
        known = decider.memory.find(access, run_id, version, code())
        return _newest(decider, reader, run_id, instance) if known is None else known

    return InstanceChanges(run_id, instance, row, version, max(now, head[1]), fold)


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
    if version is None and at is None:
        return _newest(decider, reader, run_id, instance)[0]
    events = takewhile(lambda fact: not _is_later(fact, version, at), deciders_of(reader).events_after(run_id, 0))
    return _folded(decider, reader, run_id, instance, decider.initial, [*events])


def _newest(decider: AnyMachine, reader: Reader, run_id: RunId, instance: str) -> tuple[Any, int]:
    """Return the state after the newest event, and the version of the kept one that it was folded from, or 0."""
    state, after = decider.initial, 0
    kept = deciders_of(reader).state(run_id)
    known = None if kept is None else decider.known_state(kept)
    if known is not None and kept is not None:
        state, after = known[0], kept.version
    return _folded(decider, reader, run_id, instance, state, deciders_of(reader).events_after(run_id, after)), after


def _is_later(fact: Stored, version: int | None, at: int | None) -> bool:
    return (version is not None and fact[0] > version) or (at is not None and fact[1] > at)


def _folded(decider: AnyMachine, reader: Reader, run_id: RunId, instance: str, state: Any, events: list[Stored]) -> Any:
    prefix, decode_as, evolve = (
        f"{decider.name}.",
        decider.event_codec.decoder,
        decider.functions[0] or decider.evolve_with,
    )
    decoders: dict[str, Callable[[str], Any] | None] = {}
    for number, _, kind, data in events:
        if kind not in decoders:
            decoders[kind] = decode_as(kind[len(prefix) :]) if kind.startswith(prefix) else None
        decode = decoders[kind]
        if decode is None:
            continue
        try:
            event = decode(data)
        except Exception as error:
            raise _told(decider, reader, run_id, instance, number, kind[len(prefix) :], data) from error
        after = evolve(state, event)
        state = decider.evolve_with(state, event) if after is None else after  # which tells what is wrong with that
    return state


def _told(
    decider: AnyMachine, reader: Reader, run_id: RunId, instance: str, version: int, name: str, data: str
) -> Exception:
    """Return what is the matter with the event of that version."""
    try:
        decider.event_codec.decode(name, data)
    except EventUnreadable as error:
        return unreadable(
            decider.name, instance, _sequence(reader, run_id, f"{decider.name}.", version), version, error
        )
    raise AssertionError(f"{name} can be read now, and could not a moment ago")


def _sequence(reader: Reader, run_id: RunId, prefix: str, version: int) -> int:
    """Return which event of the decider's own that version is, counted from 1."""
    return sum(
        kind.startswith(prefix)
        for number, _, kind, _ in deciders_of(reader).events_after(run_id, 0)
        if number <= version
    )


def unreadable(name: str, instance: str, sequence: int, version: int, error: EventUnreadable) -> EventUnreadable:
    """Return the error with the event that it is about."""
    return EventUnreadable(
        f"event {sequence} of {name} {instance} can't be read: {error}",
        name=name,
        instance=instance,
        sequence=sequence,
        version=version,
    )


def moment(at: int | datetime | None) -> tuple[int | None, int | None]:
    """Return the version, or the instant in microseconds UTC; one without a zone is local.

    Raises:
        TypeError: it is neither.
    """
    if at is None:
        return None, None
    if isinstance(at, datetime):
        return None, (at.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
    if isinstance(at, bool) or not hasattr(at, "__index__"):
        raise TypeError(f"at is a version (a whole number) or an instant (a datetime), not {at!r}")
    return index(at), None


def require_version(decider: AnyMachine, reader: Reader, row: RunRow, version: int | None) -> None:
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
