"""Copies of a journal, which SQLite makes while others write to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import JournalError, ValueUnreadable
from ironflow_nb.journal.sqlite_file import begin_reading, connect, look_at, open_reader, prepare_folder
from ironflow_nb.journal.sqlite_journal import translated
from ironflow_nb.value_store.value_place import large_values
from ironflow_nb.values.private_files import ENDINGS, new_file
from ironflow_nb.values.stored_value import INLINE_LIMIT
from ironflow_nb.values.value_files import ValueFiles

_LARGE: Final = 'SELECT value_id, size FROM "values" WHERE size >= ?'


def copy_journal(source: Path, target: Path) -> list[str]:
    """Copy one moment of the journal, and its value files; return messages on the value files that can't be read.

    The copy has no leases, so runs that are going on are interrupted in the copy.

    Raises:
        JournalError: something is in the way, or a file can't be read or written.
    """
    _refuse_taken(target)
    prepare_folder(target)
    with translated(target):
        try:
            new_file(target).close()
            _copy_tables(source, target)
            return list(_copy_values(source, target))
        except BaseException:
            with suppress(OSError):
                target.unlink(missing_ok=True)
            raise


def _refuse_taken(target: Path) -> None:
    for path in (target.with_name(f"{target.name}{ending}") for ending in ENDINGS):
        if look_at(path) is not None:
            raise JournalError(f"{path} is there already, and a copy replaces nothing; give another path", path=path)


def _copy_tables(source: Path, target: Path) -> None:
    with closing(open_reader(source)) as reading, closing(connect(target, "mode=rw")) as writing:
        writing.execute("PRAGMA fullfsync=ON")
        reading.backup(writing)
        writing.execute("DELETE FROM leases")


def _copy_values(source: Path, target: Path) -> Iterator[str]:
    there = ValueFiles(target.parent / "values")
    with closing(connect(target, "mode=rw")) as copied:
        begin_reading(copied, target)
        here = large_values(copied, own := ValueFiles(source.parent / "values"))
        large: list[tuple[bytes, int]] = copied.execute(_LARGE, (INLINE_LIMIT,)).fetchall()
        if here is not own:  # the values of the copy lie beside it
            copied.execute("DELETE FROM settings WHERE name = 'values'")
        copied.execute("COMMIT")
    for value_id, size in large:
        try:
            content = here.read(ValueId(value_id), size)
        except ValueUnreadable as error:
            yield str(error)
        else:
            there.write(ValueId(value_id), content)
