"""Actions, roles and policies, and the decision whether somebody may do something. No I/O.

A role allows actions, policies allow and deny more. What a policy denies is refused, whatever allows it; what nothing
allows is refused too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from ironflow_nb.access.resource_names import EVERYTHING, ORG, covers, overlaps


class Permission(StrEnum):
    """What a request does. Its first part is the type of what it does it to."""

    OPEN = "open"
    """It asks for nothing that is worth a key."""
    SIGNED = "signed"
    """The request has a signature of its own."""
    SERVER_READ = "server:read"
    RUN_READ = "run:read"
    RUN_START = "flow:start"
    RUN_STEER = "run:steer"
    RUN_SIGNAL = "run:signal"
    RUN_EDIT = "run:edit"
    RUN_DELETE = "run:delete"
    RUN_ANSWER = "run:answer"
    RUN_WORK = "run:work"
    """To execute it, as a worker over HTTP does."""
    EVENT_EMIT = "event:emit"
    FLOW_READ = "flow:read"
    JOURNAL_READ = "journal:read"
    """Its schedules, lanes and breakers."""
    DECIDER_READ = "decider:read"
    DECIDER_SEND = "decider:send"

    @property
    def resource_type(self) -> str:
        """The type of the resources that it is done to."""
        return self.value.partition(":")[0]


class Role(StrEnum):
    """What a key may do if no policy says otherwise."""

    ADMIN = "admin"
    """Everything."""
    DEVELOPER = "developer"
    """Everything but deleting."""
    VIEWER = "viewer"
    """Reading."""
    WORKER = "worker"
    """Executing runs, and nothing else."""


_ALL: Final = frozenset(Permission)
_ALLOWED: Final = {
    Role.ADMIN: _ALL,
    Role.DEVELOPER: _ALL - {Permission.RUN_DELETE, Permission.RUN_WORK},
    Role.VIEWER: frozenset(each for each in Permission if each.value.endswith(":read")),
    Role.WORKER: frozenset({Permission.RUN_WORK}),
}


class Effect(StrEnum):
    """What a policy says."""

    ALLOW = "allow"
    DENY = "deny"


class AccessPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """That a subject may do something with resources, or may not.

    `subject` is the name of a key, a role, or ``*``; `action` and `resource` are patterns.
    """

    policy_id: int | None = None
    effect: Effect
    subject: str
    action: str
    resource: str
    created_at: int

    @property
    def words(self) -> str:
        """The policy as it is given to the command line."""
        return f"policy {self.policy_id}: {self.effect} {self.subject} {self.action} {self.resource}"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The one who asks: the holder of a key. `project` and `env` are patterns; the role counts within them only."""

    name: str
    role: Role
    key_id: str = ""
    project: str = EVERYTHING
    env: str = EVERYTHING
    policies: tuple[AccessPolicy, ...] = ()


class Decision(NamedTuple):
    """Whether something is allowed, and by what."""

    is_allowed: bool
    reason: str


def policies_of(name: str, role: Role, policies: Iterable[AccessPolicy]) -> tuple[AccessPolicy, ...]:
    """Return the policies about a key of that name and role."""
    return tuple(each for each in policies if each.subject in {name, role, EVERYTHING})


def decide_access(principal: Principal, action: Permission, name: str) -> Decision:
    """Return whether the principal may do that with the resource of that name, or with all that its stars stand for."""
    of_action = [each for each in principal.policies if covers(each.action, action)]
    for each in of_action:
        if each.effect is Effect.DENY and overlaps(each.resource, name):
            return Decision(is_allowed=False, reason=each.words)
    is_within = covers(f"irn:ironflow:{ORG}:{principal.project}:*:{principal.env}:*", name)
    if action in _ALLOWED[principal.role] and is_within:
        return Decision(is_allowed=True, reason=f"role {principal.role}")
    for each in of_action:
        if each.effect is Effect.ALLOW and covers(each.resource, name):
            return Decision(is_allowed=True, reason=each.words)
    return Decision(
        is_allowed=False, reason=f"nothing allows {action} to {principal.name}, whose role is {principal.role}"
    )


def may_ever(principal: Principal, action: Permission) -> bool:
    """Return True if there may be a resource with which the principal may do that."""
    is_granted = any(each.effect is Effect.ALLOW and covers(each.action, action) for each in principal.policies)
    return is_granted or action in _ALLOWED[principal.role]


def known_actions(pattern: str) -> Collection[Permission]:
    """Return the actions that the pattern matches."""
    return [each for each in Permission if ":" in each.value and covers(pattern, each.value)]
