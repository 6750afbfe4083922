"""The kind ``file``: one action on the files of the granted folders, with the schema of its options."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from ironflow_nb.errors import IronflowError
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import write_json
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.folders import (
    MAX_ENTRIES,
    Folder,
    append_bytes,
    chunks_of,
    list_entries,
    open_folder,
    require_file,
    write_whole,
)
from ironflow_nb.graphs.nodes.remote_files import STORAGE, RemoteFiles
from ironflow_nb.graphs.remote_paths import is_remote
from ironflow_nb.values.private_files import open_journals

MAX_BYTES: Final = 50_000_000
MOST_COPIED: Final = 500_000_000
"""The most bytes that are copied from or to a server."""

ACTIONS: Final = ("read", "write", "append", "copy", "move", "delete", "list", "exists")


def _only_with(option: str, actions: Iterable[str]) -> dict[str, Any]:
    return {
        "description": f"{option} belongs to {' and '.join(actions)} only",
        "not": {"required": [option], "not": {"anyOf": [{"required": [action]} for action in actions]}},
    }


def _requires(action: str, option: str) -> dict[str, Any]:
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
            "description": "whether a file with another content may be replaced; by default true",
            "type": "boolean",
        },
        "missing_ok": {"description": "whether nothing may be there to delete; by default false", "type": "boolean"},
        "recursive": {
            "description": "whether folders are listed with those inside, or deleted with all; by default false",
            "type": "boolean",
        },
        "pattern": {
            "description": "which names are listed, for instance *.csv; by default all",
            "type": "string",
            "minLength": 1,
        },
        "storage": STORAGE,
        "max_bytes": {
            "description": f"how large a file may be that is read; by default {MAX_BYTES:,} bytes",
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
        *[_requires(action, "content") for action in ("write", "append")],
        *[_requires(action, "to") for action in ("copy", "move")],
        _only_with("content", ["write", "append"]),
        _only_with("to", ["copy", "move"]),
        _only_with("overwrite", ["write", "copy", "move"]),
        _only_with("recursive", ["list", "delete"]),
        _only_with("as", ["read"]),
        _only_with("max_bytes", ["read"]),
        _only_with("missing_ok", ["delete"]),
        _only_with("pattern", ["list"]),
        _only_with("storage", ["read", "write", "copy", "delete", "list", "exists"]),
    ],
)


_TRANSIENT: Final = {
    errno.ENOENT, errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOSPC,
    errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ETXTBSY,
}  # fmt: skip
"""Errors that may be gone at the next attempt: a missing file may arrive."""

_HOME: Final = [home for home in (os.path.expanduser("~"),) if home != "~"]  # noqa: PTH111 -- pathlib raises without one


class NodeFiles:
    """The paths of one node: where they lead, and what is refused there."""

    def __init__(self, context: NodeContext) -> None:
        self.context = context

    def place(self, written: str) -> Path:
        """Return the granted path with all links resolved."""
        return self.context.grants.path(written)

    def target(self, written: str) -> Path:
        """Return the resolved path of a file that is written.

        Raises:
            PermissionError: it is a program that the graph may run, or would be found as one.
        """
        place = self.place(written)
        self.require_no_program(place)
        return place

    def require_no_program(self, place: Path) -> None:
        """Refuse to change a granted program, or which file is found by its name."""
        if any(program.is_relative_to(place) for program in _granted_programs(self.context.grants)):
            message = "a program is there that this graph may run, so it may not change it"
            raise PermissionError(errno.EPERM, message)

    def entry(self, written: str) -> Path:
        """Return the path with its folder resolved and its own name not, so that a link is used itself."""
        grants = self.context.grants
        folder, name = os.path.split(written.rstrip(os.sep))
        entry = grants.resolved(folder or ".") / name
        if name in {"", ".", ".."} or entry == grants.resolved(written):
            return self.place(written)
        self.place(folder or ".")  # a link is granted with its folder, whatever its target
        return entry

    @contextmanager
    def folder_of(self, place: Path, *, is_made: bool = False) -> Iterator[Folder]:
        """Open the folder of a path; missing folders are created inside of granted ones."""
        if not place.name:
            raise IsADirectoryError(errno.EISDIR, "it is the root of all folders")
        grants = self.context.grants

        def may_make(folder: Path) -> bool:
            return grants.refusal(Need("files", str(folder))) is None

        with open_folder(place.parent, may_make if is_made else None) as folder:
            yield folder

    def write_whole(self, written: str, chunks: Iterable[bytes], *, is_replacing: bool = True) -> int:
        """Write a granted file, whole or not at all, with the folders that are missing; return its size."""
        place = self.target(written)
        with self.folder_of(place, is_made=True) as folder:
            return write_whole(folder, place.name, chunks, is_replacing=is_replacing)

    @contextmanager
    def opened(self, written: str) -> Iterator[IO[bytes]]:
        """Open a granted file for reading."""
        place = self.place(written)
        with self.folder_of(place) as folder, os.fdopen(folder.open_file(place.name, os.O_RDONLY), "rb") as file:
            yield file

    def require_no_root(self, place: Path) -> None:
        """Refuse to move or delete a folder that is granted itself, or contains a granted one or a journal in use."""
        for journal in open_journals():
            if journal.resolve().is_relative_to(place):
                raise OSError(errno.EPERM, f"the journal {journal}, which is in use here, lies in it")
        grants = self.context.grants
        names = grants.allowed.get("files")
        local = grants.local_names(names) if isinstance(names, tuple) else (".", *_HOME)
        roots = [grants.resolved(name) for name in local]
        if any(root.is_relative_to(place) for root in roots):
            raise OSError(errno.EPERM, "it is a granted folder itself, or has one in it; name what is in it instead")

    @contextmanager
    def translated_errors(self, what: str, written: str) -> Iterator[None]:
        """Raise an error of the inside as the failure of the node, with the path as the graph has it."""
        try:
            yield
        except IronflowError:
            raise
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            number = getattr(error, "errno", None)
            reason = getattr(error, "strerror", None) or error
            raise failure(
                self.context, f"{written!r} can't be {what}: {reason}", is_retryable=number in _TRANSIENT, path=written
            ) from error


def _granted_programs(grants: Grants) -> Iterator[Path]:
    """Yield the paths of programs that are granted by name, also those where a program would be found first."""
    names = grants.allowed.get("shell", False)
    for name in names if isinstance(names, tuple) else ():
        if any(sign in name for sign in (os.sep, os.altsep) if sign):
            yield grants.resolved(name)
        else:
            yield from (Path(folder, name).resolve() for folder in os.get_exec_path() if folder)
            yield from (Path(folder).resolve() / name for folder in os.get_exec_path() if folder)


# -- actions -----------------------------------------------------------------------------------------------------


def _encode_content(content: Any, *, is_line: bool = False) -> bytes:
    """Return the bytes to write of a value: a text as UTF-8, bytes themselves, other data as JSON.

    Raises:
        ValueError, TypeError: it can't be written as JSON.
    """
    match content:
        case str():
            return content.encode()
        case bytes() | bytearray() | memoryview():
            return bytes(content)
        case _:
            indent = None if is_line else 2
            return f"{write_json(content, ensure_ascii=False, indent=indent, separators=None)}\n".encode()


def _decode_content(content: bytes) -> str:
    """Decode the text as UTF-8, without a byte order mark.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text of UTF-8, at byte {error.start}; as: bytes reads it") from None


