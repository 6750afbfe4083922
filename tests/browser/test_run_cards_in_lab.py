"""The card of a run in JupyterLab: it is steered by clicks, also while its cell is executed, and leaves its picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import QUIET, browser_program, served, wait_for, write_notebook
from tests.browser.test_jupyterlab import run_all_cells, shoot

pytestmark = pytest.mark.browser
pytest.importorskip("anywidget", reason="the card is a widget")

LOAD = "%load_ext ironflow_nb\nimport ironflow_nb as iron"
FLOWS = """
import time
from ironflow_nb import flow, step

@step
def fetch(n: int) -> int:
    time.sleep(0.2)
    return n

@step
def tidy(n: int) -> int:
    return n + 1

@flow
def digest(count: int) -> int:
    total = sum(fetch.map(range(count), concurrency=2))
    who = iron.ask("Who reads it?", choices=["ann", "bob"], timeout_s=3600)
    return tidy(total), who
"""
LIMIT_MS = 60_000


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Open a notebook whose last cell is given, and run it."""
    program = browser_program()
    from playwright.sync_api import sync_playwright

    with served(tmp_path) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))

        def open_and_run(last: str) -> Any:
            write_notebook(tmp_path / "flow.ipynb", [LOAD, FLOWS, last])
            page = browser.new_page(viewport={"width": 1300, "height": 1100})
            page.set_default_timeout(LIMIT_MS)
            page.goto(f"{address}/lab/tree/flow.ipynb?reset", wait_until="domcontentloaded")
            page.wait_for_selector(".jp-Notebook .jp-CodeCell")
            page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
            run_all_cells(page)
            page.wait_for_selector(".ironflow-card [data-action=pause]")
            return page

        yield open_and_run
        browser.close()


def outputs(folder: Path) -> list[dict[str, Any]]:
    """Return what the last cell of the saved notebook shows; nothing while it is being written."""
    try:
        cell = json.loads((folder / "flow.ipynb").read_text())["cells"][-1]
    except ValueError:
        return []
    return [output.get("data", {}) for output in cell["outputs"]]


@pytest.mark.parametrize("last", ["digest.start(30)", "digest(30)"], ids=["in the background", "in the cell"])
def test_a_run_is_looked_at_paused_resumed_and_answered_by_clicks(
    opened: Callable[[str], Any], tmp_path: Path, last: str
) -> None:
    page = opened(last)
    assert page.get_attribute(".ironflow-canvas svg", "role") == "group"
    assert page.get_attribute(".ironflow-card g[data-kind] >> nth=1", "aria-label").startswith("fetch")
    page.focus(".ironflow-card g[data-kind] >> nth=1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".ironflow-details .ironflow-step")
    assert "fetch" in page.inner_text(".ironflow-details")
    shoot(page, "card-details")
    page.click("[data-action=pause]")
    page.click("[data-action=resume]")
    page.select_option(".ironflow-form select", "bob")
    shoot(page, "card-question")
    page.click(".ironflow-form button")
    page.wait_for_selector(".ironflow-card", state="detached")
    page.keyboard.press("Control+s")
    wait_for(lambda: any("digest: completed" in "".join(each.get("text/plain", "")) for each in outputs(tmp_path)))
    [kept] = [each for each in outputs(tmp_path) if "image/svg+xml" in each]
    assert "application/vnd.jupyter.widget-view+json" not in kept
    assert "30 of 30" in "".join(kept["image/svg+xml"])
    shoot(page, "card-end")
