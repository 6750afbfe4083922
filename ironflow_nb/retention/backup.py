"""Copies of a journal, which SQLite makes while others write to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ironflow_nb.core.identity import ValueId
from ironflow_nb.core.option_values import a_path
from ironflow_nb.errors import JournalError, ValueUnreadable
from ironflow_nb.execution import REGISTRY, SERVERS, Engine, logger
from ironflow_nb.journal.sqlite_file import begin_reading, connect, look_at, open_reader, prepare_folder
from ironflow_nb.journal.sqlite_journal import SqliteJournal, translated
from ironflow_nb.value_store.value_place import large_values
from ironflow_nb.values.private_files import ENDINGS, new_file
from ironflow_nb.values.stored_value import INLINE_LIMIT
from ironflow_nb.values.value_files import ValueFiles

_LARGE: Final = 'SELECT value_id, size FROM "values" WHERE size >= ?'


def backup(path: str | os.PathLike[str], *, engine: Engine | None = None) -> Path:
    """Write a copy of the journal, as it is at this moment, with its value files; return where it is.

    Runs and other writers go on meanwhile. The copy is a journal as any other: ``iron.open(path)`` opens it, and runs
    that are going on now are interrupted ones there, which can be continued. Large values lie in ``values/`` beside it.

    Args:
        path: of the copy; nothing may be there yet.
        engine: the one whose journal is copied; by default the current one.

    Raises:
        JournalError: something is there already, the journal is one in memory, or a file can't be read or written.
    """
    engine = engine or REGISTRY.engine()
    source, target = engine.journal, Path(a_path(path)).expanduser().absolute()
    if source.location.startswith(SERVERS):
        raise JournalError(
            f"the journal {source.location} is no file: use pg_dump, backups of tables in AWS, or run.export(path)"
        )
    if not isinstance(source, SqliteJournal) or not source.exists():
        what = "is in memory" if not isinstance(source, SqliteJournal) else "does not exist yet"
        raise JournalError(f"the journal {source.location} {what}, so there is nothing to copy; run something first")
    with engine.reading():  # which writes what is pending
        missing = _copy_journal(source.path, target)
    for trouble in missing:
        logger().warning("the copy %s lacks a value, as the journal does: %s", target, trouble)
    return target


def _copy_journal(source: Path, target: Path) -> list[str]:
    """Copy one moment of the journal, and its value files; return messages on the value files that can't be read.

    The copy has no leases, so runs that are going on are interrupted in the copy.
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
