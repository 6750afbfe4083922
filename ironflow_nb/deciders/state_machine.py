"""A decider as a state machine: its transitions from declaration, history, exploration and source, and its faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders.commands import WorkKind
from ironflow_nb.deciders.decider_definition import AnyDecider
from ironflow_nb.deciders.decisions import OutcomeKind
from ironflow_nb.deciders.possible_transitions import ExplorationResult, Explorer, SourceTransition, source_transitions
from ironflow_nb.deciders.store import Observation, deciders_of
from ironflow_nb.deciders.transitions import Key, MergedTransition, ObservedTransition, Transition, merge_transitions
from ironflow_nb.errors import EventUnreadable
from ironflow_nb.execution import Engine
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, Select

if TYPE_CHECKING:
    import pandas as pd

N_SAMPLES: Final = 3
"""The number of recorded commands of one class that are samples for the exploration: the newest different ones."""

DRIFT: Final = {
    "drift": TEXT, "source": TEXT, "command": TEXT, "target": TEXT, "n_seen": "int64", "last_seen_at": INSTANT,
    "effects": "object", "timers": "object",
}  # fmt: skip
FINDINGS: Final = {"finding": TEXT, "status": TEXT, "command": TEXT, "message": TEXT}


class Drift(StrEnum):
    """The differences between declaration and machine, in the order of `drift`."""

    NOT_DECLARED = "seen, not declared"
    POSSIBLE = "possible, not declared"
    NEVER_SEEN = "declared, never seen"


class Fault(StrEnum):
    """The faults of a state machine that `validate` finds."""

    UNKNOWN_STATE = "unknown state"
    UNREACHABLE_STATE = "unreachable state"
    TERMINAL_WITH_EXIT = "terminal state with an exit"
    DEAD_END = "dead end"
    NEVER_ACCEPTED = "command never accepted"


Finding: TypeAlias = tuple[Fault, str | None, str | None, str]
"""Fault, status, command and message."""


# -- history -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedInstance:
    """One instance with its status."""

    instance_id: str
    status: str
    is_completed: bool
    has_effects: bool
    """Whether effects are still to be performed."""
    n_dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedHistory:
    """The recorded transitions of a decider, and its instances from the oldest to the newest."""

    transitions: tuple[ObservedTransition, ...] = ()
    instances: tuple[ObservedInstance, ...] = ()
    commands: frozenset[str] = frozenset()
    ended_in: frozenset[str] = frozenset()
    """The statuses of completed instances."""


def observed_history(decider: AnyDecider, reader: Reader, observations: Sequence[Observation]) -> ObservedHistory:
    """Return the history of a decider from its observations, runs and work."""
    rows = reader.runs(Select(kind=decider.kind, name=decider.name, is_full_name=True))
    work = reader.work(QueueSelect(of=[(decider.kind, decider.name)]))
    instances = _observed_instances(decider, rows, work, observations)
    return ObservedHistory(
        transitions=_observed_transitions(decider, observations),
        instances=instances,
        commands=frozenset(each.command for each in observations),
        ended_in=frozenset(each.status for each in instances if each.is_completed),
    )


def _observed_transitions(decider: AnyDecider, observations: Iterable[Observation]) -> tuple[ObservedTransition, ...]:
    # A history is long and mostly repeats itself: equal rows are counted before their JSON is decoded.
    counted: dict[tuple[Key, str, str], tuple[int, int]] = {}
    for each in observations:
        if each.outcome == OutcomeKind.ACCEPTED:
            row = _key(decider, each), each.effects, each.timers
            n_before, last_at = counted.get(row, (0, 0))
            counted[row] = n_before + 1, max(last_at, each.at)
    found: dict[Key, ObservedTransition] = {}
    for (key, effects, timers), (n_seen, last_at) in counted.items():
        known = found.get(key) or ObservedTransition(Transition(*key), 0, 0)
        found[key] = ObservedTransition(
            known.transition.with_more(_decode_names(effects), _decode_names(timers)),
            known.n_seen + n_seen,
            max(known.last_at, last_at),
        )
    return tuple(found.values())


def _decode_names(names: str) -> list[str]:
    return msgspec.json.decode(names, type=list[str])


def _key(decider: AnyDecider, observation: Observation) -> Key:
    source = observation.status_before
    if source is None:  # the first command of an instance
        source = decider.status_of(decider.initial)
    return source, observation.command, observation.status_after or source


def path_of(decider: AnyDecider, observations: Iterable[Observation], instance: str) -> tuple[Key, ...]:
    """Return the transitions of one instance in order."""
    mine = (each for each in observations if each.instance == instance and each.outcome == OutcomeKind.ACCEPTED)
    return tuple(_key(decider, each) for each in mine)


def _observed_instances(
    decider: AnyDecider, rows: Sequence[RunRow], work: Sequence[QueueItem], observations: Iterable[Observation]
) -> tuple[ObservedInstance, ...]:
    statuses = {each.instance: _key(decider, each)[2] for each in observations if each.outcome == OutcomeKind.ACCEPTED}
    initial = decider.status_of(decider.initial)
    pending = {each.run_id for each in work if each.kind == WorkKind.EFFECT and each.dead_at is None}
    dead = [each.run_id for each in work if each.kind in {WorkKind.EFFECT, WorkKind.TIMER} and each.dead_at is not None]
    return tuple(
        ObservedInstance(
            instance_id=row.key or "",
            status=statuses.get(row.key or "", initial),
            is_completed=row.ended_at is not None,
            has_effects=row.run_id in pending,
            n_dead=dead.count(row.run_id) if dead else 0,
        )
        for row in reversed(rows)
    )


def recorded_samples(decider: AnyDecider, observations: Sequence[Observation]) -> tuple[Any, ...]:
    """Return the newest recorded commands of every class, each once. Commands that can't be decoded are left out."""
    chosen: dict[str, dict[str, None]] = {}
    for each in reversed(observations):
        of_class = chosen.setdefault(each.command, {})
        if len(of_class) < N_SAMPLES:
            of_class.setdefault(each.data)
    found = []
    for name in sorted(chosen):
        for data in chosen[name]:
            try:
                found.append(decider.command_codec.decode(name, data))
            except EventUnreadable:  # its class is gone or has changed
                continue
    return tuple(found)


