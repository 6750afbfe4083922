"""Several values under names as one: a record that refers to each, so that equal ones are stored once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.core.ids import Digest, ValueId
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.values.pickles import Signer
from ironflow_nb.values.stored import StoredValue, legible, value_id

RECORD: Final = "record"

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class Part(msgspec.Struct, frozen=True, rename={"value_id": "v", "digest": "d"}, omit_defaults=True):
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


class Record(msgspec.Struct, frozen=True):
    """Values by name, and in `about` what their owner notes beside them: plain JSON, of its own making."""

    parts: dict[str, Part]
    about: dict[str, Any] = msgspec.field(default_factory=dict)
    v: int = 1

    def ids(self) -> dict[str, ValueId]:
        """Return the ids of the stored values by name."""
        return {name: part.id for name, part in self.parts.items()}


_DECODER: Final = msgspec.json.Decoder(Record)


def encode_record(record: Record, shown: Mapping[str, str | None], signer: Signer) -> StoredValue:
    """Return the record as it will lie in the journal; `shown` are previews of its values, for its own."""
    content = _ENCODER.encode(record)
    preview = legible(", ".join(f"{name} = {text or '...'}" for name, text in shown.items()))
    mac = signer.mark(RECORD, content)
    return StoredValue(value_id(RECORD, content), RECORD, content, len(content), "record", preview, mac=mac)


def decode_record(content: bytes) -> Record:
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