def _read_file(options: Options, files: NodeFiles) -> dict[str, Any]:
    written, most = options["read"], options.get("max_bytes", MAX_BYTES)
    with files.translated_errors("read", written):
        with files.opened(written) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"it has more than {most} bytes; read a smaller one, or raise max_bytes")
        is_text = options.get("as", "text") == "text"
        return {"path": written, "content": _decode_content(content) if is_text else content, "bytes": len(content)}


def _write_file(options: Options, files: NodeFiles) -> dict[str, Any]:
    written = options["write"]
    with files.translated_errors("written", written):
        content = _encode_content(options["content"])
        files.write_whole(written, [content], is_replacing=options.get("overwrite", True))
        return {"path": written, "bytes": len(content)}


def _append_file(options: Options, files: NodeFiles) -> dict[str, Any]:
    written = options["append"]
    with files.translated_errors("appended to", written):
        content = _encode_content(options["content"], is_line=True)
        place = files.target(written)
        with files.folder_of(place, is_made=True) as folder:
            return {"path": written, "bytes": append_bytes(folder, place.name, content)}


def _copy_path(options: Options, files: NodeFiles) -> dict[str, Any]:
    written, to = options["copy"], options["to"]
    with files.translated_errors(f"copied to {to!r}", written):
        source, target = files.place(written), files.target(to)
        with files.folder_of(source) as folder, files.folder_of(target, is_made=True) as into:
            n_bytes = _copy_file(folder, source.name, into, target.name, options)
        return {"path": to, "bytes": n_bytes}


