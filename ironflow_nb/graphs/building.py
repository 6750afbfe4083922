"""What Python code writes of a graph, as the format has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def as_written(keys: Mapping[str, Any], functions: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return the keys of a node as the format has them; functions become names, which are noted in `functions`."""
    return {str(key).rstrip("_"): _named(value, functions) for key, value in keys.items()}


def _named(value: Any, functions: dict[str, Callable[..., Any]]) -> Any:
    match value:
        case Mapping():
            return as_written(value, functions)
        case list() | tuple():
            return [_named(each, functions) for each in value]
        case _ if callable(value):
            name = str(getattr(value, "name", None) or getattr(value, "__name__", "function"))
            short = name.rpartition(".")[2]
            functions[short] = value
            return short
        case _:
            return value
