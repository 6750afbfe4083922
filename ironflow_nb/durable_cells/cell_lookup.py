"""Lookup of a durable cell: its definition in this process, and the recorded execution that it can be restored from.

Nothing is written.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple
from weakref import ref

from ironflow_nb.code_identity.code_parts import (
    CodePart,
    TrackedCode,
    UntrackedReason,
    changed_parts,
    decode_parts,
    encode_parts,
)
from ironflow_nb.code_identity.referenced_values import is_constant
from ironflow_nb.code_identity.source import is_user_file
from ironflow_nb.core.identity import ROOT_BRANCH, Digest, RunId, step_identity
from ironflow_nb.core.plan import NONE, ResumeOptions, discarded
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.replay_decision import OnChange, Reuse, judge
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import StepStatus
from ironflow_nb.durable_cells.cell import KIND, Cell, is_data
from ironflow_nb.durable_cells.cell_record import OutputSink, about_of, code_of, record_of, refuse_unstorable
from ironflow_nb.durable_cells.file_inputs import file_inputs, is_gone_file, spoken_input
from ironflow_nb.durable_cells.shared_values import n_bytes
from ironflow_nb.errors import FlowNotDefined, UntrustedValue, ValueNotStorable, ValueUnreadable
from ironflow_nb.execution import Engine, StepSpec, continuations, notebook_path
from ironflow_nb.values.classes import class_name
from ironflow_nb.values.stored_value import ValueRecord

_LARGE_BYTES: Final = 1024 * 1024
NOWHERE: Final = "-"
"""The key of cells whose notebook is not known."""


@dataclass(frozen=True, slots=True)
class CellCall:
    """A call of a cell: the cell, its step, its identity, and its inputs by their digests (hex)."""

    cell: Cell
    spec: StepSpec
    ins: Mapping[str, str]
    identity: Digest
    opaque: Mapping[str, str]
    """Classes of the inputs that another process can't recognise, by name."""

    @property
    def mutable_references(self) -> tuple[str, ...]:
        """Names of lists, dicts and sets that the code refers to and that are neither inputs nor tracked."""
        inputs = {f"{module}.{name}" for module, name, known in imported_from_user(self.cell) if known in self.ins}
        found = (each.name for each in self.spec.tracked.untracked if each.reason is UntrackedReason.MUTABLE)
        return tuple(name for name in found if name not in {*inputs, *self.ins})


class KnownDigest(NamedTuple):
    """The digest (hex) of an object that was digested before, and has not changed since."""

    of: ref[Any]
    digest: str


@dataclass(frozen=True, slots=True)
class FoundExecution:
    """A recorded execution that the cell can be restored from."""

    run: RunRow
    row: StepRow
    record: ValueRecord


@dataclass(frozen=True, slots=True)
class NoExecution:
    """No recorded execution can be restored. `row` is the most similar one, and `reasons` say how it differs."""

    run: RunRow | None = None
    reasons: tuple[str, ...] = ()
    row: StepRow | None = None
    is_unreadable: bool = False
    untrusted: UntrustedValue | None = None


def notebook_key(engine: Engine, notebook: str | None = None) -> str:
    """Return the key of the cells of a notebook: its path, relative to the journal if both are in one folder."""
    path = notebook or notebook_path()
    if path is None:
        return NOWHERE
    place = Path(engine.journal.location).parent
    whole = Path(path).absolute()
    return os.path.relpath(whole, place) if whole.is_relative_to(place.parent) and place.is_absolute() else str(whole)


def call_of(
    engine: Engine, cell: Cell, namespace: dict[str, Any], known: Mapping[str, KnownDigest] | None = None
) -> CellCall:
    """Return the call of the cell with its inputs as they are now; digests in `known` are not made again.

    Raises:
        DefinitionError: an input of ``--in`` is not defined.
    """
    import_modules(cell, namespace)
    ins: dict[str, str] = {}
    opaque: dict[str, str] = {}
    for name in input_names(engine, cell, namespace, cell.names_in(namespace)):
        before = None if known is None else known.get(name)
        if before is not None and before.of() is namespace[name]:
            ins[name] = before.digest
            continue
        ins[name], is_opaque = digest_of(engine, namespace[name])
        if is_opaque:
            opaque[name] = class_name(type(namespace[name]))
    if cell.options.is_unmarked:
        ins |= file_inputs(cell.tree, namespace)
    return call_with_inputs(engine, cell, ins, namespace, opaque)


def note_digests(
    known: dict[str, KnownDigest] | None, namespace: Mapping[str, Any], digests: Mapping[str, str | None]
) -> None:
    """Note the digests of large values, which take long to make."""
    if known is None:
        return
    for name, digest in digests.items():
        value = namespace.get(name)
        if digest is not None and n_bytes(value) >= _LARGE_BYTES:
            with suppress(TypeError):  # not every class has weak references
                known[name] = KnownDigest(ref(value), digest)


