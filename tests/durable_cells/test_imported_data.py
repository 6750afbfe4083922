"""Data of the user's own modules: an input of the cell that imports it, and named where it does not count."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ironflow_nb.durable_cells.listing import CellStatus, NotebookFreshness
from tests.durable_cells.conftest import Notebook

Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module of the user's, which the next cell imports anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the versions are of one size and second

    def write(text: str) -> None:
        (tmp_path / "own_data.py").write_text(text)
        sys.modules.pop("own_data", None)
        importlib.invalidate_caches()

    return write


def test_a_dict_that_a_cell_imports_is_an_input(notebook: Notebook, write: Write) -> None:
    source = "from own_data import rates as its, LIMIT\nn = its['a'] + LIMIT"
    for text, outcome in [("rates = {'a': 1}", 11), ("rates = {'a': 2}", 12), ("rates = {'a': 1}", 11)]:
        write(f"{text}\nLIMIT = 10\n")
        notebook.restart()
        assert notebook.step("load", source).outs == {"n": outcome}
    assert notebook.bodies() == ["load", "load"]
    write("rates = {'a': 3}\nLIMIT = 10\n")
    notebook.restart()
    notebook.step("load", source)
    assert notebook.said.startswith("load: edited own_data, input its changed; it runs again")


def test_an_object_that_can_not_be_recognised_is_no_input(notebook: Notebook, write: Write) -> None:
    write("import threading\nlock = threading.Lock()\n")
    for _ in range(2):
        assert notebook.step("ask", "from own_data import lock\nn = int(lock.locked())").outs == {"n": 0}
        notebook.restart()
    assert notebook.bodies() == ["ask"]


def test_data_that_the_code_refers_to_and_that_does_not_count_is_named_once(notebook: Notebook, write: Write) -> None:
    write("rates = {'a': 1}\n")
    notebook.define("import own_data\nrows = [1]\ndef first():\n    return rows[0]")
    notebook.step("load", "n = first() + own_data.rates['a']")
    assert "its code refers to own_data.rates, rows, whose content does not count" in notebook.said
    notebook.step("load", "n = first() + own_data.rates['a'] + 1")
    assert "does not count" not in notebook.said
    notebook.step("read", "n = first() + len(rows)")
    assert notebook.said == ""


def test_a_cell_that_imports_data_is_listed_as_fresh(notebook: Notebook, write: Write) -> None:
    write("rates = {'a': 1}\n")
    notebook.step("load", "from own_data import rates\nn = rates['a']")
    assert notebook.said == ""
    cell = notebook.cells["load"]
    engine = notebook.lab.engine
    for namespace in (notebook.space, {}):
        assert NotebookFreshness(engine, "-", namespace).judge(cell).status is CellStatus.FRESH
    notebook.space["rates"] = {"a": 2}
    assert NotebookFreshness(engine, "-", notebook.space).judge(cell).status is CellStatus.STALE
