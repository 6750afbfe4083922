"""The notebooks teach, so they run: each from top to bottom in a real kernel, and the demo with its kill."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import ironflow_nb as iron

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_with_ids(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    mimes = {mime for cell in code for output in cell.outputs for mime in output.get("data", {})}
    assert {"image/svg+xml", "text/html", "text/plain"} <= mimes
    with iron.open(tmp_path / ".ironflow" / "journal.db", read_only=True):
        assert set(iron.runs()["status"]) == {"completed"}


@pytest.mark.notebook
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_the_demo_survives_the_death_of_its_kernel(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    environment.pop("PYTEST_CURRENT_TEST", None)
    found = subprocess.run(
        [sys.executable, "-m", "notebooks.demo"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False, timeout=400,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "killed with SIGKILL" in found.stdout
    assert re.search(r"none of the \d\d+ finished steps ran again", found.stdout)
    executed = nbformat.read(tmp_path / "build" / "demo" / "01_first_flow.ipynb", as_version=4)
    assert "none finished twice" in "".join(str(cell.get("outputs", "")) for cell in executed.cells)
    assert (tmp_path / "build" / "demo" / "01_first_flow.html").stat().st_size > 50_000
