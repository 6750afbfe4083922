"""What a value is once it is stored."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from ironflow_nb.core.identity import RECIPE
from ironflow_nb.core.ids import Digest, ValueId

INLINE_LIMIT: Final = 64 * 1024
"""Content below this lies in the journal itself; above, in a file beside it."""


class StoredValue(msgspec.Struct, frozen=True, gc=False):
    """The content of one value; `content` is None where only what describes it was read.

    `trouble` says why content that was asked for could not be read.
    """

    value_id: ValueId
    codec: str
    content: bytes | None
    size: int
    type_name: str
    preview: str | None = None
    digest: Digest | None = None
    mac: bytes | None = None
    trouble: str | None = None


PREVIEW_LENGTH: Final = 200
_COPIED: Final = 4096  # a copy of so few bytes costs less than a second call of the hash


def legible(text: str, length: int = PREVIEW_LENGTH) -> str:
    """Return the text as it can be stored: not longer than that, and with no lone surrogates."""
    cut = text if len(text) <= length else f"{text[: length - 3]}..."
    return cut.encode("utf-8", "backslashreplace").decode()


def value_id(codec: str, content: bytes) -> ValueId:
    """Return the id of a value: the hash of its codec and content."""
    head = codec.encode() + b"\0"
    if len(content) < _COPIED:
        return ValueId(RECIPE + blake2b(head + content, digest_size=19).digest())
    state = blake2b(head, digest_size=19)
    state.update(content)
    return ValueId(RECIPE + state.digest())
