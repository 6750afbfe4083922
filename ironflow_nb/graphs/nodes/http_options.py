"""The options of the kind ``http``."""

from __future__ import annotations

from typing import Final

from ironflow_nb.graphs.hosts import NAME_PATTERN
from ironflow_nb.graphs.kinds import options_schema

MAX_BYTES: Final = 50_000_000
MAX_REDIRECTS: Final = 10
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

_SCALARS: Final = ["string", "number", "boolean"]
_FIELDS: Final = {
    "type": "object",
    "additionalProperties": {"type": [*_SCALARS, "null", "array"], "items": {"type": [*_SCALARS, "null"]}},
}
_EXCLUDING: Final = (("body", "form"), ("body", "json"), ("form", "json"))

_AUTH: Final = {
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
            "pattern": NAME_PATTERN.replace(r"(\*\.)?", ""),
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

SCHEMA: Final = options_schema(
    {
        "url": {
            "description": "what is asked: an http or https URL of a granted host",
            "type": "string",
            "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
        },
        "method": {"description": "the method; GET unless said", "enum": list(METHODS)},
        "params": {"description": "more for the query: a list is given item by item, null is left out", **_FIELDS},
        "headers": {
            "description": "headers; the first host gets all of them, one that it redirects to only harmless ones",
            "type": "object",
            "additionalProperties": {"type": _SCALARS},
        },
        "json": {"description": "data that are sent as JSON"},
        "body": {
            "description": "a text or bytes that are sent as they are; for data there is json",
            "not": {"type": ["object", "array", "number", "boolean", "null"]},
        },
        "form": {"description": "fields that are sent as a form: a list item by item, null is left out", **_FIELDS},
        "auth": _AUTH,
        "parse": {
            "description": "what the body becomes: json, text, bytes, or auto, which goes by the content type",
            "enum": ["auto", "json", "text", "bytes"],
        },
        "fail_on_status": {
            "description": "whether the node fails on a status other than 2xx; true unless said",
            "type": "boolean",
        },
        "follow_redirects": {
            "description": f"whether redirections are followed, {MAX_REDIRECTS} at most and to granted hosts; true "
            "unless said",
            "type": "boolean",
        },
        "max_bytes": {
            "description": f"the largest body that is taken; {MAX_BYTES:,} bytes unless said",
            "type": "integer",
            "minimum": 0,
            "maximum": 2_000_000_000,
        },
    },
    required=["url"],
    allOf=[
        {"not": {"required": [*pair]}, "description": f"{pair[0]} and {pair[1]} exclude one another"}
        for pair in _EXCLUDING
    ],
)
