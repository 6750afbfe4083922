"""The transitions of a state machine, put together from everything that knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ironflow_nb.errors import DecisionError

Key: TypeAlias = tuple[str, str, str]
"""From which status, by which command, to which status."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A command that leads from one status to another, or to the same again."""

    source: str
    command: str
    target: str
    effects: tuple[str, ...] = ()
    timers: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return self.source, self.command, self.target

    def with_more(self, effects: Iterable[str], timers: Iterable[str]) -> Transition:
        """Return the transition with these effects and timers too, each once."""
        return replace(
            self,
            effects=tuple(dict.fromkeys((*self.effects, *effects))),
            timers=tuple(dict.fromkeys((*self.timers, *timers))),
        )


@dataclass(frozen=True, slots=True)
class Sighting:
    """How often a transition was seen, and when last (microseconds UTC)."""

    transition: Transition
    n_seen: int
    last_at: int


@dataclass(frozen=True, slots=True)
class MergedTransition:
    """A transition with all that is known of it."""

    transition: Transition
    is_declared: bool = False
    is_explored: bool = False
    is_hinted: bool = False
    n_seen: int = 0
    last_at: int | None = None

    @property
    def is_only_hinted(self) -> bool:
        """Whether nothing but the source of `decide` suggests it."""
        return not (self.is_declared or self.is_explored or self.n_seen)


def declared_transitions(table: Iterable[Any]) -> tuple[Transition, ...]:
    """Return the rows of a table of transitions: (from, command, to), then effects, then timers, if they are said.

    Raises:
        DecisionError: a row is none.
    """
    return tuple(row if isinstance(row, Transition) else _declared(row) for row in table)


def _declared(row: Any) -> Transition:
    if not isinstance(row, tuple | list) or not 3 <= len(row) <= 5:
        raise DecisionError(
            f"a transition is (from, command, to), with effects and timers after it if they are said, not {row!r}"
        )
    source, command, target, *more = row
    effects, timers = (_names(names) for names in (*more, (), ())[:2])
    return Transition(str(source), _name(command), str(target), effects, timers)


def _names(said: Any) -> tuple[str, ...]:
    return (_name(said),) if isinstance(said, str | type) else tuple(_name(each) for each in said)


def _name(said: Any) -> str:
    return said.__name__ if isinstance(said, type) else str(said)


def merged(
    *,
    declared: Iterable[Transition] = (),
    seen: Iterable[Sighting] = (),
    explored: Iterable[Transition] = (),
    hints: Iterable[Transition] = (),
) -> tuple[MergedTransition, ...]:
    """Return every transition once: first the declared, then the seen, the explored, and what only the source hints at.

    A hint counts only where nothing else knows what the command does in that status.
    """
    arrows: dict[Key, MergedTransition] = {}
    for each in declared:
        arrows[each.key] = replace(_joined(arrows, each), is_declared=True)
    for sighting in seen:
        arrow = _joined(arrows, sighting.transition)
        arrows[arrow.transition.key] = replace(arrow, n_seen=sighting.n_seen, last_at=sighting.last_at)
    for each in explored:
        arrows[each.key] = replace(_joined(arrows, each), is_explored=True)
    known = {(source, command) for source, command, _ in arrows}
    for each in hints:
        if each.key in arrows or (each.source, each.command) not in known:
            arrows[each.key] = replace(_joined(arrows, each), is_hinted=True)
    return tuple(arrows.values())


def _joined(arrows: Mapping[Key, MergedTransition], transition: Transition) -> MergedTransition:
    """Return the arrow as it is known, with the effects and timers that the transition adds."""
    known = arrows.get(transition.key)
    if known is None:
        return MergedTransition(transition)
    return replace(known, transition=known.transition.with_more(transition.effects, transition.timers))
