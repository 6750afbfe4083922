"""What a person sees in JupyterLab: the picture in the middle, at the end, and after reopening without a kernel."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.browser.lab import THEMES, JupyterLab, shoot, wait_for

pytestmark = pytest.mark.browser

CELLS = [
    "%load_ext ironflow_nb",
    """
import time
from ironflow_nb import flow, step

@step
def fetch(n: int) -> int:
    time.sleep(0.15)
    return n

@step
def tidy(n: int) -> int:
    return n + 1

@flow
def digest(count: int) -> int:
    pages = fetch.map(range(count), concurrency=2)
    total = 0
    for page in pages:
        if page % 2:
            total += tidy(page)
    return total
""",
    "run = digest.start(60)\nrun",
]


def pictures(page: Any) -> list[ET.Element]:
    """Return the SVG pictures among the outputs; Lab shows them as images with their source in the address."""
    sources = page.eval_on_selector_all(
        ".jp-OutputArea-output img, .jp-OutputArea-output svg",
        "found => found.map(item => item.tagName === 'IMG' ? item.src : item.outerHTML)",
    )
    return [ET.fromstring(text) for text in map(decoded, sources) if "<svg" in text]


def decoded(source: str) -> str:
    """Return the text of an address that holds its content, in either of the two ways."""
    head, _, content = source.partition(",")
    if not head.startswith("data:"):
        return source
    return base64.b64decode(content).decode() if head.endswith(";base64") else unquote(content)


def states(page: Any) -> dict[str, str]:
    """Return the state of each node of the last picture, by the first line of its label."""
    found = pictures(page)
    groups = found[-1].iter("{http://www.w3.org/2000/svg}g") if found else ()
    return {
        "".join(group.itertext()).split("\n")[0][:20]: group.get("data-status", "")
        for group in groups
        if group.get("data-status") is not None
    }


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture_moves_while_the_run_goes_on_and_stays_in_the_notebook(
    notebook: Callable[..., Any], jupyter: JupyterLab, tmp_path: Path, theme: str
) -> None:
    jupyter.set_theme(theme)
    page = notebook(*CELLS)
    wait_for(lambda: "running" in states(page).values())
    shoot(page, f"middle-{theme}")
    wait_for(lambda: "completed" in states(page).values() and "running" not in states(page).values())
    shoot(page, f"end-{theme}")
    wait_for(lambda: page.locator(".jp-OutputArea-output object").count() > 0)
    (inside,) = [frame for frame in page.frames if frame.url.startswith("data:image/svg+xml")]
    assert any(title.startswith("fetch: 60 of 60") for title in inside.locator("title").all_text_contents())
    assert inside.evaluate("() => { getSelection().selectAllChildren(document.querySelector('svg'));"
                           " return getSelection().toString() }")  # fmt: skip
    page.keyboard.press("Control+s")
    wait_for(lambda: "image/svg+xml" in (tmp_path / "flow.ipynb").read_text())
    wait_for(lambda: "60 of 60" in (tmp_path / "flow.ipynb").read_text())
    jupyter.kill_kernels()
    jupyter.open(page, tmp_path / "flow.ipynb")
    wait_for(lambda: "completed" in states(page).values())
    shoot(page, f"reopened-{theme}")
    foreign = (tmp_path / "flow.ipynb").read_text().replace("cell-", "other-")  # which nobody has signed
    (tmp_path / "foreign.ipynb").write_text(foreign)
    jupyter.open(page, tmp_path / "foreign.ipynb")
    wait_for(lambda: "completed" in states(page).values())
    assert page.locator(".jp-OutputArea-output object").count() == 0  # what is left is the image
    shoot(page, f"foreign-{theme}")
    saved = nbformat.read(tmp_path / "flow.ipynb", as_version=4)
    html, _ = HTMLExporter().from_notebook_node(saved)
    (tmp_path / "flow.html").write_text(html)
    page.goto((tmp_path / "flow.html").as_uri())
    assert "completed" in states(page).values()
    assert any("60 of 60" in name for name in states(page))
    shoot(page, f"nbconvert-{theme}")
