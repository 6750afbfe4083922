"""Deletion of runs: which of them nothing needs any more, and their removal in commits of a bounded size.

Children go with their parent. A run is kept while any part of it goes on, while a fork of it exists, and while a run
that is built on it may need it: such a run can be continued, or has taken over a child.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from ironflow_nb.core.events import RecordedEvent, RunDeleted
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import ENDED, OWNED, RunStatus
from ironflow_nb.errors import NothingToDo, RunNotFound
from ironflow_nb.execution import Engine, person, signature_id
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.ports import Durability, QueueSelect, Reader, RunCommit, Select
from ironflow_nb.retention.redaction import finish_redactions
from ironflow_nb.retention.run_outlines import DELETABLE, Family, Outlines
from ironflow_nb.retention.run_rows import (
    ROWS_AT_ONCE,
    DeletionFinished,
    RowsDeleted,
    RunOutline,
    RunRows,
    RunRowsDeleted,
)
from ironflow_nb.retention.unused_values import let_others_write, sweep_values

_RUNS_AT_ONCE: Final = 40


def deletable(
    outlines: Outlines, roots: Iterable[RunOutline], statuses: Mapping[RunId, RunStatus], queued: Collection[RunId] = ()
) -> tuple[list[Family], dict[RunId, str]]:
    """Divide the runs: those that can go with their families, and why the others, by id, are kept.

    `statuses` are derived ones, where they differ from what is recorded; runs in `queued` have work to be done. What
    one of them needs is kept with it, so they are looked at again until no other one is kept.
    """
    going = {root.run_id: outlines.family(root) for root in roots}
    kept = {root: why for root, family in going.items() if (why := _goes_on(family, outlines.runs, statuses, queued))}
    for root in kept:
        del going[root]
    while True:
        members = {run_id for family in going.values() for run_id in family.ids}
        needed = {root: why for root, family in going.items() if (why := outlines.needed_by(family, members))}
        if not needed:
            return list(going.values()), kept
        kept |= needed
        for root in needed:
            del going[root]


def delete_run(engine: Engine, run_id: RunId) -> int:
    """Delete a run and its children for ever; return the number of runs that are gone.

    Raises:
        RunNotFound: there is no such run.
        ValueError: it is a child, or no run of a flow or graph.
        NothingToDo: it goes on, or another run needs it.
    """
    engine.flush()
    with engine.reading() as reader:
        outlines = Outlines(reader)
        family = outlines.family(outlines.runs[run_id]).ids if run_id in outlines.runs else ()
        statuses = statuses_of(engine, reader, reader.runs(Select(run_ids=family)))
    root = outlines.runs.get(run_id)
    if root is None:
        raise RunNotFound(f"there is no run {run_id} in {engine.journal.location}", run_id=run_id)
    _refuse(root, statuses[run_id])
    families, kept = deletable(outlines, [root], statuses)
    if not kept:
        kept = delete_families(engine, families, outlines.position)
    if kept:
        raise NothingToDo(f"run {run_id} is not deleted: {kept[run_id]}", run_id=run_id)
    return len(families[0].members)


def _refuse(root: RunOutline, status: RunStatus) -> None:
    if root.kind not in DELETABLE:
        raise ValueError(
            f"run {root.run_id} is of {root.kind} {root.name}; what is deleted are runs of flows and graphs, and the "
            f"others stay as long as their journal"
        )
    if root.parent_run_id is not None:
        raise ValueError(
            f"run {root.run_id} is a child of run {root.parent_run_id} and goes with it; delete that one: "
            f"iron.get_run({root.parent_run_id!r}).delete()"
        )
    if status not in ENDED:
        raise NothingToDo(
            f"run {root.run_id} is {status.value}, and what goes on is not deleted; end it first: "
            f"iron.get_run({root.run_id!r}).cancel().wait()",
            run_id=root.run_id,
        )


def delete_families(
    engine: Engine, families: Sequence[Family], position: int, *, spares_queued: bool = False
) -> dict[RunId, str]:
    """Delete the runs, and the values that nothing else refers to; return by id why some were kept after all.

    `position` is that at which they were chosen. With `spares_queued` a run is kept for which work is still queued.
    """
    kept: dict[RunId, str] = {}
    finish_redactions(engine)
    finish_deletions(engine)
    for batch in _batches(engine, families):
        kept |= _delete_batch(engine, batch, position, spares_queued=spares_queued)
        finish_deletions(engine)
    sweep_values(engine)
    return kept


def _batches(engine: Engine, families: Sequence[Family]) -> Iterator[list[Family]]:
    """Yield the families in batches of few rows."""
    for start in range(0, len(families), _RUNS_AT_ONCE):
        chunk = families[start : start + _RUNS_AT_ONCE]
        with engine.journal.reading() as reader:
            sizes = reader.extension(RunRows).sizes([run_id for family in chunk for run_id in family.ids])
        batch: list[Family] = []
        n_rows = 0
        for family in chunk:
            size = sum(sizes.get(run_id, 0) for run_id in family.ids)
            if batch and n_rows + size > ROWS_AT_ONCE:
                yield batch
                batch, n_rows = [], 0
            batch.append(family)
            n_rows += size
        yield batch


def _delete_batch(engine: Engine, batch: Sequence[Family], position: int, *, spares_queued: bool) -> dict[RunId, str]:
    """Delete the rows of the runs themselves, unless something of them goes on, or another run needs them, by now."""
    kept: dict[RunId, str] = {}

    def act(reader: Reader) -> list[RunCommit]:
        kept.clear()
        rows = {row.run_id: row for row in reader.runs(Select(run_ids=[each for f in batch for each in f.ids]))}
        statuses = statuses_of(engine, reader, [row for row in rows.values() if row.status in OWNED])
        needed = {origin for _, origin in reader.extension(RunRows).beginnings(position) if origin is not None}
        queued: set[RunId] = set()
        if spares_queued:
            queued = {item.run_id for item in reader.work(QueueSelect(run_ids=rows.keys(), is_dead=False))}
        going: list[RunRow] = []
        for family in batch:
            root = family.members[0].run_id
            why = _goes_on(family, rows, statuses, queued) or _is_needed(family, needed)
            if why is None:
                going += [rows[run_id] for run_id in family.ids]
            elif root in rows:
                kept[root] = why
        return list(_commits(engine, reader, going))

    engine.access.exchange(act, Durability.PROCESS)  # the last commit of all is written to the disk with what is before
    let_others_write(engine)
    return kept


def _goes_on(
    family: Family,
    rows: Mapping[RunId, RunRow] | Mapping[RunId, RunOutline],
    statuses: Mapping[RunId, RunStatus],
    queued: Collection[RunId],
) -> str | None:
    """Return why the family can't be deleted: something of it goes on; None if nothing does."""
    for run_id in family.ids:
        row = rows.get(run_id)
        if row is None:
            return "it is gone already"
        status = statuses.get(run_id, row.status)
        if status not in ENDED:
            return f"run {run_id} is {status}"
        if run_id in queued:
            return f"work of run {run_id} is still to be done; iron.work() shows it"
    return None


