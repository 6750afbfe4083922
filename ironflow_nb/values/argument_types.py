"""Files as arguments: what is in them identifies, and not when they were written.

Arguments that do their work without identifying it: clients, connections, loggers.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import IO, Any, Final, TypeVar, cast, final

from ironflow_nb.errors import FileUnreadable
from ironflow_nb.values.private_files import require_ordinary

T = TypeVar("T")


class Resource:
    """A wrapper that a step takes off before its body runs; outside of steps it passes everything on."""

    __slots__ = ("wrapped",)

    def __init__(self, wrapped: object) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped" or name.startswith("__"):  # asked by copy and pickle before anything is wrapped
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what is wrapped."""
        return self.wrapped(*args, **kwargs)  # type: ignore[operator]

    def __repr__(self) -> str:
        return f"resource({self.wrapped!r})"


def resource(wrapped: T) -> T:
    """Return `wrapped` as an argument that does not identify a step: another one of its class is as good."""
    return cast("T", wrapped if isinstance(wrapped, Resource) else Resource(wrapped))


_READ_EACH_TIME: Final = 64 * 1024


@final
class File(os.PathLike[str]):
    """A file as an argument of steps and flows: its path and its content identify it.

    Whoever takes a path takes it too. It is read when it is an argument, at most once for each state of the file.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    @property
    def path(self) -> Path:
        """Where the file is, as it was given."""
        return self._path

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """Open the file; see `open`."""
        if self._path.exists():  # else it may be made
            self._stat()
        return self._path.open(mode, **options)

    def read_bytes(self) -> bytes:
        """Return the content of the file."""
        self._stat()
        return self._path.read_bytes()

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Return the content of the file as text."""
        self._stat()
        return self._path.read_text(encoding, errors)

    def digest(self) -> str:
        """Return the digest of the content.

        Raises:
            FileUnreadable: there is no such file, or it can't be read.
        """
        known = self._stat()
        try:
            if known.st_size <= _READ_EACH_TIME:
                return _content_digest(self._path)
            return _digest_of(str(self._path.absolute()), known.st_size, known.st_mtime_ns, known.st_ino, known.st_dev)
        except OSError as error:
            raise self._unreadable(error) from error

    def _stat(self) -> os.stat_result:
        try:
            return require_ordinary(self._path)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError | ValueError) -> FileUnreadable:
        why = getattr(error, "strerror", None) or str(error)
        return FileUnreadable(
            f"iron.File({str(self._path)!r}) is identified by its content, and that can't be read: {why} "
            f"(in {Path.cwd()}); put the file there, or pass another path",
            path=str(self._path),
        )

    def __fspath__(self) -> str:
        return str(self._path)

    def __eq__(self, other: object) -> bool:
        return self._path == other._path if isinstance(other, File) else NotImplemented

    def __hash__(self) -> int:
        return hash((File, self._path))

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"File({str(self._path)!r})"


# A small file may be written twice within one tick of the clock of its file system, so its stamps are not believed.
@lru_cache(maxsize=1024)
def _digest_of(path: str, _size: int, _mtime_ns: int, _inode: int, _device: int) -> str:
    return _content_digest(Path(path))


def _content_digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=19)).hexdigest()
