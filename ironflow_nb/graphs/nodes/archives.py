"""The kinds ``zip`` and ``unzip``: files of the granted folders into one archive, and out of it.

An archive is hostile until it is read: its names are checked before anything is written, and its bytes are counted
while they are unpacked, whatever it says of itself.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from ironflow_nb.errors import NodeTimeout
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, options_schema
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.files import NodeFiles
from ironflow_nb.graphs.nodes.folders import MAX_ENTRIES, chunks_of, list_entries

MAX_BYTES: Final = 500_000_000
_DIRECTORY_BYTES: Final = 16_000_000
"""The largest piece of an archive that is read at once: the table of its entries."""

_PACKAGE_BYTES: Final = 300_000_000
"""The most bytes that a document of Office has when it is unpacked."""

_FIRST_YEAR, _LAST_YEAR = 1980, 2107
"""The years that an archive knows."""

_PATH: Final = {"type": "string", "minLength": 1}
_OF_WINDOWS: Final = re.compile(r'[<>:"|?*\x01-\x1f]|[. ]$')


def require_bounded_package(file: IO[bytes], kind: str) -> None:
    """Refuse a document of Office that is no archive, or too large when it is unpacked; the file is at its start then.

    Raises:
        ValueError: with what is wrong; `kind` says what it should be.
    """
    file.seek(0)
    try:
        with ZipFile(file) as archive:
            n_bytes = sum(info.file_size for info in archive.filelist)  # a member yields no more than the table says
    except (BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is no {kind}: {error}") from None
    if n_bytes > _PACKAGE_BYTES:
        raise ValueError(f"it has {n_bytes:,} bytes unpacked; at most {_PACKAGE_BYTES:,} are read")
    file.seek(0)


class _Limits:
    """What one node may still do: entries, bytes, and time."""

    def __init__(self, options: Options, context: NodeContext) -> None:
        self._context = context
        self._until_s = None if context.timeout_s is None else context.monotonic() + context.timeout_s
        self.most_entries: int = options.get("max_entries", MAX_ENTRIES)
        self.most_bytes: int = options.get("max_bytes", MAX_BYTES)
        self.n_bytes = 0

    def require_entries(self, n_entries: int) -> None:
        if n_entries > self.most_entries:
            raise ValueError(f"it has more than {self.most_entries:,} entries; raise max_entries to take them")

    def require_bytes(self, n_bytes: int) -> None:
        if n_bytes > self.most_bytes:
            raise ValueError(f"it has more than {self.most_bytes:,} bytes unpacked; raise max_bytes to take them")

    def counted(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield the rest of the file in chunks, within the limits."""
        for chunk in chunks_of(file):
            self.n_bytes += len(chunk)
            self.require_bytes(self.n_bytes)
            if self._until_s is not None and self._context.monotonic() > self._until_s:
                message = f"{self._context.node}: it took longer than {self._context.timeout_s:g} s; raise timeout_s"
                raise NodeTimeout(message, node=self._context.node)
            yield chunk


# -- zip ---------------------------------------------------------------------------------------------------------


