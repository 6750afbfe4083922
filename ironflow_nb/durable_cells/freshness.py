"""What would become of each durable cell if the notebook were run from top to bottom now. Nothing is written or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from ironflow_nb.code_identity.code_parts import decode_parts
from ironflow_nb.core.identity import ROOT_BRANCH, RunId
from ironflow_nb.core.plan import discarded
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.replay_decision import Reuse, judge
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import OWNED, StepStatus
from ironflow_nb.durable_cells.cell import KIND, Cell, is_data
from ironflow_nb.durable_cells.cell_lookup import CellCall, ask_with, differences, digest_of, imported_data
from ironflow_nb.durable_cells.cell_record import CODE, SHOWN, CellNotes, about_of, code_of, record_of
from ironflow_nb.errors import IronflowError, ValueUnreadable
from ironflow_nb.execution import Engine, continuations
from ironflow_nb.history.run_status import status_of
from ironflow_nb.values.stored_value import ValueRecord

_OPEN: Final = frozenset({"not defined", "not imported yet"})


class CellStatus(StrEnum):
    """How a cell stands to what is recorded of it."""

    FRESH = "fresh"
    """It would be restored."""
    STALE = "stale"
    """It would run again."""
    RUNNING = "running"
    FAILED = "failed"
    NEVER_RUN = "never run"
    GONE = "gone"
    """It is recorded, and does not stand in the notebook any more."""


class CellFreshness(msgspec.Struct, frozen=True, kw_only=True):
    """One cell with its status; times are microseconds UTC. `row` is the execution that it was judged by."""

    name: str
    status: CellStatus
    reason: str | None = None
    ins: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    row: StepRow | None = None
    run_id: RunId | None = None


class _Known(msgspec.Struct, frozen=True):
    """What the journal has of a cell."""

    run: RunRow
    is_running: bool
    rows: list[StepRow]
    orders: Mapping[Any, int]

    @property
    def newest(self) -> StepRow | None:
        """The newest execution that came to its end."""
        done = [row for row in self.rows if row.status is StepStatus.COMPLETED and row.output_id is not None]
        return max(done, key=lambda row: row.version, default=None)


class NotebookFreshness:
    """Judges the cells of one notebook in their order, for what one leaves behind the next takes in."""

    def __init__(self, engine: Engine, key: str, namespace: Mapping[str, Any]) -> None:
        self._engine = engine
        self._key = key
        self._namespace = dict(namespace)
        self._made: dict[str, tuple[str | None, CellFreshness]] = {}

    def judge(self, cell: Cell) -> CellFreshness:
        """Return the cell with its status; what it leaves behind counts for those that follow."""
        known = self._look_up(cell.name)
        try:
            judged, outs = self._judge(cell, known)
        except (IronflowError, SyntaxError) as error:
            run_id = None if known is None else known.run.run_id
            judged, outs = CellFreshness(name=cell.name, status=CellStatus.STALE, reason=str(error), run_id=run_id), {}
        for name in judged.outs:
            self._made[name] = outs.get(name), judged
        return judged

    def gone(self, name: str) -> CellFreshness:
        """Return a cell that is recorded and does not stand in the notebook."""
        known = self._look_up(name)
        assert known is not None
        row = known.newest
        return CellFreshness(name=name, status=CellStatus.GONE, row=row, run_id=known.run.run_id)

    def _judge(self, cell: Cell, known: _Known | None) -> tuple[CellFreshness, Mapping[str, str | None]]:
        names = tuple(dict.fromkeys([*(cell.options.outs or cell.uses.assigns), *cell.uses.defines]))
        ins = self._ins_of(cell)
        if known is None:
            return CellFreshness(name=cell.name, status=CellStatus.NEVER_RUN, ins=ins, outs=names), {}
        row = known.newest
        record = None if row is None else self._record(row)
        about = CellNotes() if record is None else about_of(record)
        digests = self._digests(ins, about)
        wanted = ask_with(self._engine, cell, digests, self._namespace, {})
        found = RecordedSteps(known.rows, discarded=known.orders).find(wanted.identity, ROOT_BRANCH, 0)
        verdict = judge(found, wanted.spec.code)
        if isinstance(verdict, Reuse):
            row, record = verdict.row, self._record(verdict.row)
            about = about_of(record)
        status, reason = self._status(wanted, known, row, is_found=isinstance(verdict, Reuse))
        made = {} if record is None else {name: part.digest for name, part in record.parts.items()}
        made = {name: digest for name, digest in made.items() if name not in {SHOWN, CODE}}
        made |= {name: made.get(first) for name, first in about.same.items()}
        outs = tuple(dict.fromkeys([*made, *about.modules, *about.lost, *cell.uses.defines])) if made else names
        judged = CellFreshness(
            name=cell.name, status=status, reason=reason, ins=tuple(digests), outs=outs, row=row,
            run_id=known.run.run_id,
        )  # fmt: skip
        return judged, made

    def _status(
        self, wanted: CellCall, known: _Known, row: StepRow | None, *, is_found: bool
    ) -> tuple[CellStatus, str | None]:
        if known.is_running:
            return CellStatus.RUNNING, None
        stale = self._stale_inputs(wanted)
        if stale is not None:
            return CellStatus.STALE, stale
        if is_found:
            return CellStatus.FRESH, None
        latest = max(known.rows, key=lambda each: each.version, default=None)
        if latest is not None and latest.status is StepStatus.FAILED:
            return CellStatus.FAILED, "its last execution failed"
        if row is None:
            return CellStatus.STALE, "it was interrupted"
        reasons = differences(self._engine, wanted, row)
        if not reasons or self._is_only_undefined(wanted, row):
            return CellStatus.FRESH, "as far as it can be told before what it refers to is defined"
        return CellStatus.STALE, ", ".join(reasons)

    def _is_only_undefined(self, wanted: CellCall, row: StepRow) -> bool:
        """Tell whether the cell itself is the same, and what it refers to is not there yet, as in a new kernel."""
        if row.identity != wanted.identity or not any(each.reason in _OPEN for each in wanted.spec.tracked.untracked):
            return False
        try:
            return decode_parts(code_of(self._engine, self._record(row)))[0].digest == wanted.spec.tracked.own
        except (ValueError, IndexError):
            return False

    def _stale_inputs(self, wanted: CellCall) -> str | None:
        for name in wanted.ins:
            maker = self._made[name][1] if name in self._made else None
            if maker is not None and maker.name != wanted.cell.name and maker.status is not CellStatus.FRESH:
                return f"input {name} comes from {maker.name}, which is {maker.status}"
        return None

    def _ins_of(self, cell: Cell) -> tuple[str, ...]:
        if cell.options.ins is not None:
            return tuple(sorted(set(cell.options.ins)))
        names = [name for name in cell.uses.reads if not name.startswith("__")]
        imported = imported_data(self._engine, cell, self._namespace)
        return tuple(sorted({*(name for name in names if self._is_input(name)), *imported}))

    def _is_input(self, name: str) -> bool:
        is_made = name in self._made and self._made[name][0] is not None
        return is_made or (name in self._namespace and is_data(self._namespace[name]))

    def _digests(self, ins: Sequence[str], about: CellNotes) -> dict[str, str]:
        """Return the digests of the inputs; one that is nowhere yet is taken to be what it was."""
        found: dict[str, str] = {}
        for name in dict.fromkeys([*ins, *(name for name in about.ins if name not in self._namespace)]):
            made = self._made[name][0] if name in self._made else None
            if made is not None:
                found[name] = made
            elif name in self._namespace and is_data(self._namespace[name]):
                found[name] = digest_of(self._engine, self._namespace[name])[0]
            elif name in about.ins:
                found[name] = about.ins[name]
        return dict(sorted(found.items()))

    def _look_up(self, name: str) -> _Known | None:
        with self._engine.reading() as reader:
            run = reader.run_by_key(KIND, name, self._key)
            if run is None:
                return None
            rows = [row for row, _ in reader.memo(run.run_id)]
            is_running = status_of(self._engine, reader, run) in OWNED
            return _Known(run, is_running, rows, discarded(continuations(reader, run)))

    def _record(self, row: StepRow) -> ValueRecord:
        if row.output_id is None:
            raise ValueUnreadable("what was recorded of it is missing")
        return record_of(self._engine, self._engine.access.value(row.output_id))
