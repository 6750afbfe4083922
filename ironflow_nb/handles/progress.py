"""How far a run is, read from the journal: its steps by name and call site, the totals of its maps, its children."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ironflow_nb.core.events import ItemsCounted, RunStarted, decode_event
from ironflow_nb.core.identity import OWN_PREFIX
from ironflow_nb.core.ids import Digest, RunId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.planning import continuations, not_asked_for
from ironflow_nb.execution.watching import look, statuses_of
from ironflow_nb.journal.ports import PlaceTally, Reader, Select, Tally

_CHILDREN: Final = 5
"""So many runs of the children of one node are told, the newest."""


class ChildRun(NamedTuple):
    """How far the run of a child is."""

    run_id: RunId
    status: RunStatus
    n_done: int
    n_failed: int

    def __str__(self) -> str:
        return f"run {self.run_id}: {self.status}, {self.progress}"

    @property
    def progress(self) -> str:
        """What is done of it, in words."""
        done = f"{self.n_done} step{'' if self.n_done == 1 else 's'} done"
        return f"{done}, {self.n_failed} failed" if self.n_failed else done


class Progress(NamedTuple):
    """What is recorded of a run, and what became of its children; `totals` are those of maps, by name and site."""

    run: RunRow | None
    status: RunStatus
    tallies: Sequence[PlaceTally] = ()
    totals: Mapping[tuple[str, str], int] = {}
    children: Mapping[tuple[str, str], Sequence[ChildRun]] = {}

    @property
    def places(self) -> set[tuple[str, str]]:
        """Names and call sites of all steps that are recorded or expected."""
        return {tally.place for tally in self.tallies} | set(self.totals)


def progress_of(engine: Engine, run_id: RunId) -> Progress:
    """Return how far the run is; the time, ids and chance are no work to look at.

    Of a run that completed is left out what it had no use for any more, as failures of before an edit.
    """
    run, status = look(engine, run_id)
    if run is None:
        return Progress(run, status)
    is_completed = status is RunStatus.COMPLETED
    with engine.ledger.journal.reading() as reader:
        found = reader.places(run_id, without=not_asked_for(reader, run) if is_completed else ())
        # Of steps that never began the diagram itself knows whether they were left out, or the run has not got to them.
        begun = [tally for tally in found if tally.status is not StepStatus.SKIPPED]
        tallies = [tally for tally in begun if not tally.name.startswith(OWN_PREFIX)]
        totals = _totals(reader, run, since=run.session_version if is_completed else 0)
        return Progress(run, status, tallies, totals, _children(engine, reader, tallies))


def _totals(reader: Reader, run: RunRow, *, since: int) -> Counter[tuple[str, str]]:
    """Return how many items the maps and loops have, as far as that was known.

    A series that a later stretch of the run begins again counts as it is there. One that it did not get to counts as it
    was, unless the run has completed without it.
    """
    latest: dict[tuple[str, str, int], ItemsCounted] = {}
    for row in reader.events(Select(run_ids=[run.run_id], name=ItemsCounted.__name__)):
        counted = decode_event(row.type, row.data)
        if row.version >= since and isinstance(counted, ItemsCounted):
            latest[counted.name, counted.branch, counted.nth] = counted
    totals: Counter[tuple[str, str]] = Counter()
    for counted in latest.values():
        totals[counted.name, counted.site] += counted.n_items
    return totals


def _children(
    engine: Engine, reader: Reader, tallies: Iterable[PlaceTally]
) -> dict[tuple[str, str], Sequence[ChildRun]]:
    """Return how far the newest children of each place are."""
    ids: dict[tuple[str, str], list[RunId]] = {}
    for tally in tallies:
        if tally.child_run_id is not None:
            ids.setdefault(tally.place, []).append(tally.child_run_id)
    wanted = [child for children in ids.values() for child in children[-_CHILDREN:]]
    if not wanted:
        return {}
    runs = {run.run_id: run for run in reader.runs(Select(run_ids=wanted))}
    statuses, counted = statuses_of(engine, reader, list(runs.values())), reader.tallies(list(runs))
    return {
        place: [_child(child, statuses[child], counted.get(child, ())) for child in children if child in runs]
        for place, children in ids.items()
    }


def _child(run_id: RunId, status: RunStatus, tallies: Iterable[Tally]) -> ChildRun:
    counts = Counter[StepStatus]()
    for tally in tallies:
        counts[tally.status] += 0 if tally.name.startswith(OWN_PREFIX) else tally.n
    return ChildRun(run_id, status, counts[StepStatus.COMPLETED], counts[StepStatus.FAILED])


def definitions_of(reader: Reader, run: RunRow) -> list[Digest]:
    """Return the ids of the definitions that the run had, oldest first."""
    [started] = reader.events(Select(run_ids=[run.run_id], name=RunStarted.__name__))
    began = decode_event(started.type, started.data)
    assert isinstance(began, RunStarted)
    ids = [began.definition, *(event.definition for _, event in continuations(reader, run))]
    return [Digest(bytes.fromhex(definition)) for definition in dict.fromkeys(ids)]
