"""Where a journal keeps its large values: beside itself, or where its settings say.

The place is noted once, before there are any, in a folder of its own below what was asked for: so several journals may
share a bucket, and none removes the values of another. The note is signed: in a journal of somebody else it could send
the results of this user anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import JournalConflict, JournalError, StoreUnreachable
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import INLINE_LIMIT, ContentParts
from ironflow_nb.values.value_files import LargeValues, ValueFiles

if TYPE_CHECKING:
    import sqlite3

    from ironflow_nb.value_store.object_store import ObjectStore

_LOOK: Final = "SELECT value FROM settings WHERE name = 'values'"
_NOTE: Final = "INSERT INTO settings (name, value) VALUES ('values', ?)"
_CHANGE: Final = "UPDATE settings SET value = ? WHERE name = 'values'"
_SIGNED: Final = "place of values"
_PROBE: Final = ValueId(bytes(20))
_LARGE: Final = 'SELECT 1 FROM "values" WHERE size >= ? LIMIT 1'


def noted_place(connection: sqlite3.Connection) -> str | None:
    """Return the URL of the folder in which the journal keeps its large values; None if that is its own."""
    found = _note_of(connection)
    return None if found is None else found[1]


def _note_of(connection: sqlite3.Connection) -> tuple[str, str] | None:
    """Return the signature (hex) and the URL that are noted."""
    found = connection.execute(_LOOK).fetchone()
    if found is None:
        return None
    mac, _, place = found[0].partition(" ")
    return mac, place


def _is_own(mac: str, place: str) -> bool:
    return Signer(bytes).is_own(_SIGNED, place.encode(), bytes.fromhex(mac))


def trusted_place(connection: sqlite3.Connection) -> str | None:
    """Return what `noted_place` does.

    Raises:
        StoreUnreachable: somebody else noted it.
    """
    found = _note_of(connection)
    if found is None:
        return None
    if not _is_own(*found):
        place = found[1].rpartition("/")[0]
        raise StoreUnreachable(
            f"the large values of this journal are in {place}, as somebody else noted, and are not asked for there; if "
            f"you want that, open it once with iron.open(path, values={place!r}), run iron.trust(path), or use the "
            "IRONFLOW_KEY of its other users"
        )
    return found[1]


def sign_place(connection: sqlite3.Connection, signer: Signer) -> bool:
    """Sign the note as this user's own; return False if there is none, or it is already. Lock: in one that writes."""
    found = _note_of(connection)
    if found is None or _is_own(*found):
        return False
    connection.execute(_CHANGE, (_signed(found[1], signer),))
    return True


def _signed(place: str, signer: Signer) -> str:
    return f"{signer.sign_for_process(_SIGNED, place.encode()).hex()} {place}"


def large_values(connection: sqlite3.Connection, own: LargeValues) -> LargeValues:
    """Return the large values of the journal of the connection; `own` are those beside it.

    Raises:
        StoreUnreachable: somebody else noted the place.
        ModuleNotFoundError: the libraries for its place are not installed.
    """
    place = trusted_place(connection)
    return own if place is None else values_in(place)


def values_in(place: str) -> ValueFiles | ObjectStore:
    """Return the large values below the URL.

    Raises:
        ModuleNotFoundError: the libraries for it are not installed.
        ValueError: it can't be read.
    """
    return _values_in(place, os.getpid())  # a process that was forked has connections of its own


@lru_cache(maxsize=16)
def _values_in(place: str, _process: int) -> ValueFiles | ObjectStore:
    folder = _folder_of(place)
    if folder is not None:
        return ValueFiles(folder)
    from ironflow_nb.value_store.object_store import ObjectStore

    return ObjectStore(place)


def _folder_of(place: str) -> Path | None:
    """Return the folder that the URL names on this machine, or None."""
    from urllib.parse import unquote, urlsplit

    scheme, host, path, _, _ = urlsplit(place)
    if scheme == "file":
        path = f"//{host}{path}" if host else path
        return Path(unquote(path.lstrip("/") if os.name == "nt" and not host else path))
    return Path(place) if "://" not in place else None


