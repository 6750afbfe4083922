"""The process that runs Lua: it reads one request from stdin, writes one answer to stdout, and ends.

It is no part of the process that starts it, and imports nothing of this package: what its code does wrong ends with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

MOST_DEPTH: Final = 64
MOST_VALUES: Final = 100_000
MOST_TEXT: Final = 16_000_000
_MOST_MEMORY: Final = 4_000_000_000
_INTERVAL: Final = 1_000
_SANDBOX: Final = Path(__file__).with_name("lua_sandbox.lua")
_FLOW: Final = "=flow"
_CODE: Final = "=code"
FUNCTION_KEY: Final = "\0function"
"""The only key of an object that stands for a function in the description of a flow."""


class Refused(Exception):
    """What Lua gave, or was given, is no data."""


class LimitExceeded(Exception):
    """The code needs more than it may."""


class Lua:
    """One state of Lua with its sandbox."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        from lupa import lua54

        self._lupa = lua54
        self.logs: list[tuple[str, str]] = []
        self._request = request
        self.variables: dict[str, None] = {}
        self._n_uuids = 0
        self.source_of: Callable[[Any], dict[str, Any]] | None = None
        """How a function is told; without it a function is no data."""
        self.runtime = lua54.LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_filter=_deny,
            max_memory=request["max_bytes"],
        )
        build = self.runtime.compile(_SANDBOX.read_bytes(), name=b"=sandbox")
        host = self.runtime.table_from({name.encode(): self._guarded(each) for name, each in self._host().items()})
        self.sandbox = build(host, request["max_instructions"], _INTERVAL, _FLOW.encode())
        self._is_list, self._is_null = self.sandbox[b"is_list"], self.sandbox[b"is_null"]

    def run(self, function: Any, *arguments: Any) -> Any:
        """Call a function of Lua and return its first result.

        Raises:
            LimitExceeded: it needed more than it may.
            Refused: it raised an error.
        """
        try:
            kind, value = self.sandbox[b"run"](function, *arguments)
        except MemoryError:
            raise
        except self._lupa.LuaError:  # it turns all others into its result
            raise LimitExceeded(f"more than {self._request['max_instructions']:,} instructions") from None
        if kind == b"limit":
            raise MemoryError
        if kind == b"error":
            raise Refused(_text(value))
        return value

    def problem_of(self, source: Any) -> str | None:
        """Return what is wrong with the text of a code; None if it can be compiled, or is a function."""
        if not isinstance(source, str):
            return None
        made = self.sandbox[b"compiled"](source.encode(), _CODE.encode())
        is_compiled = not isinstance(made, tuple) or made[0] is not None
        return None if is_compiled else f"its code can't be read, {_text(made[1]).replace('code:', 'line ', 1)}"

    # -- the functions of the host -------------------------------------------------------------------------------

    def _host(self) -> dict[str, Callable[..., Any]]:
        return {
            "json_parse": self._parse,
            "json_stringify": lambda value=None: json.dumps(
                self.data(value), ensure_ascii=False, separators=(",", ":")
            ),
            "base64_encode": lambda value=None: base64.b64encode(_bytes(value)),
            "base64_decode": lambda value=None: base64.b64decode(_bytes(value), validate=True),
            "env": self._env,
            "uuid4": self._uuid4,
            "now_rfc3339": lambda _=None: self._now(),
            "now_unix_ms": lambda _=None: int(self._request["now_ms"]),
            "log": self._log,
        }

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> tuple[Any, ...]:
            try:
                made = function(*arguments)
            except (Refused, ValueError, TypeError, RecursionError, OverflowError) as error:
                return False, str(error).encode("utf-8", "replace")
            return True, made.encode() if isinstance(made, str) else made

        return call

    def _parse(self, text: Any = None) -> Any:
        content = _bytes(text)
        if len(content) > MOST_TEXT:
            raise Refused(f"a text of more than {MOST_TEXT:,} bytes is not parsed")
        return self.value(json.loads(content.decode(), parse_constant=_refuse_constant))

    def _env(self, name: Any = None) -> str | None:
        self.variables[_text(name)] = None
        found = self._request.get("env", {}).get(_text(name))
        return found if isinstance(found, str) else None

    def _uuid4(self, _: Any = None) -> str:
        self._n_uuids += 1
        given = self._request.get("uuids")
        if given:
            return str(given[min(self._n_uuids, len(given)) - 1])
        content = bytearray(hashlib.sha256(f"{self._request['seed']} {self._n_uuids}".encode()).digest()[:16])
        content[6], content[8] = content[6] & 0x0F | 0x40, content[8] & 0x3F | 0x80
        text = content.hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def _now(self) -> str:
        given = self._request.get("now")
        return given or datetime.fromtimestamp(self._request["now_ms"] / 1000, UTC).isoformat()

    def _log(self, level: Any, text: Any) -> None:
        if len(self.logs) >= 1_000:
            raise Refused("it logs more than 1,000 lines")
        self.logs.append((_text(level), bytes(text).decode("utf-8", "replace")[:10_000]))

    # -- values --------------------------------------------------------------------------------------------------

    def value(self, data: Any) -> Any:
        """Return data as a value of Lua; null in a list or an object is json_null."""
        match data:
            case None:
                return self.sandbox[b"NULL"]
            case bool() | float() | bytes():
                return data
            case int():
                return data if -(2**63) <= data < 2**63 else float(data)
            case str():
                return data.encode("utf-8", "surrogatepass")
            case list():
                made = self.runtime.table_from([self.value(each) for each in data])
                return self.sandbox[b"as_list"](made)
            case _:
                return self.runtime.table_from(
                    {key.encode("utf-8", "surrogatepass"): self.value(each) for key, each in data.items()}
                )

    def data(self, value: Any) -> Any:
        """Return a value of Lua as data.

        Raises:
            Refused: it has no form as data.
        """
        self._n_values = 0
        return self._data(value, 0, "the value")

    def _data(self, value: Any, depth: int, place: str) -> Any:
        self._n_values += 1
        if self._n_values > MOST_VALUES:
            raise Refused(f"there are more than {MOST_VALUES:,} values")
        match value:
            case None | bool() | int():
                return value
            case float():
                if not math.isfinite(value):
                    raise Refused(f"{place} is {value}, which JSON does not have")
                return value
            case bytes():
                try:
                    return value.decode()
                except UnicodeDecodeError:
                    raise Refused(f"{place} is a text that is not UTF-8; base64_encode makes one of it") from None
        kind = self._lupa.lua_type(value)
        if kind == "function" and self.source_of is not None:
            return {FUNCTION_KEY: self.source_of(value)}
        if kind != "table":
            raise Refused(f"{place} is a {kind or 'value'}, which is no data")
        if depth >= MOST_DEPTH:
            raise Refused(f"{place} is nested more than {MOST_DEPTH} levels deep, or in itself")
        return None if self._is_null(value) else self._table(value, depth + 1, place)

    def _table(self, table: Any, depth: int, place: str) -> Any:
        items = dict(table.items())
        numbers = [key for key in items if type(key) is int]
        if numbers and len(numbers) == len(items) == max(numbers) and min(numbers) == 1:
            return [self._data(items[n], depth, f"{place}[{n}]") for n in range(1, len(items) + 1)]
        if not items:
            return [] if self._is_list(table) else {}
        if not all(type(key) is bytes for key in items):
            shape = "both numbers and names, or other keys" if len(numbers) < len(items) else "a list with gaps"
            raise Refused(f"{place} has {shape}; a table is a list or an object")
        # Lua has no order of keys, and another one in each process.
        return {_text(key): self._data(items[key], depth, f"{place}.{_text(key)}") for key in sorted(items)}


