r"""Regular expressions whose time is bounded: what a graph gets from outside can't make them run for ever.

Python's ``re`` tries every way in which a pattern may fit: ``(a+)+$`` and ``.*x.*y`` take years on some thousand
characters, and hold all threads meanwhile. It is used where the number of ways is small. Else all of them are followed
at once: slower for simple patterns, and never much slower than that. What can't be followed so is refused: looking
around, back-references, atomic groups.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ironflow_nb.graphs.following import Budget, Groups, follow, library, program_of

MOST_CHARACTERS: Final = 100_000
"""A pattern does not look at a longer text."""

MOST_WAYS: Final = 10_000_000
"""So many ways to fit are tried one after the other within a fraction of a second."""


class Pattern(NamedTuple):
    """A compiled pattern."""

    compiled: re.Pattern[str]
    parsed: Any
    groups: Mapping[str, int]
    n_groups: int

    def searches(self, text: str) -> Iterator[Groups]:
        """Yield the groups of every match, from left to right, without overlaps.

        Raises:
            ValueError: the text is too long, or the pattern can't be followed in bounded time.
        """
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"the text has {len(text)} characters, and a pattern looks at {MOST_CHARACTERS} at most")
        if (len(text) + 1) * _ways(self.parsed, len(text)) <= MOST_WAYS:
            for match in self.compiled.finditer(text):
                yield tuple(place for number in range(self.n_groups) for place in match.span(number))
            return
        program, budget = program_of(self.compiled.pattern), Budget()
        start, must_advance = 0, False
        while (found := follow(program, self.n_groups, text, start, budget, must_advance=must_advance)) is not None:
            yield found
            start, must_advance = found[1], found[0] == found[1]


@lru_cache(maxsize=512)
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern in the syntax of Python's ``re``.

    Raises:
        ValueError: it is no regular expression; the message shows nothing of it.
    """
    try:
        compiled = re.compile(text)
        parsed = library("_parser").parse(text)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        place = getattr(error, "pos", None)
        at = "" if place is None else f", at character {place}"
        raise ValueError(f"the pattern is no regular expression{at}") from None
    return Pattern(compiled, parsed, compiled.groupindex, compiled.groups + 1)


def is_found(pattern: str, text: str) -> bool:
    """Tell whether the pattern is found anywhere in the text.

    Raises:
        ValueError: see `compile_pattern` and `Pattern.searches`.
    """
    return next(compile_pattern(pattern).searches(text), None) is not None


def replaced(pattern: str, replacement: str, text: str) -> str:
    r"""Return the text with every match replaced, ``\1`` and ``\g<name>`` standing for groups.

    Raises:
        ValueError: see `compile_pattern` and `Pattern.searches`; or the replacement names a group that there is not.
    """
    compiled = compile_pattern(pattern)
    parts = _replacement(replacement, compiled)
    written: list[str] = []
    at = 0
    for groups in compiled.searches(text):
        written.append(text[at : groups[0]])
        written += [part if isinstance(part, str) else _group(text, groups, part) for part in parts]
        at = groups[1]
    return "".join([*written, text[at:]])


def _group(text: str, groups: Groups, number: int) -> str:
    begin, end = groups[2 * number : 2 * number + 2]
    return text[begin:end] if begin >= 0 else ""


_ESCAPE: Final = re.compile(r"\\(?:(\d{1,2})|g<(\w+)>|([\\nrt])|)", re.ASCII)
_MEANINGS: Final = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def _replacement(text: str, pattern: Pattern) -> Sequence[str | int]:
    parts: list[str | int] = []
    at = 0
    for escape in _ESCAPE.finditer(text):
        parts.append(text[at : escape.start()])
        number, name, character = escape.groups()
        if character is not None:
            parts.append(_MEANINGS[character])
        else:
            wanted = number or name or ""
            chosen = int(wanted) if wanted.isdecimal() else pattern.groups.get(wanted, -1)
            if not 0 <= chosen < pattern.n_groups:
                raise ValueError(f"the replacement does not fit the pattern, at character {escape.start()}")
            parts.append(chosen)
        at = escape.end()
    return [part for part in (*parts, text[at:]) if part != ""]


# -- how many ways there are -------------------------------------------------------------------------------------


def _ways(parsed: Any, n_characters: int) -> float:
    """Return a bound for how many ways of fitting the pattern at one place are tried."""
    ways = 1.0
    for name, argument in ((str(operation), argument) for operation, argument in parsed):
        match name:
            case "BRANCH":
                ways *= sum(_ways(each, n_characters) for each in argument[1])
            case "SUBPATTERN":
                ways *= _ways(argument[3], n_characters)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = int(argument[0]), min(int(argument[1]), n_characters + 1), argument[2]
                inside = _ways(body, n_characters)
                ways *= max(most - least, 0) + 1
                ways *= inside**most if inside == 1 or most * math.log2(inside) < 64 else math.inf
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "AT":
                pass
            case _:  # is not bounded, and can't be followed either
                return math.inf
    return ways
