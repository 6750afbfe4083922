"""How a step and a branch are recognised, and how runs and steps are named."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.core.identity import (
    ROOT_BRANCH,
    BranchId,
    Digest,
    branch_id,
    digest_bytes,
    is_same_line,
    keyed_identity,
    parse_step_ref,
    run_id,
    run_id_prefix,
    step_identity,
    step_name,
    step_ref,
)
from tests.core.made import digest

NAMES = st.text("ab/%.2F", min_size=1, max_size=5)
DIGESTS = st.binary(max_size=8).map(digest_bytes)
WORDS = st.tuples(NAMES, DIGESTS, st.integers(0, 12))
PATHS = st.lists(WORDS, max_size=4)


def path(words: list[tuple[str, Digest, int]]) -> BranchId:
    branch = ROOT_BRANCH
    for name, arguments, nth in words:
        branch = branch_id(branch, name, arguments, nth)
    return branch


@given(st.binary())
def test_a_digest_is_the_recipe_and_nineteen_bytes_of_blake2b(content: bytes) -> None:
    assert digest_bytes(content) == b"\x01" + blake2b(content, digest_size=19).digest()


def test_the_recipe_makes_today_what_it_made_when_journals_were_written() -> None:
    arguments = digest_bytes(b"arguments")
    assert arguments.hex() == "01a6e0d20fa0d7dbb4eb5b5e3ba2c15579d3510c"
    assert step_identity("fetch", arguments).hex() == "01522dd44b14bafefbfac4f7864e2cb87780e874"
    assert keyed_identity("fetch", arguments).hex() == "0187a82576f8a2c75606615525363033de11e619"


@given(st.text(), st.text(), DIGESTS, DIGESTS)
def test_steps_have_one_identity_exactly_if_name_and_arguments_are_equal(
    name: str, other: str, arguments: Digest, others: Digest
) -> None:
    alike = (name, arguments) == (other, others)
    assert (step_identity(name, arguments) == step_identity(other, others)) is alike
    assert (keyed_identity(name, arguments) == keyed_identity(other, others)) is alike


@given(st.text("fetch.key"), DIGESTS)
def test_a_key_is_never_taken_for_arguments(name: str, content: Digest) -> None:
    assert keyed_identity(name, content) != step_identity(name, content)


@pytest.mark.parametrize(
    ("module", "qualname", "expected"),
    [
        ("__main__", "fetch", "fetch"),
        ("", "fetch", "fetch"),
        (None, "fetch", "fetch"),
        ("shop.steps", "fetch", "shop.steps.fetch"),
        ("shop.steps", "Client.fetch", "shop.steps.Client.fetch"),
        ("__main__", "outer.<locals>.middle.<locals>.inner", "outer.middle.inner"),
        ("shop", "outer.<locals>.inner", "shop.outer.inner"),
    ],
)
def test_a_step_is_named_by_its_qualname_and_outside_main_by_its_module(
    module: str | None, qualname: str, expected: str
) -> None:
    assert step_name(module, qualname) == expected


def test_a_branch_is_its_parent_and_a_word_of_name_arguments_and_nth() -> None:
    arguments = digest("page")
    child = branch_id(ROOT_BRANCH, "fetch", arguments, 0)
    assert child == f"/fetch.{arguments.hex()[2:18]}.0"
    assert branch_id(child, "parse", None, 3) == f"{child}/parse.3"


def test_a_name_of_slashes_and_per_cents_stays_one_word() -> None:
    assert branch_id(ROOT_BRANCH, "a/b%2Fc", None, 0) == "/a%2Fb%252Fc.0"


@given(PATHS, PATHS)
def test_branches_have_one_id_exactly_if_they_were_opened_alike(
    a: list[tuple[str, Digest, int]], b: list[tuple[str, Digest, int]]
) -> None:
    assert (path(a) == path(b)) is (a == b)


@given(PATHS, PATHS, PATHS)
def test_branches_are_of_one_line_exactly_if_one_was_opened_in_the_other(
    common: list[tuple[str, Digest, int]], a: list[tuple[str, Digest, int]], b: list[tuple[str, Digest, int]]
) -> None:
    one, other = common + a, common + b
    n = min(len(one), len(other))
    expected = one[:n] == other[:n]
    assert is_same_line(path(one), path(other)) is expected
    assert is_same_line(path(other), path(one)) is expected


def test_the_own_branch_of_the_flow_is_an_ancestor_of_all() -> None:
    assert is_same_line(ROOT_BRANCH, ROOT_BRANCH)
    assert is_same_line(ROOT_BRANCH, BranchId("/a.0/b.0"))


def test_a_branch_whose_id_only_begins_like_another_is_its_sibling() -> None:
    assert not is_same_line(BranchId("/a.1"), BranchId("/a.12"))
    assert not is_same_line(BranchId("/a.1/b.0"), BranchId("/a.12/b.0/c.0"))


@given(st.binary(min_size=8, max_size=8), st.integers(1, 12))
def test_a_run_id_is_sixty_bits_in_base_32_and_any_prefix_of_it_names_it(entropy: bytes, length: int) -> None:
    made = run_id(entropy)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    assert len(made) == 12
    number = 0
    for character in made:
        number = number * 32 + alphabet.index(character)
    assert number == int.from_bytes(entropy, "big") >> 4
    assert run_id_prefix(f" {made[:length].upper()}\n") == made[:length]


@pytest.mark.parametrize(("typed", "meant"), [("O1l-I", "0111"), ("ab-cd", "abcd"), ("0123456789ab", "0123456789ab")])
def test_what_looks_alike_in_a_run_id_is_read_alike(typed: str, meant: str) -> None:
    assert run_id_prefix(typed) == meant


@pytest.mark.parametrize("text", ["", " ", "-", "u", "a b", "é", "0123456789abc", "fetch[0]"])
def test_no_run_id_begins_with_what_its_letters_do_not_spell(text: str) -> None:
    assert run_id_prefix(text) is None


@given(st.text(min_size=1), st.integers(0, 10**9))
def test_a_reference_of_a_step_is_read_as_it_was_made(name: str, index: int) -> None:
    assert parse_step_ref(step_ref(name, index)) == (name, index)


def test_a_reference_shows_name_and_index() -> None:
    assert step_ref("fetch", 12) == "fetch[12]"


@pytest.mark.parametrize("text", ["fetch", "fetch[", "fetch[]", "fetch[a]", "fetch[-1]", "[3]", "fetch[1] "])
def test_a_reference_without_an_index_is_all_name(text: str) -> None:
    assert parse_step_ref(text) == (text, None)
