"""Dependencies that a step declares in ``depends=`` beside functions and classes: modules, files and values."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ironflow_nb.code_identity.constants import shown, value_digest
from ironflow_nb.code_identity.guards import Guards
from ironflow_nb.code_identity.syntax import parse, stripped, written
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.values.argument_types import content_digest
from ironflow_nb.values.private_files import journal_of, refuse_used


def declared_content(item: Any, guards: Guards) -> tuple[str, str, Digest]:
    """Return name, source text and digest of a module (for a package, of all its files), a path or a value.

    Raises:
        ValueNotStorable: the value is an iterator or an open file.
        PermissionError: the path is a file of a journal in use; in a folder such files are left out.
    """
    if isinstance(item, types.ModuleType):
        files = list(_files_in(_path_of_module(item), guards, "*.py"))
        return item.__name__, "\n".join(path.read_text("utf-8", "replace") for path in files), _modules_digest(files)
    if isinstance(item, Path):
        files = list(_files_in(item, guards, "*"))
        n_bytes = sum(path.stat().st_size for path in files)
        name = item.as_posix().encode("utf-8", "replace").decode()  # a file name may have any bytes
        return name, f"{name}: {n_bytes} bytes in {len(files)} files", _files_digest(item, files)
    digest = value_digest(item).digest
    return f"value {digest.hex()[2:10]}", shown(item), digest


def _path_of_module(module: types.ModuleType) -> Path:
    own = Path(getattr(module, "__file__", None) or module.__name__)
    return own.parent if own.name == "__init__.py" else own


def _files_in(place: Path, guards: Guards, pattern: str) -> Iterator[Path]:
    guards.file(place)
    if place.is_file():
        refuse_used(place)
        yield place
    for path in sorted(place.rglob(pattern)) if place.is_dir() else ():
        guards.file(path)
        if path.is_file() and "__pycache__" not in path.parts and journal_of(path) is None:
            yield path


def _modules_digest(files: list[Path]) -> Digest:
    trees = [written(stripped(_module_tree(path), lambda _: False)) for path in files]
    return digest_bytes(b"modules\0" + b"\0".join(trees))


def _module_tree(path: Path) -> ast.Module:
    try:
        return parse(path.read_bytes())
    except (SyntaxError, ValueError):  # its bytes are its identity
        return ast.Module([ast.Expr(ast.Constant(path.read_bytes()))], [])


def _files_digest(place: Path, files: list[Path]) -> Digest:
    """Return the digest of names and contents; a missing file differs from an empty one."""
    rows = [f"{path.relative_to(place).as_posix()}\0{content_digest(path)}" for path in files]
    return digest_bytes("\0".join(["files", *rows]).encode("utf-8", "surrogateescape"))
