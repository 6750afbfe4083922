"""The documentation says what is so: its code runs, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")

# For each folder that is named, a process of its own runs the cells there. What all pages import is imported once.
SHELLS = """
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import ironflow_nb.flows.flow
import ironflow_nb.graphs.graph
import ironflow_nb.handles.run
import ironflow_nb.history.frames

for folder in map(str.strip, sys.stdin):
    if not (child := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

os.chdir(folder)
os.environ["IPYTHONDIR"] = str(Path("ipython").absolute())
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
printed = os.open("printed", os.O_WRONLY | os.O_CREAT)
os.dup2(printed, 1)
os.dup2(printed, 2)
shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
for cell in Path("cells").read_text().split("\\0"):
    result = shell.run_cell(cell, store_history=True)
    result.raise_error()
"""


@pytest.fixture(scope="module")
def shells() -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    process = subprocess.Popen(
        [sys.executable, "-c", SHELLS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.communicate(timeout=60)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_as_cells(page: Path, tmp_path: Path, shells: subprocess.Popen[str]) -> None:
    cells = CODE.findall(page.read_text())
    if not cells:
        pytest.skip("no Python on this page")
    (tmp_path / "cells").write_text("\0".join(cells))
    assert shells.stdin is not None
    assert shells.stdout is not None
    print(tmp_path, file=shells.stdin, flush=True)
    assert shells.stdout.readline().strip() == "0", (tmp_path / "printed").read_text()
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
