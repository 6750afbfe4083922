"""The published schema of graphs, made of those of its parts, and checks of data against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec

from ironflow_nb.core.retrying import LONGEST_DELAY_S
from ironflow_nb.graphs import grants, secrets
from ironflow_nb.graphs.findings import Path
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.templates import OPENING

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

EXPRESSION: Final = {"type": "string", "pattern": r"\{\{", "description": "one expression: {{ ... }}"}
NODES: Final = {"type": "array", "items": {"$ref": "#/$defs/node"}}

RETRY: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "attempts": {"type": "integer", "minimum": 1, "maximum": 100, "description": "tries in all; 3 unless said"},
        "delay_s": {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY_S},
        "factor": {"type": "number", "minimum": 1, "maximum": 100},
        "max_delay_s": {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY_S},
        "jitter": {"type": "number", "minimum": 0, "maximum": 1},
        "on_status": {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}},
        "on_methods": {"type": "array", "items": {"type": "string"}},
    },
}

COMMON: Final[Mapping[str, Any]] = {
    "id": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "description": {"type": "string"},
    "depends_on": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "when": {"anyOf": [{"type": "boolean"}, EXPRESSION]},
    "retry": RETRY,
    "timeout_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 7 * LONGEST_DELAY_S},
    "on_error": {"anyOf": [{"const": "continue"}, NODES]},
    "once": {"type": "boolean"},
    "cache": {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^[0-9.]+ *[a-z]+$"}, {"type": "number"}]},
}

_DO: Final = {"type": "object", "additionalProperties": False, "required": ["do"]}

CONTROL: Final[Mapping[str, Mapping[str, Any]]] = {
    "condition": {
        "condition": {"anyOf": [{"type": "boolean"}, EXPRESSION], "description": "only true is true"},
        "then": NODES,
        "else": NODES,
    },
    "switch": {
        "switch": {"description": "an expression, whose value is compared with the cases as a text"},
        "cases": {"type": "object", "additionalProperties": NODES, "minProperties": 1},
        "default": NODES,
    },
    "branch": {
        "branch": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": _DO | {"properties": {"when": COMMON["when"], "do": NODES}},
        }
    },
    "loop": {
        "loop": {
            "anyOf": [
                EXPRESSION,
                {"type": "array"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["while", "max_rounds"],
                    "properties": {
                        "while": EXPRESSION,
                        "max_rounds": {"type": "integer", "minimum": 1, "maximum": 100_000},
                    },
                },
            ]
        },
        "as": COMMON["id"],
        "concurrency": {"type": "integer", "minimum": 1, "maximum": 1000},
        "do": NODES,
    },
    "workflow": {"workflow": {"type": "string", "minLength": 1}, "input": {}},
    "assert": {
        "assert": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": {
                    "equals": {"type": "array", "minItems": 2, "maxItems": 2},
                    "not_equals": {"type": "array", "minItems": 2, "maxItems": 2},
                    "matches": {"type": "array", "minItems": 2, "maxItems": 2},
                    "holds": {"anyOf": [{"type": "boolean"}, EXPRESSION]},
                    "message": {"type": "string"},
                },
            },
        }
    },
    "python": {"python": {"type": "string", "minLength": 1}, "with": {}},
}

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "condition": (), "switch": ("cases",), "branch": (), "loop": ("do",), "workflow": (), "assert": (), "python": (),
}  # fmt: skip

TOP: Final[Mapping[str, Any]] = {
    "graph": {"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_.\-]*$", "description": "the name of the graph"},
    "description": {"type": "string"},
    "allow": {"anyOf": [{"const": True, "description": "everything"}, grants.SCHEMA]},
    "secrets": secrets.SCHEMA,
    "concurrency": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "nodes at once; 16 unless said"},
    "nodes": NODES,
    "output": {"description": "what a run results in; by default the output of the last node"},
}


def published(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the schema of a whole graph with these kinds of nodes, for editors and other programs."""
    ways = [_node_schema(name, properties, REQUIRED[name]) for name, properties in CONTROL.items()]
    ways += [_node_schema(kind.name, {kind.name: _value_schema(kind)}, ()) for kind in kinds.values()]
    return {
        "$schema": DIALECT,
        "title": "ironflow_nb graph",
        "type": "object",
        "properties": dict(TOP),
        "required": ["graph", "nodes"],
        "additionalProperties": False,
        "$defs": {"node": {"oneOf": ways}},
    }


