"""The past states of one run, folded from its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ironflow_nb.core.event_codec import decode_event
from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.moments import Moment, Span, located
from ironflow_nb.core.run_state import RunState, evolve
from ironflow_nb.core.status import ENDED
from ironflow_nb.errors import RunNotFound, VersionNotFound
from ironflow_nb.execution import Engine
from ironflow_nb.journal.ports import EventRow, Reader, Select

_EVERY: Final = 1_000
_MOST: Final = 32


class RunHistory:
    """Folds the states of a run, and keeps some as checkpoints: the events between two of them are read at most.

    Lock: none; threads that fold at the same time keep equal checkpoints.
    """

    def __init__(self, engine: Engine, run_id: RunId) -> None:
        self.run_id = run_id
        self._engine = engine
        self._checkpoints: dict[int, RunState] = {}

    def event_at(self, reader: Reader, at: Moment | None, position: int | None = None) -> EventRow:
        """Return the event that was the newest at that moment, or the one of that position in the journal.

        Raises:
            RunNotFound: there is no such run.
            VersionNotFound: the run has no such version, did not exist at that instant, or not any more.
            TypeError, ValueError: that is no moment, or two are given.
        """
        span = self._span(reader)
        if position is not None:
            if at is not None:
                raise ValueError(f"give a version or an instant, or position=, and not both: {at!r}, {position!r}")
            return self._event_of_position(reader, position, span)
        version, instant = (span.newest, None) if at is None else located(at, span)
        if version is not None:
            return self._event(reader, version)
        assert instant is not None
        return self._last(reader, span, lambda row: row.at <= instant)

    def state(self, reader: Reader, version: int) -> RunState:
        """Return the state of the run after its event of that version.

        Raises:
            JournalCorrupt: no run can have such a history.
        """
        known = max((each for each in list(self._checkpoints) if each <= version), default=0)
        state = _copied(self._checkpoints[known]) if known else RunState(self.run_id)
        every = max(_EVERY, version // _MOST)
        chosen = Select(run_ids=[self.run_id], after_version=known, until_version=version)
        for row in reader.events(chosen):
            recorded = RecordedEvent(row.version, row.at, decode_event(row.type, row.data), row.step, row.attempt)
            evolve(state, recorded)
            if row.version - known >= every:
                known = row.version
                self._checkpoints[known] = _copied(state)
        return state

    def _span(self, reader: Reader) -> Span:
        found, head = reader.runs(Select(run_ids=[self.run_id])), reader.head(self.run_id)
        if not found and self.run_id not in self._engine.sessions:
            where = self._engine.journal.location
            raise RunNotFound(f"there is no run {self.run_id} in {where}", run_id=self.run_id)
        if not found or head is None:
            raise VersionNotFound(f"nothing of run {self.run_id} is recorded yet", run_id=self.run_id, newest=0)
        [run] = found
        is_over = run.status in ENDED
        until = head[1] if is_over else max(self._engine.clock.now(), head[1])
        return Span(
            what=f"run {run.run_id}", newest=head[0], began_at=run.started_at, until=until, is_over=is_over,
            ids={"run_id": run.run_id},
        )  # fmt: skip

    def _event(self, reader: Reader, version: int) -> EventRow:
        [row] = reader.events(Select(run_ids=[self.run_id], after_version=version - 1, until_version=version))
        return row

    def _event_of_position(self, reader: Reader, position: int, span: Span) -> EventRow:
        row = None
        if position >= self._event(reader, 1).position:
            row = self._last(reader, span, lambda row: row.position <= position)
        if row is None or row.position != position:
            raise VersionNotFound(
                f"position {position} of the journal is no event of {span.what}; run.events() lists those that are",
                run_id=self.run_id,
                newest=span.newest,
            )
        return row

    def _last(self, reader: Reader, span: Span, is_reached: Callable[[EventRow], bool]) -> EventRow:
        """Return the newest event that is reached: instants and positions grow with versions."""
        low, high = 1, span.newest
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if is_reached(self._event(reader, middle)) else (low, middle - 1)
        return self._event(reader, low)


def _copied(state: RunState) -> RunState:
    return RunState(state.run_id, state.version, state.run, dict(state.steps), dict(state.n_attempts))
