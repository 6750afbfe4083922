"""Notebook 7, at another address of the same server: a card, its saved picture, and cells that are restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import last_output
from tests.browser.lab import JupyterLab, run_all_cells, shoot, wait_for, write_notebook

pytestmark = pytest.mark.browser
pytest.importorskip("anywidget", reason="the card is a widget")
pytest.importorskip("notebook", reason="Notebook 7 is not installed")

FLOW = """
@step
def hold(word):
    time.sleep(0.3)
    return len(word)

@flow
def lengths(words):
    found = list(hold.map(words))
    return found if iron.approve("Is this right?", found, timeout_s="1d") else []
"""
CELLS = [
    "%load_ext ironflow_nb\n%ironflow cells on",
    "import time\nimport ironflow_nb as iron\nfrom ironflow_nb import flow, step",
    "words = 'one two three'.split()\nprint('split', len(words))",
    FLOW,
    "lengths.start(words)",
]


def test_a_card_is_answered_its_picture_stays_and_cells_are_restored(
    jupyter: JupyterLab, window: Any, tmp_path: Path
) -> None:
    path = tmp_path / "work.ipynb"
    write_notebook(path, CELLS)
    page = window.new_page()
    address = f"{jupyter.address}/notebooks/{path.relative_to(jupyter.root)}"
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    run_all_cells(page)
    page.click(".ironflow-card button:has-text('Approve')")
    shoot(page, "notebook-7")
    page.wait_for_selector(".ironflow-card", state="detached")
    page.keyboard.press("Control+s")
    wait_for(lambda: any("image/svg+xml" in each for each in last_output(path)))
    [kept] = [each for each in last_output(path) if "image/svg+xml" in each]
    assert "completed" in kept["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" not in kept
    page.close()
    jupyter.kill_kernels()
    page = window.new_page()
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    run_all_cells(page)
    page.wait_for_selector(".jp-OutputArea-output:has-text('restored (')")
    assert "split 3" in page.inner_text(".jp-Notebook")
    shoot(page, "notebook-7-restored")
