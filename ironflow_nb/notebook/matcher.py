"""The matchers of this package, which offer completions at the cursor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from IPython.core.completer import SimpleCompletion, SimpleMatcherResult


class Matcher:
    """A matcher of one shell. A subclass has a `matcher_identifier` and is called with the context of the cursor."""

    matcher_priority: Final = 0
    matcher_api_version: Final = 2

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.__qualname__ = type(self).__name__  # IPython asks for it, as of a function


def matches(offered: Iterable[str], word: str) -> SimpleMatcherResult:
    """Return what begins with the word, in the order offered; where something does, other matchers are suppressed."""
    fitting = [SimpleCompletion(text=each, type="keyword") for each in offered if each.startswith(word)]
    return {"completions": fitting, "matched_fragment": word, "suppress": bool(fitting), "ordered": True}
