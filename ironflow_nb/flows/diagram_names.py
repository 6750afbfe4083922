"""What the names in the source of a function stand for, found without running any of it."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ironflow_nb.code_identity.source import is_user_function
from ironflow_nb.code_identity.syntax import FunctionNode, call_numbers, function_tree
from ironflow_nb.diagram.model import NodeKind

_NOTHING: Final = object()
_MISSING: Final = object()
_MAKERS: Final = ("gather", "create_task", "ensure_future", "shield", "as_completed")
_MAX_HELPERS: Final = 50
"""The helpers of one flow that are read at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What an object is in a diagram. `name` is what its calls are recorded under."""

    kind: NodeKind
    name: str | None
    label: str | None = None
    """What it is called in pictures; by default the last part of its name."""
    title: str = ""


Describe = Callable[[object], Described | None]


class SourceNames:
    """The names of one function. A name that can't be found, or whose lookup fails, stands for nothing."""

    def __init__(self, function: Callable[..., Any], tree: ast.AST, describe: Describe) -> None:
        plain: Any = inspect.unwrap(function)
        code = plain.__code__
        self._locals = frozenset(code.co_varnames) | frozenset(code.co_cellvars) | _bound_in_comprehensions(tree)
        self._cells = dict(zip(code.co_freevars, plain.__closure__ or (), strict=True))
        self._globals = plain.__globals__
        self._describe = describe
        self._calls: dict[ast.Call, Described | None] = {}

    def called(self, call: ast.Call) -> Described | None:
        """Return what the call records: a step, a map over one, a child flow; None if it is some other call."""
        if call not in self._calls:
            self._calls[call] = self._called(call)
        return self._calls[call]

    def _called(self, call: ast.Call) -> Described | None:
        match call.func:
            case ast.Attribute(value=base, attr="map" | "submit" | "start" as how):
                found = self._described(base)
                if found is not None:
                    is_map = how == "map" and found.kind is NodeKind.STEP
                    return _as_map(found) if is_map else found
        return self._described(call.args[0] if self.is_partial(call) else call.func)

    def helper(self, expression: ast.expr) -> types.FunctionType | None:
        """Return the function of the user that the expression names; a decorated one is read as it was written."""
        value = self._value(expression)
        if not isinstance(value, types.FunctionType) or self._described(expression) is not None:
            return None
        written = inspect.unwrap(value)
        return written if isinstance(written, types.FunctionType) and is_user_function(written) else None

    def helpers_in(self, call: ast.Call) -> Iterator[types.FunctionType]:
        """Yield the helpers that the call runs: it calls them, or is given them as `partial` and `gather` are."""
        given = call.args if self.is_gather(call) else call.args[:1] if self.is_partial(call) else [call.func]
        for expression in given:
            found = self.helper(expression)
            if found is not None:
                yield found

    def given(self, expression: ast.expr) -> Described | None:
        """Return the step that the expression names, and does not call."""
        return self._described(expression) if isinstance(expression, ast.Name | ast.Attribute) else None

    def runs_step(self, call: ast.Call) -> bool:
        """Return True if the call records something, or is a gather that is given a step."""
        return self.called(call) is not None or (self.is_gather(call) and any(map(self.given, call.args)))

    def is_partial(self, call: ast.Call) -> bool:
        """Return True if the call only puts a function and arguments together."""
        return bool(call.args) and self._value(call.func) is functools.partial

    def is_gather(self, call: ast.Call) -> bool:
        """Return True if the arguments of the call run side by side."""
        value = self._value(call.func)
        return _takes_branches(value) == "all" or value is _of_asyncio("gather")

    def is_maker(self, call: ast.Call) -> bool:
        """Return True if the call makes branches of functions that it is given, or at once tasks of coroutines."""
        value = self._value(call.func)
        is_ours = _takes_branches(value) is not None
        return is_ours or (value is not _NOTHING and value in map(_of_asyncio, _MAKERS))

    def is_task_group(self, expression: ast.expr) -> bool:
        """Return True if the expression makes a task group of asyncio."""
        return isinstance(expression, ast.Call) and self._value(expression.func) is _of_asyncio("TaskGroup")

    def _described(self, expression: ast.expr) -> Described | None:
        match expression:
            case ast.Call(func=ast.Attribute(value=base, attr="options"), keywords=keywords):
                found = self._described(base)
                return None if found is None else _renamed(found, keywords)
        value = self._value(expression)
        if value is _NOTHING:
            return None
        try:
            return self._describe(value)
        except Exception:  # noqa: BLE001 -- an object that can't be looked at is no step
            return None

    def _value(self, expression: ast.expr) -> object:
        try:
            match expression:
                case ast.Name(id=name):
                    return self._named(name)
                case ast.Attribute(value=base, attr=name):
                    return _attribute(self._value(base), name)
        except Exception:  # noqa: BLE001 -- whatever the lookup met
            return _NOTHING
        return _NOTHING

    def _named(self, name: str) -> object:
        if name in self._locals:
            return _NOTHING
        if name in self._cells:
            return self._cells[name].cell_contents
        return self._globals.get(name, _NOTHING)


