"""Pruning: the deletion of runs that ended long ago, or are not among the newest of their flow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.option_values import a_limit
from ironflow_nb.core.status import CLOSED, ENDED, OWNED, RunStatus
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.lookup import When, instant_us, parse_statuses, selection_of
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import QueueSelect, Reader, Select
from ironflow_nb.retention.deletion import deletable, delete_families
from ironflow_nb.retention.run_outlines import DELETABLE, Outlines
from ironflow_nb.retention.run_rows import RunOutline

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS: Final = {
    "run_id": TEXT, "kind": TEXT, "name": TEXT, "status": TEXT, "ended_at": INSTANT, "n_children": "int64",
    "kept": TEXT,
}  # fmt: skip
_ENDED_FOR_GOOD: Final = CLOSED | {RunStatus.FAILED}


def prune(
    flow: object | None = None,
    *,
    older_than: When = None,
    keep: int | None = None,
    status: str | Collection[str] | None = None,
    dry_run: bool = True,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Return the runs that would be deleted for ever; with ``dry_run=False`` delete them.

    Runs of flows and graphs go, with their children, and with the values and value files that nothing else refers to.
    Results of steps with ``cache=`` stay, for they are those of all runs. Others write meanwhile, and after a death in
    the middle the next call goes on with what is left. The file does not get smaller: new rows take the space, and
    `vacuum` gives it back.

    Columns: run_id, kind, name, status, ended_at, n_children (that go with it), kept (empty for a run that goes, else
    why it stays: it goes on, work of it is queued, a fork of it exists, or a run that can be continued is built on it).
    Newest first.

    Args:
        flow: only runs of this flow or graph, or of the one with this name.
        older_than: only runs that ended before: a datetime (local, if it is naive), an ISO text, or a duration before
            now: ``"30d"``, seconds, a timedelta.
        keep: of each flow this many of its newest runs stay.
        status: one status or several; by default completed, failed and cancelled. Runs that are paused or interrupted
            can be continued, and go only if they are named here.
        dry_run: only list them.
        engine: the journal to prune; by default the current one.

    Raises:
        ValueError: none of `flow`, `older_than`, `keep` and `status` was given, or one of them is invalid.
    """
    engine = engine or REGISTRY.engine()
    if flow is None and older_than is None and keep is None and status is None:
        raise ValueError('all runs would go; say which: iron.prune(older_than="30d"), keep=10, status="failed", flow=')
    wanted = _statuses(status)
    n_kept = None if keep is None else a_limit("keep", keep)
    with engine.reading() as reader:
        names = _names(engine, reader, flow)
        outlines = Outlines(reader)
        before = None if older_than is None else instant_us(older_than, engine.clock.now()) or 0
        statuses = _derived(engine, reader, outlines)
        roots = _chosen(outlines, statuses, names, wanted, before, n_kept)
        queued = {item.run_id for item in reader.work(QueueSelect(is_dead=False))}
    families, kept = deletable(outlines, roots, statuses, queued)
    if not dry_run:
        kept |= delete_families(engine, families, outlines.position, spares_queued=True)
    return _frame(outlines, roots, kept)


def _statuses(given: str | Collection[str] | None) -> frozenset[RunStatus]:
    wanted = parse_statuses(RunStatus, given)
    if wanted is None:
        return _ENDED_FOR_GOOD
    if not wanted <= ENDED:
        going_on = ", ".join(sorted(wanted - ENDED))
        raise ValueError(f"what goes on is not deleted, so status can't be {going_on}; cancel these runs first")
    return wanted


def _names(engine: Engine, reader: Reader, flow: object | None) -> set[str] | None:
    if flow is None:
        return None
    select = selection_of(engine, reader, flow=flow, run=None, since=None)
    found = reader.runs(Select(name=select.run_name, is_full_name=select.is_full_name))
    return {row.name for row in found}


def _chosen(
    outlines: Outlines,
    statuses: Mapping[RunId, RunStatus],
    names: set[str] | None,
    wanted: Collection[RunStatus],
    before: int | None,
    n_kept: int | None,
) -> list[RunOutline]:
    """Return the runs that fit, the newest first, without those of each flow that `keep` protects."""
    n_of_flow: dict[tuple[str, str], int] = {}
    roots: list[RunOutline] = []
    for run in outlines.runs.values():
        if run.kind not in DELETABLE or run.parent_run_id is not None or (names is not None and run.name not in names):
            continue
        rank = n_of_flow[run.kind, run.name] = n_of_flow.get((run.kind, run.name), 0) + 1
        is_old = before is None or run.ended_at <= before
        if is_old and (n_kept is None or rank > n_kept) and statuses.get(run.run_id, run.status) in wanted:
            roots.append(run)
    return roots


def _derived(engine: Engine, reader: Reader, outlines: Outlines) -> dict[RunId, RunStatus]:
    """Return the statuses of the runs that are recorded as going on: the owner of one may be dead."""
    going_on = [run.run_id for run in outlines.runs.values() if run.status in OWNED and run.kind in DELETABLE]
    return statuses_of(engine, reader, reader.runs(Select(run_ids=going_on))) if going_on else {}


def _frame(outlines: Outlines, roots: Sequence[RunOutline], kept: dict[RunId, str]) -> pd.DataFrame:
    records = [
        {
            "run_id": run.run_id,
            "kind": run.kind,
            "name": run.name,
            "status": str(run.status),
            "ended_at": run.ended_at,
            "n_children": len(outlines.family(run).members) - 1,
            "kept": kept.get(run.run_id, ""),
        }
        for run in roots
    ]
    return frame_of_records(_COLUMNS, records)
