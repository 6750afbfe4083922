"""What one function or class refers to: its links, each with a label and what it leads to."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from ironflow_nb.core.identity import step_name
from ironflow_nb.tracking.constants import is_constant
from ironflow_nb.tracking.origin import is_generated, is_user_class, is_user_function
from ironflow_nb.tracking.parts import Untracked
from ironflow_nb.tracking.reading import Reading, class_namespace, functions_in, is_written_in, own_methods
from ironflow_nb.tracking.references import Chain
from ironflow_nb.tracking.resolving import Code, Constant, Resolver, Scope, Target, owner_of
from ironflow_nb.values.classes import class_name

Link = tuple[str, Target]


def links_of_function(code: Code, reading: Reading, resolver: Resolver) -> Iterator[Link]:
    """Yield what the body refers to, and the decorators if nothing shows what they made of the function."""
    resolver.watch.function(code.value)
    scope = _scope_of_function(code.value, code.owner, reading)
    for chain in reading.chains:
        for target in _unassigned(chain, reading, scope, resolver):
            yield ".".join(chain), target
    for chain in reading.decorators if resolver.asks_decorators and not code.is_wrapped else ():
        for target in resolver.chain(chain, scope):
            yield "@" + ".".join(chain), target


def links_of_step(code: Code, reading: Reading, resolver: Resolver) -> Iterator[Link]:
    """Yield the links of the function of a step itself, without the data that it closes over: they are arguments."""
    cells = code.value.__code__.co_freevars
    for label, target in links_of_function(code, reading, resolver):
        if isinstance(target, Code) or label.partition(".")[0] not in cells:
            yield label, target


def links_of_defaults(function: types.FunctionType, resolver: Resolver) -> Iterator[Link]:
    """Yield the default arguments, as they were when the function was defined."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    values = function.__defaults__ or ()
    given = {**dict(zip(names[len(names) - len(values) :], values, strict=True)), **(function.__kwdefaults__ or {})}
    for name, value in sorted(given.items()):
        for target in resolver.value(value, f"{name_of(function)}({name}=)"):
            yield f"{name}=", target


def links_of_class(kind: type, reading: Reading, resolver: Resolver) -> Iterator[Link]:
    """Yield what the body refers to, the user's base classes, and what the class has that its body does not show."""
    resolver.watch.attributes(kind)
    scope = Scope(class_namespace(kind), _watched_cells(kind, resolver), imports=reading.imports)
    for chain in reading.chains:
        for target in resolver.chain(chain, scope):
            yield ".".join(chain), target
    for base in (*kind.__bases__, type(kind)):
        if is_user_class(base):
            yield f"base {base.__name__}", Code(base)
    yield from _links_of_attributes(kind, resolver, is_written=reading.trouble is None)


def name_of(value: Any) -> str:
    """Return the name of what is written there: a wrapper is not called by the name of what it wraps."""
    if isinstance(value, types.FunctionType):
        return step_name(value.__globals__.get("__name__"), value.__code__.co_qualname)
    return step_name(value.__module__, value.__qualname__)


def _scope_of_function(function: types.FunctionType, owner: type | None, reading: Reading) -> Scope:
    code = function.__code__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    first = code.co_varnames[0] if code.co_argcount else None
    return Scope(function.__globals__, cells, owner or owner_of(function), first, reading.imports)


def _unassigned(chain: Chain, reading: Reading, scope: Scope, resolver: Resolver) -> Iterator[Target]:
    """Let no global count that the code itself assigns: a counter would make it other code after every call."""
    for target in resolver.chain(chain, scope):
        if isinstance(target, Constant) and chain[0] in reading.assigned:
            resolver.watch.only_type(scope.namespace, chain[0])
            yield Untracked(chain[0], "assigned by the code itself")
        else:
            yield target


def _watched_cells(kind: type, resolver: Resolver) -> dict[str, types.CellType]:
    cells: dict[str, types.CellType] = {}
    for method in own_methods(kind):
        resolver.watch.function(method)
        cells.update(zip(method.__code__.co_freevars, method.__closure__ or (), strict=True))
    return {name: cell for name, cell in cells.items() if name != "__class__"}


def _links_of_attributes(kind: type, resolver: Resolver, *, is_written: bool) -> Iterator[Link]:
    """Yield functions that were put into the class later; of a class without source everything."""
    for name, value in sorted(vars(kind).items()):
        found = (each for each in functions_in(value) if is_user_function(each))
        functions = [each for each in found if not (is_written and is_generated(each))]
        if functions and not (is_written and all(is_written_in(each, kind) for each in functions)):
            for target in resolver.value(value, f"{class_name(kind)}.{name}"):
                yield f".{name}", target
        elif not is_written and not name.startswith("__") and is_constant(value):
            yield f".{name}", Constant(f"{class_name(kind)}.{name}", value)
