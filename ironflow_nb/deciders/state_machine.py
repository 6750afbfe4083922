"""A decider as a state machine: what is declared, what was seen, what can be reached, and what its source says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ironflow_nb.deciders.decider_definition import AnyMachine
from ironflow_nb.deciders.explored_transitions import ExplorationResult, Explorer
from ironflow_nb.deciders.observed_transitions import ObservedHistory, past_of, samples_of, way_of
from ironflow_nb.deciders.source_transitions import SourceTransition, hints_of
from ironflow_nb.deciders.store import deciders_of
from ironflow_nb.deciders.transitions import Key, MergedTransition, merged
from ironflow_nb.execution import Engine


@dataclass(frozen=True)
class StateMachine:
    """All that is known of a machine at one moment; `way` are the transitions of the instance that is looked at."""

    name: str
    initial: str
    arrows: tuple[MergedTransition, ...]
    is_declared: bool
    named_terminal: tuple[str, ...]
    commands: tuple[str, ...]
    past: ObservedHistory
    explored: ExplorationResult
    hints: tuple[SourceTransition, ...] = ()
    way: tuple[Key, ...] = ()

    @cached_property
    def statuses(self) -> tuple[str, ...]:
        """Every status: first in the order in which they are reached, then those that nothing reaches."""
        ends = (end for arrow in self.arrows for end in (arrow.transition.source, arrow.transition.target))
        here = (resident.status for resident in self.past.residents)
        return tuple(dict.fromkeys((*self._reached, *ends, *here, *self.explored.statuses, *self.named_terminal)))

    @cached_property
    def reachable(self) -> frozenset[str]:
        """The statuses to which arrows lead from the initial one, those that are only hinted at too."""
        return frozenset(self._reached)

    @cached_property
    def _reached(self) -> list[str]:
        leaving: dict[str, list[str]] = {}
        for arrow in self.arrows:
            leaving.setdefault(arrow.transition.source, []).append(arrow.transition.target)
        return _by_level(self.initial, leaving)

    @property
    def terminal(self) -> frozenset[str]:
        """The statuses in which nothing is decided any more, as far as they are known."""
        return frozenset(self.named_terminal) | self.explored.terminal | self.past.ended_in


def _by_level(initial: str, leaving: dict[str, list[str]]) -> list[str]:
    """Return what is reached, level by level."""
    found = {initial: None}
    level = [initial]
    while level:
        level = [target for source in level for target in leaving.get(source, ()) if target not in found]
        found |= dict.fromkeys(level)
        level = list(dict.fromkeys(level))
    return list(found)


def state_machine_of(
    engine: Engine, machine: AnyMachine, explorer: Explorer, *, samples: Iterable[Any] = (), instance: str | None = None
) -> StateMachine:
    """Read and try what there is to know now."""
    with engine.reading() as reader:
        observations = deciders_of(reader).observations(machine.name)
        past = past_of(machine, reader, observations)
    tried = (*machine.samples, *samples, *samples_of(machine, observations))
    explored = explorer.explored(machine, tried, engine.access.instant(engine.clock.now()))
    hints = hints_of(machine)
    arrows = merged(
        declared=machine.transitions,
        seen=past.sightings,
        explored=explored.transitions,
        hints=[each.transition for each in hints if each.transition is not None],
    )
    return StateMachine(
        name=machine.name,
        initial=machine.status_of(machine.initial),
        arrows=arrows,
        is_declared=bool(machine.transitions),
        named_terminal=machine.terminal_statuses,
        commands=_commands(machine, arrows, past, explored, hints),
        past=past,
        explored=explored,
        hints=hints,
        way=() if instance is None else way_of(machine, observations, instance),
    )


def _commands(
    machine: AnyMachine,
    arrows: Sequence[MergedTransition],
    past: ObservedHistory,
    explored: ExplorationResult,
    hints: Sequence[SourceTransition],
) -> tuple[str, ...]:
    named = [*machine.command_names, *(arrow.transition.command for arrow in arrows)]
    return tuple(
        dict.fromkeys((*named, *(hint.command for hint in hints), *sorted(past.commands), *sorted(explored.commands)))
    )
