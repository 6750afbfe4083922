"""The tagged form: JSON with tags for the types that JSON does not have.

Plain values (None, bool, str, int, finite float, and lists and string-keyed dicts of them, all of exactly those
types) are written as they are. Every other value is an object with the key ``~``::

    {"~": "tuple", "v": [1, 2]}          {"~": "dict", "v": [[1, "one"]]}     keys that are not strings, or are "~"
    {"~": "set", "v": [...]}             {"~": "data", "c": "Point", "v": {"x": 1}}                    a dataclass
    {"~": "datetime", "v": "..."}        {"~": "enum", "c": "Colour", "v": "RED"}

The key ``c`` names the class that rebuilds the value; its code is not stored.
"""

from __future__ import annotations

import math
import pathlib
import struct
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from typing import Any, Final

from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.values.argument_types import File, Secret
from ironflow_nb.values.class_codecs import decoded, encoded
from ironflow_nb.values.classes import adds_only_attributes, attributes, class_name, find_class
from ironflow_nb.values.shared_parts import REPEATS, share_too_often

TAG: Final = "~"
_PLAIN_TYPES: Final = frozenset({str, bool, type(None)})
_TEXT_KEYS: Final = frozenset({str})
_INT_LIMIT: Final = 2**63
_SHORT: Final = 8
_DEEPEST: Final = 100
"""Levels of plain JSON; a deeper value may overflow the stack of its caller."""

NOT_PLAIN: Final = (UnicodeEncodeError, RuntimeError, TypeError)
"""What is raised for a value that the tagged form must take: it has a lone surrogate, is too deep, or is changed by
another thread at that moment."""

Tree = Any
"""A value that a JSON encoder writes without changes."""


def is_plain(value: Any) -> bool:
    """Return True if JSON restores the value exactly.

    Lone surrogates are not looked for: the encoder refuses them. See `NOT_PLAIN`.
    """
    kind = type(value)
    if kind is not dict and kind is not list:
        return _is_plain_scalar(kind, value)
    inner: list[Any] = []
    if not _is_plain_container(value, inner):
        return False
    return not inner or _are_plain([value], inner)


def _are_plain(met: list[Any], level: list[Any]) -> bool:
    """Return True if the containers of this level and of those below are plain, and not shared too often."""
    for _ in range(_DEEPEST):
        if len(level) > REPEATS:
            met = met + level
            if share_too_often(met, sum(map(len, level))):
                return False
        inner: list[Any] = []
        for each in level:
            if not _is_plain_container(each, inner):
                return False
        if not inner:
            return True
        level = inner
    return False


def _is_plain_container(container: Any, inner: list[Any]) -> bool:
    """Return True if the items are plain. Lists and dicts among them are not checked, but added to `inner`."""
    values = container
    if type(container) is dict:
        if TAG in container or not _TEXT_KEYS.issuperset(map(type, container)):
            return False
        values = container.values()
    # Most long lists have items of simple types only; this check runs in C.
    if len(values) > _SHORT and _PLAIN_TYPES.issuperset(map(type, values)):
        return True
    for value in values:
        kind = type(value)
        if kind in _PLAIN_TYPES or (kind is int and -_INT_LIMIT <= value < _INT_LIMIT):
            continue
        if kind is list or kind is dict:
            inner.append(value)
        elif kind is not float or not math.isfinite(value):
            return False
    return True


def _is_plain_scalar(kind: type, value: Any) -> bool:
    if kind is int:
        return bool(-_INT_LIMIT <= value < _INT_LIMIT)
    return kind in _PLAIN_TYPES or (kind is float and math.isfinite(value))


def tag(value: object, rules: Rules) -> Tree:
    """Return the tagged form of the value.

    Raises:
        RecursionError: the value contains itself, or shares its parts too often to be written out.
    """
    kind = type(value)
    tagger = _TAGGERS.get(kind)
    if tagger is not None:
        return tagger(value, rules)
    if kind not in _FORMS:
        return rules.other(value, rules)
    name, write, _ = _FORMS[kind]
    return {TAG: name, "v": write(value)}


@dataclass(frozen=True, slots=True)
class Rules:
    """How `tag` writes values that have several possible forms.

    `other` returns the tree of a value whose type is not built-in. `order` sorts the pairs of a dict whose keys are not
    all strings. `meet` is called with each container. `part` returns the tree of an item of a container, `key` that of
    an item of a set or a key of a dict. `items` returns the items of a dict in the order in which they are tagged.
    """

    other: Callable[[object, Rules], Tree]
    order: Callable[[list[list[Tree]]], list[list[Tree]]]
    encode: Callable[[Tree], bytes]
    meet: Callable[[Any], object]
    part: Callable[[object, Rules], Tree] = tag
    key: Callable[[object, Rules], Tree] = tag
    items: Callable[[dict[Any, Any]], Iterable[tuple[Any, Any]]] = dict.items


