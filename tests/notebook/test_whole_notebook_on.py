"""``%ironflow cells on``: cells that nobody marked are restored, and run again where something changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.durable_cells.cell import KIND
from ironflow_nb.execution.registry import REGISTRY
from tests.notebook.shells import Shell, Shown


class Kernel:
    """Runs cells by their ids, and can lose all that it has in memory."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.done: list[str] = []
        self.restart()

    def restart(self) -> None:
        """Go on as a new kernel, which has none of the names."""
        self.shell.run("%unload_ext ironflow_nb")
        if REGISTRY._engine is not None:
            REGISTRY._engine.close()
            REGISTRY._engine = None
        assert not REGISTRY.definitions(KIND)
        self.shell.ipython.reset()
        self.done.clear()
        self.shell.fine("%load_ext ironflow_nb\n%ironflow cells on")

    def cell(self, cell_id: str, source: str) -> Shown:
        """Run a cell whose body notes that it was executed."""
        self.shell.ipython.user_ns["did"] = self.done.append
        return self.shell.fine(f"did({cell_id!r})\n{source}", cell_id)

    def run(self, cells: dict[str, str]) -> list[str]:
        """Run the cells in their order; return which were executed."""
        self.done.clear()
        for cell_id, source in cells.items():
            self.cell(cell_id, source)
        return list(self.done)

    def value(self, name: str) -> Any:
        return self.shell.space[name]


@pytest.fixture
def kernel(shell: Shell) -> Kernel:
    return Kernel(shell)


def test_unmarked_cells_are_restored_in_a_new_kernel_with_what_they_showed(kernel: Kernel) -> None:
    cells = {"a": "n = 3\nprint('three')", "b": "squares = [i * i for i in range(n)]\nsquares"}
    assert kernel.run(cells) == ["a", "b"]
    kernel.restart()
    assert kernel.run(cells) == []
    assert kernel.value("squares") == [0, 1, 4]
    kernel.restart()
    assert kernel.cell("a", cells["a"]).text.splitlines()[0].startswith("restored (")
    shown = kernel.cell("b", cells["b"])
    assert shown.bundles == [{"text/plain": "[0, 1, 4]"}]


def test_of_a_widget_its_text_is_shown_again(kernel: Kernel) -> None:
    bundle = {"text/plain": "3 of 3", "application/vnd.jupyter.widget-view+json": {"model_id": "x"}}
    shown = f"from IPython.display import display\ndisplay({bundle}, raw=True)"
    assert len(kernel.cell("a", shown).bundles[0]) == 2
    kernel.restart()
    assert kernel.cell("a", shown).bundles == [{"text/plain": "3 of 3"}]
    assert kernel.done == []


def test_an_edit_runs_exactly_what_hangs_on_it(kernel: Kernel) -> None:
    cells = {"a": "a = 1", "b": "b = a + 1", "c": "c = 5", "d": "d = b + c", "e": "e = c * 2", "f": "f = b > 0"}
    kernel.run(cells)
    kernel.restart()
    assert kernel.run(cells | {"b": "b = a + 10"}) == ["b", "d", "f"]
    assert (kernel.value("d"), kernel.value("e")) == (16, 10)
    kernel.restart()
    assert kernel.run(cells) == []  # the edit was undone


def test_an_edit_without_effect_ends_at_its_cell(kernel: Kernel) -> None:
    cells = {"a": "a = [1, 2]", "b": "b = sum(a)"}
    kernel.run(cells)
    kernel.restart()
    assert kernel.run(cells | {"a": "a = list(range(1, 3))"}) == ["a"]


def test_who_runs_a_quick_cell_a_second_time_has_it_executed(kernel: Kernel) -> None:
    kernel.run({"a": "a = 1"})
    assert kernel.run({"a": "a = 1"}) == ["a"]


