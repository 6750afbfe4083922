"""Finding transitions that never happened, by asking the pure `decide` what it would do."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ironflow_nb.deciders.decider_definition import AnyMachine
from ironflow_nb.deciders.decisions import Accept
from ironflow_nb.deciders.transitions import Transition, merged

MAX_STATES: Final = 200
MAX_PER_STATUS: Final = 12
"""States of one status are alike mostly: a basket of 1,000 things is as open as one of three."""
MAX_DECISIONS: Final = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationResult:
    """What was found: transitions, statuses that were reached, those of them in which all ends, and what was tried."""

    transitions: tuple[Transition, ...] = ()
    statuses: tuple[str, ...] = ()
    terminal: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()


class Explorer:
    """Explores one machine, and remembers what it found while code and samples stay the same."""

    def __init__(self) -> None:
        self._found: tuple[Hashable, ExplorationResult] | None = None

    def explored(self, machine: AnyMachine, samples: Sequence[Any], now: datetime) -> ExplorationResult:
        """Return what can be reached with these commands."""
        # The functions themselves too, for not all of what is called has code that can be read.
        asked = machine.functions, machine.code, repr(machine.initial), tuple(repr(each) for each in samples)
        if self._found is None or self._found[0] != asked:
            self._found = asked, explore(machine, samples, now)
        return self._found[1]


def explore(machine: AnyMachine, samples: Sequence[Any], now: datetime) -> ExplorationResult:
    """Try every command in every state that is reached from the initial one, those nearest to it first.

    A command that a timer would send is tried too. What raises is no transition.
    """
    search = _Search(machine, now)
    search.add_state(machine.initial)
    for sample in samples:
        search.add_sample(sample)
    search.run()
    return ExplorationResult(
        transitions=tuple(arrow.transition for arrow in merged(explored=search.transitions)),
        statuses=tuple(search.n_by_status),
        terminal=frozenset(search.terminal),
        commands=frozenset(type(sample).__name__ for sample in search.samples.values()),
    )


class _Search:
    def __init__(self, machine: AnyMachine, now: datetime) -> None:
        self._machine = machine
        self._now = now
        self._states: dict[str, Any] = {}
        self._pairs: deque[tuple[Any, Any]] = deque()
        self.samples: dict[str, Any] = {}
        self.n_by_status: Counter[str] = Counter()
        self.terminal: set[str] = set()
        self.transitions: list[Transition] = []

    def run(self) -> None:
        for _ in range(MAX_DECISIONS):
            if not self._pairs:
                return
            self._try(*self._pairs.popleft())

    def add_state(self, state: Any) -> None:
        name, status = repr(state), self._machine.status_of(state)
        if name in self._states or len(self._states) >= MAX_STATES or self.n_by_status[status] >= MAX_PER_STATUS:
            return
        self.n_by_status[status] += 1
        self._states[name] = state
        if self._machine.is_terminal(state):
            self.terminal.add(status)
        else:
            self._pairs += [(state, sample) for sample in self.samples.values()]

    def add_sample(self, sample: Any) -> None:
        if repr(sample) not in self.samples:
            self.samples[repr(sample)] = sample
            open_states = [state for state in self._states.values() if not self._machine.is_terminal(state)]
            self._pairs += [(state, sample) for state in open_states]

    def _try(self, state: Any, command: Any) -> None:
        machine = self._machine
        try:
            after = copy.deepcopy(state)  # so that one that is changed in its place harms nothing
            decision = machine.decide_with(after, command, self._now)
            if not isinstance(decision, Accept):
                return
            for event in decision.events:
                after = machine.evolve_with(after, event)
            ends = machine.status_of(state), machine.status_of(after)
        except Exception:  # noqa: BLE001 -- a command that can't be decided in that state leads nowhere
            return
        effects = tuple(type(effect).__name__ for effect in decision.effects)
        timers = tuple(timer.key or type(timer.command).__name__ for timer in decision.timers)
        self.transitions.append(Transition(ends[0], type(command).__name__, ends[1], effects, timers))
        self.add_state(after)
        for timer in decision.timers:
            self.add_sample(timer.command)
