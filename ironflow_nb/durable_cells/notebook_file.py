"""Notebook files: reading, writing, and the durable cells in them; how the text of a cell becomes Python."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from ironflow_nb.code_identity import syntax
from ironflow_nb.durable_cells.cell import MAGIC, Cell, CellOptions, parse_magic_line
from ironflow_nb.errors import DefinitionError
from ironflow_nb.values.private_files import refuse_used

_UNNAMED: Final = "cell-"
Transform = Callable[[str], str]
"""Translates the text of a cell, which may have magics and shell commands, to Python."""


def read_notebook(path: Path) -> dict[str, Any]:
    """Return the notebook as decoded JSON.

    Raises:
        DefinitionError: the file is not a notebook, or its format is older than 4.
    """
    refuse_used(path)
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path} is not a notebook: {error}") from error
    if not isinstance(found, dict) or found.get("nbformat") != 4 or not isinstance(found.get("cells"), list):
        raise DefinitionError(f"{path} is not a notebook of format 4; open it in Jupyter once and save it")
    return found


def write_notebook(notebook: dict[str, Any], path: Path) -> None:
    """Write the notebook atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    unfinished.replace(path)


def cell_source(cell: dict[str, Any]) -> str:
    """Return the source of a cell of a notebook file."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def default_cell_name(number: int, cell: dict[str, Any]) -> str:
    """Return the name under which a code cell that has no ``%%step`` name is recorded."""
    return f"{_UNNAMED}{cell.get('id') or number}"


def is_default_name(name: str) -> bool:
    """Return True if the name is made of the id of a cell, so that it tells nothing."""
    return name.startswith(_UNNAMED)


def durable_cells_in(path: Path, transform: Transform, recorded: Collection[str] = ()) -> Iterator[Cell]:
    """Yield the durable cells of the file in its order, and those with a default name that is in `recorded`.

    A cell that can't be a durable one is left out.

    Raises:
        DefinitionError: the file is not a notebook.
        OSError: it can't be read.
    """
    for number, cell in enumerate(read_notebook(path)["cells"], 1):
        name = default_cell_name(number, cell)
        if cell.get("cell_type") == "code" and (is_step(cell_source(cell)) or name in recorded):
            with suppress(DefinitionError, SyntaxError):
                found = make_cell_of_text(cell_source(cell), name, transform, cell.get("id"))
                if found is not None:
                    yield found


def is_step(text: str) -> bool:
    """Return True if the cell begins with ``%%step``; blank lines before it are allowed."""
    return text.split(maxsplit=1)[:1] == [MAGIC]


def cell_of_text(text: str, transform: Transform) -> Cell | None:
    """Return the durable cell with this text, or None if the text is not a valid one."""
    if not is_step(text):
        return None
    try:
        return make_cell_of_text(text, "", transform)
    except (DefinitionError, SyntaxError):
        return None


def make_cell_of_text(text: str, name: str, transform: Transform, cell_id: str | None = None) -> Cell | None:
    """Return any code cell as a durable one, or None if it is empty. A ``%%step`` name takes the place of `name`.

    Raises:
        DefinitionError: the ``%%step`` line is invalid.
        SyntaxError: the cell is not Python.
    """
    options = CellOptions(is_unmarked=True)
    if is_step(text):
        text = text.lstrip()  # IPython also ignores blank lines before a magic
        name, options = parse_magic_line(text.partition("\n")[0].removeprefix(MAGIC))
        source = as_python(text, transform)
    else:
        source = "\n" * (len(text) - len(text.lstrip("\n"))) + transform(text)
        if not syntax.parse(source).body:
            return None
    file = f"<cell {name} {blake2b(source.encode(), digest_size=6).hexdigest()}>"
    return Cell(name, text, source, options, file, cell_id)


def as_python(text: str, transform: Transform) -> str:
    """Return the durable cell as Python with the line numbers of the notebook; the ``%%step`` line is a comment."""
    first, _, body = text.partition("\n")
    n_blank = len(body) - len(body.lstrip("\n"))  # the transformation removes leading blank lines
    return f"# {first}\n" + "\n" * n_blank + transform(body)


def to_python(text: str) -> str:
    """Return the Python that IPython makes of the text of a cell."""
    from IPython.core.inputtransformer2 import TransformerManager

    python: str = TransformerManager().transform_cell(text)  # type: ignore[no-untyped-call]
    return python
