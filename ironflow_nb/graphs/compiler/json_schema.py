"""JSON schemas of graphs: of their parts, for the compiler, and of whole graphs, for editors and other programs.

Every graph that compiles fits the schema of whole graphs. The reverse is not true: `Graph.validate` also checks names,
scopes and grants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ironflow_nb.core.retry import LONGEST_DELAY_S
from ironflow_nb.graphs import grants, host_auth, secrets
from ironflow_nb.graphs.kinds import INAPPLICABLE_KEYS, Kind

EXPRESSION: Final = {"type": "string", "pattern": r"\{\{", "description": "one expression: {{ ... }}"}
NODES: Final = {"type": "array", "items": {"$ref": "#/$defs/node"}}

RETRY: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "attempts": {"type": "integer", "minimum": 1, "maximum": 100, "description": "attempts in all; 3 by default"},
        "delay_s": {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY_S},
        "factor": {"type": "number", "minimum": 1, "maximum": 100},
        "max_delay_s": {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY_S},
        "jitter": {"type": "number", "minimum": 0, "maximum": 1},
        "on_status": {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}},
        "on_methods": {"type": "array", "items": {"type": "string"}},
    },
}

WHEN: Final = {
    "anyOf": [{"type": "boolean"}, EXPRESSION],
    "description": "the node runs if this is true; by default it always runs",
}

NAME: Final = "^[A-Za-z_][A-Za-z0-9_]*$"
NODE_ID: Final = r"^[A-Za-z_][A-Za-z0-9_\-]*$"
GRAPH_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_.\-]*$"
DURATION: Final = r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|min|s|m|h|d|w)\s*)+$"

PATTERN_TEXTS: Final = {
    NAME: "letters, digits and underscores, with no digit first",
    NODE_ID: "letters, digits, underscores and dashes, with a letter or an underscore first",
    GRAPH_NAME: "letters, digits, underscores, dots and dashes, with a letter or an underscore first",
    DURATION: 'true, false, seconds, or a duration such as "90s", "2h 30m" or "7d"',
    EXPRESSION["pattern"]: "an expression in {{ }}",
    grants.SERVER_PATTERN: "a host with its port, such as db.example.org:5432",
    grants.HOST_PATTERN: "a host, such as example.org, example.org:8080 or *.example.org",
}
"""The patterns in words, for messages."""

TEXT: Final = {"type": "string", "minLength": 1}


def _named(**properties: Any) -> dict[str, Any]:
    """Return the schema of a name, or of an object with a name and some of these properties."""
    whole = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {"name": TEXT, **properties},
    }
    return {"anyOf": [TEXT, whole]}


COMMON: Final[Mapping[str, Any]] = {
    "id": {
        "type": "string",
        "pattern": NODE_ID,
        "description": "the id of the node in expressions; unique in the whole graph; with dashes it is quoted there",
    },
    "description": {"type": "string", "description": "a text for people"},
    "depends_on": {
        "type": "array",
        "items": {"type": "string"},
        "uniqueItems": True,
        "description": "nodes of the same list that it waits for; by default the node above; [] is no node",
    },
    "when": WHEN,
    "retry": RETRY,
    "timeout_s": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": int(7 * LONGEST_DELAY_S),
        "description": "time limit of one attempt in seconds",
    },
    "deadline_s": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": int(30 * LONGEST_DELAY_S),
        "description": "time limit of all attempts and the pauses between them in seconds",
    },
    "overlap": {"type": "boolean", "description": "the next attempt does not wait for a function that is out of time"},
    "on_error": {
        "anyOf": [{"const": "continue"}, NODES],
        "description": "nodes that run if it fails, and see error; or continue, which makes {error: ...} its output",
    },
    "once": {"type": "boolean", "description": "never started again if it is unknown how the first attempt ended"},
    "cache": {
        "anyOf": [{"type": "boolean"}, {"type": "string", "pattern": DURATION}, {"type": "number", "minimum": 0}],
        "description": "reuses the result of another run with the same options for this long; true is for ever",
    },
    "compensate": {
        "type": "object",
        "minProperties": 1,
        "description": "a node without id that undoes it if the run fails; it sees what the node sees, and its output",
    },
    "lane": {
        **_named(limit={"type": "integer", "minimum": 1}, rate=TEXT, burst={"type": "integer", "minimum": 1}, key=TEXT),
        "description": "the lane in which it waits for a place; key is a JMESPath expression over its options",
    },
    "breaker": {
        **_named(failures={"type": "integer", "minimum": 1}, open_s={"type": "number", "exclusiveMinimum": 0}),
        "description": "the breaker that it shares: after failures in a row nothing begins for open_s seconds",
    },
}
"""The keys that every node may have."""

TYPES: Final[Mapping[str, str]] = {
    "string": "string", "number": "number", "integer": "integer", "boolean": "boolean", "array": "array",
    "object": "object", "null": "null", "text": "string", "list": "array", "mapping": "object",
}  # fmt: skip
"""The types of inputs: those of JSON Schema, and their names in messages."""

_TYPE: Final = {"type": "string", "enum": list(TYPES)}
_SEVERAL: Final = {"anyOf": [_TYPE, {"type": "array", "items": _TYPE, "minItems": 1}]}
_ITEMS: Final = {"type": "object", "additionalProperties": False, "properties": {"type": _SEVERAL}}

INPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "the inputs by name; without it a call may give any values",
    "additionalProperties": {
        "anyOf": [
            _TYPE,
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "type": _SEVERAL,
                    "default": {"description": "the value if a call does not give one; without a default it must"},
                    "description": {"type": "string"},
                    "enum": {"type": "array", "minItems": 1, "description": "the allowed values"},
                    "items": {"anyOf": [_TYPE, _ITEMS], "description": "the type of the items of a list"},
                    "minimum": {"type": "number"},
                    "maximum": {"type": "number"},
                },
            },
        ]
    },
}

SHORT_TYPE: Final = r"\s*(?P<type>[a-z]+)\s*(\?|=\s*(?P<default>.*\S))\s*"
"""Short forms of an input: ``text?`` may be left out, and is null then; ``integer = 3`` has a default."""

_SHORT_FORM: Final = {
    "type": "string",
    "pattern": rf"^\s*({'|'.join(TYPES)})\s*(\?|=\s*.*\S)\s*$",
    "description": "text? may be left out; integer = 3 has a default",
}

_DO: Final = {"type": "object", "additionalProperties": False, "required": ["do"]}

_VALUE: Final = {"type": ["string", "number", "boolean", "null"]}
_CASE: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["is", "do"],
    "properties": {
        "is": {
            "anyOf": [_VALUE, {"type": "array", "items": _VALUE, "minItems": 1}],
            "description": "the value, or several of them",
        },
        "do": NODES,
    },
}

CONTROL: Final[Mapping[str, Mapping[str, Any]]] = {
    "condition": {
        "condition": {"anyOf": [{"type": "boolean"}, EXPRESSION], "description": "true or false"},
        "then": NODES,
        "else": NODES,
    },
    "switch": {
        "switch": {"description": "an expression; its value is compared with the cases as text"},
        "cases": {
            "anyOf": [
                {"type": "object", "additionalProperties": NODES, "minProperties": 1},
                {"type": "array", "items": _CASE, "minItems": 1},
            ]
        },
        "default": NODES,
    },
    "branch": {
        "branch": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"anyOf": [NODES, _DO | {"properties": {"when": WHEN, "do": NODES}}]},
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
                        "pause": {
                            "type": ["number", "string"],
                            "description": 'how long it waits before each round but the first: seconds, or "10m"',
                        },
                    },
                },
            ]
        },
        "as": {
            "type": "string",
            "pattern": NAME,
            "description": "the name of the item in expressions; item by default",
        },
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
                "oneOf": [{"required": [kind]} for kind in ("equals", "not_equals", "matches", "holds")],
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
    "graph": {"type": "string", "pattern": GRAPH_NAME, "description": "the name of the graph"},
    "description": {"type": "string"},
    "input": INPUT,
    "allow": {"anyOf": [{"const": True, "description": "everything"}, grants.GRANTS_SCHEMA]},
    "secrets": secrets.SECRETS_SCHEMA,
    "auth": host_auth.GRAPH_AUTH,
    "concurrency": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "description": "nodes that run at once; 16 by default",
    },
    "parallel": {
        "type": "boolean",
        "description": "a node without depends_on waits for the nodes that it reads, in place of the node above",
    },
    "nodes": NODES,
    "output": {"description": "the result of a run; by default the output of the last node"},
}


DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_ANY_EXPRESSION: Final = {"type": "string", "pattern": EXPRESSION["pattern"]}

_LISTS_OF_SCHEMAS: Final = frozenset({"allOf", "anyOf", "prefixItems"})
_SCHEMAS_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs"})
_SCHEMA_KEYS: Final = frozenset({"items", "additionalProperties"})


def graph_schema(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the JSON schema of whole graphs with these kinds of nodes."""
    declared = INPUT["additionalProperties"]["anyOf"]
    inputs = {**INPUT, "additionalProperties": {"anyOf": [*declared, _SHORT_FORM]}}
    return {
        "$schema": DIALECT,
        "title": "ironflow_nb graph",
        "type": "object",
        "properties": {**TOP, "input": inputs},
        "required": ["graph", "nodes"],
        "additionalProperties": False,
        "$defs": {"node": _node_schema(kinds)},
    }


