"""Signatures of webhooks: over the bytes that came, before anything is read in them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from ironflow_nb.core.plain_text import plain
from ironflow_nb.errors import SignatureInvalid

SHORTEST_SECRET: Final = 16
_ENCODED: Final = "whsec_"


class SignatureScheme(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sender puts its signature, and what it signs.

    The header has entries; those that begin with `entry` are signatures. The instant of signing, seconds since 1970, is
    the entry that begins with `time_entry`, or a header of its own. `signed` is what is signed, with the places of id,
    instant and body.
    """

    header: str
    entry: str
    signed: str
    separator: str = ","
    time_entry: str | None = None
    time_header: str | None = None
    id_header: str | None = None
    is_base64: bool = False

    @property
    def has_time(self) -> bool:
        """Whether the instant is signed, so that an old request can be told from a new one."""
        return "{time}" in self.signed

    def content(self, body: bytes, time: str, message_id: str) -> bytes:
        """Return the bytes that are signed."""
        before, _, after = self.signed.partition("{body}")
        return before.format(time=time, id=message_id).encode() + body + after.encode()

    def signature(self, secret: str, content: bytes) -> str:
        """Return the signature of the content, as its entry has it."""
        found = hmac.new(self._key(secret), content, hashlib.sha256)
        return base64.b64encode(found.digest()).decode() if self.is_base64 else found.hexdigest()

    def _key(self, secret: str) -> bytes:
        if not (self.is_base64 and secret.startswith(_ENCODED)):
            return secret.encode()
        try:
            return base64.b64decode(secret.removeprefix(_ENCODED), validate=True)
        except binascii.Error as error:
            raise ValueError(f"a secret that begins with {_ENCODED} goes on with base64: {error}") from None

    def headers(self, secret: str, body: bytes, time: str, message_id: str) -> dict[str, str]:
        """Return the headers that sign the body."""
        signed = self.entry + self.signature(secret, self.content(body, time, message_id))
        in_header = [] if self.time_entry is None else [f"{self.time_entry}{time}"]
        found = {self.header: self.separator.join([*in_header, signed])}
        found |= {} if self.time_header is None else {self.time_header: time}
        return found | ({} if self.id_header is None else {self.id_header: message_id})


SCHEMES: Final[Mapping[str, SignatureScheme]] = {
    "ironflow": SignatureScheme(
        header="x-ironflow-signature", entry="v1=", time_entry="t=", signed="{time}.{body}"
    ),
    "stripe": SignatureScheme(header="stripe-signature", entry="v1=", time_entry="t=", signed="{time}.{body}"),
    "github": SignatureScheme(header="x-hub-signature-256", entry="sha256=", signed="{body}"),
    "slack": SignatureScheme(
        header="x-slack-signature", entry="v0=", time_header="x-slack-request-timestamp", signed="v0:{time}:{body}"
    ),
    "standard": SignatureScheme(
        header="webhook-signature", entry="v1,", separator=" ", time_header="webhook-timestamp",
        id_header="webhook-id", signed="{id}.{time}.{body}", is_base64=True,
    ),
}  # fmt: skip


def verified_id(
    scheme: SignatureScheme,
    secrets: Sequence[str],
    body: bytes,
    headers: Mapping[str, str],
    now_s: float,
    within_s: float,
) -> str:
    """Return what identifies the request: the signed id of the sender, or else a digest of all that is signed.

    `headers` have small letters.

    Raises:
        SignatureInvalid: it is not signed with any of the secrets, or not now.
    """
    given = headers.get(scheme.header)
    if given is None:
        raise SignatureInvalid(f"the request has no signature: the header {scheme.header} is missing")
    entries = [each.strip() for each in given.split(scheme.separator)]
    time, message_id = _time(scheme, entries, headers), headers.get(scheme.id_header or "", "")
    content = scheme.content(body, time, message_id)
    signatures = [each.removeprefix(scheme.entry).encode() for each in entries if each.startswith(scheme.entry)]
    expected = [scheme.signature(secret, content).encode() for secret in secrets]
    # All are compared, each in the same time, so that nobody learns how much of one was right.
    fits = [hmac.compare_digest(one, other) for one in signatures for other in expected]
    if not any(fits):
        raise SignatureInvalid(
            f"the signature in {scheme.header} is not that of this body with the secret of the webhook"
        )
    if scheme.has_time and abs(now_s - int(time)) > within_s:
        raise SignatureInvalid(f"the request was signed {now_s - int(time):.0f} s ago; {within_s:g} s are allowed")
    return message_id or hashlib.sha256(content).hexdigest()[:32]


def _time(scheme: SignatureScheme, entries: Iterable[str], headers: Mapping[str, str]) -> str:
    if not scheme.has_time:
        return ""
    found = headers.get(scheme.time_header or "")
    if scheme.time_entry is not None:
        found = next(
            (each.removeprefix(scheme.time_entry) for each in entries if each.startswith(scheme.time_entry)), None
        )
    if found is None or not (found.isascii() and found.isdecimal() and len(found) <= 12):
        raise SignatureInvalid(f"the request has no instant of signing in seconds, but {plain(repr(found))[:60]}")
    return found
