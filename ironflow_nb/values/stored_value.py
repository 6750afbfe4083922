"""What a value is once it is stored.

Several values under names as one: a record that refers to each, so that equal ones are stored once.

Lists and dicts that can't be written out as one text: their parts, one after the other, by number.

It takes what is nested too deep for the stack, what shares its parts too often and what contains itself, as answers of
others may and results of recursions do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import RECIPE, Digest, ValueId
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.values.shared_parts import Numbering
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.tagged import TAG, Rules, Tree, tag, untag

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


class ContentParts:
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


RECORD: Final = "record"

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class ValueReference(msgspec.Struct, frozen=True, rename={"value_id": "v", "digest": "d"}, omit_defaults=True):
    """One value of a record: the id of its content (hex), and the digest that it had when it was recorded (hex)."""

    value_id: str
    digest: str | None = None

    @property
    def id(self) -> ValueId:
        """The id of the stored value."""
        return ValueId(bytes.fromhex(self.value_id))

    @property
    def known_digest(self) -> Digest | None:
        """The digest it had, if that could be told."""
        return None if self.digest is None else Digest(bytes.fromhex(self.digest))


class ValueRecord(msgspec.Struct, frozen=True):
    """Values by name, and in `about` what their owner notes beside them: plain JSON, of its own making."""

    parts: dict[str, ValueReference]
    about: dict[str, Any] = msgspec.field(default_factory=dict)
    v: int = 1

    def ids(self) -> dict[str, ValueId]:
        """Return the ids of the stored values by name."""
        return {name: part.id for name, part in self.parts.items()}


_DECODER: Final = msgspec.json.Decoder(ValueRecord)


def encode_record(record: ValueRecord, shown: Mapping[str, str | None], signer: Signer) -> StoredValue:
    """Return the record as it will lie in the journal; `shown` are previews of its values, for its own."""
    content = _ENCODER.encode(record)
    preview = legible(", ".join(f"{name} = {text or '...'}" for name, text in shown.items()))
    mac = signer.mark(RECORD, content)
    return StoredValue(value_id(RECORD, content), RECORD, content, len(content), "record", preview, mac=mac)


def decode_record(content: bytes) -> ValueRecord:
    """Return the record of that content.

    Raises:
        ValueUnreadable: it is none, or one of a newer version.
    """
    try:
        found = _DECODER.decode(content)
        found.ids()
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueUnreadable(f"a stored record can't be read: {error}") from error
    if found.v != 1:
        raise ValueUnreadable(f"a stored record is of version {found.v}, which is not known here")
    return found


PARTS: Final = "parts"


def tree_of_parts(value: object, rules: Rules) -> list[Tree]:
    """Return the trees of the lists and dicts in the value, itself first.

    Raises:
        RecursionError: something else in it can't be written out.
    """
    numbering = Numbering()

    def part(item: object, _rules: Rules) -> Tree:
        return {TAG: "part", "v": numbering.number(item)} if type(item) in {list, dict} else tag(item, rules)

    return numbering.forms(value, lambda each: tag(each, replace(rules, part=part)))


def value_of_parts(trees: list[Tree]) -> Any:
    """Return the value of the trees."""
    made: list[Any] = [[] if type(tree) is list else {} for tree in trees]

    def item_of(tree: Tree) -> Any:
        return made[tree["v"]] if type(tree) is dict and tree.get(TAG) == "part" else untag(tree)

    for target, tree in zip(made, trees, strict=True):
        _fill(target, tree, item_of)
    return made[0]


def _fill(target: Any, tree: Tree, item_of: Callable[[Tree], Any]) -> None:
    if type(tree) is list:
        target += map(item_of, tree)
    elif TAG in tree:
        target |= {untag(key): item_of(item) for key, item in tree["v"]}
    else:
        target |= {key: item_of(item) for key, item in tree.items()}
