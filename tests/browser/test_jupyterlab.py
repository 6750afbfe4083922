"""What a person sees in JupyterLab: the picture in the middle, at the end, and after reopening without a kernel."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.browser.lab import QUIET, browser_program, kill_kernels, served, wait_for, write_notebook

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
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
SHOTS = Path(os.environ.get("IRONFLOW_SHOTS", "")) if os.environ.get("IRONFLOW_SHOTS") else None


@pytest.fixture
def page() -> Iterator[Any]:
    program = browser_program()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield browser.new_page(viewport={"width": 1300, "height": 1100})
        browser.close()


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


def run_all_cells(page: Any) -> None:
    """Choose the menu item, again if Lab was still arranging itself, or asking something, and took no notice."""
    from playwright.sync_api import TimeoutError as TooLate

    for _ in range(4):
        with contextlib.suppress(AssertionError, TooLate):
            for button in page.query_selector_all("dialog.jp-Dialog .jp-mod-accept"):
                button.click(timeout=5_000)
            page.click(".jp-Notebook .jp-CodeCell >> nth=0", timeout=10_000)
            page.click(".lm-MenuBar-itemLabel:text-is('Run')", timeout=10_000)
            page.click(".lm-Menu-itemLabel:text-is('Run All Cells')", timeout=10_000)
            wait_for(lambda: any(mark in page.inner_text(".jp-Notebook") for mark in ("[*]:", "[1]:")), timeout_s=20)
            return
    asked = [dialog.inner_text() for dialog in page.query_selector_all("dialog.jp-Dialog")]
    pytest.fail(f"no cell was executed; Lab asks {asked}")


def shoot(page: Any, name: str) -> None:
    if SHOTS is not None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(SHOTS / f"{name}.png"))


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture_moves_while_the_run_goes_on_and_stays_in_the_notebook(
    page: Any, tmp_path: Path, theme: str
) -> None:
    settings = tmp_path / ".config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": THEMES[theme]}))
    write_notebook(tmp_path / "flow.ipynb", CELLS)
    with served(tmp_path) as address:
        page.goto(f"{address}/lab/tree/flow.ipynb?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
        run_all_cells(page)
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
        kill_kernels(address)
        page.goto(f"{address}/lab/tree/flow.ipynb?reset", wait_until="domcontentloaded")
        wait_for(lambda: "completed" in states(page).values())
        shoot(page, f"reopened-{theme}")
        foreign = (tmp_path / "flow.ipynb").read_text().replace("cell-", "other-")  # which nobody has signed
        (tmp_path / "foreign.ipynb").write_text(foreign)
        page.goto(f"{address}/lab/tree/foreign.ipynb?reset", wait_until="domcontentloaded")
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
