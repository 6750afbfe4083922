"""What was found to be the code of a step, and how a journal keeps it."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from ironflow_nb.core.ids import Digest

Kind = Literal["function", "method", "class", "constant", "declared"]

TRANSITIVE: Final = b"\x02"
"""The first byte of the digest of code that refers to other code; of code on its own it is that of the first recipe."""

DATA: Final = "data of class "
MUTABLE: Final = "mutable data"
"""Why lists, dicts and sets do not count."""


CHANGED: Final = "changed by the code itself"


class Part(msgspec.Struct, frozen=True):
    """A piece of code that counts. The source of a constant is ``NAME = value``."""

    name: str
    kind: Kind
    digest: Digest
    source: str
    file: str = ""
    line: int = 0


class Untracked(NamedTuple):
    """A name that is referred to and does not count, and why."""

    name: str
    reason: str


class Tracked(msgspec.Struct, frozen=True):
    """The code of a function: the function itself is the first part."""

    digest: Digest
    parts: tuple[Part, ...]
    untracked: tuple[Untracked, ...]

    @property
    def data(self) -> tuple[str, ...]:
        """The names of data in it that may have changed since, and do not count."""
        return tuple(name for name, reason in self.untracked if reason in {MUTABLE, CHANGED} or reason.startswith(DATA))

    @property
    def own(self) -> Digest:
        """The identity of the function's own code, whatever it refers to."""
        return self.parts[0].digest


_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def encode_parts(tracked: Tracked) -> str:
    """Return the parts as JSON text that is the same for the same parts."""
    rows = [msgspec.structs.asdict(part) | {"digest": part.digest.hex()} for part in tracked.parts]
    return _ENCODER.encode({"v": 1, "parts": rows}).decode()


def decode_parts(text: str) -> tuple[Part, ...]:
    """Return the parts of the text; what a newer version adds to them is left out.

    Raises:
        ValueError: it is no such text.
    """
    try:
        return tuple(map(_part, msgspec.json.decode(text)["parts"]))
    except (KeyError, TypeError, AttributeError, msgspec.DecodeError) as error:
        raise ValueError(f"these are not the parts of a step: {text[:60]!r}") from error


def _part(row: dict[str, Any]) -> Part:
    digest = Digest(bytes.fromhex(row["digest"]))
    return Part(row["name"], cast("Kind", row["kind"]), digest, row["source"], row["file"], int(row["line"]))
