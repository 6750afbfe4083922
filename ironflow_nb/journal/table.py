"""Tables of the journal whose rows are structs: statements and conversions are made from the fields of the struct."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import sqlite3

R = TypeVar("R", bound=msgspec.Struct)
Parameters = Sequence[Any] | Mapping[str, Any]


def columns(names: Sequence[str], alias: str = "") -> str:
    """Return the columns as SQL, quoted: some have the names of SQL keywords."""
    return ", ".join(f'{alias}"{name}"' for name in names)


def insert(
    table: str,
    names: Sequence[str],
    key: Sequence[str] = (),
    *,
    update: Sequence[str] | None = None,
    beside: Sequence[str] = (),
) -> str:
    """Return the statement that adds a row.

    A row that has the same `key` is changed instead: all other columns, or those in `update`. The columns `beside` are
    the last ones; each has a value whose id is in a column of `names`, and keeps it, unless it gets one, with the id.
    """
    marks = ", ".join("?" * (len(names) + len(beside)))
    changed = [name for name in names if name not in key] if update is None else update
    changes = [f'"{name}" = excluded."{name}"' for name in changed]
    changes += [
        f'"{name}" = CASE WHEN excluded."{name}_id" IS "{table}"."{name}_id" '
        f'THEN ifnull(excluded."{name}", "{table}"."{name}") ELSE excluded."{name}" END'
        for name in beside
    ]
    conflict = f" ON CONFLICT ({columns(key)}) DO UPDATE SET {', '.join(changes)}" if key else ""
    return f'INSERT INTO "{table}" ({columns([*names, *beside])}) VALUES ({marks}){conflict}'


def json_list(items: Iterable[object] | None) -> str | None:
    """Return the items as JSON, for ``json_each``: one parameter holds any number of them."""
    return None if items is None else msgspec.json.encode(list(items)).decode()


def parameters(select: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a selection as parameters: collections as JSON, and no limit as -1."""
    given = {
        name: each if each is None or isinstance(each, str | int) else json_list(each)
        for name, each in msgspec.structs.asdict(select).items()
    }
    return given | {"limit": -1 if given["limit"] is None else given["limit"]}


class Table(Generic[R]):
    """A table whose columns are the fields of a struct, by name and in their order.

    `put` is the statement that writes a row, `values` returns its parameters for a struct, and `row` returns the struct
    of a row that was read.
    """

    def __init__(
        self,
        name: str,
        row: type[R],
        key: Sequence[str] = (),
        *,
        update: Sequence[str] | None = None,
        generated: Sequence[str] = (),
        beside: Sequence[str] = (),
        read: Callable[[tuple[Any, ...]], R] | None = None,
    ) -> None:
        """Take the name, the struct and the key.

        `update` and `beside` are those of `insert`; the columns `beside` are no fields of the struct, and their
        parameters follow its own. SQLite makes the `generated` columns itself. `read` replaces the default `row`.
        """
        self.fields = row.__struct_fields__
        self.key = key
        self.written = written = [field for field in self.fields if field not in generated]
        self.put = insert(name, written, key, update=update, beside=beside)
        # sqlite3 binds an enum by a Python protocol, which takes ten times as long as binding a text.
        self.values: Callable[[R], tuple[Any, ...]] = attrgetter(
            *("status._value_" if field == "status" else field for field in written)  # `value` is a call
        )
        self._select = f'SELECT {columns(self.fields)} FROM "{name}"'
        self._struct = row
        self.row = read or self._make

    def columns(self, alias: str) -> str:
        """Return the columns as SQL, with the alias of the table."""
        return columns(self.fields, f"{alias}.")

    def _make(self, values: tuple[Any, ...]) -> R:
        return self._struct(**dict(zip(self.fields, values, strict=True)))

    def find(self, connection: sqlite3.Connection, where: str = "", given: Parameters = ()) -> Iterator[R]:
        """Yield the rows of ``SELECT ... FROM table`` with `where` as the rest of the statement."""
        return map(self.row, connection.execute(f"{self._select} {where}", given))

    def first(self, connection: sqlite3.Connection, where: str, given: Parameters = ()) -> R | None:
        """Return the first row of `find`, or None."""
        return next(self.find(connection, where, given), None)
