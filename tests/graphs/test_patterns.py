"""Regular expressions in bounded time: as Python's own finds it, and never for ever."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs.language import patterns
from ironflow_nb.graphs.language.patterns import MOST_CHARACTERS, has_match, replace_matches

LEAVES = ["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\d", "^", "$", r"\b", "(?i:A)", "é", r"\n", r"\A", r"\Z"]


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


@given(PATTERNS, TEXTS)
def test_a_pattern_is_found_where_re_finds_it(pattern: str, text: str) -> None:
    assert has_match(pattern, text) == (re.search(pattern, text) is not None)


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
def test_a_replacement_may_name_groups(pattern: str, replacement: str, text: str, expected: str) -> None:
    assert replace_matches(pattern, replacement, text) == expected == re.sub(pattern, replacement, text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|a)*$", "^(\\w+\\s?)*$", "(x+x+)+y", ".*foo.*bar", "(.*)(.*)(.*)(.*)(.*)x$"]
)
def test_a_pattern_that_might_run_for_ever_ends(pattern: str) -> None:
    begun = time.perf_counter()
    for text in ("a" * 5000 + "b", "word " * 1000 + "!", "x" * 3000, "foo" * 6000):
        with suppress(ValueError):
            has_match(pattern, text)
    assert time.perf_counter() - begun < 60  # far from it, for machines that do much else


def test_a_pattern_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "LONGEST_S", 0.05)
    with pytest.raises(ValueError, match="fewer ways to match"):
        has_match("(?:a|aa)+$", "a" * 5000 + "b")
    with pytest.raises(ValueError, match="fewer ways to match"):
        replace_matches("a.*b|a", "", "a" * 50_000)


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<a", "(" * 5000])
def test_what_is_no_pattern_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        has_match(pattern, "")


def test_a_replacement_that_names_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        replace_matches("a", "\\3", "a")


def test_a_pattern_does_not_look_at_a_text_without_end() -> None:
    with pytest.raises(ValueError, match=f"at most {MOST_CHARACTERS}"):
        has_match("a", "a" * (MOST_CHARACTERS + 1))
