"""What ``fetch?`` shows in a notebook: how it is called, with which options, and what counts as its code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from ironflow_nb.execution.spec import StepSpec
from ironflow_nb.tracking.changes import describe
from ironflow_nb.values.stored import legible

_SHOWN = 60


def documentation(kind: str, spec: StepSpec, options: msgspec.Struct) -> str:
    """Return the docstring of the function, its signature and the options that were given, and what is tracked.

    It never raises: what can't be told is left out, and says why.
    """
    parts = [
        inspect.getdoc(spec.function),
        f"{kind} {spec.name}{spec.parameters}",
        _told("options", lambda: _options(options)),
        _told("code", lambda: describe(spec.tracked)),
    ]
    return "\n\n".join(part for part in parts if part)


def _told(what: str, tell: Callable[[], str]) -> str:
    try:
        return tell()
    except Exception as error:  # noqa: BLE001 -- who asks for help gets what there is
        return f"(Its {what} can't be shown: {type(error).__name__}: {error})"


def _options(options: msgspec.Struct) -> str:
    default = type(options)()
    found = ((name, getattr(options, name), getattr(default, name)) for name in options.__struct_fields__)
    given = [f"{name}={_written(value)}" for name, value, usual in found if value is not usual and value != usual]
    return f"Options: {', '.join(given) or 'none given'}"


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Enum):
        return repr(value.value)
    return getattr(value, "__qualname__", None) or legible(repr(value), _SHOWN)
