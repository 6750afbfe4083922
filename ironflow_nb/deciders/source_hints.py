"""What the source of `decide` suggests: the statuses and commands that its patterns name. Never authoritative."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ironflow_nb.deciders.machine import AnyMachine
from ironflow_nb.deciders.transitions import Transition


@dataclass(frozen=True, slots=True)
class Hint:
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


def hints_of(machine: AnyMachine) -> tuple[Hint, ...]:
    """Return what can be read from `match` in `decide`, and by `evolve` where it leads; nothing if there is no source.

    Understood are ``case "placed", Pay():`` and a ``match`` of one inside a ``match`` of the other.
    """
    evolve, decide = machine.functions
    decided, evolved = _body(decide), _body(evolve)
    targets = dict(_targets(evolved, machine.status_field)) if machine.status_field else {}
    return tuple(dict.fromkeys(_hints(decided, _Said(), targets)))


def _body(function: Callable[..., Any] | None) -> list[ast.stmt]:
    if function is None:
        return []
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return []


def _hints(body: list[ast.stmt], outer: _Said, targets: Mapping[str, str]) -> Iterator[Hint]:
    for said, inner in _cases(body):
        now = _Said(said.statuses or outer.statuses, said.classes or outer.classes)
        if now.statuses and now.classes and (events := _arguments(inner, "accept")) is not None:
            target = next((targets[event] for event in reversed(events) if event in targets), None)
            effects = tuple(_arguments(inner, "effect") or ())
            yield from (Hint(s, command, target, effects) for s in now.statuses for command in now.classes)
        else:
            yield from _hints(inner, now, targets)


def _cases(body: list[ast.stmt]) -> Iterator[tuple[_Said, list[ast.stmt]]]:
    """Yield the cases of the outermost matches, with what their patterns say."""
    for statement in body:
        if isinstance(statement, ast.Match):
            yield from ((_said(case.pattern), case.body) for case in statement.cases)
        else:
            for name in ("body", "orelse", "finalbody"):
                yield from _cases(getattr(statement, name, []))


def _said(pattern: ast.pattern) -> _Said:
    match pattern:
        case ast.MatchValue(value=ast.Constant(value=str(status))):
            return _Said(statuses=(status,))
        case ast.MatchClass(cls=ast.Name(id=name)) | ast.MatchClass(cls=ast.Attribute(attr=name)):
            return _Said(classes=(name,))
        case ast.MatchAs(pattern=inner) if inner is not None:
            return _said(inner)
        case ast.MatchOr(patterns=parts):
            return _either([_said(part) for part in parts])
        case ast.MatchSequence(patterns=parts) if len(parts) == 2:
            first, second = (_said(part) for part in parts)
            return _Said(first.statuses or second.statuses, first.classes or second.classes)
        case _:
            return _Said()


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


def _targets(body: list[ast.stmt], field: str) -> Iterator[tuple[str, str]]:
    """Yield events with the status that `evolve` gives: ``case Paid(): return replace(state, status="paid")``."""
    for said, inner in _cases(body):
        for node in _nodes(inner):
            match node:
                case ast.keyword(arg=name, value=ast.Constant(value=str(status))) if name == field:
                    yield from ((event, status) for event in said.classes or ())
