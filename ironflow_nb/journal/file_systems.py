"""Detection of network file systems, on which other machines may write to a journal.

The write-ahead log needs memory that all its users share, which two machines do not have: SQLite's documentation says
that WAL does not work over a network file system.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset({
    "9p", "afp", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    "wekafs",
})  # fmt: skip
# Most other file systems in user space are on a network; a rollback journal works on all of them.
_LOCAL_IN_USER_SPACE: Final = frozenset({
    "bindfs", "cryfs", "encfs", "exfat", "fuse-overlayfs", "gocryptfs", "mergerfs", "ntfs-3g", "unionfs",
})  # fmt: skip
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path) -> str | None:
    """Return the type of the file system that holds the path, if other machines may write to it too.

    Only Linux tells; elsewhere, and where nothing is known, it is None.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = file_system(PurePosixPath(os.path.realpath(path)), mounts)
    return kind if is_network(kind) else None


def file_system(path: PurePosixPath, mounts: str) -> str:
    """Return the type of the file system of the path by the text of ``mountinfo``, or an empty text."""
    found, depth = "", 0
    for line in mounts.split("\n"):
        place, separator, source = line.partition(" - ")
        fields, kinds = place.split(" "), source.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = PurePosixPath(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # Of several mounts at one place the last one is visible.
        if len(point.parts) >= depth and path.is_relative_to(point):
            found, depth = kinds[0], len(point.parts)
    return found


def is_network(kind: str) -> bool:
    """Return True if files of a file system of that type may lie on another machine."""
    family, _, kind_in_user_space = kind.partition(".")
    if family == "fuse":
        return kind_in_user_space not in _LOCAL_IN_USER_SPACE
    return kind in _NETWORK
