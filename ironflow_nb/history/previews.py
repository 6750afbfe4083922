"""Stored values in a few words, without ever running code of theirs."""

from __future__ import annotations

from typing import Final

from ironflow_nb.errors import IronflowError
from ironflow_nb.values.store import JSON, Values
from ironflow_nb.values.stored import StoredValue

LENGTH: Final = 200
CONTENT_LIMIT: Final = 4 * 1024
"""Values above this are described by what was noted of them, and not read."""


def preview(values: Values, stored: StoredValue | None) -> str | None:
    """Return a few words about the value; None only where there is none."""
    if stored is None:
        return None
    if stored.preview is not None:
        return clip(stored.preview)
    if stored.codec == JSON and stored.content is not None:
        try:
            return clip(repr(values.decode(stored)))
        except IronflowError:  # a class that does not exist here; its JSON still says something
            return clip(bytes(stored.content).decode("utf-8", "replace"))
    return f"{stored.type_name} ({stored.size} bytes)"


def clip(text: str) -> str:
    """Return the text on one line, with an ellipsis where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= LENGTH else f"{line[: LENGTH - 1]}…"
