"""Validation of data against JSON schemas, with messages for people."""

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
    """Yield each violation of the schema with its path and a message. No message shows a value, which may be secret.

    Args:
        schema: a JSON schema.
        data: the data.
        allows_expressions: True for data of a definition, in which a text with an expression fits any type.
    """
    rules, validator = _compiled(msgspec.json.encode(schema))
    try:
        errors = list(validator.iter_errors(data))
    except ValueError:  # the data has values without a JSON type
        data = _as_json(data)
        errors = list(validator.iter_errors(data))
    for error in errors:
        yield from _messages(_violation(error, rules, data), allows_expressions=allows_expressions)


@lru_cache(maxsize=512)
def _compiled(schema: bytes) -> tuple[Any, Any]:
    from jsonschema_rs import Draft202012Validator

    # Nested nodes are validated one by one by the compiler, so their schema is replaced by true.
    rules = msgspec.json.decode(schema.replace(msgspec.json.encode(NODES["items"]), b"true"))
    return rules, Draft202012Validator(rules)


def _as_json(value: Any) -> Any:
    """Return the value with JSON types: bytes as a text, other values without a JSON type as an empty object."""
    match value:
        case Mapping():
            return {str(key): _as_json(each) for key, each in value.items()}
        case list() | tuple():
            return [_as_json(each) for each in value]
        case str():
            return value.encode("utf-8", "replace").decode()  # a lone surrogate is reported elsewhere
        case None | bool() | int() | float():
            return value
        case bytes() | bytearray():
            return "bytes"
        case _:
            return {}


class _Violation(NamedTuple):
    """A violation of a schema: path and instance, and the violated keyword of the schema with its value.

    For ``anyOf`` and ``oneOf`` without a match, `alternatives` has the violations of each alternative.
    """

    path: DataPath
    instance: Any
    keyword: str
    value: Any
    schema: Mapping[str, Any]
    alternatives: tuple[tuple[_Violation, ...], ...]


def _violation(error: Any, rules: Any, data: Any) -> _Violation:
    *around, keyword = error.schema_path
    _, schema = _at(rules, around)
    alternatives = tuple(
        tuple(_violation(inner, rules, data) for inner in alternative)
        for alternative in getattr(error.kind, "context", None) or ()
    )
    path, instance = _at(data, error.instance_path)
    return _Violation(path, instance, keyword, schema[keyword], schema, alternatives)


def _at(data: Any, parts: Iterable[str | int]) -> tuple[DataPath, Any]:
    """Return the path and the value there. The library gives the key ``"0"`` of a mapping as a number."""
    path: list[str | int] = []
    for part in parts:
        path.append(str(part) if isinstance(data, Mapping) else int(part))
        data = data[path[-1]]
    return tuple(path), data


def _messages(violation: _Violation, *, allows_expressions: bool) -> Iterator[tuple[DataPath, str]]:
    if allows_expressions and has_expression(violation.instance) and not _is_about_expressions(violation):
        return
    if _is_about_keys(violation) and not isinstance(violation.instance, Mapping):
        return  # its type is reported
    # With oneOf, a value that fits several alternatives has no violations in these.
    if violation.alternatives and all(violation.alternatives):
        yield from _union_messages(violation, allows_expressions=allows_expressions)
    elif violation.keyword == "additionalProperties":
        known = list(violation.schema.get("properties", {}))
        for key in violation.instance:
            if key not in known:
                yield (*violation.path, Key(key)), f"{key!r} is not known here{suggestion(key, known)}"
    else:
        yield violation.path, _message(violation)


def _is_about_keys(violation: _Violation) -> bool:
    """Return True if the violated rule is that exactly one of several keys is present."""
    return violation.keyword == "oneOf" and all(
        isinstance(alternative, Mapping) and alternative.keys() == {"required"} for alternative in violation.value
    )


def has_expression(value: Any) -> bool:
    """Return True if the value is a text with an expression in it."""
    return isinstance(value, str) and OPENING in value


