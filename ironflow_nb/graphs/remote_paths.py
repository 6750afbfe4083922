"""Paths of files that are not on this machine: URLs such as ``s3://bucket/folder/file``."""

from __future__ import annotations

import re
from typing import Final

_REMOTE: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f\\@]|::|\{\{")
"""Characters with a meaning of their own: users, chains of file systems, expressions."""

_ELSEWHERE: Final = frozenset({"file", "local", "http", "https"})


def is_remote(text: str) -> bool:
    """Return True if the text has the form of a URL, and so is no path of this machine."""
    return _REMOTE.match(text) is not None


def canonical_url(text: str) -> str | None:
    """Return the URL with its scheme in lower case and no slash at its end; None if it can't be granted.

    It names a place below the root of a bucket or host, without parts that lead upwards. Files of this machine have
    paths, and those of web servers requests.
    """
    found = _REMOTE.fullmatch(text)
    if found is None or _REFUSED.search(found[2]) or found[1].lower() in _ELSEWHERE:
        return None
    parts = found[2].rstrip("/").split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return None
    return f"{found[1].lower()}://{'/'.join(parts)}"


def is_within_url(text: str, root: str) -> bool:
    """Return True if the URL is that of the root, or below it."""
    inner, outer = canonical_url(text), canonical_url(root)
    return inner is not None and outer is not None and (inner == outer or inner.startswith(f"{outer}/"))