def _node_schema(name: str, properties: Mapping[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {
        "title": name,
        "type": "object",
        "properties": {**COMMON, **properties},
        "required": ["id", name, *required],
        "additionalProperties": False,
    }


def _value_schema(kind: Kind) -> dict[str, Any]:
    described = {"description": kind.description}
    if kind.shorthand is None:
        return {**kind.schema, **described}
    short = dict(kind.schema["properties"].get(kind.shorthand, {})) if "properties" in kind.schema else {}
    return described | ({"anyOf": [short]} if kind.is_value_whole else {"anyOf": [kind.schema, short]})


# -- checks ------------------------------------------------------------------------------------------------------


def problems(schema: Mapping[str, Any], data: Any, *, is_written: bool) -> Iterator[tuple[Path, str]]:
    """Yield what of the data does not fit the schema, each with its path; no message shows a value.

    Args:
        schema: a JSON schema.
        data: the data.
        is_written: the data are as they were written, so that a text with an expression may become anything.
    """
    encoded = msgspec.json.encode(schema)
    if is_written:
        with suppress(TypeError, msgspec.MsgspecError):  # what Python gave may be no JSON
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
    if (
        is_written
        and isinstance(error.instance, str)
        and OPENING in error.instance
        and not _is_about_expressions(error)
    ):
        return
    if error.validator in {"anyOf", "oneOf"} and error.context:
        ways: dict[int, list[Any]] = {}
        for inner in error.context:
            ways.setdefault(inner.schema_path[0], []).append(inner)
        found = [
            [each for inner in way for each in _problems(inner, path, is_written=is_written)] for way in ways.values()
        ]
        if is_written and any(not way for way in found):
            return
        deepest = max(found, key=lambda way: max((len(each[0]) for each in way), default=0))
        if max((len(each[0]) for each in deepest), default=0) > len(path):
            yield from deepest
            return
        kinds = dict.fromkeys(_wanted(inner) for way in ways.values() for inner in way)
        yield path, f"it is to be {' or '.join(kinds)}, not {_is(error.instance)}"
        return
    yield path, _message(error)


def _is_about_expressions(error: Any) -> bool:
    value = error.validator_value
    pattern = value.get("pattern") if error.validator == "not" and isinstance(value, Mapping) else value
    return bool(error.validator in {"not", "pattern"} and OPENING.replace("{", r"\{") in str(pattern))


def _wanted(error: Any) -> str:
    value = error.validator_value
    match error.validator:
        case "type":
            return _ARTICLES.get(value, str(value)) if isinstance(value, str) else " or ".join(map(_article, value))
        case "const":
            return repr(value)
        case "enum":
            return f"one of {', '.join(map(str, value))}"
        case "pattern" if value == EXPRESSION["pattern"]:
            return "an expression in {{ }}"
        case _:
            return f"something that fits {error.validator}: {value}"


_ARTICLES: Final = {
    "object": "a mapping", "array": "a list", "string": "a text", "number": "a number", "integer": "a whole number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def _article(kind: str) -> str:
    return _ARTICLES.get(kind, kind)


def _is(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
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
        case "additionalProperties":
            known = list(error.schema.get("properties", {}))
            unknown = [key for key in instance if key not in known]
            return f"{_unknown(unknown, known)}"
        case "required":
            missing = [key for key in value if key not in instance]
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "enum":
            near = _near(str(instance), [str(each) for each in value])
            return f"it is to be one of {', '.join(map(str, value))}{near}"
        case "pattern" if value == EXPRESSION["pattern"]:
            return "it is to be an expression, in {{ }}"
        case "pattern":
            return f"it does not fit the pattern {value}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
            return f"it is to be {words.get(error.validator, 'less than')} {value}"
        case "minItems" | "maxItems":
            bound = "least" if error.validator == "minItems" else "most"
            return f"it has {len(instance)} items, and {value} is the {bound}"
        case "minProperties" | "minLength":
            return "it is empty"
        case "maxProperties":
            return f"it has {', '.join(instance)}; only {value} of them can be"
        case "uniqueItems":
            return "something is there twice"
        case "const":
            return f"it is to be {value!r}"
        case "not":
            return str(error.schema.get("description") or "it is to be something else")
        case _:
            return f"it does not fit {error.validator}: {msgspec.json.encode(value).decode()[:100]}"


def _unknown(unknown: list[str], known: list[str]) -> str:
    hints = [f"{key!r} is not known here{_near(key, known)}" for key in unknown]
    return "; ".join(hints) + (f" (there are: {', '.join(known)})" if known else "")


def _near(word: str, known: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