def tag_by_class(value: Any, rules: Rules) -> Tree | None:
    """Return the tagged form of a named tuple, enum, path, dataclass, zone, UUID, numpy or pandas scalar; else None."""
    kind = type(value)
    if isinstance(value, Enum):
        is_flag = isinstance(value, Flag)
        what = tag(value._value_, rules) if is_flag else value._name_
        return {TAG: "flag" if is_flag else "enum", "c": class_name(kind), "v": what}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return _tag_named_tuple(value, rules)
    if is_dataclass(kind):
        return _tag_dataclass(value, rules)
    if _PATHS.get(kind.__name__) is kind:
        return {TAG: "path", "t": kind.__name__, "v": tag(str(value), rules)}
    root = kind.__module__.partition(".")[0]
    if root == "zoneinfo" and kind.__name__ == "ZoneInfo":
        return rules.other(value, rules) if value.key is None else {TAG: "zone", "v": value.key}
    if root == "pandas" and kind.__name__ in _PANDAS_SCALARS:
        return _tag_pandas_scalar(value, rules)
    if root == "numpy" and root in sys.modules and isinstance(value, sys.modules["numpy"].generic):
        return _tag_numpy_scalar(value)
    return {TAG: "uuid", "v": value.hex} if root == "uuid" and kind.__name__ == "UUID" else None


def tag_secret(secret: Secret, keyed: Callable[[bytes], bytes]) -> Tree:
    """Return the tagged form of a secret: its environment variable, or else a digest of its text."""
    return {TAG: "secret"} | ({"v": secret.digest(keyed)} if secret.variable is None else {"env": secret.variable})


def tag_by_codec(value: object, rules: Rules) -> Tree | None:
    """Return the tagged form of a value of a class with a codec; else None."""
    found = encoded(value)
    return None if found is None else {TAG: "codec", "c": found[0], "v": rules.part(found[1], rules)}


def is_made_of_parts(value: Any) -> bool:
    """Return True if the value is a container or an object, and not a scalar or a tuple of scalars."""
    kind = type(value)
    if kind is tuple:
        return any(type(item) in _CONTAINERS or is_made_of_parts(item) for item in value)
    return kind in _CONTAINERS or not (kind in _TAGGERS or kind in _FORMS)


def untag(tree: Tree) -> Any:
    """Return the value of a tagged form.

    Raises:
        ValueUnreadable: a class that it names does not exist in this process, or is another kind of class.
    """
    try:
        return _untag(tree)
    except ValueUnreadable:
        raise
    except Exception as error:
        raise ValueUnreadable(f"a stored value can't be rebuilt here: {type(error).__name__}: {error}") from error


def _untag(tree: Tree) -> Any:
    if type(tree) is list:
        return [_untag(item) for item in tree]
    if type(tree) is dict:
        name = tree.get(TAG)
        if name is None:
            return {key: _untag(item) for key, item in tree.items()}
        return _READERS[name](tree["v"]) if name in _READERS else _UNTAGGERS[name](tree)
    return tree


# -- scalars -----------------------------------------------------------------------------------------------------


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _tag_str(value: Any, _rules: Rules) -> Tree:
    if value.isascii() or _is_utf8(value):
        return value
    return {TAG: "str", "v": b64encode(value.encode("utf-8", "surrogatepass")).decode()}


def _base64(value: Any) -> str:
    return b64encode(value).decode()


def _tag_instant(value: Any, rules: Rules) -> Tree:
    tree = {TAG: type(value).__name__, "v": value.replace(tzinfo=None).isoformat()}
    return _with_zone(tree, value, rules)


def _with_zone(tree: dict[str, Tree], value: Any, rules: Rules) -> Tree:
    if value.fold:
        tree["fold"] = value.fold
    if value.tzinfo is not None:
        tree["zone"] = tag(value.tzinfo, rules)
    return tree


def _untag_instant(tree: dict[str, Tree]) -> Any:
    kind = datetime if tree[TAG] == "datetime" else time
    return kind.fromisoformat(tree["v"]).replace(tzinfo=_untag(tree.get("zone")), fold=tree.get("fold", 0))


