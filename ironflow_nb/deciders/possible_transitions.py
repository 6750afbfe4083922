"""Transitions that may never have happened: found by calling `decide`, or suggested by its source.

To explore, `decide` is called with every command in every state that is reached. The source names statuses and commands
in its patterns; it only suggests, and is never authoritative.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from tokenize import TokenError
from typing import Any, Final

from ironflow_nb.code_identity.syntax import parse
from ironflow_nb.deciders.decider_definition import AnyDecider
from ironflow_nb.deciders.decisions import Accept
from ironflow_nb.deciders.transitions import Transition, merge_transitions

MAX_STATES: Final = 200
MAX_PER_STATUS: Final = 12
"""The number of states explored for one status: a basket of 1,000 things is as open as one of three."""
MAX_DECISIONS: Final = 3_000


# -- exploration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationResult:
    """The transitions found, the statuses reached, the terminal ones of them, and the classes of commands tried."""

    transitions: tuple[Transition, ...] = ()
    statuses: tuple[str, ...] = ()
    terminal: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()


class Explorer:
    """Explores one decider, and keeps the result while code and samples stay the same."""

    def __init__(self) -> None:
        self._last: tuple[Hashable, ExplorationResult] | None = None

    def explored(self, decider: AnyDecider, samples: Sequence[Any], now: datetime) -> ExplorationResult:
        """Return the result of the exploration with these commands."""
        # The functions are part of the key because not all called code can be read.
        key = decider.functions, decider.code, repr(decider.initial), tuple(repr(each) for each in samples)
        if self._last is None or self._last[0] != key:
            self._last = key, explore(decider, samples, now)
        return self._last[1]


def explore(decider: AnyDecider, samples: Sequence[Any], now: datetime) -> ExplorationResult:
    """Try every command in every reachable state, in the order of their distance from the initial state.

    Commands of timers are tried too. A call that raises gives no transition.
    """
    search = _Search(decider, now)
    search.add_state(decider.initial)
    for sample in samples:
        search.add_sample(sample)
    search.run()
    return ExplorationResult(
        transitions=tuple(arrow.transition for arrow in merge_transitions(explored=search.transitions)),
        statuses=tuple(search.n_by_status),
        terminal=frozenset(search.terminal),
        commands=frozenset(type(sample).__name__ for sample in search.samples.values()),
    )


class _Search:
    def __init__(self, decider: AnyDecider, now: datetime) -> None:
        self._decider = decider
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
            self._try_command(*self._pairs.popleft())

    def add_state(self, state: Any) -> None:
        name, status = repr(state), self._decider.status_of(state)
        if name in self._states or len(self._states) >= MAX_STATES or self.n_by_status[status] >= MAX_PER_STATUS:
            return
        self.n_by_status[status] += 1
        self._states[name] = state
        if self._decider.is_terminal(state):
            self.terminal.add(status)
        else:
            self._pairs += [(state, sample) for sample in self.samples.values()]

    def add_sample(self, sample: Any) -> None:
        if repr(sample) not in self.samples:
            self.samples[repr(sample)] = sample
            open_states = [state for state in self._states.values() if not self._decider.is_terminal(state)]
            self._pairs += [(state, sample) for state in open_states]

    def _try_command(self, state: Any, command: Any) -> None:
        decider = self._decider
        try:
            after = copy.deepcopy(state)  # `decide` or `evolve` may change it in place
            decision = decider.decide_with(after, command, self._now)
            if not isinstance(decision, Accept):
                return
            for event in decision.events:
                after = decider.evolve_with(after, event)
            ends = decider.status_of(state), decider.status_of(after)
        except Exception:  # noqa: BLE001 -- functions of the user raise anything; such a command has no transition
            return
        effects = tuple(type(effect).__name__ for effect in decision.effects)
        timers = tuple(timer.key or type(timer.command).__name__ for timer in decision.timers)
        self.transitions.append(Transition(ends[0], type(command).__name__, ends[1], effects, timers))
        self.add_state(after)
        for timer in decision.timers:
            self.add_sample(timer.command)


# -- source --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceTransition:
    """A command that seems to be accepted in that status. `target` is None if the source does not tell it."""

    source: str
    command: str
    target: str | None = None
    effects: tuple[str, ...] = ()

    @property
    def transition(self) -> Transition | None:
        """The transition, or None if its target is unknown."""
        return None if self.target is None else Transition(self.source, self.command, self.target, self.effects)


@dataclass(frozen=True, slots=True)
class _PatternMeaning:
    """The statuses and classes that a pattern names; None if it names none."""

    statuses: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None


def source_transitions(decider: AnyDecider) -> tuple[SourceTransition, ...]:
    """Return the transitions that `match` in `decide` suggests, with the targets that `evolve` suggests.

    Without source there are none. It understands ``case "placed", Pay():``, the same with members of an enum, nested
    ``match`` statements for status and command, and ``case Pay() if state.status == "placed":``.
    """
    evolve, decide = decider.functions
    targets: dict[str, str] = {}
    if evolve is not None and decider.status_field:
        targets = dict(_SourceReading(evolve).targets(decider.status_field))
    return () if decide is None else tuple(dict.fromkeys(_SourceReading(decide).hints(targets)))


class _SourceReading:
    """The source of one function, as far as its `match` statements tell."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._globals: Mapping[str, Any] = getattr(function, "__globals__", {})
        self._body = _parsed_body(function)

    def hints(self, targets: Mapping[str, str]) -> Iterator[SourceTransition]:
        """Yield the commands that `decide` seems to accept; `targets` maps events to statuses."""
        yield from self._hints(self._body, _PatternMeaning(), targets)

    def _hints(
        self, body: list[ast.stmt], outer: _PatternMeaning, targets: Mapping[str, str]
    ) -> Iterator[SourceTransition]:
        for meaning, inner in self._cases(body):
            merged = _PatternMeaning(meaning.statuses or outer.statuses, meaning.classes or outer.classes)
            if merged.statuses and merged.classes and (events := _classes_in_arguments(inner, "accept")) is not None:
                target = next((targets[event] for event in reversed(events) if event in targets), None)
                effects = tuple(_classes_in_arguments(inner, "effect") or ())
                yield from (
                    SourceTransition(s, command, target, effects) for s in merged.statuses for command in merged.classes
                )
            else:
                yield from self._hints(inner, merged, targets)

    def targets(self, field: str) -> Iterator[tuple[str, str]]:
        """Yield events with the status that `evolve` sets: ``case Paid(): return replace(state, status="paid")``."""
        for meaning, inner in self._cases(self._body):
            for node in _walk_all(inner):
                if isinstance(node, ast.keyword) and node.arg == field and (status := self._status(node.value)):
                    yield from ((event, status) for event in meaning.classes or ())

    def _cases(self, body: list[ast.stmt]) -> Iterator[tuple[_PatternMeaning, list[ast.stmt]]]:
        """Yield the cases of the outermost `match` statements: the meaning of pattern and guard, and the body."""
        for statement in body:
            if isinstance(statement, ast.Match):
                for case in statement.cases:
                    meaning = self._pattern_meaning(case.pattern)
                    yield (
                        _PatternMeaning(meaning.statuses or self._guard_statuses(case.guard), meaning.classes),
                        case.body,
                    )
            else:
                for name in ("body", "orelse", "finalbody"):
                    yield from self._cases(getattr(statement, name, []))

    def _pattern_meaning(self, pattern: ast.pattern) -> _PatternMeaning:
        match pattern:
            case ast.MatchValue(value=value) if (status := self._status(value)) is not None:
                return _PatternMeaning(statuses=(status,))
            case ast.MatchClass(cls=ast.Name(id=name)) | ast.MatchClass(cls=ast.Attribute(attr=name)):
                return _PatternMeaning(classes=(name,))
            case ast.MatchAs(pattern=inner) if inner is not None:
                return self._pattern_meaning(inner)
            case ast.MatchOr(patterns=parts):
                return _meaning_of_alternatives([self._pattern_meaning(part) for part in parts])
            case ast.MatchSequence(patterns=parts) if len(parts) == 2:
                first, second = (self._pattern_meaning(part) for part in parts)
                return _PatternMeaning(first.statuses or second.statuses, first.classes or second.classes)
            case _:
                return _PatternMeaning()

    def _guard_statuses(self, guard: ast.expr | None) -> tuple[str, ...] | None:
        """Return the status that a guard compares with ``==``, or None."""
        match guard:
            case ast.Compare(ops=[ast.Eq()], comparators=[value]) if (status := self._status(value)) is not None:
                return (status,)
            case _:
                return None

    def _status(self, value: ast.expr) -> str | None:
        """Return the status in an expression: a str constant or the member of an enum."""
        match value:
            case ast.Constant(value=str(status)):
                return status
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                member = getattr(self._globals.get(name), attribute, None)
                return str(member) if isinstance(member, str | Enum) else None
            case _:
                return None


def _parsed_body(function: Callable[..., Any]) -> list[ast.stmt]:
    try:
        return parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError, TokenError):
        return []


def _meaning_of_alternatives(parts: list[_PatternMeaning]) -> _PatternMeaning:
    """Return the meaning of ``A | B``: all statuses, or all classes. A mixture has no meaning here."""
    if all(part.statuses and not part.classes for part in parts):
        return _PatternMeaning(statuses=tuple(status for part in parts for status in part.statuses or ()))
    if all(part.classes and not part.statuses for part in parts):
        return _PatternMeaning(classes=tuple(name for part in parts for name in part.classes or ()))
    return _PatternMeaning()


def _classes_in_arguments(body: list[ast.stmt], function: str) -> list[str] | None:
    """Return the classes of objects made in arguments of calls of the function; None if it is not called."""
    calls = [node for node in _walk_all(body) if isinstance(node, ast.Call) and _function_name(node) == function]
    made = [argument for call in calls for argument in call.args if isinstance(argument, ast.Call)]
    return [name for call in made if (name := _function_name(call))] if calls else None


def _walk_all(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for statement in body:
        yield from ast.walk(statement)


def _function_name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""
