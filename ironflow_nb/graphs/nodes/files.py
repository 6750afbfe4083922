"""The kind ``file``: one action on the files of the granted folders, with the schema of its options."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ironflow_nb.errors import IronflowError
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import write_json
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.folders import (
    MAX_ENTRIES,
    Folder,
    append,
    chunks_of,
    entries_in,
    open_folder,
    put,
    require_file,
)

MAX_BYTES: Final = 50_000_000
ACTIONS: Final = ("read", "write", "append", "copy", "move", "delete", "list", "exists")


def _belongs(option: str, actions: Iterable[str]) -> dict[str, Any]:
    return {
        "description": f"{option} belongs to {' and '.join(actions)} only",
        "not": {"required": [option], "not": {"anyOf": [{"required": [action]} for action in actions]}},
    }


def _demands(action: str, option: str) -> dict[str, Any]:
    return {"description": f"{action} needs {option} too", "not": {"required": [action], "not": {"required": [option]}}}


_PATH: Final = {"type": "string", "minLength": 1}

SCHEMA: Final = options_schema(
    {
        "read": _PATH | {"description": "the file to read, of which content and bytes are given"},
        "write": _PATH | {"description": "the file to write, whole or not at all; folders that are missing are made"},
        "append": _PATH | {"description": "the file to append to; once more if the node is done again: see once"},
        "copy": _PATH | {"description": "the file to copy"},
        "move": _PATH | {"description": "the file or folder to move"},
        "delete": _PATH | {"description": "the file, link or folder to delete"},
        "list": _PATH | {"description": f"the folder to list: at most {MAX_ENTRIES:,} entries, sorted by their paths"},
        "exists": _PATH | {"description": "the path to look for; gives exists and is_folder"},
        "to": _PATH | {"description": "where a copied or moved file is to be, with its name"},
        "as": {"description": "text of UTF-8, the default, or bytes", "enum": ["text", "bytes"]},
        "content": {
            "description": "what to write: a text, bytes, or other data, which becomes JSON, and one line if appended"
        },
        "overwrite": {
            "description": "whether a file with another content may be replaced; true unless said",
            "type": "boolean",
        },
        "missing_ok": {"description": "whether nothing may be there to delete; false unless said", "type": "boolean"},
        "recursive": {
            "description": "whether folders are listed with those inside, or deleted with all; false unless said",
            "type": "boolean",
        },
        "pattern": {
            "description": "which names are listed, for instance *.csv; all unless said",
            "type": "string",
            "minLength": 1,
        },
        "max_bytes": {
            "description": f"how large a file may be that is read; {MAX_BYTES:,} bytes unless said",
            "type": "integer",
            "minimum": 0,
            "maximum": 2_000_000_000,
        },
    },
    allOf=[
        {
            "description": f"a file node does exactly one of these: {', '.join(ACTIONS)}",
            "not": {"not": {"oneOf": [{"required": [action]} for action in ACTIONS]}},
        },
        *[_demands(action, "content") for action in ("write", "append")],
        *[_demands(action, "to") for action in ("copy", "move")],
        _belongs("content", ["write", "append"]),
        _belongs("to", ["copy", "move"]),
        _belongs("overwrite", ["write", "copy", "move"]),
        _belongs("recursive", ["list", "delete"]),
        _belongs("as", ["read"]),
        _belongs("max_bytes", ["read"]),
        _belongs("missing_ok", ["delete"]),
        _belongs("pattern", ["list"]),
    ],
)


_MAY_PASS: Final = {
    errno.ENOENT, errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOSPC,
    errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ETXTBSY,
}  # fmt: skip
"""What another try may not meet again: a file that is missing may come."""

_HOME: Final = [home for home in (os.path.expanduser("~"),) if home != "~"]  # noqa: PTH111 -- pathlib raises without one


class _Files:
    """The files that one node may touch."""

    def __init__(self, context: NodeContext) -> None:
        self.context = context

    def place(self, written: str) -> Path:
        """Return where a path leads, all its links followed."""
        return self.context.grants.path(written)

    def target(self, written: str) -> Path:
        """Return where a path leads that is written to.

        Raises:
            PermissionError: a program is there, or would be found there, that is granted by its name.
        """
        place = self.place(written)
        self.require_no_program(place)
        return place

    def require_no_program(self, place: Path) -> None:
        """Refuse to change what a granted program does, or what is found by its name."""
        if any(program.is_relative_to(place) for program in programs_of(self.context.grants)):
            told = "a program is there that this graph may run, so it may not change it"
            raise PermissionError(errno.EPERM, told)

    def entry(self, written: str) -> Path:
        """Return the place of a path itself, which may be a link: its folder is resolved, its name is not."""
        grants = self.context.grants
        folder, name = os.path.split(written.rstrip(os.sep))
        entry = grants.resolved(folder or ".") / name
        if name in {"", ".", ".."} or entry == grants.resolved(written):
            return self.place(written)
        self.place(folder or ".")  # a link belongs to whom its folder belongs, wherever it leads
        return entry

    @contextmanager
    def folder_of(self, place: Path, *, is_made: bool = False) -> Iterator[Folder]:
        """Open the folder around a place; what is missing of it is made inside of what is granted."""
        if not place.name:
            raise IsADirectoryError(errno.EISDIR, "it is the root of all folders")
        grants = self.context.grants

        def may_make(folder: Path) -> bool:
            return grants.refusal(Need("files", str(folder))) is None

        with open_folder(place.parent, may_make if is_made else None) as folder:
            yield folder

    def require_no_root(self, place: Path) -> None:
        """Refuse to take away a folder that is granted itself, or has one of those in it."""
        grants = self.context.grants
        names = grants.allowed.get("files")
        roots = [grants.resolved(name) for name in (names if isinstance(names, tuple) else (".", *_HOME))]
        if any(root.is_relative_to(place) for root in roots):
            raise OSError(errno.EPERM, "it is a granted folder itself, or has one in it; name what is in it instead")

    @contextmanager
    def telling(self, what: str, written: str) -> Iterator[None]:
        """Raise whatever goes wrong inside as the failure of the node, with the path as it was written."""
        try:
            yield
        except IronflowError:
            raise
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            number = getattr(error, "errno", None)
            said = getattr(error, "strerror", None) or error
            raise failure(
                self.context, f"{written!r} can't be {what}: {said}", is_retryable=number in _MAY_PASS, path=written
            ) from error


def programs_of(grants: Grants) -> Iterator[Path]:
    """Yield where the programs that are granted by name are, and where they would be found if they were there."""
    names = grants.allowed.get("shell", False)
    for name in names if isinstance(names, tuple) else ():
        if any(sign in name for sign in (os.sep, os.altsep) if sign):
            yield grants.resolved(name)
        else:
            yield from (Path(folder, name).resolve() for folder in os.get_exec_path() if folder)
            yield from (Path(folder).resolve() / name for folder in os.get_exec_path() if folder)


# -- actions -----------------------------------------------------------------------------------------------------


def bytes_of(content: Any, *, is_line: bool = False) -> bytes:
    """Return what is written of a value: a text and bytes as they are, other data as JSON.

    Raises:
        ValueError, TypeError: it has no such form.
    """
    match content:
        case str():
            return content.encode()
        case bytes() | bytearray() | memoryview():
            return bytes(content)
        case _:
            indent = None if is_line else 2
            return f"{write_json(content, ensure_ascii=False, indent=indent, separators=None)}\n".encode()


def text_of(content: bytes) -> str:
    """Return the text, without the mark that some programs begin it with.

    Raises:
        ValueError: it is no UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text of UTF-8, at byte {error.start}; as: bytes reads it") from None