def _node_schema(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the schema of a node. It has each key once, not once per kind, because nodes are nested."""
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
            name: {"properties": dict.fromkeys(sorted(keys), False)} for name, keys in INAPPLICABLE_KEYS.items()
        },
    }


def _value_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of the value of a kind's key: its options, or their short form."""
    options = _with_expressions(kind.schema)
    if "$ref" in str(kind.schema):  # a $ref counts from the root of the kind's own schema
        options = {"$id": f"urn:ironflow:kind:{kind.name}", **options}
    forms: list[Any] = [] if kind.is_value_whole else [options]
    if kind.shorthand is not None:
        forms.append(_short_schema(kind, options))
    elif not kind.schema.get("required"):
        forms.append({"type": "null"})
    return {"description": kind.description, "anyOf": forms}


def _short_schema(kind: Kind, options: Mapping[str, Any]) -> Any:
    """Return the schema of the short form: the value of the kind's shorthand option."""
    if "$id" in options:
        return True
    short = options.get("properties", {}).get(kind.shorthand, True)
    return short if kind.is_value_whole else {"allOf": [short, {"not": {"type": "object"}}]}


def _with_expressions(schema: Any) -> Any:
    """Return the schema with expressions allowed for all nested values."""
    if not isinstance(schema, Mapping):
        return schema
    return {key: _nested_value(key, value) for key, value in _one_of_as_any_of(schema).items()}


def _nested_value(key: str, value: Any) -> Any:
    if key in _SCHEMAS_BY_NAME:
        return {name: _or_expression(each) for name, each in value.items()}
    if key in _LISTS_OF_SCHEMAS:
        return [_or_expression(each) if key == "prefixItems" else _with_expressions(each) for each in value]
    return _or_expression(value) if key in _SCHEMA_KEYS else value


def _or_expression(schema: Any) -> Any:
    inner = _with_expressions(schema)
    if not isinstance(schema, Mapping) or not schema or _is_about_expressions(schema):
        return inner
    if schema.keys() <= {"type", "description"} and "string" in schema.get("type", ()):
        return inner
    described = {"description": schema["description"]} if "description" in schema else {}
    return {**described, "anyOf": [inner, _ANY_EXPRESSION]}


def _is_about_expressions(schema: Mapping[str, Any]) -> bool:
    about = schema.get("not")
    return isinstance(about, Mapping) and EXPRESSION["pattern"] in str(about.get("pattern"))


def _one_of_as_any_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with ``anyOf`` for ``oneOf``, because an expression may fit several alternatives."""
    alternatives = schema.get("oneOf")
    # Alternatives that only require keys stay exclusive.
    if alternatives is None or all(isinstance(each, Mapping) and each.keys() <= {"required"} for each in alternatives):
        return schema
    rest = {key: value for key, value in schema.items() if key != "oneOf"}
    return {**rest, "allOf": [*rest.get("allOf", ()), {"anyOf": alternatives}]}
