"""Asks the process that runs Lua, within bounds of time, instructions and memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import system_entropy
from ironflow_nb.graphs.language.data import write_json
from ironflow_nb.graphs.nodes.processes import Program, run

TIMEOUT_S: Final = 10.0
MAX_INSTRUCTIONS: Final = 100_000_000
MAX_MEMORY_BYTES: Final = 134_217_728
_MOST_ANSWERED: Final = 64_000_000
_FOLDER: Final = Path(__file__).parent
_VARIABLES: Final = ("SYSTEMROOT", "SYSTEMDRIVE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What a Python may need to start; the process sees no other variable of the environment."""


class LuaRefused(Exception):
    """The code failed, or needed more than it may (`is_limit`). `logs` are the lines it logged: level and text."""

    def __init__(self, message: str, *, is_limit: bool = False, logs: list[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.is_limit = is_limit
        self.logs = logs or []


class LuaAnswer(msgspec.Struct, frozen=True):
    """The answer of the process: a value or an error, what the code logged, and the variables that it asked for."""

    logs: list[tuple[str, str]] = []
    variables: list[str] = []
    value: Any = None
    kind: str = ""
    error: str = ""


def ask_lua(
    request: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S, max_instructions: int = MAX_INSTRUCTIONS
) -> LuaAnswer:
    """Return the answer of a process of its own to a request.

    Raises:
        LuaRefused: the code failed, needed more than it may, or is given what is no JSON; or there is no Lua.
    """
    try:
        spec = find_spec("lupa")
    except ValueError:  # a module without a spec stands for it
        spec = None
    if spec is None or spec.origin is None:
        raise LuaRefused("Lua needs lupa: pip install 'ironflow-nb[lua]'")
    bounds = {"max_instructions": max_instructions, "max_bytes": MAX_MEMORY_BYTES, "seed": system_entropy(16).hex()}
    try:
        content = write_json({**request, **bounds}).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LuaRefused(f"what it is given is no JSON: {error}", is_limit=True) from None
    program = Program(
        command=[sys.executable, "-I", "-S", str(_FOLDER / "lua_process.py"), str(Path(spec.origin).parent.parent)],
        env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        cwd=_FOLDER,
        stdin=content,
        timeout_s=timeout_s,
        max_bytes=_MOST_ANSWERED,
    )
    try:
        ended = run(program)
    except OSError as error:
        if isinstance(error, IronflowError):
            raise
        raise LuaRefused(f"the process for Lua can't be started: {error}") from error
    if ended.exit_code is None:
        raise LuaRefused(f"it took longer than {timeout_s:g} s", is_limit=True)
    try:
        answer = msgspec.json.decode(ended.stdout, type=LuaAnswer)
    except msgspec.MsgspecError:
        reason = ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or "without a word"
        what = f"its process ended with exit code {ended.exit_code}: {reason}"
        raise LuaRefused(what, is_limit=True) from None
    if answer.kind:
        raise LuaRefused(answer.error, is_limit=answer.kind == "limit", logs=answer.logs)
    return answer
