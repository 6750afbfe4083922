"""Stored values: bytes with a codec, and an id that is the hash of both.

Two codecs are defined here. A `ValueRecord` refers to several values by name, so that equal ones are stored once. The
codec `parts` stores a list or dict as a list of its numbered parts. It takes values that are nested too deep for the
stack, share their parts too often, or contain themselves.
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
ROW_LIMIT: Final = 1024
"""Bytes up to which a value lies in the row of the run or step that it belongs to, and is not deduplicated."""
INLINE_LIMIT: Final = 64 * 1024
"""Bytes from which on content is stored in a file beside the journal, and not in the journal itself."""
LARGE_FRAME: Final = 4 << 20
"""Bytes from which on the content of a frame is checked by a thread while its table is read."""


class StoredValue(msgspec.Struct, frozen=True, gc=False):
    """One stored value; `content` is None where it was not read.

    `size` is in bytes. `read_error` says why the requested content could not be read. `table` is that of a large frame,
    which was read while its content was checked.
    """

    value_id: ValueId
    codec: str
    content: bytes | None
    size: int
    type_name: str
    preview: str | None = None
    digest: Digest | None = None
    mac: bytes | None = None
    read_error: str | None = None
    table: Any = None


def fits_row(stored: StoredValue) -> bool:
    """Return True if the value can lie in a row. One that is signed can't: it is signed anew by its id."""
    return stored.size <= ROW_LIMIT and stored.mac is None


class ContentParts:
    """Content in parts that are never joined in memory: a large value is written part by part."""

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
_COPIED: Final = 4096  # up to this size, a copy costs less than a second call of the hash


def legible(text: str, length: int = PREVIEW_LENGTH) -> str:
    """Return the text as it can be stored: cut to `length` characters and without lone surrogates."""
    cut = text if len(text) <= length else f"{text[: length - 3]}..."
    return cut.encode("utf-8", "backslashreplace").decode()


def value_id(codec: str, content: bytes) -> ValueId:
    """Return the id of a value: the hash of its codec and content."""
    head = codec.encode() + b"\0"
    if len(content) < _COPIED:
        return ValueId(RECIPE + blake2b(head + content, digest_size=19).digest())
    return id_of_parts(codec, [content], in_thread=False)


def id_of_parts(codec: str, parts: Iterable[bytes | memoryview], *, in_thread: bool) -> ValueId:
    """Return the id of a value whose content comes in parts; a thread can hash a part while the next one is made.

    The thread sees only these bytes and ends before this function returns. So it is not one of the engine's threads.
    """
    state = blake2b(codec.encode() + b"\0", digest_size=19)
    if in_thread:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, "ironflow-hash") as executor:
            # One thread hashes in the order of submission.
            for done in [executor.submit(state.update, part) for part in parts]:
                done.result()
    else:
        for part in parts:
            state.update(part)
    return ValueId(RECIPE + state.digest())


def verified_content(stored: StoredValue, content_id: ValueId | None = None) -> StoredValue:
    """Return the value, without its content if that is missing or has other bytes than its id says.

    The id of the content may be known already.
    """
    if stored.content is not None and stored.value_id == (content_id or value_id(stored.codec, stored.content)):
        return stored
    read_error = "its content in the journal is missing or has other bytes than were written"
    return msgspec.structs.replace(stored, content=None, read_error=read_error)


RECORD: Final = "record"

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class ValueReference(msgspec.Struct, frozen=True, rename={"value_id": "v", "digest": "d"}, omit_defaults=True):
    """One value of a record: its id (hex), and its digest when it was recorded (hex)."""

    value_id: str
    digest: str | None = None

    @property
    def id(self) -> ValueId:
        """The id of the stored value."""
        return ValueId(bytes.fromhex(self.value_id))

    @property
    def known_digest(self) -> Digest | None:
        """The recorded digest, or None if the value had none."""
        return None if self.digest is None else Digest(bytes.fromhex(self.digest))


class ValueRecord(msgspec.Struct, frozen=True):
    """References to values by name; `about` is plain JSON that the owner of the record defines."""

    parts: dict[str, ValueReference]
    about: dict[str, Any] = msgspec.field(default_factory=dict)
    v: int = 1

    def ids(self) -> dict[str, ValueId]:
        """Return the ids of the stored values by name."""
        return {name: part.id for name, part in self.parts.items()}


_DECODER: Final = msgspec.json.Decoder(ValueRecord)


def encode_record(record: ValueRecord, shown: Mapping[str, str | None], signer: Signer) -> StoredValue:
    """Return the encoded record; `shown` maps names to previews of the values, for the preview of the record."""
    content = _ENCODER.encode(record)
    preview = legible(", ".join(f"{name} = {text or '...'}" for name, text in shown.items()))
    mac = signer.sign_for_process(RECORD, content)
    return StoredValue(value_id(RECORD, content), RECORD, content, len(content), "record", preview, mac=mac)


def decode_record(content: bytes) -> ValueRecord:
    """Return the decoded record.

    Raises:
        ValueUnreadable: the content is not a record, or has a newer version.
    """
    try:
        found = _DECODER.decode(content)
        found.ids()
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueUnreadable(f"a stored record can't be read: {error}") from error
    if found.v != 1:
        raise ValueUnreadable(f"a stored record has version {found.v}, which is not known here; update ironflow_nb")
    return found


PARTS: Final = "parts"


def tree_of_parts(value: object, rules: Rules) -> list[Tree]:
    """Return the trees of the lists and dicts in the value, the value itself first.

    Raises:
        RecursionError: a part of another type can't be written out.
    """
    numbering = Numbering()

    def part(item: object, _rules: Rules) -> Tree:
        return {TAG: "part", "v": numbering.number(item)} if type(item) in {list, dict} else tag(item, rules)

    return numbering.forms(value, lambda each: tag(each, replace(rules, part=part)))


def value_of_parts(trees: list[Tree]) -> Any:
    """Return the value that `tree_of_parts` made the trees of."""
    containers: list[Any] = [[] if type(tree) is list else {} for tree in trees]

    def item_of(tree: Tree) -> Any:
        return containers[tree["v"]] if type(tree) is dict and tree.get(TAG) == "part" else untag(tree)

    for target, tree in zip(containers, trees, strict=True):
        _fill_container(target, tree, item_of)
    return containers[0]


def _fill_container(target: Any, tree: Tree, item_of: Callable[[Tree], Any]) -> None:
    if type(tree) is list:
        target += map(item_of, tree)
    elif TAG in tree:
        target |= {untag(key): item_of(item) for key, item in tree["v"]}
    else:
        target |= {key: item_of(item) for key, item in tree.items()}
