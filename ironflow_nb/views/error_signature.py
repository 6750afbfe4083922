"""What errors have in common that differ only in numbers."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = re.compile(r"\b(?:0x[0-9a-f]+|\d+)\b", re.IGNORECASE)


def without_numbers(text: str) -> str:
    """Return the text with ``#`` for each number: messages that differ only in numbers are alike."""
    return _NUMBER.sub("#", text)
