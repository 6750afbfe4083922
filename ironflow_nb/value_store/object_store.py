"""The contents of large values in an object store, by the libraries of fsspec: S3, Google Cloud, Azure and others.

Credentials and endpoints are those of the machine: of the variables and files of the library, and of fsspec's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import StoreUnreachable, ValueUnreadable
from ironflow_nb.values.stored_value import ContentParts

_ATOMIC: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"})
"""Where a file is either written as a whole or not at all."""
_WRITTEN_AT: Final = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


class ObjectStore:
    """The contents below one URL; see `LargeValues` of `values/value_files.py` for what its methods promise."""

    def __init__(self, url: str) -> None:
        """Take the URL; nothing is asked of its server yet.

        Raises:
            ModuleNotFoundError: fsspec, or what it needs for that protocol, is not installed.
            ValueError: there is no such protocol.
        """
        try:
            from fsspec.core import url_to_fs

            # A listing that is kept would hide what other machines have written since.
            self._system, self._root = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
        except ImportError as error:
            message = f"large values in {url} need fsspec with its library: pip install 'ironflow-nb[s3]' ({error})"
            raise ModuleNotFoundError(message, name=error.name) from None
        except ValueError as error:
            raise ValueError(f"values={url!r} is no place for large values: {error}") from None
        self.url = url
        protocols = self._system.protocol
        self._is_atomic = not _ATOMIC.isdisjoint([protocols] if isinstance(protocols, str) else protocols)
        self._read: set[ValueId] = set()
        self._writing: dict[ValueId, Future[None]] = {}

    def path(self, value_id: ValueId) -> PurePosixPath:
        """Return the path of the content for messages."""
        name = value_id.hex()
        return PurePosixPath(self._root, name[2:4], name)

    def write(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        """Write the content, unless it is there.

        One that this process has read is written again, unless it was found whole: it may be damaged, and computed anew
        for that reason.

        Raises:
            StoreUnreachable: the store can't be reached, or refuses it.
        """
        mine: Future[None] = Future()
        other = self._writing.setdefault(value_id, mine)
        if other is not mine and other.exception() is None:  # another thread sends the same
            return
        try:
            if value_id in self._read or self.size(value_id) != len(content):
                self._put(str(self.path(value_id)), bytes(content))
                self._read.discard(value_id)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(None)
        finally:
            self._writing.pop(value_id, None)

    def _put(self, path: str, content: bytes) -> None:
        with self._translated(f"{len(content)} bytes can't be written to"):
            if self._is_atomic:
                self._system.pipe_file(path, content)
                return
            temporary = f"{path}.{os.getpid()}.{id(content):x}.tmp"
            self._system.makedirs(self._system._parent(path), exist_ok=True)  # noqa: SLF001 -- fsspec has no other name for it
            try:
                self._system.pipe_file(temporary, content)
                self._system.mv(temporary, path)
            except BaseException:
                with suppress(Exception):
                    self._system.rm_file(temporary)
                raise

    def read(self, value_id: ValueId, size: int) -> bytes:
        """Return the content.

        Raises:
            ValueUnreadable: it is missing, or not as long as it was.
            StoreUnreachable: the store can't be reached, or refuses it: the value is not lost.
        """
        path = str(self.path(value_id))
        self._read.add(value_id)
        try:
            with self._translated("a large value can't be read from"):
                content: bytes = self._system.cat_file(path)
        except FileNotFoundError as error:
            raise ValueUnreadable(f"the value file {path} is missing in {self.url}", value_id=value_id) from error
        if len(content) != size:
            what = f"the value file {path} has {len(content)} bytes and was written with {size}"
            raise ValueUnreadable(what, value_id=value_id)
        return content

    def note_whole(self, value_id: ValueId) -> None:
        """Note that what was read has the bytes of its id."""
        self._read.discard(value_id)

    def has(self, value_id: ValueId) -> bool:
        """Return True if the content is there."""
        return self.size(value_id) is not None

    def size(self, value_id: ValueId) -> int | None:
        """Return the size of the content in bytes; None if it is not there.

        Raises:
            StoreUnreachable: the store can't be reached, or refuses it.
        """
        try:
            with self._translated("a large value can't be looked for in"):
                found: int = self._system.info(str(self.path(value_id)))["size"]
                return found
        except FileNotFoundError:
            return None

    def remove(self, value_id: ValueId) -> None:
        """Remove the content, if it is there.

        Raises:
            StoreUnreachable: the store can't be reached, or refuses it.
        """
        with suppress(FileNotFoundError), self._translated("a large value can't be removed from"):
            self._system.rm_file(str(self.path(value_id)))

    def written_before(self, instant_s: float) -> Iterator[ValueId]:
        """Yield the ids of contents that were written before, and remove what dead writers of these left behind.

        Raises:
            StoreUnreachable: the store can't be reached, or refuses it.
        """
        found: Mapping[str, Any] = {}
        with suppress(FileNotFoundError), self._translated("the large values can't be listed in"):
            found = self._system.find(self._root, detail=True)
        for path, about in found.items():
            if self._written_at_s(path, about) > instant_s:
                continue
            if path.endswith(".tmp"):
                with suppress(FileNotFoundError), self._translated("a file can't be removed from"):
                    self._system.rm_file(path)
            with suppress(ValueError):  # what somebody else put there
                yield ValueId(bytes.fromhex(path.rpartition("/")[2]))

    def _written_at_s(self, path: str, about: Mapping[str, Any]) -> float:
        found = next((about[name] for name in _WRITTEN_AT if about.get(name) is not None), None)
        if found is None:
            found = self._system.modified(path)
        if isinstance(found, str):
            found = datetime.fromisoformat(found)
        return found.timestamp() if isinstance(found, datetime) else float(found)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Raise what a library raises as a `StoreUnreachable`; that a file is missing may pass."""
        try:
            yield
        except FileNotFoundError as error:
            if what.endswith("written to"):  # there is no such bucket
                raise self._unreachable(what, error) from error
            raise
        except Exception as error:
            raise self._unreachable(what, error) from error

    def _unreachable(self, what: str, error: Exception) -> StoreUnreachable:
        return StoreUnreachable(
            f"{what} {self.url}: {type(error).__name__}: {error}; nothing that was recorded is lost: check the place, "
            "the credentials and the network of this machine, then run the cell again"
        )
