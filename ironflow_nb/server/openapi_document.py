"""The OpenAPI document of the routes, made of the types by which they are checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ironflow_nb._version import __version__
from ironflow_nb.server.http_calls import HttpRoute, is_needed

_REFERENCE: Final = "#/components/schemas/{name}"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}


def openapi_document(routes: Iterable[HttpRoute]) -> dict[str, Any]:
    """Return the document."""
    routes = list(routes)
    given = [kind for each in routes for kind in (each.body, each.query) if kind is not None]
    _, schemas = msgspec.json.schema_components(given, ref_template=_REFERENCE)
    for kind in given:
        if kind.one_of:
            schemas[kind.__name__]["oneOf"] = [{"required": [name]} for name in kind.one_of]
    paths: dict[str, Any] = {}
    for each in routes:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ironflow_nb", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: HttpRoute) -> dict[str, Any]:
    in_path = [_parameter(name, "path", {"type": "string"}) for name in re.findall(r"{(\w+)}", route.path)]
    kinds = [each.partition(";")[0] for each in (route.media_type, *route.other_types)]
    found: dict[str, Any] = {
        "summary": route.summary,
        "description": f"In Python: `{route.twin}`",
        "parameters": in_path + ([] if route.query is None else _in_query(route.query)),
        "responses": {
            "2XX": {"description": "done, or accepted", "content": {kind: {"schema": {}} for kind in kinds}},
            "default": {
                "description": "refused",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if route.is_raw:
        found["requestBody"] = {"required": True, "content": {route.media_type: {"schema": {}}}}
    if route.body is not None:
        schema = {"$ref": f"#/components/schemas/{route.body.__name__}"}
        found["requestBody"] = {"required": is_needed(route.body), "content": {"application/json": {"schema": schema}}}
    return found


def _in_query(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template=_REFERENCE)
    properties = components[query.__name__]["properties"]
    return [_parameter(name, "query", _without_null(schema)) for name, schema in properties.items()]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter, which is a text that is there, or is not there."""
    kinds = [each for each in schema.get("anyOf", [schema]) if each != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _parameter(name: str, place: str, schema: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
