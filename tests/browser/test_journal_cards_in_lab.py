"""What waits for a person, in JupyterLab with the mouse: the card of loading, edit and continue, and the inbox."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.frontend_tools import installed
from tests.browser.lab import THEMES, JupyterLab, shoot, wait_for

pytestmark = pytest.mark.browser
pytest.importorskip("anywidget", reason="the card is a widget")

FLOWS = """
import pandas as pd
import ironflow_nb as iron
from ironflow_nb import flow, step

@step(name="load")
def load(n):
    print(f"loading {n}")
    return n

@step(name="convert")
def convert(n):
    raise ValueError("bad number")

@flow(name="parse")
def parse(n):
    return sum(convert(load(each)) for each in range(n))

@flow(name="asks")
def asks():
    frame = pd.DataFrame({"name": ["ann", "bob"], "n": [1, 2]})
    return iron.ask("Is this right?", frame, type=pd.DataFrame, timeout_s="1d")
"""
FIXED = FLOWS.replace('raise ValueError("bad number")', "return n * 10")
BEFORE = """
import contextlib
with contextlib.suppress(ValueError):
    parse(3)
run = asks.start()
while iron.waiting().empty:
    pass
import os
os._exit(0)
"""


@pytest.fixture(params=THEMES)
def page(request: pytest.FixtureRequest, notebook: Callable[..., Any], jupyter: JupyterLab, tmp_path: Path) -> Any:
    """A notebook on the journal that another process has left, with all cells executed."""
    (tmp_path / "before.py").write_text(FLOWS + BEFORE)
    subprocess.run([sys.executable, "before.py"], cwd=tmp_path, check=True, timeout=120)
    jupyter.set_theme(request.param)
    opened = notebook("%load_ext ironflow_nb", FLOWS, "parse.last", "iron.waiting()")
    opened.set_viewport_size({"width": 1300, "height": 1600})
    opened.theme = request.param
    return opened


def cell(page: Any, number: int) -> Any:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(number)


def faults(page: Any, card: Any) -> list[str]:
    """Return what axe finds in a card that is serious or worse."""
    page.add_script_tag(path=str(installed("axe-core") / "axe.min.js"))
    found = card.evaluate("card => axe.run(card, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]


def test_what_was_left_is_seen_edited_continued_and_answered(page: Any, tmp_path: Path) -> None:
    loaded, edited, inbox = (cell(page, n).locator(".ironflow-card") for n in (0, 2, 3))
    loaded.locator(".ironflow-run").first.wait_for()
    rows = loaded.locator(".ironflow-run")
    [failed] = [each for each in rows.all() if "parse" in each.inner_text()]
    assert "1 finished step is safe" in failed.inner_text()
    failed.get_by_role("button", name="Inspect").click()
    failed.locator(".ironflow-inspected svg").wait_for()
    failed.get_by_text("convert[0] failed").first.wait_for()
    assert faults(page, loaded) == []
    shoot(page, f"loaded-{page.theme}")
    failed.get_by_role("button", name="Inspect").click()

    edited.get_by_text("Edit the cell that defines convert").wait_for()
    assert faults(page, edited) == []
    page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(FIXED)
    page.keyboard.press("Control+Enter")
    edited.locator(".ironflow-diff ins", has_text="return n * 10").wait_for()
    assert "1 reused" in edited.locator(".ironflow-continuation").inner_text()
    assert faults(page, edited) == []
    shoot(page, f"edited-{page.theme}")
    edited.get_by_role("button", name="Resume with the edit").click()
    edited.get_by_text("completed").first.wait_for()

    edited.locator("g[data-kind]", has_text="convert").click()
    step = edited.locator(".ironflow-step", has_text="convert[2]")
    step.locator("summary").click()
    step.get_by_role("button", name="Inject").click()
    step.locator("textarea").fill("7")
    step.get_by_role("button", name="Plan").click()
    step.locator(".ironflow-planned p").first.wait_for()
    assert faults(page, edited) == []
    edited.locator("details", has_text="log").last.locator("summary").click()
    edited.get_by_text("loading 2").first.wait_for()
    shoot(page, f"inject-{page.theme}")

    inbox.get_by_role("button", name="Edit the table").click()
    inbox.locator(".ironflow-table input").nth(1).fill("10")
    assert faults(page, inbox) == []
    shoot(page, f"inbox-{page.theme}")
    inbox.get_by_role("button", name="Answer with this table").click()
    inbox.get_by_text("nothing waits for you").wait_for()
    page.keyboard.press("Control+s")
    saved = tmp_path / "flow.ipynb"
    wait_for(lambda: "finished steps are safe" in saved.read_text())
    journal = "import ironflow_nb as iron; r = iron.runs('asks')['run_id'][0]; print(iron.get_run(r).result())"

    def shown() -> str:  # the answer is written when the card says so, and then the kernel continues the run
        done = subprocess.run(
            [sys.executable, "-c", journal], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout

    wait_for(lambda: "ann  10" in shown())
