"""The published schema of whole graphs, for editors and other programs.

Whatever compiles fits it. What it can't say is left to `validate`: what names mean, what may be seen, what is granted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ironflow_nb.graphs.formats.keys import MEANINGLESS
from ironflow_nb.graphs.formats.parts import COMMON, CONTROL, EXPRESSION, REQUIRED, TOP
from ironflow_nb.graphs.kinds import Kind

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_FILLED_IN: Final = {"type": "string", "pattern": EXPRESSION["pattern"]}

_LISTS_OF_SCHEMAS: Final = frozenset({"allOf", "anyOf", "prefixItems"})
_SCHEMAS_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs"})
_WITHIN: Final = frozenset({"items", "additionalProperties"})


def published(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the schema of a whole graph with these kinds of nodes."""
    return {
        "$schema": DIALECT,
        "title": "ironflow_nb graph",
        "type": "object",
        "properties": dict(TOP),
        "required": ["graph", "nodes"],
        "additionalProperties": False,
        "$defs": {"node": _node_schema(kinds)},
    }


def _node_schema(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the schema of a node, which looks at each key once, not once for each kind: nodes are inside of nodes."""
    properties = {key: each for own in CONTROL.values() for key, each in own.items()}
    properties |= {kind.name: _value_schema(kind) for kind in kinds.values()}
    owners = {key: name for name, own in CONTROL.items() for key in own if key != name}
    needed = {name: list(required) for name, required in REQUIRED.items() if required}
    return {
        "type": "object",
        "properties": {**COMMON, **properties},
        "required": ["id"],
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in (*CONTROL, *kinds)],
        "dependentRequired": {key: [name] for key, name in owners.items()} | needed,
        "dependentSchemas": {
            name: {"properties": dict.fromkeys(sorted(keys), False)} for name, keys in MEANINGLESS.items()
        },
    }


def _value_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of what stands behind the name of a kind: its options, or what is short for them."""
    options = _with_expressions(kind.schema)
    if "$ref" in str(kind.schema):  # which counts from the root of the kind's own schema
        options = {"$id": f"urn:ironflow:kind:{kind.name}", **options}
    ways: list[Any] = [] if kind.is_value_whole else [options]
    if kind.shorthand is not None:
        ways.append(_short_schema(kind, options))
    elif not kind.schema.get("required"):
        ways.append({"type": "null"})
    return {"description": kind.description, "anyOf": ways}


def _short_schema(kind: Kind, options: Mapping[str, Any]) -> Any:
    """Return the schema of the one option that a value alone means: options with it must be fine without others."""
    if "$id" in options:
        return True
    short = options.get("properties", {}).get(kind.shorthand, True)
    return short if kind.is_value_whole else {"allOf": [short, {"not": {"type": "object"}}]}


def _with_expressions(schema: Any) -> Any:
    """Return the schema with a text that has an expression in it allowed in all places inside of it."""
    if not isinstance(schema, Mapping):
        return schema
    return {key: _inside(key, value) for key, value in _one_of_as_any_of(schema).items()}


def _inside(key: str, value: Any) -> Any:
    if key in _SCHEMAS_BY_NAME:
        return {name: _or_filled_in(each) for name, each in value.items()}
    if key in _LISTS_OF_SCHEMAS:
        return [_or_filled_in(each) if key == "prefixItems" else _with_expressions(each) for each in value]
    return _or_filled_in(value) if key in _WITHIN else value


def _or_filled_in(schema: Any) -> Any:
    inner = _with_expressions(schema)
    if not isinstance(schema, Mapping) or not schema or _is_about_expressions(schema):
        return inner
    if schema.keys() <= {"type", "description"} and "string" in schema.get("type", ()):
        return inner
    described = {"description": schema["description"]} if "description" in schema else {}
    return {**described, "anyOf": [inner, _FILLED_IN]}


def _is_about_expressions(schema: Mapping[str, Any]) -> bool:
    about = schema.get("not")
    return isinstance(about, Mapping) and EXPRESSION["pattern"] in str(about.get("pattern"))


def _one_of_as_any_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with ways that an expression may fit several of; which options are there stays as exact."""
    ways = schema.get("oneOf")
    if ways is None or all(isinstance(way, Mapping) and way.keys() <= {"required"} for way in ways):
        return schema
    rest = {key: value for key, value in schema.items() if key != "oneOf"}
    return {**rest, "allOf": [*rest.get("allOf", ()), {"anyOf": ways}]}
