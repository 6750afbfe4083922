"""What the site has besides the pages of this folder: sections of the README, and the pages that lie beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
BESIDE = ("SECURITY.md", "CHANGELOG.md")
SECTION = re.compile(r"^\[([^\]]+)\]\(\.\./README\.md#[\w-]+\)$", re.MULTILINE)
"""A line that is nothing but a link to a section of the README; the site has the section in its place."""

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./(?!(?:SECURITY|CHANGELOG)\.md)|notebooks/)[^)]*\)")
"""A link to what the site does not have, such as a notebook; its text stays."""


def on_config(config: Any) -> Any:
    """Put the pages that nobody has put elsewhere into a section of their own."""
    named = {
        page
        for part in config.nav
        for pages in part.values()
        for page in ([pages] if isinstance(pages, str) else pages)
    }
    others = sorted({page.name for page in Path(config.docs_dir).glob("*.md")} - named)
    if others:
        config.nav.append({"More": others})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages beside the README."""
    for name in BESIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the sections in, and let links lead to where the pages are on the site."""
    whole = SECTION.sub(lambda found: section(found[1]), markdown)
    return OUTSIDE.sub(r"\1", whole).replace("](docs/", "](").replace("](../", "](")


def section(title: str) -> str:
    """Return a section of the README without its heading.

    Raises:
        ValueError: it has none of that title.
    """
    _, found, rest = (ROOT / "README.md").read_text().partition(f"\n## {title}\n")
    if not found:
        raise ValueError(f"the README has no section {title!r}")
    return rest.partition("\n## ")[0]
