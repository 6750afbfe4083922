"""Removal of values that nothing in the journal refers to any more, and of their files.

References are ids of values: in columns, in the data of events, and in the records of calls. They are looked for in
pieces, while others write: events are append-only, so a reference that is new meanwhile is found by the events since.
That look is repeated in the commit that deletes. A file goes after its row, in a commit of its own.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from ironflow_nb.core.identity import RECIPE, RunId, ValueId, parse_step_ref
from ironflow_nb.execution import Engine, SystemClock
from ironflow_nb.journal.ports import Addition, Durability, Reader, RunCommit
from ironflow_nb.value_store.value_place import large_values
from ironflow_nb.values.codecs import INPUTS
from ironflow_nb.values.stored_value import INLINE_LIMIT, RECORD
from ironflow_nb.values.value_files import LargeValues

YOUNG_S: Final = 3600.0
"""A file without a row is kept for so long: somebody may be about to refer to it."""
_PAUSE_S: Final = 0.015
_EVENTS_AT_ONCE: Final = 20_000
_ROWS_AT_ONCE: Final = 5_000
_VALUES_AT_ONCE: Final = 200
_FILES_AT_ONCE: Final = 20
_ID: Final = re.compile(rb"\b" + RECIPE.hex().encode() + rb"[0-9a-f]{38}\b")
_IDS_OF_ROW: Final = "inputs_id, output_id, error_id, CAST(inputs AS BLOB), CAST(output AS BLOB)"
# Tables that are short, or change without an event: they are looked through again in the commit that deletes.
_QUEUES: Final = {
    "work": ("payload_id", "error_id"),
    "signals": ("payload_id",),
    "cached": ("output_id",),
    "projections": ("state_id",),
    "schedules": ("inputs_id",),
    "emitted_events": ("data_id",),
}


class ValueReferences:
    """Reads of the references to values."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all_values(self) -> set[ValueId]:
        """Return the ids of all values but signatures, which nobody refers to."""
        rows = self._connection.execute("""SELECT value_id FROM "values" WHERE codec NOT LIKE 'signed %'""")
        return {ValueId(value_id) for (value_id,) in rows}

    def existing(self, ids: Collection[ValueId]) -> set[ValueId]:
        """Return which of the values have a row."""
        query = 'SELECT value_id FROM "values" WHERE value_id = ?'
        return {each for each in ids if self._connection.execute(query, (each,)).fetchone()}

    def large(self, ids: Collection[ValueId]) -> list[ValueId]:
        """Return which of the values have files."""
        query = 'SELECT value_id FROM "values" WHERE value_id = ? AND size >= ?'
        return [each for each in ids if self._connection.execute(query, (each, INLINE_LIMIT)).fetchone()]

    def of_events(self, *, after: int, limit: int, but_of: Collection[RunId]) -> tuple[list[Any], int]:
        """Return the data of some events after that position, not of these runs, and the position of the last one."""
        rows = self._connection.execute(
            "SELECT data, run_id, position FROM events WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
        ).fetchall()
        return [data for data, run_id, _ in rows if run_id not in but_of], rows[-1][-1] if rows else after

    def of_rows(self, *, table: str, after: int, limit: int) -> tuple[list[Any], int]:
        """Return the ids and records of some rows of runs or steps, and the last one."""
        rows = self._connection.execute(
            f"SELECT {_IDS_OF_ROW}, rowid FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?", (after, limit)
        ).fetchall()
        return [each for row in rows for each in row[:-1]], rows[-1][-1] if rows else after

    def since(self, position: int) -> Iterator[Any]:
        """Yield what events after that position, and the rows that they changed, refer to."""
        places = set()
        for data, run_id, step in self._connection.execute(
            "SELECT data, run_id, step FROM events WHERE position > ?", (position,)
        ):
            yield data
            places.add((run_id, step))
        for run_id, step in places:
            if step is None:
                rows = self._connection.execute(f"SELECT {_IDS_OF_ROW} FROM runs WHERE run_id = ?", (run_id,))
            else:
                name, index = parse_step_ref(step)
                where = 'run_id = ? AND name = ? AND "index" = ?'
                rows = self._connection.execute(f"SELECT {_IDS_OF_ROW} FROM steps WHERE {where}", (run_id, name, index))
            for row in rows:
                yield from row

    def of_queues(self) -> Iterator[Any]:
        """Yield what the other tables refer to."""
        for table, columns in _QUEUES.items():
            for row in self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}"):
                yield from row

    def of_records(self, ids: Iterable[ValueId]) -> Iterator[Any]:
        """Yield the contents of those values that are records of others."""
        query = f"""SELECT data FROM "values" WHERE value_id = ? AND codec IN ('{INPUTS}', '{RECORD}')"""
        for each in ids:
            for (content,) in self._connection.execute(query, (each,)):
                yield content


class ValuesDeleted(Addition, frozen=True):
    """The rows of these values are gone."""

    ids: tuple[ValueId, ...]

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.executemany('DELETE FROM "values" WHERE value_id = ?', [(each,) for each in self.ids])


