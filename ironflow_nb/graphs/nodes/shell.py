"""The kind ``shell``: a program of this machine, run to its end."""

from __future__ import annotations

import codecs
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ironflow_nb.errors import NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import SHELL_TEXT, Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.processes import Program, ProgramResult, run

TIMEOUT_S: Final = 60.0
MAX_BYTES: Final = 10_000_000
_TAIL: Final = 4_000  # characters of a stream that an error carries: more would not be recorded with it

_VARIABLES: Final = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT",
    "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
    "PROGRAMFILES", "PROGRAMFILES(X86)", "COMMONPROGRAMFILES", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
})  # fmt: skip
"""The variables that every program gets, and those that begin with ``LC_``."""

_SCALAR: Final = {"type": ["string", "number"]}

_SCHEMA: Final = options_schema(
    {
        "command": {
            "description": "the command: a list, the program first, or a text for the shell of the system, in which no"
            " expression may stand, for its value could bring commands: write a list, or use env or arguments",
            "type": ["array", "string"],
            "items": _SCALAR,
            "minItems": 1,
            "minLength": 1,
            "not": {"type": "string", "pattern": r"\{\{"},
        },
        "arguments": {
            "description": 'more arguments after those of a list; the shell of a text knows them as "$1", "$2", "$@"',
            "type": "array",
            "items": _SCALAR,
        },
        "env": {
            "description": "variables for the program, beside PATH, HOME, the language and what allow: {env: ...} says;"
            " for a program that is granted by name each needs allow: {shell_env: [...]}",
            "type": "object",
            "propertyNames": {"pattern": "^[^=]+$"},
            "additionalProperties": {"type": ["string", "number"]},
        },
        "cwd": {
            "description": "the granted folder it is run in; by default the folder of the graph",
            "type": "string",
            "minLength": 1,
        },
        "stdin": {"description": "a text that it can read; by default there is nothing to read", "type": "string"},
        "fail_on_exit": {
            "description": "whether the node fails if the exit code is not one of ok_codes; by default true",
            "type": "boolean",
        },
        "ok_codes": {
            "description": "the exit codes that mean success; by default only 0",
            "type": "array",
            "items": {"type": "integer"},
            "minItems": 1,
        },
        "max_bytes": {
            "description": f"how much of each stream is kept; by default {MAX_BYTES:,} bytes. The program goes on",
            "type": "integer",
            "minimum": 0,
            "maximum": 1_000_000_000,
        },
    },
    required=["command"],
)


def _needs(options: Options) -> Iterator[Need]:
    command, cwd = options.get("command"), options.get("cwd")
    if isinstance(command, str):
        yield Need("shell", SHELL_TEXT)
    elif isinstance(command, list) and command and isinstance(command[0], str) and OPENING not in command[0]:
        yield Need("shell", command[0])
    if isinstance(cwd, str) and OPENING not in cwd:
        yield Need("files", cwd)
    env = options.get("env")
    yield from (Need("shell_env", name) for name in (env if isinstance(env, Mapping) else ()))