def input_names(engine: Engine, cell: Cell, namespace: dict[str, Any], names: Collection[str]) -> tuple[str, ...]:
    """Return the names with those of imported data, and for an unmarked cell of the data that its functions read."""
    found = dict.fromkeys((*names, *imported_data(engine, cell, namespace)))
    if cell.options.is_unmarked:
        read = [name for name in cell.spec(found, namespace).tracked.data if name in namespace]
        found |= dict.fromkeys(name for name in read if is_data(namespace[name]))
    return tuple(found)


def call_with_inputs(
    engine: Engine, cell: Cell, ins: Mapping[str, str], namespace: dict[str, Any], opaque: Mapping[str, str]
) -> CellCall:
    """Return the call of the cell with inputs that have these digests (hex)."""
    spec = cell.spec(ins, namespace)
    arguments = spec.parameters.bind((), dict(ins))
    identity = step_identity(cell.name, engine.digester.digest(arguments).digest)
    return CellCall(cell, spec, ins, identity, opaque)


def digest_of(engine: Engine, value: object) -> tuple[str, bool]:
    """Return the digest of a value (hex), and whether it identifies the value in this process only."""
    digester = engine.digester
    try:
        found = digester.digest(value)
    except ValueNotStorable:  # an iterator or an open file
        return digester.provenance.token(value).hex(), True
    return digester.provenance.recorded(found.digest).hex(), bool(found.opaque)


def find_execution(
    engine: Engine, key: str, wanted: CellCall, namespace: dict[str, Any]
) -> FoundExecution | NoExecution:
    """Return the recorded execution of the call that can be reused, or why there is none."""
    with engine.reading() as reader:
        run = reader.run_by_key(KIND, wanted.cell.name, key)
        if run is None:
            return NoExecution()
        rows = [row for row, _ in reader.attempts(run.run_id)]
        discards = discarded(continuations(reader, run))
    record = RecordedSteps(rows, discarded=discards).find(wanted.identity, ROOT_BRANCH, 0)
    verdict = judge(record, wanted.spec.code)
    if not isinstance(verdict, Reuse):
        missing = _nearest_execution(engine, wanted, run, rows)
        again = _with_gone_files(engine, wanted, missing, namespace)
        return missing if again is None else find_execution(engine, key, again, namespace)
    try:
        return FoundExecution(run, verdict.row, _readable_record(engine, verdict.row, namespace))
    except ValueUnreadable as error:
        return unreadable_execution(run, verdict.row, error)


def _with_gone_files(
    engine: Engine, wanted: CellCall, missing: NoExecution, namespace: dict[str, Any]
) -> CellCall | None:
    """Return the call with the files that the execution read and that are gone, so that it can still be restored."""
    if missing.row is None or missing.row.output_id is None or not wanted.cell.options.is_unmarked:
        return None
    try:
        record = record_of(engine, engine.access.value(missing.row.output_id, missing.row.row_key))
        ins = about_of(record).ins
    except ValueUnreadable:
        return None
    gone = {name: ins[name] for name in ins.keys() - wanted.ins.keys() if is_gone_file(name)}
    return call_with_inputs(engine, wanted.cell, {**wanted.ins, **gone}, namespace, wanted.opaque) if gone else None


def unreadable_execution(run: RunRow, row: StepRow, error: ValueUnreadable) -> NoExecution:
    """Return a `NoExecution` for a recorded execution whose values can't be read."""
    untrusted = error if isinstance(error, UntrustedValue) else None
    return NoExecution(run, (str(error),), row, is_unreadable=True, untrusted=untrusted)


def _readable_record(engine: Engine, row: StepRow, namespace: Mapping[str, Any]) -> ValueRecord:
    record = record_of(engine, None if row.output_id is None else engine.access.value(row.output_id, row.row_key))
    refuse_unstorable(engine, about_of(record), namespace)
    return record


def _nearest_execution(engine: Engine, wanted: CellCall, run: RunRow, rows: list[StepRow]) -> NoExecution:
    done = [row for row in rows if row.status is StepStatus.COMPLETED and row.output_id is not None]
    same = [row for row in done if row.identity == wanted.identity]
    nearest = max(same or done, key=lambda row: row.version, default=None)
    if nearest is None:
        return NoExecution(run)
    try:
        return NoExecution(run, tuple(reasons_against(engine, wanted, nearest)), nearest)
    except ValueUnreadable:
        return NoExecution(run, (), nearest)


