"""The control room in JupyterLab: the dashboard of two notebooks, the slider over a run, items and children."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import last_output
from tests.browser.lab import THEMES, JupyterLab, shoot, wait_for

pytestmark = pytest.mark.browser
pytest.importorskip("anywidget", reason="the cards are widgets")

LOAD = "%load_ext ironflow_nb\nimport ironflow_nb as iron"
FLOWS = """
import time
from ironflow_nb import flow, step

@step
def fetch(n: int) -> int:
    if n % 10 == 3:
        raise ValueError(f"page {n} is missing")
    return n

@step
def hold(n: int) -> int:
    time.sleep(n)
    return n

@flow
def child(n: int) -> int:
    return hold(n)

@flow
def digest(n: int) -> int:
    return fetch(n)

@flow
def wide(count: int) -> int:
    found = fetch.map(range(count), on_error="collect")
    return len(found) + child(2) + hold(600)
"""


@pytest.fixture
def lab(notebook: Callable[..., Any], jupyter: JupyterLab) -> Callable[..., Any]:
    """Open a notebook with these cells after the definitions, and run it."""

    def open_and_run(*cells: str, name: str = "flow", theme: str = "light") -> Any:
        jupyter.set_theme(theme)
        return notebook(LOAD, FLOWS, *cells, name=name)

    return open_and_run


@pytest.mark.parametrize("theme", THEMES)
def test_a_dashboard_shows_the_runs_of_another_notebook_and_opens_their_cards(
    lab: Callable[..., Any], tmp_path: Path, theme: str
) -> None:
    page = lab("[digest.start(n).wait() for n in range(12)]\niron.dashboard()", theme=theme)
    page.wait_for_selector(".ironflow-dashboard [data-status=failed]")
    assert page.inner_text(".ironflow-dashboard [data-status=completed]") == "✓ 11 completed"
    shoot(page, f"dashboard-{theme}")
    other = lab("run = wide.start(40)", name="other", theme=theme)
    page.bring_to_front()
    page.wait_for_selector(".ironflow-dashboard [data-status=running]")
    page.focus(".ironflow-dashboard tbody tr >> nth=0 >> button")
    page.keyboard.press("Enter")
    page.wait_for_selector(".ironflow-opened [data-action=cancel]")
    shoot(page, f"dashboard-opened-{theme}")
    page.click(".ironflow-opened [data-action=cancel]")
    page.click(".ironflow-opened [data-action=cancel]")
    page.wait_for_selector(".ironflow-dashboard .ironflow-chips [data-status=cancelling]")
    page.click(".ironflow-opened button:has-text('Close')")
    page.click(".ironflow-dashboard .ironflow-chips [data-status=failed]")
    page.wait_for_function("document.querySelectorAll('.ironflow-dashboard [data-part=runs] tbody tr').length === 1")
    shoot(page, f"dashboard-filtered-{theme}")
    other.close()


def test_a_dashboard_leaves_its_tables_in_the_notebook_when_the_kernel_ends(
    lab: Callable[..., Any], jupyter: JupyterLab, tmp_path: Path
) -> None:
    page = lab("digest.start(1).wait()\niron.dashboard()")
    page.wait_for_selector(".ironflow-dashboard")
    jupyter.kill_kernels()
    page.wait_for_selector(".ironflow-dashboard", state="detached")
    page.keyboard.press("Control+s")
    saved = tmp_path / "flow.ipynb"
    wait_for(lambda: any("1 run" in each.get("text/plain", "") for each in last_output(saved)))
    [kept] = last_output(saved)
    assert "application/vnd.jupyter.widget-view+json" not in kept
    assert "<table>" in kept["text/html"]
    shoot(page, "dashboard-kept")


@pytest.mark.parametrize("theme", THEMES)
def test_a_slider_is_moved_played_and_compared(lab: Callable[..., Any], theme: str) -> None:
    page = lab("run = digest.start(3).wait()\nrun.slider()", theme=theme)
    page.wait_for_selector(".ironflow-slider .ironflow-canvas svg")
    first = ".ironflow-slider input[type=range] >> nth=0"
    page.focus(first)
    page.keyboard.press("Home")
    page.wait_for_selector(".ironflow-slider .ironflow-ghost")
    assert "run started" in page.inner_text(".ironflow-slider .ironflow-bar >> nth=0")
    shoot(page, f"slider-ghosts-{theme}")
    page.click(".ironflow-slider button:has-text('Compare')")
    page.wait_for_selector(".ironflow-differences dd")
    assert "failed: ValueError: page 3 is missing" in page.inner_text(".ironflow-differences")
    shoot(page, f"slider-compared-{theme}")
    page.click(".ironflow-slider button:has-text('Play')")
    page.wait_for_selector(".ironflow-slider .ironflow-ghost", state="detached")
    page.wait_for_selector(".ironflow-slider button:has-text('Play')")


def moment(page: Any) -> int:
    """Return the event that the slider stands at."""
    return int(page.input_value(".ironflow-slider input[type=range] >> nth=0"))


def test_a_live_slider_follows_a_run(lab: Callable[..., Any]) -> None:
    page = lab("run = wide.start(30)\nrun.slider()")
    page.wait_for_selector(".ironflow-slider button:has-text('Live')[aria-pressed=true]")
    page.wait_for_selector(".ironflow-slider g[data-kind][data-status=running]")
    before = moment(page)
    page.click(".jp-Notebook .jp-CodeCell >> nth=-1")
    wait_for(lambda: moment(page) > before)
    assert page.get_attribute(".ironflow-slider button:has-text('Live')", "aria-pressed") == "true"
    shoot(page, "slider-live")


def test_the_items_of_a_map_are_a_strip_and_a_child_opens_in_place(lab: Callable[..., Any]) -> None:
    page = lab("wide.start(500)")
    page.wait_for_selector(".ironflow-card [data-action=pause]")
    page.wait_for_selector(".ironflow-card g[data-kind=map][data-status=failed]")
    page.click(".ironflow-card g[data-kind=map]")
    page.wait_for_selector(".ironflow-strip span >> nth=100")
    assert "50 failed" in page.inner_text(".ironflow-items")
    page.click(".ironflow-strip span[data-status=failed] >> nth=1")
    page.wait_for_selector(".ironflow-step:has-text('fetch[13]')")
    shoot(page, "card-strip")
    page.click(".ironflow-card g[data-kind=child]")
    page.click(".ironflow-child button")
    page.wait_for_selector(".ironflow-inner .ironflow-canvas svg")
    assert "hold" in page.inner_html(".ironflow-inner .ironflow-canvas")
    shoot(page, "card-child")
