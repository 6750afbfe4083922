"""Signed pickles: cloudpickle stores the values that no safe codec takes, and only their own user can load them."""

from __future__ import annotations

import hmac
import io
import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ironflow_nb.errors import JournalError, UntrustedValue, ValueNotStorable, ValueUnreadable
from ironflow_nb.values.argument_types import Secret
from ironflow_nb.values.classes import FORMER_MODULES, is_findable, with_note
from ironflow_nb.values.digest import is_of_numpy
from ironflow_nb.values.private_files import whole_file

if TYPE_CHECKING:
    import pickle

KEY_BYTES: Final = 32
MAC_BYTES: Final = 32
DIGEST_BYTES: Final = 20
_ROUNDS: Final = 4
KEY_VARIABLE: Final = "IRONFLOW_KEY"
_DANGERS: Final = {
    "pickle": "loading a pickle can run any code",
    "record": "restoring the record of a cell imports modules, binds names and shows what somebody else chose",
}


class _BoundedBuffer(io.BytesIO):
    """A buffer that refuses to grow beyond a limit, so that a huge pickle is refused before it is complete."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self._limit = limit

    def write(self, part: Any) -> int:
        if self.tell() + len(part) > self._limit:
            raise ValueNotStorable(f"its pickle has more than {self._limit} bytes")
        return super().write(part)


def pickled(value: object, note: Callable[[Any], bytes] | None = None, *, limit: float = math.inf) -> bytes:
    """Return the pickle of the value. Each function and class that it contains by value gets a `note`.

    Exceptions of the value's own classes pass through.

    Raises:
        ValueNotStorable: the pickle has more bytes than `limit`.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Secret) and obj.variable is None:
                refuse_secret(b"")
            if isinstance(obj, MethodType) and getattr(obj.__self__, getattr(obj, "__name__", ""), None) == obj:
                return getattr, (obj.__self__, obj.__name__)
            is_code = isinstance(obj, FunctionType | type)
            if is_code and _goes_by_name(obj):
                return NotImplemented
            reduced = super().reducer_override(obj)
            if not is_code or not isinstance(reduced, tuple):
                return reduced
            return with_note(obj, reduced, None if note is None else note(obj))

    buffer = io.BytesIO() if limit == math.inf else _BoundedBuffer(limit)
    Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def refuse_secret(_text: bytes) -> bytes:
    """Raise the error about a secret in a value that is to be read back.

    Raises:
        ValueNotStorable: always.
    """
    raise ValueNotStorable(
        "an iron.Secret can't be stored, for the journal never has its text; leave it out, store what it was used for, "
        'or make it with iron.Secret.from_env("NAME")'
    )


def _goes_by_name(code: Any) -> bool:
    """Return True for a class of a cell and its methods: they are pickled by name, and loaded as they are then."""
    is_of_class = isinstance(code, type) or "." in code.__qualname__
    return code.__module__ == "__main__" and is_of_class and "<locals>" not in code.__qualname__ and is_findable(code)


def unpickled(content: bytes) -> Any:
    """Return the value of a pickle. The caller has checked its signature, or has just written it.

    Raises:
        ValueUnreadable: the value can't be rebuilt here.
    """
    try:
        return _unpickler()(io.BytesIO(content)).load()
    except ValueUnreadable:  # its message already says what to do
        raise
    except Exception as error:
        raise ValueUnreadable(
            f"a pickled value can't be rebuilt here: {type(error).__name__}: {error}; run the cells or import the "
            "modules that define its classes, then read it again"
        ) from error


@cache
def _unpickler() -> type[pickle.Unpickler]:
    import pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return super().find_class(FORMER_MODULES.get(module, module), name)

    return Unpickler


def has_numpy(value: Any) -> bool:
    """Return True if the value is an array or a frame, or a list, tuple or dict that directly contains one."""
    kind = type(value)
    items = list(value.values()) if kind is dict else value if kind in {list, tuple} else (value,)
    return any(map(is_of_numpy, items))


