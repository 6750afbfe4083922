"""What values of Python stand for in expressions.

Relatives of JSON's types (scalars of numpy, members of ``StrEnum``, tuples, records) become those types where they
enter a graph: see `as_data`. A value that JSON has no type for, such as a time, a path or an array, is passed on as it
is, and means a text, a number or a list where an expression looks at it: see `meaning`.

Values and expressions in words, for messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from difflib import SequenceMatcher, get_close_matches
from enum import Enum
from functools import cache
from math import isfinite
from pathlib import PurePath
from typing import Any, Final, NoReturn, TypeAlias

import msgspec

Tree: TypeAlias = dict[str, Any]
"""A node of JMESPath's syntax tree: ``type``, ``children``, and ``value`` where it has one."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

PLAIN: Final = _SCALARS | {list, dict}
"""The types of JSON: what is of one of them, and of no subclass, stands for itself."""

_PANDAS_NULLS: Final = frozenset({"NAType", "NaTType"})

MOST_ITEMS: Final = 10_000_000
"""An array of more items is no list."""


def as_data(value: Any) -> Any:
    """Return what came from Python with JSON's own types in place of their relatives, at every depth."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {key if type(key) is str else _as_key(key): as_data(each) for key, each in value.items()}
    if kind is list:
        return [as_data(each) for each in value]
    match value:
        case str():
            return str.__str__(value)  # of a member of an enumeration what it stands for
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case Mapping():
            return as_data(dict(value))
        case _:
            return _of_another_kind(value)


def _as_key(key: Any) -> Any:
    found = as_data(key)
    return key if type(found) in {list, dict} else found  # which can be no key


def _of_another_kind(value: Any) -> Any:
    fields = _fields(value)
    if fields is not None:
        return {str(name): as_data(each) for name, each in fields.items()}
    if isinstance(value, list | tuple):
        return [as_data(each) for each in value]
    module = type(value).__module__
    if module == "numpy" and getattr(value, "shape", None) == ():
        return _numpy_scalar(value)
    if module.startswith("pandas.") and type(value).__name__ in _PANDAS_NULLS:
        return None
    return value


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of a record; None of what is none."""
    if hasattr(value, "_asdict"):
        fields: dict[str, Any] = value._asdict()
        return fields
    kind = type(value)
    names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", None)
    if names is None and hasattr(kind, "__attrs_attrs__"):
        names = [each.name for each in kind.__attrs_attrs__]
    # A field without a default that is left out of __init__ may not be there yet.
    return None if names is None else {name: getattr(value, name) for name in names if hasattr(value, name)}


def _numpy_scalar(value: Any) -> Any:
    kind = value.dtype.kind
    if kind == "M":  # with nanoseconds, item() would be a number
        return value.astype("datetime64[us]").item()
    plain = float(value) if kind == "f" else value.item()
    return plain if type(plain) is type(value) else as_data(plain)


# -- where an expression looks at a value ------------------------------------------------------------------------


def coerce(value: Any) -> Any:
    """Return what an expression takes the value for: a list, a text or a number; what has no such meaning stays.

    Raises:
        ValueError: it is a decimal that no number of JSON is.
    """
    if type(value) in PLAIN:
        return value
    match value:
        case tuple() if not hasattr(value, "_asdict"):
            return list(value)
        case Mapping():
            return dict(value)
        case Decimal():
            return _number(value)
        case Enum() if not isinstance(value, str | int | float):
            return coerce(value.value)
        case _ if isinstance(value, PurePath) or type(value).__module__ == "uuid":
            return str(value)
        case date() | time() if value == value:  # noqa: PLR0124 -- the NaT of pandas is another one than itself
            return _iso(value)
        case _:
            converted = _listed(value) if getattr(value, "ndim", 0) else as_data(value)
            return converted if converted is value else coerce(converted)


def _iso(value: date | time) -> str:
    text = value.isoformat()
    return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text


def _number(value: Decimal) -> int | float:
    if value.is_finite() and value == value.to_integral_value() and value.adjusted() < MOST_DIGITS:
        return int(value)
    number = float(value)
    if not isfinite(number) or Decimal(repr(number)) != value:
        raise ValueError("a Decimal that no number of JSON is exactly; round it, or make a text of it")
    return number


MOST_DIGITS: Final = 300
"""A decimal with more digits before the point is no number."""


