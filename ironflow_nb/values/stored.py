"""What a value is once it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from ironflow_nb.core.identity import RECIPE
from ironflow_nb.core.ids import Digest, ValueId

ARROW: Final = "arrow"
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


class Parts:
    """Content that was made in parts and never put together; large values are written as they are."""

    def __init__(self) -> None:
        self.parts: list[memoryview] = []
        self._size = 0

    def add(self, part: memoryview) -> None:
        """Add a part at the end."""
        self.parts.append(part)
        self._size += len(part)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


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
    return id_of_parts(codec, [content], beside=False)


def id_of_parts(codec: str, parts: Iterable[bytes | memoryview], *, beside: bool) -> ValueId:
    """Return the id of a value whose content comes in parts, hashed `beside` the making of the next one.

    The thread that does so knows nothing but these bytes and ends before this returns, so it is none of an engine's.
    """
    state = blake2b(codec.encode() + b"\0", digest_size=19)
    if beside:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, "ironflow-hash") as executor:
            for done in [executor.submit(state.update, part) for part in parts]:
                done.result()
    else:
        for part in parts:
            state.update(part)
    return ValueId(RECIPE + state.digest())
