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
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IN_CI

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


def browser_program() -> str:
    """Return the browser of the system; without one, fail in CI and skip elsewhere."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is not None:
        return found
    if not IN_CI:
        pytest.skip("no Chromium on this machine; install it to run the browser tests")
    pytest.fail("no Chromium on this machine; apt-get install chromium")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve JupyterLab over the folder and yield its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
        f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--LabApp.news_url=",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTEST_CURRENT_TEST", "CI"}}
    environment |= {"JUPYTER_CONFIG_DIR": str(folder / ".config"), "JUPYTER_DATA_DIR": str(folder / ".data")}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(f"{address}/api"), folder / "server.log")
            yield address
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


def kill_kernels(address: str) -> None:
    """Shut every kernel of the server down."""
    with urllib.request.urlopen(f"{address}/api/kernels", timeout=10) as reply:
        kernels = json.load(reply)
    for kernel in kernels:
        request = urllib.request.Request(f"{address}/api/kernels/{kernel['id']}", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()
