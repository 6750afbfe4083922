"""One table of the journal whose rows are structs: its statements, and how a row is written and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import sqlite3

R = TypeVar("R", bound=msgspec.Struct)
Parameters = Sequence[Any] | Mapping[str, Any]


def columns(names: Sequence[str], alias: str = "") -> str:
    """Return the columns as SQL; some are called like words of SQL."""
    return ", ".join(f'{alias}"{name}"' for name in names)


def insert(table: str, names: Sequence[str], key: Sequence[str] = (), *, update: Sequence[str] | None = None) -> str:
    """Return the statement that adds a row.

    With a `key` it changes the row that has the key already: all other columns, or those in `update`.
    """
    marks = ", ".join("?" * len(names))
    changed = [name for name in names if name not in key] if update is None else update
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in changed)
    conflict = f" ON CONFLICT ({columns(key)}) DO UPDATE SET {changes}" if key else ""
    return f'INSERT INTO "{table}" ({columns(names)}) VALUES ({marks}){conflict}'


class Table(Generic[R]):
    """A table whose columns have the names of the struct's fields, in their order.

    `put` is the statement that writes a row. `values` makes its parameters of a struct, `row` a struct of what is read.
    """

    def __init__(
        self,
        name: str,
        row: type[R],
        key: Sequence[str] = (),
        *,
        update: Sequence[str] | None = None,
        generated: Sequence[str] = (),
        read: Callable[[tuple[Any, ...]], R] | None = None,
    ) -> None:
        """Take the name, the struct and the key.

        `update` is as of `insert`, SQLite makes the `generated` columns, and `read` makes a struct of a row.
        """
        self.fields = row.__struct_fields__
        written = [field for field in self.fields if field not in generated]
        self.put = insert(name, written, key, update=update)
        # An enum is bound by a protocol of Python, which takes ten times as long as a text.
        self.values: Callable[[R], tuple[Any, ...]] = attrgetter(
            *("status.value" if field == "status" else field for field in written)
        )
        self._select = f'SELECT {columns(self.fields)} FROM "{name}"'
        self._struct = row
        self.row = read or self._make

    def columns(self, alias: str) -> str:
        """Return the columns as SQL, those of the table of that alias."""
        return columns(self.fields, f"{alias}.")

    def _make(self, values: tuple[Any, ...]) -> R:
        return self._struct(**dict(zip(self.fields, values, strict=True)))

    def find(self, connection: sqlite3.Connection, where: str = "", given: Parameters = ()) -> Iterator[R]:
        """Yield the rows that the rest of the statement selects, in its order."""
        return map(self.row, connection.execute(f"{self._select} {where}", given))

    def first(self, connection: sqlite3.Connection, where: str, given: Parameters = ()) -> R | None:
        """Return the first of these rows, or None."""
        return next(self.find(connection, where, given), None)
