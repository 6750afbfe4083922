"""Lookup of a durable cell: its definition in this process, and the recorded execution that it can be restored from.

Nothing is written.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ironflow_nb.code_identity.code_parts import MUTABLE, CodePart, TrackedCode, compare, decode_parts, encode_parts
from ironflow_nb.code_identity.constants import is_constant
from ironflow_nb.code_identity.user_code import is_user_file
from ironflow_nb.core.identity import ROOT_BRANCH, Digest, RunId, step_identity
from ironflow_nb.core.plan import NONE, ResumeOptions, discarded
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.replay_decision import OnChange, Reuse, judge
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import StepStatus
from ironflow_nb.durable_cells.cell import KIND, Cell, is_data
from ironflow_nb.durable_cells.cell_record import OutputSink, about_of, code_of, record_of, refuse_unstorable
from ironflow_nb.errors import FlowNotDefined, UntrustedValue, ValueNotStorable, ValueUnreadable
from ironflow_nb.execution import Engine, StepSpec, continuations, notebook_path
from ironflow_nb.values.classes import class_name
from ironflow_nb.values.stored_value import ValueRecord

NOWHERE: Final = "-"
"""The key of cells whose notebook is not known."""


@dataclass(frozen=True, slots=True)
class CellCall:
    """A cell as it is asked for now: with which inputs, by their digests (hex), and as which step."""

    cell: Cell
    spec: StepSpec
    ins: Mapping[str, str]
    identity: Digest
    opaque: Mapping[str, str]
    """Inputs that can't be recognised in another process, by name, and of which class they are."""

    @property
    def mutable_references(self) -> tuple[str, ...]:
        """Lists, dicts and sets that its code refers to, which are neither inputs nor code."""
        inputs = {f"{module}.{name}" for module, name, known in imported_from_user(self.cell) if known in self.ins}
        found = (each.name for each in self.spec.tracked.untracked if each.reason == MUTABLE)
        return tuple(name for name in found if name not in {*inputs, *self.ins})


@dataclass(frozen=True, slots=True)
class FoundExecution:
    """A recorded execution."""

    run: RunRow
    row: StepRow
    record: ValueRecord


@dataclass(frozen=True, slots=True)
class NoExecution:
    """There is none, or none that can be restored. `row` is the one that comes nearest."""

    run: RunRow | None = None
    reasons: tuple[str, ...] = ()
    row: StepRow | None = None
    is_unreadable: bool = False
    untrusted: UntrustedValue | None = None


def notebook_key(engine: Engine, notebook: str | None = None) -> str:
    """Return the key of the notebook's cells: its path, from the folder of the journal if that goes with it."""
    path = notebook or notebook_path()
    if path is None:
        return NOWHERE
    place = Path(engine.journal.location).parent
    whole = Path(path).absolute()
    return os.path.relpath(whole, place) if whole.is_relative_to(place.parent) and place.is_absolute() else str(whole)


def call_of(engine: Engine, cell: Cell, namespace: dict[str, Any]) -> CellCall:
    """Return the cell with what it takes in now.

    Raises:
        DefinitionError: an input that it was given is not there.
    """
    import_modules(cell, namespace)
    ins: dict[str, str] = {}
    opaque: dict[str, str] = {}
    for name in (*cell.names_in(namespace), *imported_data(engine, cell, namespace)):
        ins[name], is_opaque = digest_of(engine, namespace[name])
        if is_opaque:
            opaque[name] = class_name(type(namespace[name]))
    return call_with_inputs(engine, cell, ins, namespace, opaque)


def call_with_inputs(
    engine: Engine, cell: Cell, ins: Mapping[str, str], namespace: dict[str, Any], opaque: Mapping[str, str]
) -> CellCall:
    """Return the cell with inputs of these digests."""
    spec = cell.spec(ins, namespace)
    arguments = spec.parameters.bind((), dict(ins))
    identity = step_identity(cell.name, engine.digester.digest(arguments).digest)
    return CellCall(cell, spec, ins, identity, opaque)


