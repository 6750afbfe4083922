"""The kinds of nodes of Lua flows as kinds of ours, with the keys that each writes into the context."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.graphs.readers.lua_context import field_name, path_text, quoted_text
from ironflow_nb.graphs.readers.lua_step import LuaStepOptions, NodeKeys, Reader, lua_keys, template_of

_LEVELS: Final = {"trace": "debug", "warn": "warning", "warning": "warning", "debug": "debug", "error": "error"}


def _json(value: Any) -> str:
    """Return a value as a literal of an expression."""
    if isinstance(value, str):
        return quoted_text(value)
    return f"`{msgspec.json.encode(value).decode()}`"


# -- texts and data ----------------------------------------------------------------------------------------------


def _log(options: LuaStepOptions) -> NodeKeys:
    message = options.context.text(options.get("message", ""))
    level = _LEVELS.get(str(options.get("level", "info")).lower())
    options.writes(log_message=options.step.id)
    return {"log": message if level is None else {"message": message, "level": level}}


def _template(options: LuaStepOptions) -> NodeKeys:
    options.writes_keys({options.out(): options.step.id})
    return {"transform": options.text("template", is_text=True)}


def _parse(form: str) -> Reader:
    def read(options: LuaStepOptions) -> NodeKeys:
        options.writes_keys({options.out(None if form == "json" else f"{form}_data"): options.step.id})
        return {"parse": {form: options.input()}}

    return read


def _stringify(form: str) -> Reader:
    def read(options: LuaStepOptions) -> NodeKeys:
        options.writes_keys({options.out(None if form == "json" else form): options.step.id})
        return {"format": {form: template_of(options.source())}}

    return read


def _csv_parse(options: LuaStepOptions) -> NodeKeys:
    made: NodeKeys = {"csv": template_of(options.source())}
    named = {"header": "has_header", "delimiter": "delimiter", "quote": "quote_char"}
    made |= {ours: options.get(theirs) for ours, theirs in named.items() if options.has(theirs)}
    if options.get("infer_types"):
        made["types"] = "auto"
    if options.get("trim"):
        options.note("blanks around cells stay; a foreach can trim them")
    options.get("skip_empty_lines")
    options.writes_keys({options.out(): options.step.id})
    return {"parse": made}


def _csv_stringify(options: LuaStepOptions) -> NodeKeys:
    made: NodeKeys = {"csv": template_of(options.source())}
    named = {"header": "include_headers", "delimiter": "delimiter", "quote": "quote_char"}
    made |= {ours: options.get(theirs) for ours, theirs in named.items() if options.has(theirs)}
    if options.get("quote_all"):
        made["quotes"] = "all"
    options.writes_keys({options.out(): options.step.id})
    return {"format": made}


def _json_extract_path(options: LuaStepOptions) -> NodeKeys:
    source = options.source()
    whole = f"from_json({source})" if options.get("parse_json") else source
    path = _place_in(str(options.need("path")))
    otherwise = options.get("default")
    is_required = options.get("required", False)
    options.writes_keys({options.out(): options.step.id})
    return {
        "transform": template_of(f"{whole}{path}" if is_required else f"default({whole}{path}, {_json(otherwise)})")
    }


def _place_in(path: str) -> str:
    """Return a path as ``a.b[0].c`` as it follows an expression."""
    parts = re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)
    return path_text(int(index) if index else name for name, index in parts)


def _select_fields(options: LuaStepOptions) -> NodeKeys:
    fields = ", ".join(f"{field_name(each)}: {field_name(each)}" for each in options.need("fields"))
    options.note("a field that the object lacks is an error here, and is left out there")
    options.writes_keys({options.out(): options.step.id})
    return {"transform": template_of(f"{options.source()}.{{{fields}}}")}


_RENAMED: Final = """function(ctx)
  local made = {}
  for name, value in pairs(ctx.value) do made[ctx.mapping[name] or name] = value end
  return { value = made }
end
"""
_MAPPED: Final = """function(ctx)
  local function mapped(item)
    local made = {}
    for name, field in pairs(ctx.mapping) do made[name] = item[field] end
    return made
  end
  if #ctx.value == 0 and next(ctx.value) then return { value = mapped(ctx.value) } end
  local made = json_array({})
  for number, item in ipairs(ctx.value) do made[number] = mapped(item) end
  return { value = made }
