"""Keys of the server: made, shown once, replaced, revoked, and recognised.

A key is ``ifk_ID_SECRET``. Its id finds its row; its secret has 256 random bits, so a hash without salt keeps it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from ironflow_nb.access.access_rows import (
    AuditedAccess,
    AuditEntry,
    ChangedKey,
    EndedPolicy,
    NewPolicy,
    StoredKey,
    access_of,
)
from ironflow_nb.access.permissions import AccessPolicy, Effect, Principal, Role, known_actions, policies_of
from ironflow_nb.access.resource_names import EVERYTHING, part_of_name, resource_pattern
from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import RunId, run_id
from ironflow_nb.core.option_values import one_of
from ironflow_nb.execution import Engine
from ironflow_nb.journal.ports import Addition, Durability, Reader, RunCommit

PREFIX: Final = "ifk"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_ALL_ACTIONS: Final = f"{EVERYTHING}:{EVERYTHING}"


def make_key(
    engine: Engine, name: str, role: str, *, project: str = EVERYTHING, env: str = EVERYTHING,
    expires: Duration | None = None,
) -> str:  # fmt: skip
    """Make a key and return it; nobody can read it again.

    Raises:
        ValueError: there is no such role, a name is invalid, or a valid key has it.
    """
    part_of_name("the name of a key", name)
    for option, pattern in (("project", project), ("env", env)):
        part_of_name(option, pattern.replace(EVERYTHING, "-"))
    chosen = one_of(Role, role, "role")
    if name in {EVERYTHING, *Role}:
        raise ValueError(f"a key is not called {name!r}: policies mean all keys of that role by it; give another name")
    lasts_s = None if expires is None else seconds(expires)
    secret, row = _new(engine, name, chosen, project, env, lasts_s)

    def act(reader: Reader) -> Sequence[Addition]:
        now = engine.clock.now()
        if any(each.name == name and each.is_valid(now) for each in access_of(reader).all_keys()):
            message = f"there is a key {name!r}; rotate it, revoke it, or give the new one another name"
            raise ValueError(message)
        return [ChangedKey(row)]

    _change(engine, act)
    return secret


def rotate_key(engine: Engine, name: str, *, grace: Duration = 0.0) -> str:
    """Make a key that takes the place of the one of that name, and return it; the old one is valid for `grace` more.

    Raises:
        ValueError: no valid key has that name.
    """
    made: list[str] = []
    grace_us = round(seconds(grace) * 1e6)

    def act(reader: Reader) -> Sequence[Addition]:
        now = engine.clock.now()
        old = _valid(reader, name, now)[-1]
        left_s = None if old.expires_at is None else (old.expires_at - now) / 1e6
        secret, row = _new(engine, name, old.role, old.project, old.env, left_s)
        made.append(secret)
        until = min(now + grace_us, now + grace_us if old.expires_at is None else old.expires_at)
        return [ChangedKey(replace(old, expires_at=until)), ChangedKey(row)]

    _change(engine, act)
    return made[-1]


def revoke_key(engine: Engine, name: str) -> int:
    """Revoke the keys of that name, and the one of that id; return how many. They open nothing from now on.

    Raises:
        ValueError: no valid key has that name.
    """
    n: list[int] = []

    def act(reader: Reader) -> Sequence[Addition]:
        now = engine.clock.now()
        found = _valid(reader, name, now)
        n.append(len(found))
        return [ChangedKey(replace(each, revoked_at=now)) for each in found]

    _change(engine, act)
    return n[-1]


def _valid(reader: Reader, name: str, now: int) -> list[StoredKey]:
    keys = [each for each in access_of(reader).all_keys() if each.is_valid(now)]
    found = [each for each in keys if name in {each.name, each.key_id}]
    if not found:
        names = ", ".join(sorted({each.name for each in keys})) or "none"
        raise ValueError(f"there is no valid key {name!r}; there are: {names}")
    return found


def _new(engine: Engine, name: str, role: Role, project: str, env: str, lasts_s: float | None) -> tuple[str, StoredKey]:
    key_id, secret = run_id(engine.entropy(_ID_BYTES)), engine.entropy(_SECRET_BYTES).hex()
    now = engine.clock.now()
    row = StoredKey(
        key_id=key_id, name=name, role=role, project=project, env=env, digest=_digest(secret), created_at=now,
        expires_at=None if lasts_s is None else now + round(lasts_s * 1e6),
    )  # fmt: skip
    return f"{PREFIX}_{key_id}_{secret}", row


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def principal_of(reader: Reader, given: str, now: int) -> Principal | None:
    """Return the holder of that key, or None if it is no valid key."""
    prefix, _, rest = given.partition("_")
    key_id, _, secret = rest.partition("_")
    access = access_of(reader)
    found = access.key(key_id) if prefix == PREFIX and given.isascii() else None
    if found is None or not hmac.compare_digest(_digest(secret), found.digest) or not found.is_valid(now):
        return None
    policies = policies_of(found.name, found.role, access.policies())
    return Principal(
        name=found.name, role=found.role, key_id=key_id, project=found.project, env=found.env, policies=policies
    )


def has_admin(reader: Reader, now: int) -> bool:
    """Return True if there is a valid key of an admin."""
    return any(each.is_valid(now) and each.role is Role.ADMIN for each in access_of(reader).all_keys())


def add_policy(engine: Engine, effect: Effect, subject: str, action: str, resource: str) -> None:
    """Add a policy about a key, a role or ``*``.

    Raises:
        ValueError: there is no such subject or action, or the resource is no pattern of names.
    """
    pattern = _ALL_ACTIONS if action == EVERYTHING else action
    if not known_actions(pattern):
        raise ValueError(f"there is no action {action!r}; there are {', '.join(known_actions(_ALL_ACTIONS))}")

    def act(reader: Reader) -> Sequence[Addition]:
        names = {each.name for each in access_of(reader).all_keys()}
        if subject not in {EVERYTHING, *Role, *names}:
            listed = ", ".join([*Role, *sorted(names)])
            raise ValueError(f"there is no key and no role {subject!r}; there are {listed}, and * for all")
        policy = AccessPolicy(
            effect=effect, subject=subject, action=pattern, resource=resource_pattern(resource),
            created_at=engine.clock.now(),
        )  # fmt: skip
        return [NewPolicy(policy)]

    _change(engine, act)


def end_policy(engine: Engine, policy_id: int) -> None:
    """Take a policy away.

    Raises:
        JournalConflict: no key has that number.
    """
    _change(engine, lambda _: [EndedPolicy(policy_id)])


def record_access(engine: Engine, entry: AuditEntry) -> None:
    """Add an entry to the audit."""
    commit = RunCommit(run_id=RunId(""), events=(), additions=(AuditedAccess((entry,)),))
    engine.access.append([commit], Durability.PROCESS)


def _change(engine: Engine, act: Callable[[Reader], Sequence[Addition]]) -> None:
    def commits(reader: Reader) -> list[RunCommit]:
        return [RunCommit(run_id=RunId(""), events=(), additions=tuple(act(reader)))]

    engine.access.exchange(commits, engine.durability)
