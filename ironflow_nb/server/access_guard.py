"""Who may ask: the names under which the server is reached, pages of other origins, keys, and what each may do."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from ironflow_nb.access.access_keys import principal_of, record_access
from ironflow_nb.access.access_rows import AuditEntry
from ironflow_nb.access.permissions import Permission, Principal, Role, decide_access
from ironflow_nb.access.resource_names import resource_name
from ironflow_nb.execution import Engine
from ironflow_nb.server.http_calls import Reply, refused

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
LOCAL: Final = Principal(name="", role=Role.ADMIN)
"""The one who asks on this machine without a key, where the journal can be read, too."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_KEYLESS: Final = frozenset({Permission.OPEN, Permission.SIGNED})


@lru_cache(maxsize=8)
def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a server on that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class AccessGuard:
    """Looks at a request before anything else does.

    `token` is a key of an admin that stands in no journal. `project` and `env` are those of all that is served.
    """

    host: str
    token: str | None = None
    needs_key: bool = False
    project: str = "default"
    env: str = "default"

    def refusal(self, method: str, headers: Mapping[str, str]) -> Reply | None:
        """Return why a request from there is refused, with any key, or None."""
        name = _host_name(headers.get("host", ""))
        # A page of the web can give its own name the address of this machine, and would be of the same origin.
        if is_loopback(self.host) and name not in {*LOCAL_NAMES, self.host}:
            known = ", ".join(sorted(LOCAL_NAMES | {self.host}))
            return refused(421, "wrong_host", f"this server is reached as {known}, not as {name[:100]!r}")
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            return refused(403, "foreign_origin", f"a page of {origin[:100]} may change nothing here")
        return None

    def local(self, action: Permission, headers: Mapping[str, str]) -> Principal | None:
        """Return who asks without a key, where none is needed; None if there has to be one."""
        if action in _KEYLESS or not (self.needs_key or "authorization" in headers or "x-api-key" in headers):
            return LOCAL
        return None

    def principal(self, engine: Engine, headers: Mapping[str, str]) -> Principal | Reply:
        """Return whose key the request has, or that it needs one."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Equal in time for each wrong token, so that none is found character by character.
        if self.token is not None and hmac.compare_digest(key.encode(), self.token.encode()):
            return Principal(name="token", role=Role.ADMIN)
        if key:
            with engine.journal.reading() as reader:
                found = principal_of(reader, key, engine.clock.now())
            if found is not None:
                return found
        message = "this is no valid key" if key else "give a key: Authorization: Bearer KEY"
        return Reply(
            {"error": {"code": "unauthorized", "message": f"{message}; `ironflow-nb keys create NAME` makes one"}},
            401,
            {"WWW-Authenticate": "Bearer"},
        )

    def name_of(self, action: Permission, resource_id: str) -> str:
        """Return the name of a resource of the type that the action is done to."""
        return resource_name(self.project, self.env, action.resource_type, resource_id)

    def may(self, principal: Principal, action: Permission, resource_id: str) -> bool:
        """Return True if the principal may do that, without a note in the audit: for each row of a list."""
        return principal is LOCAL or decide_access(principal, action, self.name_of(action, resource_id)).is_allowed

    def permit(
        self, engine: Engine, principal: Principal, action: Permission, method: str, resource_id: str
    ) -> Reply | None:
        """Return why the principal may not do that, or None; what changes something and what is refused is noted."""
        if principal is LOCAL:
            return None
        name = self.name_of(action, resource_id)
        allowed, reason = decide_access(principal, action, name)
        if not allowed or method not in _SAFE:
            entry = AuditEntry(
                at=engine.clock.now(), who=principal.name, key_id=principal.key_id, action=action.value,
                resource=name, is_allowed=allowed, reason=reason,
            )  # fmt: skip
            record_access(engine, entry)
        if allowed:
            return None
        return refused(403, "forbidden", f"{principal.name} may not {action} {name}: {reason}")


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port and the brackets of an address of IPv6."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