class FunctionSource(NamedTuple):
    """The source of a function, and what its names stand for.

    `numbers` are those of its calls. `within` is the beginning of the sites of what a helper calls: the site of its own
    call; None where that is not known.
    """

    tree: FunctionNode
    names: SourceNames
    first_line: int
    numbers: Mapping[ast.Call, int] = {}
    helper: Callable[..., Any] | None = None
    within: str | None = ""

    def site(self, call: ast.AST) -> str | None:
        """Return the call site of what is called there; None where it is not known."""
        number = self.numbers.get(call) if isinstance(call, ast.Call) else None
        return None if number is None or self.within is None else f"{self.within}{number}"


def source_with_names(function: Callable[..., Any], describe: Describe) -> FunctionSource | None:
    """Return the source of the undecorated function, or None if it has none."""
    tree = function_tree(function)
    if tree is None:
        return None
    first_line: int = inspect.unwrap(function).__code__.co_firstlineno
    return FunctionSource(tree, SourceNames(function, tree, describe), first_line, call_numbers(tree))


class Helpers:
    """The helpers that a flow calls and that call steps, each read once."""

    def __init__(self, describe: Describe) -> None:
        self._describe = describe
        self._sources: dict[types.FunctionType, FunctionSource | None] = {}

    def source(self, function: types.FunctionType) -> FunctionSource | None:
        """Return the source of the helper; None if it can't be read, or too many were read before."""
        if function not in self._sources and len(self._sources) < _MAX_HELPERS:
            found = source_with_names(function, self._describe)
            self._sources[function] = None if found is None else found._replace(helper=function)
        return self._sources.get(function)

    def calls_steps(self, function: types.FunctionType) -> bool:
        """Return True if the helper calls a step, itself or by other helpers."""
        reached, todo = {function}, [function]
        while todo:
            source = self.source(todo.pop())
            for call in ast.walk(source.tree) if source is not None else ():
                if source is None or not isinstance(call, ast.Call):
                    continue
                if source.names.runs_step(call):
                    return True
                found = set(source.names.helpers_in(call)) - reached
                reached |= found
                todo += found
        return False


def _takes_branches(value: object) -> str | None:
    """Return how the package's own function is given branches: as all its arguments, or listed; None if it is not."""
    return getattr(value, "__ironflow_branches__", None) if isinstance(value, types.FunctionType) else None


def _of_asyncio(name: str) -> object:
    """Return what asyncio has under the name; a function that names it has loaded it."""
    return getattr(sys.modules.get("asyncio"), name, _MISSING)


def _bound_in_comprehensions(tree: ast.AST) -> frozenset[str]:
    """Return the names that stand for items; before Python 3.12 they are not among those of the function."""
    targets = [node.target for node in ast.walk(tree) if isinstance(node, ast.comprehension)]
    return frozenset(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _attribute(value: object, name: str) -> object:
    """Return the attribute; that of a plain object only as it is stored, since a property would run code."""
    if isinstance(value, types.ModuleType | type):
        return getattr(value, name, _NOTHING)
    return inspect.getattr_static(value, name, _NOTHING)


def _as_map(found: Described) -> Described:
    return Described(kind=NodeKind.MAP, name=found.name, label=found.label, title=found.title)


def _renamed(found: Described, keywords: list[ast.keyword]) -> Described:
    for keyword in keywords:
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            return Described(kind=found.kind, name=keyword.value.value, label=keyword.value.value, title=found.title)
    return found
