"""What modules hold does not change: the state of a process is its registry, and what is listed here."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import logging
import operator
import pathlib
import re
import types
import typing
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import date
from enum import Enum
from typing import Any, Final

import msgspec
import pytest

from tests.test_architecture import INNER, NAME, dotted, found, modules, nodes, tree

STATE: Final = {
    "code_identity.referenced_values._DIGESTER": "it names constants that it can't read, for as long as they live",
    "code_identity.definitions._CLASSES": "what was read of classes, compared before each use; at most 256",
    "code_identity.definitions._READINGS": "what was read of functions, for as long as their code lives",
    "code_identity.source_files._TEXTS": "what was read of modules of the user, compared before each use",
    "code_identity.tracker._EPOCH": "a cell is executed in the process, whatever engines there are",
    "execution.definitions.call_sites._SITES": "what was read of functions, for as long as their code lives",
    "execution.registry.REGISTRY": "the default engine, and what is defined in the process",
    "execution.steps.captured_streams.STREAMS": "a process has one stdout and one stderr",
    "execution.system.interrupts.INTERRUPTS": "a process has one handler of SIGINT",
    "execution.system.process_identity._GIVEN_UP": "an engine was closed, but its journal refused to delete its lease",
    "graphs.language.functions.EXTRA_FUNCTIONS": "the functions of the module enter themselves while it is imported",
    "graphs.nodes.processes.SUPERVISOR": "programs end with the process that began them",
    "journal.migrations.MIGRATIONS": "the library collects migrations while the module is imported",
    "values.class_codecs._CODECS": "a class of the process has one codec; a later one takes its place",
    "values.private_files._OPEN_JOURNALS": "closing a descriptor of a file drops all locks of the process on it",
    "values.classes._NOTES": "how unpickled functions and classes were read, for as long as they live",
}
"""What changes, and why it belongs to the process."""

UNCHANGED: Final = {
    "CallSites": "it is made once",
    "Command": "click makes it once",
    "FixtureFunctionDefinition": "pytest's own",
    "Group": "click adds the commands while the module is imported",
    "OptionParameters": "it is made once",
    "SourceSpans": "it is made once",
    "StepSpec": "a step of the package itself",
    "Table": "statements made of names of columns",
}
"""Classes of objects that could be changed and are not."""

ATOMS: Final = (
    str, bytes, int, float, complex, type(None), type(...), range, type, Enum, date, pathlib.PurePath, re.Pattern,
    types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
    types.ModuleType, types.GenericAlias, types.UnionType, typing.TypeVar, typing.ParamSpec, typing.NewType,
    operator.attrgetter, operator.itemgetter, msgspec.json.Encoder, msgspec.json.Decoder, logging.Logger, ContextVar,
)  # fmt: skip
CHANGES: Final = {
    "add", "append", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem", "remove", "setdefault",
    "update",
}  # fmt: skip


def is_imported(path: pathlib.Path) -> bool:
    """Return True if a process of this machine can import the module, and it defines something."""
    if dotted(path) == "notebook.card_widget" and importlib.util.find_spec("anywidget") is None:
        return False
    return path.stem != "__init__" and "Windows alone" not in (ast.get_docstring(tree(path)) or "")


def held(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """Yield the names that the module gives to values, and the values."""
    module = importlib.import_module(f"{NAME}.{dotted(path)}".removesuffix("."))
    for node in tree(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if is_given(node) else []
        for name in (inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)):
            yield name, getattr(module, name)
        if isinstance(node, ast.FunctionDef):
            yield node.name, getattr(module, node.name)


def is_given(node: ast.stmt) -> typing.TypeGuard[ast.AnnAssign]:
    return isinstance(node, ast.AnnAssign) and node.value is not None


def is_constant(value: Any) -> bool:
    """Return True if the value can't change, or is a filled table of such; of tables the source tells the rest."""
    return is_part(value) and not (isinstance(value, dict | list | set) and not value)


