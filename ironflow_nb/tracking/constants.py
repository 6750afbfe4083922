"""Global values that count as code: those that can't change in place."""

from __future__ import annotations

import datetime as dt
import re
import types
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.ids import Digest
from ironflow_nb.values.classes import class_name
from ironflow_nb.values.digest import Digested, Digester
from ironflow_nb.values.kept_code import CodeKnowledge
from ironflow_nb.values.provenance import Provenance

_CONSTANT_TYPES: Final = frozenset({
    int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range, Decimal, re.Pattern,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
})  # fmt: skip
# Of modules that are not imported for this.
_CONSTANT_NAMES: Final = frozenset({"uuid.UUID", "fractions.Fraction", "zoneinfo.ZoneInfo"})
_SHOWN: Final = 200


def is_constant(value: object) -> bool:
    """Tell whether the value can't change in place: then it counts by its content."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return all(map(is_constant, value))  # type: ignore[call-overload]
    return kind in _CONSTANT_TYPES or class_name(kind) in _CONSTANT_NAMES or isinstance(value, PurePath | Enum)


def constant_digest(value: object) -> Digest:
    """Return the digest of a constant."""
    if isinstance(value, re.Pattern):
        return digest_bytes(b"pattern\0" + constant_digest((value.pattern, value.flags)))
    if type(value) in {tuple, frozenset}:
        items = [constant_digest(item) for item in value]  # type: ignore[attr-defined]
        ordered = items if type(value) is tuple else sorted(items)
        return digest_bytes(f"{type(value).__name__}\0".encode() + b"".join(ordered))
    return value_digest(value).digest


def value_digest(value: object) -> Digested:
    """Return the digest of any value, as it would be as an argument."""
    return _DIGESTER.digest(value)


def shown(value: Any) -> str:
    """Return the value as a line of text that is not long."""
    ordered = sorted(map(shown, value)) if type(value) is frozenset else None
    text = repr(value) if ordered is None else f"frozenset({{{', '.join(ordered)}}})"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _no_code(function: types.FunctionType) -> bytes:
    return function.__qualname__.encode()


# Constants come from nowhere, so no entropy is ever asked for: `bytes` returns as many zeros.
_DIGESTER: Final = Digester(Provenance(bytes), CodeKnowledge(_no_code, lambda _: None, lambda _: b""))
