"""``%ironflow cells on``: the cells of a notebook that nobody marked are durable.

Such a cell is executed by IPython until its code is parsed; then `run_cell` restores it, or executes and records it. A
cell that only imports, defines and sets up is left to IPython, and so is one that must not be recorded.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from IPython.core.error import UsageError

from ironflow_nb.durable_cells.cell import KIND, Cell, CellOptions
from ironflow_nb.durable_cells.cell_lookup import CellContext, KnownDigest, RegisteredCell, context_of
from ironflow_nb.durable_cells.cell_record import NoOutputSink
from ironflow_nb.durable_cells.notebook_file import (
    cell_source,
    default_cell_name,
    is_step,
    make_cell_of_text,
    read_notebook,
)
from ironflow_nb.durable_cells.run_cell import is_repeated, run_cell
from ironflow_nb.durable_cells.shared_values import QUICK_S
from ironflow_nb.errors import DefinitionError, JournalError
from ironflow_nb.execution import EXTENSION_ATTRIBUTE, REGISTRY, SCOPE, notebook_path, say
from ironflow_nb.flows.step import Step
from ironflow_nb.journal.ports import Durability
from ironflow_nb.notebook.output_capture import OutputCapture
from ironflow_nb.notebook.restored_notebook import IS_CODE, FoundCell, RestoredNotebook, registered_cell
from ironflow_nb.notebook.tracebacks import show_own_frames

_METHOD: Final = "run_ast_nodes"
_ATTRIBUTE: Final = "_ironflow_whole_notebook"
_CALL: Final = f"get_ipython().{_ATTRIBUTE}.run_parsed_cell()"
_PACKAGE: Final = "ironflow_nb"
_SECRET_CALLS: Final = frozenset(
    {"input", "getpass", "getenv", "environ", "environb", "dotenv_values", "load_dotenv", "get_password", "userdata"}
)
_OWN_MAGICS: Final = frozenset({"ironflow", "step", "graph"})
_LOOKS: Final = frozenset(
    {"pinfo", "pinfo2", "psearch", "pdef", "pdoc", "psource", "debug", "pdb", "who", "whos", "who_ls", "history", "tb"}
)
"""Magics that show the state of the kernel, which no record has."""


def whole_notebook(shell: Any) -> WholeNotebook:
    """Return the durable notebook of the shell, the same object each time; it is off at first."""
    found: WholeNotebook = vars(shell).setdefault(_ATTRIBUTE, WholeNotebook(shell))
    return found


class WholeNotebook:
    """The unmarked cells of one shell. While it is on, each cell of the notebook is a durable one."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._parsed: Cell | None = None
        self._is_busy = False
        self._is_again = False
        self._known: dict[str, KnownDigest] = {}
        self._trouble: str | None = None

    @property
    def is_on(self) -> bool:
        """Whether unmarked cells are durable."""
        return _METHOD in vars(self._shell)

    def turn_on(self) -> None:
        """Make the next unmarked cells durable."""
        if self.is_on:
            return
        original = getattr(self._shell, _METHOD)

        async def run_ast_nodes(nodes: list[ast.stmt], cell_name: str, *args: Any, **options: Any) -> Any:
            self._parsed = None if args else self._cell_of(nodes, cell_name)
            if self._parsed is None:
                if not all(map(is_repeated, nodes)):
                    self._known.clear()  # it may change any variable
                return await original(nodes, cell_name, *args, **options)
            return await original(ast.parse(_CALL).body, cell_name, **options | {"interactivity": "none"})

        setattr(self._shell, _METHOD, run_ast_nodes)

    def turn_off(self) -> None:
        """Leave unmarked cells to IPython again."""
        vars(self._shell).pop(_METHOD, None)

    def run_next_again(self) -> None:
        """Have the next cell executed, whatever is recorded of it.

        Raises:
            UsageError: unmarked cells are not durable.
        """
        if not self.is_on:
            raise UsageError("%ironflow cells again: without %ironflow cells on each cell is executed anyway")
        self._is_again = True

    def run_parsed_cell(self) -> None:
        """Restore the cell that was parsed, or execute and record it."""
        __tracebackhide__ = True
        cell = self._parsed
        assert cell is not None
        known = REGISTRY.find(KIND, cell.name)
        is_known = isinstance(known, RegisteredCell) and known.outcome is not None
        # Who runs a quick cell a second time wants it executed; what is slow is restored until something changes.
        again_below_s = float("inf") if self._is_again else QUICK_S if is_known else 0.0
        self._is_again, self._is_busy = False, True
        try:
            registered = registered_cell(cell)
            result = run_cell(cell, self._context(OutputCapture(self._shell)), again_below_s=again_below_s)
            registered.outcome = "restored" if result.is_restored else "computed"
        except BaseException as error:
            show_own_frames(self._shell, error, cell.file)
            raise
        finally:
            self._is_busy = False
            if cell.uses.hides_assignments:
                self._known.clear()

    def _context(self, sink: Any) -> CellContext:
        return context_of(REGISTRY.engine(), self._shell.user_ns, sink, known=self._known)

    def _cell_of(self, nodes: list[ast.stmt], file: str) -> Cell | None:
        """Return the cell that IPython has parsed as a durable one; None if it is left to IPython."""
        hooks = getattr(self._shell, EXTENSION_ATTRIBUTE)
        text, cell_id = hooks.running_text(), hooks.cell_id()
        if not nodes or text is None or self._is_busy or SCOPE.get() is not None:
            return None
        source = "".join(linecache.getlines(file))
        name = _name_of(cell_id or blake2b(source.encode(), digest_size=6).hexdigest())
        try:
            cell = Cell(name, text, source, CellOptions(is_unmarked=True), file, cell_id)
        except DefinitionError:
            return None
        if why_left_alone(cell, self._shell.user_ns) is not None or not self._can_record():
            return None
        return cell

    def _can_record(self) -> bool:
        """Return True if the journal can be written. A notebook whose journal can't be is executed as without it."""
        try:
            REGISTRY.engine().access.exchange(lambda _: (), Durability.PROCESS)  # the write lock, and no row
        except JournalError as error:
            if str(error) != self._trouble:
                say(f"cells are executed and not recorded: {error}")
            self._trouble = str(error)
            return False
        self._trouble = None
        return True

    # -- all at once ---------------------------------------------------------------------------------------------------

    def restore(self, names: Collection[str] = ()) -> str:
        """Restore the cells of the notebook's file whose record is fresh; return what became of them in words.

        Cells that only import and define are executed, and quick ones that can't be restored and were not edited. With
        `names`, only what these variables need is restored.

        Raises:
            UsageError: the front end does not give the path of the notebook, or no cell makes a variable.
            DefinitionError: the file is no notebook.
        """
        path = notebook_path()
        if path is None or not Path(path).is_file():
            raise UsageError(
                "%ironflow cells restore: the file of this notebook is not known; run its cells instead: each is "
                "restored if it is fresh"
            )
        clock = REGISTRY.engine().access.clock
        began_s = clock.monotonic()
        restored = RestoredNotebook(self._context(NoOutputSink()))
        cells = list(self._cells_in(Path(path), restored))
        if names:
            restored.add_needed(cells, names)
        else:
            for number, cell, why in cells:
                restored.add(number, cell, why())
        return restored.summary(clock.monotonic() - began_s)

    def _cells_in(self, path: Path, restored: RestoredNotebook) -> Iterator[FoundCell]:
        """Yield the cells of the file, except for this one and those of the extension."""
        here = getattr(self._shell, EXTENSION_ATTRIBUTE).cell_id()
        for number, each in enumerate(read_notebook(path)["cells"], 1):
            if each.get("cell_type") != "code" or (here is not None and each.get("id") == here):
                continue
            try:
                name = _name_of(each["id"]) if each.get("id") else default_cell_name(number, each)
                cell = make_cell_of_text(cell_source(each), name, self._shell.transform_cell, each.get("id"))
            except (DefinitionError, SyntaxError) as error:
                restored.left.append(f"cell {number}: {error}")
                continue
            if cell is not None and (is_step(cell.text) or not _is_of_extension(cell)):
                yield number, cell, partial(why_left_alone, cell, self._shell.user_ns)