def test_a_slow_cell_is_restored_until_it_is_asked_for_again(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ironflow_nb.notebook.whole_notebook.QUICK_S", 0.0)
    kernel.run({"a": "a = 1"})
    assert kernel.run({"a": "a = 1"}) == []
    kernel.shell.fine("%ironflow cells again")
    assert kernel.run({"a": "a = 1"}) == ["a"]
    assert kernel.run({"a": "a = 1"}) == []


def test_a_function_and_the_data_that_it_reads_are_followed(kernel: Kernel) -> None:
    def cells(limit: int, body: str) -> dict[str, str]:
        return {"limits": f"limits = {{'most': {limit}}}", "f": body, "y": "y = f(7)"}

    def define(made: dict[str, str]) -> list[str]:
        kernel.done.clear()
        kernel.cell("limits", made["limits"])
        kernel.shell.fine(made["f"], "f")
        kernel.cell("y", made["y"])
        return list(kernel.done)

    body = "def f(x):\n    return min(x, limits['most'])"
    define(cells(5, body))
    kernel.restart()
    assert define(cells(5, body)) == []
    assert define(cells(4, body)) == ["limits", "y"]
    assert kernel.value("y") == 4
    assert define(cells(4, body.replace("x,", "x + 1,"))) == ["limits", "y"]  # the quick one was run a second time


def test_a_change_in_place_is_restored_and_so_is_what_else_is_that_object(kernel: Kernel) -> None:
    cells = {
        "a": "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})",
        "b": "other = df",
        "c": "other['b'] = 3",
        "d": "n = len(df.columns)",
    }
    kernel.run(cells)
    kernel.restart()
    assert kernel.run(cells) == []
    assert list(kernel.value("df").columns) == ["a", "b"]
    assert kernel.value("df") is kernel.value("other")
    assert kernel.value("n") == 2


def test_a_part_of_another_variable_stays_that_part(kernel: Kernel) -> None:
    cells = {
        "a": "rows = [{'n': 1}, {'n': 2}]",
        "b": "first = rows[0]",
        "c": "first['n'] = 7",
        "d": "total = rows[0]['n']",
    }
    kernel.run(cells)
    assert kernel.value("total") == 7
    kernel.restart()
    assert kernel.run(cells) == ["b", "c"]  # quick, and their variables are one object with another
    assert kernel.value("rows")[0] is kernel.value("first")
    kernel.restart()
    kernel.run(cells | {"c": "first['n'] = 8"})
    assert kernel.value("total") == 8


def test_what_cannot_be_stored_is_made_again_and_what_hangs_on_it(kernel: Kernel) -> None:
    cells = {"a": "items = iter([1, 2, 3])", "b": "first = next(items)", "c": "c = 5"}
    kernel.run(cells)
    kernel.restart()
    assert kernel.run(cells) == ["a", "b"]
    assert kernel.value("first") == 1
    assert next(kernel.value("items")) == 2


def test_the_random_numbers_after_a_restored_cell_are_those_after_it(kernel: Kernel) -> None:
    cells = {"a": "import random\nimport numpy as np", "b": "b = random.random() + np.random.rand()"}
    following = {"c": "c = random.random() + np.random.rand()"}
    kernel.run(cells | following)
    expected = kernel.value("b"), kernel.value("c")
    kernel.restart()
    assert kernel.run(cells) == []
    assert kernel.run({"d": following["c"].replace("c =", "d =")}) == ["d"]
    assert (kernel.value("b"), kernel.value("d")) == expected


def test_a_changed_file_that_a_cell_reads_makes_it_stale(kernel: Kernel) -> None:
    Path("data.csv").write_text("a\n1\n")
    path = "from pathlib import Path\npath = Path('data.csv')"
    cells = {"a": path, "b": "with open(path) as file:\n    text = file.read()", "c": "n = len(text)"}
    kernel.run(cells)
    kernel.restart()
    assert kernel.run(cells) == []
    Path("data.csv").write_text("a\n1\n2\n")
    kernel.restart()
    assert kernel.run(cells) == ["b", "c"]
    Path("data.csv").unlink()
    kernel.restart()
    assert kernel.run(cells) == []  # what was read of it is still there


def test_a_cell_that_writes_a_file_is_not_stale_because_of_it(kernel: Kernel) -> None:
    cells = {"a": "with open('out.txt', 'w') as file:\n    file.write('x')\ndone = True"}
    kernel.run(cells)
    kernel.restart()
    assert kernel.run(cells) == []


@pytest.mark.parametrize(
    "source",
    ["import os\nkey = os.environ.get('PATH')", "import ironflow_nb as iron\nn_runs = len(iron.runs())", "%who", "run"],
)
def test_secrets_looks_and_runs_are_left_to_ipython(kernel: Kernel, source: str) -> None:
    kernel.shell.fine("import ironflow_nb as iron\n@iron.flow\ndef double(n):\n    return 2 * n", "f")
    kernel.shell.fine("run = double.start(2)\nrun.wait()", "r")
    kernel.cell("x", "x = 1")
    before = iron.cells()["name"].tolist()
    kernel.shell.fine(source, "left")
    assert before == ["cell-x"]
    assert iron.cells()["name"].tolist() == before


def test_a_change_by_a_cell_that_is_not_recorded_is_seen(kernel: Kernel) -> None:
    cells = {"a": "import numpy as np\nlarge = np.zeros(300_000)", "b": "b = float(large.sum())"}
    kernel.run(cells)
    kernel.shell.fine("import os\nos.environ.get('PATH')\nlarge[0] = 5", "left")
    kernel.run({"c": "c = float(large[0])"})
    assert kernel.value("c") == 5
    kernel.restart()
    assert kernel.run(cells | {"c": "c = float(large[0])"}) == ["c"]
    assert kernel.value("c") == 0


def test_an_awaiting_cell_is_restored(kernel: Kernel) -> None:
    cells = {"a": "import asyncio\nwaited = await asyncio.sleep(0, 'done')"}
    kernel.run(cells)
    kernel.restart()
    assert kernel.run(cells) == []
    assert kernel.value("waited") == "done"


def test_a_failure_shows_the_line_of_the_cell_and_none_of_the_package(kernel: Kernel) -> None:
    kernel.cell("a", "a = 1")
    shown = kernel.shell.run("b = a + 1\nc = b / 0", "b")
    assert isinstance(shown.error, ZeroDivisionError)
    assert not getattr(shown.error, "__notes__", [])
    assert kernel.value("b") == 2
    assert kernel.cell("b", "c = 1").error is None


def test_the_run_that_is_meant_without_an_id_is_no_cell(kernel: Kernel) -> None:
    kernel.shell.fine("import ironflow_nb as iron\n@iron.flow\ndef double(n):\n    return 2 * n\ndouble(2)", "f")
    kernel.cell("x", "x = 1")
    assert kernel.shell.fine("%ironflow show").value.id == kernel.value("double").last.id


def test_it_is_turned_off(kernel: Kernel) -> None:
    kernel.shell.fine("%ironflow cells off")
    kernel.run({"a": "a = 1"})
    assert iron.cells().empty
    assert "cells on" in kernel.shell.run("%ironflow cells again").refused()


# -- all at once -------------------------------------------------------------------------------------------------------


def write(cells: dict[str, str]) -> None:
    found = [
        {"cell_type": "code", "id": name, "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for name, source in cells.items()
    ]
    Path("work.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": found}))


