"""Prose: subject first, one idea a sentence, and no phrase that has to be read twice."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_architecture import INNER, ROOT, found

# Phrases that a reader has to read twice.
UNCLEAR = re.compile(
    r'Tell whether|"""Let |^ *Let [a-z]|[Ww]hoever|came to\b|is none of|by and by|[Ss]o many\b|\brides? with'
    r"|of before\b|(?<!there )\b(?:is|are) none\b|\bWho (?:waits|asks|leaves|reads|writes)\b",
    re.MULTILINE,
)


def unclear(path: Path) -> list[str]:
    return UNCLEAR.findall(path.read_text())


def test_prose_has_no_unclear_phrase() -> None:
    assert found(unclear, INNER) == {}


PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_a_page_has_no_unclear_phrase() -> None:
    assert {page.name: phrases for page in PAGES if (phrases := unclear(page))} == {}
