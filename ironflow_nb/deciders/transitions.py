"""Transitions of a state machine, merged from declaration, history, exploration and source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ironflow_nb.errors import DecisionError

Key: TypeAlias = tuple[str, str, str]
"""Source status, command, target status."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A command that leads from one status to another, or back to the same."""

    source: str
    command: str
    target: str
    effects: tuple[str, ...] = ()
    timers: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """The key under which transitions are merged."""
        return self.source, self.command, self.target

    def with_more(self, effects: Iterable[str], timers: Iterable[str]) -> Transition:
        """Return the transition with further effects and timers, each once."""
        return replace(
            self,
            effects=tuple(dict.fromkeys((*self.effects, *effects))),
            timers=tuple(dict.fromkeys((*self.timers, *timers))),
        )


@dataclass(frozen=True, slots=True)
class ObservedTransition:
    """A transition of the history, with its count and the instant of the last one (microseconds UTC)."""

    transition: Transition
    n_seen: int
    last_at: int


@dataclass(frozen=True, slots=True)
class MergedTransition:
    """A transition with its sources: declaration, exploration, hint of the source code, history."""

    transition: Transition
    is_declared: bool = False
    is_explored: bool = False
    is_hinted: bool = False
    n_seen: int = 0
    last_at: int | None = None

    @property
    def is_only_hinted(self) -> bool:
        """Whether only the source of `decide` suggests it."""
        return not (self.is_declared or self.is_explored or self.n_seen)


def declared_transitions(table: Iterable[Any]) -> tuple[Transition, ...]:
    """Return the transitions of rows: (from, command, to), optionally with effects, then timers.

    Raises:
        DecisionError: a row has another form.
    """
    return tuple(row if isinstance(row, Transition) else _transition_of_row(row) for row in table)


def _transition_of_row(row: Any) -> Transition:
    if not isinstance(row, tuple | list) or not 3 <= len(row) <= 5:
        raise DecisionError(
            f"a transition must be (from, command, to), optionally with effects and timers, got {row!r}"
        )
    source, command, target, *more = row
    effects, timers = (_class_names(names) for names in (*more, (), ())[:2])
    return Transition(str(source), _class_name(command), str(target), effects, timers)


def _class_names(given: Any) -> tuple[str, ...]:
    return (_class_name(given),) if isinstance(given, str | type) else tuple(_class_name(each) for each in given)


def _class_name(given: Any) -> str:
    return given.__name__ if isinstance(given, type) else str(given)


def merge_transitions(
    *,
    declared: Iterable[Transition] = (),
    seen: Iterable[ObservedTransition] = (),
    explored: Iterable[Transition] = (),
    hints: Iterable[Transition] = (),
) -> tuple[MergedTransition, ...]:
    """Return every transition once: declared ones first, then seen, explored and hinted ones.

    A hint is left out if another source has a transition for its status and command.
    """
    arrows: dict[Key, MergedTransition] = {}
    for each in declared:
        arrows[each.key] = replace(_with_transition(arrows, each), is_declared=True)
    for observed in seen:
        arrow = _with_transition(arrows, observed.transition)
        arrows[arrow.transition.key] = replace(arrow, n_seen=observed.n_seen, last_at=observed.last_at)
    for each in explored:
        arrows[each.key] = replace(_with_transition(arrows, each), is_explored=True)
    known = {(source, command) for source, command, _ in arrows}
    for each in hints:
        if each.key in arrows or (each.source, each.command) not in known:
            arrows[each.key] = replace(_with_transition(arrows, each), is_hinted=True)
    return tuple(arrows.values())


def _with_transition(arrows: Mapping[Key, MergedTransition], transition: Transition) -> MergedTransition:
    """Return the merged transition of that key, with the effects and timers of the given one."""
    known = arrows.get(transition.key)
    if known is None:
        return MergedTransition(transition)
    return replace(known, transition=known.transition.with_more(transition.effects, transition.timers))