def _union_messages(violation: _Violation, *, allows_expressions: bool) -> Iterator[tuple[DataPath, str]]:
    """Yield the messages of a value that fits no alternative: those of the only one of its type, or one for all."""
    found = [
        [each for inner in alternative for each in _messages(inner, allows_expressions=allows_expressions)]
        for alternative in violation.alternatives
    ]
    if allows_expressions and not all(found):
        return
    all_inner = [inner for alternative in violation.alternatives for inner in alternative]
    meant = [
        number
        for number, alternative in enumerate(violation.alternatives)
        if not any(_is_of_another_type(each, violation) for each in alternative)
    ]
    if all(inner.keyword == "required" for inner in all_inner):
        names = dict.fromkeys(name for inner in all_inner for name in inner.value)
        yield violation.path, f"it needs one of {', '.join(names)}"
    elif len(meant) == 1:
        yield from found[meant[0]]
    else:
        wanted = dict.fromkeys(_expectation(inner) for inner in all_inner)
        yield violation.path, f"must be {' or '.join(wanted)}, not {_type_name(violation.instance)}"


def _is_of_another_type(inner: _Violation, outer: _Violation) -> bool:
    is_other = inner.keyword in {"type", "const"} or inner.value == EXPRESSION["pattern"]
    return is_other and inner.path == outer.path


def _is_about_expressions(violation: _Violation) -> bool:
    value = violation.value
    pattern = value.get("pattern") if violation.keyword == "not" and isinstance(value, Mapping) else value
    return bool(violation.keyword in {"not", "pattern"} and OPENING.replace("{", r"\{") in str(pattern))


# -- messages -------------------------------------------------------------------------------------------------------


def _expectation(violation: _Violation) -> str:
    value = violation.value
    match violation.keyword:
        case "type" if violation.schema.get("pattern") == EXPRESSION["pattern"]:
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
            return f"something that fits {violation.keyword}: {_in_json(value)}"


_ARTICLES: Final = {
    "object": "a mapping", "array": "a list", "string": "a text", "number": "a number", "integer": "a whole number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def _article(kind: str) -> str:
    return _ARTICLES.get(kind, kind)


def _in_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:100]


def _type_name(value: Any) -> str:
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


def _message(violation: _Violation) -> str:
    value, instance = violation.value, violation.instance
    match violation.keyword:
        case "type":
            return f"must be {_expectation(violation)}, not {_type_name(instance)}"
        case "required":
            missing = [key for key in value if key not in instance]
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "enum":
            hint = suggestion(str(instance), [str(each) for each in value], is_listed=False)
            return f"must be one of {', '.join(map(str, value))}{hint}"
        case "pattern":
            return (
                f"must be {PATTERN_TEXTS[value]}" if value in PATTERN_TEXTS else f"it does not fit the pattern {value}"
            )
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
            return f"must be {words.get(violation.keyword, 'less than')} {value:.12g}"
        case "minItems" | "maxItems":
            bound = "least" if violation.keyword == "minItems" else "most"
            count = "1 item" if len(instance) == 1 else f"{len(instance)} items"
            return f"it has {count}, and {value} is the {bound}" if instance else "it is empty"
        case "minProperties" | "minLength":
            return "it is empty"
        case "maxProperties":
            return f"it has {', '.join(instance)}; at most {value} of them is allowed"
        case "uniqueItems":
            return "it has a repeated item"
        case "const":
            return f"must be {_in_json(value)}"
        case "oneOf" if _is_about_keys(violation):
            names = dict.fromkeys(name for alternative in value for name in alternative["required"] if name in instance)
            return f"it has {' and '.join(names)}; only one of them is allowed"
        case "not":
            return str(violation.schema.get("description") or "must be something else")
        case _:
            return f"it does not fit {violation.keyword}: {_in_json(value)}"


def suggestion(word: str, known: Iterable[str], *, is_listed: bool = True) -> str:
    """Return a hint for an unknown word to append to a message: the most similar known word, else all known words."""
    names = list(known)
    meant = closest(word, names)
    if meant is not None:
        return f"; did you mean {meant}?"
    return f" (there {'is' if len(names) == 1 else 'are'}: {', '.join(names)})" if names and is_listed else ""