def is_part(value: Any) -> bool:
    match value:
        case dict() | types.MappingProxyType():
            return all(map(is_part, (*value.keys(), *value.values())))
        case list() | set() | tuple() | frozenset():
            return all(map(is_part, value))
        case functools.partial():
            return all(map(is_part, (value.func, *value.args, *value.keywords.values())))
        case types.MethodType():
            return is_part(value.__self__)
        case functools._lru_cache_wrapper():
            return value.cache_parameters()["maxsize"] is not None or has_few_answers(value)
        case msgspec.Struct():
            return value.__struct_config__.frozen
    if dataclasses.is_dataclass(value):
        return bool(value.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    is_bare = not getattr(value, "__dict__", None) and not hasattr(type(value), "__len__") and is_without_slots(value)
    return isinstance(value, ATOMS) or typing.get_origin(value) is not None or is_bare


def is_without_slots(value: Any) -> bool:
    return not any(vars(kind).get("__slots__") for kind in type(value).__mro__)


def has_few_answers(cached: Any) -> bool:
    """Return True if the function takes nothing, or the kind of a run or of a class, of which there are few."""
    return set(cached.__wrapped__.__code__.co_varnames[: cached.__wrapped__.__code__.co_argcount]) <= {"kind"}


def test_a_module_holds_nothing_that_changes() -> None:
    def changing(path: pathlib.Path) -> Iterator[str]:
        for name, value in held(path):
            is_known = f"{dotted(path)}.{name}" in STATE or type(value).__name__ in UNCHANGED
            if not is_known and not is_constant(value):
                yield f"{name} can change; let an engine or the registry hold it"

    assert found(changing, filter(is_imported, INNER)) == {}


def changed(path: pathlib.Path) -> Iterator[str]:
    """Yield the names whose values functions of the file change."""
    for node in nodes(path):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = [each.value for each in node.targets if isinstance(each, ast.Subscript)]
        elif isinstance(node, ast.AugAssign):
            targets = [node.target.value if isinstance(node.target, ast.Subscript) else node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            targets = [node.func.value]
        yield from (each.id for each in targets if isinstance(each, ast.Name))


def test_no_table_of_a_module_is_changed() -> None:
    def changed_tables(path: pathlib.Path) -> set[str]:
        origins = {
            alias.asname or alias.name: f"{node.module}.{alias.name}".removeprefix(f"{NAME}.")
            for node in nodes(path) if isinstance(node, ast.ImportFrom) for alias in node.names
        }  # fmt: skip
        own = {name: f"{dotted(path)}.{name}" for node in tree(path).body for name in assigned(node)}
        constants = {name for name in changed(path) if name.lstrip("_").isupper()}
        return {(origins | own)[name] for name in constants if name in origins | own} - STATE.keys()

    assert found(changed_tables, INNER) == {}


def assigned(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (each.id for each in targets if isinstance(each, ast.Name))


def test_what_is_listed_is_there() -> None:
    for place in STATE:
        module, _, name = place.rpartition(".")
        assert hasattr(importlib.import_module(f"{NAME}.{module}"), name)


def test_no_function_binds_a_name_of_its_module() -> None:
    assert not [dotted(path) for path in modules() for node in nodes(path) if isinstance(node, ast.Global)]


class Thing:
    def __init__(self) -> None:
        self.n = 0


@pytest.mark.parametrize("value", [{}, [], set(), Thing(), [Thing()], functools.cache(lambda value: value)])
def test_the_search_for_state_finds_some(value: Any) -> None:
    assert not is_constant(value)


@pytest.mark.parametrize(
    "value", [1, "a", (1, frozenset("a")), {"a": [1]}, object(), print, functools.cache(lambda: 1)]
)  # fmt: skip
def test_the_search_for_state_leaves_constants_alone(value: Any) -> None:
    assert is_constant(value)
