"""A real JupyterLab in a headless browser."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IN_CI, KEY

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT_S = 90
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
SHOTS = Path(os.environ.get("IRONFLOW_SHOTS", "")) if os.environ.get("IRONFLOW_SHOTS") else None


def browser_program() -> str:
    """Return the browser of the system; without one, fail in CI and skip elsewhere."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is not None:
        return found
    if not IN_CI:
        pytest.skip("no Chromium on this machine; install it to run the browser tests")
    pytest.fail("no Chromium on this machine; apt-get install chromium")


@dataclass(frozen=True)
class JupyterLab:
    """A running JupyterLab over a folder."""

    address: str
    root: Path
    settings: Path

    def set_theme(self, name: str) -> None:
        """Let pages that are opened from now on have the theme."""
        folder = self.settings / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "themes.jupyterlab-settings").write_text(json.dumps({"theme": THEMES[name]}))

    def open(self, page: Any, path: Path) -> None:
        """Open a notebook below the root in a page, with nothing left of what was open before."""
        page.goto(f"{self.address}/lab/tree/{path.relative_to(self.root)}?reset", wait_until="domcontentloaded")

    def show(self, page: Any, path: Path) -> None:
        """Open a notebook in a page, and wait until its kernel is ready."""
        self.open(page, path)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")

    def kill_kernels(self) -> None:
        """Shut every kernel down."""
        with urllib.request.urlopen(f"{self.address}/api/kernels", timeout=10) as reply:
            kernels = json.load(reply)
        for kernel in kernels:
            request = urllib.request.Request(f"{self.address}/api/kernels/{kernel['id']}", method="DELETE")
            urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def jupyterlab(root: Path, settings: Path) -> Iterator[JupyterLab]:
    """Serve JupyterLab over the folder `root`; what it keeps for itself lies in `settings`."""
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
        f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}",
        "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--LabApp.news_url=",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTEST_CURRENT_TEST", "CI"}}
    environment |= {
        "JUPYTER_CONFIG_DIR": str(settings), "JUPYTER_DATA_DIR": str(settings / "data"), "IRONFLOW_KEY": KEY,
    }  # fmt: skip
    with (settings / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(f"{address}/api"), settings / "server.log")
            yield JupyterLab(address, root, settings)
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def wait_for(is_done: Any, log: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, log.read_text()[-2000:] if log is not None else "it did not come"
        time.sleep(0.1)


def write_notebook(path: Path, cells: list[str]) -> None:
    """Write a notebook of code cells without outputs."""
    path.write_text(
        json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "id": f"cell-{n}",
                        "metadata": {},
                        "outputs": [],
                        "execution_count": None,
                        "source": source,
                    }
                    for n, source in enumerate(cells)
                ],
                "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        )
    )


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
