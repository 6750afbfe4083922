"""Replays: the code of now is run against what a run has recorded, and the first difference is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import msgspec

from ironflow_nb.core.events import CompensationStarted
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.plain_text import counted, plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import FAILURES, RunKind, RunStatus, StepStatus
from ironflow_nb.errors import NotAllowedInStep, RunTimeout
from ironflow_nb.execution import REGISTRY, SCOPE, Engine, Fork, ReplayCheck, make_engine
from ironflow_nb.handles.forks import ForkedDefinition
from ironflow_nb.handles.run import Run
from ironflow_nb.history.lookup import resolve_run
from ironflow_nb.history.recorded_values import recorded_arguments
from ironflow_nb.history.run_status import recorded_failure, result_of, wait_ended
from ironflow_nb.history.step_pairs import steps_that_count
from ironflow_nb.history.value_differences import differences
from ironflow_nb.journal.ports import Durability, EventRow, Reader, Select
from ironflow_nb.retention.exported_run import export_run
from ironflow_nb.retention.imported_run import import_run
from ironflow_nb.values.stored_value import legible

_LISTED: Final = 5
_SHOWN: Final = 60


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay of a run found; it displays as one line.

    `difference` is None where the code of now calls what is recorded and gives the recorded result; else it says what
    is different first, and `step` names the function or the step that it concerns, if it is one. `n_reused` is the
    number of steps that were answered with what is recorded. `is_complete` is False if the run had not ended: then it
    is checked as far as it went.
    """

    run_id: str
    name: str
    difference: str | None
    step: str | None
    n_reused: int
    is_complete: bool

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.difference is None

    def __repr__(self) -> str:
        calls = f"{counted(self.n_reused, 'call')} answered with what is recorded"
        where = f"run {self.run_id} of {self.name}"
        if self.difference is not None:
            return f"<{where} differs: {self.difference}; {calls}>"
        return f"<{where}: no difference{'' if self.is_complete else ' as far as it went'}; {calls}>"


def replay(run: Run[Any] | str | os.PathLike[str], *, engine: Engine | None = None) -> ReplayResult:
    """Run the flow or graph, as it is defined now, against what a run has recorded, and return the first difference.

    Nothing is executed but the code between the steps: each call is answered with the recorded result or failure,
    whatever the code of the step is now. A call that is not recorded ends the replay. The run and its journal stay as
    they are; the replay works on a copy in a temporary folder. So ``assert iron.replay(run).ok`` is a test that a
    change of a flow does not break the runs that are under way, and that old runs would have the same result.

    Args:
        run: a run of a flow or graph, its id or a prefix of that; or a file that `export` wrote, as a `pathlib.Path`.
        engine: the journal of the run; by default the current one.

    Raises:
        RunNotFound, AmbiguousRun: no run or several have that id.
        FlowNotDefined: the flow or graph is not defined in this process.
        InputsNotStored, ValueUnreadable: the arguments of the run, or a result, can't be read here.
        UntrustedRun: another user began it; see `trust`.
        ValueError: it is a child, which is replayed with its parent, or no run of a flow or graph.
        NotAllowedInStep: it is called inside a flow or step.
        NotAJournal, JournalCorrupt, JournalTooNew: the file is no exported run, or can't be read here.
    """
    scope = SCOPE.get()
    if scope is not None:
        raise NotAllowedInStep(
            "iron.replay was called inside a flow or step, which would begin a run in it; call it outside",
            name="replay",
        )
    with _copy(run, engine) as (copy, run_id):
        return _replayed(copy, run_id)


@contextmanager
def _copy(run: Run[Any] | str | os.PathLike[str], engine: Engine | None) -> Iterator[tuple[Engine, RunId]]:
    """Open an engine on a copy of the run, in which nothing is due: what waited there is not continued."""
    with TemporaryDirectory(prefix="ironflow-replay-") as folder:
        if isinstance(run, os.PathLike):
            path = Path(run).expanduser().absolute()
        else:
            engine = run._engine if isinstance(run, Run) else engine or REGISTRY.engine()  # noqa: SLF001 -- same room
            engine.flush()
            with engine.reading() as reader:
                found = resolve_run(reader, run.id if isinstance(run, Run) else run)
            _refuse_others(found)
            path = Path(folder) / "run.ironflow"
            export_run(engine, found.run_id, path)
        copy = make_engine(Path(folder) / "journal.db", durability=Durability.PROCESS.value)
        try:
            yield copy, import_run(copy, path, is_idle=True)
        finally:
            copy.close()