def _deny(_object: object, _name: object, _is_setting: object) -> str:
    raise AttributeError("there is nothing of Python here")


def _refuse_constant(name: str) -> float:
    raise Refused(f"JSON has no {name}")


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value).encode()
    raise Refused("it needs a text")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# -- requests ----------------------------------------------------------------------------------------------------


def call_lua(lua: Lua, request: Mapping[str, Any]) -> Any:
    """Return what the code gives for its context, or the list of what its function gives for each item."""
    context = {key.encode(): lua.value(each) for key, each in request["ctx"].items() if each is not None}
    ctx = lua.runtime.table_from(context)
    lua.sandbox[b"set_global"](b"ctx", ctx)
    made = lua.sandbox[b"compiled"](request["source"].encode(), _CODE.encode())
    code, problem = made if isinstance(made, tuple) else (made, None)
    if code is None:
        raise Refused(_text(problem))
    found = lua.run(code)
    is_function = lua.sandbox[b"is_callable"](found)
    if "items" not in request:
        return lua.data(lua.run(found, ctx) if is_function else found)
    if not is_function:
        raise Refused("with items, the code is a function of an item and its number")
    return [lua.data(lua.run(found, lua.value(item), n)) for n, item in enumerate(request["items"], 1)]


def read_flow(lua: Lua, request: Mapping[str, Any]) -> Any:
    """Return the description of the flow that a file builds: its name and its steps."""
    from lua_source import FunctionSources  # type: ignore[import-not-found, unused-ignore]

    lua.sandbox[b"allow_flows"]()
    made = lua.sandbox[b"load"](request["source"].encode(), _FLOW.encode())
    code, problem = made if isinstance(made, tuple) else (made, None)
    if code is None:
        raise Refused(_text(problem))
    flow = lua.sandbox[b"flow_of"](lua.run(code))
    if flow is None:
        raise Refused("the file returns no flow; end it with: return flow")
    sources = FunctionSources(request["source"], lua.sandbox, _FLOW)

    def source_of(function: Any) -> dict[str, Any]:
        try:
            described: dict[str, Any] = sources.describe(function)
        except ValueError as error:
            return {"problem": str(error)}
        return described

    lua.source_of = source_of
    described = lua.data(flow)
    for step in described["steps"]:
        if step["kind"] == "code" and isinstance(step.get("config"), dict):
            problem = lua.problem_of(step["config"].get("source"))
            if problem is not None:
                step["config"]["source"] = {FUNCTION_KEY: {"problem": problem}}
    return described


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a request: a value, or an error with its kind."""
    lua: Lua | None = None
    try:
        lua = Lua(request)
        made = {"value": (read_flow if request["task"] == "read" else call_lua)(lua, request)}
    except LimitExceeded as error:
        made = {"kind": "limit", "error": str(error)}
    except (Refused, RecursionError) as error:
        made = {"kind": "error", "error": str(error)}
    except MemoryError:  # that of Lua is one, too
        made = {"kind": "limit", "error": f"more than {request['max_bytes']:,} bytes of memory"}
    if lua is not None:
        made |= {"logs": lua.logs, "variables": list(lua.variables)}
    return made


def _limit_memory() -> None:
    """Bound what the process itself takes, beside what its Lua may: copies of texts and values."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    except (ImportError, OSError, ValueError):  # Windows has no such bound, and macOS refuses it
        pass


def serve_calls() -> None:
    """Read the request, answer it, and end without what Lua would still do at its end."""
    sys.path += [sys.argv[1], str(Path(__file__).parent)]
    _limit_memory()
    made = answer(json.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(json.dumps(made).encode())
    sys.stdout.buffer.flush()
    os._exit(0)


if __name__ == "__main__":
    serve_calls()