def stable_pickle(content: bytes, note: Callable[[Any], bytes]) -> bytes:
    """Return the pickle, with notes, that no longer changes when it is loaded and pickled again.

    A pickle of an array or frame contains its memory layout and its shared parts, which do not belong to the value.
    """
    for _ in range(_ROUNDS):
        value = unpickled(content)
        # A copy of a frame has one block per dtype, whatever blocks the frame had.
        again = pickled(value.copy() if is_of_numpy(value) and hasattr(value, "copy") else value, note)
        if again == content:
            break
        content = again
    return content


class Signer:
    """Signs stored bytes with this user's key, as Jupyter signs notebooks.

    The key is ``IRONFLOW_KEY`` (any text), else a file in the user's data directory that is made at the first
    signature. Checking never makes one.
    """

    _process_keys: ClassVar[list[bytes]] = []
    """The first one signs for this process where no key file can be made. It is lost when the process ends."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._key: bytes | None = None

    def sign(self, codec: str, content: bytes) -> bytes:
        """Return the MAC of a value's codec and bytes.

        Raises:
            JournalError: there is no key, and none can be made.
        """
        if self._known_key() is None:
            self._key = _create_key(key_path(), self._entropy(KEY_BYTES))
        assert self._key is not None
        return _mac(self._key, codec, content)

    def sign_for_process(self, codec: str, content: bytes) -> bytes:
        """Return the MAC like `sign`, but without a key sign with one that only this process has."""
        try:
            return self.sign(codec, content)
        except JournalError:
            self._process_keys.append(self._entropy(KEY_BYTES))
            # Always the first: of two threads that append at once, both sign with the same key.
            return _mac(self._process_keys[0], codec, content)

    def digest_of_secret(self, text: bytes) -> bytes:
        """Return the digest that stands for the text of a secret; without a key it is one of this process only."""
        return self.sign_for_process("secret", text)[:DIGEST_BYTES]

    def is_own(self, codec: str, content: bytes, mac: bytes | None) -> bool:
        """Return True if this user signed the value."""
        keys = self._process_keys[:1]
        with suppress(JournalError):  # an unreadable key proves nothing
            keys += filter(None, [self._known_key()])
        return type(mac) is bytes and any(hmac.compare_digest(mac, _mac(key, codec, content)) for key in keys)

    def check(self, codec: str, content: bytes, mac: bytes | None) -> None:
        """Raise `UntrustedValue` unless this user signed the value."""
        self._known_key()  # raises if the key can't be read
        if not self.is_own(codec, content, mac):
            raise UntrustedValue(
                f"a stored value is a {codec} that was not written by you on this machine, and {_DANGERS[codec]}; if "
                "you know where the journal comes from, run iron.trust(path_of_the_journal)"
            )

    def _known_key(self) -> bytes | None:
        if self._key is None:
            text = os.environ.get(KEY_VARIABLE)
            own = blake2b(os.fsencode(text), digest_size=KEY_BYTES).digest() if text else None
            self._key = own or _read_key(key_path())
        return self._key


def key_path() -> Path:
    """Return the path of this user's signing key."""
    from platformdirs import user_data_path

    return user_data_path("ironflow_nb", appauthor=False) / "signing.key"


def _mac(key: bytes, codec: str, content: bytes) -> bytes:
    state = blake2b(key=key, digest_size=MAC_BYTES)
    state.update(codec.encode() + b"\0")
    state.update(content)
    return state.digest()


def _read_key(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"the signing key {path} can't be read: {error}") from error
    return key if len(key) == KEY_BYTES else None


def _create_key(path: Path, key: bytes) -> bytes:
    """Write the key unless there is one, and return the key in the file: two first processes agree on one key."""
    try:
        with suppress(FileExistsError), whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise JournalError(
            f"the signing key {path} can't be written: {error}; set {KEY_VARIABLE} to a secret text of your own"
        ) from error
    written = _read_key(path)
    if written is None:
        raise JournalError(
            f"the signing key {path} is damaged: it must have {KEY_BYTES} bytes; delete it or restore it"
        )
    return written
