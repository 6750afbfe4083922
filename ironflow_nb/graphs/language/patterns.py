r"""Regular expressions of graphs, in bounded time.

Python's own ``re`` can't be stopped: ``(a+)+$`` takes years on some dozen characters, and holds all threads meanwhile.
The package regex has the same syntax, and a time limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from ironflow_nb.graphs.language.budget import PATTERNS_S, Budget, Stopwatch

MOST_CHARACTERS: Final = 1_000_000
"""A pattern does not look at a longer text."""

MOST_PARTS: Final = 20_000
"""A pattern has no more characters, with what its counts repeat written out: to compile it takes longer and longer."""

LONGEST_S: Final = 2.0


class PatternError(ValueError):
    """A text is no regular expression; `offset` is where in it, as far as that is known."""

    offset = 0


def has_match(pattern: str, text: str, budget: Budget | None = None) -> bool:
    """Tell whether the pattern is found anywhere in the text.

    Raises:
        ValueError: it is no regular expression, it or the text is too long, or looking took too long.
    """
    compiled = compile_pattern(pattern)
    return _searched(lambda timeout_s: compiled.search(text, timeout=timeout_s), text, budget or Budget()) is not None


def replace_matches(pattern: str, replacement: str, text: str, budget: Budget | None = None) -> str:
    r"""Return the text with every match replaced; ``\1`` and ``\g<name>`` in the replacement are groups.

    Raises:
        ValueError: as `is_found`, or the replacement names a group that there is none of, or too much is made.
    """
    import regex

    compiled, budget = compile_pattern(pattern), budget or Budget()
    n_groups = replacement.count("\\")
    put: str | Callable[[Any], str] = replacement
    if (len(text) + 1) * (len(replacement) + n_groups * len(text)) > budget.size:
        put = _counting(replacement, n_groups, budget)
    try:
        compiled.sub(replacement, "", timeout=LONGEST_S)  # whether it fits, though nothing may be found
        made: str = _searched(lambda timeout_s: compiled.sub(put, text, timeout=timeout_s), text, budget)
    except (regex.error, IndexError):
        raise ValueError("the replacement does not fit the pattern") from None
    return made


def _counting(replacement: str, n_groups: int, budget: Budget) -> Callable[[Any], str]:
    """Return what makes the text for one match, as far as all of them together are not too large."""
    size = 0

    def put(match: Any) -> str:
        nonlocal size
        longest = max(len(group or "") for group in (match[0], *match.groups()))
        budget.require(size + len(replacement) + n_groups * longest)
        made: str = match.expand(replacement)
        size += len(made)
        return made

    return put


def _searched(search: Callable[[float], Any], text: str, budget: Budget) -> Any:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters, and a pattern looks at {MOST_CHARACTERS} at most")
    try:
        with Stopwatch(budget) as left_s:
            return search(min(left_s, LONGEST_S))
    except TimeoutError:
        raise ValueError(
            f"the pattern was not done with a text of {len(text)} characters after {LONGEST_S:g} s, or with all texts "
            f"together after {PATTERNS_S:g} s; write it so that there are fewer ways to fit, without a repetition "
            "inside of another"
        ) from None


@lru_cache(maxsize=512)
def compile_pattern(text: str) -> Any:
    """Compile a pattern in the syntax of Python's ``re``.

    Raises:
        PatternError: it is no regular expression; the message shows nothing of it.
        ValueError: it is too long.
    """
    import regex

    n_parts = _n_parts(text)
    if n_parts > MOST_PARTS:
        raise ValueError(
            f"the pattern has {n_parts:,} parts, with what its counts repeat written out; {MOST_PARTS:,} are the most: "
            "to look for many words, split the text and use contains()"
        )
    try:
        return regex.compile(text)
    except (regex.error, RecursionError, OverflowError) as error:
        place = getattr(error, "pos", None)
        where = "" if place is None else f" (at character {place + 1})"
        what = getattr(error, "msg", "it is nested too deep")
        told = PatternError(f"the pattern is no regular expression: {what}{where}")
        told.offset = place or 0
        raise told from None


_PART: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,\d*)?\}|[()]|.", re.DOTALL)
"""An escaped character, a set, a count with its least number, a bracket, or any other character."""


def _n_parts(text: str) -> int:
    """Return how many parts a pattern has, where what is in front of a count is there as often as it says."""
    groups = [0]
    last = 0
    for found in _PART.finditer(text):
        part = found[0]
        if found[1] is not None:
            groups[-1] += last * (int(found[1][:9]) - 1) if int(found[1][:9]) else 0
            last *= max(int(found[1][:9]), 1)
            continue
        if part == "(":
            groups.append(0)
            last = 0
            continue
        last = groups.pop() + 1 if part == ")" and len(groups) > 1 else len(part)
        groups[-1] += last
    return sum(groups)
