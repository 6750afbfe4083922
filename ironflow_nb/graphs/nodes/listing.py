"""What is in granted folders."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from ironflow_nb.errors import NodeTimeout
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import NodeContext
from ironflow_nb.graphs.nodes.contents import PART_PREFIX, PART_SUFFIX
from ironflow_nb.graphs.nodes.folders import open_folder

MAX_ENTRIES: Final = 10_000

Found = tuple[str, os.stat_result]


def entries_in(
    place: Path, written: str, context: NodeContext, *, pattern: str, is_recursive: bool
) -> list[dict[str, Any]]:
    """Return the files and folders whose names fit the pattern, sorted by path, each path so that it can be read.

    A link is there as what it leads to, if that is granted; none is followed into a folder. Devices, pipes and what is
    being written are left out.

    Raises:
        OSError, ValueError: the folder can't be read, or has too many entries, or names that are no text.
        NodeTimeout: it takes longer than the node may.
    """
    until_s = None if context.timeout_s is None else context.monotonic() + context.timeout_s
    left, entries = [(place, written.rstrip("/"))], []
    while left:
        if until_s is not None and context.monotonic() > until_s:
            raise NodeTimeout(f"{context.node}: {written!r} took longer than {context.timeout_s:g} s to list")
        folder, prefix = left.pop()
        for name, found in _seen(folder, prefix, context):
            is_folder = stat.S_ISDIR(found.st_mode)
            path = f"{prefix}/{name}"
            if is_recursive and is_folder and not (folder / name).is_symlink():
                left.append((folder / name, path))
            if fnmatchcase(name, pattern):
                entries.append({"path": path, "name": _text(name), "bytes": found.st_size, "is_folder": is_folder})
            if len(entries) > MAX_ENTRIES:
                raise ValueError(f"it has more than {MAX_ENTRIES:,} entries; list less of it, or give a pattern")
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _seen(place: Path, prefix: str, context: NodeContext) -> Iterator[Found]:
    with open_folder(place) as folder:
        for name, found in folder.entries():
            if name.startswith(PART_PREFIX) and name.endswith(PART_SUFFIX):
                continue
            leads_to: os.stat_result | None = found
            if stat.S_ISLNK(found.st_mode):
                leads_to = _led_to(f"{prefix}/{name}", context)
            if leads_to is not None and (stat.S_ISREG(leads_to.st_mode) or stat.S_ISDIR(leads_to.st_mode)):
                yield name, leads_to


def _led_to(path: str, context: NodeContext) -> os.stat_result | None:
    if context.grants.refusal(Need("files", path)) is not None:
        return None
    try:
        return context.grants.resolved(path).stat()
    except (OSError, RuntimeError):
        return None  # it leads nowhere


def _text(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, f"the name {os.fsencode(name)!r} in it is no UTF-8; rename that") from None
    return name
