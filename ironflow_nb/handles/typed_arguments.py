"""Arguments of JSON as the types that a flow declares: what does not fit is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, get_type_hints

import msgspec


class _NotOfJsonError(Exception):
    """A declared type can't be made of JSON, so the flow gets what came."""


def typed_arguments(function: Callable[..., Any] | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as the types of their annotations, ``"2026-11-29"`` as a date; those without as they are.

    Raises:
        ValueError: one does not fit; the message names it.
    """
    declared = {} if function is None else _declared(function)
    return {name: _typed(name, value, declared[name]) if name in declared else value for name, value in values.items()}


@lru_cache(maxsize=256)
def _declared(function: Callable[..., Any]) -> Mapping[str, Any]:
    return {name: found for name in getattr(function, "__annotations__", {}) for found in _resolved(function, name)}


def _resolved(function: Callable[..., Any], name: str) -> list[Any]:
    """Return the type that the parameter declares; nothing for a name that only type checkers know."""
    alone = SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    try:
        return [get_type_hints(alone, getattr(function, "__globals__", {}))[name]]
    except Exception:  # noqa: BLE001 -- an annotation may be anything
        return []


def _typed(name: str, value: Any, declared: Any) -> Any:
    try:
        return msgspec.convert(value, declared, dec_hook=_made)
    except msgspec.ValidationError as error:
        where = str(error).replace(" - at `$", f" - at `{name}") if " - at `$" in str(error) else f"{name}: {error}"
        raise ValueError(where) from None
    except (_NotOfJsonError, TypeError):
        return value


def _made(_kind: type, _value: Any) -> Any:
    raise _NotOfJsonError