def _perform(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    name, command = _command(options, context)
    program = Program(
        command=command,
        env=environment(options.get("env", {}), context),
        cwd=working_folder(options.get("cwd"), context),
        stdin=_stdin(options.get("stdin"), context),
        timeout_s=context.timeout_s or TIMEOUT_S,
        max_bytes=options.get("max_bytes", MAX_BYTES),
    )
    began = context.monotonic()
    try:
        ended = run(program)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise failure(context, f"{name} can't be started: {reason}") from error
    return _check_result(ended, name, program.timeout_s, context.monotonic() - began, options, context)


def _check_result(
    ended: ProgramResult, name: str, timeout_s: float, duration_s: float, options: Options, context: NodeContext
) -> dict[str, Any]:
    result = {
        "exit_code": ended.exit_code,
        "stdout": _decode_output(ended.stdout, ended),
        "stderr": _decode_output(ended.stderr, ended),
        "is_truncated": ended.is_truncated,
        "duration_s": round(duration_s, 6),
    }
    if ended.exit_code is None:
        message = f"{name} took longer than {timeout_s:g} s and was ended{_stderr_tail(result)}"
        raise NodeTimeout(f"{context.node}: {message}", node=context.node, output=_output_tail(result))
    codes: Sequence[int] = options.get("ok_codes", [0])
    if options.get("fail_on_exit", True) and ended.exit_code not in codes:
        raise _exit_error(name, ended.exit_code, result, context)
    return result


def _exit_error(name: str, exit_code: int, result: Mapping[str, Any], context: NodeContext) -> NodeFailed:
    how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    hint = " (if that is no failure: ok_codes)" if exit_code > 0 else ""
    message = f"{name} {how}{hint}{_stderr_tail(result)}"
    return failure(context, message, is_retryable=True, output=_output_tail(result))


# -- the command -----------------------------------------------------------------------------------------------


def _command(options: Options, context: NodeContext) -> tuple[str, list[str] | str]:
    """Return the name of the program for messages, and the command to run."""
    command, arguments = options["command"], [_as_text(each) for each in options.get("arguments", [])]
    if not isinstance(command, str):
        program, *rest = map(_as_text, command)
        return repr(program), [program_path(program, context), *rest, *arguments]
    context.grants.require(Need("shell", SHELL_TEXT))
    if os.name != "nt":
        return "the command", ["/bin/sh", "-c", command, "sh", *arguments]
    if arguments:
        raise failure(context, "the shell of Windows takes no arguments beside the text; write the command as a list")
    return "the command", command


def program_path(program: str, context: NodeContext) -> str:
    """Return the path of the program. A path with a folder starts from the folder of the graph."""
    context.grants.require(Need("shell", program))
    has_folder = any(each in program for each in (os.sep, os.altsep) if each)
    try:
        # A link is not followed: by its own path the program of a virtual environment finds its packages.
        own_path = (Path(context.grants.base) / Path(program).expanduser()).absolute()
        path = shutil.which(str(own_path) if has_folder else program)
    except (ValueError, RuntimeError):
        path = None
    if path is None:
        where = "there is no such file that can be executed" if has_folder else "no folder of PATH has it"
        raise failure(context, f"there is no program {program!r}: {where}")
    return path


def environment(added: Mapping[str, Any], context: NodeContext) -> dict[str, str]:
    """Return the variables of a program: those that every program gets, those granted, and those added."""
    allowed = context.grants.allowed.get("env", False)
    granted: Iterable[str] = os.environ if allowed is True else allowed or ()
    # Any variable may choose the code that a program runs, and no list of such variables would be complete.
    for name in added:
        context.grants.require(Need("shell_env", name))
    always = [name for name in os.environ if name.upper() in _VARIABLES or name.startswith("LC_")]
    passed = {name: os.environ[name] for name in [*always, *granted] if name in os.environ}
    return passed | {name: _as_text(value) for name, value in added.items()}


def working_folder(cwd: str | None, context: NodeContext) -> Path:
    """Return the folder that a program is run in; by default that of the graph."""
    if cwd is None:
        return context.grants.resolved(".")
    folder = context.grants.path(cwd)
    if not folder.is_dir():
        raise failure(context, f"the folder {cwd!r} to run in is not there")
    return folder


def _stdin(text: str | None, context: NodeContext) -> bytes | None:
    try:
        return None if text is None else text.encode()
    except UnicodeEncodeError as error:
        raise failure(context, f"stdin can't be written as UTF-8: {error.reason}") from error


def _as_text(value: str | float) -> str:
    return value if isinstance(value, str) else str(value)


# -- its output ------------------------------------------------------------------------------------------------


def _decode_output(content: bytes, ended: ProgramResult) -> str:
    """Decode the output. Half a character, where the output was cut, is left out."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(content, final=not ended.is_truncated)


def _stderr_tail(result: Mapping[str, Any]) -> str:
    lines = [line for line in result["stderr"].strip().splitlines()[-5:] if line.strip()]
    return ":\n" + "\n".join(lines)[-1000:] if lines else ""


def _output_tail(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result as an error carries it: only the end of a long output, which says what went wrong."""
    is_long = any(len(result[stream]) > _TAIL for stream in ("stdout", "stderr"))
    tails = {stream: result[stream][-_TAIL:] for stream in ("stdout", "stderr")}
    return {**result, **tails, "is_truncated": result["is_truncated"] or is_long}


SHELL: Final = Kind(
    name="shell",
    description="Runs a program of this machine, and ends what it leaves running in the background. A command that is a"
    " list needs its program in allow: {shell: [...]}, one that is a text needs allow: {shell: true}. Gives exit_code,"
    " stdout, stderr, is_truncated, duration_s.",
    schema=_SCHEMA,
    perform=_perform,
    shorthand="command",
    needs=_needs,
    is_outside=True,
)
