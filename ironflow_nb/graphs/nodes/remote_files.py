"""Files that are not on this machine, by the libraries of fsspec: ``s3://``, ``gs://``, ``abfs://``, ``sftp://``.

A URL has to be granted as a file has, and a server that only ``storage`` names as a host has.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from ironflow_nb.errors import IronflowError
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import NodeContext, failure, missing_extra, options_schema
from ironflow_nb.graphs.nodes.folders import MAX_ENTRIES
from ironflow_nb.graphs.remote_paths import canonical_url

_CONNECT_S: Final = 10.0
_READ_S: Final = 60.0

_TEXT: Final = {"type": "string", "minLength": 1}

STORAGE: Final = options_schema(
    {
        "key": {**_TEXT, "description": "of s3: the id of the access key"},
        "secret": {**_TEXT, "description": "of s3: the secret access key; take it from secrets"},
        "token": {**_TEXT, "description": "of s3: the token of the session"},
        "anonymous": {"type": "boolean", "description": "of s3 and gs: whether nobody is named; for public data"},
        "endpoint_url": {**_TEXT, "description": "of s3: another server that speaks as S3 does, of a granted host"},
        "region": {**_TEXT, "description": "of s3: the region"},
        "account": {**_TEXT, "description": "of abfs: the account, whose host is to be granted"},
        "account_key": {**_TEXT, "description": "of abfs: the key of the account"},
        "user": {**_TEXT, "description": "of sftp, ftp and smb: the user"},
        "password": {**_TEXT, "description": "of sftp, ftp and smb: the password"},
    },
    description="of a URL: how its server is asked; by default with the credentials of this machine",
)


def _s3(storage: Mapping[str, Any], context: NodeContext, limit_s: float) -> dict[str, Any]:
    given: dict[str, Any] = {name: storage[name] for name in ("key", "secret", "token") if name in storage}
    client = {"region_name": storage["region"]} if "region" in storage else {}
    if "endpoint_url" in storage:
        context.grants.require(Need("http", storage["endpoint_url"]))
        given["endpoint_url"] = storage["endpoint_url"]
    # The node has its own retries.
    config = {"connect_timeout": min(limit_s, _CONNECT_S), "read_timeout": limit_s, "retries": {"max_attempts": 0}}
    anonymous = storage.get("anonymous", False)
    return {**given, "anon": anonymous, "client_kwargs": client, "config_kwargs": config, "use_listings_cache": False}


def _gs(storage: Mapping[str, Any], _context: NodeContext, _limit_s: float) -> dict[str, Any]:
    return {"token": "anon"} if storage.get("anonymous", False) else {}


def _azure(storage: Mapping[str, Any], context: NodeContext, _limit_s: float) -> dict[str, Any]:
    if "account" in storage:
        context.grants.require(Need("http", f"https://{storage['account']}.blob.core.windows.net"))
    return {
        f"account_{name}": storage[key] for name, key in (("name", "account"), ("key", "account_key")) if key in storage
    }


def _of_host(storage: Mapping[str, Any], _context: NodeContext, _limit_s: float) -> dict[str, Any]:
    return {name: storage[key] for name, key in (("username", "user"), ("password", "password")) if key in storage}


class _Protocol(NamedTuple):
    """How the options of a node become those of the file system of a protocol, and which there are."""

    options: Callable[[Mapping[str, Any], NodeContext, float], dict[str, Any]]
    known: frozenset[str] = frozenset()


def _other(_storage: Mapping[str, Any], _context: NodeContext, _limit_s: float) -> dict[str, Any]:
    return {}


_S3: Final = _Protocol(_s3, frozenset({"key", "secret", "token", "anonymous", "endpoint_url", "region"}))
_GS: Final = _Protocol(_gs, frozenset({"anonymous"}))
_AZURE: Final = _Protocol(_azure, frozenset({"account", "account_key"}))
_HOST: Final = _Protocol(_of_host, frozenset({"user", "password"}))
_OTHER: Final = _Protocol(_other)
_PROTOCOLS: Final = {
    "s3": _S3, "s3a": _S3, "gs": _GS, "gcs": _GS, "az": _AZURE, "abfs": _AZURE, "abfss": _AZURE, "sftp": _HOST,
    "ssh": _HOST, "ftp": _HOST, "smb": _HOST,
}  # fmt: skip


class RemoteFiles:
    """The files of one URL and below it, for one node."""

    def __init__(self, url: str, storage: Mapping[str, Any], context: NodeContext) -> None:
        context.grants.require(Need("files", url))
        canonical = canonical_url(url)
        if canonical is None:
            raise failure(context, f"{url!r} is no URL of a file; a page of the web is for http", path=url)
        self._context = context
        scheme = canonical.partition(":")[0]
        protocol = _PROTOCOLS.get(scheme, _OTHER)
        refused = sorted(storage.keys() - protocol.known)
        if refused:
            known = ", ".join(sorted(protocol.known)) or "nothing"
            raise failure(context, f"storage of {scheme} can't have {refused[0]}; it can have {known}", path=url)
        limit_s = _READ_S if context.timeout_s is None else context.timeout_s
        self._system, self._path = self._open(canonical, protocol.options(storage, context, limit_s))

    def _open(self, url: str, options: dict[str, Any]) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise missing_extra(self._context, url.partition(":")[0], "s3") from None
        try:
            # An instance that is shared would keep credentials and listings.
            system, path = url_to_fs(url, skip_instance_cache=True, **options)
        except (ImportError, ValueError) as error:
            raise failure(self._context, f"{url} can't be opened: {error}", path=url) from None
        return system, str(path)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise what a library raises as an `OSError`; what the network caused may pass."""
        try:
            yield
        except FileNotFoundError as error:
            said = str(error)  # often only the path
            raise FileNotFoundError(errno.ENOENT, said if " " in said else "it is not there") from error
        except (OSError, IronflowError, ValueError):
            raise
        except Exception as error:  # noqa: BLE001 -- each library has its own
            name = type(error).__name__
            is_of_network = any(word in name for word in ("Connect", "Timeout", "Endpoint", "Incomplete"))
            raise OSError(errno.EIO if is_of_network else errno.EINVAL, f"{name}: {error}") from None

    def read(self, most: int) -> bytes:
        """Return the content.

        Raises:
            OSError: it can't be read.
            ValueError: it has more than `most` bytes.
        """
        with self._translated_errors():
            size = self._system.info(self._path).get("size")
            content: bytes = b"" if size == 0 else self._system.cat_file(self._path, start=0, end=most + 1)
        if len(content) > most or (size or 0) > most:
            raise ValueError(f"it has more than {most:,} bytes; read a smaller one, or raise max_bytes")
        return content

    def write(self, content: bytes, *, is_replacing: bool) -> int:
        """Write the content and return its size. What is there already counts as written if it is the same.

        Raises:
            OSError: it can't be written, or another content is there and may not be replaced.
        """
        with self._translated_errors():
            if not is_replacing and self._system.exists(self._path):
                if self._system.cat_file(self._path) != content:
                    raise FileExistsError(errno.EEXIST, "it is there with another content; overwrite: true replaces it")
                return len(content)
            self._system.pipe_file(self._path, content)
        return len(content)

    def delete(self, *, is_recursive: bool) -> bool:
        """Delete a file, or with `is_recursive` all below it; return False if there was nothing.

        Raises:
            OSError: it can't be deleted.
        """
        with self._translated_errors():
            if not self._system.exists(self._path):
                return False
            if self._system.isdir(self._path):
                if not is_recursive:
                    message = "it is a folder; to delete it with all that is in it: recursive: true"
                    raise IsADirectoryError(errno.EISDIR, message)
                for path in self._system.find(self._path):
                    self._system.rm_file(path)
                return True
            self._system.rm_file(self._path)
        return True

    def entries(self, *, pattern: str, is_recursive: bool) -> list[dict[str, Any]]:
        """Return the files, and the folders unless it is recursive, whose names fit the pattern, sorted by path.

        Raises:
            OSError: it can't be listed.
            ValueError: they are too many.
        """
        with self._translated_errors():
            if is_recursive:
                found = self._system.find(self._path, detail=True).values()
            else:
                found = self._system.ls(self._path, detail=True)
        entries = [self._entry(each) for each in found if each["name"].strip("/") != self._path.strip("/")]
        fitting = [entry for entry in entries if fnmatchcase(entry["name"], pattern)]
        if len(fitting) > MAX_ENTRIES:
            raise ValueError(f"it has more than {MAX_ENTRIES:,} entries; list less of it, or give a pattern")
        return sorted(fitting, key=lambda entry: str(entry["path"]))

    def _entry(self, found: Mapping[str, Any]) -> dict[str, Any]:
        path = str(found["name"]).rstrip("/")
        url = str(self._system.unstrip_protocol(path))
        is_folder = found.get("type") == "directory"
        return {
            "path": url, "name": path.rpartition("/")[2], "bytes": 0 if is_folder else found.get("size") or 0,
            "is_folder": is_folder,
        }  # fmt: skip

    def exists(self) -> dict[str, bool]:
        """Return whether something is there, and whether it is a folder."""
        with self._translated_errors():
            exists = bool(self._system.exists(self._path))
            return {"exists": exists, "is_folder": exists and bool(self._system.isdir(self._path))}
