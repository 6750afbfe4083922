"""Redaction: one recorded value is erased for ever, and a marker says who did it, when and why.

The value is erased where it came from this step: in the rows of the run, of its children and parents, and of runs that
took the result over, as output and as argument; in the table of values, in its file, among the results for all runs,
and in the log of the step. An equal value that another run has computed itself is that run's own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from ironflow_nb.core.events import RecordedEvent, RunRedacted, StepRedacted
from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.run_state import RunRow, StepRow, evolve_run, evolve_step
from ironflow_nb.core.status import ENDED
from ironflow_nb.errors import JournalError, NothingToDo
from ironflow_nb.execution import Engine, logger, person
from ironflow_nb.history.lookup import resolve_step
from ironflow_nb.history.run_status import run_and_status, statuses_of
from ironflow_nb.journal.ports import Addition, Durability, QueueSelect, Reader, RunCommit, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.retention.run_outlines import Outlines
from ironflow_nb.retention.unused_values import UnusedValues, remove_files, remove_unused
from ironflow_nb.retention.vacuum import vacuum
from ironflow_nb.values.codecs import INPUTS, NOT_KEPT, REDACTED, REFERENCE
from ironflow_nb.values.stored_value import StoredValue, fits_row, value_id
from ironflow_nb.values.tagged import TAG

_ENCODER: Final = msgspec.json.Encoder()


REDACTION: Final = "redaction"
"""The kind of an item in the queue of work: a value, whose id is the key, is to be removed."""


class RedactedRows(Addition, frozen=True):
    """Other rows that have the values: results for all runs, and the log of the step.

    Items of the queue say that the values themselves are not removed yet; `scope` are the runs that had them.
    """

    ids: tuple[ValueId, ...]
    of: tuple[RunId, str, int]
    scope: tuple[RunId, ...]

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted or replaced is overwritten with zeros
        connection.executemany("DELETE FROM cached WHERE output_id = ?", [(each,) for each in self.ids])
        connection.execute('DELETE FROM logs WHERE run_id = ? AND name = ? AND "index" = ?', self.of)
        connection.executemany(
            "INSERT OR IGNORE INTO work (run_id, kind, key, due_at, created_at) VALUES (?, ?, ?, 0, 0)",
            [(one, REDACTION, each.hex()) for one in self.scope for each in self.ids],
        )


class RedactionFinished(Addition, frozen=True):
    """The values are removed."""

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute("DELETE FROM work WHERE kind = ?", (REDACTION,))


def redact_step(engine: Engine, run_id: RunId, step: object, reason: str | None) -> int:
    """Erase the output of the step; return the number of rows that had it.

    Raises:
        RunNotFound: there is no such run.
        StepNotFound, AmbiguousStep: it names no step of the run, or several.
        NothingToDo: the step has no output, or a run that has it goes on.
        ValueError: the reason is no text.
    """
    if reason is not None:
        a_text("reason", reason)
    engine.flush()
    with engine.reading() as reader:
        attempts = reader.steps(Select(run_ids=[run_id]))
        if not attempts:  # a missing run is reported as such
            run_and_status(engine, run_id)
        ref = resolve_step(attempts, step, run_id)
        own = [row for row in attempts if row.step == ref and row.output_id is not None]
        scope = _scope(Outlines(reader), reader, run_id, {row.output_id for row in own if row.output_id})
        found = reader.values([row.output_id for row in own if row.output_id], of=[row.row_key for row in own])
    erased = {key: each for key, each in found.items() if each.codec != REDACTED}
    if not erased:
        raise NothingToDo(f"{ref} of run {run_id} has no output that could be redacted", run_id=run_id)
    n_rows = 0

    def act(reader: Reader) -> list[RunCommit]:
        nonlocal n_rows
        _refuse_going_on(engine, reader, scope)
        redaction = _Redaction(engine, reader, erased, reason)
        commits = [each for one in scope if (each := redaction.of_run(one)) is not None]
        n_rows = redaction.n_rows
        ids = *erased, *redaction.replaced
        rows = RedactedRows(ids, (run_id, own[0].name, own[0].index), tuple(scope))
        # First of all: from then on what is replaced is overwritten, too.
        return [RunCommit(run_id=RunId(""), events=(), additions=(rows,)), *commits]

    engine.access.exchange(act, Durability.POWER)
    finish_redactions(engine)
    return n_rows


def finish_redactions(engine: Engine) -> None:
    """Remove the values that were redacted, also those that a process left behind when it died."""
    with engine.journal.reading() as reader:
        left = reader.work(QueueSelect(kind=REDACTION))
    if not left:
        return
    ids = {ValueId(bytes.fromhex(item.key)) for item in left}
    unused = UnusedValues(engine, ids, but_events_of={item.run_id for item in left})
    unused.look_everywhere()
    remove_unused(engine, unused)
    remove_files(engine, sorted(ids))  # values whose rows were removed before a process died
    _erase_traces(engine)
    finished = RunCommit(run_id=RunId(""), events=(), additions=(RedactionFinished(),))
    engine.access.append([finished], Durability.PROCESS)


def _scope(outlines: Outlines, reader: Reader, run_id: RunId, ids: Collection[ValueId]) -> list[RunId]:
    """Return the runs of the same family, and those that took one of the values over from it."""
    root = outlines.runs[run_id]
    while root.parent_run_id is not None and root.parent_run_id in outlines.runs:
        root = outlines.runs[root.parent_run_id]
    found = dict.fromkeys(outlines.family(root).ids)
    taken: list[RunId] = reader.extension(lambda connection: _taken_over(connection, ids))
    for each in taken:
        parent: RunId | None = each
        while parent is not None and parent in outlines.runs:
            found[parent] = None
            parent = outlines.runs[parent].parent_run_id
    return list(found)


def _taken_over(connection: sqlite3.Connection, ids: Collection[ValueId]) -> list[RunId]:
    query = "SELECT DISTINCT run_id FROM steps WHERE origin_run_id IS NOT NULL AND output_id = ?"
    return [run_id for each in ids for (run_id,) in connection.execute(query, (each,))]


def _refuse_going_on(engine: Engine, reader: Reader, scope: Sequence[RunId]) -> None:
    for run_id, status in statuses_of(engine, reader, reader.runs(Select(run_ids=scope))).items():
        if status not in ENDED:
            raise NothingToDo(
                f"run {run_id}, which has the value, is {status.value}; pause or cancel it, then redact: "
                f"iron.get_run({run_id!r}).pause().wait()",
                run_id=run_id,
            )


class _Redaction:
    """The commits that put markers in the place of values, one for each run."""

    def __init__(
        self, engine: Engine, reader: Reader, erased: Mapping[ValueId, StoredValue], reason: str | None
    ) -> None:
        self._engine, self._reader, self._erased, self._reason = engine, reader, erased, reason
        self._trees = {each.content for each in erased.values() if each.codec == "json"}
        self._by = person()
        at = engine.access.instant(engine.clock.now()).isoformat(timespec="seconds")
        said = {"by": self._by, "at": at} | ({} if reason is None else {"reason": reason})
        content = _ENCODER.encode(said)
        text = f"redacted by {self._by} at {at}{'' if reason is None else f': {reason}'}"
        self._marker = StoredValue(value_id(REDACTED, content), REDACTED, content, len(content), REDACTED, text)
        self.replaced: set[ValueId] = set()
        self.n_rows = 0

    def of_run(self, run_id: RunId) -> RunCommit | None:
        """Return the commit of a run, None if it has none of the values."""
        version, at = self._reader.head(run_id) or (0, 0)
        at = max(at, self._engine.clock.now())
        events: list[RecordedEvent] = []
        values: list[StoredValue] = []
        steps: list[StepRow] = []
        run = before = self._reader.runs(Select(run_ids=[run_id]))[0]
        rows: list[StepRow | RunRow] = [*self._reader.steps(Select(run_ids=[run_id])), before]
        for row in rows:
            changed = self._changed(row, values)
            if changed is None:
                continue
            self.n_rows += 1
            version += 1
            if isinstance(row, RunRow):
                recorded = RecordedEvent(version, at, RunRedacted(by=self._by, reason=self._reason, **changed))
                run = evolve_run(run_id, run, recorded)
            else:
                event = StepRedacted(by=self._by, reason=self._reason, **changed)
                recorded = RecordedEvent(version, at, event, row.step, row.attempt)
                after = evolve_step(run_id, row, recorded)
                assert after is not None
                steps.append(after)
            events.append(recorded)
        if not events:
            return None
        return RunCommit(
            run_id=run_id,
            events=tuple(events),
            run=None if run is before else run,
            run_before=before,
            steps=tuple(steps),
            values=(self._marker, *(each for each in values if not fits_row(each))),
            row_values=tuple(each for each in values if fits_row(each)),
        )

    def _changed(self, row: RunRow | StepRow, values: list[StoredValue]) -> dict[str, Any] | None:
        """Return the new ids of the output and inputs of a row, None if it has none of the values."""
        changed: dict[str, Any] = {}
        if row.output_id in self._erased:
            changed["output"] = self._marker.value_id
        inputs = None if row.inputs_id is None else self._without_arguments(row, row.inputs_id)
        if inputs is not None:
            values.append(inputs)
            changed["inputs"] = inputs.value_id
        return changed or None

    def _without_arguments(self, row: RunRow | StepRow, inputs_id: ValueId) -> StoredValue | None:
        """Return the record of the call without the arguments that are one of the values, None if there are none."""
        record = self._reader.values([inputs_id], of=[row.row_key]).get(inputs_id)
        if record is None or record.content is None or record.codec != INPUTS:
            return None
        fields = msgspec.json.decode(record.content, type=dict[str, msgspec.Raw])
        erased = {name for name, each in fields.items() if self._is_erased(each)}
        if not erased:
            return None
        self.replaced.add(inputs_id)
        kept = {name: {TAG: NOT_KEPT, "c": REDACTED} if name in erased else each for name, each in fields.items()}
        content = _ENCODER.encode(kept)
        return StoredValue(value_id(INPUTS, content), INPUTS, content, len(content), INPUTS)

    def _is_erased(self, argument: msgspec.Raw) -> bool:
        if bytes(argument) in self._trees:
            return True
        tree = msgspec.json.decode(argument)
        return isinstance(tree, dict) and tree.get(TAG) == REFERENCE and bytes.fromhex(tree["v"]) in self._erased


def _erase_traces(engine: Engine) -> None:
    """Write the journal anew: its log and the free space in it may have copies of former rows."""
    if not isinstance(engine.journal, SqliteJournal):
        return
    try:
        vacuum(engine=engine)
    except JournalError as error:
        logger().warning(
            "no row has the redacted value any more, but the log and the free space of %s may, until iron.vacuum() has "
            "written it anew: %s",
            engine.journal.path,
            error,
        )
