"""Regular expressions in bounded time: as Python's own find it, and never for ever."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs import patterns
from ironflow_nb.graphs.following import Budget, follow, program_of
from ironflow_nb.graphs.patterns import MOST_CHARACTERS, compile_pattern, is_found, replaced

LEAVES = ["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\d", "^", "$", r"\b", r"\B", "(?i:A)", "é", r"\n", r"\A", r"\Z"]


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeat = st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,2}?"])
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join).map("({})".format),
        inner.map("({})".format),
        st.tuples(inner, repeat).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    )


PATTERNS = st.recursive(st.sampled_from(LEAVES), _grown, max_leaves=6)
TEXTS = st.text(alphabet="abcA1é \n", max_size=7)


@pytest.fixture
def follow_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing to ``re``."""
    monkeypatch.setattr(patterns, "MOST_WAYS", 0)


@given(PATTERNS, TEXTS)
def test_a_pattern_is_found_where_re_finds_it(pattern: str, text: str) -> None:
    compiled = compile_pattern(pattern)
    ours = follow(program_of(pattern), compiled.n_groups, text, 0, Budget())
    theirs = re.search(pattern, text)
    assert (ours is None) == (theirs is None)
    assert is_found(pattern, text) == (theirs is not None)
    if ours is not None and theirs is not None:
        assert ours[0] == theirs.start()


SIMPLE = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", ".", "[ab]", r"\w", "(a|ab)", "(b)", "(a+)b"]),
        st.sampled_from(["", "", "?", "+", "*?"]),
    ),
    min_size=1, max_size=4,
).map(lambda parts: "".join(leaf + repeat for leaf, repeat in parts))  # fmt: skip


@pytest.mark.usefixtures("follow_all")
def test_texts_are_replaced_as_re_replaces_them() -> None:
    @given(SIMPLE, TEXTS)
    def check(pattern: str, text: str) -> None:
        assert replaced(pattern, r"<\g<0>>", text) == re.sub(pattern, r"<\g<0>>", text)

    check()


CASES = [
    ("(\\w+) (\\w+)", "\\2 \\1", "John Smith", "Smith John"),
    ("(?P<a>x)(y)?", "[\\g<a>\\2]", "xxy", "[x][xy]"),
    ("b*", "-", "abc", "-a--c-"),
    ("a|ab", "X", "ab", "Xb"),
    ("\\.", "\\\\", "a.b", "a\\b"),
    ("a", "\\n\\t", "a", "\n\t"),
    ("(?m)^", "> ", "a\nb", "> a\n> b"),
    ("x", "y", "", ""),
]


@pytest.mark.parametrize(("pattern", "replacement", "text", "expected"), CASES)
@pytest.mark.parametrize("n_ways", [0, patterns.MOST_WAYS])
def test_a_replacement_may_name_groups(
    pattern: str, replacement: str, text: str, expected: str, n_ways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "MOST_WAYS", n_ways)
    assert replaced(pattern, replacement, text) == expected == re.sub(pattern, replacement, text)


ENDLESS = [
    ("(a+)+$", "a" * 200 + "b", False),
    ("^(a|a)*$", "a" * 200 + "b", False),
    ("(a?){30}a{30}$", "a" * 29 + "b", False),
    ("^(\\w+\\s?)*$", "word " * 200 + "!", False),
    ("(x+x+)+y", "x" * 300, False),
    (".*foo.*bar", "foo" * 1000, False),
    ("\\s+$", " " * 5000 + "x", False),
    ("([a-z0-9]+-)*[a-z0-9]+", "-".join(["part"] * 200), True),
]


@pytest.mark.parametrize(("pattern", "text", "expected"), ENDLESS, ids=[pattern for pattern, _, _ in ENDLESS])
def test_a_pattern_that_might_run_for_ever_ends(pattern: str, text: str, expected: bool) -> None:
    begun = time.perf_counter()
    assert is_found(pattern, text) is expected
    assert time.perf_counter() - begun < 20  # far from it, for machines that do much else


@pytest.mark.parametrize("pattern", ["(a)\\1", "(?=a)b", "(?<!a)b", "(?>a+)b", "a++b", "(a)?(?(1)b|c)"])
def test_what_can_not_be_followed_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="write it without"):
        is_found(pattern, "ab")


def test_a_pattern_that_comes_to_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        is_found("((a|b){1,60}){60}$", "a" * 1000)


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<a", "[[a]", "(" * 5000])
def test_what_is_no_pattern_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError, match="the pattern is no regular expression"):
        is_found(pattern, "a")


@pytest.mark.parametrize("replacement", ["\\2", "\\g<b>", "\\q", "\\"])
def test_a_replacement_that_does_not_fit_is_an_error(replacement: str) -> None:
    with pytest.raises(ValueError, match="the replacement does not fit the pattern, at character 1"):
        replaced("(a)", f"x{replacement}", "a")


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=f"{MOST_CHARACTERS} at most"):
        is_found("a", "a" * (MOST_CHARACTERS + 1))


def test_a_text_that_is_read_again_and_again_to_its_end_is_given_up() -> None:
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="takes too long"):
        replaced("a.*b|a", "x", "a" * 50_000)
    assert time.perf_counter() - begun < 60
