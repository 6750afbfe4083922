"""The site of the documentation is built without a warning: every page is there, and every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

if not os.environ.get("CI"):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")


class _Headings(HTMLParser):
    """Collects the ids of headings, and the addresses that are fetched when the page is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if re.fullmatch("h[1-6]", tag) and given.get("id"):
            self.ids.add(str(given["id"]))
        if tag in {"script", "img"} and given.get("src"):
            self.fetched.append(str(given["src"]))
        if tag == "link" and given.get("rel") == "stylesheet":
            self.fetched.append(str(given["href"]))


def headings(page: Path) -> _Headings:
    found = _Headings()
    found.feed(page.read_text())
    return found


def test_the_site_has_every_page_and_public_name_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr

    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} | {"SECURITY", "CHANGELOG"}
    assert {page.stem for page in tmp_path.glob("*.html")} - {"404"} == pages
    public = re.findall(r" as (\w+)$", (ROOT / "ironflow_nb" / "__init__.pyi").read_text(), re.MULTILINE)
    shown = headings(tmp_path / "api.html").ids
    assert [name for name in public if not any(each.split(".")[-1] == name for each in shown)] == []
    guarantees = (tmp_path / "guarantees.html").read_text()
    assert "An acknowledged result is kept." in guarantees
    assert 'href="SECURITY.html"' in guarantees
    for page in tmp_path.glob("*.html"):
        assert [address for address in headings(page).fetched if "://" in address] == [], page.name