# -- the machine ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StateMachine:
    """Everything that is known of a machine at one moment. `path` holds the transitions of one instance in order."""

    name: str
    initial: str
    arrows: tuple[MergedTransition, ...]
    is_declared: bool
    named_terminal: tuple[str, ...]
    commands: tuple[str, ...]
    history: ObservedHistory
    explored: ExplorationResult
    hints: tuple[SourceTransition, ...] = ()
    path: tuple[Key, ...] = ()

    @cached_property
    def statuses(self) -> tuple[str, ...]:
        """Every status: first the reachable ones, nearest first, then the others."""
        ends = (end for arrow in self.arrows for end in (arrow.transition.source, arrow.transition.target))
        occupied = (instance.status for instance in self.history.instances)
        return tuple(dict.fromkeys((*self._reached, *ends, *occupied, *self.explored.statuses, *self.named_terminal)))

    @cached_property
    def reachable(self) -> frozenset[str]:
        """The statuses to which transitions lead from the initial one; hints of the source count."""
        return frozenset(self._reached)

    @cached_property
    def _reached(self) -> list[str]:
        leaving: dict[str, list[str]] = {}
        for arrow in self.arrows:
            leaving.setdefault(arrow.transition.source, []).append(arrow.transition.target)
        return _by_level(self.initial, leaving)

    @property
    def terminal(self) -> frozenset[str]:
        """The known statuses in which an instance decides nothing any more."""
        return frozenset(self.named_terminal) | self.explored.terminal | self.history.ended_in


def _by_level(initial: str, leaving: dict[str, list[str]]) -> list[str]:
    """Return the reachable statuses, nearest first."""
    found = {initial: None}
    level = [initial]
    while level:
        level = [target for source in level for target in leaving.get(source, ()) if target not in found]
        found |= dict.fromkeys(level)
        level = list(dict.fromkeys(level))
    return list(found)


def state_machine_of(
    engine: Engine, decider: AnyDecider, explorer: Explorer, *, samples: Iterable[Any] = (), instance: str | None = None
) -> StateMachine:
    """Read the history, explore the decider, read its source, and return the machine of all of them."""
    with engine.reading() as reader:
        observations = deciders_of(reader).observations(decider.name)
        history = observed_history(decider, reader, observations)
    tried = (*decider.samples, *samples, *recorded_samples(decider, observations))
    explored = explorer.explored(decider, tried, engine.access.instant(engine.clock.now()))
    hints = source_transitions(decider)
    arrows = merge_transitions(
        declared=decider.transitions,
        seen=history.transitions,
        explored=explored.transitions,
        hints=[each.transition for each in hints if each.transition is not None],
    )
    return StateMachine(
        name=decider.name,
        initial=decider.status_of(decider.initial),
        arrows=arrows,
        is_declared=bool(decider.transitions),
        named_terminal=decider.terminal_statuses,
        commands=_commands(decider, arrows, history, explored, hints),
        history=history,
        explored=explored,
        hints=hints,
        path=() if instance is None else path_of(decider, observations, instance),
    )


