"""A snapshot: the state that a run had after one of its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.moments import Moment
from ironflow_nb.core.plain_text import counted, plain
from ironflow_nb.core.run_state import RunRow, RunState, StepRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus, derived_step_status
from ironflow_nb.core.wait_rules import is_shown
from ironflow_nb.execution import Engine
from ironflow_nb.handles.run_picture import bundle_of, drawn, trouble, view_of
from ironflow_nb.handles.run_progress import Progress, definitions_of, sites_of, totals_of
from ironflow_nb.history import frames
from ironflow_nb.history.recorded_values import output_of
from ironflow_nb.history.run_history import RunHistory
from ironflow_nb.journal.ports import Reader, Select, SiteTally

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.views.run_view import RunView


class KnownSteps(NamedTuple):
    """What is known of the steps of a run by now: their latest attempts, and where each was called last."""

    latest: Sequence[StepRow]
    site_of: Mapping[StepRef, str]


def known_steps(reader: Reader, state: RunState) -> KnownSteps:
    """Return what is known of the steps of a run that has this state now."""
    assert state.run is not None
    latest = [state.steps[place] for place in state.n_attempts.items()]
    return KnownSteps(latest, sites_of(reader, state.run))


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a run after its event of that `version`, which has that `position` in the journal; it never changes.

    It displays itself as the diagram of the run as it was then. Snapshots are equal if the states are.
    """

    run_id: RunId
    version: int
    position: int
    at: datetime
    status: RunStatus
    _engine: Engine = field(repr=False)
    _state: RunState = field(repr=False)

    @property
    def waits(self) -> tuple[StepRef, ...]:
        """The steps that waited then: for an instant, a signal or an answer."""
        return tuple(row.step for row, status in self._latest() if status is StepStatus.WAITING)

    @property
    def ghosts(self) -> tuple[StepRef, ...]:
        """The steps that the run is known to have by now, and that had not begun then, by their later beginnings."""
        with self._engine.reading() as reader:
            return tuple(row.step for row in self._later(reader))

    def steps(self) -> pd.DataFrame:
        """Return the steps as they were then; see `ironflow_nb.steps`. Reports of progress are not kept by moment."""
        with self._engine.reading() as reader:
            return frames.steps_of(reader, self._run, self._latest())

    def value(self, step: object) -> Any:
        """Return the output that a step had then, named by its function, ``"fetch"`` or ``"fetch[12]"``.

        Raises:
            StepNotFound, AmbiguousStep: it names no step that had begun then, or several; or it had no output yet.
            ValueUnreadable: the output can't be read here.
        """
        return output_of(self._engine, list(self._state.steps.values()), step, f"{self.run_id}, version {self.version}")

    @property
    def error(self) -> str | None:
        """The error with which the run had failed, in short; None if it had not."""
        with self._engine.reading() as reader:
            return frames.error_text(reader, self._run.error_id)

    def diagram(self) -> Picture:
        """Return the picture of the run as it was then; steps that it had later are pending."""
        try:
            return drawn(self.view())
        except Exception as error:  # noqa: BLE001 -- it is shown in place of a repr, which never raises
            return trouble(self.run_id, error)

    def view(self, known: KnownSteps | None = None) -> RunView:
        """Return what is shown of the run as it was then; `known` is what is known by now, if it was read before."""
        return view_of(self.run_id, self._progress(known))

    def latest(self) -> list[StepRow]:
        """Return the latest attempt that each step had then."""
        return [row for row, _ in self._latest()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._state == other._state

    def __hash__(self) -> int:
        return hash((self.run_id, self.version))

    def __repr__(self) -> str:
        shown = [row for row, _ in self._latest() if is_shown(row.name)]
        n_done = sum(row.status is StepStatus.COMPLETED for row in shown)
        done = f"{n_done} of {counted(len(shown), 'step')} done"
        at = self.at.astimezone().isoformat(" ", "milliseconds")
        return plain(f"<run {self.run_id} of {self._run.name} at version {self.version}, {at}: {self.status}, {done}>")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        picture = bundle_of(self.diagram())
        return picture | {"text/plain": f"{self!r}\n{picture['text/plain']}"}

    def steps_of(self, status: StepStatus) -> set[StepRef]:
        """Return the steps that had that status in the record."""
        return {row.step for row, _ in self._latest() if row.status is status}

    # -- its parts -------------------------------------------------------------------------------------------------

    @property
    def _run(self) -> RunRow:
        assert self._state.run is not None
        return self._state.run

    def _latest(self) -> list[tuple[StepRow, StepStatus]]:
        """Return the latest attempt of each step with its status, which is derived as that of a run of today."""
        rows = (self._state.steps[place] for place in self._state.n_attempts.items())
        return [(row, derived_step_status(row.status, self.status)) for row in rows]

    def _later(self, reader: Reader) -> list[StepRow]:
        now = reader.steps(Select(run_ids=[self.run_id], is_latest=True))
        return [row for row in now if row.step not in self._state.n_attempts]

    def _progress(self, known: KnownSteps | None) -> Progress:
        """Return what a picture of a run shows, as it was then."""
        run = self._run
        with self._engine.reading() as reader:
            latest, site_of = known or KnownSteps(self._later(reader), sites_of(reader, run))
            found = [(row, row.status) for row, _ in self._latest()]
            found += [(row, StepStatus.PENDING) for row in latest if row.step not in self._state.n_attempts]
            tallies = _tallied([each for each in found if is_shown(each[0].name)], site_of)
            totals = totals_of(reader, run, since=0, until=self.version)
            places = {tally.place for tally in tallies} | set(totals)
            definitions = definitions_of(self._engine, reader, run, places)
        at = round(self.at.timestamp() * 1e6)
        return Progress(
            run=run, status=self.status, definitions=definitions, tallies=tallies, totals=totals, n_reused=run.n_reused,
            ended_at=at if self.status not in OWNED else None, now=at,
        )  # fmt: skip


def _tallied(found: list[tuple[StepRow, StepStatus]], site_of: Mapping[StepRef, str]) -> list[SiteTally]:
    counts: Counter[tuple[str, StepStatus, str, RunId | None, str, bool]] = Counter()
    durations: dict[tuple[str, StepStatus, str, RunId | None, str, bool], float] = {}
    for row, status in found:
        why = row.reason if status is StepStatus.SKIPPED else str(row.due_at or "") if row.due_at else ""
        why = why if status in {StepStatus.SKIPPED, StepStatus.WAITING} else ""
        group = row.name, status, site_of.get(row.step, ""), row.child_run_id, why, row.lived_with
        counts[group] += 1
        if row.duration_s is not None and status is not StepStatus.PENDING:  # what came later took no time yet
            durations[group] = durations.get(group, 0.0) + row.duration_s
    return [
        SiteTally(
            name, status, n, durations.get((name, status, site, child, why, lived_with)),
            n_lived_with=n if lived_with else 0, site=site, child_run_id=child, reason=why,
        )
        for (name, status, site, child, why, lived_with), n in counts.items()
    ]  # fmt: skip


def snapshot_of(engine: Engine, history: RunHistory, at: Moment | Snapshot | None, position: int | None) -> Snapshot:
    """Return the snapshot of the run at a moment; see `Run.at`."""
    if isinstance(at, Snapshot):
        if at.run_id != history.run_id:
            raise ValueError(f"the snapshot is of run {at.run_id}, and not of run {history.run_id}")
        return at
    with engine.reading() as reader:
        row = history.event_at(reader, at, position)
        state = history.state(reader, row.version)
    assert state.run is not None
    return Snapshot(
        history.run_id, row.version, row.position, engine.access.instant(row.at), state.run.status, engine, state
    )