def _is_needed(family: Family, needed: Collection[RunId]) -> str | None:
    found = next((run_id for run_id in family.ids if run_id in needed), None)
    return None if found is None else f"a run that has just begun is built on run {found}"


def _commits(engine: Engine, reader: Reader, going: Sequence[RunRow]) -> Iterator[RunCommit]:
    """Yield commits that end the runs for ever: their last version is taken, so nobody can append to them."""
    by = person()
    deletion = RunRowsDeleted(tuple(row.run_id for row in going), tuple(map(signature_id, going)))
    for n, row in enumerate(going, 1):
        version, at = reader.head(row.run_id) or (0, 0)
        event = RunDeleted(kind=row.kind, name=row.name, by=by)
        recorded = RecordedEvent(version + 1, max(at, engine.clock.now()), event)
        additions = (deletion,) if n == len(going) else ()
        yield RunCommit(run_id=row.run_id, events=(recorded,), additions=additions)


def finish_deletions(engine: Engine) -> None:
    """Delete the rows that deleted runs have left, those that a process left behind when it died, too."""
    with engine.journal.reading() as reader:
        left = tuple(reader.extension(RunRows).unfinished_deletions())
    while left:
        is_done = _delete_rows(engine, left[:_RUNS_AT_ONCE])
        left = left[_RUNS_AT_ONCE:] if is_done else left


def _delete_rows(engine: Engine, run_ids: tuple[RunId, ...]) -> bool:
    """Delete some rows of deleted runs; return True if none are left."""
    is_done = False

    def act(reader: Reader) -> list[RunCommit]:
        nonlocal is_done
        is_done = not reader.extension(RunRows).has_rows(run_ids)
        addition = DeletionFinished(run_ids) if is_done else RowsDeleted(run_ids)
        return [RunCommit(run_id=RunId(""), events=(), additions=(addition,))]

    engine.access.exchange(act, Durability.PROCESS)
    let_others_write(engine)
    return is_done
