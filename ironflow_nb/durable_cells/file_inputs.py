"""Files that a cell reads, as its inputs: the paths that stand in its calls, and the digests of the files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Final

from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.errors import FileUnreadable
from ironflow_nb.values.argument_types import File

_PREFIX: Final = "file__"
_READS: Final = re.compile(r"(read|load|scan|imread|genfromtxt|fromfile|parse)(_\w+|csv|txt|)|open|Image")
_CHANGES: Final = frozenset("wax+")
_JOINS: Final = frozenset({"Path", "PurePath", "join", "joinpath", "fspath", "str", "abspath", "expanduser"})
_LONGEST: Final = 1024
CONTENT_BYTES: Final = 256 * 1024 * 1024
"""A larger file is identified by its size and the time at which it was written: reading it all would take seconds."""


def file_inputs(tree: ast.Module, namespace: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the files that the code reads by the names of parameters that stand for them.

    A file counts if its path is a text or a variable in a call such as ``read_csv(path)`` or ``open(path)``. One that
    is opened to be written does not.
    """
    found: dict[str, str] = {}
    for path in dict.fromkeys(_paths_read(tree, namespace)):
        with suppress(FileUnreadable, OSError, ValueError):
            if Path(path).is_file():
                found[parameter_of(path)] = _digest(Path(path))
    return found


def parameter_of(path: str) -> str:
    """Return the name of the parameter that stands for the file."""
    return _PREFIX + re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", path)


def is_file_parameter(name: str) -> bool:
    """Return True if the name may be that of a parameter that stands for a file."""
    return name.startswith(_PREFIX) and parameter_of(_path_of_parameter(name)) == name


def is_gone_file(name: str) -> bool:
    """Return True if the parameter stands for a file that does not exist."""
    return is_file_parameter(name) and not Path(_path_of_parameter(name)).exists()


def spoken_input(name: str) -> str:
    """Return the words for an input: ``input df``, or ``file data.csv``."""
    return f"file {_path_of_parameter(name)}" if is_file_parameter(name) else f"input {name}"


def _path_of_parameter(name: str) -> str:
    return re.sub(r"_([0-9a-f]+)_", lambda found: chr(int(found[1], 16)), name.removeprefix(_PREFIX))


def _digest(path: Path) -> str:
    about = path.stat()
    return File(path).digest() if about.st_size <= CONTENT_BYTES else f"{about.st_size} {about.st_mtime_ns}"


def _paths_read(tree: ast.Module, namespace: Mapping[str, Any]) -> Iterator[str]:
    known = dict(namespace)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Call | ast.BinOp):
            path = _path(node.value, known)
            known |= {each.id: path for each in node.targets if isinstance(each, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_read(node):
            yield from (path for each in _expressions(node) if (path := _path(each, known)) is not None)


def _is_read(call: ast.Call) -> bool:
    name = (dotted(call.func) or (getattr(call.func, "attr", ""),))[-1]
    if _READS.fullmatch(name) is None:
        return False
    modes = [*call.args[:2], *(each.value for each in call.keywords if each.arg == "mode")] if name == "open" else []
    texts = [each.value for each in modes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return not any(_CHANGES.intersection(text) and len(text) <= len("rb+") for text in texts)


def _expressions(call: ast.Call) -> Iterator[ast.expr]:
    owner = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    yield from (*call.args, *(each.value for each in call.keywords), *owner)


def _path(node: ast.expr, known: Mapping[str, Any]) -> str | None:
    """Return the path that the expression stands for, as far as that is seen without executing it."""
    match node:
        case ast.Constant(value=str() as text):
            return text if text and len(text) <= _LONGEST and text.isprintable() else None
        case ast.Name(id=name):
            value = known.get(name)
            return str(value) if isinstance(value, str | PurePath) and len(str(value)) <= _LONGEST else None
        case ast.BinOp(op=ast.Div()):
            return _joined([node.left, node.right], known)
        case ast.Call() if (dotted(node.func) or ("",))[-1] in _JOINS:
            return _joined(node.args, known)
    return None


def _joined(nodes: list[ast.expr], known: Mapping[str, Any]) -> str | None:
    parts = [_path(each, known) for each in nodes]
    return None if not parts or None in parts else str(PurePath(*(part for part in parts if part is not None)))
