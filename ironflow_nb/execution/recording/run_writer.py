"""The writer of one run: it numbers events, folds them into rows, and commits both.

Events that need not be durable yet, `RunStarted` of a new run and `StepStarted`, wait for the next commit. Versions and
rows of the writer change only after COMMIT returned, so an error, an interrupt or a conflict leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from ironflow_nb.code_identity.code_parts import encode_parts
from ironflow_nb.core.events import RecordedEvent, RunEvent
from ironflow_nb.core.identity import Digest, RunId, StepRef
from ironflow_nb.core.run_state import RunRow, StepRow, evolve_run, evolve_step
from ironflow_nb.errors import JournalError
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import JournalAccess, RunStorage
from ironflow_nb.journal.ports import CachedResult, Durability, RunCommit, StoredDefinition
from ironflow_nb.values.stored_value import StoredValue


class PendingEvent(msgspec.Struct, frozen=True):
    """An event to record, with its step and attempt, the row of the attempt before it, and values to store.

    `cached` is the result of the step for all runs.
    """

    event: RunEvent
    step: StepRef | None = None
    attempt: int | None = None
    before: StepRow | None = None
    values: Sequence[StoredValue] = ()
    cached: CachedResult | None = None


class RunWriter:
    """Writes the events of one run for its owner.

    `is_seen` is True while results are pending that the flow has seen: they must be committed before anything is done
    because of them.

    Lock: session.
    """

    def __init__(self, access: JournalAccess, run_id: RunId, durability: Durability) -> None:
        self.access = access
        self.run_id = run_id
        self.durability = durability
        self.version = 0
        self.at = 0
        self.row: RunRow | None = None
        self._stored_row: RunRow | None = None
        self.is_seen = False
        self._events: list[RecordedEvent] = []
        self._run: RunRow | None = None
        self._steps: dict[tuple[StepRef, int], StepRow] = {}
        self._values: list[StoredValue] = []
        self._definitions: list[StoredDefinition] = []
        self._defined: set[Digest] = set()
        self._taken: list[int] = []
        self._cached: list[CachedResult] = []

    @property
    def is_pending(self) -> bool:
        """Return True if something waits for the next commit."""
        return bool(self._events or self._steps or self._definitions or self._cached)

    def go_on_after(self, version: int, at: int, row: RunRow) -> None:
        """Take the run as the journal holds it: its newest event is of that version and instant."""
        self.version, self.at = version, max(at, self.at)
        self.row = self._stored_row = row

    def take(self, signal_id: int) -> None:
        """Add to the next commit with an event that a signal was taken notice of."""
        self._taken.append(signal_id)

    def give_back(self, claim: CachedResult) -> None:
        """Add to the next commit that a result for all runs is not computed here any more."""
        self._cached.append(claim)

    def define(self, definition: StoredDefinition) -> None:
        """Add the definition of the run, or of one of its steps, to the next commit."""
        self._definitions.append(definition)

    def define_step(self, spec: StepSpec, code: Digest, storage: RunStorage) -> None:
        """Add to the next commit what the code of the step consists of: so any process can tell what was edited."""
        if code in self._defined:
            return
        self._defined.add(code)
        tracked = spec.tracked
        if code not in self.access.defined and tracked.digest == code:
            parts = encode_parts(tracked)
            of_step = StoredDefinition(definition_id=code, kind="step", name=spec.name, source=parts, diagram="")
            self.define(storage.definition(of_step))

    def defer(self, pending: PendingEvent) -> StepRow | None:
        """Add the event to the next commit; return the attempt that it concerns, as it is after it."""
        recorded = self._recorded(pending, self.version + len(self._events) + 1, self.at)
        self.at = recorded.at
        self._events.append(recorded)
        self._values += pending.values
        if pending.step is None:
            after = evolve_run(self.run_id, self.row, recorded)
            if after is not self.row:
                self._run = self.row = after
            return None
        row = evolve_step(self.run_id, pending.before, recorded)
        if row is not None:
            self.put(row)
        return row

    def put(self, row: StepRow) -> None:
        """Add a changed row to the next commit."""
        self._steps[row.step, row.attempt] = row

    def commit(self, *pending_events: PendingEvent) -> list[StepRow | None]:
        """Write all that is pending and the events in one transaction; return the attempt of each event after it.

        Raises:
            JournalConflict: another engine appended to the run.
            JournalError: the journal refuses; nothing was written and everything pending stays so.
        """
        events = [*self._events]
        steps = dict(self._steps)
        values = [*self._values]
        run, at = self.row, self.at
        rows: list[StepRow | None] = []
        for pending in pending_events:
            recorded = self._recorded(pending, self.version + len(events) + 1, at)
            at = recorded.at
            events.append(recorded)
            values += pending.values
            row = None
            if pending.step is None:
                run = evolve_run(self.run_id, run, recorded)
            elif (row := evolve_step(self.run_id, self._before(pending, steps), recorded)) is not None:
                steps[row.step, row.attempt] = row
            rows.append(row)
        cached = [*self._cached, *(pending.cached for pending in pending_events if pending.cached is not None)]
        if not (events or steps or cached or self._definitions):
            return rows
        is_run_changed = run is not self.row or self._run is not None
        commit = RunCommit(
            run_id=self.run_id,
            events=tuple(events),
            run=run if is_run_changed else None,
            run_before=self._stored_row,
            steps=tuple(steps.values()),
            values=tuple(values),
            definitions=tuple(self._definitions),
            taken=tuple(self._taken) if events else (),
            cached=tuple(cached),
        )
        self.access.append([commit], self.durability)
        # After COMMIT: an error before it leaves the writer as it was.
        self.version += len(events)
        self.at, self.row = at, run
        if is_run_changed:
            self._stored_row = run
        self._definitions.clear()
        self._cached.clear()
        if events:
            self._taken.clear()
        self._forget_pending()
        return rows

    def give_up(self) -> None:
        """Drop everything pending, because the run belongs to another owner now, and only end the claims.

        If the journal refuses that, they stay pending.
        """
        self._definitions.clear()
        self._taken.clear()
        self._forget_pending()
        with suppress(JournalError):
            self.commit()

    def _forget_pending(self) -> None:
        self._events.clear()
        self._steps.clear()
        self._values.clear()
        self._run = None
        self.is_seen = False

    @staticmethod
    def _before(pending: PendingEvent, steps: Mapping[tuple[StepRef, int], StepRow]) -> StepRow | None:
        """Return the attempt before the pending event: what this very commit makes of it, or what that says."""
        assert pending.step is not None
        assert pending.attempt is not None
        return steps.get((pending.step, pending.attempt), pending.before)

    def _recorded(self, pending: PendingEvent, version: int, not_before: int) -> RecordedEvent:
        at = max(self.access.clock.now(), not_before)
        return RecordedEvent(version, at, pending.event, pending.step, pending.attempt)
