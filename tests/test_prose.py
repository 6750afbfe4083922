"""Prose: subject first, one idea a sentence, and no phrase that has to be read twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_architecture import INNER, ROOT, dotted

# Phrases that a reader has to read twice.
UNCLEAR = re.compile(
    r'Tell whether|"""Let |^ *Let [a-z]|[Ww]hoever|came to\b|is none of|by and by|[Ss]o many\b|\brides? with'
    r"|of before\b|(?<!there )\b(?:is|are) none\b|\bWho (?:waits|asks|leaves|reads|writes)\b",
    re.MULTILINE,
)


@pytest.mark.parametrize("path", INNER, ids=dotted)
def test_prose_has_no_unclear_phrase(path: Path) -> None:
    assert not UNCLEAR.findall(path.read_text())


PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_has_no_unclear_phrase(path: Path) -> None:
    assert not UNCLEAR.findall(path.read_text())
