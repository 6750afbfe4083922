"""The durable cells of a notebook: their status if it were run from top to bottom now, as a DataFrame and as a picture.

Nothing is written or run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ironflow_nb.code_identity.code_parts import UntrackedReason, decode_parts
from ironflow_nb.core.identity import ROOT_BRANCH, RunId
from ironflow_nb.core.plan import discarded
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.replay_decision import Reuse, judge
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import FAILURES, OWNED, StepStatus
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.states import NodeState
from ironflow_nb.durable_cells.cell import KIND, Cell, is_data
from ironflow_nb.durable_cells.cell_lookup import (
    CellCall,
    RegisteredCell,
    call_with_inputs,
    digest_of,
    input_names,
    notebook_key,
    reasons_against,
)
from ironflow_nb.durable_cells.cell_record import CellNotes, about_of, code_of, digests_of, record_of
from ironflow_nb.durable_cells.file_inputs import file_inputs, is_file_parameter, spoken_input
from ironflow_nb.durable_cells.notebook_file import cell_of_text, durable_cells_in, to_python
from ironflow_nb.errors import DefinitionError, IronflowError, ValueUnreadable
from ironflow_nb.execution import REGISTRY, Engine, continuations, notebook_path, shell
from ironflow_nb.handles.run_picture import bundle_of
from ironflow_nb.history.run_status import status_of
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Select
from ironflow_nb.values.stored_value import ValueRecord

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.history.pictured_frame import PicturedFrame

_NOT_YET_DEFINED: Final = frozenset({UntrackedReason.UNDEFINED, UntrackedReason.NOT_IMPORTED})


class CellStatus(StrEnum):
    """What would happen to a cell if its notebook were run now."""

    FRESH = "fresh"
    """It would be restored."""
    STALE = "stale"
    """It would run again."""
    RUNNING = "running"
    FAILED = "failed"
    NEVER_RUN = "never run"
    GONE = "gone"
    """It is recorded, but no longer in the notebook."""


class CellFreshness(msgspec.Struct, frozen=True, kw_only=True):
    """One cell with its status. `row` is the execution that the status is derived from."""

    name: str
    status: CellStatus
    reason: str | None = None
    ins: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    row: StepRow | None = None
    run_id: RunId | None = None
    label: str = ""
    """The name, or the first line of a cell that nobody marked."""
    outcome: str | None = None
    """What this kernel did with it: "computed" or "restored"."""


class _RecordedCell(msgspec.Struct, frozen=True):
    """The recorded run of a cell with its executions."""

    run: RunRow
    is_running: bool
    rows: list[StepRow]
    discarded: Mapping[Any, int]

    @property
    def newest(self) -> StepRow | None:
        """The newest completed execution."""
        done = [row for row in self.rows if row.status is StepStatus.COMPLETED and row.output_id is not None]
        return max(done, key=lambda row: row.version, default=None)


class NotebookFreshness:
    """Derives the status of the cells of one notebook, in their order: outputs of one are inputs of the next."""

    def __init__(self, engine: Engine, key: str, namespace: dict[str, Any]) -> None:
        self._engine = engine
        self._key = key
        self._namespace = namespace
        self._outputs: dict[str, tuple[str | None, CellFreshness]] = {}

    def judge(self, cell: Cell) -> CellFreshness:
        """Return the cell with its status; its outputs count as inputs of the cells after it."""
        known = self._look_up(cell.name)
        try:
            judged, outs = self._judge(cell, known)
        except (IronflowError, SyntaxError) as error:
            run_id = None if known is None else known.run.run_id
            judged, outs = CellFreshness(name=cell.name, status=CellStatus.STALE, reason=str(error), run_id=run_id), {}
        judged = msgspec.structs.replace(judged, label=cell.label)
        for name in judged.outs:
            self._outputs[name] = outs.get(name), judged
        return judged

    def gone(self, name: str) -> CellFreshness:
        """Return a recorded cell that is no longer in the notebook."""
        known = self._look_up(name)
        assert known is not None
        row = known.newest
        return CellFreshness(name=name, status=CellStatus.GONE, row=row, run_id=known.run.run_id)

    def _judge(self, cell: Cell, known: _RecordedCell | None) -> tuple[CellFreshness, Mapping[str, str | None]]:
        names = tuple(dict.fromkeys([*(cell.options.outs or cell.uses.assigns), *cell.uses.defines]))
        ins = self._ins_of(cell)
        if known is None:
            return CellFreshness(name=cell.name, status=CellStatus.NEVER_RUN, ins=ins, outs=names), {}
        row = known.newest
        record = None if row is None else self._record_of(row)
        about = CellNotes() if record is None else about_of(record)
        digests = self._digests(cell, ins, about)
        wanted = call_with_inputs(self._engine, cell, digests, self._namespace, {})
        found = RecordedSteps(known.rows, discarded=known.discarded).find(wanted.identity, ROOT_BRANCH, 0)
        verdict = judge(found, wanted.spec.code)
        if isinstance(verdict, Reuse):
            row, record = verdict.row, self._record_of(verdict.row)
            about = about_of(record)
        status, reason = self._status(wanted, known, row, is_found=isinstance(verdict, Reuse))
        if status is CellStatus.FRESH and about.lost and cell.options.is_unmarked:
            lost = ", ".join(f"{name} ({kind})" for name, (kind, _) in about.lost.items())
            reason = f"a new kernel executes it: {lost}"
        made = {} if record is None else digests_of(record)
        made |= {name: made.get(first) or about.ins.get(first) for name, first in about.same.items()}
        outs = tuple(dict.fromkeys([*made, *about.modules, *about.lost, *cell.uses.defines])) if made else names
        judged = CellFreshness(
            name=cell.name, status=status, reason=reason, ins=tuple(digests), outs=outs, row=row,
            run_id=known.run.run_id,
        )  # fmt: skip
        return judged, made

    def _status(
        self, wanted: CellCall, known: _RecordedCell, row: StepRow | None, *, is_found: bool
    ) -> tuple[CellStatus, str | None]:
        if known.is_running:
            return CellStatus.RUNNING, None
        stale = self._stale_inputs(wanted)
        if stale is not None:
            return CellStatus.STALE, stale
        if is_found:
            return CellStatus.FRESH, None
        latest = max(known.rows, key=lambda each: each.version, default=None)
        if latest is not None and latest.status in FAILURES:
            return CellStatus.FAILED, "its last execution failed"
        if row is None:
            return CellStatus.STALE, "it was interrupted"
        reasons = reasons_against(self._engine, wanted, row)
        if not reasons or self._is_only_undefined(wanted, row):
            return CellStatus.FRESH, "as far as known before the names it refers to are defined"
        return CellStatus.STALE, ", ".join(reasons)

    def _is_only_undefined(self, wanted: CellCall, row: StepRow) -> bool:
        """Return True if only names that it refers to are not defined yet, as in a new kernel."""
        if row.identity != wanted.identity or not any(
            each.reason in _NOT_YET_DEFINED for each in wanted.spec.tracked.untracked
        ):
            return False
        try:
            return decode_parts(code_of(self._engine, self._record_of(row)))[0].digest == wanted.spec.tracked.own
        except (ValueError, IndexError):
            return False

    def _stale_inputs(self, wanted: CellCall) -> str | None:
        for name in wanted.ins:
            maker = self._outputs[name][1] if name in self._outputs else None
            if maker is not None and maker.name != wanted.cell.name and maker.status is not CellStatus.FRESH:
                return f"input {name} comes from {maker.name}, which is {maker.status}"
        return None

    def _ins_of(self, cell: Cell) -> tuple[str, ...]:
        if cell.options.ins is not None:
            return tuple(sorted(set(cell.options.ins)))
        names = [name for name in cell.uses.reads if not name.startswith("__") and self._is_input(name)]
        return tuple(sorted(input_names(self._engine, cell, self._namespace, names)))

    def _is_input(self, name: str) -> bool:
        is_made = name in self._outputs and self._outputs[name][0] is not None
        return is_made or (name in self._namespace and is_data(self._namespace[name]))

    def _digests(self, cell: Cell, ins: Sequence[str], about: CellNotes) -> dict[str, str]:
        """Return the digests of the inputs; one without a value yet counts as unchanged.

        What the functions of an unmarked cell read is not known before they are defined: what was read then counts.
        """
        is_unmarked = cell.options.is_unmarked
        found = file_inputs(cell.tree, self._namespace) if is_unmarked else {}
        before = [name for name in about.ins if is_unmarked or name not in self._namespace]
        for name in dict.fromkeys([*ins, *(name for name in before if name not in found)]):
            made = self._outputs[name][0] if name in self._outputs else None
            if made is not None:
                found[name] = made
            elif is_unmarked and name in self._outputs and name in about.ins:
                found[name] = about.ins[name]  # it can't be stored, and a cell after this one may have changed it
            elif name in self._namespace and is_data(self._namespace[name]):
                found[name] = digest_of(self._engine, self._namespace[name])[0]
            elif name in about.ins:
                found[name] = about.ins[name]
        return dict(sorted(found.items()))

    def _look_up(self, name: str) -> _RecordedCell | None:
        with self._engine.reading() as reader:
            run = reader.run_by_key(KIND, name, self._key)
            if run is None:
                return None
            rows = [row for row, _ in reader.attempts(run.run_id)]
            is_running = status_of(self._engine, reader, run) in OWNED
            return _RecordedCell(run, is_running, rows, discarded(continuations(reader, run)))

    def _record_of(self, row: StepRow) -> ValueRecord:
        if row.output_id is None:
            raise ValueUnreadable("its record is missing")
        return record_of(self._engine, self._engine.access.value(row.output_id, row.row_key))


COLUMNS: Final = {
    "name": TEXT, "status": TEXT, "reason": TEXT, "ins": TEXT, "outs": TEXT, "duration_s": "float64",
    "finished_at": INSTANT, "run_id": TEXT, "label": TEXT, "outcome": TEXT,
}  # fmt: skip

_STEP_STATUSES: Final = {
    CellStatus.FRESH: StepStatus.COMPLETED,
    CellStatus.STALE: StepStatus.PENDING,
    CellStatus.RUNNING: StepStatus.RUNNING,
    CellStatus.FAILED: StepStatus.FAILED,
    CellStatus.GONE: StepStatus.SKIPPED,
}


def cells(notebook: str | None = None) -> PicturedFrame:
    """Return the durable cells of the notebook, one row each, in the order of the notebook, with a picture.

    If the file can't be read, they are in the order of their first execution. The picture is that of `cells_diagram`.
    Nothing is executed or written.

    Columns: name, status (fresh: it would be restored; stale: it would run again; running, failed, never run; gone: it
    is no longer in the notebook), reason, ins and outs (names with commas), duration_s and finished_at (UTC) of the
    execution that it would be restored from, or of the newest, run_id, label (the name, or the first line of a cell
    that nobody marked), outcome (computed or restored: what this kernel did last).

    Args:
        notebook: the path of another notebook; by default that of this kernel.
    """
    from ironflow_nb.history.pictured_frame import PicturedFrame

    found = notebook_cells(REGISTRY.engine(), notebook)
    frame = frame_of_records(COLUMNS, [_row_of(each) for each in found])
    return PicturedFrame.of_frame(frame, CellsDiagram(found, _notebook_name(notebook)).picture() if found else None)


def cells_diagram(notebook: str | None = None) -> CellsDiagram:
    """Return the durable cells of the notebook as a picture: edges lead from outputs to the cells that take them in.

    Args:
        notebook: the path of another notebook; by default that of this kernel.
    """
    return CellsDiagram(notebook_cells(REGISTRY.engine(), notebook), _notebook_name(notebook))


def _notebook_name(notebook: str | None) -> str:
    return Path(notebook or notebook_path() or "notebook").name


class CellsDiagram:
    """A picture of durable cells. Stale cells look like pending steps, because they would run again."""

    def __init__(self, found: list[CellFreshness], name: str) -> None:
        self.diagram = _diagram(found, name)
        known = [each for each in found if each.status in _STEP_STATUSES]
        self.states = {each.name: NodeState(status=_STEP_STATUSES[each.status], words=_words(each)) for each in known}
        counted = Counter(each.status for each in found)
        self.summary = f"cells: {', '.join(f'{counted[status]} {status}' for status in CellStatus if counted[status])}"

    def picture(self) -> Picture:
        """Return the drawn picture."""
        from ironflow_nb.diagram.draw import draw

        prefix = f"iron-cells-{abs(hash(self.diagram)) % 10**8}"
        return draw(self.diagram, self.states, summary=self.summary, prefix=prefix)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle_of(self.picture())

    def __repr__(self) -> str:
        return self.picture().text


def _diagram(found: list[CellFreshness], name: str) -> Diagram:
    nodes = [
        Node(id=each.name, kind=NodeKind.STEP, label=each.label or each.name, step=each.name, title=_node_title(each))
        for each in found
    ]
    edges: dict[tuple[str, str], list[str]] = {}
    made: dict[str, str] = {}
    for each in found:
        for taken in each.ins:
            if taken in made and made[taken] != each.name:
                edges.setdefault((made[taken], each.name), []).append(taken)
        made |= dict.fromkeys(each.outs, each.name)
    joined = [Edge(source=a, target=b, label=_edge_label(names)) for (a, b), names in edges.items()]
    return Diagram(name, tuple(nodes), tuple(joined))


def _words(each: CellFreshness) -> str:
    """Return what this kernel did with a fresh cell, else its status."""
    return each.outcome or each.status if each.status is CellStatus.FRESH else each.status


def _edge_label(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _node_title(each: CellFreshness) -> str:
    return f"{each.label or each.name}: {each.status}" + (f" ({each.reason})" if each.reason else "")


def notebook_cells(engine: Engine, notebook: str | None = None) -> list[CellFreshness]:
    """Return the durable cells of the notebook with their status, in its order; those that are gone come last."""
    key = notebook_key(engine, notebook)
    judge = NotebookFreshness(engine, key, {} if notebook is not None else getattr(shell(), "user_ns", {}))
    path = _notebook_file(notebook or notebook_path())
    names_recorded = _recorded_names(engine, key)
    in_file = None if path is None else _cells_in_file(path, names_recorded)
    found = list(_current_cells(in_file or {}, path, is_here=notebook is None))
    names = {cell.name for cell in found}
    recorded = [name for name in names_recorded if name not in names]
    if in_file is None:  # the journal knows the cells of a notebook that can't be read
        found += [cell for name in recorded if (cell := _cell_from_journal(engine, key, name)) is not None]
        names = {cell.name for cell in found}
    judged = [*map(judge.judge, found), *(judge.gone(name) for name in recorded if name not in names)]
    return judged if notebook is not None else [*map(_with_outcome, judged)]


def _with_outcome(each: CellFreshness) -> CellFreshness:
    known = REGISTRY.find(KIND, each.name)
    return msgspec.structs.replace(each, outcome=known.outcome) if isinstance(known, RegisteredCell) else each


def _current_cells(in_file: dict[str, Cell], path: Path | None, *, is_here: bool) -> Iterator[Cell]:
    """Yield the current cells: each as it was last executed here, or as the file has it if that is newer."""
    known = (
        {each.name: each for each in REGISTRY.definitions(KIND) if isinstance(each, RegisteredCell)} if is_here else {}
    )
    saved_at = 0 if path is None else path.stat().st_mtime_ns // 1000
    for name, cell in in_file.items():
        yield known[name].cell if name in known and known[name].registered_at > saved_at else cell
    for name, each in known.items():
        if name not in in_file and (each.registered_at > saved_at or path is None):
            yield each.cell


def _cells_in_file(path: Path, recorded: list[str]) -> dict[str, Cell] | None:
    try:
        return {cell.name: cell for cell in durable_cells_in(path, to_python, recorded)}
    except (DefinitionError, OSError):
        return None


def _notebook_file(notebook: str | None) -> Path | None:
    path = None if notebook is None else Path(notebook)
    return path if path is not None and path.is_file() else None


def _recorded_names(engine: Engine, key: str) -> list[str]:
    with engine.reading() as reader:
        return [run.name for run in reversed(reader.runs(Select(kind=KIND))) if run.key == key]


def _cell_from_journal(engine: Engine, key: str, name: str) -> Cell | None:
    with engine.reading() as reader:
        run = reader.run_by_key(KIND, name, key)
        definition = None if run is None else reader.definition(run.definition_id)
    if definition is None:
        return None
    found = cell_of_text(definition.source, to_python)
    if found is not None:
        return found
    try:
        return Cell(name, definition.source, definition.source, file=f"<cell {name}>")
    except (DefinitionError, SyntaxError):
        return None


def _row_of(each: CellFreshness) -> dict[str, Any]:
    row = each.row
    return {
        "name": each.name,
        "status": each.status.value,
        "reason": each.reason,
        "ins": ", ".join(_spoken(name) for name in each.ins),
        "outs": ", ".join(each.outs),
        "duration_s": None if row is None else row.duration_s,
        "finished_at": None if row is None else row.finished_at,
        "run_id": each.run_id,
        "label": each.label or each.name,
        "outcome": each.outcome,
    }


def _spoken(name: str) -> str:
    return spoken_input(name) if is_file_parameter(name) else name
