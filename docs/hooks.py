"""What the site has besides the pages of this folder: the pages that lie beside the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
BESIDE = ("SECURITY.md", "CHANGELOG.md")
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
    """Let links lead to where the pages are on the site."""
    return OUTSIDE.sub(r"\1", markdown).replace("](docs/", "](").replace("](../", "](")
