"""The rows of keys, policies and the audit. The tables are in `ironflow_nb.journal.schema`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ironflow_nb.access.permissions import AccessPolicy, Effect, Role
from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import Addition, Reader
from ironflow_nb.journal.table import Table


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret, of which there is the SHA-256. Instants are microseconds UTC."""

    key_id: str
    name: str
    role: Role
    project: str
    env: str
    digest: bytes
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def is_valid(self, now: int) -> bool:
        """Return True if the key opens anything at that instant."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def status(self, now: int) -> str:
        """Return ``valid``, ``revoked`` or ``expired``."""
        return "revoked" if self.revoked_at is not None else "valid" if self.is_valid(now) else "expired"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody was allowed something, or was not. `at` is microseconds UTC."""

    at: int
    who: str
    key_id: str
    action: str
    resource: str
    is_allowed: bool
    reason: str
    entry_id: int | None = None


class ChangedKey(Addition, frozen=True):
    """A key that is new, or has changed."""

    key: StoredKey

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute(KEYS.put, KEYS.values(self.key))


class NewPolicy(Addition, frozen=True):
    """A policy; the store gives its number."""

    policy: AccessPolicy

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute(POLICIES.put, POLICIES.values(self.policy))


class EndedPolicy(Addition, frozen=True):
    """The end of a policy."""

    policy_id: int

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`.

        Raises:
            JournalConflict: there is no such policy.
        """
        if not connection.execute("DELETE FROM access_policies WHERE policy_id = ?", (self.policy_id,)).rowcount:
            raise JournalConflict(f"there is no policy {self.policy_id}; `ironflow-nb keys policies` lists them")


class AuditedAccess(Addition, frozen=True):
    """Entries of the audit."""

    entries: tuple[AuditEntry, ...]

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.executemany(AUDIT.put, map(AUDIT.values, self.entries))


class AccessReader:
    """Reads of keys, policies and the audit, through the connection of a reader of the journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all_keys(self) -> list[StoredKey]:
        """Return all keys, in the order of making."""
        return list(KEYS.find(self._connection, "ORDER BY created_at, key_id"))

    def key(self, key_id: str) -> StoredKey | None:
        """Return the key of that id."""
        return KEYS.first(self._connection, "WHERE key_id = ?", (key_id,))

    def policies(self) -> list[AccessPolicy]:
        """Return all policies, in the order of making."""
        return list(POLICIES.find(self._connection, "ORDER BY policy_id"))

    def audit(self, who: str | None, since: int | None, limit: int) -> Iterator[AuditEntry]:
        """Yield the newest entries, newest first: those of one, or since an instant."""
        asked = {"who = ?": who, "at >= ?": since}
        given = {condition: value for condition, value in asked.items() if value is not None}
        where = " AND ".join(given) or "1"
        return AUDIT.find(self._connection, f"WHERE {where} ORDER BY entry_id DESC LIMIT ?", (*given.values(), limit))


def access_of(reader: Reader) -> AccessReader:
    """Return the reads of keys, policies and the audit, at the moment of the reader."""
    return reader.extension(AccessReader)


def _key(row: tuple[Any, ...]) -> StoredKey:
    key = StoredKey(**dict(zip(StoredKey.__struct_fields__, row, strict=True)))
    return msgspec.structs.replace(key, role=Role(key.role))


def _policy(row: tuple[Any, ...]) -> AccessPolicy:
    policy = AccessPolicy(**dict(zip(AccessPolicy.__struct_fields__, row, strict=True)))
    return msgspec.structs.replace(policy, effect=Effect(policy.effect))


KEYS: Final = Table("access_keys", StoredKey, ["key_id"], read=_key)
POLICIES: Final = Table("access_policies", AccessPolicy, generated=["policy_id"], read=_policy)
AUDIT: Final = Table("access_audit", AuditEntry, generated=["entry_id"])
