"""Types of arguments with an identity of their own.

A `File` is identified by its path and its content, and not by the time at which it was written. A `Resource` (a client,
a connection, a logger) is used by the step and identified by its class only. A `Secret` is identified by a digest with
the user's key, and its text is stored nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import IO, Any, ClassVar, Final, TypeVar, cast, final

from ironflow_nb.errors import FileUnreadable, SecretMissing
from ironflow_nb.values.private_files import require_ordinary

T = TypeVar("T")


class Resource:
    """A wrapper that a step removes before its body runs; outside of steps it forwards attributes and calls."""

    __slots__ = ("wrapped",)

    def __init__(self, wrapped: object) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped" or name.startswith("__"):  # copy and pickle ask for these before `wrapped` is set
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the wrapped object."""
        return self.wrapped(*args, **kwargs)  # type: ignore[operator]

    def __repr__(self) -> str:
        return f"resource({self.wrapped!r})"


def resource(wrapped: T) -> T:
    """Return `wrapped` as an argument that does not identify a step: any object of its class is accepted on replay."""
    return cast("T", wrapped if isinstance(wrapped, Resource) else Resource(wrapped))


# A small file may be written twice within one tick of its file system's clock. Its modification time proves nothing.
_READ_EACH_TIME: Final = 64 * 1024


@final
class File(os.PathLike[str]):
    """A file as an argument of steps and flows: its path and its content identify it.

    It is path-like: functions that take a path take it too. The engine reads the file when it is an argument. A file of
    more than 64 kB is read again only after its size, modification time or inode changed.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the file; whether it exists is looked at when it is an argument.

        Raises:
            TypeError: that is no path.
        """
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f'iron.File takes the path of a file, such as iron.File("data.csv"), not {path!r}')
        self._path = Path(path)

    @property
    def path(self) -> Path:
        """The path as it was given."""
        return self._path

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """Open the file; see `open`.

        Raises:
            FileUnreadable: it exists, but is not an ordinary file or belongs to a journal in use.
        """
        if self._path.exists():  # a mode such as "w" may create a missing one
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
        """Return the digest of the content, as hex.

        Raises:
            FileUnreadable: the file does not exist or can't be read.
        """
        found = self._stat()
        try:
            if found.st_size <= _READ_EACH_TIME:
                return content_digest(self._path)
            path = str(self._path.absolute())
            return _cached_digest(path, found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)
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


@lru_cache(maxsize=1024)
def _cached_digest(path: str, _size: int, _mtime_ns: int, _inode: int, _device: int) -> str:
    return content_digest(Path(path))


def content_digest(path: Path) -> str:
    """Return the digest of the file's content, as hex."""
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=19)).hexdigest()


@final
class Secret:
    """A text, such as a token, that steps and flows use and that the journal never has.

    It may stand anywhere in arguments. A digest with your own key is recorded, so a call with the same text is the same
    call. Its repr, its `str` and f-strings have ``***``; only `value` gives the text.
    """

    __slots__ = ("_digest", "_text", "variable")

    _of_process: ClassVar[dict[str, str]] = {}
    """The texts by their digests: a run that this process began also continues here from its recorded arguments."""

    def __init__(self, text: str) -> None:
        """Hold the text.

        Raises:
            TypeError: that is no text, or an empty one.
        """
        if not isinstance(text, str) or not text:
            raise TypeError(
                'iron.Secret takes the text of a secret, such as iron.Secret(getpass()); iron.Secret.from_env("TOKEN") '
                f"reads it where it is used (found {'an empty text' if text == '' else type(text).__name__})"
            )
        self._text: str | None = text
        self._digest: str | None = None
        self.variable: str | None = None
        """The environment variable that has the text, if it was made with `from_env`."""

    @classmethod
    def from_env(cls, variable: str) -> Secret:
        """Return the secret in an environment variable, which is read at each use.

        The name of the variable is recorded and identifies it. So a new token under that name repeats no step, and
        other processes, such as a worker, read it for themselves.
        """
        return cls._without_text(None, variable)

    @classmethod
    def recorded(cls, digest: str) -> Secret:
        """Return a secret as the journal has it: by its digest alone."""
        return cls._without_text(digest, None)

    @classmethod
    def _without_text(cls, digest: str | None, variable: str | None) -> Secret:
        found = cls("***")
        found._text, found._digest, found.variable = None, digest, variable
        return found

    @property
    def value(self) -> str:
        """The text.

        Raises:
            SecretMissing: it comes from the journal or an environment variable, and is not known in this process.
        """
        text = self._known_text()
        if text is not None:
            return text
        if self.variable is not None:
            raise SecretMissing(
                f"the environment variable {self.variable} is not set, and a secret is to be read from it; set it",
                secret=self.variable,
            )
        raise SecretMissing(
            "the text of a secret is not in the journal, which has only a digest of it; call the flow again with "
            'iron.Secret(...), or give it iron.Secret.from_env("NAME"), which every process reads for itself'
        )

    def digest(self, keyed: Callable[[bytes], bytes]) -> str:
        """Return the digest of the text, as hex; `keyed` computes it, if it is not recorded."""
        if self._digest is not None:
            return self._digest
        digest = keyed(self.value.encode("utf-8", "surrogatepass")).hex()
        self._of_process[digest] = self.value
        return digest

    def _known_text(self) -> str | None:
        if self._text is not None:
            return self._text
        if self.variable is not None:
            return os.environ.get(self.variable) or None
        return self._of_process.get(self._digest or "")

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._identity()))

    def _identity(self) -> tuple[str | None, str | None]:
        return (None, self.variable) if self.variable is not None else (self._known_text() or self._digest, None)

    def __repr__(self) -> str:
        return "Secret('***')" if self.variable is None else f"Secret.from_env({self.variable!r})"

    def __str__(self) -> str:
        return "***"
