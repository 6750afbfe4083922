"""What this process knows of its live values: which recorded ones they are, and which opaque ones."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b

from ironflow_nb.core.ids import Digest


class Provenance:
    """Weak memory of objects; nothing is kept alive by it.

    Keyed by ``id()``, because many of these objects are not hashable; the weak reference proves that the id was not
    given to another object meanwhile. Plain dict operations are atomic, so threads need no lock.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._nonce: bytes | None = None
        self._n_tokens = 0
        self._tokens: dict[int, tuple[weakref.ref[object], bytes]] = {}
        self._likeness: dict[Digest, Digest] = {}

    def liken(self, now: Digest, then: Digest) -> None:
        """Note that values of digest `now` are those that were recorded with digest `then`.

        What was loaded from a pickle need not be made of what it was made of before. By digests, nothing is kept alive
        and nothing is mistaken for something else.
        """
        if now != then:
            self._likeness[now] = then

    def recorded(self, digest: Digest) -> Digest:
        """Return the digest that values of this digest had when they were recorded."""
        return self._likeness.get(digest, digest)

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