class HasPlace(Protocol):
    """A journal that may have its large values elsewhere."""

    location: str

    def reading(self) -> AbstractContextManager[Any]:
        """See `Journal`."""

    def close(self) -> None:
        """See `Journal`."""


def keep_values_in(
    journal: HasPlace,
    given: str | os.PathLike[str] | None,
    entropy: Callable[[int], bytes],
    exchange: Callable[[Any], object],
) -> None:
    """Note in the journal that its large values are kept there, unless it is noted or nothing given.

    `exchange` is that of the journal: it calls a function within a transaction that writes.

    Raises:
        ValueError: the journal is one in memory, or the URL can't be read.
        JournalConflict: the journal has another place, or large values beside it.
        JournalError: the place can't be reached, or refuses to be written to: of an object store `StoreUnreachable`.
        ModuleNotFoundError: the libraries for the place are not installed.
    """
    if given is None:
        return
    place, is_read_only = _canonical(os.fspath(given)), getattr(journal, "read_only", None)
    if is_read_only is None:
        raise ValueError(f"values={given!r} is for a journal in a file or on a server, and not for one in memory")
    try:
        with journal.reading() as reader:
            noted = reader.extension(noted_place)
        if noted is not None or is_read_only:
            _refuse_other(journal.location, noted, place)
        if not is_read_only:
            folder, signer = entropy(8).hex(), Signer(entropy)
            exchange(lambda reader: reader.extension(partial(_note_place, journal.location, place, folder, signer)))
    except BaseException:
        journal.close()
        raise


def _canonical(place: str) -> str:
    """Return the place as it is noted: a path as the URL of a file."""
    folder = _folder_of(place)
    return place.rstrip("/") if folder is None else folder.expanduser().absolute().as_uri()


def _note_place(journal: str, place: str, folder: str, signer: Signer, connection: sqlite3.Connection) -> tuple[()]:
    """Note the place, and return that nothing else is to be written. Lock: in a transaction that writes."""
    noted = noted_place(connection)
    if noted is not None:  # also if another process was faster
        _refuse_other(journal, noted, place)
        sign_place(connection, signer)
        return ()
    if connection.execute(_LARGE, (INLINE_LIMIT,)).fetchone():
        raise JournalConflict(
            f"the journal {journal} has large values beside it, and can't have others in {place}; leave values= out, "
            "or copy the runs into a new journal: iron.copy(iron.runs(), iron.open(path, values=...))"
        )
    values = values_in(f"{place}/{folder}")
    values.write(_PROBE, b"x")  # finds out whether values can be kept there
    values.remove(_PROBE)
    connection.execute(_NOTE, (_signed(f"{place}/{folder}", signer),))
    return ()


def _refuse_other(journal: str, noted: str | None, place: str) -> None:
    """Raise `JournalConflict` unless that is the place that the journal has."""
    if noted is None or noted.rpartition("/")[0] != place:
        where = "beside itself" if noted is None else f"in {noted.rpartition('/')[0]}"
        raise JournalConflict(
            f"the journal {journal} keeps its large values {where}, and not in {place}; leave values= out, for the "
            "journal knows where they are"
        )


class ValuePlace:
    """The place of the large values of an engine's journal, if it is not beside the journal. It is looked up once."""

    def __init__(self, journal: HasPlace) -> None:
        self._journal = journal
        self._is_known = False
        self._url: str | None = None

    @property
    def url(self) -> str | None:
        """The URL of the folder in which they are; None if the journal has its own, or somebody else noted it."""
        if not self._is_known and hasattr(self._journal, "files"):
            with self._journal.reading() as reader, suppress(StoreUnreachable):
                self._url = reader.extension(trusted_place)
        self._is_known = True
        return self._url

    def write_early(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        """Write a large value before the commit that refers to it, if that takes long: here no lock is held.

        Where this fails, the commit does it again.
        """
        if self.url is not None and not isinstance(values := values_in(self.url), ValueFiles):
            with suppress(JournalError):
                values.write(value_id, content)