def digest_of(engine: Engine, value: object) -> tuple[str, bool]:
    """Return the digest of a value (hex), and whether it is one of this process only."""
    digester = engine.digester
    try:
        found = digester.digest(value)
    except ValueNotStorable:  # an iterator or an open file
        return digester.provenance.token(value).hex(), True
    return digester.provenance.recorded(found.digest).hex(), bool(found.opaque)


def find_execution(
    engine: Engine, key: str, wanted: CellCall, namespace: Mapping[str, Any]
) -> FoundExecution | NoExecution:
    """Return the execution that answers, or why there is none."""
    with engine.reading() as reader:
        run = reader.run_by_key(KIND, wanted.cell.name, key)
        if run is None:
            return NoExecution()
        rows = [row for row, _ in reader.attempts(run.run_id)]
        orders = discarded(continuations(reader, run))
    record = RecordedSteps(rows, discarded=orders).find(wanted.identity, ROOT_BRANCH, 0)
    verdict = judge(record, wanted.spec.code)
    if not isinstance(verdict, Reuse):
        return _nearest_execution(engine, wanted, run, rows)
    try:
        return FoundExecution(run, verdict.row, _readable_record(engine, verdict.row, namespace))
    except ValueUnreadable as error:
        return unreadable_execution(run, verdict.row, error)


def unreadable_execution(run: RunRow, row: StepRow, error: ValueUnreadable) -> NoExecution:
    """Return that there is an execution which can't be restored, for that reason."""
    untrusted = error if isinstance(error, UntrustedValue) else None
    return NoExecution(run, (str(error),), row, is_unreadable=True, untrusted=untrusted)


def _readable_record(engine: Engine, row: StepRow, namespace: Mapping[str, Any]) -> ValueRecord:
    record = record_of(engine, None if row.output_id is None else engine.access.value(row.output_id))
    refuse_unstorable(engine, about_of(record), namespace)
    return record


def _nearest_execution(engine: Engine, wanted: CellCall, run: RunRow, rows: list[StepRow]) -> NoExecution:
    done = [row for row in rows if row.status is StepStatus.COMPLETED and row.output_id is not None]
    same = [row for row in done if row.identity == wanted.identity]
    nearest = max(same or done, key=lambda row: row.version, default=None)
    if nearest is None:
        return NoExecution(run)
    try:
        return NoExecution(run, tuple(differences(engine, wanted, nearest)), nearest)
    except ValueUnreadable:
        return NoExecution(run, (), nearest)


def differences(engine: Engine, wanted: CellCall, row: StepRow) -> list[str]:
    """Return in words what is not as it was in that execution.

    Raises:
        ValueUnreadable: what is recorded of it can't be read.
    """
    assert row.output_id is not None
    record = record_of(engine, engine.access.value(row.output_id))
    before = about_of(record).ins
    changed = [f"input {name} changed" for name, digest in wanted.ins.items() if before.get(name, digest) != digest]
    added = [f"input {name} is new" for name in wanted.ins if name not in before]
    gone = [f"input {name} is not there any more" for name in before if name not in wanted.ins]
    return [*_code_changes(code_of(engine, record), wanted), *changed, *added, *gone]


def _code_changes(then: str, wanted: CellCall) -> list[str]:
    try:
        old = decode_parts(then)
    except ValueError:
        return []
    return [change.reason.replace("edited: ", "edited ", 1) for change in compare(old, parts_of(wanted))]


def parts_of(wanted: CellCall) -> tuple[CodePart, ...]:
    """Return the parts of the code, the cell itself as the user wrote it."""
    own, *others = wanted.spec.tracked.parts
    return CodePart(wanted.cell.name, own.kind, own.digest, wanted.cell.text, "", 1), *others


def code_text(wanted: CellCall) -> str:
    """Return the code as it is kept, to tell later what was edited."""
    tracked = wanted.spec.tracked
    return encode_parts(TrackedCode(tracked.digest, parts_of(wanted), ()))


def own_run(engine: Engine, key: str, name: str) -> RunId | None:
    """Return the run of the cell of that name, if it was ever executed."""
    with engine.reading() as reader:
        run = reader.run_by_key(KIND, name, key)
    return None if run is None else run.run_id


