"""What is known before a run is continued: what failed it, what was edited since, and what would run again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ironflow_nb.code_identity.code_parts import diff
from ironflow_nb.code_identity.syntax import source_of
from ironflow_nb.core.identity import Digest, RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.plan import Action, Planned
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import FAILURES, RunStatus
from ironflow_nb.errors import FlowNotDefined, UntrustedRun
from ironflow_nb.execution import REGISTRY, Engine, changes_since
from ironflow_nb.handles.recorded_call import recorded_causes
from ironflow_nb.handles.run_plan import planned_steps
from ironflow_nb.history.frames import error_text
from ironflow_nb.history.plan_summary import summary
from ironflow_nb.history.run_status import run_and_status
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.views.continuation_view import ContinuationView, EditView, FailedStep

_DECIDED = {Action.STOP, Action.ASK}


def continuation_of(engine: Engine, run_id: RunId) -> ContinuationView:
    """Return what `Run.resume` would do now; nothing is executed."""
    run, status = run_and_status(engine, run_id)
    if run is None:
        return ContinuationView()
    planned = planned_steps(engine, run)
    with engine.reading() as reader:
        rows = reader.steps(Select(run_ids=[run_id], is_latest=True))
        failed = tuple(_failed(reader, run, rows)) if status is RunStatus.FAILED else ()
        edits = (*_edited_flow(reader, run), *_edited_steps(reader, rows))
    return ContinuationView(
        failed=failed,
        summary=plain(summary(planned)),
        edits=edits,
        missing=tuple(map(plain, _missing(engine, run, planned))),
        stops=tuple({plain(each.row.name): None for each in planned if each.action in _DECIDED}),
    )


def defined_now(engine: Engine, run_id: RunId) -> tuple[Any, ...]:
    """Return what tells whether the flow of a run, or a step of it, was defined anew in this process."""
    with engine.reading() as reader:
        [run] = reader.runs(Select(run_ids=[run_id]))
        names = {each.name for each in reader.tallies([run_id]).get(run_id, ())}
    specs = [REGISTRY.step(name) for name in sorted(names | {run.name})]
    return (run.session_version, id(REGISTRY.find_of(run)), *(None if spec is None else spec.code for spec in specs))


def _failed(reader: Reader, run: RunRow, rows: Sequence[StepRow]) -> Iterator[FailedStep]:
    latest = {row.step: row for row in rows}
    causes = [latest[ref] for ref in recorded_causes(reader, run.run_id) if ref in latest]
    for row in causes:
        if row.status in FAILURES:
            yield FailedStep(step=row.step, name=plain(row.name), error=plain(error_text(reader, row.error_id) or ""))
    if not causes:
        yield FailedStep(step=None, name=plain(run.name), error=plain(error_text(reader, run.error_id) or ""))


def _edited_steps(reader: Reader, rows: Sequence[StepRow]) -> Iterator[EditView]:
    recorded: dict[tuple[str, Digest], None] = {(row.name, row.code): None for row in rows if row.code}
    for name, code in recorded:
        spec = REGISTRY.step(name)
        if spec is None or code in {spec.code, spec.tracked.own}:
            continue
        for change in changes_since(reader.definition, code, spec.tracked.parts):
            yield EditView(name=plain(name), reason=plain(change.reason), diff=plain(diff(change)))


def _edited_flow(reader: Reader, run: RunRow) -> Iterator[EditView]:
    """Yield the edit of the flow's own source; what its steps are is said of them."""
    import difflib

    spec, stored = REGISTRY.step(run.name), reader.definition(run.definition_id)
    if spec is None or stored is None or stored.kind != run.kind:
        return
    then, now = stored.source.splitlines(), source_of(spec.function).splitlines()
    if then and now and then != now:
        lines = difflib.unified_diff(then, now, f"{run.name} (then)", f"{run.name} (now)", lineterm="")
        yield EditView(name=plain(run.name), reason=plain(f"edited: `{run.name}`"), diff=plain("\n".join(lines)))


def _missing(engine: Engine, run: RunRow, planned: Sequence[Planned]) -> tuple[str, ...]:
    found = dict.fromkeys(each.row.name for each in planned if each.action is Action.MISSING)
    is_defined = False
    with suppress(FlowNotDefined, UntrustedRun):
        REGISTRY.definition(run, engine)
        is_defined = True
    return (*found,) if is_defined else (run.name, *found)
