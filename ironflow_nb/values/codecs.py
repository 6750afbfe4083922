"""The codecs of values, tried in order: plain JSON, raw bytes, npy, Arrow, tagged JSON, signed pickle.

The caller of a step gets a small value decoded from its stored bytes. So a first run sees exactly what a replay will
see. A codec that can't prove its round trip passes the value on to the pickle.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.identity import Digest, ValueId
from ironflow_nb.errors import FileUnreadable, JournalError, ValueNotStorable, ValueUnreadable
from ironflow_nb.values.argument_types import Secret
from ironflow_nb.values.classes import class_name, is_findable
from ironflow_nb.values.digest import CANONICAL, ONCE_ONLY, Digester, is_of_numpy, refusal
from ironflow_nb.values.shared_parts import Extent, is_short_written_out
from ironflow_nb.values.signed_pickles import Signer, has_numpy, pickled, refuse_secret, stable_pickle, unpickled
from ironflow_nb.values.stored_value import (
    ARROW,
    INLINE_LIMIT,
    PARTS,
    RECORD,
    StoredValue,
    decode_record,
    legible,
    tree_of_parts,
    value_id,
    value_of_parts,
)
from ironflow_nb.values.tagged import (
    NOT_PLAIN,
    TAG,
    Rules,
    Tree,
    is_plain,
    tag,
    tag_by_class,
    tag_by_codec,
    tag_secret,
    untag,
)
from ironflow_nb.values.undisturbed import undisturbed

JSON: Final = "json"
BYTES: Final = "bytes"
NPY: Final = "npy"
PICKLE: Final = "pickle"
INPUTS: Final = "inputs"

REDACTED: Final = "redacted"
"""The codec of the marker in the place of a value that was erased; its content says who, when and why."""

REFERENCE: Final = "ref"
"""The tag of an argument, in the record of a call, that is stored as a value of its own."""
NOT_KEPT: Final = "gone"
"""The tag of an argument of which only the class name is stored."""
INPUT_INLINE_LIMIT: Final = 4 * 1024
"""Bytes up to which an argument is written into the record of its call."""
INPUT_LIMIT: Final = 1024 * 1024
"""Bytes up to which an argument is stored."""

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder()
_TAG_TEXT: Final = b'"~"'
_SECRET: Final = b'"~":"secret","v":'
# These decode to equal values and can't be changed: the original is returned.
_IMMUTABLE: Final = frozenset({str, int, float, bool, bytes, type(None)})


class Untaggable(Exception):
    """The value has no tagged form that can be read back."""


def _tag_other(value: object, rules: Rules) -> Tree:
    if isinstance(value, ONCE_ONLY):
        raise ValueNotStorable(refusal(value))
    if isinstance(value, Secret):
        return tag_secret(value, refuse_secret) if value.variable is not None else refuse_secret(b"")
    if (coded := tag_by_codec(value, rules)) is not None:
        return coded
    tree = tag_by_class(value, rules)
    if tree is None or ("c" in tree and not is_findable(type(value))):
        raise Untaggable(class_name(type(value)))
    return tree


def store_rules() -> Rules:
    """Return the rules for tagging one value so that it can be read back."""
    return Rules(_tag_other, lambda pairs: pairs, CANONICAL.encode, Extent().meet)


class ValueCodec:
    """Encodes and decodes the values of one engine."""

    def __init__(self, digester: Digester, signer: Signer, place: Any = None) -> None:
        self.digester = digester
        self.signer = signer
        self.place = place
        """The `ValuePlace` of the journal, or None: that room knows this one."""

    def store(self, value: object) -> tuple[StoredValue, Any]:
        """Return the encoded value, and the value as a replay will see it.

        Raises:
            ValueNotStorable: it is an iterator or an open file, or no codec can encode it.
        """
        stored = self.encode(value)
        if stored.size >= INLINE_LIMIT and self.place is not None:
            self.place.write_early(stored.value_id, stored.content or b"")
        if type(value) in _IMMUTABLE:
            return stored, value
        if stored.codec == PICKLE:
            # Of any size: the loaded value may have another digest than the original.
            return stored, self._load_back(stored)
        # The other codecs are exact: above the limit the original is as good, and nothing is decoded.
        try:
            return stored, self._decode(stored) if stored.size < INLINE_LIMIT else value
        except RecursionError:  # the caller's stack is nearly full
            return stored, value

    def encode(self, value: object) -> StoredValue:
        """Return the encoded value.

        Raises:
            ValueNotStorable: it is an iterator or an open file, or no codec can encode it.
        """
        try:
            if is_plain(value):
                return _stored(JSON, _ENCODER.encode(value), value)
        except NOT_PLAIN:
            pass
        if isinstance(value, ONCE_ONLY):
            raise ValueNotStorable(refusal(value))
        if type(value) is bytes:
            return _stored(BYTES, value, value, preview=f"{len(value)} bytes")
        return self._encode_array(value) or self._encode_tagged(value) or self._encode_pickle(value)

    def _encode_array(self, value: Any) -> StoredValue | None:
        if not is_of_numpy(value):
            return None
        from ironflow_nb.values import arrays, arrow

        try:
            if arrays.is_npy(value):
                return _stored(NPY, arrays.to_npy(value), value, preview=f"ndarray {value.dtype} {value.shape}")
            if _has_arrow() and arrow.is_arrow(value):
                content, known_id = arrow.to_arrow(value)
                return _stored(ARROW, content, value, preview=_frame_preview(value), known_id=known_id)
        except Exception:  # noqa: BLE001 -- the pickle takes what these libraries refuse
            return None
        return None

    def _encode_tagged(self, value: object, rules: Callable[[], Rules] = store_rules) -> StoredValue | None:
        try:
            return self._encode_tree(JSON, value, tag(value, rules()), untag)
        except (ValueNotStorable, FileUnreadable):
            raise
        except RecursionError:  # it is too deep, shares its parts too often, or contains itself
            return self._encode_parts(value, rules)
        except Exception:  # noqa: BLE001 -- a user's class may raise anything; its round trip is not proven
            return None

    def _encode_parts(self, value: object, rules: Callable[[], Rules]) -> StoredValue | None:
        if type(value) not in {list, dict}:
            return None
        try:
            return self._encode_tree(PARTS, value, tree_of_parts(value, rules()), value_of_parts)
        except Exception:  # noqa: BLE001 -- the pickle may take it
            return None

    def _encode_tree(self, codec: str, value: object, tree: Tree, read: Callable[[Tree], Any]) -> StoredValue | None:
        """Return the encoded tree, or None if reading it back gives a value of another digest."""
        content = _ENCODER.encode(tree)
        digest = self.digester.digest(value).digest
        is_exact = self.digester.digest(read(_DECODER.decode(content))).digest == digest
        preview = None if codec == JSON else f"{type(value).__name__} of {len(value)}"  # type: ignore[arg-type]
        return _stored(codec, content, value, digest=digest, preview=preview) if is_exact else None

    def _encode_pickle(self, value: object) -> StoredValue:
        try:
            content = undisturbed(lambda value: pickled(value, self.digester.code.note), value)
            if has_numpy(value):
                content = stable_pickle(content, self.digester.code.note)
        except ValueNotStorable:  # its message already says what to do
            raise
        except Exception as error:
            raise _not_storable(class_name(type(value)), error) from error
        stored = _stored(PICKLE, content, value, preview=_object_preview(value, len(content)))
        return replace(stored, mac=self.signer.sign(PICKLE, content))

    def decode(self, stored: StoredValue) -> Any:
        """Return the value that was stored.

        Raises:
            ValueUnreadable: the content is missing or damaged, or the class does not exist here.
            UntrustedValue: the content is a pickle, or the record of a cell, that this user did not sign.
        """
        if stored.content is None:
            why = stored.read_error or "its content is missing"
            raise ValueUnreadable(
                f"a stored {stored.type_name} ({stored.size} bytes) can't be read: {why}; put it back from a copy",
                value_id=stored.value_id,
            )
        try:
            if stored.codec == JSON and _TAG_TEXT not in stored.content:  # most values
                return _DECODER.decode(stored.content)
            return self._decode(stored)
        except ValueUnreadable:
            raise
        except Exception as error:
            raise ValueUnreadable(
                f"a stored {stored.type_name} ({stored.codec}, {stored.size} bytes) can't be decoded: "
                f"{type(error).__name__}: {error}",
                value_id=stored.value_id,
            ) from error

    def _decode(self, stored: StoredValue) -> Any:
        content = stored.content
        assert content is not None
        match stored.codec:
            case "json":
                return untag(_DECODER.decode(content))
            case "bytes":
                return bytes(content)
            case "npy" | "arrow":
                from ironflow_nb.values import arrays, arrow

                return arrays.from_npy(content) if stored.codec == NPY else arrow.from_arrow(content, stored.table)
            case "pickle":
                self.signer.check(PICKLE, content, stored.mac)
                return unpickled(content)
            case "parts":
                return value_of_parts(_DECODER.decode(content))
            case "redacted":
                raise ValueUnreadable(
                    f"it was redacted and is gone for ever: {bytes(content).decode()}", codec=REDACTED
                )
            case "record":
                self.signer.check(RECORD, content, stored.mac)
                return decode_record(bytes(content))
            case _:
                raise ValueUnreadable(
                    f"a value was stored with codec {stored.codec!r}, which is not known here; update ironflow_nb",
                    codec=stored.codec,
                )

    def _load_back(self, stored: StoredValue) -> Any:
        try:
            return unpickled(stored.content or b"")
        except ValueUnreadable as error:  # a class whose __reduce__ does not fit its __init__
            raise _not_storable(stored.type_name, error) from error

    # -- inputs --------------------------------------------------------------------------------------------------

    def store_inputs(self, arguments: Mapping[str, object], limit: float = INPUT_LIMIT) -> list[StoredValue]:
        """Return the arguments of a call as stored values: large arguments first, the record of the call last.

        Arguments up to 4 kB are written into the record. Larger ones are values of their own. Of those above the
        `limit`, which is 1 MB, and of those that no codec can encode, only the class name is stored, and of a secret
        its digest or the name of its environment variable.
        """
        try:
            content = _ENCODER.encode(arguments) if is_plain(arguments) else None
        except NOT_PLAIN:
            content = None
        if content is not None and len(content) <= INPUT_INLINE_LIMIT:  # the common case
            return [_record_of_inputs(content)]
        parts: list[StoredValue] = []
        fields: dict[str, Tree] = {}
        for name, value in arguments.items():
            stored = self._encode_input(value, limit)
            if stored is None:
                fields[name] = {TAG: NOT_KEPT, "c": class_name(type(value))}
            elif stored.codec == JSON and stored.size <= INPUT_INLINE_LIMIT:
                fields[name] = msgspec.Raw(stored.content or b"null")
            else:
                parts.append(stored)
                fields[name] = {TAG: REFERENCE, "v": stored.value_id.hex()}
        return [*parts, _record_of_inputs(_ENCODER.encode(fields))]

    def _encode_input(self, value: object, limit: float) -> StoredValue | None:
        if _n_bytes(value) > limit:
            return None
        stored = None
        try:
            stored = self.encode(value)
        except (ValueNotStorable, JournalError):  # no codec can encode it, or there is no key to sign it
            with suppress(ValueNotStorable, FileUnreadable):  # unless it is for a secret in it
                stored = self._encode_tagged(value, self._input_rules)
        return stored if stored is not None and stored.size <= limit else None

    def _input_rules(self) -> Rules:
        return dataclasses.replace(store_rules(), other=self._tag_other_input)

    def _tag_other_input(self, value: object, rules: Rules) -> Tree:
        return tag_secret(value, self.digester.keyed) if isinstance(value, Secret) else _tag_other(value, rules)


def _record_of_inputs(content: bytes) -> StoredValue:
    return StoredValue(value_id(INPUTS, content), INPUTS, content, len(content), "inputs")


def has_lost_secret(stored: StoredValue) -> bool:
    """Return True if an argument has a secret that no other process knows: one without an environment variable."""
    return stored.codec in {INPUTS, JSON, PARTS} and _SECRET in (stored.content or b"")


def input_references(record: StoredValue) -> tuple[dict[str, Tree], dict[str, str], dict[str, str]]:
    """Split the record of a call, each part by argument name: trees, ids of values (hex), class names of lost ones."""
    fields = _DECODER.decode(record.content or b"{}")
    here: dict[str, Tree] = {}
    elsewhere: dict[str, str] = {}
    gone: dict[str, str] = {}
    for name, tree in fields.items():
        kind = tree.get(TAG) if type(tree) is dict else None
        if kind == REFERENCE:
            elsewhere[name] = tree["v"]
        elif kind == NOT_KEPT:
            gone[name] = tree["c"]
        else:
            here[name] = tree
    return here, elsewhere, gone


def _stored(
    codec: str,
    content: bytes,
    value: object,
    *,
    known_id: ValueId | None = None,
    preview: str | None = None,
    digest: Digest | None = None,
) -> StoredValue:
    kind = type(value)
    type_name = kind.__name__ if kind.__module__ == "builtins" else class_name(kind)
    shown = None if preview is None else legible(preview)
    content_id = known_id or value_id(codec, content)
    return StoredValue(content_id, codec, content, len(content), type_name, shown, digest)


def _not_storable(kind: str, error: Exception) -> ValueNotStorable:
    return ValueNotStorable(
        f"a value of type {kind} can't be stored: {type(error).__name__}: {error}; return something that can be "
        "pickled, for instance its path, its content or its settings"
    )


def _has_arrow() -> bool:
    return "pyarrow" in sys.modules or find_spec("pyarrow") is not None


def _n_bytes(value: Any) -> int:
    """Return the size of an array or frame in bytes without encoding it; 0 for any other value."""
    if type(value).__module__.partition(".")[0] not in {"numpy", "pandas"}:
        return 0
    if hasattr(value, "memory_usage"):
        usage = value.memory_usage(index=True, deep=False) if hasattr(value, "index") else value.memory_usage()
        return int(usage.sum() if hasattr(usage, "sum") else usage)
    return int(getattr(value, "nbytes", 0))


def _frame_preview(value: Any) -> str:
    if value.ndim == 1:
        return f"Series of {len(value)} {value.dtype}"
    columns = ", ".join(map(str, value.columns[:8]))
    return f"DataFrame {value.shape[0]} x {value.shape[1]} ({columns}{', ...' if value.shape[1] > 8 else ''})"


def _object_preview(value: Any, size: int) -> str:
    root = type(value).__module__.partition(".")[0]
    if root == "pandas" and hasattr(value, "shape") and hasattr(value, "ndim") and hasattr(value, "dtypes"):
        return _frame_preview(value)
    if size < INLINE_LIMIT and is_short_written_out(value):
        try:
            return repr(value)
        except Exception as error:  # noqa: BLE001 -- a foreign __repr__ may raise anything
            return f"{class_name(type(value))} (its repr raises {type(error).__name__})"
    return f"{class_name(type(value))} ({size} bytes)"
