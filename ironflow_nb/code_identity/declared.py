"""What ``depends=`` names beside functions and classes: modules, files and values."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from ironflow_nb.code_identity.constants import shown, value_digest
from ironflow_nb.code_identity.guards import Guards
from ironflow_nb.code_identity.syntax import parse, stripped, written
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.values.private_files import journal_of, refuse_used


def declared_content(item: Any, watch: Guards) -> tuple[str, str, Digest]:
    """Return name, source text and digest of a module (of all files of a package), a path or a value.

    Raises:
        ValueNotStorable: it is an iterator or an open file.
        PermissionError: it is a file of a journal in use; in a folder such files are left out.
    """
    if isinstance(item, types.ModuleType):
        files = list(_files(_place_of(item), watch, "*.py"))
        return item.__name__, "\n".join(path.read_text("utf-8", "replace") for path in files), _of_modules(files)
    if isinstance(item, Path):
        files = list(_files(item, watch, "*"))
        n_bytes = sum(path.stat().st_size for path in files)
        name = item.as_posix().encode("utf-8", "replace").decode()  # of any bytes, on some systems
        return name, f"{name}: {n_bytes} bytes in {len(files)} files", _of_files(item, files)
    digest = value_digest(item).digest
    return f"value {digest.hex()[2:10]}", shown(item), digest


def _place_of(module: types.ModuleType) -> Path:
    own = Path(getattr(module, "__file__", None) or module.__name__)
    return own.parent if own.name == "__init__.py" else own


def _files(place: Path, watch: Guards, pattern: str) -> Iterator[Path]:
    watch.file(place)
    if place.is_file():
        refuse_used(place)
        yield place
    for path in sorted(place.rglob(pattern)) if place.is_dir() else ():
        watch.file(path)
        if path.is_file() and "__pycache__" not in path.parts and journal_of(path) is None:
            yield path


def _of_modules(files: list[Path]) -> Digest:
    trees = [written(stripped(_parsed(path), lambda _: False)) for path in files]
    return digest_bytes(b"modules\0" + b"\0".join(trees))


def _parsed(path: Path) -> ast.Module:
    try:
        return parse(path.read_bytes())
    except (SyntaxError, ValueError):  # then every letter counts
        return ast.Module([ast.Expr(ast.Constant(path.read_bytes()))], [])


def _of_files(place: Path, files: list[Path]) -> Digest:
    """Return the digest of names and contents; a file that is not there is another content than an empty one."""
    rows = [f"{path.relative_to(place).as_posix()}\0{_content(path)}" for path in files]
    return digest_bytes("\0".join(["files", *rows]).encode("utf-8", "surrogateescape"))


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=19)).hexdigest()
