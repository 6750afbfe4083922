"""The arguments of a call by name: bound to the signature, with defaults and the data of closures; those of an undo."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from ironflow_nb.errors import DefinitionError
from ironflow_nb.values.argument_types import Resource

_SIMPLE_KINDS: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})
_CODE_TYPES: Final = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType, types.ModuleType, type,
)  # fmt: skip


CLOSURE: Final = "<closure> "
"""The prefix of the names of closure data, and of the object that a method is bound to, among the arguments."""


class _Written:
    """An annotation that is shown as its text, without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Parameters:
    """The signature of a function, made ready to bind many calls fast."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Read the signature.

        Raises:
            DefinitionError: the function has none.
        """
        self.function = function
        try:
            self.signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            raise DefinitionError(
                f"{function!r} has no signature, so its calls can't be recorded; wrap it in a def"
            ) from error
        parameters = self.signature.parameters.values()
        self._is_simple = all(parameter.kind in _SIMPLE_KINDS for parameter in parameters)
        self._names = tuple(self.signature.parameters)
        is_plain = isinstance(function, types.FunctionType)
        self._free_names = function.__code__.co_freevars if is_plain else ("what it is bound to",)

    def __str__(self) -> str:
        """The signature as it was written, also where annotations are kept as texts."""
        parameters = [
            parameter.replace(annotation=_Written(parameter.annotation))
            if isinstance(parameter.annotation, str)
            else parameter
            for parameter in self.signature.parameters.values()
        ]
        returned = self.signature.return_annotation
        shown = self.signature.replace(
            parameters=parameters, return_annotation=_Written(returned) if isinstance(returned, str) else returned
        )
        return str(shown)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the call by name, defaults applied.

        Raises:
            TypeError: the call does not fit the signature.
        """
        if self._is_simple and not kwargs and len(args) == len(self._names):
            arguments = dict(zip(self._names, args, strict=True))
        else:
            try:
                bound = self.signature.bind(*args, **kwargs)
            except TypeError as error:
                name = getattr(self.function, "__qualname__", repr(self.function))
                raise TypeError(f"{name}() {error}") from None
            bound.apply_defaults()
            arguments = dict(bound.arguments)
        if self._free_names:
            arguments.update(closure_of(self.function))
        return arguments

    def positional(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return recorded arguments as the ``*args, **kwargs`` of a call."""
        bound = self.signature.bind_partial()
        for name in self._names:
            if name in arguments:
                bound.arguments[name] = arguments[name]
        return bound.args, bound.kwargs


_EMPTY_CELL: Final = types.ModuleType("an empty cell")


def closure_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the data that the function closes over, or is bound to: it acts on it as on arguments."""
    found: dict[str, Any] = {}
    while isinstance(function, partial):
        found |= {str(index): value for index, value in enumerate(function.args)}
        function = function.func
    if not isinstance(function, types.FunctionType) and not hasattr(function, "__wrapped__"):
        found["self"] = getattr(function, "__self__", function)  # of a method, else an object that can be called
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = zip(names, getattr(function, "__closure__", None) or (), strict=True)
    found |= {name: _content(cell) for name, cell in cells}
    return {f"{CLOSURE}{name}": value for name, value in found.items() if not is_code_object(value)}


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY_CELL


def is_code_object(value: object) -> bool:
    """Return True if the value is code (a function, class, module, step or flow) and no data."""
    return isinstance(value, _CODE_TYPES) or hasattr(type(value), "__ironflow_definition__")


def unwrapped(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments as the body is to get them, without the wrappers of resources."""
    if Resource in map(type, args) or Resource in map(type, kwargs.values()):
        return tuple(map(_bare, args)), {name: _bare(value) for name, value in kwargs.items()}
    return args, kwargs


def _bare(value: Any) -> Any:
    return value.wrapped if type(value) is Resource else value


_RESULT: Final = "result"
_COLLECTING: Final = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


class UndoParameters(msgspec.Struct, frozen=True):
    """The parameters of an undo: `arguments` get what the step got under the same names, `result` what it returned."""

    arguments: tuple[str, ...]
    result: str | None

    def bind(self, arguments: Mapping[str, Any], result: Any) -> dict[str, Any]:
        """Return the arguments of the undo of a call that had those and returned the result."""
        given = {name: arguments[name] for name in self.arguments}
        return given if self.result is None else given | {self.result: result}


def undo_parameters(undo: Parameters, step: Parameters, names: tuple[str, str]) -> UndoParameters:
    """Return which parameters of the undo get what; `names` are those of the undo and of the step, for messages.

    A parameter with the name of an argument of the step gets that argument. One other gets the result: the one called
    ``result``, or the only one that needs a value.

    Raises:
        DefinitionError: another one needs a value, too.
    """
    known = step.signature.parameters
    own = [each for each in undo.signature.parameters.values() if each.kind not in _COLLECTING]
    others = [each.name for each in own if each.name not in known]
    needed = [each.name for each in own if each.name in others and each.default is inspect.Parameter.empty]
    of_result = next((name for name in (_RESULT, *needed) if name in others), None)
    lacking = [name for name in needed if name != of_result]
    if lacking:
        given = ", ".join(known) or "none"
        raise DefinitionError(
            f"{names[0]}, which undoes {names[1]}, gets the result and the arguments of that by their names ({given}), "
            f"and also needs {' and '.join(lacking)}; leave that away, or give it a default",
            name=names[0],
        )
    return UndoParameters(tuple(each.name for each in own if each.name in known), of_result)
