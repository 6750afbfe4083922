"""One JupyterLab for all tests, and one browser for those of a module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import QUIET, JupyterLab, browser_program, jupyterlab, run_all_cells, write_notebook

LIMIT_MS = 60_000


@pytest.fixture(scope="session")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    browser_program()
    with jupyterlab(tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("settings")) as running:
        yield running


@pytest.fixture
def jupyter(running_lab: JupyterLab) -> Iterator[JupyterLab]:
    """A JupyterLab over all folders of tests, in its first theme and without kernels."""
    running_lab.set_theme("light")
    yield running_lab
    running_lab.kill_kernels()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = browser_program()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield launched
        launched.close()


@pytest.fixture
def window(browser: Any) -> Iterator[Any]:
    """What pages of one test share: storage and cookies. It is closed with all of them."""
    context = browser.new_context(viewport={"width": 1300, "height": 1100})
    context.set_default_timeout(LIMIT_MS)
    yield context
    context.close()


@pytest.fixture
def notebook(jupyter: JupyterLab, window: Any, tmp_path: Path) -> Callable[..., Any]:
    """Write a notebook of these cells into the folder of the test, open it in a page, and run all of it."""

    def open_and_run(*cells: str, name: str = "flow") -> Any:
        write_notebook(tmp_path / f"{name}.ipynb", list(cells))
        page = window.new_page()
        jupyter.show(page, tmp_path / f"{name}.ipynb")
        run_all_cells(page)
        return page

    return open_and_run


def last_output(path: Path) -> list[dict[str, str]]:
    """Return what the last cell of a saved notebook shows; nothing while it is being written."""
    try:
        cell = json.loads(path.read_text())["cells"][-1]
    except ValueError:
        return []
    return [{kind: "".join(text) for kind, text in output.get("data", {}).items()} for output in cell["outputs"]]
