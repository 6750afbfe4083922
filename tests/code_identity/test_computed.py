"""A constant that another process computes anew: the line that names it says from what, and how to take it out."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ironflow_nb.code_identity.code_parts import changed_parts
from ironflow_nb.code_identity.referenced_values import explained
from tests.code_identity.tracked import track

ROOT = Path(__file__).parent.parent.parent
HEAD = """
import argparse, datetime as dt, math, os, random, re, sys, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from computed_there import PID, RATE
import computed_there
class Color(Enum):
    RED = 1
class Config:
    debug = "-d" in sys.argv
    limit = 4
args = argparse.Namespace(size=3)
BASE = 7
def made():
    return 3
def of_value():
    return VALUE
def of_class():
    return Config.debug
"""
THERE = "import os\nPID = os.getpid()\nRATE = 3\n"
COMPUTED = {
    'VALUE = "--debug" in sys.argv': "'--debug' in sys.argv",
    'VALUE = os.path.exists("here")': "os.path.exists('here')",
    "VALUE = time.time()": "time.time()",
    "VALUE = os.getpid()": "os.getpid()",
    'VALUE = Path.cwd() / "data"': "Path.cwd() / 'data'",
    "VALUE = random.random()": "random.random()",
    "VALUE = dt.datetime.now()": "dt.datetime.now()",
    'VALUE = int(os.environ.get("LEVEL", "1"))': "int(os.environ.get('LEVEL', '1'))",
    "VALUE = args.size": "args.size",
    "VALUE = made()": "made()",
    "ONE, VALUE = 1, time.time()": "time.time()",
    "VALUE: float = time.time()": "time.time()",
    "VALUE = 1\nif os.name == 'x':\n    VALUE = 2": "os.name == 'x'",
    "START = time.time()\nVALUE = START + 1": "time.time()",
    "VALUE = PID": "os.getpid()",
    "VALUE = computed_there.PID + 1": "os.getpid()",
}
WRITTEN = [
    "VALUE = 3", "VALUE = 60 * BASE", 'VALUE = f"{BASE} a"', 'VALUE = re.compile("x")', 'VALUE = Path("a") / "b"',
    'VALUE = Decimal("0.1")', 'VALUE = frozenset("a b".split())', "VALUE = math.sqrt(2) * math.pi",
    "VALUE = dt.date(2020, 1, 1)", "VALUE = Color.RED", "VALUE = Config.limit", "VALUE = RATE",
    "VALUE = computed_there.RATE", "VALUE = (1, max(2, BASE))",
    "try:\n    VALUE = 1\nexcept ImportError:\n    VALUE = 2",
]  # fmt: skip


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "computed_there.py").write_text(THERE)
    (tmp_path / "computed_here.py").write_text(f"{HEAD}\n{request.param}\n")
    for name in ("computed_here", "computed_there"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield importlib.import_module("computed_here")
    for name in ("computed_here", "computed_there"):
        sys.modules.pop(name, None)


def why(function: Any, owner: Any, name: str) -> str:
    """Return the reason why the code of the function is another one where the constant has another value."""
    before = track(function)
    setattr(owner, name, "another")
    (change,) = changed_parts(before.parts, track(function).parts)
    return explained(change)


@pytest.mark.parametrize(("module", "text"), COMPUTED.items(), indirect=["module"], ids=COMPUTED)
def test_what_asks_for_something_outside_of_the_code_is_named_with_the_way_out(module: Any, text: str) -> None:
    reason = why(module.of_value, module, "VALUE")
    assert reason.startswith("constant computed_here.VALUE: ")
    assert f", computed from `{text}` (if it is passed to the step as iron.resource(VALUE)" in reason


@pytest.mark.parametrize("module", WRITTEN, indirect=True)
def test_a_constant_that_stands_in_the_source_is_told_as_an_edit_and_no_more(module: Any) -> None:
    assert "computed" not in why(module.of_value, module, "VALUE").replace("computed_here", "")


@pytest.mark.parametrize("module", ["VALUE = 1"], indirect=True)
def test_an_attribute_of_a_class_is_looked_for_in_its_body(module: Any) -> None:
    reason = why(module.of_class, module.Config, "debug")
    assert ", computed from `'-d' in sys.argv` (" in reason
    assert "iron.resource(Config.debug)" in reason


def test_in_a_notebook_the_last_cell_that_gives_the_name_tells() -> None:
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    try:
        for cell in (
            "import time\nVALUE = 1",
            "VALUE = time.time()",
            "def of_value():\n    return VALUE",
            "VALUE2 = 1",
        ):
            assert shell.run_cell(cell).success
        before = track(shell.user_ns["of_value"])
        shell.run_cell("VALUE = time.time()")
        (change,) = changed_parts(before.parts, track(shell.user_ns["of_value"]).parts)
        assert ", computed from `time.time()` (" in explained(change)
    finally:
        InteractiveShell.clear_instance()


SCRIPT = """
import logging, sys
import ironflow_nb as iron
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
DEBUG = "--debug" in sys.argv

@iron.step
def counted(x):
    print("body", x, DEBUG)
    return x

@iron.step
def given(x, debug):
    print("given", x, debug)
    return x

@iron.flow
def work(n):
    counted(n)
    given(n, iron.resource(DEBUG))
    if "--debug" not in sys.argv:
        raise SystemExit(3)

work(1)
"""


def test_the_way_out_that_the_line_names_keeps_finished_steps(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    del environment["PYTEST_CURRENT_TEST"]  # under pytest nothing continues by itself

    def run(*options: str) -> str:
        command = [sys.executable, "script.py", *options]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        ).stdout

    assert {"body 1 False", "given 1 False"} <= set(run().splitlines())
    told = run("--debug")
    way_out = (
        "computed from `'--debug' in sys.argv` (if it is passed to the step as iron.resource(DEBUG), it does not count)"
    )
    assert f"counted: constant DEBUG: False -> True, {way_out}" in told
    assert "body 1 True" in told
    assert "given" not in told.replace("given(", "")
