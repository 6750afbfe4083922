"""The use of space by flow and step, in the journal and in value files."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ironflow_nb.core.identity import ValueId
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.tables import TEXT, frame_of_records
from ironflow_nb.retention.unused_values import ValueReferences, ids_in
from ironflow_nb.values.stored_value import INLINE_LIMIT

if TYPE_CHECKING:
    import pandas as pd

Place = tuple[str, str, str]
"""Kind and name of the run, and name of the step; that is empty for the run itself."""

_COLUMNS: Final = {
    "kind": TEXT, "flow": TEXT, "step": TEXT, "n_runs": "int64", "n_attempts": "int64", "n_events": "int64",
    "n_values": "int64", "journal_bytes": "int64", "file_bytes": "int64", "shared_bytes": "int64",
}  # fmt: skip
_PLACE: Final = ("kind", "flow", "step")
_OTHERS: Final = ("journal", "", "others")
_FREE: Final = ("journal", "", "free")
_SIZE: Final = "ifnull(length(CAST({0} AS BLOB)), 0)"
_SMALL: Final = f"{_SIZE.format('x.inputs')} + {_SIZE.format('x.output')}"
# The step of an event is ``name[12]``: its name ends before the bracket.
_NAME: Final = "ifnull(substr(x.step, 1, length(rtrim(rtrim(x.step, ']'), '0123456789')) - 1), '')"
_COUNTED: Final = {
    ("n_runs", "journal_bytes"): f"SELECT kind, name, '', count(*), sum({_SMALL}) FROM runs x GROUP BY 1, 2",
    ("n_runs", "n_attempts", "journal_bytes"): f"""
        SELECT r.kind, r.name, x.name, count(DISTINCT x.run_id), count(*), sum({_SMALL})
        FROM steps x JOIN runs r ON r.run_id = x.run_id GROUP BY 1, 2, 3""",
    ("n_events", "journal_bytes"): f"""
        SELECT r.kind, r.name, {_NAME}, count(*), sum({_SIZE.format("x.data")})
        FROM events x JOIN runs r ON r.run_id = x.run_id GROUP BY 1, 2, 3""",
    ("journal_bytes",): f"""
        SELECT r.kind, r.name, x.name, sum({_SIZE.format("x.text")})
        FROM logs x JOIN runs r ON r.run_id = x.run_id GROUP BY 1, 2, 3""",
}
_REFERRING: Final = """
    SELECT kind, name, '', inputs_id, output_id, error_id, inputs, output FROM runs
    UNION ALL
    SELECT r.kind, r.name, s.name, s.inputs_id, s.output_id, s.error_id, s.inputs, s.output
    FROM steps s JOIN runs r ON r.run_id = s.run_id
"""


def usage(*, engine: Engine | None = None) -> pd.DataFrame:
    """Return how much space flows and their steps use, the largest first.

    Columns: kind, flow, step (empty for the runs themselves), n_runs, n_attempts, n_events, n_values (that do not lie
    in the row of their run or step), journal_bytes (in the journal file), file_bytes (in value files), shared_bytes
    (of values that are counted elsewhere: equal ones are stored once). A value is counted with the first step that
    has it.

    Two rows of kind ``journal`` say what else is in the file: ``free`` is used again, and `vacuum` gives it back;
    ``others`` are indexes, definitions, queues, and values that no run refers to.

    Args:
        engine: the journal to look at; by default the current one.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        found = reader.extension(_Sizes).by_place()
    largest = sorted(found, key=lambda place: (place[0] == _FREE[0], -_size(found[place])))
    return frame_of_records(_COLUMNS, [_record(place, found[place]) for place in largest])


def _size(counts: Counter[str]) -> int:
    return counts["journal_bytes"] + counts["file_bytes"]


def _record(place: Place, counts: Counter[str]) -> dict[str, object]:
    return dict(zip(_PLACE, place, strict=True)) | {name: counts[name] for name in _COLUMNS if name not in _PLACE}


class _Sizes:
    """Reads of the sizes of everything in a journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._found: dict[Place, Counter[str]] = {}

    def by_place(self) -> dict[Place, Counter[str]]:
        """Return the numbers and sizes by what they belong to."""
        for columns, query in _COUNTED.items():
            for kind, name, step, *numbers in self._connection.execute(query):
                self._add((kind, name, step), dict(zip(columns, numbers, strict=True)))
        self._add_values()
        page_size, n_pages, n_free = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        known = sum(counts["journal_bytes"] for counts in self._found.values())
        self._add(_FREE, {"journal_bytes": n_free * page_size})
        self._add(_OTHERS, {"journal_bytes": max((n_pages - n_free) * page_size - known, 0)})
        return self._found

    def _add(self, place: Place, numbers: dict[str, int]) -> None:
        self._found.setdefault(place, Counter()).update(numbers)

    def _add_values(self) -> None:
        sizes: dict[ValueId, int] = dict(self._connection.execute('SELECT value_id, size FROM "values"'))
        counted: set[ValueId] = set()
        for place, value_id in self._references(sizes):
            if value_id in counted:
                self._add(place, {"shared_bytes": sizes[value_id]})
            else:
                counted.add(value_id)
                self._add(place, self._of_value(sizes[value_id]))
        for value_id in sizes.keys() - counted:  # they are among the others, but for their files
            if sizes[value_id] >= INLINE_LIMIT:
                self._add(_OTHERS, {"n_values": 1, "file_bytes": sizes[value_id]})

    def _of_value(self, size: int) -> dict[str, int]:
        return {"n_values": 1, "file_bytes" if size >= INLINE_LIMIT else "journal_bytes": size}

    def _references(self, sizes: dict[ValueId, int]) -> Iterator[tuple[Place, ValueId]]:
        """Yield each value with each row that refers to it, itself or by the record of a call."""
        references = ValueReferences(self._connection)
        for kind, name, step, *columns in self._connection.execute(_REFERRING):
            own = [each for column in columns for each in ids_in(column) if each in sizes]
            yield from (((kind, name, step), each) for each in own)
            for content in references.of_records(own):
                yield from (((kind, name, step), each) for each in ids_in(content) if each in sizes)
