"""Syntax trees of texts, also where other threads make some at the same moment."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Final

_ATTEMPTS: Final = 20


def parse(text: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """Return the syntax tree of the text.

    Python 3.11 counts the depth of a tree for all threads together, and raises `SystemError` where another thread makes
    a tree meanwhile; the next attempt meets it no more.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """
    for _ in range(_ATTEMPTS):
        with suppress(SystemError):
            return ast.parse(text, filename)
    return ast.parse(text, filename)
