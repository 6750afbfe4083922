"""Checks of data against JSON schemas, and what is said of data that do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec

from ironflow_nb.graphs.parts import COMMON, CONTROL, EXPRESSION, NODES, REQUIRED, SPOKEN, TOP
from ironflow_nb.graphs.places import Key, Path
from ironflow_nb.graphs.templates import OPENING

__all__ = ["COMMON", "CONTROL", "REQUIRED", "TOP", "hint", "is_filled_in", "problems"]


def problems(schema: Mapping[str, Any], data: Any, *, is_written: bool) -> Iterator[tuple[Path, str]]:
    """Yield what of the data does not fit the schema, each with its path; no message shows a value.

    Args:
        schema: a JSON schema.
        data: the data.
        is_written: the data are as they were written, so that a text with an expression may become anything.
    """
    encoded = msgspec.json.encode(schema)
    if is_written:
        with suppress(TypeError, OverflowError, msgspec.MsgspecError):  # what Python gave may be no JSON
            content = msgspec.json.encode(data)
            if len(content) < _REMEMBERED_BYTES:
                yield from _remembered(encoded, content)
                return
    yield from _found(encoded, data, is_written=is_written)


_REMEMBERED_BYTES: Final = 1_000


@lru_cache(maxsize=2048)
def _remembered(schema: bytes, content: bytes) -> tuple[tuple[Path, str], ...]:
    """Check what many nodes have alike only once."""
    return tuple(_found(schema, msgspec.json.decode(content), is_written=True))


def _found(schema: bytes, data: Any, *, is_written: bool) -> Iterator[tuple[Path, str]]:
    for error in _validator(schema).iter_errors(data):
        yield from _problems(error, (), is_written=is_written)


@lru_cache(maxsize=512)
def _validator(schema: bytes) -> Any:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 -- only graphs need it

    # Nodes inside of a part are looked at one by one, each with the path that it has.
    return Draft202012Validator(msgspec.json.decode(schema.replace(msgspec.json.encode(NODES["items"]), b"true")))


def _problems(error: Any, base: Path, *, is_written: bool) -> Iterator[tuple[Path, str]]:
    path = (*base, *error.path)
    if is_written and is_filled_in(error.instance) and not _is_about_expressions(error):
        return
    if _is_about_keys(error) and not isinstance(error.instance, Mapping):
        return  # its type is told
    if error.validator in {"anyOf", "oneOf"} and error.context:
        yield from _problems_of_ways(error, path, is_written=is_written)
    elif error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                yield (*path, Key(key)), f"{key!r} is not known here{hint(key, known)}"
    else:
        yield path, _message(error)


def _is_about_keys(error: Any) -> bool:
    """Tell whether it says which of several keys there are to be."""
    return error.validator == "oneOf" and all(
        isinstance(way, Mapping) and way.keys() == {"required"} for way in error.validator_value
    )


def is_filled_in(value: Any) -> bool:
    """Tell whether the value is a text with an expression in it."""
    return isinstance(value, str) and OPENING in value


def _problems_of_ways(error: Any, path: Path, *, is_written: bool) -> Iterator[tuple[Path, str]]:
    """Yield what is wrong with what fits none of several ways: of the only one that it is meant for, or of all."""
    ways: dict[int, list[Any]] = {}
    for inner in error.context:
        ways.setdefault(inner.schema_path[0], []).append(inner)
    found = {
        number: [each for inner in way for each in _problems(inner, path, is_written=is_written)]
        for number, way in ways.items()
    }
    if is_written and not all(found.values()):
        return
    meant = [number for number, way in ways.items() if not any(_is_of_another_type(inner) for inner in way)]
    if all(inner.validator == "required" for way in ways.values() for inner in way):
        names = dict.fromkeys(name for way in ways.values() for inner in way for name in inner.validator_value)
        yield path, f"it has one of {', '.join(names)}, and none of them is there"
    elif len(meant) == 1:
        yield from found[meant[0]]
    else:
        wanted = dict.fromkeys(_wanted(inner) for way in ways.values() for inner in way)
        yield path, f"it is to be {' or '.join(wanted)}, not {_is(error.instance)}"


def _is_of_another_type(error: Any) -> bool:
    is_other = error.validator in {"type", "const"} or error.validator_value == EXPRESSION["pattern"]
    return is_other and not error.path


def _is_about_expressions(error: Any) -> bool:
    value = error.validator_value
    pattern = value.get("pattern") if error.validator == "not" and isinstance(value, Mapping) else value
    return bool(error.validator in {"not", "pattern"} and OPENING.replace("{", r"\{") in str(pattern))


# -- words -------------------------------------------------------------------------------------------------------


def _wanted(error: Any) -> str:
    value = error.validator_value
    match error.validator:
        case "type" if error.schema.get("pattern") == EXPRESSION["pattern"]:
            return SPOKEN[EXPRESSION["pattern"]]
        case "type":
            return _ARTICLES.get(value, str(value)) if isinstance(value, str) else " or ".join(map(_article, value))
        case "const":
            return _in_json(value)
        case "enum":
            return f"one of {', '.join(map(_in_json, value))}"
        case "pattern" if value in SPOKEN:
            return SPOKEN[value]
        case _:
            return f"something that fits {error.validator}: {_in_json(value)}"


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


def _message(error: Any) -> str:
    value, instance = error.validator_value, error.instance
    match error.validator:
        case "type":
            return f"it is to be {_wanted(error)}, not {_is(instance)}"
        case "required":
            missing = [key for key in value if key not in instance]
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "enum":
            near = hint(str(instance), [str(each) for each in value], is_listed=False)
            return f"it is to be one of {', '.join(map(str, value))}{near}"
        case "pattern":
            return f"it is to be {SPOKEN[value]}" if value in SPOKEN else f"it does not fit the pattern {value}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
            return f"it is to be {words.get(error.validator, 'less than')} {value:.12g}"
        case "minItems" | "maxItems":
            bound = "least" if error.validator == "minItems" else "most"
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
        case "oneOf" if _is_about_keys(error):
            names = dict.fromkeys(name for way in value for name in way["required"] if name in instance)
            return f"it has {' and '.join(names)}; only one of them can be"
        case "not":
            return str(error.schema.get("description") or "it is to be something else")
        case _:
            return f"it does not fit {error.validator}: {_in_json(value)}"


def hint(word: str, known: Iterable[str], *, is_listed: bool = True) -> str:
    """Return what was perhaps meant by a word that is not known, to be put behind a statement; else all there is."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only who mistypes needs it

    names = list(known)
    near = get_close_matches(word, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f" (there {'is' if len(names) == 1 else 'are'}: {', '.join(names)})" if names and is_listed else ""
