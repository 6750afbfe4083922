"""Containers that the code fills while it runs: what is in them then is what it does, and not what it is."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import getattr_static
from typing import Any

from ironflow_nb.tracking.members import may_have_members
from ironflow_nb.tracking.reading import (
    Reading,
    class_namespace,
    has_our_decorator,
    innermost,
    is_definition,
    own_methods,
    read_function,
)
from ironflow_nb.tracking.references import Chain, changed_names
from ironflow_nb.tracking.resolving import Code
from ironflow_nb.tracking.source import function_source


def filled_by(function: Callable[..., Any], codes: Sequence[Code], readings: Sequence[Reading]) -> Iterator[Any]:
    """Yield the containers and objects that these codes change, and those that flows and steps beside them do.

    What only decorators fill, while modules are loaded, is not among them.
    """
    registering = _decorators(codes, readings)
    for code, reading in zip(codes, readings, strict=True):
        if id(code.value) not in registering:
            yield from _filled(reading.changed, code.value)
        if isinstance(code.value, types.FunctionType):
            yield from _filled(_changed_beside(code.value), code.value)
    root = getattr(function, "fn", function)
    for value in [*getattr(root, "__globals__", {}).values()]:
        fn = getattr(value, "fn", None) if is_definition(value) else None
        if isinstance(fn, types.FunctionType):
            yield from _filled(read_function(innermost(fn)).changed, innermost(fn))


def _decorators(codes: Sequence[Code], readings: Sequence[Reading]) -> set[int]:
    """Return the ids of what is used as a decorator of one of the codes."""
    found = [
        value
        for code, reading in zip(codes, readings, strict=True)
        for value in _meant(reading.decorators, *_scope(code.value))
    ]
    return {id(innermost(each) if isinstance(each, types.FunctionType) else each) for each in found}


def _changed_beside(function: types.FunctionType) -> Iterable[Chain]:
    """Return which cells of the function flows and steps change that are written in the same function as it is."""
    cells = function.__code__.co_freevars
    around = function.__globals__.get(function.__qualname__.partition(".")[0])
    if not cells or not isinstance(around, types.FunctionType):
        return ()
    source = function_source(innermost(around))
    nodes = () if isinstance(source, str) else ast.walk(source.tree)
    ours = [node for node in nodes if has_our_decorator(node, function.__globals__)]
    return [chain for node in ours for chain in changed_names(node, cells)]


def _scope(code: Any) -> tuple[Mapping[str, Any], Mapping[str, types.CellType]]:
    functions = own_methods(code) if isinstance(code, type) else [code]
    cells = [zip(each.__code__.co_freevars, each.__closure__ or (), strict=True) for each in functions]
    namespace = class_namespace(code) if isinstance(code, type) else code.__globals__
    return namespace, {name: cell for each in cells for name, cell in each}


def _filled(chains: Iterable[Chain], code: Any) -> Iterator[Any]:
    return filter(may_have_members, _meant(chains, *_scope(code)))


def _meant(chains: Iterable[Chain], namespace: Mapping[str, Any], cells: Mapping[str, types.CellType]) -> Iterator[Any]:
    """Yield what the chains stand for; nothing is run for it."""
    for head, *attributes in chains:
        found = _content(cells[head]) if head in cells else namespace.get(head)
        for name in attributes:
            found = getattr_static(found, name, None)
        yield found


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None
