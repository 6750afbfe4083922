"""Loading the definitions of a module, a script or a notebook, without running any flow."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ironflow_nb.cli.defining_statements import Statement, WithoutStart, bound_names, calls_in, defining_statements
from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.deciders.decider import Decider
from ironflow_nb.durable_cells.cell import Cell, CellOptions
from ironflow_nb.durable_cells.cell_attempt import execute_statements
from ironflow_nb.durable_cells.notebook_file import cell_source, is_step, make_cell_of_text, read_notebook, to_python
from ironflow_nb.durable_cells.run_cell import is_setup
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import REGISTRY, logger
from ironflow_nb.flows.step import Step
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.webhook import Webhook
from ironflow_nb.queues.message_queue import MessageQueue

_ACTS: Final = frozenset({"__call__", "deliver", "map", "resume", "run_until_idle", "send", "start", "submit", "sweep"})
"""The methods of definitions that run or change something."""
_GRAPHS: Final = frozenset({".yaml", ".yml", ".lua"})
_SUFFIXES: Final = _GRAPHS | {".py", ".ipynb"}


def load_definitions(target: str) -> None:
    """Execute what the module, script or notebook defines.

    A module is imported as Python imports it. A script or notebook is loaded as ``__main__``, as it is called where it
    runs, so that its flows and steps have the same names; only its defining statements are executed.

    Raises:
        DefinitionError: there is no such file or module, it can't be read, or executing it fails.
    """
    path = Path(target)
    if path.suffix not in {".py", ".ipynb"}:
        _import_module(target)
        return
    if not path.is_file():
        raise DefinitionError(f"there is no file {path.absolute()}")
    path = path.absolute()
    if path.suffix == ".ipynb":
        namespace, cells = _shell_namespace(), list(_cells_of_notebook(path))
        os.chdir(path.parent)  # as the kernel of a notebook does
    else:
        namespace, cells = _script_namespace(path), [_cell_of_script(path)]
    sys.path.insert(0, str(path.parent))
    lost: set[str] = set()
    for statement in defining_statements(cells):
        _execute(statement, namespace, lost)


def load_all(files: tuple[str, ...]) -> None:
    """Load the definitions of all files.

    Raises:
        DefinitionError: one can't be loaded, two define the same name, or a folder has none.
    """
    owners: dict[str, tuple[str, object]] = {}
    for file in [each for given in files for each in _files_of(given)]:  # before a notebook goes to its own folder
        if Path(file).suffix in _GRAPHS:
            Graph.from_file(file).validate()
        else:
            load_definitions(file)
        for key, found in REGISTRY.startable().items():
            first, known = owners.setdefault(key, (file, found))
            if known is not found:
                raise DefinitionError(f"{key} is defined by {first} and by {file}; give one of them another name=")


def _files_of(given: str) -> list[str]:
    """Return the absolute path of a file, those of the files in a folder, or the name of a module as it is."""
    path = Path(given)
    if path.suffix in _SUFFIXES:
        return [str(path.absolute())]
    if not path.is_dir() or (path / "__init__.py").exists():
        return [given]
    found = sorted(
        str(each.absolute()) for each in path.iterdir() if each.suffix in _SUFFIXES and each.name[0] not in "._"
    )
    if not found:
        raise DefinitionError(f"the folder {path.absolute()} has no file that ends with {', '.join(sorted(_SUFFIXES))}")
    return found


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise DefinitionError(f"importing {name} failed: {error}") from error
        raise DefinitionError(
            f"there is no module {name} on the path of Python; a file is given with its ending: {name}.py"
        ) from error
    except Exception as error:
        raise DefinitionError(f"importing {name} failed: {type(error).__name__}: {error}") from error


# -- what is loaded ----------------------------------------------------------------------------------------------------


def _script_namespace(path: Path) -> dict[str, Any]:
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    return module.__dict__


def _cell_of_script(path: Path) -> Cell:
    try:
        source = path.read_text("utf-8")
        cell = Cell(path.name, source, source, CellOptions(), str(path), None)
        cell.tree  # noqa: B018 -- which parses it
    except (SyntaxError, ValueError) as error:
        raise DefinitionError(f"{path} is not Python: {error}") from error
    return cell


def _shell_namespace() -> dict[str, Any]:
    """Return the namespace of a shell without a front end, which knows the magic that defines graphs."""
    from ironflow_nb.notebook.graph_magic import GraphMagics
    from ironflow_nb.notebook.headless_shell import make_shell
    from ironflow_nb.notebook.unfinished_card import SILENT_ATTRIBUTE

    shell = make_shell()
    setattr(shell, SILENT_ATTRIBUTE, True)
    shell.register_magics(GraphMagics)
    namespace: dict[str, Any] = shell.user_ns
    return namespace


def _cells_of_notebook(path: Path) -> Iterator[Cell]:
    """Yield the code cells that are Python; a durable cell is work and no definition."""
    for number, each in enumerate(read_notebook(path)["cells"], 1):
        text = cell_source(each)
        if each.get("cell_type") != "code" or is_step(text):
            continue
        try:
            cell = make_cell_of_text(text, f"cell-{number}", to_python)
        except (DefinitionError, SyntaxError) as error:
            logger().warning("cell %d of %s is not Python, and is left out: %s", number, path.name, error)
            continue
        if cell is not None:
            yield cell


# -- executing it ------------------------------------------------------------------------------------------------------


def _execute(statement: Statement, namespace: dict[str, Any], lost: set[str]) -> None:
    """Execute the statement, unless it would run something; then its names are `lost`, and so is what needs them."""
    why = _why_not(statement, namespace)
    if why is not None and isinstance(statement.node, ast.Expr):
        return
    if why is not None:
        names = bound_names(statement.node)
        lost |= names
        logger().warning("%s: it %s, and is left out; flows that need %s fail", statement, why, ", ".join(names))
        return
    try:
        node = WithoutStart().visit(statement.node)
        execute_statements(statement.cell, [*_futures(statement.cell), node], namespace)
    except (Exception, SystemExit) as error:
        if is_setup(statement.node):  # a magic may need a front end
            logger().warning("%s: %s: %s", statement, type(error).__name__, error)
            return
        more = f"; {error.name} was left out" if isinstance(error, NameError) and error.name in lost else ""
        raise DefinitionError(f"{statement}\n{type(error).__name__}: {error}{more}") from error


def _futures(cell: Cell) -> list[Any]:
    return [each for each in cell.tree.body if isinstance(each, ast.ImportFrom) and each.module == "__future__"]


def _why_not(statement: Statement, namespace: dict[str, Any]) -> str | None:
    """Return in words what the statement would do that a worker does not; None if it can be executed."""
    if any(isinstance(each, ast.Await) for each in ast.walk(statement.node)) and not isinstance(
        statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    ):
        return "awaits something"
    for call in calls_in(statement.node):
        chain = dotted(call.func)
        found = namespace.get(chain[0]) if chain else None
        for name in (*chain[1:], "__call__"):
            if isinstance(found, Runnable | Step | Decider | MessageQueue | Webhook) and name in _ACTS:
                return f"calls {'.'.join(chain)}"
            found = getattr(found, name, None)
    return None