def _zip(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    files, limits, to = NodeFiles(context), _Limits(options, context), options["to"]
    given = options["files"]
    named: dict[str, str] = {}
    for written in [given] if isinstance(given, str) else given:
        with files.translated_errors("zipped", written):
            for name, path in _members(written, to, files):
                if named.setdefault(name, path) != path:
                    raise ValueError(f"{named[name]!r} would have the same name in the archive: {name}")
            limits.require_entries(len(named))
    with files.translated_errors("written", to), tempfile.TemporaryFile() as made:
        with ZipFile(made, "w", ZIP_DEFLATED) as archive:
            for name, path in sorted(named.items()):
                _add_member(archive, name, path, files, limits)
        made.seek(0)
        n_bytes = files.write_whole(to, chunks_of(made), is_replacing=options.get("overwrite", True))
    return {"path": to, "entries": sorted(named), "n_entries": len(named), "bytes": n_bytes}


def _members(written: str, to: str, files: NodeFiles) -> Iterator[tuple[str, str]]:
    """Yield the name in the archive and the path of each file: of a folder all that are in it, but the archive."""
    place, target = files.place(written), files.place(to)
    if not place.is_dir():
        yield os.path.basename(written), written  # noqa: PTH119 -- a link has its own name in the archive
        return
    for entry in list_entries(place, written, files.context, pattern="*", is_recursive=True):
        path = entry["path"]
        if not entry["is_folder"] and files.place(path) != target:
            yield path.removeprefix(written.rstrip("/") + "/"), path


def _add_member(archive: ZipFile, name: str, path: str, files: NodeFiles, limits: _Limits) -> None:
    with files.translated_errors("zipped", path):
        place = files.place(path)
        with files.folder_of(place) as folder, os.fdopen(folder.open_file(place.name, os.O_RDONLY), "rb") as file:
            found = os.fstat(file.fileno())
            at = datetime.fromtimestamp(found.st_mtime, UTC)
            year = min(max(at.year, _FIRST_YEAR), _LAST_YEAR)
            info = ZipInfo(name, (year, at.month, at.day, at.hour, at.minute, at.second))
            info.compress_type = ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            with archive.open(info, "w", force_zip64=found.st_size >= 1 << 30) as member:
                for chunk in limits.counted(file):
                    member.write(chunk)


# -- unzip -------------------------------------------------------------------------------------------------------


def _unzip(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    files, limits, written = NodeFiles(context), _Limits(options, context), options["file"]
    with files.translated_errors("unzipped", written), _opened(written, files) as archive:
        members = _checked_members(archive, limits)
        entries: list[dict[str, Any]] = [{"path": info.filename, "bytes": info.file_size} for info in members]
        if "to" in options:
            to = options["to"].rstrip("/")
            targets = [f"{to}/{info.filename}" for info in members]
            for path in targets:
                files.target(path)  # all are granted before the first is written
            is_replacing = options.get("overwrite", True)
            for entry, path, info in zip(entries, targets, members, strict=True):
                with files.translated_errors("unzipped", path), archive.open(info) as member:
                    n_bytes = files.write_whole(path, limits.counted(member), is_replacing=is_replacing)
                entry |= {"path": path, "bytes": n_bytes}
    n_bytes = sum(entry["bytes"] for entry in entries)
    return {"path": options.get("to", written), "entries": entries, "n_entries": len(entries), "bytes": n_bytes}


class _BoundedFile:
    """A file whose reader can't take more of it at once than is reasonable."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            ValueError: too much is asked for.
        """
        most = _DIRECTORY_BYTES + 1
        content = self._file.read(min(size, most) if size >= 0 else most)
        if len(content) == most:
            raise ValueError("the table of its entries is too large")
        return content


@contextmanager
def _opened(written: str, files: NodeFiles) -> Iterator[ZipFile]:
    with files.opened(written) as file:
        try:
            with ZipFile(_BoundedFile(file)) as archive:
                yield archive
        except (BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ValueError(f"it is no valid zip archive: {error}") from None


def _checked_members(archive: ZipFile, limits: _Limits) -> list[ZipInfo]:
    """Return the files of the archive.

    Raises:
        ValueError: one has a name or a kind that may not be unpacked, or they are too many or too large.
    """
    limits.require_entries(len(archive.filelist))
    members = [info for info in archive.filelist if not info.is_dir()]  # folders are made where a file needs them
    limits.require_bytes(sum(info.file_size for info in members))
    known: dict[str, str] = {}
    for info in members:
        reason = _refusal(info)
        key = unicodedata.normalize("NFC", info.filename).casefold()
        if reason is None and key in known:
            reason = "is in it twice, or in two cases"
        if reason is not None:
            raise ValueError(f"{info.filename[:200]!r} {reason}; nothing was unpacked")
        known[key] = info.filename
    for name in known.values():
        parts = name.split("/")[:-1]
        for n_parts in range(1, len(parts) + 1):
            above = "/".join(parts[:n_parts])
            if unicodedata.normalize("NFC", above).casefold() in known:
                raise ValueError(f"{above[:200]!r} is both a file and a folder; nothing was unpacked")
    return members


def _refusal(info: ZipInfo) -> str | None:
    """Return why an entry may not be unpacked; None if it may."""
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    parts = name.split("/")
    if "\\" in name or any(part in {"", ".", ".."} for part in parts):
        return "is no path inside of a folder"
    if os.name == "nt" and any(map(_OF_WINDOWS.search, parts)):
        return "is no path of Windows"
    if kind not in {0, stat.S_IFREG}:
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        return "is compressed in another way than deflate"
    return None


# -- kinds -------------------------------------------------------------------------------------------------------


def _needs(options: Options) -> Iterator[Need]:
    for given in (options.get(name) for name in ("file", "files", "to")):
        for path in given if isinstance(given, list) else [given]:
            if isinstance(path, str) and OPENING not in path:
                yield Need("files", path)


_LIMITS: Final = {
    "max_entries": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": MAX_ENTRIES,
                    "description": "How many entries there may be."},
    "max_bytes": {"type": "integer", "minimum": 0, "maximum": 100_000_000_000, "default": MAX_BYTES,
                  "description": "How many bytes there may be in all, unpacked."},
}  # fmt: skip
_OVERWRITE: Final = {
    "type": "boolean",
    "default": True,
    "description": "Whether a file with another content may be replaced.",
}

ZIP: Final = Kind(
    name="zip",
    description="Puts files into a zip archive, whole or not at all; of a folder all that are in it.",
    schema=options_schema(
        {
            "files": {
                "anyOf": [_PATH, {"type": "array", "items": _PATH}],
                "description": "The file or folder, or a list of these.",
            },
            "to": {**_PATH, "description": "The archive to write."},
            "overwrite": _OVERWRITE,
            **_LIMITS,
        },
        required=["files", "to"],
    ),
    perform=_zip,
    needs=_needs,
    is_outside=True,
)

UNZIP: Final = Kind(
    name="unzip",
    description="Unpacks a zip archive into a folder, or lists its files if there is no to.",
    schema=options_schema(
        {
            "file": {**_PATH, "description": "The archive."},
            "to": {**_PATH, "description": "The folder to unpack into; without it, files are only listed."},
            "overwrite": _OVERWRITE,
            **_LIMITS,
        },
        required=["file"],
    ),
    perform=_unzip,
    shorthand="file",
    needs=_needs,
    is_outside=True,
)
