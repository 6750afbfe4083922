r"""Regular expressions of graphs, with a time limit.

Python's own ``re`` can't be stopped: ``(a+)+$`` runs for years on some dozen characters and blocks all threads. The
package regex has the same syntax and a timeout.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from ironflow_nb.graphs.language.budget import PATTERNS_S, Budget, Stopwatch

MOST_CHARACTERS: Final = 1_000_000
"""Longer texts are not searched."""

MOST_PARTS: Final = 20_000
"""Bound of a pattern's length with its counts written out, because the time to compile grows with that."""

LONGEST_S: Final = 2.0


class PatternError(ValueError):
    """A text is not a regular expression; `offset` is the character of the error, 0 if unknown."""

    offset = 0


def has_match(pattern: str, text: str, budget: Budget | None = None) -> bool:
    """Return True if the pattern matches anywhere in the text.

    Raises:
        ValueError: the pattern is not a regular expression, it or the text is too long, or the search timed out.
    """
    compiled = compile_pattern(pattern)
    return _search(lambda timeout_s: compiled.search(text, timeout=timeout_s), text, budget or Budget()) is not None


def replace_matches(pattern: str, replacement: str, text: str, budget: Budget | None = None) -> str:
    r"""Return the text with every match replaced; ``\1`` and ``\g<name>`` in the replacement are groups.

    Raises:
        ValueError: as `has_match`; also if the replacement names an unknown group, or the result is too large.
    """
    import regex

    compiled, budget = compile_pattern(pattern), budget or Budget()
    n_groups = replacement.count("\\")
    substitute: str | Callable[[Any], str] = replacement
    if (len(text) + 1) * (len(replacement) + n_groups * len(text)) > budget.size:
        substitute = _bounded_replacement(replacement, n_groups, budget)
    try:
        compiled.sub(replacement, "", timeout=LONGEST_S)  # raises for a wrong replacement, even without a match
        result: str = _search(lambda timeout_s: compiled.sub(substitute, text, timeout=timeout_s), text, budget)
    except (regex.error, IndexError):
        raise ValueError("the replacement does not fit the pattern") from None
    return result


def _bounded_replacement(replacement: str, n_groups: int, budget: Budget) -> Callable[[Any], str]:
    """Return a function that expands one match, and raises once all results together exceed the budget."""
    size = 0

    def expand(match: Any) -> str:
        nonlocal size
        longest = max(len(group or "") for group in (match[0], *match.groups()))
        budget.require(size + len(replacement) + n_groups * longest)
        expanded: str = match.expand(replacement)
        size += len(expanded)
        return expanded

    return expand


def _search(search: Callable[[float], Any], text: str, budget: Budget) -> Any:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters; a pattern searches at most {MOST_CHARACTERS}")
    try:
        with Stopwatch(budget) as left_s:
            return search(min(left_s, LONGEST_S))
    except TimeoutError:
        raise ValueError(
            f"the pattern did not finish on a text of {len(text)} characters within {LONGEST_S:g} s, or on all texts "
            f"together within {PATTERNS_S:g} s; write it with fewer ways to match, without a repetition inside another"
        ) from None


@lru_cache(maxsize=512)
def compile_pattern(text: str) -> Any:
    """Compile a pattern in the syntax of Python's ``re``.

    Raises:
        PatternError: the text is not a regular expression; the message does not show it.
        ValueError: the text is too long.
    """
    import regex

    n_parts = _n_parts(text)
    if n_parts > MOST_PARTS:
        raise ValueError(
            f"the pattern has {n_parts:,} parts with its counts written out; at most {MOST_PARTS:,} are allowed: "
            "to search for many words, split the text and use contains()"
        )
    try:
        return regex.compile(text)
    except (regex.error, RecursionError, OverflowError) as error:
        place = getattr(error, "pos", None)
        where = "" if place is None else f" (at character {place + 1})"
        what = getattr(error, "msg", "it is nested too deep")
        failure = PatternError(f"the pattern is not a regular expression: {what}{where}")
        failure.offset = place or 0
        raise failure from None


_PART: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,\d*)?\}|[()]|.", re.DOTALL)
"""An escaped character, a set, a count with its least number, a bracket, or any other character."""


def _n_parts(text: str) -> int:
    """Return the number of parts of a pattern, in which a part before a count is counted that many times."""
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