def _listed(value: Any) -> Any:
    """Return an array, series or index as a list; a frame, or what is none of them, as it is."""
    module = type(value).__module__.partition(".")[0]
    is_array = module in {"numpy", "pandas"} and hasattr(value, "tolist")
    return as_data(value.tolist()) if is_array and value.size <= MOST_ITEMS else value


def coerce_deep(value: Any) -> Any:
    """Return the meaning of the value, and of everything in it."""
    value = coerce(value)
    match value:
        case list():
            return [coerce_deep(each) for each in value]
        case dict():
            return {coerce_deep(key): coerce_deep(each) for key, each in value.items()}
        case _:
            return value


def is_true(value: Any) -> bool:
    """Tell whether a condition holds: true does, false does not, nor does null, which ``&&`` gives of what is missing.

    Raises:
        ValueError: it is something else.
    """
    value = coerce(value)
    if value is None or isinstance(value, bool):
        return value is True
    raise ValueError(f"gives {describe(value)}, which is neither true nor false; compare it with something")


# -- as JSON -----------------------------------------------------------------------------------------------------


def as_json(value: Any) -> Any:
    """Return what stands in JSON for a value that JSON has no type for: the hook of encoders.

    Raises:
        TypeError: nothing does.
    """
    found = coerce(value)
    if found is value:
        raise TypeError(f"a {type(value).__name__} is nothing that JSON has")
    return found


def read_json(text: str) -> Any:
    """Return what the JSON says.

    Raises:
        ValueError: it is no JSON; NaN and Infinity are none.
    """
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def write_json(value: Any, **options: Any) -> str:
    """Return the value as JSON, without blanks unless the options of `json.dumps` say so.

    Raises:
        TypeError, ValueError: JSON has nothing for it.
    """
    return json.dumps(value, **{"separators": (",", ":"), "allow_nan": False, "default": as_json, **options})


@cache
def text_encoder() -> msgspec.json.Encoder:
    """Return what writes values into texts: as JSON, with times as ISO 8601."""
    return msgspec.json.Encoder(enc_hook=as_json, decimal_format="number")


def tree_text(tree: Tree) -> str:
    """Return the tree as a text that people recognise, for messages."""
    children = [tree_text(child) for child in tree.get("children", ()) if isinstance(child, dict)]
    match tree["type"]:
        case "field":
            value: str = tree["value"]
            return value if value.isidentifier() else f'"{value}"'
        case "subexpression":
            return ".".join(children)
        case "index_expression":
            return "".join(children)
        case "index":
            return f"[{tree['value']}]"
        case "projection" | "filter_projection":
            inner = "[]" if tree["children"][0]["type"] == "flatten" else "[*]"
            rest = "" if tree["children"][1]["type"] == "identity" else f".{children[1]}"
            return f"{children[0].removesuffix('[]')}{inner}{rest}"
        case "flatten":
            return f"{children[0]}[]"
        case "pipe":
            return " | ".join(children)
        case "function_expression":
            return f"{tree['value']}({', '.join(children)})"
        case "literal":
            return f"`{msgspec.json.encode(tree['value']).decode()}`"
        case "current" | "identity":
            return "@"
        case _:
            return "..."


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of the known words that was perhaps meant: mistyped, or with another ending."""
    for each in get_close_matches(word, list(known), n=3):
        n_alike = sum(block.size for block in SequenceMatcher(None, word, each).get_matching_blocks())
        n_most = max(len(word), len(each))
        if n_most - n_alike <= max(1, n_most // 3) or word[:_BEGINNING] == each[:_BEGINNING]:
            return each
    return None


_BEGINNING: Final = 4
"""Words that begin alike, so far, are alike whatever their endings are."""


def describe(value: object, *, depth: int = 1) -> str:
    """Return what a value is, for messages: its kind, size and keys, and nothing of its content."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"a text of {len(value)} characters"
        case Mapping():
            keys = ", ".join(map(str, list(value)[:8])) + (", ..." if len(value) > 8 else "")
            return f"an object with {keys}" if value else "an empty object"
        case list() | tuple():
            inside = f", first {describe(value[0], depth=0)}" if value and depth else ""
            return f"a list of {len(value)}{inside}" if value else "an empty list"
        case _:
            return f"a {type(value).__name__}"
