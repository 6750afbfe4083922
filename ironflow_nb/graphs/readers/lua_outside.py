"""The kinds of nodes of Lua flows that use something outside: servers, programs, files and databases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ironflow_nb.graphs.readers.lua_step import TRUE, LuaStepOptions, NodeKeys, Reader, template_of

# -- requests and programs ---------------------------------------------------------------------------------------


def _http(options: LuaStepOptions) -> NodeKeys:
    return _request(options, str(options.get("method", "GET")).upper())


def _request(options: LuaStepOptions, method: str) -> NodeKeys:
    url = str(options.text("url"))
    made: NodeKeys = {"url": url, "method": method} if method != "GET" else {"url": url}
    headers = dict(options.texts("headers", {}))
    made |= _body(options)
    made |= _auth(options, options.grant_host(url), headers)
    if headers:
        made["headers"] = headers
    if options.get("fail_on_status", True) is False:
        made["fail_on_status"] = False
    if options.get("max_redirects") == 0:
        made["follow_redirects"] = False
    keys: NodeKeys = {"http": made, "timeout_s": options.get("timeout", 30)}
    n_retries = options.get("status_retries", options.get("max_status_retries", 0))
    if n_retries and options.get("retry_statuses"):
        delay_s = options.get("status_retry_backoff", 1)
        keys["retry"] = {"attempts": int(n_retries) + 1, "delay_s": delay_s, "on_status": _statuses(options)}
        options.note("a broken connection and a time that is over are tried again, too; there only a status")
    for each in ("respect_retry_after", "max_retry_after", "allow_cross_origin_redirects", "block_private_network"):
        options.get(each)
    step, out = options.step.id, options.out("http")
    is_success = f"{step}.status_code >= `200` && {step}.status_code < `300`"
    options.writes_keys({
        f"{out}_status": f"{step}.status_code", f"{out}_data": f"{step}.body", f"{out}_headers": f"{step}.headers",
        f"{out}_success": f"({is_success})" if "fail_on_status" in made else TRUE,
    })  # fmt: skip
    options.loses(f"{out}_attempts")
    return keys


def _statuses(options: LuaStepOptions) -> list[int]:
    return [int(each) for each in options.get("retry_statuses")]


def _body(options: LuaStepOptions) -> NodeKeys:
    if not options.has("body"):
        options.get("body_type")
        return {}
    match options.get("body_type", "json"):
        case "json":
            return {"json": options.text("body", is_text=True)}
        case "form":
            return {"form": options.text("body")}
        case "text":
            return {"body": options.text("body", is_text=True)}
        case other:
            raise ValueError(f"body_type is json, form or text, not {other!r}")


def _auth(options: LuaStepOptions, host: str, headers: dict[str, Any]) -> NodeKeys:
    """Return the credential for the host, or put it into the headers if the host is not known."""
    given = dict(options.texts("auth", {}))
    if not given:
        return {}
    secret = str(given.get("token") or given.get("password") or given.get("key") or "")
    if secret and "{{" not in secret and "\0" not in secret:
        options.note('its secret stands in the file and is recorded; put it into a variable: env("NAME")')
    match given.get("type", "bearer"):
        case "bearer":
            made: NodeKeys = {"bearer": given.get("token", "")}
            header = ("authorization", f"Bearer {given.get('token', '')}")
        case "basic":
            made = {"basic": {"user": given.get("username", ""), "password": given.get("password", "")}}
            header = ("", "")
        case "api_key":
            header = (str(given.get("header", "X-API-Key")), str(given.get("key", "")))
            made = {"header": {"name": header[0], "value": header[1]}}
        case other:
            raise ValueError(f"auth has the type bearer, basic or api_key, not {other!r}")
    if host:
        return {"auth": {"host": host, **made}}
    if not header[0]:
        raise ValueError("basic auth needs a URL whose host is written, so that it goes to no other")
    headers[header[0]] = header[1]
    return {}


def _shell(options: LuaStepOptions) -> NodeKeys:
    program, arguments = str(options.text("cmd")), options.texts("args", [])
    made: NodeKeys = {"command": [program, *arguments]}
    if re.search(r"\{\{|\0", program):
        raise ValueError("cmd is fixed here; args and env take values of the context")
    options.flow.grant("shell", program)
    env = options.texts("env", {})
    for name in env:
        options.flow.grant("shell_env", str(name))
    if env:
        made["env"] = env
    if options.has("cwd"):
        made["cwd"] = options.path("cwd")
    if options.get("fail_on_nonzero", True) is False:
        made["fail_on_exit"] = False
    step, out = options.step.id, options.out("shell")
    options.writes_keys({
        f"{out}_stdout": f"{step}.stdout", f"{out}_stderr": f"{step}.stderr", f"{out}_code": f"{step}.exit_code",
        f"{out}_success": f"({step}.exit_code == `0`)", f"{out}_output_truncated": f"{step}.is_truncated",
    })  # fmt: skip
    return {"shell": made, "timeout_s": options.get("timeout", 60)}


# -- files -------------------------------------------------------------------------------------------------------


def _read_file(options: LuaStepOptions) -> NodeKeys:
    encoding, step = options.get("encoding", "text"), options.step.id
    if encoding != "text":
        raise ValueError(f"a file is read as text here, not as {encoding!r}; our file node has as: bytes")
    out = options.out("file")
    options.writes_keys({f"{out}_content": f"{step}.content", f"{out}_path": f"{step}.path", f"{out}_success": TRUE})
    return {"file": {"read": options.path("path")}}


def _write_file(options: LuaStepOptions) -> NodeKeys:
    if options.get("encoding", "text") != "text" or options.has("artifact"):
        raise ValueError("a file is written as text here; our file node writes bytes, too")
    action = "append" if options.get("append") else "write"
    content = (
        template_of(options.source()) if options.has("source_key") else options.context.text(options.get("content", ""))
    )
    options.writes(write_file_path=f"{options.step.id}.path", write_file_success=TRUE)
    return {"file": {action: options.path("path"), "content": content}}


def _copy_file(options: LuaStepOptions) -> NodeKeys:
    return _place(options, "copy")


def _move_file(options: LuaStepOptions) -> NodeKeys:
    return _place(options, "move")


def _place(options: LuaStepOptions, action: str) -> NodeKeys:
    target = f"{action}_file_destination"
    options.loses(f"{action}_file_source")
    options.writes_keys({target: f"{options.step.id}.path", f"{action}_file_success": TRUE})
    return {"file": {action: options.path("source"), "to": options.path("destination")}}


def _delete_file(options: LuaStepOptions) -> NodeKeys:
    options.writes(delete_file_path=f"{options.step.id}.path", delete_file_success=TRUE)
    return {"file": {"delete": options.path("path")}}


def _list_directory(options: LuaStepOptions) -> NodeKeys:
    kind = "is_folder && 'directory' || 'file'"
    made = f"{options.step.id}.entries[].{{name: name, path: path, type: {kind}}}"
    options.writes_keys({options.out("files"): made})
    recursive = {"recursive": True} if options.get("recursive") else {}
    return {"file": {"list": options.path("path"), **recursive}}


def _bounds(options: LuaStepOptions) -> NodeKeys:
    options.get("max_depth")
    named = {"max_entries": "max_entries", "max_bytes": "max_total_uncompressed_bytes"}
    return {ours: options.get(theirs) for ours, theirs in named.items() if options.has(theirs)}


def _zip_create(options: LuaStepOptions) -> NodeKeys:
    step = options.step.id
    options.get("compression")
    options.loses("zip_create_source")
    options.writes(zip_create_path=f"{step}.path", zip_create_files=f"{step}.entries", zip_create_success=TRUE)
    return {"zip": {"files": options.path("source"), "to": options.path("zip_path"), **_bounds(options)}}


def _zip_extract(options: LuaStepOptions) -> NodeKeys:
    step, out, to = options.step.id, options.out("extracted_files"), options.path("destination")
    overwrite = {"overwrite": False} if options.get("overwrite", True) is False else {}
    options.writes_keys({
        out: f"{step}.entries[].path", f"{out}_count": f"{step}.n_entries", "zip_extract_destination": f"{step}.path",
        "zip_extract_success": TRUE,
    })  # fmt: skip
    options.loses("zip_extract_path")
    options.note(f"{out} has paths with their folder; there the names in the archive")
    return {"unzip": {"file": options.path("path"), "to": to, **overwrite, **_bounds(options)}}


def _zip_list(options: LuaStepOptions) -> NodeKeys:
    step, out = options.step.id, options.out("zip_entries")
    entries = f"{step}.entries[].{{name: path, size: bytes}}"
    options.writes_keys({
        out: entries, f"{out}_count": f"{step}.n_entries", "zip_list_path": f"{step}.path", "zip_list_success": TRUE
    })  # fmt: skip
    return {"unzip": {"file": options.path("path"), **_bounds(options)}}


# -- databases -----------------------------------------------------------------------------------------------------


def _db(options: LuaStepOptions, *, is_write: bool) -> NodeKeys:
    made: NodeKeys = {**_database(options), "query": _query(options)}
    parameters = options.texts("params", [])
    if parameters:
        made["parameters"] = parameters
    step = options.step.id
    if is_write:
        options.writes(rows_affected=f"{step}.n_changed", db_exec_success=TRUE)
        return {"sql": {**made, "write": True}}
    out = options.out("rows")
    options.writes_keys({out: f"{step}.rows", f"{out}_count": f"{step}.n_rows", f"{out}_success": TRUE})
    options.get("max_result_bytes")
    return {"sql": {**made, "max_rows": options.get("max_rows", 1000)}}


def _query(options: LuaStepOptions) -> str:
    query = str(options.need("query"))
    if "\0" in query or "${ctx" in query:
        raise ValueError("no value stands in a query; params takes them")
    return query


def _database(options: LuaStepOptions) -> NodeKeys:
    written = str(options.text("connection"))
    scheme, _, rest = written.partition(":")
    if scheme != "sqlite":
        raise ValueError("the database is one of SQLite here: sqlite:PATH")
    file = rest.removeprefix("//").partition("?")[0]
    if file != ":memory:":
        options.grant_path(file)
    return {"database": file}


def _db_query(options: LuaStepOptions) -> NodeKeys:
    return _db(options, is_write=False)


def _db_exec(options: LuaStepOptions) -> NodeKeys:
    return _db(options, is_write=True)


def _with_method(method: str) -> Reader:
    return lambda options: _request(options, method)


OUTSIDE_READERS: Final[Mapping[str, Reader]] = {
    "http_request": _http,
    "http_get": _with_method("GET"),
    "http_post": _with_method("POST"),
    "http_put": _with_method("PUT"),
    "http_delete": _with_method("DELETE"),
    "shell_command": _shell,
    "read_file": _read_file,
    "write_file": _write_file,
    "copy_file": _copy_file,
    "move_file": _move_file,
    "delete_file": _delete_file,
    "list_directory": _list_directory,
    "zip_create": _zip_create,
    "zip_extract": _zip_extract,
    "zip_list": _zip_list,
    "db_query": _db_query,
    "db_exec": _db_exec,
}  # fmt: skip
"""The kinds that use something outside."""
