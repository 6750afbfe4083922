"""What the history of a decider tells about its transitions: every command that was decided was written down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders.commands import EFFECT, TIMER
from ironflow_nb.deciders.decider_definition import AnyMachine
from ironflow_nb.deciders.store import Observation
from ironflow_nb.deciders.transitions import Key, Sighting, Transition
from ironflow_nb.errors import EventUnreadable
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, Select

N_SAMPLES: Final = 3
"""So many different commands of one class are tried again when the machine is explored; the newest."""

_ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedInstance:
    """One instance, and where it stands."""

    instance: str
    run_id: RunId
    status: str
    is_completed: bool
    has_effects: bool
    """Whether something is still to be performed for it."""
    n_dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedHistory:
    """What was seen of a decider: its transitions, and its instances in the order of their beginning."""

    sightings: tuple[Sighting, ...] = ()
    residents: tuple[ObservedInstance, ...] = ()
    commands: frozenset[str] = frozenset()
    ended_in: frozenset[str] = frozenset()
    """The statuses in which instances were completed."""


def past_of(machine: AnyMachine, reader: Reader, observations: Sequence[Observation]) -> ObservedHistory:
    """Return what was seen."""
    rows = reader.runs(Select(kind=machine.kind, name=machine.name, is_full_name=True))
    work = reader.work(QueueSelect(of=[(machine.kind, machine.name)]))
    residents = _residents(machine, rows, work, observations)
    return ObservedHistory(
        sightings=_sightings(machine, observations),
        residents=residents,
        commands=frozenset(each.command for each in observations),
        ended_in=frozenset(each.status for each in residents if each.is_completed),
    )


def _sightings(machine: AnyMachine, observations: Iterable[Observation]) -> tuple[Sighting, ...]:
    # A history is long, and says the same mostly: it is counted before it is read.
    counted: dict[tuple[Key, str, str], tuple[int, int]] = {}
    for each in observations:
        if each.outcome == _ACCEPTED:
            said = _key(machine, each), each.effects, each.timers
            n_before, last_at = counted.get(said, (0, 0))
            counted[said] = n_before + 1, max(last_at, each.at)
    found: dict[Key, Sighting] = {}
    for (key, effects, timers), (n_seen, last_at) in counted.items():
        known = found.get(key) or Sighting(Transition(*key), 0, 0)
        found[key] = Sighting(
            known.transition.with_more(_decoded(effects), _decoded(timers)),
            known.n_seen + n_seen,
            max(known.last_at, last_at),
        )
    return tuple(found.values())


def _decoded(names: str) -> list[str]:
    return msgspec.json.decode(names, type=list[str])


def _key(machine: AnyMachine, observation: Observation) -> Key:
    source = observation.status_before
    if source is None:  # there was no instance before its first command
        source = machine.status_of(machine.initial)
    return source, observation.command, observation.status_after or source


def way_of(machine: AnyMachine, observations: Iterable[Observation], instance: str) -> tuple[Key, ...]:
    """Return the transitions of one instance in order."""
    mine = (each for each in observations if each.instance == instance and each.outcome == _ACCEPTED)
    return tuple(_key(machine, each) for each in mine)


def _residents(
    machine: AnyMachine, rows: Sequence[RunRow], work: Sequence[QueueItem], observations: Iterable[Observation]
) -> tuple[ObservedInstance, ...]:
    statuses = {each.instance: _key(machine, each)[2] for each in observations if each.outcome == _ACCEPTED}
    initial = machine.status_of(machine.initial)
    pending = {each.run_id for each in work if each.kind == EFFECT and each.dead_at is None}
    dead = [each.run_id for each in work if each.kind in {EFFECT, TIMER} and each.dead_at is not None]
    return tuple(
        ObservedInstance(
            instance=row.key or "",
            run_id=row.run_id,
            status=statuses.get(row.key or "", initial),
            is_completed=row.ended_at is not None,
            has_effects=row.run_id in pending,
            n_dead=dead.count(row.run_id) if dead else 0,
        )
        for row in reversed(rows)
    )


def samples_of(machine: AnyMachine, observations: Sequence[Observation]) -> tuple[Any, ...]:
    """Return the newest commands of every class that can be read here, each once."""
    chosen: dict[str, dict[str, None]] = {}
    for each in reversed(observations):
        of_class = chosen.setdefault(each.command, {})
        if len(of_class) < N_SAMPLES:
            of_class.setdefault(each.data)
    found = []
    for name in sorted(chosen):
        for data in chosen[name]:
            try:
                found.append(machine.command_codec.decode(name, data))
            except EventUnreadable:  # its class is gone, or has changed: it can't be tried
                continue
    return tuple(found)