def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def _tag_numpy_scalar(value: Any) -> Tree | None:
    # The padding of extended floats holds random memory; objects and records are not plain buffers.
    if value.dtype.hasobject or value.dtype.fields or not value.dtype.itemsize or value.dtype.char in "gG":
        return None
    return {TAG: "numpy", "t": value.dtype.str, "v": _base64(value.tobytes())}


def _untag_numpy_scalar(tree: dict[str, Tree]) -> Any:
    import numpy  # noqa: ICN001 -- only values of numpy need numpy

    return numpy.frombuffer(b64decode(tree["v"]), dtype=numpy.dtype(tree["t"]))[0]


_PATHS: Final = {name: getattr(pathlib, name) for name in pathlib.__all__ if name.endswith("Path")}
_PANDAS_SCALARS: Final = frozenset({"Timestamp", "Timedelta", "NaTType", "NAType"})


def _tag_pandas_scalar(value: Any, rules: Rules) -> Tree:
    name = type(value).__name__
    if name in {"NaTType", "NAType"}:
        return {TAG: "pandas", "t": name}
    tree = {TAG: "pandas", "t": name, "v": int(value.asm8.view("i8")), "u": value.unit}
    return tree if name == "Timedelta" else _with_zone(tree, value, rules)


def _untag_pandas_scalar(tree: dict[str, Tree]) -> Any:
    import pandas  # noqa: ICN001

    match tree["t"]:
        case "NaTType":
            return pandas.NaT
        case "NAType":
            return pandas.NA
        case "Timedelta":
            return pandas.Timedelta(tree["v"], unit=tree["u"]).as_unit(tree["u"])
    utc = pandas.Timestamp(tree["v"], unit=tree["u"]).as_unit(tree["u"])
    zone = _untag(tree.get("zone"))
    return utc if zone is None else utc.tz_localize("UTC").tz_convert(zone)


# -- containers --------------------------------------------------------------------------------------------------
# Each container is copied by one call in C before its items are tagged: another thread may change it meanwhile.


def _tag_list(value: Any, rules: Rules) -> Tree:
    rules.meet(value)
    part = rules.part
    return [part(item, rules) for item in value[:]]


def _tag_set(value: Any, rules: Rules) -> Tree:
    rules.meet(value)
    items = [rules.key(item, rules) for item in list(value)]
    return {TAG: type(value).__name__, "v": sorted(items, key=rules.encode)}


def _tag_dict(value: Any, rules: Rules) -> Tree:
    rules.meet(value)
    value, part = value.copy(), rules.part
    if TAG not in value and all(type(key) is str and (key.isascii() or _is_utf8(key)) for key in value):
        return {key: part(item, rules) for key, item in rules.items(value)}
    pairs = [[rules.key(key, rules), part(item, rules)] for key, item in rules.items(value)]
    return {TAG: "dict", "v": rules.order(pairs)}


# -- classes of users --------------------------------------------------------------------------------------------


def _tag_named_tuple(value: Any, rules: Rules) -> Tree | None:
    kind = type(value)
    items = tuple.__iter__(value)
    if not adds_only_attributes(kind, tuple) or getattr(value, "__dict__", None) or len(kind._fields) != len(value):
        return None
    rules.meet(value)
    fields_of = dict(zip(kind._fields, items, strict=True))
    trees = {name: rules.part(item, rules) for name, item in fields_of.items()}
    return {TAG: "named", "c": class_name(kind), "v": trees}


def _tag_dataclass(value: Any, rules: Rules) -> Tree | None:
    state = attributes(value)
    if state is None or state.keys() != {field.name for field in fields(value)}:
        return None
    rules.meet(value)
    trees = {name: rules.part(item, rules) for name, item in state.items()}
    return {TAG: "data", "c": class_name(type(value)), "v": trees}


def _untag_named_tuple(tree: dict[str, Tree]) -> Any:
    kind: Any = find_class(tree["c"], lambda found: issubclass(found, tuple) and hasattr(found, "_fields"))
    found = kind._field_defaults | _untag(tree["v"])
    _refuse_other_fields(tree["c"], found, kind._fields)
    return kind._make(found[name] for name in kind._fields)


def _untag_dataclass(tree: dict[str, Tree]) -> Any:
    kind: Any = find_class(tree["c"], is_dataclass)
    found = _untag(tree["v"])
    for field in fields(kind):  # a field that the class got later has its default
        if field.name not in found and field.default is not MISSING:
            found[field.name] = field.default
        elif field.name not in found and field.default_factory is not MISSING:
            found[field.name] = field.default_factory()
    _refuse_other_fields(tree["c"], found, [field.name for field in fields(kind)])
    value = object.__new__(kind)
    for name, item in found.items():
        object.__setattr__(value, name, item)
    return value


