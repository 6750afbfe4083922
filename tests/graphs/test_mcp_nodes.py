"""The kind mcp: a real server of the Model Context Protocol, as a program and behind a URL."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.nodes.mcp_servers import MCP
from tests.graphs.asking import perform
from tests.graphs.playing import graph_of
from tests.graphs.servers import redirecting, serving

SERVER = """
import os, sys, time
from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")


@server.tool()
def price(name: str, n: int = 1) -> dict[str, int]:
    "What some of it cost."
    return {"price": {"tea": 3, "cup": 8}[name] * n}


@server.tool()
def say(text: str) -> str:
    return f"{text} {os.environ.get('SHOP', '')} {os.environ.get('HIDDEN', '')}".strip()


@server.tool()
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@server.resource("shop://greeting")
def greeting() -> str:
    return "Welcome!"


print("the shop is open", file=sys.stderr, flush=True)
if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run("stdio")
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    (tmp_path / "shop.py").write_text(textwrap.dedent(SERVER))
    return [sys.executable, str(tmp_path / "shop.py")]


def ask(program: list[str], *, allow: Any = None, timeout_s: float | None = 60.0, **options: Any) -> Any:
    granted = {"shell": [sys.executable]} if allow is None else allow
    return perform(MCP, {"command": program, **options}, allow=granted, timeout_s=timeout_s)


@pytest.mark.slow
def test_the_tools_are_listed_as_a_model_takes_them(program: list[str]) -> None:
    tools = {each["name"]: each for each in ask(program)["tools"]}
    assert tools.keys() == {"price", "say", "sleep"}
    assert tools["price"]["description"] == "What some of it cost."
    assert tools["price"]["parameters"]["required"] == ["name"]


@pytest.mark.slow
def test_a_tool_is_called(program: list[str]) -> None:
    answer = ask(program, tool="price", arguments={"name": "tea", "n": 2})
    assert answer["data"]["price"] == 6
    assert answer["is_error"] is False
    said = ask(program, tool="say", arguments={"text": "grün"})
    assert said["text"] == "grün"
    assert said["content"][0]["type"] == "text"
    assert ask(program, resource="shop://greeting")["text"] == "Welcome!"


@pytest.mark.slow
def test_a_tool_that_fails_is_a_failure_unless_it_is_only_to_be_told(program: list[str]) -> None:
    with pytest.raises(NodeFailed, match="the tool price failed") as caught:
        ask(program, tool="price", arguments={"name": "pot"})
    assert caught.value.output["is_error"] is True  # type: ignore[index]
    assert ask(program, tool="price", arguments={"name": "pot"}, fail_on_error=False)["is_error"] is True
    with pytest.raises(NodeFailed):
        ask(program, tool="nothing")


def test_a_program_gets_the_variables_that_are_given_and_no_others(
    program: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN", "darjeeling")
    granted = {"shell": [sys.executable], "shell_env": ["SHOP"]}
    assert ask(program, allow=granted, tool="say", arguments={"text": "a"}, env={"SHOP": "open"})["text"] == "a open"
    with pytest.raises(NotGranted, match="shell_env"):
        ask(program, tool="say", arguments={"text": "a"}, env={"SHOP": "open"})


def test_a_program_has_to_be_granted(program: list[str]) -> None:
    with pytest.raises(NotGranted, match="shell"):
        ask(program, allow={"shell": ["other"]})
    node = {"id": "a", "mcp": {"command": ["shop", "--fast"], "tool": "price"}}
    assert ["shell 'shop'" in each.message for each in graph_of(node, allow={}).findings()] == [True]


def test_a_tool_that_takes_too_long_ends_with_its_program(program: list[str]) -> None:
    with pytest.raises(NodeTimeout, match="the server took longer than"):
        ask(program, tool="sleep", arguments={"seconds": 600}, timeout_s=30)
    left = [each for each in psutil.Process().children(recursive=True) if "shop.py" in " ".join(each.cmdline())]
    assert left == []


def test_a_program_that_is_no_server_is_told_with_what_it_wrote(tmp_path: Path) -> None:
    code = "import sys; print('no shop today', file=sys.stderr); sys.exit(3)"
    with pytest.raises(NodeFailed, match="no shop today"):
        ask([sys.executable, "-c", code], tool="price")


@pytest.fixture
def url(program: list[str]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen([*program, str(port)], stderr=subprocess.DEVNULL, env={**os.environ})
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


def test_a_server_behind_a_url(url: str) -> None:
    host = url.split("/")[2]
    call = {"url": url, "tool": "price", "arguments": {"name": "cup"}}
    assert perform(MCP, call, allow={"http": [host]}, timeout_s=90)["data"]["price"] == 8
    with pytest.raises(NotGranted):
        perform(MCP, call, allow={"http": ["other.test"]})


def test_a_server_can_not_send_us_elsewhere(url: str) -> None:
    with serving() as elsewhere:
        away = elsewhere.answers("/mcp", redirecting(url, 307))
        with pytest.raises(NodeFailed):
            perform(MCP, {"url": away, "tool": "price"}, allow={"http": [elsewhere.host]}, timeout_s=60)


def test_headers_and_the_credential_of_the_host_are_sent() -> None:
    with serving() as server:
        given = {
            "url": server.url("/mcp"),
            "headers": {"X-Team": "a"},
            "auth": {"host": server.host, "bearer": "t0ken"},
        }
        with pytest.raises(NodeFailed) as caught:
            perform(MCP, given, timeout_s=60)
        assert server.seen[0].headers["authorization"] == "Bearer t0ken"
        assert server.seen[0].headers["x-team"] == "a"
        assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tool": "x"}, "it needs one of command, url"),
        ({"command": ["a"], "url": "http://a"}, "only one of them"),
        ({"command": ["a"], "arguments": {}}, "arguments belongs to tool only"),
        ({"url": "http://a", "env": {}}, "env belongs to command only"),
        ({"command": ["a"], "tool": "x", "resource": "y"}, "exclude one another"),
    ],
)
def test_options_that_do_not_fit_are_told(options: Any, expected: str) -> None:
    found = [text for _, text in problems(MCP.schema, options, allows_expressions=True)]
    assert any(expected in text for text in found), found
