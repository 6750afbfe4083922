"""Checks of data against JSON schemas, and what is said of data that do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.graphs.compiler.compiler_findings import DataPath, Key
from ironflow_nb.graphs.compiler.json_schema import EXPRESSION, NODES, PATTERN_TEXTS
from ironflow_nb.graphs.language.data import closest
from ironflow_nb.graphs.language.templates import OPENING


def problems(schema: Mapping[str, Any], data: Any, *, allows_expressions: bool) -> Iterator[tuple[DataPath, str]]:
    """Yield what of the data does not fit the schema, each with its path; no message shows a value.

    Args:
        schema: a JSON schema.
        data: the data.
        allows_expressions: the data are as they were written, so that a text with an expression may become anything.
    """
    rules, validator = _compiled(msgspec.json.encode(schema))
    try:
        errors = list(validator.iter_errors(data))
    except ValueError:  # of what JSON does not have
        data = _as_json(data)
        errors = list(validator.iter_errors(data))
    for error in errors:
        yield from _problems(_fault(error, rules, data), allows_expressions=allows_expressions)


@lru_cache(maxsize=512)
def _compiled(schema: bytes) -> tuple[Any, Any]:
    from jsonschema_rs import Draft202012Validator

    # Nodes inside of a part are looked at one by one, each with the path that it has.
    rules = msgspec.json.decode(schema.replace(msgspec.json.encode(NODES["items"]), b"true"))
    return rules, Draft202012Validator(rules)


def _as_json(value: Any) -> Any:
    """Return the value as JSON could have it: bytes as a text, and all else that it lacks as an empty object."""
    match value:
        case Mapping():
            return {str(key): _as_json(each) for key, each in value.items()}
        case list() | tuple():
            return [_as_json(each) for each in value]
        case str():
            return value.encode("utf-8", "replace").decode()  # half of a character in it is not what is looked for
        case None | bool() | int() | float():
            return value
        case bytes() | bytearray():
            return "bytes"
        case _:
            return {}


class _Fault(NamedTuple):
    """Something that does not fit: what, where, and by which keyword of which schema, with its value.

    Of what fits none of several ways, `ways` are the faults of each.
    """

    path: DataPath
    instance: Any
    keyword: str
    value: Any
    schema: Mapping[str, Any]
    ways: tuple[tuple[_Fault, ...], ...]


def _fault(error: Any, rules: Any, data: Any) -> _Fault:
    *around, keyword = error.schema_path
    _, schema = _at(rules, around)
    ways = tuple(
        tuple(_fault(inner, rules, data) for inner in way) for way in getattr(error.kind, "context", None) or ()
    )
    path, instance = _at(data, error.instance_path)
    return _Fault(path, instance, keyword, schema[keyword], schema, ways)


def _at(data: Any, parts: Iterable[str | int]) -> tuple[DataPath, Any]:
    """Return the path and what is there; the library tells the key ``"0"`` of a mapping as a number."""
    path: list[str | int] = []
    for part in parts:
        path.append(str(part) if isinstance(data, Mapping) else int(part))
        data = data[path[-1]]
    return tuple(path), data


def _problems(fault: _Fault, *, allows_expressions: bool) -> Iterator[tuple[DataPath, str]]:
    if allows_expressions and has_expression(fault.instance) and not _is_about_expressions(fault):
        return
    if _is_about_keys(fault) and not isinstance(fault.instance, Mapping):
        return  # its type is told
    if fault.ways and all(fault.ways):  # of several that it fits, some have no fault
        yield from _problems_of_ways(fault, allows_expressions=allows_expressions)
    elif fault.keyword == "additionalProperties":
        known = list(fault.schema.get("properties", {}))
        for key in fault.instance:
            if key not in known:
                yield (*fault.path, Key(key)), f"{key!r} is not known here{suggestion(key, known)}"
    else:
        yield fault.path, _message(fault)


def _is_about_keys(fault: _Fault) -> bool:
    """Tell whether it says which of several keys there are to be."""
    return fault.keyword == "oneOf" and all(
        isinstance(way, Mapping) and way.keys() == {"required"} for way in fault.value
    )


def has_expression(value: Any) -> bool:
    """Tell whether the value is a text with an expression in it."""
    return isinstance(value, str) and OPENING in value


def _problems_of_ways(fault: _Fault, *, allows_expressions: bool) -> Iterator[tuple[DataPath, str]]:
    """Yield what is wrong with what fits none of several ways: of the only one that it is meant for, or of all."""
    found = [
        [each for inner in way for each in _problems(inner, allows_expressions=allows_expressions)]
        for way in fault.ways
    ]
    if allows_expressions and not all(found):
        return
    all_inner = [inner for way in fault.ways for inner in way]
    meant = [
        number for number, way in enumerate(fault.ways) if not any(_is_of_another_type(each, fault) for each in way)
    ]
    if all(inner.keyword == "required" for inner in all_inner):
        names = dict.fromkeys(name for inner in all_inner for name in inner.value)
        yield fault.path, f"it has one of {', '.join(names)}, and none of them is there"
    elif len(meant) == 1:
        yield from found[meant[0]]
    else:
        wanted = dict.fromkeys(_wanted(inner) for inner in all_inner)
        yield fault.path, f"it is to be {' or '.join(wanted)}, not {_is(fault.instance)}"


def _is_of_another_type(inner: _Fault, outer: _Fault) -> bool:
    is_other = inner.keyword in {"type", "const"} or inner.value == EXPRESSION["pattern"]
    return is_other and inner.path == outer.path


def _is_about_expressions(fault: _Fault) -> bool:
    value = fault.value
    pattern = value.get("pattern") if fault.keyword == "not" and isinstance(value, Mapping) else value
    return bool(fault.keyword in {"not", "pattern"} and OPENING.replace("{", r"\{") in str(pattern))


# -- words -------------------------------------------------------------------------------------------------------


def _wanted(fault: _Fault) -> str:
    value = fault.value
    match fault.keyword:
        case "type" if fault.schema.get("pattern") == EXPRESSION["pattern"]:
            return PATTERN_TEXTS[EXPRESSION["pattern"]]
        case "type":
            return _ARTICLES.get(value, str(value)) if isinstance(value, str) else " or ".join(map(_article, value))
        case "const":
            return _in_json(value)
        case "enum":
            return f"one of {', '.join(map(_in_json, value))}"
        case "pattern" if value in PATTERN_TEXTS:
            return PATTERN_TEXTS[value]
        case _:
            return f"something that fits {fault.keyword}: {_in_json(value)}"


_ARTICLES: Final = {
    "object": "a mapping", "array": "a list", "string": "a text", "number": "a number", "integer": "a whole number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def _article(kind: str) -> str:
    return _ARTICLES.get(kind, kind)


def _in_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:100]


def _is(value: Any) -> str:
    match value:
        case None | bool():
            return _in_json(value)
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction"
        case str():
            return "a text"
        case list():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            return f"a {type(value).__name__}"


def _message(fault: _Fault) -> str:
    value, instance = fault.value, fault.instance
    match fault.keyword:
        case "type":
            return f"it is to be {_wanted(fault)}, not {_is(instance)}"
        case "required":
            missing = [key for key in value if key not in instance]
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "enum":
            hint = suggestion(str(instance), [str(each) for each in value], is_listed=False)
            return f"it is to be one of {', '.join(map(str, value))}{hint}"
        case "pattern":
            return (
                f"it is to be {PATTERN_TEXTS[value]}"
                if value in PATTERN_TEXTS
                else f"it does not fit the pattern {value}"
            )
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
            return f"it is to be {words.get(fault.keyword, 'less than')} {value:.12g}"
        case "minItems" | "maxItems":
            bound = "least" if fault.keyword == "minItems" else "most"
            count = "1 item" if len(instance) == 1 else f"{len(instance)} items"
            return f"it has {count}, and {value} is the {bound}" if instance else "it is empty"
        case "minProperties" | "minLength":
            return "it is empty"
        case "maxProperties":
            return f"it has {', '.join(instance)}; only {value} of them can be"
        case "uniqueItems":
            return "something is there twice"
        case "const":
            return f"it is to be {_in_json(value)}"
        case "oneOf" if _is_about_keys(fault):
            names = dict.fromkeys(name for way in value for name in way["required"] if name in instance)
            return f"it has {' and '.join(names)}; only one of them can be"
        case "not":
            return str(fault.schema.get("description") or "it is to be something else")
        case _:
            return f"it does not fit {fault.keyword}: {_in_json(value)}"


def suggestion(word: str, known: Iterable[str], *, is_listed: bool = True) -> str:
    """Return what was perhaps meant by a word that is not known, to be put behind a statement; else all there is."""
    names = list(known)
    meant = closest(word, names)
    if meant is not None:
        return f"; did you mean {meant}?"
    return f" (there {'is' if len(names) == 1 else 'are'}: {', '.join(names)})" if names and is_listed else ""