end
"""


def _with_mapping(code: str) -> Reader:
    def read(options: LuaStepOptions) -> NodeKeys:
        mapping = dict(options.texts("mapping", {}))
        options.writes_keys({options.out(): f"{options.step.id}.value"})
        return {"lua": {"source": code, "ctx": {"value": template_of(options.source()), "mapping": mapping}}}

    return read


def _data_filter(options: LuaStepOptions) -> NodeKeys:
    field = f"item.{field_name(str(options.need('field')))}"
    operator, value = str(options.need("op")), options.context.text(options.get("value"))
    values: NodeKeys = {}
    literal = _json(value)
    if isinstance(value, str) and "{{" in value:
        values, literal = {"values": {"wanted": value}}, "values.wanted"
    signs = {"gt": ">", "lt": "<", "gte": ">=", "lte": "<="}
    match operator:
        case "eq" | "neq":
            where = f"default({field}, `null`) {'==' if operator == 'eq' else '!='} {literal}"
        case "exists" | "not_exists":
            where = f"{field} {'!=' if operator == 'exists' else '=='} `null`"
        case "contains":
            where = f"{field} && type({field}) == 'string' && contains({field}, {literal})"
        case _ if operator in signs:
            where = f"{field} && type({field}) == 'number' && {field} {signs[operator]} {literal}"
        case _:
            raise ValueError(f"op is eq, neq, gt, lt, gte, lte, contains, exists or not_exists, not {operator!r}")
    step, out = options.step.id, options.out()
    options.writes_keys({out: step, f"{out}_count": f"length({step})"})
    return {"filter": {"items": template_of(options.source()), "where": template_of(where), **values}}


def _batch(options: LuaStepOptions) -> NodeKeys:
    step, out = options.step.id, options.out()
    options.writes_keys({out: step, f"{out}_count": f"length({step})"})
    return {"batch": {"items": template_of(options.source()), "size": options.need("size")}}


def _deduplicate(options: LuaStepOptions) -> NodeKeys:
    made: NodeKeys = {"items": template_of(options.source())}
    if options.has("key"):
        made["by"] = template_of(f"default(item.{field_name(str(options.get('key')))}, `null`)")
    out = options.out()
    options.writes_keys({out: options.step.id})
    options.loses(f"{out}_removed")
    return {"deduplicate": made}


def _hash(options: LuaStepOptions) -> NodeKeys:
    made: NodeKeys = {"value": options.input()}
    algorithm, out = str(options.get("algorithm", "sha256")), options.out("hash")
    if algorithm != "sha256":
        made["algorithm"] = algorithm
    options.writes_keys({out: options.step.id, f"{out}_algorithm": quoted_text(algorithm)})
    return {"hash": made}


def _base64(function: str, otherwise: str) -> Reader:
    def read(options: LuaStepOptions) -> NodeKeys:
        for each in ("file", "output_file", "url_safe"):
            if options.get(each):
                raise ValueError(f"{each} is not there; our file node reads and writes bytes")
        options.writes_keys({options.out(otherwise): options.step.id})
        return {"transform": template_of(f"{function}({options.input_expression()})")}

    return read


def _date_format(options: LuaStepOptions) -> NodeKeys:
    is_now = options.get("input") == "now"
    made: NodeKeys = {"at": template_of("now()") if is_now else options.input()}
    if options.has("input_format"):
        made["from"] = options.get("input_format")
    zone = str(options.get("timezone", "UTC"))
    if zone != "UTC":
        raise ValueError(f"timezone {zone!r}: our date node takes names of zones, such as Europe/Berlin")
    made |= {} if is_now else {"from_zone": "UTC"}
    made |= {"zone": "UTC", "format": options.get("output_format", "%Y-%m-%d %H:%M:%S")}
    out = options.out("formatted_date")
    options.writes_keys({out: options.step.id})
    options.loses(f"{out}_unix")
    return {"date": made}


def _validate(*, is_text: bool) -> Reader:
    def read(options: LuaStepOptions) -> NodeKeys:
        source, step = options.source(), options.step.id
        value = f"(type({source}) == 'string' && [from_json({source})] || [{source}])[0]" if is_text else source
        schema = options.text("schema") if options.has("schema") else template_of(_schema_of(options))
        options.writes(validation_success=f"{step}.is_valid", validation_errors=f"{step}.errors[].message")
        return {"validate": {"value": template_of(value), "schema": schema}}

    return read


def _schema_of(options: LuaStepOptions) -> str:
    found = options.source("schema_key")
    return f"(type({found}) == 'string' && [from_json({found})] || [{found}])[0]"


# -- code --------------------------------------------------------------------------------------------------------


def _code(options: LuaStepOptions) -> NodeKeys:
    if options.has("bytecode_b64"):
        raise ValueError("code is a text or a function, not bytecode")
    names = options.get("context_keys")
    return {"lua": lua_keys(options, options.need("source"), names=None if names is None else list(names))}


def _foreach(options: LuaStepOptions) -> NodeKeys:
    step, out = options.step.id, options.out("foreach_results")
    made = lua_keys(options, options.need("transform"))
    kept = {"keep_nulls": True} if options.get("filter_nulls", True) is False else {}
    options.writes_keys({out: step, f"{out}_count": f"length({step})"})
    return {"lua": {"items": template_of(options.source()), **made, **kept}}


# -- decisions ---------------------------------------------------------------------------------------------------


def _if_node(options: LuaStepOptions) -> NodeKeys:
    condition = options.context.condition(options.need("condition"))
    return _decided(options, condition, "condition_result", "true", "false")


def _decided(options: LuaStepOptions, condition: str, key: str, yes: str, no: str) -> NodeKeys:
    """Return a node whose output is true or false, with the routes that this means."""
    step = options.step
    yes, no = str(options.get("true_route", yes)), str(options.get("false_route", no))
    step.routes = {no: f"{step.id} == `false`", yes: f"{step.id} == `true`"}
    if yes == no:
        step.routes = {yes: f"{step.id} != `null`"}
    for name in _own_names(options):
        route = f"({step.id} && {quoted_text(yes)} || {quoted_text(no)})"
        options.writes_keys({f"_{key}_{name}": step.id, f"_route_{name}": route})
    return {"transform": template_of(condition)}


def _own_names(options: LuaStepOptions) -> set[str]:
    return {options.step.name, str(options.get("_step_name", options.step.name))}


def _chosen(options: LuaStepOptions, expression: str) -> NodeKeys:
    """Return a node whose output is the name of the route."""
    options.step.route_text = options.step.id
    options.writes_keys({f"_route_{name}": options.step.id for name in _own_names(options)})
    return {"transform": template_of(expression)}


def _switch_node(options: LuaStepOptions) -> NodeKeys:
    value = options.optional_source("value")
    cases = dict(options.get("cases") or {})
    if not all(isinstance(each, str) and each for each in cases.values()):
        raise ValueError("each of cases is the name of a route")
    parts = [f"to_string({value}) == {quoted_text(case)} && {quoted_text(route)}" for case, route in cases.items()]
    options.writes_keys({f"_switch_value_{name}": value for name in _own_names(options)})
    return _chosen(options, " || ".join([*parts, quoted_text(str(options.get("default", "default")))]))


def _if_http_status(options: LuaStepOptions) -> NodeKeys:
    value = f"to_number({options.source('status_key')})"
    routes = dict(options.get("routes") or {})
    success, failed = (str(options.get(f"{each}_route", each)) for each in ("success", "error"))
    otherwise = str(routes.pop("default", None) or options.get("default_route", failed))
    if not routes:
        routes, otherwise = {"2xx": success}, failed
    exact = {case: route for case, route in routes.items() if not case.endswith("xx")}
    classes = {case: route for case, route in routes.items() if case.endswith("xx")}
    parts = [f"{value} == `{int(case)}` && {quoted_text(str(route))}" for case, route in exact.items()]
    for case, route in classes.items():
        first = int(case[0]) * 100
        parts.append(f"{value} >= `{first}` && {value} < `{first + 100}` && {quoted_text(str(route))}")
    options.writes_keys({f"_status_code_{name}": value for name in _own_names(options)})
    return _chosen(options, " || ".join([*parts, quoted_text(otherwise)]))


def _if_body_contains(options: LuaStepOptions) -> NodeKeys:
    is_required, pattern = options.get("required", False), str(options.need("pattern"))
    source = options.source() if is_required else f"({options.optional_source('source_key')} || '')"
    text = f"to_string({source})"
    if options.get("case_sensitive", True) is False:
        text, pattern = f"lower({text})", pattern.lower()
    return _decided(options, f"contains({text}, {quoted_text(pattern)})", "contains", "true", "false")


def _delay(options: LuaStepOptions) -> NodeKeys:
    seconds = options.get("seconds", 1)
    options.writes(delay_seconds=_json(seconds))
    return {"delay": seconds}


READERS: Final[Mapping[str, Reader]] = {
    "function": _code, "code": _code, "foreach": _foreach,
    "log": _log, "delay": _delay, "template_render": _template, "hash": _hash, "date_format": _date_format,


    "json_parse": _parse("json"), "json_stringify": _stringify("json"), "yaml_parse": _parse("yaml"),
    "yaml_stringify": _stringify("yaml"), "csv_parse": _csv_parse, "csv_stringify": _csv_stringify,
    "json_extract_path": _json_extract_path, "select_fields": _select_fields,
    "rename_fields": _with_mapping(_RENAMED), "data_transform": _with_mapping(_MAPPED),
    "data_filter": _data_filter, "batch": _batch, "deduplicate": _deduplicate,
    "base64_encode": _base64("base64_encode", "base64_encoded"),
    "base64_decode": _base64("base64_decode", "base64_decoded"),
    "validate_schema": _validate(is_text=False), "json_validate": _validate(is_text=True),
    "if_node": _if_node, "switch_node": _switch_node, "if_http_status": _if_http_status,
    "if_body_contains": _if_body_contains,
}  # fmt: skip
"""The kinds that work with what they are given."""
