"""Tracebacks in a notebook show the user's own frames and none of the package, in every mode and by every way."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.notebook.shells import Shell

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
PACKAGE = str(Path(iron.__file__).parent)

FLOWS = """
import asyncio, os, signal, time
import ironflow_nb as iron

@iron.step
def parse(text):
    return int(text)

@iron.step
async def aparse(text):
    return int(text)

@iron.step
def stop(text):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)

@iron.flow
def one(text):
    return parse(text)

@iron.flow
def listed(texts):
    return list(parse.map(texts))

@iron.flow
def counted(texts):
    return len(parse.map(texts))

@iron.flow
def comprehended(texts):
    return [each for each in parse.map(texts)]

@iron.flow
def gathered(text):
    return iron.gather(lambda: parse(text), lambda: parse("1"))

@iron.flow
def parent(text):
    return one(text)

@iron.flow
async def awaited(texts):
    return await asyncio.gather(*(aparse(text) for text in texts))

@iron.flow
def stopped(texts):
    return list(stop.map(texts))

def fail_to_parse(text):
    return int(text)

graph = iron.Graph.from_yaml("graph: g\\nnodes: [{id: a, python: fail_to_parse, with: {text: x}}]")
"""

IN_A_BODY = [
    "one('x')", "listed(['1', 'x'])", "counted(['x'])", "comprehended(['1', 'x'])", "gathered('x')", "parent('x')",
    "await awaited(['x'])", "one.start('x').result()", "graph()", "%%step cell\none('x')",
]  # fmt: skip
BEFORE_ONE = ["stopped(['x'])", "iron.get_run('none')", "parse.map(3)", "iron.gather(1)", "one.options(on_rerun='x')"]


@pytest.fixture
def ready(shell: Shell) -> Shell:
    shell.fine("%load_ext ironflow_nb")
    shell.fine(FLOWS)
    return shell


@pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose"])
@pytest.mark.parametrize("call", [*IN_A_BODY, *BEFORE_ONE])
def test_a_traceback_has_no_frame_of_the_package(ready: Shell, call: str, mode: str) -> None:
    ready.fine(f"%xmode {mode}")
    shown = ready.run(call)
    said = COLOURS.sub("", shown.text + shown.warnings)
    assert shown.error is not None
    assert not re.search(rf"{re.escape(PACKAGE)}/\w+/", said)
    assert "hidden" not in said
    assert call.splitlines()[-1] in said
    assert "return int(text)" in said or call in BEFORE_ONE
    frames = traceback.extract_tb(shown.error.__traceback__)
    assert any(frame.filename.startswith(PACKAGE) for frame in frames)  # who looks for them finds them


def test_a_shell_without_the_extension_shows_everything(ready: Shell) -> None:
    ready.fine("%xmode Plain")
    ready.fine("%unload_ext ironflow_nb")
    assert PACKAGE in ready.run("one('x')").text
