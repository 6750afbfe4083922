"""The kind ``mcp``: the tools of a server of the Model Context Protocol, a program of this machine or behind a URL."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, Any, Final

from ironflow_nb.errors import IronflowError, NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Need, origin_of
from ironflow_nb.graphs.host_auth import NODE_AUTH
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, missing_extra, options_schema
from ironflow_nb.graphs.language.data import coerce_deep
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.http_messages import request_from_options
from ironflow_nb.graphs.nodes.shell import environment, program_path, working_folder

if TYPE_CHECKING:
    from mcp import Client

TIMEOUT_S: Final = 60.0
_MOST_CHARACTERS: Final = 25_000_000
_MOST_PAGES: Final = 100
_TAIL: Final = 1_000


def _perform(options: Options, context: NodeContext) -> Any:
    __tracebackhide__ = True
    try:
        import anyio
        from anyio.from_thread import start_blocking_portal
        from mcp import Client
    except ImportError:
        raise missing_extra(context, "mcp", "mcp") from None
    limit_s = TIMEOUT_S if context.timeout_s is None else context.timeout_s
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        transport = _transport(options, context, log)

        async def talk() -> Any:
            with anyio.fail_after(limit_s):
                async with Client(transport, cache=None) as client:
                    return await _ask(client, options)

        try:
            # The calling thread may have a loop already, as that of a notebook has.
            with start_blocking_portal() as portal:
                answer = portal.call(talk)
        except Exception as error:  # noqa: BLE001 -- the tasks of a transport raise whatever theirs is, in a group
            raise _translated(error, _tail(log), limit_s, context) from None
    return _checked(answer, options, context)


async def _ask(client: Client, options: Options) -> Any:
    if "tool" in options:
        result = await client.call_tool(options["tool"], coerce_deep(options.get("arguments", {})))
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)
    if "resource" in options:
        found = await client.read_resource(options["resource"])
        return found.model_dump(mode="json", by_alias=True, exclude_none=True)
    tools: list[Any] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in page.tools]
        cursor = page.next_cursor
        if cursor is None:
            break
    return {"tools": tools}


def _checked(answer: Mapping[str, Any], options: Options, context: NodeContext) -> dict[str, Any]:
    """Return the output of the node.

    Raises:
        NodeFailed: the tool says that it failed, or the answer is too large.
    """
    if len(str(answer)) > _MOST_CHARACTERS:
        raise failure(context, f"the server answered more than {_MOST_CHARACTERS:,} characters")
    if "tools" in answer:
        described = [
            {
                "name": each["name"],
                "description": each.get("description", ""),
                "parameters": each.get("inputSchema", {}),
            }
            for each in answer["tools"]
        ]
        return {"tools": described}
    parts = answer.get("content", answer.get("contents", []))
    text = "\n".join(str(each["text"]) for each in parts if "text" in each)
    output = {"text": text, "content": parts}
    if "resource" in options:
        return output
    output |= {"data": answer.get("structuredContent"), "is_error": bool(answer.get("isError"))}
    if output["is_error"] and options.get("fail_on_error", True):
        raise failure(context, f"the tool {options['tool']} failed: {text[:_TAIL]}", is_retryable=True, output=output)
    return output


# -- transports --------------------------------------------------------------------------------------------------


def _transport(options: Options, context: NodeContext, log: IO[str]) -> Any:
    if "url" in options:
        return _http_transport(options, context)
    from mcp.client.stdio import StdioServerParameters, stdio_client

    program, *arguments = (str(each) for each in options["command"])
    parameters = StdioServerParameters(
        command=program_path(program, context),
        args=arguments,
        env=environment(options.get("env", {}), context),
        cwd=working_folder(options.get("cwd"), context),
    )
    # The standard error of a notebook is no file.
    return stdio_client(parameters, errlog=log)  # type: ignore[arg-type]


def _http_transport(options: Options, context: NodeContext) -> Any:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    asked = {name: options[name] for name in ("url", "headers", "auth") if name in options}
    request = request_from_options(asked, context)

    @asynccontextmanager
    async def connected() -> AsyncIterator[Any]:
        # The library follows redirections only on the same server.
        async with (
            httpx2.AsyncClient(headers=dict(request.headers), timeout=TIMEOUT_S, trust_env=False) as client,
            streamable_http_client(str(request.url), http_client=client) as streams,
        ):
            yield streams

    return connected()


def _translated(error: BaseException, log: str, limit_s: float, context: NodeContext) -> NodeFailed:
    leaf = _leaf(error)
    if isinstance(leaf, IronflowError):
        raise leaf
    said = f":\n{log}" if log else ""
    if isinstance(leaf, TimeoutError):
        message = f"{context.node}: the server took longer than {limit_s:g} s{said}"
        return NodeTimeout(message, node=context.node)
    name = type(leaf).__name__
    is_retryable = name in {"ConnectError", "ConnectTimeout", "ReadError", "RemoteProtocolError"}
    return failure(context, f"the server can't be asked: {name}: {leaf}{said}", is_retryable=is_retryable)


def _leaf(error: BaseException) -> BaseException:
    """Return the first error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _tail(log: IO[str]) -> str:
    """Return the end of what the server has written to its standard error."""
    log.seek(0)
    return log.read()[-_TAIL:].strip()


