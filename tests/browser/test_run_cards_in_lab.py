"""The card of a run in JupyterLab: it is steered by clicks, also while its cell is executed, and leaves its picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import last_output
from tests.browser.lab import shoot, wait_for

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


@pytest.mark.parametrize("last", ["digest.start(30)", "digest(30)"], ids=["in the background", "in the cell"])
def test_a_run_is_looked_at_paused_resumed_and_answered_by_clicks(
    notebook: Callable[..., Any], tmp_path: Path, last: str
) -> None:
    page = notebook(LOAD, FLOWS, last)
    page.wait_for_selector(".ironflow-card [data-action=pause]")
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
    wait_for(
        lambda: any("digest: completed" in each.get("text/plain", "") for each in last_output(tmp_path / "flow.ipynb"))
    )
    [kept] = [each for each in last_output(tmp_path / "flow.ipynb") if "image/svg+xml" in each]
    assert "application/vnd.jupyter.widget-view+json" not in kept
    assert "30 of 30" in kept["image/svg+xml"]
    shoot(page, "card-end")
