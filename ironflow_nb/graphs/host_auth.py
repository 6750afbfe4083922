"""Credentials for hosts: the ``auth`` of a node, and those that a graph has for all its nodes, by name."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ironflow_nb.graphs.grants import HOST_PATTERN
from ironflow_nb.graphs.kinds import options_schema
from ironflow_nb.graphs.language.templates import Template

AUTH: Final = {
    "description": "a credential that is sent to one host and no other: {host: api.example.org, bearer: token}, or "
    "with basic: {user, password}, or header: {name, value}",
    "type": "object",
    "required": ["host"],
    "additionalProperties": False,
    "allOf": [
        {"not": {"maxProperties": 1}, "description": "beside host it is to have bearer, basic or header"},
        {"not": {"minProperties": 3}, "description": "beside host it can have only one of bearer, basic and header"},
    ],
    "properties": {
        "host": {
            "description": "the host, with its port unless that is the one of http and https",
            "type": "string",
            "pattern": HOST_PATTERN.replace(r"(\*\.)?", ""),
        },
        "bearer": {"description": "a token, sent as Authorization: Bearer", "type": "string", "minLength": 1},
        "basic": options_schema(
            {"user": {"type": "string"}, "password": {"type": "string"}},
            required=["user", "password"],
            description="sent as Authorization: Basic",
        ),
        "header": options_schema(
            {"name": {"type": "string", "minLength": 1}, "value": {"type": "string", "minLength": 1}},
            required=["name", "value"],
            description="sent as a header of that name",
        ),
    },
}

NODE_AUTH: Final = {
    "description": "the credential of this node; false sends none. By default it is that of the graph for the host",
    "anyOf": [{"const": False}, AUTH],
}
"""The ``auth`` of a node that sends requests."""

GRAPH_AUTH: Final[dict[str, Any]] = {
    "description": "credentials by name, each for one host: every request of the graph to that host has it",
    "type": "object",
    "additionalProperties": AUTH,
}
"""The ``auth`` of a graph."""


class HostAuth(msgspec.Struct, frozen=True):
    """One credential of a graph. `template` makes the ``auth`` of a node, of secrets."""

    name: str
    host: str
    template: Template