def _replayed(engine: Engine, run_id: RunId) -> ReplayResult:
    with engine.reading() as reader:
        [run] = reader.runs(Select(run_ids=[run_id]))
        engine.access.refuse_foreign(reader, run)
        last = _end_of_work(reader, run)
    definition = cast("ForkedDefinition", REGISTRY.definition(run, engine))
    check = ReplayCheck()
    fork_id = definition.fork_run(engine, recorded_arguments(engine, run), Fork(run, last.position, check=check))
    made, _ = wait_ended(engine, fork_id, None)
    assert made is not None
    with engine.reading() as reader:
        left = _not_called(reader, run, check, last.version)
    has_ended = _has_ended(engine, run)
    difference, step = _of_calls(check, left, has_ended=has_ended) or (None, None)
    if difference is None and has_ended and check.refused is None:
        difference = _of_ends(engine, run, made)
    return ReplayResult(
        run_id=run_id, name=run.name, difference=None if difference is None else plain(difference), step=step,
        n_reused=len(check.called), is_complete=has_ended,
    )  # fmt: skip


def _refuse_others(run: RunRow) -> None:
    if run.kind not in {RunKind.FLOW, RunKind.GRAPH}:
        raise ValueError(f"run {run.run_id} is of {run.kind} {run.name}; runs of flows and graphs can be replayed")
    if run.parent_run_id is not None:
        raise ValueError(f"run {run.run_id} is a child of run {run.parent_run_id}; replay that one")


def _end_of_work(reader: Reader, run: RunRow) -> EventRow:
    """Return the last event of the run before anything that it did was undone."""
    if run.status in {RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.COMPENSATING}:
        undoing = reader.events(Select(run_ids=[run.run_id], name=CompensationStarted.__name__, limit=1))
        if undoing:
            return reader.events(Select(run_ids=[run.run_id], until_version=undoing[-1].version - 1, limit=1))[-1]
    return reader.events(Select(run_ids=[run.run_id], limit=1))[-1]


def _has_ended(engine: Engine, run: RunRow) -> bool:
    """Return True if the code of the run has ended it, and no time limit or person."""
    if run.status is RunStatus.FAILED:
        return not isinstance(recorded_failure(engine, run), RunTimeout)
    return run.status is RunStatus.COMPLETED


def _not_called(reader: Reader, run: RunRow, check: ReplayCheck, until_version: int) -> list[StepRef]:
    """Return the steps that the run used and that the code of now has not called, in the order of their beginning."""
    rows = steps_that_count(reader, run, run.status)[0]
    is_end = FAILURES | {StepStatus.COMPLETED}
    ended = [row for row in rows if row.status in is_end and row.version <= until_version]
    return [row.step for row in sorted(ended, key=lambda row: row.started_at) if row.step not in check.called]


def _of_calls(check: ReplayCheck, left: list[StepRef], *, has_ended: bool) -> tuple[str, str] | None:
    """Return how the calls differ, and of which step; None if they do not."""
    more = f", and {len(left) - _LISTED} more" if len(left) > _LISTED else ""
    listed = f"{', '.join(left[:_LISTED])}{more}"
    if check.refused is not None and (has_ended or left):
        not_yet = f"; recorded and not called until then: {listed}" if left else ""
        return f"{check.refused}{not_yet}", check.refused.step
    if left and check.refused is None:
        return f"the code of now does not call {listed}", left[0]
    return None


def _of_ends(engine: Engine, run: RunRow, made: RunRow) -> str | None:
    """Return how the results or failures of the run and of its replay differ; None if they do not."""
    if run.status is not made.status:
        return f"the code of now {_end(engine, made)}; the run {_end(engine, run)}"
    if run.status is RunStatus.FAILED:
        ends = _end(engine, run), _end(engine, made)
        return None if ends[0] == ends[1] else f"the code of now {ends[1]}; the run {ends[0]}"
    if run.output_id == made.output_id:
        return None
    values = (result_of(engine, row, row.run_id, row.status) for row in (run, made))
    for each in differences(*values):
        return f"the result differs{f' at {each.path}' if each.path else ''}: {each.words}"
    return None


def _end(engine: Engine, run: RunRow) -> str:
    if run.status is RunStatus.FAILED:
        error = recorded_failure(engine, run)
        return f"fails with {type(error).__name__}: {error}"
    if run.status is RunStatus.COMPLETED:
        return f"returns {legible(repr(result_of(engine, run, run.run_id, run.status)), _SHOWN)}"
    return f"is {run.status.value}"
