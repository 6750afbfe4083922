"""What the source of `decide` suggests: the statuses and commands that its patterns name. Never authoritative."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from tokenize import TokenError
from typing import Any

from ironflow_nb.deciders.decider_definition import AnyMachine
from ironflow_nb.deciders.transitions import Transition


@dataclass(frozen=True, slots=True)
class SourceTransition:
    """A command that seems to be accepted in that status; where it leads is None if that can't be read."""

    source: str
    command: str
    target: str | None = None
    effects: tuple[str, ...] = ()

    @property
    def transition(self) -> Transition | None:
        """The transition, if both of its ends are known."""
        return None if self.target is None else Transition(self.source, self.command, self.target, self.effects)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a pattern says about statuses and classes; None where it says nothing."""

    statuses: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None


def hints_of(machine: AnyMachine) -> tuple[SourceTransition, ...]:
    """Return what can be read from `match` in `decide`, and by `evolve` where it leads; nothing if there is no source.

    Understood are ``case "placed", Pay():``, the same with members of an enum, a ``match`` of one inside a ``match`` of
    the other, and ``case Pay() if state.status == "placed":``.
    """
    evolve, decide = machine.functions
    targets: dict[str, str] = {}
    if evolve is not None and machine.status_field:
        targets = dict(_SourceReading(evolve).targets(machine.status_field))
    return () if decide is None else tuple(dict.fromkeys(_SourceReading(decide).hints(targets)))


class _SourceReading:
    """The source of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._names: Mapping[str, Any] = getattr(function, "__globals__", {})
        self._body = _body(function)

    def hints(self, targets: Mapping[str, str]) -> Iterator[SourceTransition]:
        """Yield what `decide` seems to accept; `targets` are the statuses to which events lead."""
        yield from self._hints(self._body, _Said(), targets)

    def _hints(self, body: list[ast.stmt], outer: _Said, targets: Mapping[str, str]) -> Iterator[SourceTransition]:
        for said, inner in self._cases(body):
            now = _Said(said.statuses or outer.statuses, said.classes or outer.classes)
            if now.statuses and now.classes and (events := _arguments(inner, "accept")) is not None:
                target = next((targets[event] for event in reversed(events) if event in targets), None)
                effects = tuple(_arguments(inner, "effect") or ())
                yield from (
                    SourceTransition(s, command, target, effects) for s in now.statuses for command in now.classes
                )
            else:
                yield from self._hints(inner, now, targets)

    def targets(self, field: str) -> Iterator[tuple[str, str]]:
        """Yield events with the status that `evolve` gives: ``case Paid(): return replace(state, status="paid")``."""
        for said, inner in self._cases(self._body):
            for node in _nodes(inner):
                if isinstance(node, ast.keyword) and node.arg == field and (status := self._status(node.value)):
                    yield from ((event, status) for event in said.classes or ())

    def _cases(self, body: list[ast.stmt]) -> Iterator[tuple[_Said, list[ast.stmt]]]:
        """Yield the cases of the outermost matches, with what their patterns and guards say."""
        for statement in body:
            if isinstance(statement, ast.Match):
                for case in statement.cases:
                    said = self._said(case.pattern)
                    yield _Said(said.statuses or self._guarded(case.guard), said.classes), case.body
            else:
                for name in ("body", "orelse", "finalbody"):
                    yield from self._cases(getattr(statement, name, []))

    def _said(self, pattern: ast.pattern) -> _Said:
        match pattern:
            case ast.MatchValue(value=value) if (status := self._status(value)) is not None:
                return _Said(statuses=(status,))
            case ast.MatchClass(cls=ast.Name(id=name)) | ast.MatchClass(cls=ast.Attribute(attr=name)):
                return _Said(classes=(name,))
            case ast.MatchAs(pattern=inner) if inner is not None:
                return self._said(inner)
            case ast.MatchOr(patterns=parts):
                return _either([self._said(part) for part in parts])
            case ast.MatchSequence(patterns=parts) if len(parts) == 2:
                first, second = (self._said(part) for part in parts)
                return _Said(first.statuses or second.statuses, first.classes or second.classes)
            case _:
                return _Said()

    def _guarded(self, guard: ast.expr | None) -> tuple[str, ...] | None:
        """Return the one status that a guard asks for, by ``==``."""
        match guard:
            case ast.Compare(ops=[ast.Eq()], comparators=[value]) if (status := self._status(value)) is not None:
                return (status,)
            case _:
                return None

    def _status(self, value: ast.expr) -> str | None:
        """Return the status that an expression is: a text, or the member of an enum."""
        match value:
            case ast.Constant(value=str(status)):
                return status
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                member = getattr(self._names.get(name), attribute, None)
                return str(member) if isinstance(member, str | Enum) else None
            case _:
                return None


def _body(function: Callable[..., Any]) -> list[ast.stmt]:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError, TokenError):
        return []


def _either(parts: list[_Said]) -> _Said:
    """Return what alternatives say together; of pairs the one cannot be joined with the other's, so that is nothing."""
    if all(part.statuses and not part.classes for part in parts):
        return _Said(statuses=tuple(status for part in parts for status in part.statuses or ()))
    if all(part.classes and not part.statuses for part in parts):
        return _Said(classes=tuple(name for part in parts for name in part.classes or ()))
    return _Said()


def _arguments(body: list[ast.stmt], function: str) -> list[str] | None:
    """Return the classes that are made in the arguments of calls of the function; None if it is not called."""
    calls = [node for node in _nodes(body) if isinstance(node, ast.Call) and _called(node) == function]
    made = [argument for call in calls for argument in call.args if isinstance(argument, ast.Call)]
    return [name for call in made if (name := _called(call))] if calls else None


def _nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for statement in body:
        yield from ast.walk(statement)


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""