class UnusedValues:
    """The values, by default all, to which no reference was found up to a position.

    `but_events_of` are runs whose events may name a value that their rows no longer have.
    """

    def __init__(
        self, engine: Engine, ids: Collection[ValueId] | None = None, *, but_events_of: Collection[RunId] = ()
    ) -> None:
        self._engine = engine
        with self._references() as references:
            self.ids = references.all_values() if ids is None else references.existing(ids)
        self._but_events_of = frozenset(but_events_of)
        self._position = 0

    @contextmanager
    def _references(self) -> Iterator[ValueReferences]:
        with self._engine.journal.reading() as reader:
            yield reader.extension(ValueReferences)

    def look_everywhere(self) -> None:
        """Leave out values that are referred to. The reads are short, for a long one keeps the log from reuse."""
        for table in ("runs", "steps"):
            self._look_through(partial(ValueReferences.of_rows, table=table, limit=_ROWS_AT_ONCE))
        self._position = self._look_through(
            partial(ValueReferences.of_events, limit=_EVENTS_AT_ONCE, but_of=self._but_events_of)
        )

    def _look_through(self, read: Callable[..., tuple[list[Any], int]]) -> int:
        after = -1
        while self.ids:
            with self._references() as references:
                found, last = read(references, after=after)
                self._leave_out(references, found)
            if last == after:
                break
            after = last
        return max(after, 0)

    def look_again(self, reader: Reader) -> None:
        """Leave out the values that newer events or the queues refer to.

        Lock: in the transaction that deletes.
        """
        references = reader.extension(ValueReferences)
        self._leave_out(references, references.since(self._position))
        self._leave_out(references, references.of_queues())
        self._position = reader.last_position()

    def _leave_out(self, references: ValueReferences, found: Iterable[Any]) -> None:
        """Leave out the ids that were found, and what the values of these ids refer to."""
        new = {each for item in found for each in ids_in(item) if each in self.ids}
        while new:
            self.ids -= new
            new = {each for content in references.of_records(new) for each in ids_in(content) if each in self.ids}


def ids_in(item: Any) -> list[ValueId]:
    """Return the ids in a column: an id itself, or a text or record with the ids in hex."""
    if item is None:
        return []
    if isinstance(item, bytes) and len(item) == 20:
        return [ValueId(item)]
    content = item.encode() if isinstance(item, str) else item
    return [ValueId(bytes.fromhex(found.decode())) for found in _ID.findall(content)]


def sweep_values(engine: Engine) -> int:
    """Remove the values that nothing refers to, and files without a row; return the number of values."""
    unused = UnusedValues(engine)
    unused.look_everywhere()
    n_values = remove_unused(engine, unused)
    remove_files(engine, _files_without_row(engine))
    return n_values


def remove_unused(engine: Engine, unused: UnusedValues) -> int:
    """Remove those of the values that have no reference by now, and their files; return their number."""
    n_values = 0
    large: list[ValueId] = []
    while unused.ids:
        n_deleted, having_files = _delete_values(engine, unused)
        n_values += n_deleted
        large += having_files
        let_others_write(engine)
    remove_files(engine, large)
    return n_values


def _delete_values(engine: Engine, unused: UnusedValues) -> tuple[int, Sequence[ValueId]]:
    """Delete some of the rows; return their number, and the values among them that have files."""
    chosen: tuple[ValueId, ...] = ()
    large: list[ValueId] = []

    def act(reader: Reader) -> list[RunCommit]:
        nonlocal chosen, large
        unused.look_again(reader)
        chosen = tuple(sorted(unused.ids)[:_VALUES_AT_ONCE])
        large = reader.extension(ValueReferences).large(chosen)
        return [RunCommit(run_id=RunId(""), events=(), additions=(ValuesDeleted(chosen),))]

    engine.access.exchange(act, Durability.POWER)  # a power cut must not bring the rows of removed files back
    unused.ids.difference_update(chosen)
    return len(chosen), large


def _files_without_row(engine: Engine) -> list[ValueId]:
    old = list(files_of(engine).written_before(SystemClock().now() / 1e6 - YOUNG_S))
    with engine.journal.reading() as reader:
        return sorted(set(old) - reader.extension(ValueReferences).existing(old))


def files_of(engine: Engine) -> LargeValues:
    """Return the large values of the engine's journal."""
    own: LargeValues = engine.journal.files  # type: ignore[attr-defined]  # of every journal that SQLite keeps
    with engine.journal.reading() as reader:
        return reader.extension(lambda connection: large_values(connection, own))


def remove_files(engine: Engine, ids: Sequence[ValueId]) -> None:
    """Remove the files of the values that have no row any more."""
    files = files_of(engine)
    for start in range(0, len(ids), _FILES_AT_ONCE):
        chosen = ids[start : start + _FILES_AT_ONCE]

        def act(reader: Reader, chosen: Sequence[ValueId] = chosen) -> list[RunCommit]:
            # Nobody writes meanwhile: who stored such a value again has its row by now, or will write its file again.
            for each in set(chosen) - reader.extension(ValueReferences).existing(chosen):
                files.remove(each)
            return []

        engine.access.exchange(act, Durability.PROCESS)
        let_others_write(engine)


def let_others_write(engine: Engine) -> None:
    """Pause between two commits; SQLite asks again for its lock after at most 10 ms of these."""
    SystemClock().wait(engine.threads.wakeup(), _PAUSE_S)