@pytest.fixture
def notebook(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("JPY_SESSION_NAME", str(Path("work.ipynb").absolute()))
    kernel.restart()
    return kernel


NOTEBOOK = {
    "load": "%load_ext ironflow_nb\n%ironflow cells on",
    "tools": "import math\ndef double(x):\n    return 2 * x",
    "a": "a = [1, 2, 3]",
    "b": "b = [double(x) for x in a]",
    "it": "items = iter(b)",
    "c": "c = sum(b)\nprint(c)",
}


def test_a_notebook_is_restored_all_at_once(notebook: Kernel) -> None:
    for cell_id, source in NOTEBOOK.items():
        notebook.shell.fine(source, cell_id)
    write(NOTEBOOK)
    notebook.restart()
    shown = notebook.shell.fine("%ironflow cells restore")
    assert shown.text.startswith("restored 3 cells (")
    assert "executed again: items = iter(b) (items (builtins.list_iterator) can't be stored)" in shown.text
    assert "not restored" not in shown.text
    assert (notebook.value("c"), notebook.value("double")(2)) == (12, 4)
    frame = iron.cells()
    assert frame["label"].tolist() == ["a = [1, 2, 3]", "b = [double(x) for x in a]", "items = iter(b)", "c = sum(b)"]
    assert frame["outcome"].tolist() == ["restored", "restored", "computed", "restored"]


def test_what_was_edited_is_named_with_what_needs_it(notebook: Kernel) -> None:
    for cell_id, source in NOTEBOOK.items():
        notebook.shell.fine(source, cell_id)
    write(NOTEBOOK | {"b": "b = [double(x) + 1 for x in a]"})
    notebook.restart()
    text = notebook.shell.fine("%ironflow cells restore").text
    assert text.startswith("restored 1 cell (")
    assert "not restored: cell 4 (b = [double(x) + 1 for x in a]): edited" in text
    assert "not restored: cell 6 (c = sum(b)): needs b of cell 4" in text
    assert "c" not in notebook.shell.space


def test_only_what_a_variable_needs_is_restored(notebook: Kernel) -> None:
    for cell_id, source in NOTEBOOK.items():
        notebook.shell.fine(source, cell_id)
    write(NOTEBOOK)
    notebook.restart()
    assert notebook.shell.fine("%ironflow cells restore c").text.startswith("restored 1 cell (")
    assert notebook.value("c") == 12
    assert "a" not in notebook.shell.space
    assert "b" not in notebook.shell.space
    assert "executed again: items = iter(b)" in notebook.shell.fine("%ironflow cells restore items").text
    assert next(notebook.value("items")) == 2
    assert "a" not in notebook.shell.space
    assert "no recorded cell makes z" in notebook.shell.run("%ironflow cells restore z").refused()
    assert "only restore takes names" in notebook.shell.run("%ironflow cells again c").refused()


def test_after_an_edited_change_in_place_nothing_is_restored_that_reads_the_variable(notebook: Kernel) -> None:
    cells = {"on": NOTEBOOK["load"], "a": "rows = [1]", "b": "rows.append(2)", "c": "n = len(rows)", "d": "d = 5"}
    for cell_id, source in cells.items():
        notebook.shell.fine(source, cell_id)
    write(cells | {"b": "rows.append(3)"})
    notebook.restart()
    text = notebook.shell.fine("%ironflow cells restore").text
    assert "not restored: cell 4 (n = len(rows)): needs rows of cell 3" in text
    assert "n" not in notebook.shell.space
    assert notebook.value("d") == 5


def test_without_a_file_restoring_at_once_is_refused(kernel: Kernel) -> None:
    assert "the file of this notebook is not known" in kernel.shell.run("%ironflow cells restore").refused()


def test_cells_are_executed_while_the_journal_can_not_be_written(kernel: Kernel) -> None:
    journal = Path(REGISTRY.engine().journal.location)
    kernel.cell("zero", "number = 19")
    journal.rename(journal.with_name("elsewhere.db"))
    assert "cells are executed and not recorded: " in kernel.cell("one", "number += 1").text
    assert "recorded" not in kernel.cell("two", "number += 1").text  # it is told once
    journal.with_name("elsewhere.db").rename(journal)
    kernel.cell("three", "doubled = number * 2")
    assert (kernel.done, kernel.shell.space["doubled"]) == (["zero", "one", "two", "three"], 42)
    assert list(iron.cells().outs) == ["number", "doubled"]
