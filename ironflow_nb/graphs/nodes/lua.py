"""The kind ``lua``: code of Lua, run in a process of its own that can use nothing but what it is given."""

from __future__ import annotations

from typing import Any, Final

from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import coerce_deep
from ironflow_nb.graphs.lua.lua_calls import MAX_INSTRUCTIONS, TIMEOUT_S, LuaRefused, ask_lua


def _perform(options: Options, context: NodeContext) -> Any:
    __tracebackhide__ = True
    request = {
        "task": "call",
        "source": options["source"],
        "ctx": coerce_deep(options.get("ctx", {})),
        "env": options.get("env", {}),
        "now_ms": int(context.now().timestamp() * 1000),
    }
    if "items" in options:
        request["items"] = coerce_deep(options["items"])
    timeout_s = TIMEOUT_S if context.timeout_s is None else context.timeout_s
    bound = options.get("max_instructions", MAX_INSTRUCTIONS)
    try:
        answer = ask_lua(request, timeout_s=timeout_s, max_instructions=bound)
    except LuaRefused as error:
        _log(error.logs, context)
        raise failure(context, _message(error), is_retryable=not error.is_limit) from None
    _log(answer.logs, context)
    value = answer.value
    if "items" in options:
        return value if options.get("keep_nulls", False) else [each for each in value if each is not None]
    return value if isinstance(value, dict) else {} if value is None else {"result": value}


def _log(logs: list[tuple[str, str]], context: NodeContext) -> None:
    for level, text in logs:
        context.log(text, level)


def _message(error: LuaRefused) -> str:
    text = str(error).removeprefix("code:")
    where, _, what = text.partition(": ")
    if where.isdigit() and what:
        return f"line {where} of its code: {what}"
    return f"its code was stopped: {text}; raise timeout_s or max_instructions" if error.is_limit else text


LUA: Final = Kind(
    name="lua",
    description="Runs code of Lua that sees nothing but ctx: an object it returns is the output, anything else its"
    " result. It may use string, table, math, utf8, and no files, no network and no Python.",
    schema=options_schema(
        {
            "source": {"type": "string", "description": "A function of ctx, or lines that return a value; Lua 5.4."},
            "ctx": {"type": "object", "description": "What the code sees, by name."},
            "items": {"type": "array", "description": "Call the function for each item, with the item and its number."},
            "keep_nulls": {
                "type": "boolean",
                "default": False,
                "description": "With items: whether nil stays, as null.",
            },
            "env": {"type": "object", "description": "What env(name) gives, by name."},
            "max_instructions": {
                "type": "integer",
                "minimum": 1_000,
                "maximum": 10_000_000_000,
                "default": MAX_INSTRUCTIONS,
                "description": "How many instructions it may need; its time is that of timeout_s, by default 10 s.",
            },
        },
        required=["source"],
    ),
    perform=_perform,
    shorthand="source",
    verbatim=frozenset({"source"}),
)
