"""What this process knows of its live objects: which recorded value they are, and which opaque one they are."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b

from ironflow_nb.core.ids import Digest, ValueId


class Provenance:
    """Weak memory of objects; nothing is kept alive by it.

    Keyed by ``id()``, because many of these objects are not hashable; the weak reference proves that the id was not
    given to another object meanwhile. Plain dict operations are atomic, so threads need no lock.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._nonce: bytes | None = None
        self._n_tokens = 0
        self._origins: dict[int, tuple[weakref.ref[object], ValueId, ValueId]] = {}
        self._tokens: dict[int, tuple[weakref.ref[object], bytes]] = {}
        self._likeness: dict[Digest, Digest] = {}

    def liken(self, now: Digest, then: Digest) -> None:
        """Note that values of digest `now` are those that were recorded with digest `then`.

        A pickle that was loaded need not give the bytes that it was made of. By digests, nothing is kept alive and
        nothing is mistaken for something else.
        """
        if now != then:
            self._likeness[now] = then

    def recorded(self, digest: Digest) -> Digest:
        """Return the digest that values of this digest had when they were recorded."""
        return self._likeness.get(digest, digest)

    def remember(self, value: object, pickle_id: ValueId, value_id: ValueId) -> None:
        """Note that the object is the stored value as long as its pickle has that id."""
        key = id(value)
        try:
            reference = weakref.ref(value, lambda _: self._origins.pop(key, None))
        except TypeError:  # lists, dicts and tuples can't be referenced weakly; their parts identify
            return
        self._origins[key] = reference, pickle_id, value_id

    def origin(self, value: object, pickle_id: ValueId) -> ValueId | None:
        """Return the stored value that the object is, if its pickle is still the one it had then."""
        known = self._origins.get(id(value))
        if known is None or known[0]() is not value or known[1] != pickle_id:
            return None
        return known[2]

    def token(self, value: object) -> bytes:
        """Return bytes that stand for this very object in this process and for nothing else anywhere."""
        key = id(value)
        known = self._tokens.get(key)
        if known is not None and known[0]() is value:
            return known[1]
        token = self._new_token()
        with suppress(TypeError):  # what can't be referenced weakly is another one each time
            self._tokens[key] = weakref.ref(value, lambda _: self._tokens.pop(key, None)), token
        return token

    def _new_token(self) -> bytes:
        if self._nonce is None:
            self._nonce = self._entropy(16)
        self._n_tokens += 1
        return blake2b(self._nonce + self._n_tokens.to_bytes(8, "big"), digest_size=16).digest()
