"""Who may ask: the token, the names under which the server is reached, and pages of other origins."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ironflow_nb.server.http_calls import Reply, refused

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEALTH: Final = "/health"
_WEBHOOKS: Final = "/webhooks/"
"""The requests under it are signed instead."""


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a server on that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class AccessGuard:
    """Looks at a request before anything else does."""

    host: str
    token: str | None

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
        """Return why the request is refused, or None."""
        name = _host_name(headers.get("host", ""))
        # A page of the web can give its own name the address of this machine, and would be of the same origin.
        if is_loopback(self.host) and name not in {*LOCAL_NAMES, self.host}:
            known = ", ".join(sorted(LOCAL_NAMES | {self.host}))
            return refused(421, "wrong_host", f"this server is reached as {known}, not as {name[:100]!r}")
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            return refused(403, "foreign_origin", f"a page of {origin[:100]} may change nothing here")
        is_open = path == _HEALTH or path.startswith(_WEBHOOKS)
        if self.token is None or is_open or self._is_right(headers.get("authorization", "")):
            return None
        return Reply(
            {"error": {"code": "unauthorized", "message": "give the token: Authorization: Bearer TOKEN"}},
            401,
            {"WWW-Authenticate": "Bearer"},
        )

    def _is_right(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        assert self.token is not None
        # Equal in time for each wrong token, so that none is found character by character.
        return hmac.compare_digest(given.strip().encode(), self.token.encode()) and scheme.lower() == "bearer"


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port and the brackets of an address of IPv6."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
