"""Names of resources, roles and policies: what is allowed to whom."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.access.permissions import AccessPolicy, Effect, Permission, Principal, Role, decide_access, may_ever
from ironflow_nb.access.resource_names import covers, overlaps, resource_name, resource_pattern

RUN = resource_name("default", "default", "run", "digest/1a2b")


def policy(effect: Effect, action: str, resource: str) -> AccessPolicy:
    return AccessPolicy(effect=effect, subject="*", action=action, resource=resource_pattern(resource), created_at=0)


def allowed(role: Role, action: Permission, name: str, *policies: AccessPolicy) -> bool:
    principal = Principal(name="ann", role=role, policies=policies)
    found = decide_access(principal, action, name)
    assert found.reason
    assert may_ever(principal, action) or not found.is_allowed
    return found.is_allowed


@pytest.mark.parametrize(
    ("action", "roles"),
    [
        (Permission.RUN_READ, {Role.ADMIN, Role.DEVELOPER, Role.VIEWER}),
        (Permission.RUN_EDIT, {Role.ADMIN, Role.DEVELOPER}),
        (Permission.RUN_STEER, {Role.ADMIN, Role.DEVELOPER}),
        (Permission.RUN_DELETE, {Role.ADMIN}),
        (Permission.RUN_WORK, {Role.ADMIN, Role.WORKER}),
        (Permission.JOURNAL_READ, {Role.ADMIN, Role.DEVELOPER, Role.VIEWER}),
    ],
)
def test_a_role_allows_what_it_is_for(action: Permission, roles: set[Role]) -> None:
    assert {role for role in Role if allowed(role, action, RUN)} == roles


def test_what_a_policy_denies_is_refused_whatever_allows_it() -> None:
    deny = policy(Effect.DENY, "run:*", "run:digest/*")
    allow = policy(Effect.ALLOW, "run:read", "run:digest/*")
    assert not allowed(Role.ADMIN, Permission.RUN_READ, RUN, allow, deny)
    assert not allowed(Role.ADMIN, Permission.RUN_READ, RUN, deny, allow)
    assert allowed(Role.ADMIN, Permission.RUN_READ, RUN.replace("digest", "other"), deny)
    assert allowed(Role.ADMIN, Permission.EVENT_EMIT, resource_name("p", "e", "event", "x"), deny)


def test_a_policy_allows_what_a_role_does_not() -> None:
    allow = policy(Effect.ALLOW, "run:steer", "run:digest/*")
    assert allowed(Role.VIEWER, Permission.RUN_STEER, RUN, allow)
    assert not allowed(Role.VIEWER, Permission.RUN_STEER, RUN.replace("digest", "other"), allow)
    assert not allowed(Role.VIEWER, Permission.RUN_EDIT, RUN, allow)


def test_all_of_a_type_are_denied_if_any_is_and_allowed_only_if_all_are() -> None:
    every = resource_name("default", "default", "run", "*")
    assert not allowed(Role.VIEWER, Permission.RUN_READ, every, policy(Effect.DENY, "run:read", "run:digest/*"))
    assert not allowed(Role.WORKER, Permission.RUN_READ, every, policy(Effect.ALLOW, "run:read", "run:digest/*"))
    assert allowed(Role.WORKER, Permission.RUN_READ, every, policy(Effect.ALLOW, "run:read", "run:*"))


def test_a_role_counts_within_its_project_and_environment_only() -> None:
    principal = Principal(name="ann", role=Role.ADMIN, project="shop", env="test*")
    for project, env, is_allowed in (("shop", "test", True), ("shop", "test-2", True), ("shop", "live", False),
                                     ("bank", "test", False)):  # fmt: skip
        name = resource_name(project, env, "run", "a/b")
        assert decide_access(principal, Permission.RUN_READ, name).is_allowed is is_allowed


def test_an_id_with_colons_is_one_part() -> None:
    assert resource_name("p", "e", "event", "a:b%3A") == "irn:ironflow:default:p:event:e:a%3Ab%253A"


@pytest.mark.parametrize("text", ["", "run", "run:", "a:b:c", "irn:ironflow:default:p:run:e", "urn:ironflow:a:b:c:d:e"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no pattern of names"):
        resource_pattern(text)


WORDS = st.lists(st.sampled_from(["a", "b", "*"]), max_size=5).map("".join)


@given(WORDS, WORDS, st.lists(st.sampled_from("ab"), max_size=5).map("".join))
def test_patterns_overlap_if_they_have_a_text_in_common(one: str, other: str, text: str) -> None:
    assert overlaps(one, other) == overlaps(other, one)
    if covers(one, text) and covers(other, text):
        assert overlaps(one, other)
    if "*" not in other:
        assert overlaps(one, other) == covers(one, other) == bool(re.fullmatch(one.replace("*", ".*"), other))
    if one == other or (one + other).count("*") == len(one + other) > 1:
        assert overlaps(one, other)


def test_patterns_without_a_text_in_common_do_not_overlap() -> None:
    for one, other in (("a*", "b*"), ("*a", "*b"), ("a*b", "aa"), ("ab*", "a"), ("*ab*", "ba"), ("", "a")):
        assert not overlaps(one, other)
    for one, other in (("a*", "*b"), ("*", ""), ("a*c", "ab*"), ("*a*", "b*"), ("**", "*"), ("ab", "a*b")):
        assert overlaps(one, other)
