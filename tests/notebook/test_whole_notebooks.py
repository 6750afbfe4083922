"""``iron.run_notebook``: a notebook without a front end, continued where it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import DefinitionError, NotebookFailed, StepNotFound
from ironflow_nb.execution.registry import REGISTRY

pytestmark = pytest.mark.slow

LOG = "with open('bodies.log', 'a') as log: log.write('{} ')\n"
SHOW = (
    "from IPython.display import display, HTML\ndisplay(HTML(f'<b>{total}</b>'))\n"
    "result = {'total': total, 'name': name}"
)
SOURCES = [
    ("parameters", "n = 2\nname = 'a'"),
    ("", "import sys\nsys.path.append('library')\nfrom helpers import double"),
    ("", LOG.format("load") + "rows = [double(i) for i in range(n)]\nprint('rows', rows)"),
    ("markdown", "# A title"),
    ("", "%%step total --out total\n" + LOG.format("total") + "total = sum(rows)\ntotal"),
    ("", "# nothing to do"),
    ("", SHOW),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of a notebook, with a default journal on disk."""
    monkeypatch.setattr(REGISTRY, "_engine", None)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "helpers.py").write_text("def double(n):\n    return 2 * n\n")
    yield tmp_path
    if REGISTRY._engine is not None:
        REGISTRY._engine.close()


def write(path: Path, sources: list[tuple[str, str]]) -> Path:
    cells = []
    for number, (tag, text) in enumerate(sources):
        kind = "markdown" if tag == "markdown" else "code"
        tags = [tag] if tag and kind == "code" else []
        cells.append({"cell_type": kind, "id": f"id{number}", "metadata": {"tags": tags}, "source": text})
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    return path


def bodies(folder: Path) -> list[str]:
    log = folder / "bodies.log"
    found = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return found


def test_a_notebook_is_run_once_and_restored_after(folder: Path) -> None:
    path = write(folder / "a.ipynb", SOURCES)
    result = iron.run_notebook(path, output=folder / "out.ipynb")
    assert (result.status, result.value("total"), result.value("result")) == ("completed", 2, {"total": 2, "name": "a"})
    frame = result.cells()
    assert frame["number"].tolist() == [1, 2, 3, 5, 6, 7]
    assert frame["name"].tolist() == ["cell-id0", "cell-id1", "cell-id2", "total", "cell-id5", "cell-id6"]
    assert frame["status"].tolist() == ["executed"] * 4 + ["empty", "executed"]
    first = [
        [_without_count(output) for output in cell["outputs"]] for cell in read(result.output) if "outputs" in cell
    ]
    again = iron.run_notebook(path, output=folder / "again.ipynb")
    assert again.cells()["status"].tolist() == ["restored"] * 4 + ["empty", "restored"]
    assert first == [
        [_without_count(output) for output in cell["outputs"]] for cell in read(again.output) if "outputs" in cell
    ]
    assert bodies(folder) == ["load", "total"]
    assert first[2] == [{"output_type": "stream", "name": "stdout", "text": "rows [0, 2]\n"}]
    assert first[3][0]["data"] == {"text/plain": "2"}
    assert first[5][0]["data"]["text/html"] == "<b>2</b>"
    assert "outputs" not in json.loads(path.read_text())["cells"][0]


def _without_count(output: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in output.items() if name != "execution_count"}


def test_inputs_replace_what_the_cell_of_parameters_sets(folder: Path) -> None:
    path = write(folder / "a.ipynb", SOURCES)
    iron.run_notebook(path)
    result = iron.run_notebook(path, {"n": 4}, folder / "out.ipynb")
    assert result.value("result") == {"total": 12, "name": "a"}
    assert result.cells()["status"].tolist() == ["restored"] * 2 + ["executed"] * 2 + ["empty", "executed"]
    injected = read(folder / "out.ipynb")[1]
    assert injected["metadata"]["tags"] == ["injected-parameters"]
    assert "n = 4" in injected["source"]
    assert iron.run_notebook(path).value("total") == 2
    assert bodies(folder) == ["load", "total"] * 2


def test_without_a_cell_of_parameters_inputs_are_set_first(folder: Path) -> None:
    path = write(folder / "a.ipynb", [("", "m = n + 1")])
    assert iron.run_notebook(path, {"n": 4}, folder / "out.ipynb").value("m") == 5
    assert "n = 4" in read(folder / "out.ipynb")[0]["source"]