# -- modules of the user ---------------------------------------------------------------------------------------------


def import_modules(cell: Cell, namespace: dict[str, Any]) -> None:
    """Import what the cell imports of the user's own modules, so that their code can be told before it runs.

    What can't be imported yet will be, or fail, where it stands.
    """
    for node in cell.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and any(map(_is_of_user, _modules_in(node))):
            try:
                code = compile(ast.Module([node], []), cell.file, "exec", dont_inherit=True)
                exec(code, namespace)  # noqa: S102 -- the cell does it in the next moment
            except Exception:  # noqa: BLE001, S110 -- whatever a module does when it is imported
                pass


def imported_data(engine: Engine, cell: Cell, namespace: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of data that the cell imports from the user's own modules: they are inputs, too.

    Constants count as code, and what can't be recognised in another process would make it run again in each.
    """
    if cell.options.ins is not None:
        return ()
    known = dict.fromkeys(name for _, _, name in imported_from_user(cell) if name in namespace)
    data = [name for name in known if is_data(namespace[name]) and not is_constant(namespace[name])]
    return tuple(name for name in data if not digest_of(engine, namespace[name])[1])


def imported_from_user(cell: Cell) -> Iterator[tuple[str, str, str]]:
    """Yield what the cell imports from modules of the user's: the module, the name in it, and that in the cell."""
    for node in cell.tree.body:
        if isinstance(node, ast.ImportFrom) and any(map(_is_of_user, _modules_in(node))):
            yield from ((node.module or "", alias.name, alias.asname or alias.name) for alias in node.names)


def _modules_in(node: ast.Import | ast.ImportFrom) -> Iterable[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module and not node.level else []
    return [alias.name for alias in node.names]


def _is_of_user(module: str) -> bool:
    root = module.partition(".")[0]
    if root in sys.builtin_module_names:
        return False
    try:
        found = find_spec(root)
    except (ImportError, ValueError):
        return False
    place = None if found is None else found.origin or next(iter(found.submodule_search_locations or ()), None)
    return place is not None and place not in {"built-in", "frozen"} and is_user_file(place)


@dataclass(frozen=True, slots=True)
class CellContext:
    """Where a cell is executed: which journal and notebook, whose names, and where its output goes."""

    engine: Engine
    key: str
    namespace: dict[str, Any]
    output_sink: OutputSink


def context_of(
    engine: Engine, namespace: dict[str, Any], output_sink: OutputSink, notebook: str | None = None
) -> CellContext:
    """Return the place for the cells of a notebook."""
    return CellContext(engine, notebook_key(engine, notebook), namespace, output_sink)


class RegisteredCell:
    """The definition that runs of a cell have. Two cells of one notebook can't have one name.

    `registered_at` is when it was executed or restored last, in microseconds UTC.
    """

    kind: Final = KIND

    def __init__(self, cell: Cell, registered_at: int) -> None:
        self.cell = cell
        self.registered_at = registered_at
        self._last_rival: str | None = None

    on_change: Final = OnChange.REFRESH

    @property
    def name(self) -> str:
        """The name of the cell."""
        return self.cell.name

    def rival(self, cell: Cell) -> str | None:
        """Return how the other cell of that name begins, if there is one; whoever asks twice takes the name over."""
        mine, its = self.cell.cell_id, cell.cell_id
        if mine is None or its is None or its in {mine, self._last_rival}:
            return None
        self._last_rival = its
        lines = [line for line in self.cell.text.splitlines()[1:] if line.strip()]
        return lines[0].strip() if lines else self.cell.text.strip()

    def continue_run(self, engine: Engine, run: RunRow, orders: ResumeOptions = NONE) -> RunId:
        """Refuse: what a cell does belongs to its notebook.

        Raises:
            FlowNotDefined: always.
        """
        raise FlowNotDefined(
            f"run {run.run_id} is of the cell {self.name}; run the cell again instead, and it is executed or restored",
            run_id=run.run_id,
            name=self.name,
        )