def _copy_file(folder: Folder, name: str, into: Folder, new_name: str, options: Options) -> int:
    with os.fdopen(folder.open_file(name, os.O_RDONLY), "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o777
        return write_whole(into, new_name, chunks_of(file), is_replacing=options.get("overwrite", True), mode=mode)


def _move_path(options: Options, files: NodeFiles) -> dict[str, Any]:
    written, to = options["move"], options["to"]
    with files.translated_errors(f"moved to {to!r}", written):
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
        _copy_file(folder, name, into, new_name, options)  # the target is on another file system
        folder.remove(name)


def _delete_path(options: Options, files: NodeFiles) -> dict[str, Any]:
    written = options["delete"]
    with files.translated_errors("deleted", written):
        place = files.entry(written)
        files.require_no_program(place)
        try:
            with files.folder_of(place) as folder:
                is_deleted = _delete_entry(folder, place, files, is_recursive=options.get("recursive", False))
        except FileNotFoundError:
            is_deleted = False
        if not is_deleted and not options.get("missing_ok", False):
            raise FileNotFoundError(errno.ENOENT, "it is not there; if that is no mistake: missing_ok: true")
        return {"path": written, "is_deleted": is_deleted}


def _delete_entry(folder: Folder, place: Path, files: NodeFiles, *, is_recursive: bool) -> bool:
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


def _list_folder(options: Options, files: NodeFiles) -> dict[str, Any]:
    written = options["list"]
    with files.translated_errors("listed", written):
        entries = list_entries(
            files.place(written),
            written,
            files.context,
            pattern=options.get("pattern", "*"),
            is_recursive=options.get("recursive", False),
        )
        return {"path": written, "entries": entries, "n_entries": len(entries)}


def _check_exists(options: Options, files: NodeFiles) -> dict[str, Any]:
    written = options["exists"]
    with files.translated_errors("looked for", written):
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


def _perform_remote(action: str, options: Options, files: NodeFiles) -> dict[str, Any]:
    """Do an action on a URL, or one that copies from or to one."""
    __tracebackhide__ = True
    written, storage, context = options[action], options.get("storage", {}), files.context
    if action not in _DONE_REMOTELY:
        raise failure(context, f"{action} is for files of this machine; read and write the whole, or copy and delete")
    with files.translated_errors(_DONE_REMOTELY[action], written):
        if action == "copy":
            return _copy_remotely(options, files)
        remote = RemoteFiles(written, storage, context)
        match action:
            case "read":
                content = remote.read(options.get("max_bytes", MAX_BYTES))
                is_text = options.get("as", "text") == "text"
                return {
                    "path": written, "content": _decode_content(content) if is_text else content, "bytes": len(content)
                }  # fmt: skip
            case "write":
                content = _encode_content(options["content"])
                n_bytes = remote.write(content, is_replacing=options.get("overwrite", True))
                return {"path": written, "bytes": n_bytes}
            case "delete":
                is_deleted = remote.delete(is_recursive=options.get("recursive", False))
                if not is_deleted and not options.get("missing_ok", False):
                    raise FileNotFoundError(errno.ENOENT, "it is not there; if that is no mistake: missing_ok: true")
                return {"path": written, "is_deleted": is_deleted}
            case "list":
                pattern, is_recursive = options.get("pattern", "*"), options.get("recursive", False)
                entries = remote.entries(pattern=pattern, is_recursive=is_recursive)
                return {"path": written, "entries": entries, "n_entries": len(entries)}
            case _:
                return {"path": written, **remote.exists()}


_DONE_REMOTELY: Final = {
    "read": "read", "write": "written", "copy": "copied", "delete": "deleted", "list": "listed",
    "exists": "looked for",
}  # fmt: skip


def _copy_remotely(options: Options, files: NodeFiles) -> dict[str, Any]:
    written, to, storage = options["copy"], options["to"], options.get("storage", {})
    target = RemoteFiles(to, storage, files.context) if is_remote(to) else None
    if is_remote(written):
        content = RemoteFiles(written, storage, files.context).read(MOST_COPIED)
    else:
        with files.opened(written) as file:
            content = file.read(MOST_COPIED + 1)
        if len(content) > MOST_COPIED:
            raise ValueError(f"it has more than {MOST_COPIED:,} bytes")
    is_replacing = options.get("overwrite", True)
    if target is None:
        return {"path": to, "bytes": files.write_whole(to, [content], is_replacing=is_replacing)}
    return {"path": to, "bytes": target.write(content, is_replacing=is_replacing)}


_ACTIONS: Final[Mapping[str, Callable[[Options, NodeFiles], dict[str, Any]]]] = {
    "read": _read_file, "write": _write_file, "append": _append_file, "copy": _copy_path, "move": _move_path,
    "delete": _delete_path, "list": _list_folder, "exists": _check_exists,
}  # fmt: skip


def _perform(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    action = next(name for name in _ACTIONS if name in options)
    if any(isinstance(options.get(name), str) and is_remote(options[name]) for name in (action, "to")):
        return _perform_remote(action, options, NodeFiles(context))
    return _ACTIONS[action](options, NodeFiles(context))


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