# -- which cells are left to IPython -----------------------------------------------------------------------------------


def why_left_alone(cell: Cell, namespace: Mapping[str, Any]) -> str | None:
    """Return why the cell is left to IPython; None if it is to be recorded."""
    if is_step(cell.text):
        return None if not cell.options.is_unmarked else "it is marked"
    if all(map(is_repeated, cell.tree.body)):
        return IS_CODE
    magics = set(_magics_in(cell.tree))
    if magics & _LOOKS:
        return "it looks at the kernel"
    if _is_of_extension(cell) or _imports_package(cell.tree):
        return "it uses ironflow"
    words = {getattr(each, "id", getattr(each, "attr", "")) for each in ast.walk(cell.tree)}
    if words & _SECRET_CALLS:
        return f"it uses {min(words & _SECRET_CALLS)}, and what that gives is not recorded"
    for name in cell.uses.reads:
        if name in namespace and _is_own(namespace[name]):
            return f"it uses {name}, which records by itself"
        if cell.is_async and name in namespace and hasattr(type(namespace[name]), "__await__"):
            return f"it awaits {name}, which is of this kernel"
    return None


def _is_own(value: object) -> bool:
    """Return True for the package, and for its functions and objects, such as flows and runs, but not for steps."""
    if isinstance(value, Step):
        return False
    names = type(value).__module__, getattr(value, "__module__", ""), value.__name__ if type(value) is type(ast) else ""
    return any(isinstance(name, str) and name.partition(".")[0] == _PACKAGE for name in names)


def _magics_in(tree: ast.Module) -> list[str]:
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)]
    found = [each.args[0] for each in calls if each.func.attr.endswith("_magic") and each.args]  # type: ignore[attr-defined]
    return [str(each.value) for each in found if isinstance(each, ast.Constant)]


def _imports_package(tree: ast.Module) -> bool:
    names = [each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
    names += [alias.name for each in ast.walk(tree) if isinstance(each, ast.Import) for alias in each.names]
    return any(name.partition(".")[0] == _PACKAGE for name in names)


def _is_of_extension(cell: Cell) -> bool:
    """Return True if the cell loads or uses the extension, as the one does that restores."""
    magics = _magics_in(cell.tree)
    return any(name in _OWN_MAGICS or (name.endswith("load_ext") and _PACKAGE in cell.text) for name in magics)


def _name_of(cell_id: str) -> str:
    """Return the name of the cell with that id; some front ends use ids that are addresses."""
    is_plain = cell_id.replace("-", "").replace("_", "").isalnum()
    return default_cell_name(0, {"id": cell_id if is_plain else blake2b(cell_id.encode(), digest_size=6).hexdigest()})
