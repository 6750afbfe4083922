"""The durable cells of a notebook as a DataFrame and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.states import NodeState
from ironflow_nb.durable_cells.cell import KIND, Cell
from ironflow_nb.durable_cells.cell_lookup import key_of
from ironflow_nb.durable_cells.freshness import CellFreshness, CellStatus, NotebookFreshness
from ironflow_nb.durable_cells.notebook_file import cell_of_text, cells_in, python_of
from ironflow_nb.durable_cells.registered_cell import RegisteredCell
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import REGISTRY, Engine, notebook_path, shell
from ironflow_nb.handles.run_picture import bundle_of
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Select

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.history.pictured_frame import PicturedFrame

COLUMNS: Final = {
    "name": TEXT, "status": TEXT, "reason": TEXT, "ins": TEXT, "outs": TEXT, "duration_s": "float64",
    "finished_at": INSTANT, "run_id": TEXT,
}  # fmt: skip

_SHOWN: Final = {
    CellStatus.FRESH: StepStatus.COMPLETED,
    CellStatus.STALE: StepStatus.PENDING,
    CellStatus.RUNNING: StepStatus.RUNNING,
    CellStatus.FAILED: StepStatus.FAILED,
    CellStatus.GONE: StepStatus.SKIPPED,
}


def cells(notebook: str | None = None) -> PicturedFrame:
    """Return the durable cells of the notebook, one row each, in the order in which they stand in it, with a picture.

    Where its file can't be read they come by their first execution. The picture is that of `cells_diagram`. Nothing is
    executed or written.

    Columns: name, status (fresh: it would be restored; stale: it would run again; running, failed, never run; gone: it
    stands in the notebook no more), reason, ins and outs (names with commas), duration_s and finished_at (UTC) of the
    execution that it would be restored from, or of the newest, run_id.

    Args:
        notebook: the path of another notebook; by default that of this kernel.
    """
    from ironflow_nb.history.pictured_frame import PicturedFrame

    found = judged(REGISTRY.engine(), notebook)
    frame = frame_of_records(COLUMNS, [_record(each) for each in found])
    return PicturedFrame.of_frame(frame, CellsDiagram(found, _notebook_name(notebook)).picture() if found else None)


def cells_diagram(notebook: str | None = None) -> CellsDiagram:
    """Return the durable cells of the notebook as a picture: what each leaves behind leads to who takes it in.

    Args:
        notebook: the path of another notebook; by default that of this kernel.
    """
    return CellsDiagram(judged(REGISTRY.engine(), notebook), _notebook_name(notebook))


def _notebook_name(notebook: str | None) -> str:
    return Path(notebook or notebook_path() or "notebook").name


class CellsDiagram:
    """A graph of durable cells that shows itself. Stale cells look as pending steps do, for they would run again."""

    def __init__(self, found: list[CellFreshness], name: str) -> None:
        self.diagram = _diagram(found, name)
        known = [each for each in found if each.status in _SHOWN]
        self.states = {each.name: NodeState(status=_SHOWN[each.status], words=each.status) for each in known}

    def picture(self) -> Picture:
        """Draw it."""
        from ironflow_nb.diagram.draw import draw

        return draw(self.diagram, self.states, prefix=f"iron-cells-{abs(hash(self.diagram)) % 10**8}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle_of(self.picture())

    def __repr__(self) -> str:
        return self.picture().text


def _diagram(found: list[CellFreshness], name: str) -> Diagram:
    nodes = [
        Node(id=each.name, kind=NodeKind.STEP, label=each.name, step=each.name, title=_title(each)) for each in found
    ]
    edges: dict[tuple[str, str], list[str]] = {}
    made: dict[str, str] = {}
    for each in found:
        for taken in each.ins:
            if taken in made and made[taken] != each.name:
                edges.setdefault((made[taken], each.name), []).append(taken)
        made |= dict.fromkeys(each.outs, each.name)
    joined = [Edge(source=a, target=b, label=_label(names)) for (a, b), names in edges.items()]
    return Diagram(name, tuple(nodes), tuple(joined))


def _label(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _title(each: CellFreshness) -> str:
    return f"{each.name}: {each.status}" + (f" ({each.reason})" if each.reason else "")


def judged(engine: Engine, notebook: str | None = None) -> list[CellFreshness]:
    """Return the durable cells of the notebook with what would become of them."""
    key = key_of(engine, notebook)
    judge = NotebookFreshness(engine, key, {} if notebook is not None else getattr(shell(), "user_ns", {}))
    path = _file(notebook or notebook_path())
    names_recorded = _recorded(engine, key)
    in_file = None if path is None else _in_file(path, names_recorded)
    found = list(_current(in_file or {}, path, is_here=notebook is None))
    names = {cell.name for cell in found}
    recorded = [name for name in names_recorded if name not in names]
    if in_file is None:  # what stood in a notebook that can't be read is told by the journal
        found += [cell for name in recorded if (cell := _from_journal(engine, key, name)) is not None]
        names = {cell.name for cell in found}
    return [*map(judge.judge, found), *(judge.gone(name) for name in recorded if name not in names)]


def _current(in_file: dict[str, Cell], path: Path | None, *, is_here: bool) -> Iterator[Cell]:
    """Yield the cells as they are now: as they were executed here last, or as they were saved since."""
    known = (
        {each.name: each for each in REGISTRY.definitions(KIND) if isinstance(each, RegisteredCell)} if is_here else {}
    )
    saved_at = 0 if path is None else path.stat().st_mtime_ns // 1000
    for name, cell in in_file.items():
        yield known[name].cell if name in known and known[name].noted_at > saved_at else cell
    for name, each in known.items():
        if name not in in_file and (each.noted_at > saved_at or path is None):
            yield each.cell


def _in_file(path: Path, recorded: list[str]) -> dict[str, Cell] | None:
    try:
        return {cell.name: cell for cell in cells_in(path, python_of, recorded)}
    except (DefinitionError, OSError):
        return None


def _file(notebook: str | None) -> Path | None:
    path = None if notebook is None else Path(notebook)
    return path if path is not None and path.is_file() else None


def _recorded(engine: Engine, key: str) -> list[str]:
    with engine.reading() as reader:
        return [run.name for run in reversed(reader.runs(Select(kind=KIND))) if run.key == key]


def _from_journal(engine: Engine, key: str, name: str) -> Cell | None:
    with engine.reading() as reader:
        run = reader.run_by_key(KIND, name, key)
        definition = None if run is None else reader.definition(run.definition_id)
    if definition is None:
        return None
    found = cell_of_text(definition.source, python_of)
    if found is not None:
        return found
    try:
        return Cell(name, definition.source, definition.source, file=f"<cell {name}>")
    except (DefinitionError, SyntaxError):
        return None


def _record(each: CellFreshness) -> dict[str, Any]:
    row = each.row
    return {
        "name": each.name,
        "status": each.status.value,
        "reason": each.reason,
        "ins": ", ".join(each.ins),
        "outs": ", ".join(each.outs),
        "duration_s": None if row is None else row.duration_s,
        "finished_at": None if row is None else row.finished_at,
        "run_id": each.run_id,
    }