# -- kind --------------------------------------------------------------------------------------------------------


def _needs(options: Options) -> Iterable[Need]:
    url, command, env = options.get("url"), options.get("command"), options.get("env")
    if isinstance(url, str) and OPENING not in url and origin_of(url) is not None:
        yield Need("http", url)
    if isinstance(command, list) and command and isinstance(command[0], str) and OPENING not in command[0]:
        yield Need("shell", command[0])
    yield from (Need("shell_env", name) for name in (env if isinstance(env, Mapping) else ()))


_TEXT: Final = {"type": "string", "minLength": 1}


def _only_with(option: str, other: str) -> dict[str, Any]:
    return {
        "description": f"{option} belongs to {other} only",
        "not": {"required": [option], "not": {"required": [other]}},
    }


MCP: Final = Kind(
    name="mcp",
    description="Calls a tool of a server of the Model Context Protocol, {text, content, data, is_error}, reads a "
    "resource, or lists the tools: {tools}.",
    schema=options_schema(
        {
            "command": {
                "type": "array",
                "items": {"type": ["string", "number"]},
                "minItems": 1,
                "description": "The program that is the server, of allow: {shell: [...]}, with its arguments.",
            },
            "env": {
                "type": "object",
                "propertyNames": {"pattern": "^[^=]+$"},
                "additionalProperties": {"type": ["string", "number"]},
                "description": "Variables for the program, as a shell node has them.",
            },
            "cwd": {**_TEXT, "description": "The granted folder that the program is run in."},
            "url": {
                "type": "string",
                "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
                "description": "The address of a server (streamable HTTP) of a granted host.",
            },
            "headers": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
                "description": "Headers of its requests.",
            },
            "auth": NODE_AUTH,
            "tool": {**_TEXT, "description": "The tool to call; without it the tools are listed, as llm takes them."},
            "arguments": {"type": "object", "description": "The arguments of the tool."},
            "resource": {**_TEXT, "description": "The URI of a resource to read in place of a call."},
            "fail_on_error": {
                "type": "boolean",
                "default": True,
                "description": "Whether the node fails if the tool says that it failed.",
            },
        },
        oneOf=[{"required": ["command"]}, {"required": ["url"]}],
        allOf=[
            {"description": "tool and resource exclude one another", "not": {"required": ["tool", "resource"]}},
            _only_with("arguments", "tool"),
            _only_with("env", "command"),
            _only_with("cwd", "command"),
            _only_with("headers", "url"),
            _only_with("auth", "url"),
        ],
    ),
    perform=_perform,
    needs=_needs,
    is_outside=True,
)
