"""Findings of `doctor`: what was checked, what was found, how severe it is, and what to do."""

from __future__ import annotations

from enum import StrEnum
from math import log10
from typing import Final

import msgspec


class Severity(StrEnum):
    """The severity of a finding: OK, NOTICE (good to know), WARNING (can do harm), PROBLEM (does harm)."""

    OK = "ok"
    NOTICE = "notice"
    WARNING = "warning"
    PROBLEM = "problem"


GLYPHS: Final = {Severity.OK: "✓", Severity.NOTICE: "•", Severity.WARNING: "!", Severity.PROBLEM: "✗"}
GRAVEST_FIRST: Final = (Severity.PROBLEM, Severity.WARNING, Severity.NOTICE, Severity.OK)


_UNITS: Final = ("kB", "MB", "GB", "TB")


class Finding(msgspec.Struct, frozen=True):
    """The result of one check. `advice` says what to do, and is empty if there is nothing to do."""

    topic: str
    what: str
    found: str
    state: Severity = Severity.OK
    advice: str = ""


def in_bytes(size: float) -> str:
    """Return a size in bytes as a short text: ``12 bytes``, ``4.1 MB``."""
    if size < 1000:
        return f"{size:.0f} bytes"
    power = min(int(log10(size) / 3), len(_UNITS))
    scaled = size / 1000**power
    return f"{scaled:.1f} {_UNITS[power - 1]}" if scaled < 10 else f"{scaled:,.0f} {_UNITS[power - 1]}"
