"""Values of Python in expressions: their conversion to the types of JSON, and their description in messages.

Relatives of JSON's types (numpy scalars, members of ``StrEnum``, tuples, records) become those types when they enter a
graph: see `as_data`. A value without a JSON type, such as a time, a path or an array, is passed on unchanged. It is
converted to a text, a number or a list where an expression reads it: see `coerce`.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
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
"""The types of JSON. A value of exactly one of these types, not of a subclass, needs no conversion."""

_PANDAS_NULLS: Final = frozenset({"NAType", "NaTType"})

MOST_ITEMS: Final = 10_000_000
"""Larger arrays are not converted to lists."""


def as_data(value: Any) -> Any:
    """Return the value with relatives of JSON's types converted to these types, at every depth."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {key if type(key) is str else _as_key(key): as_data(each) for key, each in value.items()}
    if kind is list:
        return [as_data(each) for each in value]
    match value:
        case str():
            return str.__str__(value)  # the value of an enumeration member, not its name
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case Mapping():
            return as_data(dict(value))
        case _:
            return _convert_other(value)


def _as_key(key: Any) -> Any:
    found = as_data(key)
    return key if type(found) in {list, dict} else found  # a list or dict can't be a key


def _convert_other(value: Any) -> Any:
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
    """Return the fields of a record (namedtuple, struct, dataclass, attrs); None for other values."""
    if hasattr(value, "_asdict"):
        fields: dict[str, Any] = value._asdict()
        return fields
    kind = type(value)
    names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", None)
    if names is None and hasattr(kind, "__attrs_attrs__"):
        names = [each.name for each in kind.__attrs_attrs__]
    # A field without a default that __init__ does not set may be missing.
    return None if names is None else {name: getattr(value, name) for name in names if hasattr(value, name)}


def _numpy_scalar(value: Any) -> Any:
    kind = value.dtype.kind
    if kind == "M":  # with nanoseconds, item() would be a number
        return value.astype("datetime64[us]").item()
    plain = float(value) if kind == "f" else value.item()
    return plain if type(plain) is type(value) else as_data(plain)


# -- values that an expression reads ------------------------------------------------------------------------


def coerce(value: Any) -> Any:
    """Return the list, object, text or number that an expression sees in place of the value; others are unchanged.

    Raises:
        ValueError: a decimal that JSON cannot represent exactly.
    """
    if type(value) in PLAIN:
        return value
    match value:
        case tuple() if not hasattr(value, "_asdict"):
            return list(value)
        case Mapping():
            return dict(value)
        case Decimal():
            return _decimal_as_number(value)
        case Enum() if not isinstance(value, str | int | float):
            return coerce(value.value)
        case _ if isinstance(value, PurePath) or type(value).__module__ == "uuid":
            return str(value)
        case date() | time() if value == value:  # noqa: PLR0124 -- the NaT of pandas differs from itself
            return _format_time(value)
        case _:
            converted = _array_as_list(value) if getattr(value, "ndim", 0) else as_data(value)
            return converted if converted is value else coerce(converted)


def _format_time(value: date | time) -> str:
    text = value.isoformat()
    return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text


def _decimal_as_number(value: Decimal) -> int | float:
    if value.is_finite() and value == value.to_integral_value() and value.adjusted() < MOST_DIGITS:
        return int(value)
    number = float(value)
    if not isfinite(number) or Decimal(repr(number)) != value:
        raise ValueError("it is a Decimal that JSON can't represent exactly; round it, or convert it to a text")
    return number


MOST_DIGITS: Final = 300
"""Decimals with more digits before the point are not converted to int."""


def _array_as_list(value: Any) -> Any:
    """Return an array, series or index as a list, and other values, frames too, unchanged."""
    module = type(value).__module__.partition(".")[0]
    is_array = module in {"numpy", "pandas"} and hasattr(value, "tolist")
    return as_data(value.tolist()) if is_array and value.size <= MOST_ITEMS else value


def coerce_deep(value: Any) -> Any:
    """Return the value coerced at every depth."""
    value = coerce(value)
    match value:
        case list():
            return [coerce_deep(each) for each in value]
        case dict():
            return {coerce_deep(key): coerce_deep(each) for key, each in value.items()}
        case _:
            return value


def is_true(value: Any) -> bool:
    """Return True for true, and False for false and null (``&&`` gives null for missing values).

    Raises:
        ValueError: the value is something else.
    """
    value = coerce(value)
    if value is None or isinstance(value, bool):
        return value is True
    raise ValueError(
        f"gives {describe(value)}, which is neither true nor false; compare it with something, or say truthy(...)"
    )


# -- as JSON -----------------------------------------------------------------------------------------------------


def as_json(value: Any) -> Any:
    """Return the JSON form of a value without a JSON type; the hook of encoders.

    Raises:
        TypeError: the value has no JSON form.
    """
    found = coerce(value)
    if found is value:
        raise TypeError(f"a {type(value).__name__} has no JSON form")
    return found


def read_json(text: str) -> Any:
    """Return the data of a JSON text.

    Raises:
        ValueError: the text is not valid JSON. NaN and Infinity are not valid.
    """
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def write_json(value: Any, **options: Any) -> str:
    """Return the value as a JSON text without blanks; `options` are those of `json.dumps`.

    Raises:
        TypeError, ValueError: the value has no JSON form.
    """
    return json.dumps(value, **{"separators": (",", ":"), "allow_nan": False, "default": as_json, **options})


@cache
def text_encoder() -> msgspec.json.Encoder:
    """Return the encoder for values inside texts: JSON, times as ISO 8601, decimals as numbers."""
    return msgspec.json.Encoder(enc_hook=as_json, decimal_format="number")


def field_text(name: str) -> str:
    """Return the name of a field as an expression writes it: in quotes if it has other characters than a name."""
    return name if name.isascii() and name.isidentifier() else f'"{name}"'


def tree_text(tree: Tree) -> str:
    """Return the expression of a syntax tree as text, for messages; parts that are too long become ``...``."""
    children = [tree_text(child) for child in tree.get("children", ()) if isinstance(child, dict)]
    match tree["type"]:
        case "field":
            value: str = tree["value"]
            return field_text(value)
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
        case "arithmetic":
            return f" {tree['value']} ".join(children)
        case _:
            return "..."


def comparable(value: Any) -> Hashable:
    """Return a key that is equal for values that are equal as JSON: 1 is 1.0, and true is not 1.

    Raises:
        TypeError: the value has no JSON form that can be compared.
    """
    match value:
        case bool():
            return bool, value
        case list():
            return list, tuple(map(comparable, value))
        case dict():
            return dict, frozenset((key, comparable(each)) for key, each in value.items())
        case _:
            hash(value)
            return value  # type: ignore[no-any-return]


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most similar to a mistyped one; None if none is similar enough."""
    for each in get_close_matches(word, list(known), n=3):
        n_alike = sum(block.size for block in SequenceMatcher(None, word, each).get_matching_blocks())
        n_most = max(len(word), len(each))
        if n_most - n_alike <= max(1, n_most // 3) or word[:_COMMON_PREFIX] == each[:_COMMON_PREFIX]:
            return each
    return None


_COMMON_PREFIX: Final = 4
"""Words that share that many first letters count as similar, whatever their endings."""


def describe(value: object, *, depth: int = 1) -> str:
    """Return the type, size and keys of a value for messages, without its content, which may be secret."""
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
