"""Stored values in a few words, without ever running code of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.core.texts import plain
from ironflow_nb.values.store import JSON
from ironflow_nb.values.stored import StoredValue
from ironflow_nb.values.tagged import TAG, untag

LENGTH: Final = 200
CONTENT_LIMIT: Final = 4 * 1024
"""Values above this are described by what was noted of them, and not read."""

_BRACKETS: Final = {"tuple": "()", "set": "{}", "frozenset": ("frozenset({", "})")}


def preview(stored: StoredValue | None) -> str | None:
    """Return a few words about the value; None only where there is none."""
    if stored is None:
        return None
    if stored.preview is not None:
        return clip(stored.preview)
    if stored.codec == JSON and stored.content is not None:
        try:
            return clip(sketch(msgspec.json.decode(stored.content)))
        except Exception:  # noqa: BLE001 -- of a form that is not known here; its JSON still says something
            return clip(bytes(stored.content).decode("utf-8", "replace"))
    return f"{stored.type_name} ({stored.size} bytes)"


def sketch(tree: Any) -> str:
    """Return the repr of a value from its tagged form; what has a class of the user is shown without that class."""
    if type(tree) is list:
        return f"[{_listed(tree)}]"
    if type(tree) is not dict:
        return repr(tree)
    kind = tree.get(TAG)
    if kind is None:
        return f"{{{', '.join(f'{key!r}: {sketch(item)}' for key, item in tree.items())}}}"
    if "c" in tree:
        return _of_class(tree)
    if kind == "dict":
        return f"{{{', '.join(f'{sketch(key)}: {sketch(item)}' for key, item in tree['v'])}}}"
    if kind in _BRACKETS and tree["v"]:
        opening, closing = _BRACKETS[kind]
        lonely = "," if kind == "tuple" and len(tree["v"]) == 1 else ""
        return f"{opening}{_listed(tree['v'])}{lonely}{closing}"
    return repr(untag(tree))


def _of_class(tree: Mapping[str, Any]) -> str:
    name, value = tree["c"].rpartition(".")[2], tree["v"]
    if tree[TAG] == "enum":
        return f"{name}.{value}"
    if tree[TAG] == "flag":
        return f"{name}({sketch(value)})"
    return f"{name}({', '.join(f'{field}={sketch(item)}' for field, item in value.items())})"


def _listed(trees: list[Any]) -> str:
    return ", ".join(map(sketch, trees))


def clip(text: str) -> str:
    """Return the text on one line, with an ellipsis where it is too long."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= LENGTH else f"{line[: LENGTH - 1]}…"
