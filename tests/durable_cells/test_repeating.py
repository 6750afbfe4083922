"""What a restored cell does again (imports, settings, definitions) finds what the cell itself made before it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ironflow_nb as iron
from tests.durable_cells.conftest import Notebook


def restored(notebook: Notebook, source: str) -> bool:
    """Execute the cell, and tell whether another process restores it."""
    notebook.step("make", source)
    notebook.restart()
    return notebook.step("make", source).is_restored


def test_a_setting_that_reads_what_the_cell_made_is_done_again(notebook: Notebook) -> None:
    assert restored(notebook, "import os\nmode = 'fast'\nos.environ['IRONFLOW_TEST_MODE'] = mode")
    assert os.environ.pop("IRONFLOW_TEST_MODE") == "fast"


def test_an_import_from_a_folder_that_the_cell_names_is_done_again(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", ["nowhere"])
    (tmp_path / "of_a_folder.py").write_text("class Thing:\n    pass\n")
    source = f"import sys\nfolder = {str(tmp_path)!r}\nsys.path.append(folder)\nfrom of_a_folder import Thing\nn = 1"
    notebook.step("make", source)
    monkeypatch.setattr("sys.path", ["nowhere"])
    monkeypatch.delitem(sys.modules, "of_a_folder")
    notebook.restart()
    assert notebook.step("make", source).is_restored
    assert notebook.space["Thing"].__name__ == "Thing"


@pytest.mark.parametrize(
    ("source", "expression", "value"),
    [
        ("a = [1]\nb = a\ndef f(x=b):\n    return x", "f() is a is b", True),
        ("k = 5\ndef f(n=k):\n    return n\ndef g(h=f):\n    return h()", "g()", 5),
        ("k = 5\nclass A:\n    size = k\nclass B(A):\n    pass", "B.size", 5),
        ("import math\nm = math\ndef f(x=m.pi):\n    return x", "f() > 3", True),
        (
            "names = {}\ndef add(f):\n    names[f.__name__] = 1\n    return f\n@add\ndef g():\n    pass",
            "names",
            {"g": 1},
        ),
        ("from typing import Any\nRow = dict[str, Any]\ndef f(row: Row):\n    return 1", "f({})", 1),
        ("k = 5\nclass A:\n    n = k\n    def same(self):\n        return made is self\nmade = 7", "A.n + made", 12),
    ],
)
def test_definitions_find_other_names_classes_and_what_decorators_change(
    notebook: Notebook, source: str, expression: str, value: object
) -> None:
    assert restored(notebook, source)
    assert eval(expression, notebook.space) == value


def test_definitions_are_read_with_the_future_of_their_cell(notebook: Notebook) -> None:
    source = "from __future__ import annotations\nk = 1\ndef f(row: Row, x=k):\n    return x\nn = 1"
    iron.cell_step("make", source, notebook.space)
    notebook.restart()
    assert iron.cell_step("make", source, notebook.space)["n"] == 1
    assert notebook.space["f"](None) == 1
    assert len(iron.attempts()) == 1


def test_values_find_a_class_that_is_made_of_what_the_cell_made(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from dataclasses import dataclass\nk = 5\n@dataclass\nclass Point:\n    x: int = k\np = Point()"
    for is_restored in (False, True):
        main = ModuleType("__main__")
        vars(main).update(notebook.space)
        notebook.space = vars(main)
        monkeypatch.setitem(sys.modules, "__main__", main)
        assert notebook.step("make", source).is_restored is is_restored
        assert notebook.space["p"] == notebook.space["Point"](5)
        notebook.restart()


def test_what_is_made_of_a_private_name_is_made_again_and_the_inputs_are_what_they_were(notebook: Notebook) -> None:
    source = "n = n + 1\n_k = 5\ndef f(x=n):\n    return x\ndef g(x=_k):\n    return x"
    for _ in range(2):
        notebook.space["n"] = 1
        assert notebook.step("make", source).outs == {"n": 2}
        assert (notebook.space["f"](), notebook.space["g"]()) == (2, 5)
        notebook.restart()
    assert notebook.bodies() == ["make", "make"]
    notebook.space["n"] = 1
    notebook.step("make", source)
    assert "name '_k' is not defined" in notebook.said


def test_a_definition_that_can_not_be_made_again_stays_what_it_was_in_its_process(notebook: Notebook) -> None:
    source = "k = 5\ndef add(n, k=k):\n    return n + k\nk = 6"
    notebook.step("tools", source)
    assert notebook.step("tools", source).is_restored
    assert notebook.space["add"](1) == 6