def test_a_failure_has_its_cell_and_traceback_and_the_next_run_continues_there(folder: Path) -> None:
    path = write(folder / "a.ipynb", [*SOURCES[:3], ("", "\nx = 1\nx / (n - 2)"), ("", "y = 1")])
    with pytest.raises(NotebookFailed, match=r"cell 4 \(cell-id3\) of a.ipynb failed: ZeroDivisionError") as caught:
        iron.run_notebook(path, output=folder / "out.ipynb")
    assert "----> 3 x / (n - 2)" in str(caught.value)
    assert "headless" not in str(caught.value)
    cells = read(folder / "out.ipynb")
    assert cells[3]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert cells[4]["outputs"] == []
    write(path, [*SOURCES[:3], ("", "x = 1"), ("", "y = 1")])
    assert iron.run_notebook(path).cells()["status"].tolist() == ["restored"] * 3 + ["executed"] * 2
    assert bodies(folder) == ["load"]


def test_a_cell_that_may_fail_stops_nothing(folder: Path) -> None:
    path = write(folder / "a.ipynb", [("raises-exception", "1 / 0"), ("", "y = 1")])
    assert iron.run_notebook(path).cells()["status"].tolist() == ["failed", "executed"]


@pytest.mark.crash
def test_a_killed_run_continues_after_the_last_cell_that_was_done(folder: Path) -> None:
    wait = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    path = write(folder / "a.ipynb", [("", LOG.format("one") + "a = 1"), ("", LOG.format("two") + wait + "b = a + 1")])
    script = f"import ironflow_nb as iron\niron.use('journal.db')\niron.run_notebook({str(path)!r})"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder, start_new_session=True)
    deadline = time.monotonic() + 60
    while not ((folder / "bodies.log").exists() and "two" in (folder / "bodies.log").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    (folder / "go").touch()
    iron.use(folder / "journal.db")
    result = iron.run_notebook(path)
    assert result.cells()["status"].tolist() == ["restored", "executed"]
    assert result.value("b") == 2
    assert bodies(folder) == ["one", "two", "two"]


def test_what_is_no_notebook_and_no_input_is_refused(folder: Path) -> None:
    (folder / "text.ipynb").write_text("text")
    with pytest.raises(DefinitionError, match="is not a notebook"):
        iron.run_notebook(folder / "text.ipynb")
    with pytest.raises(FileNotFoundError):
        iron.run_notebook(folder / "none.ipynb")
    path = write(folder / "a.ipynb", [("", "x = 1")])
    with pytest.raises(DefinitionError, match="got 'a b'"):
        iron.run_notebook(path, {"a b": 1})
    with iron.open(":memory:"), pytest.raises(DefinitionError, match="a journal in memory"):
        iron.run_notebook(path)


def test_two_cells_of_one_name_are_refused(folder: Path) -> None:
    path = write(folder / "a.ipynb", [("", "%%step load\nx = 1"), ("", "%%step load\nx = 2")])
    with pytest.raises(NotebookFailed, match="cells 1 and 2 are both called 'load'"):
        iron.run_notebook(path)


def test_of_a_name_that_no_cell_has_left_behind_it_says_what_there_is(folder: Path) -> None:
    result = iron.run_notebook(write(folder / "a.ipynb", [("", "x = [[1]]\ny = 2"), ("", "part = x[0]")]))
    assert repr(result) == "<notebook a.ipynb: completed; 2 executed>"
    assert result.value("part") == [1]
    with pytest.raises(StepNotFound, match="the variables are: x, y, part"):
        result.value("z")


def test_its_cells_are_listed_as_those_of_the_notebook(folder: Path) -> None:
    path = write(folder / "a.ipynb", [("", "%%step load\nx = 1"), ("", "y = x + 1"), ("", "# nothing")])
    iron.run_notebook(path)
    frame = iron.cells(str(path))
    assert frame[["name", "status", "ins"]].to_numpy().tolist() == [["load", "fresh", ""], ["cell-id1", "fresh", "x"]]
    write(path, [("", "%%step load\nx = 1"), ("", "y = x + 2")])
    assert iron.cells(str(path))["status"].tolist() == ["fresh", "stale"]


# -- when the process ends by itself ---------------------------------------------------------------------------------

KILL = "import os, signal\nprint('half way')\nos.kill(os.getpid(), signal.SIGKILL)"


def with_old_outputs(path: Path) -> Path:
    """Let the notebook have been saved with the outputs of another run."""
    notebook = json.loads(path.read_text())
    old = [{"output_type": "stream", "name": "stdout", "text": "old"}]
    for cell in notebook["cells"]:
        cell |= {"outputs": old, "execution_count": 9}
        cell["metadata"]["ironflow"] = {"status": "executed", "duration_s": 1.0}
    path.write_text(json.dumps(notebook))
    return path


@pytest.mark.crash
@pytest.mark.parametrize(
    ("source", "how"),
    [
        (KILL, "killed by SIGKILL, as happens where memory runs out"),
        ("%%step hard\n" + KILL, "killed by SIGKILL"),
        (KILL.replace("SIGKILL", "SIGTERM"), "killed by SIGTERM"),
        ("import os\nprint('half way')\nos._exit(0)", "ended by itself, with code 0"),
        ("import os\nprint('half way')\nos._exit(7)", "ended by itself, with code 7"),
    ],
)
def test_the_end_of_the_process_names_its_cell(folder: Path, source: str, how: str) -> None:
    path = with_old_outputs(write(folder / "a.ipynb", [("", "a = 1\nprint('a')"), ("", source), ("", "print('c')")]))
    name = "hard" if "%%step" in source else "cell-id1"
    with pytest.raises(
        NotebookFailed, match=rf"^cell 2 \({name}\) of a.ipynb was being executed when .*{how}"
    ) as caught:
        iron.run_notebook(path, output=folder / "out.ipynb")
    assert "run the notebook again: it continues with this cell" in str(caught.value)
    assert str(caught.value).endswith("half way")
    assert caught.value.ids["number"] == 2
    first, second, third = read(folder / "out.ipynb")
    assert [output["text"] for output in first["outputs"]] == ["a\n"]
    assert [output["output_type"] for output in second["outputs"]] == ["stream", "error"]
    assert second["outputs"][0]["text"] == "half way\n"
    assert second["metadata"]["ironflow"]["status"] == "died"
    assert (third["outputs"], third["execution_count"], third["metadata"]) == ([], None, {"tags": []})


@pytest.mark.crash
def test_a_process_that_dies_after_its_last_cell_says_that_this_was_executed(folder: Path) -> None:
    path = write(folder / "a.ipynb", [("", "a = 1"), ("", "import atexit, os\natexit.register(lambda: os._exit(5))")])
    with pytest.raises(NotebookFailed, match=r"^cell 2 \(cell-id1\) of a.ipynb was executed.*by itself, with code 5"):
        iron.run_notebook(path)


@pytest.mark.parametrize("source", ["exit()", "quit()", "import sys\nsys.exit()", "raise SystemExit"])
def test_a_cell_that_exits_has_failed(folder: Path, source: str) -> None:
    path = write(folder / "a.ipynb", [("", "a = 1"), ("", source), ("", "c = 1")])
    with pytest.raises(NotebookFailed, match=r"cell 2 .* failed: SystemExit: the cell ended the notebook, with code 0"):
        iron.run_notebook(path, output=folder / "out.ipynb")
    assert read(folder / "out.ipynb")[1]["outputs"][-1]["ename"] == "SystemExit"


def test_a_cell_that_was_interrupted_says_so(folder: Path) -> None:
    path = write(folder / "a.ipynb", [("", "a = 1"), ("", "raise KeyboardInterrupt")])
    with pytest.raises(NotebookFailed, match=r"^cell 2 \(cell-id1\) of a.ipynb was interrupted; run "):
        iron.run_notebook(path)


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_flow_in_a_cell_that_was_killed_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # under pytest nothing continues by itself
    ask = "await " * (kind == "async def")
    define = f"""
import os, signal
from pathlib import Path
import ironflow_nb as iron

@iron.step
def work(n):
    with open("bodies.log", "a") as log:
        log.write(f"{{n}} ")
    if n == 3 and not Path("mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return n

@iron.flow
{kind} main():
    return [work(n) for n in range(6)]
"""
    path = write(folder / "a.ipynb", [("", define), ("", f"found = {ask}main()")])
    with pytest.raises(NotebookFailed, match="SIGKILL"):
        iron.run_notebook(path)
    (folder / "mended").touch()
    assert iron.run_notebook(path).value("found") == [0, 1, 2, 3, 4, 5]
    assert bodies(folder) == ["0", "1", "2", "3", "3", "4", "5"]
