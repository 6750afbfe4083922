"""The page "From notebook to service": its cells are served, its commands are executed, its answers are given."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import IN_CI
from tests.waits.conftest import LIMIT_S

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = [pytest.mark.skipif(os.name == "nt", reason="the commands are those of a POSIX shell"), pytest.mark.slow]

PAGE = Path(__file__).parent.parent.parent / "docs" / "service.md"
BLOCK = re.compile(r"^```(python|shell|json)\n(.*?)^```", re.MULTILINE | re.DOTALL)
END_OF_BLOCK = "-- end of block"


def notebook(cells: list[str]) -> str:
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": cell}
        for n, cell in enumerate(cells)
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def shown(value: Any) -> Any:
    """Return a value with dots for what is another one each time."""
    if isinstance(value, dict):
        return {key: "..." if key in {"run_id", "version", "message"} else shown(each) for key, each in value.items()}
    return value


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    needed = [shutil.which(name) for name in ("bash", "curl")]
    if None in needed:
        (pytest.fail if IN_CI else pytest.skip)("the page needs bash and curl")
    blocks = BLOCK.findall(PAGE.read_text())
    (tmp_path / "analysis.ipynb").write_text(notebook([text for kind, text in blocks if kind == "python"]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    commands = [re.sub(r"^pip .*\n", "", text, flags=re.MULTILINE) for kind, text in blocks if kind == "shell"]
    script = f"\necho; echo '{END_OF_BLOCK}'\n".join(["set -eu", *commands, ""])
    script = script.replace("9123", port).replace("serve analysis", f"serve --port {port} analysis")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("IRONFLOW_", "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, log = process.communicate(timeout=4 * LIMIT_S)  # it begins seven processes
        assert process.returncode == 0, said + log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    outputs = iter(said.split(END_OF_BLOCK)[1:])
    kinds = [kind for kind, _ in blocks]
    for (kind, _), following, (_, text) in zip(blocks, kinds[1:], blocks[1:], strict=False):
        if kind == "shell":
            output = next(outputs)
            if following == "json":
                answer = json.loads(output.strip().splitlines()[-1])
                assert shown(answer) == shown(json.loads(text))
    assert "ifk_" in next(outputs)
