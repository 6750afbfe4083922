"""Values and expressions in words, for messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Final

import msgspec


def written(tree: dict[str, Any]) -> str:
    """Return the tree as a text that people recognise, for messages."""
    children = [written(child) for child in tree.get("children", ()) if isinstance(child, dict)]
    match tree["type"]:
        case "field":
            value: str = tree["value"]
            return value if value.isidentifier() else f'"{value}"'
        case "subexpression":
            return ".".join(children)
        case "index_expression":
            return "".join(children)
        case "index":
            return f"[{tree['value']}]"
        case "projection" | "filter_projection":
            inner = "[]" if tree["children"][0]["type"] == "flatten" else "[*]"
            rest = "" if tree["children"][1]["type"] == "identity" else f".{children[1]}"
            return f"{children[0].removesuffix('[]')}{inner}{rest}"
        case "flatten":
            return f"{children[0]}[]"
        case "pipe":
            return " | ".join(children)
        case "function_expression":
            return f"{tree['value']}({', '.join(children)})"
        case "literal":
            return f"`{msgspec.json.encode(tree['value']).decode()}`"
        case "current" | "identity":
            return "@"
        case _:
            return "..."


def near(word: str, known: Iterable[str]) -> str | None:
    """Return the one of the known words that was perhaps meant: mistyped, or with another ending."""
    for each in get_close_matches(word, list(known), n=3):
        n_alike = sum(block.size for block in SequenceMatcher(None, word, each).get_matching_blocks())
        n_most = max(len(word), len(each))
        if n_most - n_alike <= max(1, n_most // 3) or word[:_BEGINNING] == each[:_BEGINNING]:
            return each
    return None


_BEGINNING: Final = 4
"""Words that begin alike, so far, are alike whatever their endings are."""


def shape(value: object, *, depth: int = 1) -> str:
    """Return what a value is, for messages: its kind, size and keys, and nothing of its content."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"a text of {len(value)} characters"
        case Mapping():
            keys = ", ".join(map(str, list(value)[:8])) + (", ..." if len(value) > 8 else "")
            return f"an object with {keys}" if value else "an empty object"
        case list() | tuple():
            inside = f", first {shape(value[0], depth=0)}" if value and depth else ""
            return f"a list of {len(value)}{inside}" if value else "an empty list"
        case _:
            return f"a {type(value).__name__}"
