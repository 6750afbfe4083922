"""The moments of a run, for a slider: each one is folded from the events, and what came later is a ghost."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import ENDED, StepStatus
from ironflow_nb.core.wait_rules import is_shown
from ironflow_nb.diagram.draw import draw_parts, draw_shown
from ironflow_nb.diagram.svg import element_id
from ironflow_nb.execution import Engine
from ironflow_nb.handles.slider import ShownMoment
from ironflow_nb.handles.snapshot import KnownSteps, Snapshot, known_steps, snapshot_of
from ironflow_nb.history.recorded_values import CONTENT_LIMIT, preview
from ironflow_nb.history.run_history import RunHistory
from ironflow_nb.journal.ports import EventRow, Reader, Select
from ironflow_nb.views.moment_view import (
    ChangeView,
    DifferenceView,
    SliderView,
    change_words,
    is_failure,
    is_of_note,
    marks_of,
)
from ironflow_nb.views.run_view import NodeView

MOST_DIFFERENCES: Final = 200


class RunMoments:
    """The moments of one run. What is known by now is read again when the run has grown."""

    def __init__(self, engine: Engine, history: RunHistory) -> None:
        self.engine = engine
        self._history = history
        self._rows: list[EventRow] = []
        self._known: KnownSteps | None = None
        self._view: SliderView | None = None

    @property
    def _run_id(self) -> RunId:
        return self._history.run_id

    def look(self) -> SliderView:
        """See `Moments`."""
        with self.engine.reading() as reader:
            head = reader.head(self._run_id)
            if self._view is not None and head is not None and head[0] == self._view.newest:
                return self._view
            newest = self._history.event_at(reader, None)
            self._rows += self._events_after(reader, len(self._rows))
            state = self._history.state(reader, newest.version)
            assert state.run is not None
            self._known = known_steps(reader, state)
        notable = [_change(row) for row in self._rows if is_of_note(row.type)]
        self._view = SliderView(
            title=plain(f"run {self._run_id} of {state.run.name}"), newest=newest.version, newest_at=newest.at,
            began_at=state.run.started_at, is_over=state.run.status in ENDED, marks=marks_of(notable),
        )  # fmt: skip
        return self._view

    def _events_after(self, reader: Reader, version: int) -> list[EventRow]:
        return reader.events(Select(run_ids=[self._run_id], after_version=version))

    def changes(self, after: int = 0, until: int | None = None) -> list[ChangeView]:
        """See `Moments`."""
        return [_change(row) for row in self._rows[after:until]]

    def moment(self, version: int) -> ShownMoment:
        """See `Moments`."""
        view = self._snapshot(version).view(self._known)
        prefix = f"iron-moment-{self._run_id}"
        ghosts = tuple(element_id(each.node.id, prefix) for each in view.nodes if _is_ghost(each))
        parts = draw_parts(view.shown, prefix=prefix)
        draw = partial(draw_shown, view.shown, prefix=prefix)
        return ShownMoment(_change(self._rows[version - 1]), view.status, parts, draw, ghosts)

    def differences(self, before: int, after: int) -> list[DifferenceView]:
        """See `Moments`."""
        first, last = ({row.step: row for row in self._snapshot(version).latest()} for version in (before, after))
        changed = [step for step in {**first, **last} if _seen(first.get(step)) != _seen(last.get(step))]
        shown = [step for step in changed if is_shown((last.get(step) or first[step]).name)][:MOST_DIFFERENCES]
        rows = [row for step in shown for row in (first.get(step), last.get(step)) if row is not None]
        ids = {value for row in rows for value in (row.output_id, row.error_id) if value is not None}
        with self.engine.reading() as reader:
            values = reader.values(ids, of=[row.row_key for row in rows], content_limit=CONTENT_LIMIT)
        texts = {key: preview(stored) for key, stored in values.items()}
        return [
            DifferenceView(name=plain(step), before=_words(first.get(step), texts), after=_words(last.get(step), texts))
            for step in shown
        ]

    def _snapshot(self, version: int) -> Snapshot:
        return snapshot_of(self.engine, self._history, version, None)


def _change(row: EventRow) -> ChangeView:
    words = change_words(row.type, row.step, row.attempt)
    return ChangeView(version=row.version, at=row.at, words=words, is_failure=is_failure(row.type))


def _is_ghost(view: NodeView) -> bool:
    """Return True if nothing of the node had begun. A queued step has a reason, what came later has none."""
    state = view.state
    return state is not None and state.n(StepStatus.PENDING) == state.n_total and not state.reasons


def _seen(row: StepRow | None) -> object:
    return row and (row.status, row.attempt, row.output_id, row.error_id)


def _words(row: StepRow | None, texts: Mapping[ValueId, str | None]) -> str | None:
    """Return the status of a step with its output or error; None if it had not begun."""
    if row is None:
        return None
    said = next((texts[each] for each in (row.error_id, row.output_id) if each is not None and each in texts), None)
    again = f", attempt {row.attempt}" if row.attempt > 1 else ""
    return f"{row.status.value}{again}{'' if said is None else f': {said}'}"
