"""The documentation says what is so: its code runs, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")

RUN_CELLS = """
import sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
for cell in Path(sys.argv[1]).read_text().split("\\0"):
    result = shell.run_cell(cell, store_history=True)
    result.raise_error()
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_as_cells(page: Path, tmp_path: Path) -> None:
    cells = CODE.findall(page.read_text())
    if not cells:
        pytest.skip("no Python on this page")
    (tmp_path / "cells").write_text("\0".join(cells))
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")}
    environment.pop("PYTEST_CURRENT_TEST", None)
    found = subprocess.run(
        [sys.executable, "-c", RUN_CELLS, "cells"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert (tmp_path / ".ironflow" / "journal.db").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    own = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in own if not (page.parent / target).exists()] == []


def test_the_readme_names_the_commands_that_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_map_names_every_room_and_only_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "ironflow_nb"
    rooms = {f"{path.parent.relative_to(package).as_posix()}/" for path in package.rglob("*/__init__.py")} - {"./"}
    named = set(re.findall(r"`((?:\w+/)+)`", text))
    assert {room for room in rooms if not {room, f"{room.rstrip('/').rpartition('/')[2]}/"} & named} == set()
    files = [path.as_posix() for folder in (package, ROOT / "tests") for path in folder.rglob("*.py*")]
    of_map = set(re.findall(r"`((?:\w+/)*\w+\.pyi?)(?::\w+)?`", text))
    assert {name for name in of_map if not any(file.endswith(f"/{name}") for file in files)} == set()