def _read(options: Options, files: _Files) -> dict[str, Any]:
    written, most = options["read"], options.get("max_bytes", MAX_BYTES)
    with files.telling("read", written):
        place = files.place(written)
        with files.folder_of(place) as folder, os.fdopen(folder.open_file(place.name, os.O_RDONLY), "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"it has more than {most} bytes; read a smaller one, or raise max_bytes")
        is_text = options.get("as", "text") == "text"
        return {"path": written, "content": text_of(content) if is_text else content, "bytes": len(content)}


def _write(options: Options, files: _Files) -> dict[str, Any]:
    written = options["write"]
    with files.telling("written", written):
        content = bytes_of(options["content"])
        place = files.target(written)
        with files.folder_of(place, is_made=True) as folder:
            put(folder, place.name, [content], is_replacing=options.get("overwrite", True))
        return {"path": written, "bytes": len(content)}


def _append(options: Options, files: _Files) -> dict[str, Any]:
    written = options["append"]
    with files.telling("appended to", written):
        content = bytes_of(options["content"], is_line=True)
        place = files.target(written)
        with files.folder_of(place, is_made=True) as folder:
            return {"path": written, "bytes": append(folder, place.name, content)}


def _copy(options: Options, files: _Files) -> dict[str, Any]:
    written, to = options["copy"], options["to"]
    with files.telling(f"copied to {to!r}", written):
        source, target = files.place(written), files.target(to)
        with files.folder_of(source) as folder, files.folder_of(target, is_made=True) as into:
            n_bytes = _copy_file(folder, source.name, into, target.name, options)
        return {"path": to, "bytes": n_bytes}


def _copy_file(folder: Folder, name: str, into: Folder, new_name: str, options: Options) -> int:
    with os.fdopen(folder.open_file(name, os.O_RDONLY), "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o777
        return put(into, new_name, chunks_of(file), is_replacing=options.get("overwrite", True), mode=mode)


def _move(options: Options, files: _Files) -> dict[str, Any]:
    written, to = options["move"], options["to"]
    with files.telling(f"moved to {to!r}", written):
        source, target = files.entry(written), files.target(to)
        files.require_no_program(source)
        with files.folder_of(source) as folder, files.folder_of(target, is_made=True) as into:
            found = folder.status(source.name)
            there = into.status(target.name)
            if found is None:
                hint = f", and {to!r} is there: perhaps it was moved already" if there is not None else ""
                raise FileNotFoundError(errno.ENOENT, f"it is not there{hint}")
            if there is not None:
                require_file(there)
            if stat.S_ISDIR(found.st_mode):
                files.require_no_root(source)
                folder.rename(source.name, into, target.name)
            else:
                require_file(found)
                _move_file(folder, source.name, into, target.name, options)
            into.sync()
            folder.sync()
        return {"path": to, "bytes": 0 if stat.S_ISDIR(found.st_mode) else found.st_size}


def _move_file(folder: Folder, name: str, into: Folder, new_name: str, options: Options) -> None:
    rename = folder.rename if options.get("overwrite", True) else folder.rename_to_free
    try:
        rename(name, into, new_name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_file(folder, name, into, new_name, options)  # it lies on another disk
        folder.remove(name)


def _delete(options: Options, files: _Files) -> dict[str, Any]:
    written = options["delete"]
    with files.telling("deleted", written):
        place = files.entry(written)
        files.require_no_program(place)
        try:
            with files.folder_of(place) as folder:
                is_deleted = _delete_in(folder, place, files, is_recursive=options.get("recursive", False))
        except FileNotFoundError:
            is_deleted = False
        if not is_deleted and not options.get("missing_ok", False):
            raise FileNotFoundError(errno.ENOENT, "it is not there; if that is no mistake: missing_ok: true")
        return {"path": written, "is_deleted": is_deleted}


def _delete_in(folder: Folder, place: Path, files: _Files, *, is_recursive: bool) -> bool:
    found = folder.status(place.name)
    if found is None:
        return False
    if stat.S_ISDIR(found.st_mode):
        files.require_no_root(place)
        if not is_recursive:
            raise IsADirectoryError(
                errno.EISDIR, "it is a folder; to delete it with all that is in it: recursive: true"
            )
        folder.remove_tree(place.name)
    else:
        if not stat.S_ISLNK(found.st_mode):
            require_file(found)
        folder.remove(place.name)
    folder.sync()
    return True


def _list(options: Options, files: _Files) -> dict[str, Any]:
    written = options["list"]
    with files.telling("listed", written):
        entries = entries_in(
            files.place(written),
            written,
            files.context,
            pattern=options.get("pattern", "*"),
            is_recursive=options.get("recursive", False),
        )
        return {"path": written, "entries": entries, "n_entries": len(entries)}


def _exists(options: Options, files: _Files) -> dict[str, Any]:
    written = options["exists"]
    with files.telling("looked for", written):
        place = files.place(written)
        found = None
        try:
            if place.name:
                with files.folder_of(place) as folder:
                    found = folder.status(place.name)
            else:
                found = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            pass
        is_folder = found is not None and stat.S_ISDIR(found.st_mode)
        return {"path": written, "exists": found is not None, "is_folder": is_folder}


_ACTIONS: Final[Mapping[str, Callable[[Options, _Files], dict[str, Any]]]] = {
    "read": _read, "write": _write, "append": _append, "copy": _copy, "move": _move, "delete": _delete,
    "list": _list, "exists": _exists,
}  # fmt: skip


def _perform(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    action = next(name for name in _ACTIONS if name in options)
    return _ACTIONS[action](options, _Files(context))


def _needs(options: Options) -> Iterator[Need]:
    for name in (*_ACTIONS, "to"):
        path = options.get(name)
        if isinstance(path, str) and OPENING not in path:
            yield Need("files", path)


FILE: Final = Kind(
    name="file",
    description="Reads, writes, appends to, copies, moves, deletes, lists or looks for a file in what allow: {files:"
    " [...]} names; a path alone is read.",
    schema=SCHEMA,
    perform=_perform,
    shorthand="read",
    needs=_needs,
    is_outside=True,
)
