r"""Regular expressions of graphs, in bounded time.

Python's own ``re`` can't be stopped: ``(a+)+$`` takes years on some dozen characters, and holds all threads meanwhile.
The package regex has the same syntax, and a time limit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

MOST_CHARACTERS: Final = 1_000_000
"""A pattern does not look at a longer text."""

LONGEST_S: Final = 2.0


def is_found(pattern: str, text: str) -> bool:
    """Tell whether the pattern is found anywhere in the text.

    Raises:
        ValueError: it is no regular expression, the text is too long, or looking took too long.
    """
    compiled = compile_pattern(pattern)
    _refuse_long(text)
    try:
        return compiled.search(text, timeout=LONGEST_S) is not None
    except TimeoutError:
        raise _too_slow(text) from None


def replaced(pattern: str, replacement: str, text: str) -> str:
    r"""Return the text with every match replaced; ``\1`` and ``\g<name>`` in the replacement are groups.

    Raises:
        ValueError: as `is_found`, or the replacement names a group that there is none of.
    """
    import regex  # noqa: PLC0415 -- only who uses patterns waits for it

    compiled = compile_pattern(pattern)
    _refuse_long(text)
    try:
        made: str = compiled.sub(replacement, text, timeout=LONGEST_S)
    except TimeoutError:
        raise _too_slow(text) from None
    except (regex.error, IndexError):
        raise ValueError("the replacement does not fit the pattern") from None
    return made


@lru_cache(maxsize=512)
def compile_pattern(text: str) -> Any:
    """Compile a pattern in the syntax of Python's ``re``.

    Raises:
        ValueError: it is no regular expression; the message shows nothing of it.
    """
    import regex  # noqa: PLC0415

    try:
        return regex.compile(text)
    except (regex.error, RecursionError, OverflowError) as error:
        place = getattr(error, "pos", None)
        where = "" if place is None else f" (at character {place + 1})"
        what = getattr(error, "msg", "it is nested too deep")
        raise ValueError(f"the pattern is no regular expression: {what}{where}") from None


def _refuse_long(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters, and a pattern looks at {MOST_CHARACTERS} at most")


def _too_slow(text: str) -> ValueError:
    return ValueError(
        f"the pattern was not done with a text of {len(text)} characters after {LONGEST_S:g} s; write it so that there "
        "are fewer ways to fit, without a repetition inside of another"
    )
