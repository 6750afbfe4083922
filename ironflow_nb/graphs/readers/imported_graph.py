"""What every reader gives: a graph of ours, and what is told of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec


class ImportedGraph(msgspec.Struct, frozen=True):
    """The data of a graph of ours, and what means something else in it than in the file, each with its line."""

    data: Mapping[str, Any]
    notes: tuple[str, ...]


def identifier(text: str) -> str:
    """Return the text as an id: letters, digits and underscores, and a letter first."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"n_{name}" if not name or name[0].isdigit() else name