def _refuse_other_fields(name: str, found: dict[str, Any], wanted: Sequence[str]) -> None:
    if found.keys() != set(wanted):
        raise ValueUnreadable(
            f"the value is a {name} with the fields {', '.join(found)}, but that class now has {', '.join(wanted)}; "
            "define it again as it was, then read the value again",
            class_name=name,
        )


def _untag_enum(tree: dict[str, Tree]) -> Any:
    kind = find_class(tree["c"], lambda found: issubclass(found, Enum) and tree["v"] in found.__members__)
    return kind[tree["v"]]  # type: ignore[index]


# -- the tables --------------------------------------------------------------------------------------------------

_FORMS: Final[dict[type, tuple[str, Callable[[Any], Tree], Callable[[Any], Any]]]] = {
    complex: (
        "complex",
        lambda value: struct.pack(">dd", value.real, value.imag).hex(),
        lambda v: complex(*struct.unpack(">dd", bytes.fromhex(v))),
    ),
    bytes: ("bytes", _base64, b64decode),
    bytearray: ("bytearray", _base64, lambda v: bytearray(b64decode(v))),
    date: ("date", date.isoformat, date.fromisoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds], lambda v: timedelta(*v)),
    # The current decimal context may write a lowercase exponent.
    Decimal: ("decimal", lambda value: str(value).upper(), Decimal),
}
"""Types whose values are written as one text or list: tag, writer, reader."""

_TAGGERS: Final[dict[type, Callable[[Any, Rules], Tree]]] = {
    type(None): lambda value, _rules: value,
    bool: lambda value, _rules: value,
    str: _tag_str,
    int: lambda value, _: value if -_INT_LIMIT <= value < _INT_LIMIT else {TAG: "int", "v": hex(value)},
    # JSON has no NaN and no infinity; NaN has many bit patterns.
    float: lambda value, _: value if math.isfinite(value) else {TAG: "float", "v": struct.pack(">d", value).hex()},
    list: _tag_list,
    tuple: lambda value, rules: {TAG: "tuple", "v": _tag_list(value, rules)},
    dict: _tag_dict,
    set: _tag_set,
    frozenset: _tag_set,
    range: lambda each, rules: {TAG: "range", "v": [tag(part, rules) for part in (each.start, each.stop, each.step)]},
    datetime: _tag_instant,
    time: _tag_instant,
    timezone: lambda value, rules: {TAG: "timezone", "v": [tag(part, rules) for part in value.__getinitargs__()]},
    File: lambda value, rules: {TAG: "file", "v": tag(str(value.path), rules), "content": value.digest()},
}

_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})

_READERS: Final[dict[str, Callable[[Any], Any]]] = {name: read for name, _, read in _FORMS.values()} | {
    "str": lambda v: b64decode(v).decode("utf-8", "surrogatepass"),
    "int": lambda v: int(v, 16),
    "float": lambda v: struct.unpack(">d", bytes.fromhex(v))[0],
    "tuple": lambda v: tuple(_untag(v)),
    "set": lambda v: set(_untag(v)),
    "frozenset": lambda v: frozenset(_untag(v)),
    "dict": lambda v: {_untag(key): _untag(item) for key, item in v},
    "range": lambda v: range(*_untag(v)),
    "timezone": lambda v: timezone(*_untag(v)),
    "zone": _zone,
    "file": lambda v: File(_untag(v)),
    "uuid": lambda v: find_class("uuid.UUID", lambda _: True)(hex=v),
}

_UNTAGGERS: Final[dict[str, Callable[[dict[str, Tree]], Any]]] = {
    "datetime": _untag_instant,
    "time": _untag_instant,
    "path": lambda tree: _PATHS[tree["t"]](_untag(tree["v"])),
    "numpy": _untag_numpy_scalar,
    "pandas": _untag_pandas_scalar,
    "named": _untag_named_tuple,
    "enum": _untag_enum,
    "flag": lambda tree: find_class(tree["c"], lambda found: issubclass(found, Flag))(_untag(tree["v"])),
    "data": _untag_dataclass,
    "codec": lambda tree: decoded(tree["c"], _untag(tree["v"])),
    "secret": lambda tree: Secret.from_env(tree["env"]) if "env" in tree else Secret.recorded(tree["v"]),
}