def _commands(
    decider: AnyDecider,
    arrows: Sequence[MergedTransition],
    history: ObservedHistory,
    explored: ExplorationResult,
    hints: Sequence[SourceTransition],
) -> tuple[str, ...]:
    named = [*decider.command_names, *(arrow.transition.command for arrow in arrows)]
    return tuple(
        dict.fromkeys(
            (*named, *(hint.command for hint in hints), *sorted(history.commands), *sorted(explored.commands))
        )
    )


# -- drift and findings --------------------------------------------------------------------------------------------


def drift(machine: StateMachine) -> pd.DataFrame:
    """Return the transitions in which history, code and declaration differ; see `Decider.drift`."""
    found = [(_drift_of(arrow), arrow) for arrow in machine.arrows] if machine.is_declared else []
    ordered = [(kind, arrow) for wanted in Drift for kind, arrow in found if kind == wanted]
    return frame_of_records(
        DRIFT,
        [
            {
                "drift": kind.value, "source": arrow.transition.source, "command": arrow.transition.command,
                "target": arrow.transition.target, "n_seen": arrow.n_seen, "last_seen_at": arrow.last_at,
                "effects": list(arrow.transition.effects), "timers": list(arrow.transition.timers),
            }
            for kind, arrow in ordered
        ],
    )  # fmt: skip


def _drift_of(arrow: MergedTransition) -> Drift | None:
    if arrow.n_seen:
        return None if arrow.is_declared else Drift.NOT_DECLARED
    if arrow.is_declared:
        return Drift.NEVER_SEEN
    return Drift.POSSIBLE if arrow.is_explored else None


def validate(machine: StateMachine) -> pd.DataFrame:
    """Return the findings, one a row; see `Decider.validate`."""
    checks = (_unknown_states, _unreachable_states, _terminal_states_with_exits, _dead_ends, _unaccepted_commands)
    found = [(fault.value, *rest) for check in checks for fault, *rest in check(machine)]
    return frame_of_records(FINDINGS, [dict(zip(FINDINGS, each, strict=True)) for each in found])


def _unknown_states(machine: StateMachine) -> Iterator[Finding]:
    """Yield statuses that only the declaration names, if history, exploration or source name any status."""
    others = [arrow for arrow in machine.arrows if arrow.n_seen or arrow.is_explored or arrow.is_hinted]
    known = {end for arrow in others for end in (arrow.transition.source, arrow.transition.target)}
    if not machine.is_declared or not known:
        return
    known |= {machine.initial, *machine.named_terminal, *machine.explored.statuses}
    known |= {hint.source for hint in machine.hints}
    declared = [arrow.transition for arrow in machine.arrows if arrow.is_declared]
    for status in dict.fromkeys(end for each in declared for end in (each.source, each.target)):
        if status not in known:
            yield Fault.UNKNOWN_STATE, status, None, f"only the declaration names the state {status!r}; is it misspelt?"


def _unreachable_states(machine: StateMachine) -> Iterator[Finding]:
    for status in machine.statuses:
        if status not in machine.reachable:
            yield Fault.UNREACHABLE_STATE, status, None, f"no transition leads from {machine.initial!r} to {status!r}"


def _terminal_states_with_exits(machine: StateMachine) -> Iterator[Finding]:
    for arrow in machine.arrows:
        each = arrow.transition
        if each.source in machine.terminal:
            message = f"{each.source!r} is terminal, so {each.command} is never decided in it"
            yield Fault.TERMINAL_WITH_EXIT, each.source, each.command, message


def _dead_ends(machine: StateMachine) -> Iterator[Finding]:
    left = {arrow.transition.source for arrow in machine.arrows}
    left |= {hint.source for hint in machine.hints}
    for status in machine.statuses:
        if status not in left and status not in machine.terminal:
            message = f"no command is known to be accepted in {status!r}, and it is not terminal"
            yield Fault.DEAD_END, status, None, message


def _unaccepted_commands(machine: StateMachine) -> Iterator[Finding]:
    accepted = {arrow.transition.command for arrow in machine.arrows} | {hint.command for hint in machine.hints}
    for command in machine.commands:
        if command not in accepted:
            yield Fault.NEVER_ACCEPTED, None, command, f"no state is known to accept {command}"