def reasons_against(engine: Engine, wanted: CellCall, row: StepRow) -> list[str]:
    """Return in words how the call differs from that execution in its code and its inputs.

    Raises:
        ValueUnreadable: the record of the execution can't be read.
    """
    assert row.output_id is not None
    record = record_of(engine, engine.access.value(row.output_id, row.row_key))
    before = about_of(record).ins
    changed = [f"{spoken_input(name)} changed" for name, now in wanted.ins.items() if before.get(name, now) != now]
    added = [f"{spoken_input(name)} is new" for name in wanted.ins if name not in before]
    gone = [f"{spoken_input(name)} is gone" for name in before if name not in wanted.ins]
    return [*_code_changes(code_of(engine, record), wanted), *changed, *added, *gone]


def _code_changes(then: str, wanted: CellCall) -> list[str]:
    try:
        old = decode_parts(then)
    except ValueError:
        return []
    return [change.reason.replace("edited: ", "edited ", 1) for change in changed_parts(old, parts_of_cell(wanted))]


def parts_of_cell(wanted: CellCall) -> tuple[CodePart, ...]:
    """Return the parts of the code; the text of the first one, the cell, is as the user wrote it."""
    own, *others = wanted.spec.tracked.parts
    return CodePart(wanted.cell.name, own.kind, own.digest, wanted.cell.text, "", 1), *others


def code_text(wanted: CellCall) -> str:
    """Return the code in the form that is recorded, which shows later what was edited."""
    tracked = wanted.spec.tracked
    return encode_parts(TrackedCode(tracked.digest, parts_of_cell(wanted), ()))


# -- modules of the user ---------------------------------------------------------------------------------------------


def import_modules(cell: Cell, namespace: dict[str, Any]) -> None:
    """Import the user's modules that the cell imports, so that their code is tracked before the cell runs.

    A failing import is ignored here: the cell repeats it and raises the error in its place.
    """
    for node in cell.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and any(map(_is_of_user, _modules_in(node))):
            try:
                code = compile(ast.Module([node], []), cell.file, "exec", dont_inherit=True)
                exec(code, namespace)  # noqa: S102 -- the cell imports it next anyway
            except Exception:  # noqa: BLE001, S110 -- a module may raise anything while it is imported
                pass


def imported_data(engine: Engine, cell: Cell, namespace: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of data that the cell imports from the user's modules; they are inputs, too.

    Constants count as code. Values that another process can't recognise are left out: with them the cell would run
    again in each process.
    """
    if cell.options.ins is not None:
        return ()
    known = dict.fromkeys(name for _, _, name in imported_from_user(cell) if name in namespace)
    data = [name for name in known if is_data(namespace[name]) and not is_constant(namespace[name])]
    return tuple(name for name in data if not digest_of(engine, namespace[name])[1])


def imported_from_user(cell: Cell) -> Iterator[tuple[str, str, str]]:
    """Yield (module, name in it, name in the cell) for each ``from`` import of a module of the user."""
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
    """Where a cell is executed: the engine, the key of its notebook, the namespace, and the sink of its output.

    `known` are digests of large variables, which hold as long as only cells with this context are executed. It is None
    where nobody goes on with the variables after the cells: there everything is stored that can be.
    """

    engine: Engine
    key: str
    namespace: dict[str, Any]
    output_sink: OutputSink
    known: dict[str, KnownDigest] | None = None


def context_of(
    engine: Engine,
    namespace: dict[str, Any],
    output_sink: OutputSink,
    notebook: str | None = None,
    known: dict[str, KnownDigest] | None = None,
) -> CellContext:
    """Return the context for the cells of a notebook."""
    key = notebook_key(engine, notebook)
    return CellContext(engine, key, namespace, output_sink, known)


class RegisteredCell:
    """The definition of the runs of a cell. Two cells of one notebook can't have one name.

    `registered_at` is when it was last executed or restored, in microseconds UTC.
    """

    kind: Final = KIND

    def __init__(self, cell: Cell, registered_at: int) -> None:
        self.cell = cell
        self.registered_at = registered_at
        self.outcome: str | None = None
        """What this kernel did last: "computed" or "restored"."""
        self._last_rival: str | None = None

    on_change: Final = OnChange.REFRESH

    @property
    def name(self) -> str:
        """The name of the cell."""
        return self.cell.name

    def rival(self, cell: Cell) -> str | None:
        """Return the first line of this cell if `cell` is another one with its name, else None.

        When the same cell asks a second time, it takes the name over and the answer is None.
        """
        mine, its = self.cell.cell_id, cell.cell_id
        if mine is None or its is None or its in {mine, self._last_rival}:
            return None
        self._last_rival = its
        lines = [line for line in self.cell.text.splitlines()[1:] if line.strip()]
        return lines[0].strip() if lines else self.cell.text.strip()

    def continue_run(self, engine: Engine, run: RunRow, options: ResumeOptions = NONE) -> RunId:
        """Refuse: only the notebook of a cell can execute it.

        Raises:
            FlowNotDefined: always.
        """
        raise FlowNotDefined(
            f"run {run.run_id} belongs to the cell {self.name}; run the cell again instead: it is restored or executed",
            run_id=run.run_id,
            name=self.name,
        )
